"""ROI Align sample by sample, as the papers and torchvision describe it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _neighbours(position: Any, extent: int) -> list[tuple[int, Any]]:
    """The one or two pixels around a position on an axis, with their weights; none outside."""
    if position < -1 or position > extent:
        return []
    position = max(position, position.dtype.type(0))
    low = int(position)
    if low >= extent - 1:
        return [(extent - 1, position.dtype.type(1))]
    above = position - position.dtype.type(low)
    return [(low, 1 - above), (low + 1, above)]


def samples(
    box: NDArray[Any],
    shape: tuple[int, ...],
    sizes: tuple[int, ...],
    scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Any:
    """Yields (bin, pixel, weight) for everything that a box averages; `box` is x.. before y..."""
    axes = len(sizes)
    kind = box.dtype.type
    grids, lines = [], []
    for axis in range(axes):
        low, high = box[axes - 1 - axis], box[2 * axes - 1 - axis]
        start = low * kind(scale) - kind(0.5 if aligned else 0)
        size = high * kind(scale) - kind(0.5 if aligned else 0) - start
        if not aligned:
            size = max(size, kind(1))
        step = size / kind(sizes[axis])
        grid = sampling_ratio if sampling_ratio > 0 else max(math.ceil(step), 0)
        grids.append(grid)
        lines.append(
            [
                [
                    _neighbours(start + kind(b) * step + kind(i + 0.5) * step / kind(grid), n)
                    for i in range(grid)
                ]
                for b in range(sizes[axis])
                for n in [shape[axis]]
            ]
        )
    count = max(math.prod(grids), 1)
    for bin_ in itertools.product(*map(range, sizes)):
        for sample in itertools.product(*(lines[axis][b] for axis, b in enumerate(bin_))):
            for corner in itertools.product(*sample):
                weight = math.prod(float(w) for _, w in corner) / count
                yield bin_, tuple(p for p, _ in corner), weight


def _regions(boxes: Any, dtype: Any) -> NDArray[Any]:
    if isinstance(boxes, (list, tuple)):
        boxes = [np.asarray(b, dtype) for b in boxes]
        boxes = np.concatenate([np.insert(b, 0, i, axis=1) for i, b in enumerate(boxes)])
    return np.asarray(boxes, dtype)


def roi_align(
    input: NDArray[Any],
    boxes: Any,
    output_size: Any,
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> NDArray[Any]:
    """Sum of weight times pixel, in float64."""
    axes = input.ndim - 2
    sizes = (output_size,) * axes if np.ndim(output_size) == 0 else tuple(output_size)
    regions = _regions(boxes, input.dtype)
    out = np.zeros((len(regions), input.shape[1], *sizes))
    for k, region in enumerate(regions):
        image = input[int(region[0])].astype(np.float64)
        for bin_, pixel, weight in samples(
            region[1:], input.shape[2:], sizes, spatial_scale, sampling_ratio, aligned
        ):
            out[(k, slice(None), *bin_)] += weight * image[(slice(None), *pixel)]
    return out.astype(input.dtype)


def roi_align_backward(
    gradient: NDArray[Any],
    boxes: Any,
    input_size: tuple[int, ...],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> NDArray[Any]:
    """Each pixel's weight times the bins' gradients, in float64."""
    out = np.zeros(input_size)
    for k, region in enumerate(_regions(boxes, gradient.dtype)):
        for bin_, pixel, weight in samples(
            region[1:], input_size[2:], gradient.shape[2:], spatial_scale, sampling_ratio, aligned
        ):
            out[(int(region[0]), slice(None), *pixel)] += weight * gradient[(k, slice(None), *bin_)]
    return out.astype(gradient.dtype)


def _levels(
    regions: NDArray[Any], scales: Sequence[float], canonical_scale: float, canonical_level: float
) -> list[int]:
    """The level of each box, by its area (Lin et al. 2017, equation 1)."""
    least, most = -math.log2(scales[0]), -math.log2(scales[-1])
    found = []
    for _, x1, y1, x2, y2 in regions.astype(np.float64):
        area = (x2 - x1) * (y2 - y1)
        level = least
        if area > 0:
            level = math.floor(
                canonical_level + math.log2(math.sqrt(area) / canonical_scale) + 1e-6
            )
        found.append(int(min(max(level, least), most) - least))
    return found


def multiscale_roi_align(
    features: Sequence[NDArray[Any]],
    boxes: Any,
    output_size: Any,
    sampling_ratio: int,
    scales: Sequence[float],
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> NDArray[Any]:
    """Box by box from its level."""
    regions = _regions(boxes, features[0].dtype)
    levels = _levels(regions, scales, canonical_scale, canonical_level)
    parts = [
        roi_align(features[level], regions[k : k + 1], output_size, scales[level], sampling_ratio)
        for k, level in enumerate(levels)
    ]
    return np.concatenate(parts)


def multiscale_roi_align_backward(
    gradient: NDArray[Any],
    boxes: Any,
    feature_sizes: Sequence[tuple[int, ...]],
    sampling_ratio: int,
    scales: Sequence[float],
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> tuple[NDArray[Any], ...]:
    """Each level's gradient from its own boxes."""
    regions = _regions(boxes, gradient.dtype)
    levels = np.array(_levels(regions, scales, canonical_scale, canonical_level))
    return tuple(
        roi_align_backward(
            gradient[levels == level], regions[levels == level], size, scale, sampling_ratio
        )
        for level, (size, scale) in enumerate(zip(feature_sizes, scales, strict=True))
    )
