"""Launches of `pyramid_pool`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run, tiles
from medseg_fast.kernels.source import FEATURES, FLOATS, Source

SOURCE = Source(
    "pyramid_pool.cuh",
    cell_means=(FEATURES,),
    mix_cells=(FLOATS,),
    stretch_cells=(FEATURES,),
)
_MEAN_THREADS = 128


def pyramid_pool(
    device: Device,
    x: Any,
    bins: Any = (1, 2, 3, 6),
    weights: Any = None,
    biases: Any = None,
    *,
    activation: Any = None,
    align_corners: bool = False,
) -> Any:
    op, xp = "pyramid_pool", device.xp
    array = _arrays.image(device, op, x, "x")
    if array.dtype not in FEATURES:
        raise TypeError(f"{op}: x must be float16, float32 or float64, got {array.dtype}")
    if array.ndim not in (3, 4):
        raise ValueError(f"{op}: x must have shape ([N,] C, H, W), got {array.shape}")
    sizes = [_checks.integer(op, "bins", b, 1) for b in _checks.sequence(op, "bins", bins)]
    if activation not in (None, "relu"):
        raise ValueError(f"{op}: activation must be None or 'relu', got {activation!r}")
    channels, rows, columns = array.shape[-3:]
    images, kind = prod(array.shape[:-3]), np.dtype(np.float32)
    kind = array.dtype if array.dtype == np.float64 else kind
    layers = _layers(device, op, kind, channels, len(sizes), weights, biases)
    added = [channels if w is None else len(w) for w, _ in layers]
    total = channels + sum(added)
    result = xp.empty((*array.shape[:-3], total, rows, columns), array.dtype)
    if not result.size:
        return result
    if not array.size:
        raise ValueError(f"{op}: x must have values, got shape {array.shape}")
    result[..., :channels, :, :] = array
    cells = [b * b for b in sizes]
    means = xp.empty((images, channels, sum(cells)), kind)
    launch = device.kernel(SOURCE, "cell_means", array.dtype)
    args = [_arrays.bits(array), np.int32(rows), np.int32(columns)]
    args += [device.constant(np.array(sizes, np.int32)), np.int32(sum(cells)), means]
    run(launch, (means.size,), (_MEAN_THREADS,), *args)
    begin, first = 0, channels
    for size, count, outputs, layer in zip(sizes, cells, added, layers, strict=True):
        if layer[0] is None:
            grid = xp.ascontiguousarray(means[..., begin : begin + count])
        else:
            grid = xp.empty((images, outputs, count), kind)
            mix = device.kernel(SOURCE, "mix_cells", kind)
            extents = map(np.int32, (channels, sum(cells), begin, count))
            args = [means, *extents, *layer, np.int32(outputs), np.int32(activation == "relu")]
            run(mix, few_blocks(grid.size), (BLOCK,), *args, np.int64(grid.size), grid)
        stretch = device.kernel(SOURCE, "stretch_cells", array.dtype)
        args = [grid, *map(np.int32, (outputs, size, rows, columns, align_corners))]
        args += [_arrays.bits(result), np.int32(total), np.int32(first)]
        run(stretch, tiles(images * outputs, rows, columns), (BLOCK,), *args)
        begin, first = begin + count, first + outputs
    return result


def _layers(
    device: Device,
    op: str,
    kind: np.dtype[Any],
    channels: int,
    count: int,
    weights: Any,
    biases: Any,
) -> list[tuple[Any, Any]]:
    """Weight (O, C) and bias (O,) of each grid's convolution, in the dtype of sums; or None."""
    if weights is None:
        if biases is not None:
            raise ValueError(f"{op}: biases need weights")
        return [(None, None)] * count
    if len(weights) != count or (biases is not None and len(biases) != count):
        raise ValueError(f"{op}: weights and biases must be as many as bins, {count}")
    found = []
    for i, given in enumerate(weights):
        weight = _arrays.image(device, op, given, "weights").astype(kind, copy=False)
        if weight.ndim not in (2, 4) or weight.shape[1:] != (channels, 1, 1)[: weight.ndim - 1]:
            raise ValueError(
                f"{op}: weights must have shape (O, {channels}[, 1, 1]), got {weight.shape}"
            )
        bias = device.xp.zeros(len(weight), kind)
        if biases is not None:
            bias = _arrays.image(device, op, biases[i], "biases").astype(kind, copy=False)
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"{op}: biases must have shape {weight.shape[:1]}, got {bias.shape}")
        found.append((weight.reshape(weight.shape[:2]), bias))
    return found
