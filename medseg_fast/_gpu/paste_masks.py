"""Launches of `paste_masks`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu._boxes import computed, floats
from medseg_fast._gpu._device import BLOCK, Device, run, tiles
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("paste_masks.cuh", paste=(FLOATS,))


def paste_masks(
    device: Device,
    masks: Any,
    boxes: Any,
    image_shape: Any,
    padding: int = 1,
    threshold: float | None = None,
) -> Any:
    op, xp = "paste_masks", device.xp
    array, corners = floats(device, op, "masks", masks), floats(device, op, "boxes", boxes)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise ValueError(f"{op}: masks must have shape (N, 1, M, M), got {masks.shape}")
    if corners.shape != (len(array), 4):
        raise ValueError(f"{op}: boxes must have shape ({len(array)}, 4), got {corners.shape}")
    if np.shape(image_shape) != (2,):
        raise ValueError(f"{op}: image_shape must be (rows, columns), got {image_shape!r}")
    rows, columns = (_checks.integer(op, "image_shape", n, 0) for n in image_shape)
    padding = _checks.integer(op, "padding", padding, 0)
    least = 0.0
    if threshold is not None:
        least = float(_checks.number(op, "threshold", threshold))
        if not 0 < least < math.inf:
            raise ValueError(f"{op}: threshold must be positive and finite, got {threshold!r}")
    given = xp.ascontiguousarray(computed(array))
    real = given.dtype.type
    shape = (len(given), rows, columns)
    written = xp.empty(shape, given.dtype if threshold is None else np.uint8)
    values = written if threshold is None else xp.empty(0, given.dtype)
    inside = xp.empty(0, np.uint8) if threshold is None else written
    side = given.shape[-1]
    pixels = _pixels(device, computed(corners), float(side + 2 * padding) / side)
    extents = [np.int32(n) for n in (*given.shape[1:], padding, rows, columns)]
    launch = device.kernel(SOURCE, "paste", given.dtype)
    args = given, pixels, *extents, real(least), values, inside
    run(launch, tiles(*shape), (BLOCK,), *args)
    result = written.view(np.bool_) if threshold is not None else written
    return result.astype(array.dtype if threshold is None else np.bool_, copy=False)[:, None]


def _pixels(device: Device, boxes: Any, scale: float) -> Any:
    """First and last pixels of the boxes around padded masks; none of boxes that are not finite."""
    xp = device.xp
    with np.errstate(all="ignore"):
        half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
        centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
        corners = xp.concatenate([centre - half, centre + half], axis=1)
    finite = xp.isfinite(corners).all(axis=1)
    nowhere = xp.asarray(np.array([0, 0, -1, -1], corners.dtype))
    corners = xp.where(finite[:, None], corners.clip(-(2.0**40), 2.0**40), nowhere)
    return xp.ascontiguousarray(corners.astype(np.int64))
