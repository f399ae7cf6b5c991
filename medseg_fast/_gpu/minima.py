"""Launches of `local_minima` and `local_maxima`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _region
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import BLOCK, Device, run
from medseg_fast._gpu._levels import levels
from medseg_fast.batch import _stacked
from medseg_fast.kernels.source import INDICES, Source
from medseg_fast.minima import _steps

SOURCE = Source("minima.cuh", mark_no_minima=(INDICES,))


def local_minima(device: Device, image: Any, *args: Any, apart: int = 0, **kwargs: Any) -> Any:
    return _extrema(device, "local_minima", image, *args, apart=apart, **kwargs)


def local_maxima(device: Device, image: Any, *args: Any, apart: int = 0, **kwargs: Any) -> Any:
    return _extrema(device, "local_maxima", image, *args, apart=apart, **kwargs)


def _extrema(
    device: Device,
    op: str,
    image: Any,
    footprint: Any = None,
    connectivity: Any = None,
    indices: bool = False,
    allow_borders: bool = True,
    *,
    out: Any = None,
    apart: int = 0,
) -> Any:
    array = _arrays.image(device, op, image)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    if indices and out is not None:
        raise ValueError(f"{op}: out must be None with indices=True")
    if not allow_borders:
        raise NotImplementedError(f"{op}: no GPU kernel for allow_borders=False")
    steps = _steps(op, _arrays.fetch(footprint), connectivity, array.ndim - apart)
    reach = reach_of(op, steps, array.ndim - apart)
    mask = _arrays.output(device, op, out, array.shape, np.bool_)
    mask[...] = minima(device, op, array, reach, apart, highest=op == "local_maxima")
    if not indices:
        return mask
    if not apart:
        return device.xp.nonzero(mask)
    return _stacked(device.xp, op, [device.xp.nonzero(each) for each in mask])


def minima(
    device: Device, op: str, array: Any, reach: int, apart: int = 0, *, highest: bool = False
) -> Any:
    """Mask of the regional minima, or maxima."""
    if array.size == 0:
        return device.xp.zeros(array.shape, np.bool_)
    given = array
    if highest:
        given = ~array if array.dtype.kind in "bui" else -array
    values, nan = levels(device, given, apart)
    sets = Components(device, op, values, None, reach, apart)
    marks = device.xp.zeros(values.size, np.uint8)
    planes = sets.planes
    extents = [*map(np.int32, planes.extents), np.int32(min(reach, planes.axes)), planes.first]
    launch = device.kernel(SOURCE, "mark_no_minima", sets.parent.dtype)
    run(launch, planes.grid, (BLOCK,), values, sets.parent, *extents, marks)
    raised = device.xp.empty(values.shape, np.uint8)
    sets.keep(marks, raised)
    axes = tuple(range(apart, values.ndim))
    flat = values.min(axis=axes, keepdims=True) == values.max(axis=axes, keepdims=True)
    mask = (raised == 0) & ~flat
    return mask if nan is None else mask & ~nan


def reach_of(op: str, steps: Any, ndim: int) -> int:
    """The connectivity whose neighbours the steps lead to, in any order."""
    wanted = {tuple(step) for step in np.asarray(steps).tolist()} - {(0,) * ndim}
    for reach in range(1, ndim + 1):
        if wanted == set(map(tuple, _region.structure(ndim, reach).tolist())):
            return reach
    raise NotImplementedError(f"{op}: no GPU kernel for this footprint")
