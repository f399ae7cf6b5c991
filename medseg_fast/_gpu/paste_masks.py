"""Launches of `paste_masks`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._gpu._boxes import computed, floats
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run
from medseg_fast.kernels.source import FLOATS, Source
from medseg_fast.nn.functional.paste_masks import _arguments

SOURCE = Source("paste_masks.cuh", paste=(FLOATS, FLOATS))
_ROWS = 64  # of a block, as in the kernel


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
    array, (rows, columns), padding, least = _arguments(
        op, array, corners, image_shape, padding, threshold
    )
    given = xp.ascontiguousarray(computed(array))
    real = given.dtype.type
    shape = (len(given), rows, columns)
    written = xp.empty(shape, given.dtype if threshold is None else np.uint8)
    values = written if threshold is None else xp.empty(0, given.dtype)
    inside = xp.empty(0, np.uint8) if threshold is None else written
    side = given.shape[-1]
    regions = xp.ascontiguousarray(computed(corners))
    scale = regions.dtype.type(float(side + 2 * padding) / side)
    extents = [np.int32(n) for n in (*given.shape[1:], padding, rows, columns)]
    launch = device.kernel(SOURCE, "paste", given.dtype, regions.dtype)
    args = given, regions, scale, *extents, real(least), values, inside
    tiles = ceil_div(rows, _ROWS) * ceil_div(columns, 32)
    run(launch, (len(given) * tiles,), (BLOCK,), *args)
    result = written.view(np.bool_) if threshold is not None else written
    return result.astype(array.dtype if threshold is None else np.bool_, copy=False)[:, None]
