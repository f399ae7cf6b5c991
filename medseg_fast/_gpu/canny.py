"""Launches of `canny`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from medseg_fast import _canny, _checks, _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run
from medseg_fast._gpu.gaussian import along
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("canny.cuh", canny_maxima=(FLOATS,), canny_opencv_maxima=())


def canny(
    device: Device,
    image: Any,
    sigma: Any = 1.0,
    low_threshold: Any = None,
    high_threshold: Any = None,
    mask: Any = None,
    use_quantiles: bool = False,
    *,
    mode: Any = "constant",
    cval: float = 0.0,
    spacing: Any = None,
    convention: str | None = None,
    l2_gradient: bool = False,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "canny"
    array = _filters.image(device, op, image)
    by = _canny.convention_of(op, convention, array.ndim - apart)
    if by == "itk" or use_quantiles:
        what = "quantiles" if use_quantiles else 'convention="itk"'
        raise NotImplementedError(f"{op}: no GPU kernel for {what}")
    inside = _filters.mask(device, op, mask, array)
    edges = _arrays.output(device, op, out, array.shape, np.bool_)
    weak, strong = (device.xp.empty(array.shape, np.uint8) for _ in range(2))
    if by == "opencv":
        _canny.opencv_refuses(
            op,
            array.dtype,
            sigma=(sigma, (0, 1.0)),
            mask=(mask, (None,)),
            spacing=(spacing, (None,)),
        )
        levels = _canny.opencv_thresholds(op, low_threshold, high_threshold)
        _by_opencv(device, array, *levels, l2_gradient, weak, strong)
    else:
        limit = _canny.skimage_unit(op, array.dtype)
        levels = _canny.thresholds(op, low_threshold, high_threshold, 1, False, limit)
        _by_skimage(device, op, array, sigma, levels, inside, mode, cval, spacing, weak, strong)
    if array.size == 0 or (by == "skimage" and min(array.shape[apart:]) < 3):
        edges[...] = False
        return edges
    written = _arrays.scratch(device, edges)
    sets = Components(device, op, weak, 0, 2, apart)
    sets.holding_any(strong, written.view(np.uint8))
    return _arrays.finish(edges, written)


def _by_skimage(
    device: Device,
    op: str,
    array: Any,
    sigma: Any,
    levels: tuple[Any, Any],
    inside: Any,
    mode: Any,
    cval: Any,
    spacing: Any,
    weak: Any,
    strong: Any,
) -> None:
    xp = device.xp
    real = _stencil.float_type(array.dtype)
    sizes = _checks.spacing(op, spacing, 2)
    border, fill = _canny.one_mode(op, mode), _stencil.cval(op, cval)
    taps = _canny.smoothing(op, sigma, sizes)
    low, high = (_at_least(v, real) for v in _canny.compared(real, *levels))
    if min(array.shape[-2:]) < 3:
        return

    def smoothed(source: Any, scaling: tuple[float, float]) -> Any:
        """Sums in float64, rounded after each axis, as in SciPy."""
        for axis in (0, 1):
            target, place = xp.empty(source.shape, real), source.ndim - 2 + axis
            even = taps[axis], False
            along(device, source, place, even, border, fill, scaling, np.float64, target)
            source, scaling = target, (1.0, -math.inf)
        return source

    source = _filters.loaded(array, np.float64)
    if inside is not None:
        source = xp.where(inside != 0, source, source.dtype.type(0))
    smooth = smoothed(source, _filters.scaling(array.dtype))
    extent = array.shape[-2:]
    share, plane = xp.empty(0, real), 0  # a null pointer
    margins: tuple[int, ...] = (0, 0)
    if inside is not None:
        share, plane = smoothed((inside != 0).view(np.uint8), (1.0, -math.inf)), math.prod(extent)
    elif border == _stencil.MODES["constant"]:
        margins = tuple(len(t) - 1 for t in taps)
        small = [min(n, 2 * margin + 1) for n, margin in zip(extent, margins, strict=True)]
        share = smoothed(xp.ones(small, np.uint8), (1.0, -math.inf))
    epsilon = real.type(np.finfo(real).eps)
    least = low if low > 0 or np.isnan(low) else real.type(np.finfo(real).smallest_subnormal)
    masked = xp.empty(0, np.uint8) if inside is None else inside
    steps = [real.type(1 / size) for size in sizes]
    sizes_of_share = (*share.shape[-2:], *margins) if share.size else (0, 0, 0, 0)
    args = [smooth, share, *map(np.int32, sizes_of_share), np.int64(plane), epsilon, masked]
    args += [*map(np.int32, extent), *steps, least, high, weak, strong]
    launch = device.kernel(SOURCE, "canny_maxima", real)
    run(launch, _squares(array), (BLOCK,), *args)


def _at_least(value: float, dtype: np.dtype[Any]) -> Any:
    """The least number of the dtype that is at least `value`."""
    with np.errstate(over="ignore"):
        near = np.array(value).astype(dtype)[()]
    return np.nextafter(near, dtype.type(np.inf)) if float(near) < value else near


def _by_opencv(
    device: Device, array: Any, low: float, high: float, squares: bool, weak: Any, strong: Any
) -> None:
    def limit(threshold: float) -> Any:
        if squares:
            threshold = min(32767.0, threshold)
            threshold = threshold * threshold if threshold > 0 else threshold
        return np.int32(min(max(math.floor(max(min(threshold, 2e9), -1.0)), -1), 2_000_000_000))

    extent = [np.int32(n) for n in array.shape[-2:]]
    args = [array, *extent, np.int32(squares), limit(low), limit(high), weak, strong]
    launch = device.kernel(SOURCE, "canny_opencv_maxima")
    run(launch, _squares(array), (BLOCK,), *args)


def _squares(array: Any) -> tuple[int]:
    """The grid of kernels whose blocks have 32 by 32 pixels."""
    return (math.prod((*array.shape[:-2], *(ceil_div(n, 32) for n in array.shape[-2:]))),)
