"""Launches of `threshold`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run
from medseg_fast.kernels.source import PIXELS, Source

SOURCE = Source("threshold.cuh", in_range=(PIXELS,))


def threshold(
    device: Device, image: Any, t: Any, upper: Any = None, *, out: Any = None, apart: int = 0
) -> Any:
    array = _arrays.image(device, "threshold", image)
    mask = _arrays.output(device, "threshold", out, array.shape, np.bool_)
    low, high = _arrays.number(t), math.inf if upper is None else _arrays.number(upper)
    bounds = _checks.interval("threshold", array.dtype, low, high)
    if bounds is None:
        mask[...] = False
        return mask
    written = _arrays.scratch(device, mask)
    in_range(device, array, bounds, written)
    return _arrays.finish(mask, written)


def in_range(device: Device, image: Any, bounds: Any, mask: Any) -> None:
    """Set a contiguous bool mask where the pixels lie within the two `bounds`, included."""
    given = _arrays.pixels(image)
    low, high = bounds.astype(given.dtype)
    launch = device.kernel(SOURCE, "in_range", given.dtype)
    size = np.int64(given.size)
    grid = few_blocks(given.size, 16 // given.itemsize * BLOCK)  # 16 bytes a thread
    run(launch, grid, (BLOCK,), given, low, high, mask.view(np.uint8), size)
