"""Launches of `distance_transform_edt`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run, tiles
from medseg_fast.distance import _float, _sizes
from medseg_fast.kernels.source import FLOATS, Source

_SQUARES = (np.dtype(np.int32), np.dtype(np.float64))
SOURCE = Source(
    "distance.cuh",
    nearest_along=((np.dtype(np.uint8), *_SQUARES), _SQUARES),
    roots=(_SQUARES, FLOATS),
)


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
    longest = sum((n - 1) ** 2 for n in image.shape[apart:])
    exact = all(size == 1 for size in sizes) and longest < 2**30
    kind = np.dtype(np.int32 if exact else np.float64)
    mask = image if image.dtype == np.bool_ else image != 0
    squares = _squares(device, mask.view(np.uint8), sizes, kind, apart)
    written = _arrays.scratch(device, far)
    args = squares, np.int64(image.size), wanted.type(np.inf), written
    launch = device.kernel(SOURCE, "roots", kind, wanted)
    run(launch, few_blocks(image.size), (BLOCK,), *args)
    _arrays.finish(far, written)
    return far if distances is None else None


def _squares(device: Device, mask: Any, sizes: Any, kind: np.dtype[Any], apart: int) -> Any:
    """Squares of the distances, passes going to and fro between two arrays."""
    shape, source = mask.shape, mask
    spare = [device.xp.empty(shape, kind) for _ in range(min(mask.ndim, 2))]
    for axis in reversed(range(apart, mask.ndim)):
        target = spare[axis % len(spare)]
        if axis < mask.ndim - 1:
            before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
            planes, rows, columns, down = before, shape[axis], after, 1
        else:
            planes, rows, columns, down = 1, math.prod(shape[:-1]), shape[-1], 0
        launch = device.kernel(SOURCE, "nearest_along", source.dtype, kind)
        args = source, target, np.int32(rows), np.int32(columns), np.int32(down)
        size = kind.type(sizes[axis - apart])
        run(launch, tiles(planes, rows, columns), (BLOCK,), *args, size)
        source = target
    return source
