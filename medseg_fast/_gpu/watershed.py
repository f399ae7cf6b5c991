"""Launches of `watershed`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, index_type, run
from medseg_fast._gpu._levels import levels
from medseg_fast._gpu._waves import Planes, spread
from medseg_fast._gpu.minima import minima, reach_of
from medseg_fast.kernels.source import INDICES, Source
from medseg_fast.watershed import _compactness, _footprint, _regular_grid

_LABELS = (np.dtype(np.uint32), np.dtype(np.uint64))  # bits of labels; narrower ones go as 32
_MARKER, _LINE = 2, 2  # as in the kernels
SOURCE = Source(
    "watershed.cuh",
    begin_flood=(INDICES,),
    spread_keys=(),
    spread_labels=(INDICES, _LABELS),
    decide_lines=(INDICES, _LABELS),
)


def watershed(
    device: Device,
    image: Any,
    markers: Any = None,
    connectivity: Any = 1,
    offset: Any = None,
    mask: Any = None,
    compactness: float = 0,
    watershed_line: bool = False,
    *,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "watershed"
    array = _arrays.image(device, op, image)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    footprint, centre = _footprint(op, _arrays.fetch(connectivity), offset, array.ndim - apart)
    inside = _inside(device, op, mask, array)
    if _compactness(op, compactness) > 0:
        # The cost of a pixel depends on the marker that reaches it, so what a neighbour's key is
        # lowered to may raise its own: no relaxation ends at the queue's answer.
        raise NotImplementedError(f"{op}: no GPU kernel for the compact watershed")
    reach = reach_of(op, np.argwhere(footprint) - centre, array.ndim - apart)
    if markers is None and np.ndim(connectivity):
        raise ValueError(f"{op}: markers must be given where connectivity is a footprint")
    seeds = _seeds(device, op, markers, array, inside, reach, apart)
    labels = _arrays.output(device, op, out, array.shape, seeds.dtype)
    if array.size:
        labels[...] = _flood(device, op, array, seeds, inside, reach, watershed_line, apart)
    return labels


def _flood(
    device: Device,
    op: str,
    array: Any,
    seeds: Any,
    inside: Any,
    reach: int,
    lines: bool,
    apart: int,
) -> Any:
    """Labels in the seeds' dtype."""
    xp, planes, size = device.xp, Planes(op, array.shape, apart), np.int64(array.size)
    values, nan = levels(device, array)
    free = xp.ones(array.shape, np.bool_) if nan is None else ~nan
    if inside is not None:
        free &= inside
    state = free.astype(np.uint8)
    state[free & (seeds != 0)] = _MARKER
    wide = seeds.dtype.itemsize == 8
    bits = _LABELS[wide]
    whole = seeds.astype(np.int64 if wide else np.int32, copy=False).view(bits)
    labels = xp.where(free, whole, bits.type(0))
    index = index_type(array.size)
    keys, links = xp.empty(array.shape, np.uint64), xp.empty(array.shape, index)
    begin = device.kernel(SOURCE, "begin_flood", index)
    run(begin, few_blocks(array.size), (BLOCK,), values, state, size, keys, links)
    extents = [*map(np.int32, planes.extents), np.int32(min(reach, planes.axes)), planes.first]
    spread(device, device.kernel(SOURCE, "spread_keys"), planes.grid, values, state, keys, *extents)
    launch = device.kernel(SOURCE, "spread_labels", index, bits)
    spread(device, launch, planes.grid, keys, links, labels, *extents)
    if lines:
        outcome = xp.zeros(array.shape, np.uint8)
        launch = device.kernel(SOURCE, "decide_lines", index, bits)
        given = state, keys, links, labels, outcome
        spread(device, launch, planes.grid, *given, *extents)
        labels[(outcome == _LINE) & (state != _MARKER)] = 0
    return labels.view(np.int64 if wide else np.int32).astype(seeds.dtype, copy=False)


def _inside(device: Device, op: str, mask: Any, image: Any) -> Any:
    if mask is None:
        return None
    inside = _arrays.image(device, op, mask, "mask")
    if inside.shape != image.shape:
        raise ValueError(
            f"{op}: mask must have the image's shape {image.shape}, got {inside.shape}"
        )
    return inside != 0


def _seeds(
    device: Device, op: str, markers: Any, image: Any, inside: Any, reach: int, apart: int
) -> Any:
    """Markers as labels of the image's shape."""
    xp = device.xp
    if markers is None:
        found = minima(device, op, image, reach, apart)
        if inside is not None:
            found &= inside
        if image.size == 0:
            return xp.zeros(image.shape, np.int32)
        sets = Components(device, op, found.view(np.uint8), 0, reach, apart)
        labels, _ = sets.labels_apart(np.int32) if apart else sets.labels(np.int32)
        return labels.reshape(image.shape)
    if np.ndim(markers) == 0 and not isinstance(markers, device.array):
        if apart:
            masks = [None] * len(image) if inside is None else inside
            each = zip(image, masks, strict=True)
            return xp.stack([_seeds(device, op, markers, i, m, reach, 0) for i, m in each])
        count = _checks.integer(op, "markers", markers, 1)
        seeds = xp.zeros(image.shape, np.int64)
        covered = seeds.size if inside is None else int(inside.sum())
        if covered:
            places = _regular_grid(int(count / (covered / seeds.size)), image.shape)
            shape = seeds[places].shape
            seeds[places] = xp.arange(1, seeds[places].size + 1, dtype=np.int64).reshape(shape)
        return seeds
    seeds = _arrays.image(device, op, markers, "markers")
    if seeds.dtype.kind not in "bui":
        raise TypeError(f"{op}: markers must be bool or integer, got {seeds.dtype}")
    if seeds.shape != image.shape:
        raise ValueError(
            f"{op}: markers must have the image's shape {image.shape}, got {seeds.shape}"
        )
    return seeds
