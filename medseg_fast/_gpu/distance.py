"""Launches of `distance_transform_edt`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run, tiles
from medseg_fast.distance import _float, _sizes
from medseg_fast.kernels.source import FLOATS, Source

_STEPS, _INT, _DOUBLE = map(np.dtype, (np.uint16, np.int32, np.float64))
SOURCE = Source(
    "distance.cuh",
    nearest_in_rows=((_STEPS, _DOUBLE),),
    nearest_in_columns=((_STEPS, _INT, _DOUBLE),),
    distances_in_columns=((_STEPS, _INT, _DOUBLE), FLOATS),
)
_BAND, _CHUNK = 8, 1024  # rows and columns of a block of `nearest_in_rows`


def distance_transform_edt(
    device: Device,
    input: Any,
    sampling: Any = None,
    return_distances: bool = True,
    return_indices: bool = False,
    distances: Any = None,
    indices: Any = None,
    *,
    dtype: Any = np.float64,
    apart: int = 0,
) -> Any:
    op, xp = "distance_transform_edt", device.xp
    if return_indices or indices is not None or not return_distances:
        raise NotImplementedError(f"{op}: no GPU kernel for indices")
    wanted = _float(op, dtype)
    image = xp.atleast_1d(_arrays.image(device, op, input, "input"))
    sizes = _sizes(op, "sampling", sampling, image.ndim - apart)
    far = _arrays.output(device, op, distances, image.shape, wanted)
    longest = sum((n + _BAND - 1) ** 2 for n in image.shape[apart:])
    exact = all(size == 1 for size in sizes) and longest < 2**30
    mask = image if image.dtype == np.bool_ else image != 0
    written = _arrays.scratch(device, far)
    _passes(device, mask.view(np.uint8), sizes, exact, written, apart)
    _arrays.finish(far, written)
    return far if distances is None else None


def _passes(device: Device, mask: Any, sizes: Any, exact: bool, distances: Any, apart: int) -> None:
    """Along the rows first, then along the other axes; the last pass writes the distances."""
    if mask.ndim == apart + 1:
        mask, sizes = mask[..., None, :], (1, *sizes)
    xp, shape = device.xp, mask.shape
    square = _INT if exact else _DOUBLE
    before = xp.empty(shape, _STEPS if exact else _DOUBLE)
    planes, (rows, columns) = math.prod(shape[:-2]), shape[-2:]
    bands = planes * ceil_div(rows, _BAND)
    least = xp.empty((bands, columns), before.dtype)
    launch = device.kernel(SOURCE, "nearest_in_rows", before.dtype)
    args = mask, before, least, np.int32(rows), np.int32(columns), square.type(sizes[-1])
    run(launch, (bands * ceil_div(columns, _CHUNK),), (32 * _BAND,), *args)
    for axis in reversed(range(apart, mask.ndim - 1)):
        planes, rows, columns = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        grid = tiles(planes, ceil_div(rows, _BAND), columns)
        size = square.type(sizes[axis - apart])
        column = before, least, np.int32(rows), np.int32(columns), size
        if axis == apart:
            launch = device.kernel(SOURCE, "distances_in_columns", before.dtype, distances.dtype)
            none = distances.dtype.type(np.inf)
            run(launch, grid, (BLOCK,), *column, none, distances)
        else:
            launch = device.kernel(SOURCE, "nearest_in_columns", before.dtype)
            before, least = xp.empty(shape, square), xp.empty(0, square)  # a null pointer
            run(launch, grid, (BLOCK,), *column, before)
