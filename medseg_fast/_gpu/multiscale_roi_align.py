"""ROI Align over the levels of a feature pyramid: one launch a level.

Each launch gets all boxes, those of other levels as boxes of no image, which cost a look at their
first number: the host need not know how many boxes a level has, so it does not wait.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medseg_fast import _checks
from medseg_fast._gpu import roi_align as single
from medseg_fast._gpu._boxes import computed, floats
from medseg_fast._gpu._device import Device
from medseg_fast.nn.functional.multiscale_roi_align import levels_of, one_dtype, pyramid

_NO_IMAGE = -1


def multiscale_roi_align(
    device: Device,
    features: Sequence[Any],
    boxes: Any,
    output_size: Any,
    sampling_ratio: int = -1,
    image_shapes: Any = None,
    scales: Any = None,
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> Any:
    op = "multiscale_roi_align"
    maps = [floats(device, op, "features", feature) for feature in features]
    one_dtype(op, maps)
    found = pyramid(
        op, [m.shape for m in maps], image_shapes, scales, canonical_scale, canonical_level
    )
    regions = single.regions_of(device, op, boxes, 2, maps[0].shape[0], computed(maps[0]).dtype)
    result: Any = None
    for array, of_level, scale in zip(
        maps, _by_level(device, regions, *found), found[0], strict=True
    ):
        part = single.roi_align(device, array, of_level, output_size, scale, sampling_ratio)
        result = part if result is None else result + part
    return result


def multiscale_roi_align_backward(
    device: Device,
    gradient: Any,
    boxes: Any,
    feature_sizes: Sequence[Sequence[int]],
    sampling_ratio: int = -1,
    image_shapes: Any = None,
    scales: Any = None,
    canonical_scale: float = 224,
    canonical_level: float = 4,
) -> tuple[Any, ...]:
    op = "multiscale_roi_align_backward"
    given = floats(device, op, "gradient", gradient)
    shapes = [tuple(_checks.integer(op, "feature_sizes", n, 0) for n in s) for s in feature_sizes]
    found = pyramid(op, shapes, image_shapes, scales, canonical_scale, canonical_level)
    regions = single.regions_of(device, op, boxes, 2, shapes[0][0], computed(given).dtype)
    if given.ndim != 4 or given.shape[:2] != (len(regions), shapes[0][1]):
        raise ValueError(
            f"{op}: gradient must have shape ({len(regions)}, {shapes[0][1]}, rows, columns), "
            f"got {given.shape}"
        )
    return tuple(
        single.roi_align_backward(device, given, of_level, shape, scale, sampling_ratio)
        for shape, of_level, scale in zip(
            shapes, _by_level(device, regions, *found), found[0], strict=True
        )
    )


def _by_level(
    device: Device, regions: Any, scales: list[float], canonical_scale: float, level: float
) -> Iterator[Any]:
    """For each level all boxes, of which only its own have an image."""
    xp = device.xp
    levels = levels_of(xp, regions, scales, canonical_scale, level)
    for number in range(len(scales)):
        own = regions.copy()
        own[:, 0] = xp.where(levels == number, regions[:, 0], regions.dtype.type(_NO_IMAGE))
        yield own
