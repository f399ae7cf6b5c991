"""Launches of `transposed_conv2x2`, and the copies of `crop_concat`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays
from medseg_fast._gpu._boxes import floats
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run, tiles
from medseg_fast.kernels.source import FEATURES, Source
from medseg_fast.nn.functional.upsampling import _crop, _joined, _space

SOURCE = Source("transposed_conv.cuh", double_by_taps=(FEATURES,))
_OUTPUTS = 4  # channels of a block, as in the kernel


def transposed_conv2x2(
    device: Device, x: Any, weight: Any, bias: Any = None, *, out: Any = None
) -> Any:
    op, xp = "transposed_conv2x2", device.xp
    features = _arrays.image(device, op, x, "x")
    if features.dtype not in FEATURES:
        raise TypeError(f"{op}: x must be float16, float32 or float64, got {features.dtype}")
    kernel = floats(device, op, "weight", weight)
    rank = kernel.ndim - 2
    if rank not in (2, 3) or kernel.shape[2:] != (2,) * rank:
        raise ValueError(f"{op}: weight must have shape (C, O, [2,] 2, 2), got {kernel.shape}")
    if features.ndim not in (rank + 1, rank + 2) or features.shape[-rank - 1] != len(kernel):
        raise ValueError(
            f"{op}: x must have shape ([N,] {len(kernel)}, {'D, ' * (rank - 2)}H, W), "
            f"got {features.shape}"
        )
    outputs = kernel.shape[1]
    added = xp.zeros(outputs, features.dtype) if bias is None else floats(device, op, "bias", bias)
    if added.shape != (outputs,):
        raise ValueError(f"{op}: bias must have shape ({outputs},), got {added.shape}")
    space = features.shape[-rank:]
    images = prod(features.shape[: -rank - 1])
    shape = (*features.shape[: -rank - 1], outputs, *(2 * n for n in space))
    doubled = _arrays.output(device, op, out, shape, features.dtype)
    written = _arrays.scratch(device, doubled)
    if written is doubled and xp.may_share_memory(features, doubled):
        written = xp.empty(shape, features.dtype)
    depth = 1 if rank == 2 else space[0]
    rows, columns = space[-2:]
    groups, deep = ceil_div(outputs, _OUTPUTS), 1 if rank == 2 else 2
    numbers = len(kernel), outputs, groups, depth, rows, columns, deep
    given = (a.astype(features.dtype, copy=False) for a in (features, kernel, added))
    arrays = map(_arrays.bits, (*given, written))
    launch = device.kernel(SOURCE, "double_by_taps", features.dtype)
    grid = tiles(images * groups * depth * deep, ceil_div(rows, 2), columns)
    run(launch, grid, (BLOCK,), *arrays, *map(np.int32, numbers))
    return _arrays.finish(doubled, written)


def crop_concat(device: Device, skip: Any, x: Any, *, out: Any = None) -> Any:
    op, xp = "crop_concat", device.xp
    beside = _arrays.image(device, op, skip, "skip")
    array = _arrays.image(device, op, x, "x")
    if beside.dtype != array.dtype:
        raise TypeError(f"{op}: skip must have the dtype of x, {array.dtype}, got {beside.dtype}")
    rank = _space(beside, array)
    result = _arrays.output(device, op, out, _joined(beside, array)[0], array.dtype)
    written = result
    if any(xp.may_share_memory(result, each) for each in (beside, array)):
        written = xp.empty(result.shape, result.dtype)
    ends = zip(_crop(beside, array, rank), array.shape[-rank:], strict=True)
    middle = (..., slice(None), *(slice(begin, begin + n) for begin, n in ends))
    channels = beside.shape[-rank - 1]
    spaces = (slice(None),) * rank
    written[(..., slice(channels), *spaces)] = beside[middle]
    written[(..., slice(channels, None), *spaces)] = array
    return _arrays.finish(result, written)
