"""Launches of `gaussian`, of its differences and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medseg_fast import _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run
from medseg_fast.gaussian import Taps, _reach, _result, _spatial, _taps, _terms, _two_sigmas
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("smooth.cuh", smooth_axis=(_filters.LOADED, FLOATS, FLOATS), differ_axis=(FLOATS,))
_ALONE: Taps = [1.0], False  # along an axis that is not filtered


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
    channel_axis = _channels(op, channel_axis, apart)
    sigmas = _spatial(op, array, sigma, spacing, channel_axis)
    modes = [0] * apart + _stencil.modes(op, mode, array.ndim - apart)
    fill = _stencil.cval(op, cval)
    result = _filters.output(device, op, array, dtype, out)
    taps = _kernels(op, sigmas, truncate)
    written = _filters.scratch(device, array, result)
    smooth(device, array, taps, modes, fill, preserve_range, written)
    return _arrays.finish(result, written)


def _channels(op: str, axis: int | None, apart: int) -> int | None:
    """The axis that is not filtered: of channels, or of a batch's images."""
    if apart and axis is not None:
        raise NotImplementedError(f"{op}: no GPU kernel for batches with a channel_axis")
    return 0 if apart else axis


def _kernels(op: str, sigmas: list[float], truncate: Any) -> list[Taps]:
    return [_taps(s, r) for s, r in zip(sigmas, _reach(op, sigmas, truncate), strict=True)]


def difference_of_gaussians(
    device: Device,
    image: Any,
    low_sigma: Any,
    high_sigma: Any = None,
    *,
    mode: Any = "nearest",
    cval: float = 0,
    channel_axis: int | None = None,
    truncate: float = 4.0,
    spacing: Any = None,
    dtype: Any = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "difference_of_gaussians"
    array = _filters.image(device, op, image)
    channel_axis = _channels(op, channel_axis, apart)
    both = _two_sigmas(op, array, low_sigma, high_sigma, spacing, channel_axis)
    modes = [0] * apart + _stencil.modes(op, mode, array.ndim - apart)
    fill = _stencil.cval(op, cval)
    result = _filters.output(device, op, array, dtype, out)
    written = _filters.scratch(device, array, result)
    more = device.xp.empty_like(written)
    for sigmas, target in zip(both, (written, more), strict=True):
        smooth(device, array, _kernels(op, sigmas, truncate), modes, fill, False, target)
    written -= more
    return _arrays.finish(result, written)


def _derivatives(op: str, order: int) -> Callable[..., Any]:
    def launch(
        device: Device,
        input: Any,
        sigma: Any,
        output: Any = None,
        mode: Any = "reflect",
        cval: float = 0.0,
        *,
        axes: Any = None,
        truncate: float = 4.0,
        radius: Any = None,
        spacing: Any = None,
        dtype: Any = None,
        out: Any = None,
        apart: int = 0,
    ) -> Any:
        xp = device.xp
        array = _filters.image(device, op, input)
        dtype, out = _result(op, output, dtype, out, device.array)
        rank = array.ndim - apart
        terms = _terms(op, rank, order, sigma, mode, axes, truncate, radius, spacing)
        fill = _stencil.cval(op, cval)
        result = _filters.output(device, op, array, dtype, out)
        if not terms.axes:
            result[...] = array
            return result
        written = _filters.scratch(device, array, result)
        source = _arrays.pixels(array).astype(result.dtype, copy=False)
        part = xp.empty_like(written) if len(terms.axes) > 1 else written
        for axis in terms.axes:
            taps = [_ALONE] * apart + [*terms.smooth]
            taps[apart + axis] = terms.derive[axis]
            target = written if axis == terms.axes[0] else part
            smooth(device, source, taps, [0] * apart + terms.border, fill, True, target)
            if order == 1:
                xp.multiply(target, target, out=target)
            if target is not written:
                written += target
        if order == 1:
            xp.sqrt(written, out=written)
        return _arrays.finish(result, written)

    return launch


gaussian_gradient_magnitude = _derivatives("gaussian_gradient_magnitude", 1)
gaussian_laplace = _derivatives("gaussian_laplace", 2)


def smooth(
    device: Device,
    image: Any,
    taps: Sequence[Taps],
    modes: Sequence[int],
    fill: float,
    preserve_range: bool,
    out: Any,
) -> None:
    """Filter axis after axis by the kernel of each.

    The passes go to and fro between `out` and one array like it, and end in `out`.
    """
    axes = [axis for axis in range(image.ndim) if taps[axis] != _ALONE] or [image.ndim - 1]
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
    taps: Taps,
    mode: int,
    fill: float,
    scaling: tuple[float, float],
    dtype: Any,
    target: Any,
) -> None:
    """Filter along one axis, in arithmetic of `dtype`; by an odd kernel all are of that dtype."""
    shape, real = source.shape, np.dtype(dtype).type
    down = axis < source.ndim - 1
    if down:
        before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
        planes, rows, columns = before, shape[axis], after
    else:
        planes, rows, columns = 1, math.prod(shape[:-1]), shape[-1]
    values, odd = taps
    weights = device.constant(np.array(values, dtype))
    if odd:
        launch = device.kernel(SOURCE, "differ_axis", dtype)
    else:
        launch = device.kernel(SOURCE, "smooth_axis", source.dtype, dtype, target.dtype)
    args = [source, target, np.int32(rows), np.int32(columns), np.int32(down)]
    args += [weights, np.int32(len(values) - 1), *map(real, scaling), np.int32(mode), real(fill)]
    high, wide = (64, 32) if down else (8, 256)  # of a block
    grid = (planes * ceil_div(rows, high) * ceil_div(columns, wide),)
    run(launch, grid, (BLOCK,), *args)
