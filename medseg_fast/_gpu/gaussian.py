"""Launches of `gaussian`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg_fast import _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run
from medseg_fast.gaussian import _reach, _spatial, _taps
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("smooth.cuh", smooth_axis=(_filters.LOADED, FLOATS, FLOATS))


def gaussian(
    device: Device,
    image: Any,
    sigma: Any = 1.0,
    *,
    mode: Any = "nearest",
    cval: float = 0,
    preserve_range: bool = False,
    truncate: float = 4.0,
    channel_axis: int | None = None,
    spacing: Any = None,
    dtype: Any = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "gaussian"
    array = _filters.image(device, op, image)
    if apart:
        if channel_axis is not None:
            raise NotImplementedError(f"{op}: no GPU kernel for batches with a channel_axis")
        channel_axis = 0
    sigmas = _spatial(op, array, sigma, spacing, channel_axis)
    modes = [0] * apart + _stencil.modes(op, mode, array.ndim - apart)
    fill = _stencil.cval(op, cval)
    result = _filters.output(device, op, array, dtype, out)
    radii = _reach(op, sigmas, truncate)
    taps = [_taps(s, r)[0] for s, r in zip(sigmas, radii, strict=True)]
    written = _filters.scratch(device, array, result)
    smooth(device, array, taps, modes, fill, preserve_range, written)
    return _arrays.finish(result, written)


def smooth(
    device: Device,
    image: Any,
    taps: Sequence[Sequence[float]],
    modes: Sequence[int],
    fill: float,
    preserve_range: bool,
    out: Any,
) -> None:
    """Filter axis after axis by the weights of distance 0, 1, ... along each.

    The passes go to and fro between `out` and one array like it, and end in `out`.
    """
    axes = [axis for axis in range(image.ndim) if len(taps[axis]) > 1] or [image.ndim - 1]
    source = _filters.loaded(image, out.dtype)
    scaling = _filters.scaling(image.dtype, preserve_range)
    other = device.xp.empty_like(out) if len(axes) > 1 else out
    for turn, axis in enumerate(axes):
        target = out if (len(axes) - turn) % 2 else other
        along(device, source, axis, taps[axis], modes[axis], fill, scaling, out.dtype, target)
        source, scaling = target, (1.0, -math.inf)


def along(
    device: Device,
    source: Any,
    axis: int,
    taps: Sequence[float],
    mode: int,
    fill: float,
    scaling: tuple[float, float],
    dtype: Any,
    target: Any,
) -> None:
    """Filter along one axis, in arithmetic of `dtype`."""
    shape, real = source.shape, np.dtype(dtype).type
    down = axis < source.ndim - 1
    if down:
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        planes, rows, columns = before, shape[axis], after
    else:
        planes, rows, columns = 1, math.prod(shape[:-1]), shape[-1]
    weights = device.constant(np.array(taps, dtype))
    launch = device.kernel(SOURCE, "smooth_axis", source.dtype, dtype, target.dtype)
    args = [source, target, np.int32(rows), np.int32(columns), np.int32(down)]
    args += [weights, np.int32(len(taps) - 1), *map(real, scaling), np.int32(mode), real(fill)]
    high, wide = (64, 32) if down else (8, 256)  # of a block
    grid = (planes * ceil_div(rows, high) * ceil_div(columns, wide),)
    run(launch, grid, (BLOCK,), *args)
