"""Resampling of an image and its labels under a map, in one pass of the kernel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Array = NDArray[Any]

_NATIVE = (np.uint8, np.uint16, np.int16, np.float32)


def source(op: str, image: Any) -> Array:
    """An image (C, [planes,] rows, columns) in a type that the kernel reads.

    Types other than bool, uint8, uint16, int16 and float32 are converted to float32.
    """
    array = _checks.image(op, image, ndim=(3, 4))
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    return array if array.dtype in _NATIVE else array.astype(np.float32)


def labels_of(op: str, label: Any, spatial: tuple[int, ...]) -> Array:
    """A label image of an image's spatial shape."""
    array = _checks.image(op, label, "label")
    if array.shape != spatial:
        raise ValueError(f"{op}: label must have the image's shape {spatial}, got {array.shape}")
    return array


def warp(
    image: Array,
    matrix: Array,
    offset: Array,
    shape: tuple[int, ...],
    *,
    control: Array | None = None,
    order: int = 1,
    fill: float | None = 0.0,
    label: Array | None = None,
    label_fill: int = 0,
) -> tuple[Array, Array | None]:
    """The image (C, *shape) as float32, and the label, at ``matrix o + offset + displacement(o)``.

    `control` holds the displacement's B-spline, (D, intervals + 3, ...), in voxels of the image.
    Without `fill` the nearest voxel lies beyond the border.
    """
    out = np.empty((len(image), *shape), np.float32)
    labels = None if label is None else np.empty(shape, label.dtype)
    if 0 in image.shape:  # nothing to read, so all is beyond
        out[...] = 0.0 if fill is None else fill
        if labels is not None:
            labels[...] = label_fill
        return out, labels
    moved = None
    if control is None:
        moved = _moved(image, matrix, offset, shape, fill, label, label_fill, out, labels)
    if not moved:
        size = len(shape)
        rows = np.zeros(9)
        rows[: size * size] = matrix.ravel()
        start = np.zeros(3)
        start[:size] = offset
        core.warp(
            image, rows.tolist(), start.tolist(), control, order, fill, out, label,
            label_fill, labels,
        )  # fmt: skip
    return out, labels


def _moved(
    image: Array,
    matrix: Array,
    offset: Array,
    shape: tuple[int, ...],
    fill: float | None,
    label: Array | None,
    label_fill: int,
    out: Array,
    labels: Array | None,
) -> bool:
    """Whether the map is a flip and a move by whole voxels; then copies."""
    steps = np.diag(matrix)
    if (
        (matrix != np.diag(steps)).any()
        or (np.abs(steps) != 1).any()
        or (offset != np.round(offset)).any()
    ):
        return False
    into, from_ = [], []
    for step, start, n, extent in zip(steps, offset, shape, image.shape[1:], strict=True):
        ends = (-start, extent - 1 - start) if step > 0 else (start - extent + 1, start)
        low, high = max(0, int(ends[0])), min(n - 1, int(ends[1]))
        if low > high or (fill is None and (low > 0 or high < n - 1)):
            if fill is None:
                return False
            low, high = 0, -1
        into.append(slice(low, high + 1))
        first = int(start + step * low)
        last = first + int(step) * (high - low + 1)
        from_.append(slice(first, last if last >= 0 else None, int(step)))
        if low > high:
            from_[-1] = slice(0, 0)
    whole = all(cut == slice(0, n) for cut, n in zip(into, shape, strict=True))
    for given, result, beyond in ((image, out, fill), (label, labels, label_fill)):
        if given is None or result is None:
            continue
        lead = (slice(None),) * (result.ndim - len(into))
        if not whole:
            result[...] = beyond
        result[(*lead, *into)] = given[(*lead, *from_)]
    return True


def rotation(angles: Sequence[float]) -> Array:
    """Rotation by radians: about the axes 0, 1, 2 in turn, or of 2D by one angle."""
    turns = [(0, 1)] if len(angles) == 1 else [(1, 2), (0, 2), (0, 1)]
    size = 2 if len(angles) == 1 else 3
    matrix = np.eye(size)
    for angle, (a, b) in zip(angles, turns, strict=True):
        turn = np.eye(size)
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def resize(image: Array, shape: tuple[int, ...], **options: Any) -> tuple[Array, Array | None]:
    """The image (and `label`) on another number of voxels over the same extent."""
    ratios = [n / m if m else 1.0 for n, m in zip(image.shape[1:], shape, strict=True)]
    offset = np.array([(ratio - 1) / 2 for ratio in ratios])
    return warp(image, np.diag(ratios), offset, shape, fill=None, **options)


def monomials() -> list[tuple[int, int, int]]:
    """Exponents (i, j, k) of the terms of the kernel's bias field."""
    powers = range(4)
    return [e for e in itertools.product(powers, powers, powers) if sum(e) <= 3]
