"""Launches of `max_unpool`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays, _device
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run
from medseg_fast.kernels.source import INDICES, Source
from medseg_fast.nn.functional._layout import space_rank
from medseg_fast.nn.functional.pooling import _unpooled_shape

_BITS = tuple(map(np.dtype, (np.uint16, np.uint32, np.uint64)))
SOURCE = Source("unpool.cuh", claim=(INDICES,), take_claimed=(_BITS,))


def max_unpool(
    device: Device,
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    op, xp = "max_unpool", device.xp
    given = _arrays.image(device, op, input, "input")
    if given.dtype.kind != "f":
        raise TypeError(f"{op}: input must be float16, float32 or float64, got {given.dtype}")
    where = _arrays.image(device, op, indices, "indices")
    if where.dtype.kind not in "ui":
        raise TypeError(f"{op}: indices must be integers, got {where.dtype}")
    if where.shape != given.shape:
        raise ValueError(
            f"{op}: indices must have the input's shape {given.shape}, got {where.shape}"
        )
    shape = _unpooled_shape(given, kernel_size, stride, padding, output_size)
    rank = space_rank(op, "kernel_size", kernel_size, given)
    values, places = prod(given.shape[-rank:]), prod(shape[-rank:])
    if max(values, places) >= 2**31:
        raise ValueError(f"{op}: input must have fewer than 2**31 values a channel, got {values}")
    bits = np.dtype(f"u{given.dtype.itemsize}")
    output = xp.empty(shape, given.dtype)
    winners = xp.zeros(shape, np.int32)
    planes = prod(given.shape[:-rank])
    extents = np.int32(planes), np.int32(values), np.int32(places)
    if where.dtype not in INDICES:
        where = where.astype(np.int64)
    claim = device.kernel(SOURCE, "claim", where.dtype)
    run(claim, _grid(planes, values), (BLOCK,), where, *extents, winners)
    take = device.kernel(SOURCE, "take_claimed", bits)
    args = given.view(bits), winners, *extents, output.view(bits)
    run(take, _grid(planes, places), (BLOCK,), *args)
    return output


def _grid(planes: int, size: int) -> tuple[int, int]:
    """Blocks along a plane, and as many planes as a grid can have."""
    return (*few_blocks(size), min(planes, _device.MOST_SECOND))
