"""Launches of `conv_pool`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, few_blocks, run, tiles
from medseg_fast.kernels.source import FEATURES, Source
from medseg_fast.nn.functional.convolution import (
    _ACTIVATIONS,
    Geometry,
    _check,
    geometry,
)

SOURCE = Source("conv_pool.cuh", convolve=(FEATURES, (1, 2)), pool_windows=(FEATURES,))
_OUTPUTS, _STAGED = 8, 36 << 10  # as in the kernels


def conv_pool(
    device: Device,
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    scale: Any = None,
    shift: Any = None,
    activation: Any = None,
    slope: float = 0.01,
    pool: Any = None,
    pool_size: Any = 2,
    return_indices: bool = False,
    return_full: bool = False,
) -> Any:
    op, xp = "conv_pool", device.xp
    features = _features(device, x, "x", (4, 5))
    kernel = _features(device, weight, "weight", (features.ndim,), features.dtype)
    _check(features, kernel, activation, pool, return_indices, return_full)
    sizes = geometry(kernel.shape[2:], stride, padding, dilation, pool, pool_size)
    full, small = sizes.full(features.shape[2:]), sizes.pooled(features.shape[2:])
    if min(small) < 1 or min(full) < 1:
        raise ValueError(
            f"{op}: x must be as large as the kernel and pooling window, got {features.shape}"
        )
    vectors = {"bias": bias, "scale": scale, "shift": shift}
    offset, factor, added = (
        None if v is None else _features(device, v, name, (1,), features.dtype, len(kernel))
        for name, v in vectors.items()
    )
    wide = np.float32 if features.dtype == np.float16 else features.dtype
    total = xp.zeros(len(kernel), wide) if offset is None else offset.astype(wide)
    if factor is not None:
        kernel = kernel * factor.reshape(-1, *(1,) * (kernel.ndim - 1))
        total *= factor
    if added is not None:
        total += added
    weights, biases = xp.ascontiguousarray(kernel), total.astype(features.dtype)
    slope = float(_checks.number(op, "slope", slope))
    fused = pool is not None and sizes.pool in ((2, 2), (1, 2, 2))
    fused = fused and not return_indices and not return_full
    lead = (features.shape[0], len(kernel))
    args = features, weights, biases, sizes, full, _ACTIVATIONS.index(activation), slope
    if pool is None or fused:
        result = xp.empty((*lead, *small), features.dtype)
        return _convolve(device, result, *args, 2 if fused else 1, pool == "avg")
    before = _convolve(device, xp.empty((*lead, *full), features.dtype), *args, 1, False)
    pooled = xp.empty((*lead, *small), features.dtype)
    indices = xp.empty(pooled.shape if return_indices else 0, np.int64)
    flat = (1,) * (3 - len(full))
    extents = [*map(np.int32, (*flat, *full, *flat, *sizes.pool)), np.int32(pool == "avg")]
    launch = device.kernel(SOURCE, "pool_windows", features.dtype)
    given = [_arrays.bits(before), np.int64(pooled.size), *extents, _arrays.bits(pooled), indices]
    run(launch, few_blocks(pooled.size), (BLOCK,), *given)
    results = [pooled, *([indices] if return_indices else []), *([before] if return_full else [])]
    return tuple(results) if len(results) > 1 else pooled


def _convolve(
    device: Device,
    result: Any,
    features: Any,
    weights: Any,
    biases: Any,
    sizes: Geometry,
    full: tuple[int, ...],
    activation: int,
    slope: float,
    side: int,
    mean: bool,
) -> Any:
    lead = 3 - len(full)  # an image has one plane
    one = [1, 1, 1, 0, 1, 1] * lead
    layers = zip(
        features.shape[2:],
        sizes.kernel,
        sizes.stride,
        sizes.before,
        sizes.dilation,
        full,
        strict=True,
    )
    axes = np.array([*one, *(number for axis in layers for number in axis)], np.int32)
    _, (_, high, down, _, far, _), (_, wide, across, _, wider, _) = axes.reshape(3, 6).tolist()
    window = (8 * side - 1) * down + (high - 1) * far + 1
    window *= (32 * side - 1) * across + (wide - 1) * wider + 1
    room = _STAGED // max(features.dtype.itemsize, 4)
    channels, outputs = features.shape[1], len(weights)
    held = min(room // (window + high * wide * _OUTPUTS), channels)
    if held == 0:
        raise NotImplementedError(
            f"conv_pool: no GPU kernel for a stride of {sizes.stride} with a kernel of "
            f"{sizes.kernel} and dilation {sizes.dilation}: too much input for one tile"
        )
    groups = ceil_div(outputs, _OUTPUTS)
    *_, rows, columns = result.shape
    planes = features.shape[0] * groups * prod(full[:-2])
    if planes * ceil_div(rows, 8) * ceil_div(columns, 32) >= 2**31:
        raise ValueError(f"conv_pool: x is too large for a GPU's grid, got {features.shape}")
    numbers = [*map(np.int32, (channels, outputs, groups, held)), device.constant(axes)]
    numbers += [np.int32(activation), _arrays.bits(features.dtype.type(slope)), np.int32(mean)]
    given = map(_arrays.bits, (features, weights, biases, result))
    launch = device.kernel(SOURCE, "convolve", features.dtype, side)
    run(launch, tiles(planes, rows, columns), (BLOCK,), *given, *numbers)
    return result


def _features(
    device: Device,
    value: Any,
    name: str,
    ndim: tuple[int, ...],
    dtype: Any = None,
    length: int | None = None,
) -> Any:
    op = "conv_pool"
    array = _arrays.image(device, op, value, name)
    if array.dtype not in FEATURES:
        raise TypeError(f"{op}: {name} must be float16, float32 or float64, got {array.dtype}")
    if array.ndim not in ndim:
        raise ValueError(f"{op}: {name} must have {ndim} dimensions, got shape {array.shape}")
    if dtype is not None and array.dtype != dtype:
        raise TypeError(f"{op}: {name} must have the dtype of x, {dtype}, got {array.dtype}")
    if length is not None and array.shape != (length,):
        raise ValueError(f"{op}: {name} must have shape ({length},), got {array.shape}")
    return array
