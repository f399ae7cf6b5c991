"""Launches of the region growing functions: the components of a range that hold a seed."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks, _region
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import Device
from medseg_fast._gpu.threshold import in_range
from medseg_fast.flooding import _around, _neighbours


def connected_threshold(
    device: Device,
    image: Any,
    seeds: Any,
    lower: float,
    upper: float,
    connectivity: int = 1,
    *,
    max_voxels: int | None = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "connected_threshold"
    array = _image(device, op, image)
    reach = _checks.integer(op, "connectivity", connectivity, 1, array.ndim - apart)
    bounds = _checks.interval(op, array.dtype, lower, upper)
    mask = _arrays.output(device, op, out, array.shape, np.bool_)
    if array.size == 0:
        return mask
    indices, _ = _seeds(op, "seeds", seeds, array, apart)
    _grow(device, op, array, bounds, indices, reach, max_voxels, mask, apart=apart)
    return mask


def flood(
    device: Device,
    image: Any,
    seed_point: Any,
    *,
    footprint: Any = None,
    connectivity: int | None = None,
    tolerance: float | None = None,
    max_voxels: int | None = None,
    out: Any = None,
    op: str = "flood",
    apart: int = 0,
) -> Any:
    array = _image(device, op, image)
    mask = _arrays.output(device, op, out, array.shape, np.bool_)
    if array.size == 0:
        return mask
    if array.dtype == np.float16:
        raise TypeError(f"{op}: image must not be float16, as in scikit-image; use float32")
    seed, values = _seeds(op, "seed_point", seed_point, array, apart)
    if len(seed) != (len(array) if apart else 1):
        raise ValueError(f"{op}: seed_point must be one index, got {seed_point!r}")
    offsets, reach = _neighbours(op, array.ndim - apart, footprint, connectivity)
    if offsets is not None:
        raise NotImplementedError(f"{op}: no GPU kernel for this footprint")
    each = [_around(op, value, tolerance) for value in values]
    bounds = _of_images(device, each, array) if apart else each[0]
    _grow(device, op, array, bounds, seed, reach, max_voxels, mask, force=True, apart=apart)
    return mask


def flood_fill(
    device: Device,
    image: Any,
    seed_point: Any,
    new_value: Any,
    *,
    footprint: Any = None,
    connectivity: int | None = None,
    tolerance: float | None = None,
    in_place: bool = False,
    max_voxels: int | None = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "flood_fill"
    array = _image(device, op, image)
    if in_place and out is not None:
        raise ValueError(f"{op}: out cannot be given with in_place=True")
    result = image if in_place else _arrays.output(device, op, out, array.shape, array.dtype)
    mask = flood(
        device,
        array,
        seed_point,
        footprint=footprint,
        connectivity=connectivity,
        tolerance=tolerance,
        max_voxels=max_voxels,
        op=op,
        apart=apart,
    )
    value = _checks.element(op, "new_value", _arrays.number(new_value), array.dtype)[()]
    result[...] = device.xp.where(mask, value, array)
    return result


def _image(device: Device, op: str, value: Any) -> Any:
    array = _arrays.image(device, op, value)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least 1 dimension, got a scalar")
    return array


def _seeds(op: str, name: str, value: Any, image: Any, apart: int) -> tuple[Any, Any]:
    """Indices (seeds, axes) and the values there, both on the host: it waits for the image.

    Images that are `apart` have the same seeds, those of the first image first.
    """
    indices = _region.inside(op, name, value, image.shape[apart:])
    whole = indices
    if apart:
        numbers = np.repeat(np.arange(len(image)), len(indices))
        whole = np.column_stack([numbers, np.tile(indices, (len(image), 1))])
    values = _arrays.fetch(image[tuple(whole.T)])
    _region.refuse_nan(op, name, whole[:, apart:], values)
    return whole, values


def _of_images(device: Device, bounds: list[Any], image: Any) -> tuple[Any, Any]:
    """Least and largest value of each image's flood, to compare the images with."""
    empty = np.array([1, 0], image.dtype)
    given = np.array([empty if each is None else each for each in bounds], image.dtype)
    ends = device.xp.asarray(given).reshape(len(image), 2, *(1,) * (image.ndim - 1))
    return ends[:, 0], ends[:, 1]


def _grow(
    device: Device,
    op: str,
    image: Any,
    bounds: Any,
    indices: Any,
    reach: int,
    max_voxels: int | None,
    mask: Any,
    *,
    force: bool = False,
    apart: int = 0,
) -> None:
    """Write the region. `force`: the seeds are inside whatever their values."""
    limit = _region.limit(op, max_voxels, image)
    places = device.xp.asarray(np.ravel_multi_index(tuple(indices.T), image.shape))
    candidates = device.xp.zeros(image.shape, np.bool_)
    if isinstance(bounds, tuple):
        candidates[...] = (image >= bounds[0]) & (image <= bounds[1])
    elif bounds is not None:
        in_range(device, image, bounds, candidates)
    if force:
        candidates.reshape(-1)[places] = True
    keys = candidates.view(np.uint8)
    sets = Components(device, op, keys, 0, reach, apart)
    written = _arrays.scratch(device, mask)
    sets.holding(places, written.view(np.uint8))
    _arrays.finish(mask, written)
    each = mask.reshape(len(mask) if apart else 1, -1)
    if limit < each.shape[1] and int(each.sum(1).max()) > limit:
        raise NotImplementedError(f"{op}: no GPU kernel stops growth at max_voxels={limit}")
