"""Pixels as numbers of 32 bits in the same order: all that floods and minima need of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import Device


def levels(device: Device, array: Any, apart: int = 0) -> tuple[Any, Any]:
    """The levels, uint32, and a mask of NaN, which None stands for where there cannot be any.

    NaN gets the level of the highest value, of its image if they are `apart`. Types of 64 bits are
    sorted for their ranks.
    """
    xp, pixels, nan = device.xp, _arrays.pixels(array), None
    if pixels.dtype.kind == "f":
        nan = xp.isnan(pixels)
        # All NaN: whatever the level, it is that of all pixels.
        axes = tuple(range(apart, pixels.ndim))
        highest = xp.where(nan, -np.inf, pixels).max(axis=axes, keepdims=True) if pixels.size else 0
        pixels = xp.where(nan, highest, pixels).astype(pixels.dtype, copy=False) + 0.0  # no -0.0
    if pixels.dtype.itemsize == 8:
        _, ranks = xp.unique(pixels.reshape(-1), return_inverse=True)
        return ranks.reshape(pixels.shape).astype(np.uint32), nan
    if pixels.dtype.kind == "u":
        return pixels.astype(np.uint32), nan
    top = np.uint32(1 << 31)
    if pixels.dtype.kind == "i":
        return pixels.astype(np.int32).view(np.uint32) ^ top, nan
    bits = pixels.view(np.uint32)
    return xp.where(bits >= top, ~bits, bits | top), nan
