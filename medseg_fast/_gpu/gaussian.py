"""Launches of `gaussian`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg_fast import _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._device import BLOCK, Device, few_blocks, run
from medseg_fast.gaussian import _reach, _spatial, _taps
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("smooth.cuh", smooth_axis=(_filters.LOADED, FLOATS))


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
) -> Any:
    op = "gaussian"
    array = _filters.image(device, op, image)
    sigmas = _spatial(op, array, sigma, spacing, channel_axis)
    modes = _stencil.modes(op, mode, array.ndim)
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
    real = out.dtype.type
    axes = [axis for axis in range(image.ndim) if len(taps[axis]) > 1] or [image.ndim - 1]
    source = _filters.loaded(image, out.dtype)
    scale, least = _filters.scaling(image.dtype, preserve_range)
    other = device.xp.empty_like(out) if len(axes) > 1 else out
    for turn, axis in enumerate(axes):
        target = out if (len(axes) - turn) % 2 else other
        weights = device.xp.asarray(np.array(taps[axis], out.dtype))
        stride = math.prod(image.shape[axis + 1 :])
        launch = device.kernel(SOURCE, "smooth_axis", source.dtype, out.dtype)
        line = np.int64(image.size), np.int32(image.shape[axis]), np.int64(stride)
        kernel = weights, np.int32(len(taps[axis]) - 1)
        border = np.int32(modes[axis]), real(fill)
        args = source, target, *line, *kernel, real(scale), real(least), *border
        run(launch, few_blocks(image.size), (BLOCK,), *args)
        source, scale, least = target, 1.0, -math.inf
