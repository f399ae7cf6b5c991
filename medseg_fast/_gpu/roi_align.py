"""Launches of `roi_align` and `roi_align_backward`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu._boxes import computed, floats
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run
from medseg_fast.kernels.source import FLOATS, Source
from medseg_fast.nn.functional._boxes import is_list
from medseg_fast.nn.functional.roi_align import _scale, sizes_of

_RANKS = (2, 3)
SOURCE = Source("roi_align.cuh", roi_align=(FLOATS, _RANKS), roi_align_backward=(FLOATS, _RANKS))
# As in the kernels: channels of a thread forth, of a block back, and pixels along its square.
_CHANNELS, _BACK, _SIDE = 4, 32, 8


def roi_align(
    device: Device,
    input: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    op = "roi_align"
    given = floats(device, op, "input", input)
    if given.ndim not in (4, 5):
        raise ValueError(
            f"{op}: input must have shape (N, C, H, W) or (N, C, D, H, W), got {given.shape}"
        )
    dims = given.ndim - 2
    sizes = sizes_of(op, output_size, dims)
    samples = _checks.integer(op, "sampling_ratio", sampling_ratio)
    array = computed(given)
    real = array.dtype.type
    regions = regions_of(device, op, boxes, dims, array.shape[0], array.dtype)
    result = device.xp.empty((len(regions), array.shape[1], *sizes), array.dtype)
    if result.size and 0 in array.shape[2:]:
        raise ValueError(f"{op}: input must have pixels, got shape {array.shape}")
    extents = [*array.shape[:2], *(1,) * (3 - dims), *array.shape[2:]]
    bins = prod(sizes)
    rows = max(BLOCK // bins, 1)  # channels that lie beside each other in a block
    share = _CHANNELS * rows * ceil_div(8, rows)  # 32 and more pay for the list of a box's pixels
    parts = ceil_div(array.shape[1], share)
    args = [array, regions, result, *map(np.int32, (*extents[:2], share)), np.uint32(parts)]
    args += [*map(np.int32, extents[2:])]
    args += [np.uint32(n) for n in ((1,) * (3 - dims) + sizes)]
    args += [real(_scale(op, spatial_scale)), np.int32(min(samples, 2**30)), np.int32(aligned)]
    launch = device.kernel(SOURCE, "roi_align", array.dtype, dims)
    threads = min(ceil_div(rows * bins, 32) * 32, BLOCK)
    run(launch, (len(regions) * parts,), (threads,), *args)
    return result.astype(given.dtype, copy=False)


def roi_align_backward(
    device: Device,
    gradient: Any,
    boxes: Any,
    input_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Any:
    op = "roi_align_backward"
    given = floats(device, op, "gradient", gradient)
    if given.ndim not in (4, 5):
        raise ValueError(
            f"{op}: gradient must have shape (N, C, H, W) or (N, C, D, H, W), got {given.shape}"
        )
    shape = tuple(_checks.integer(op, "input_size", size, 0) for size in input_size)
    array, dims = computed(given), given.ndim - 2
    sizes = array.shape[2:]
    regions = regions_of(device, op, boxes, dims, shape[0] if shape else 0, array.dtype)
    if len(shape) != array.ndim or array.shape[:2] != (len(regions), shape[1]):
        raise ValueError(
            f"{op}: gradient must have a box for each of {len(regions)} boxes and the channels and "
            f"axes of input_size {shape}, got shape {array.shape}"
        )
    if len(regions) and 0 in shape[2:]:
        raise ValueError(f"{op}: input_size must have pixels, got {shape}")
    samples = _checks.integer(op, "sampling_ratio", sampling_ratio)
    real, flat = array.dtype.type, [1] * (3 - int(dims))
    result = device.xp.empty(shape, array.dtype)
    images, channels = shape[:2]
    groups = ceil_div(channels, _BACK)
    depth, height, width = (*flat, *shape[2:])
    count = np.int32(0 if 0 in sizes else len(regions))
    args = [array, regions, count, result]
    args += [*map(np.int32, (images, channels, groups, depth, height, width))]
    args += [np.uint32(n) for n in (*flat, *sizes)]
    args += [real(_scale(op, spatial_scale)), np.int32(min(samples, 2**30)), np.int32(aligned)]
    launch = device.kernel(SOURCE, "roi_align_backward", array.dtype, dims)
    squares = ceil_div(height, _SIDE) * ceil_div(width, _SIDE)
    run(launch, (images * groups * depth * squares,), (BLOCK,), *args)
    return result.astype(given.dtype, copy=False)


def regions_of(device: Device, op: str, boxes: Any, dims: int, images: int, dtype: Any) -> Any:
    """Boxes as one array (K, 1 + 2 dims) of `dtype`, the image's index first."""
    xp, columns = device.xp, 2 * dims
    if not is_list(boxes):
        given = floats(device, op, "boxes", boxes)
        if given.ndim != 2 or given.shape[1] != 1 + columns:
            raise AssertionError(
                f"The boxes tensor shape is not correct as Tensor[K, {1 + columns}]"
            )
        return xp.ascontiguousarray(given.astype(dtype, copy=False))
    parts = [floats(device, op, "boxes", each) for each in boxes]
    if any(part.ndim != 2 or part.shape[1] != columns for part in parts):
        raise AssertionError(
            "The shape of the tensor in the boxes list is not correct as "
            f"List[Tensor[L, {columns}]]"
        )
    if len(parts) > images:
        raise ValueError(
            f"{op}: boxes must be at most one array for each of {images} images, got {len(parts)}"
        )
    array = xp.empty((sum(map(len, parts)), 1 + columns), dtype)
    row = 0
    for index, part in enumerate(parts):
        array[row : row + len(part), 0] = index
        array[row : row + len(part), 1:] = part
        row += len(part)
    return array
