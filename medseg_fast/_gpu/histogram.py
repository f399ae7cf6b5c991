"""Launches of the thresholds that start from a histogram.

Pixels are counted on the device; the counts, as few as bins, come to the host, where the criterion
of the CPU's function is evaluated: the same threshold, and a wait for the device.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run
from medseg_fast._histogram import MAX_BINS, _rebinned, _require_finite
from medseg_fast.kernels.source import FLOATS, PIXELS, Source

_INTEGERS = tuple(dtype for dtype in PIXELS if dtype.kind in "ui")
_FEW = 4096  # bins
SOURCE = Source(
    "histogram.cuh", count_few=(_INTEGERS,), count_many=(_INTEGERS,), count_bins=(FLOATS,)
)


def _by_histogram(op: str, *, grayscale: bool = False) -> Callable[..., Any]:
    def launch(device: Device, image: Any = None, nbins: int = 256, *, hist: Any = None) -> Any:
        if image is None or hist is not None:
            raise NotImplementedError(f"{op}: no GPU kernel for histograms; pass them to the CPU")
        array = _arrays.image(device, op, image)
        if array.size == 0:
            raise ValueError(f"{op}: image must have at least one pixel, got shape {array.shape}")
        if grayscale and array.ndim > 2 and array.shape[-1] in (3, 4):
            warnings.warn(
                f"{op} is expected to work correctly only for grayscale images; image shape "
                f"{array.shape} looks like that of an RGB image.",
                stacklevel=2,
            )
        counts, centers = histogram(device, op, array.reshape(-1), nbins)
        if len(counts) == 1:
            return device.xp.asarray(np.array(centers[0], array.dtype))
        return device.xp.asarray(OPERATIONS[op].body(None, hist=(counts, centers)))

    return launch


threshold_otsu = _by_histogram("threshold_otsu", grayscale=True)


def histogram(
    device: Device, op: str, image: Any, nbins: int = 256
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Counts and the values they stand for, on the host, as `_histogram.histogram` gives them."""
    if image.dtype.kind in "iu":
        return _integers(device, op, image)
    nbins = _checks.integer(op, "nbins", nbins, 1, MAX_BINS)
    if image.dtype.kind == "b" or image.dtype.itemsize == 2:
        values, counts = _occupied(device, image)
        return _rebinned(op, values, counts, nbins)
    low, high = _arrays.fetch(device.xp.stack([image.min(), image.max()]))
    _require_finite(op, low, high)
    if low == high:
        return np.array([image.size]), np.array([low])
    edges = np.histogram_bin_edges(np.array([low, high]), nbins)
    found = device.xp.zeros(nbins, np.uint64)
    launch = device.kernel(SOURCE, "count_bins", image.dtype)
    args = image, np.int64(image.size), device.xp.asarray(edges), np.int32(nbins), found
    run(launch, few_blocks(image.size), (BLOCK,), *args)
    return _arrays.fetch(found).astype(np.int64), (edges[:-1] + edges[1:]) / 2


def _occupied(device: Device, image: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values of a bool or float16 image, ascending, and their counts."""
    unsigned = image.view(f"u{image.dtype.itemsize}")
    counts = _count(device, unsigned, 0, 2 if image.dtype.kind == "b" else 1 << 16)
    present = np.flatnonzero(counts)
    if image.dtype.kind == "b":
        return present, counts[present]
    values, place = np.unique(present.astype(np.uint16).view(np.float16), return_inverse=True)
    return values, np.bincount(place, counts[present]).astype(np.int64)


def _integers(device: Device, op: str, image: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    info = np.iinfo(image.dtype)
    low, high = int(info.min), int(info.max)
    if info.bits > 16:
        low, high = map(int, _arrays.fetch(device.xp.stack([image.min(), image.max()])))
        if high > np.iinfo(np.int64).max:
            raise ValueError(f"{op}: image must not exceed the int64 range, got {high}")
        if high - low >= MAX_BINS:
            values, counts = map(_arrays.fetch, device.xp.unique(image, return_counts=True))
            return counts.astype(np.int64), values.astype(np.int64)
    counts = _count(device, image, low, high - low + 1)
    present = np.flatnonzero(counts)
    first, last = int(present[0]), int(present[-1])
    return counts[first : last + 1], np.arange(low + first, low + last + 1)


def _count(device: Device, image: Any, low: int, bins: int) -> NDArray[np.int64]:
    found = device.xp.zeros(bins, np.uint64)
    name = "count_few" if bins <= _FEW else "count_many"
    args = [image, np.int64(image.size), np.int64(low)]
    args += [np.int32(bins), found] if bins <= _FEW else [found]
    run(device.kernel(SOURCE, name, image.dtype), few_blocks(image.size), (BLOCK,), *args)
    return np.asarray(_arrays.fetch(found)).astype(np.int64)
