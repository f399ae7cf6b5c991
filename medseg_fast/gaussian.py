"""Gaussian filters and Gaussian derivatives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

Taps = tuple[list[float], bool]

_NOTHING = 1e-15  # SciPy's limit: an axis of this sigma or less is left alone, derivative and all


def _taps(sigma: float, radius: int, order: int = 0, spacing: float = 1.0) -> Taps:
    """Weights of distance 0, 1, ... of the sampled Gaussian or its derivative, and whether odd.

    `sigma` in voxels; a derivative is per mm.
    """
    if sigma <= _NOTHING:
        return [1.0], False
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * x**2)
    weights /= weights.sum()
    variance = sigma * sigma
    if order == 1:
        weights *= x * (1 / variance)
    elif order == 2:
        weights *= -1 / variance + x**2 * (-1 / variance * (-1 / variance))
    if order:
        weights /= spacing**order
    return weights[radius:].tolist(), order == 1


def _per_axis(op: str, name: str, value: Any, count: int) -> list[float]:
    """One number, or one for each of `count` axes; finite and not negative."""
    several = not isinstance(value, str) and np.ndim(value) > 0
    values = list(value) if several else [value] * count
    if len(values) != count:
        raise ValueError(f"{op}: {name} must have one entry per axis ({count}), got {value!r}")
    numbers = [float(_checks.number(op, name, v)) for v in values]
    if not all(0 <= n < math.inf for n in numbers):
        raise ValueError(f"{op}: {name} must be finite and not negative, got {value!r}")
    return numbers


def _reach(op: str, sigmas: list[float], truncate: Any, radius: Any = None) -> list[int]:
    """Radius of the kernel along each axis."""
    if radius is None:
        limit = float(_checks.number(op, "truncate", truncate))
        if not 0 <= limit < math.inf:
            raise ValueError(f"{op}: truncate must be finite and not negative, got {truncate!r}")
        return [int(limit * s + 0.5) for s in sigmas]
    values = list(radius) if isinstance(radius, Iterable) else [radius] * len(sigmas)
    if len(values) != len(sigmas):
        raise ValueError(
            f"{op}: radius must have one entry per axis ({len(sigmas)}), got {radius!r}"
        )
    return [_checks.integer(op, "radius", r, 0) for r in values]


def _spatial(
    op: str, image: NDArray[Any], sigma: Any, spacing: Any, channel_axis: Any
) -> list[float]:
    """Standard deviations in voxels, 0 along the channels."""
    channels = None
    if channel_axis is not None:
        channels = _checks.integer(op, "channel_axis", channel_axis, -image.ndim, image.ndim - 1)
        channels %= image.ndim
    count = image.ndim - (channels is not None)
    whole = channels is not None and np.ndim(sigma) > 0 and len(sigma) == image.ndim
    sigmas = _per_axis(op, "sigma", sigma, image.ndim if whole else count)
    sizes = list(_checks.spacing(op, spacing, count))
    if channels is not None:
        sizes.insert(channels, 1.0)
        if not whole:
            sigmas.insert(channels, 0.0)
    return [s / size for s, size in zip(sigmas, sizes, strict=True)]


def _two_sigmas(
    op: str, image: Any, low: Any, high: Any, spacing: Any, channel_axis: Any
) -> tuple[list[float], list[float]]:
    """`_spatial` of the two that `difference_of_gaussians` takes, without one of the channels."""
    for name, value in (("low_sigma", low), ("high_sigma", high)):
        if channel_axis is not None and np.ndim(value) and len(value) == image.ndim:
            raise ValueError(f"{op}: {name} must be of the axes without channels, got {value!r}")
    less = _spatial(op, image, low, spacing, channel_axis)
    more = [s * 1.6 for s in less]
    if high is not None:
        more = _spatial(op, image, high, spacing, channel_axis)
    if any(h < s for h, s in zip(more, less, strict=True)):
        raise ValueError(
            f"{op}: high_sigma must not be less than low_sigma, got {high!r} < {low!r}"
        )
    return less, more


def _smooth(
    op: str,
    image: NDArray[Any],
    scale: float,
    sigmas: list[float],
    modes: list[int],
    cval: float,
    truncate: Any,
    out: NDArray[Any],
) -> None:
    smooth = [_taps(s, r) for s, r in zip(sigmas, _reach(op, sigmas, truncate), strict=True)]
    core.separable_filter(image, scale, smooth, [], [], False, 1.0, modes, cval, False, out)


@operation(result=_stencil.filtered_like, gpu="gaussian")
@_stencil.shared_text
def gaussian(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1.0,
    *,
    mode: str | Sequence[str] = "nearest",
    cval: float = 0,
    preserve_range: bool = False,
    truncate: float = 4.0,
    channel_axis: int | None = None,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Smooth by a Gaussian, cut off at `truncate` standard deviations.

    The result is that of ``skimage.filters.gaussian``.

    Parameters
    ----------
    {image}
    sigma : float or sequence of float, optional
        Standard deviation in voxels, with `spacing` in mm; for all axes or one for each. Axes of
        sigma 0 are not filtered.
    {mode}
    preserve_range : bool, optional
        Keep the values of integers instead of dividing them.
    truncate : float, optional
        Radius of the kernel in standard deviations, rounded to whole voxels.
    channel_axis : int, optional
        Axis of channels, which are filtered each by itself; `sigma` and `spacing` leave it out.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    {out}

    Returns
    -------
    filtered_image : ndarray of float32 or float64
        Same shape as `image`.

    Raises
    ------
    {raises}

    Notes
    -----
    In float64 the peer's bit for bit. In float32 the peer adds in float64 and rounds after each
    axis, ours adds in float32: they differ by at most ``ndim * (radius + 4) * eps *
    max(abs(image))``, typically by 2 eps.

    {nan}
    {filter_cost}

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.gaussian([0.0, 0, 1, 0, 0], sigma=0.5).round(3).tolist()
    [0.0, 0.106, 0.787, 0.106, 0.0]
    """
    op = "gaussian"
    array = _stencil.image(op, image)
    sigmas = _spatial(op, array, sigma, spacing, channel_axis)
    border = _stencil.modes(op, mode, array.ndim)
    fill = _stencil.cval(op, cval)
    result = _stencil.output(op, array, dtype, out)
    written = _checks.scratch(result, array)
    scale = 1.0 if preserve_range else _stencil.scale(array.dtype)
    _smooth(op, array, scale, sigmas, border, fill, truncate, written)
    return _stencil.finish(result, written)


@operation(result=_stencil.filtered_like, gpu="gaussian")
@_stencil.shared_text
def difference_of_gaussians(
    image: ArrayLike,
    low_sigma: float | Sequence[float],
    high_sigma: float | Sequence[float] | None = None,
    *,
    mode: str | Sequence[str] = "nearest",
    cval: float = 0,
    channel_axis: int | None = None,
    truncate: float = 4.0,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Band-pass filter: the image smoothed a little minus the image smoothed more.

    The result is that of ``skimage.filters.difference_of_gaussians``.

    Parameters
    ----------
    {image}
    low_sigma, high_sigma : float or sequence of float
        Standard deviations in voxels, with `spacing` in mm; for all axes or one for each. The
        second is 1.6 times the first by default, and never less.
    {mode}
    channel_axis : int, optional
        Axis of channels, which are filtered each by itself; sigmas and `spacing` leave it out.
    truncate : float, optional
        Radius of the kernels in standard deviations, rounded to whole voxels.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    {out}

    Returns
    -------
    filtered_image : ndarray of float32 or float64
        Same shape as `image`.

    Raises
    ------
    {raises}

    Notes
    -----
    What `gaussian` says of rounding holds for both filters.

    {nan}
    {filter_cost} One array of the result's size is needed beside the result.

    References
    ----------
    .. [1] D. Marr, E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society of
       London B 207, 1980.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.difference_of_gaussians([0.0, 0, 1, 0, 0], 0.5).round(2).tolist()
    [-0.02, -0.12, 0.29, -0.12, -0.02]
    """
    op = "difference_of_gaussians"
    array = _stencil.image(op, image)
    low, high = _two_sigmas(op, array, low_sigma, high_sigma, spacing, channel_axis)
    border = _stencil.modes(op, mode, array.ndim)
    fill = _stencil.cval(op, cval)
    result = _stencil.output(op, array, dtype, out)
    written = _checks.scratch(result, array)
    more = np.empty_like(written)
    scale = _stencil.scale(array.dtype)
    _smooth(op, array, scale, low, border, fill, truncate, written)
    _smooth(op, array, scale, high, border, fill, truncate, more)
    written -= more
    return _stencil.finish(result, written)


class _Terms(NamedTuple):
    """Derivatives along `axes`: kernels of all axes that smooth and that derive, and borders."""

    axes: list[int]
    smooth: list[Taps]
    derive: list[Taps]
    border: list[int]


def _terms(
    op: str,
    ndim: int,
    order: int,
    sigma: Any,
    mode: Any,
    axes: Any,
    truncate: Any,
    radius: Any,
    spacing: Any,
) -> _Terms:
    terms = _stencil.axes(op, axes, ndim, "axes")
    sizes = _checks.spacing(op, spacing, ndim)
    border = [_stencil.MODES["nearest"]] * ndim
    if isinstance(mode, str):
        border = _stencil.modes(op, mode, ndim)
    else:
        for axis, name in zip(terms, _stencil.modes(op, mode, len(terms)), strict=True):
            border[axis] = name
    if order == 2 and len(terms) < ndim:  # SciPy: other axes are not smoothed
        sigmas = [0.0] * ndim
        for axis, s in zip(terms, _per_axis(op, "sigma", sigma, len(terms)), strict=True):
            sigmas[axis] = s
    else:
        sigmas = _per_axis(op, "sigma", sigma, ndim)
    sigmas = [s / size for s, size in zip(sigmas, sizes, strict=True)]
    reach = _reach(op, sigmas, truncate, radius)
    smooth = [_taps(s, r) for s, r in zip(sigmas, reach, strict=True)]
    derive = [_taps(s, r, order, size) for s, r, size in zip(sigmas, reach, sizes, strict=True)]
    return _Terms(terms, smooth, derive, border)


def _result(op: str, output: Any, dtype: Any, out: Any, array: type[Any]) -> tuple[Any, Any]:
    """The dtype and array that the result is to have: SciPy's `output` is either."""
    if output is None:
        return dtype, out
    if dtype is not None or out is not None:
        raise ValueError(f"{op}: output must not be given together with dtype or out")
    return (None, output) if isinstance(output, array) else (output, None)


def _derivatives(
    op: str,
    order: int,
    input: Any,
    sigma: Any,
    output: Any,
    mode: Any,
    cval: Any,
    axes: Any,
    truncate: Any,
    radius: Any,
    spacing: Any,
    dtype: Any,
    out: Any,
) -> NDArray[Any]:
    """Magnitude of the first, or sum of the second derivatives along `axes`."""
    array = _stencil.image(op, input, "input")
    dtype, out = _result(op, output, dtype, out, np.ndarray)
    terms = _terms(op, array.ndim, order, sigma, mode, axes, truncate, radius, spacing)
    fill = _stencil.cval(op, cval)
    result = _stencil.output(op, array, dtype, out)
    if not terms.axes:
        result[...] = array
        return result
    written = _checks.scratch(result, array)
    core.separable_filter(
        array,
        1.0,
        terms.smooth,
        terms.derive,
        terms.axes,
        order == 1,
        1.0,
        terms.border,
        fill,
        False,
        written,
    )
    return _stencil.finish(result, written)


@operation(result=_stencil.filtered_like, eager=("out", "output"), gpu="gaussian")
@_stencil.shared_text
def gaussian_gradient_magnitude(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: NDArray[Any] | DTypeLike | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Length of the gradient of the image smoothed by a Gaussian.

    The result is that of ``scipy.ndimage.gaussian_gradient_magnitude``, for integers with
    ``output=float`` (without it SciPy rounds and wraps to the input's dtype at each step).

    Parameters
    ----------
    {input}
    axes : int or sequence of int, optional
        Axes of the derivatives, all by default. All axes are smoothed.
    {derivative}

    Returns
    -------
    magnitude : ndarray of float32 or float64
        ``sqrt(sum of squares)`` of the derivatives, per voxel or, with `spacing`, per mm.

    Raises
    ------
    {raises}

    Notes
    -----
    {derivative_notes}
    {filter_cost}

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.gaussian_gradient_magnitude([0.0] * 9 + [1.0] * 9, 1).round(2).tolist()[6:12]
    [0.01, 0.12, 0.36, 0.36, 0.12, 0.01]
    """
    return _derivatives(
        "gaussian_gradient_magnitude",
        1,
        *(input, sigma, output, mode, cval, axes, truncate, radius, spacing, dtype, out),
    )


@operation(result=_stencil.filtered_like, eager=("out", "output"), gpu="gaussian")
@_stencil.shared_text
def gaussian_laplace(
    input: ArrayLike,
    sigma: float | Sequence[float],
    output: NDArray[Any] | DTypeLike | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    *,
    axes: int | Sequence[int] | None = None,
    truncate: float = 4.0,
    radius: int | Sequence[int] | None = None,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Laplacian of the image smoothed by a Gaussian; negative inside bright objects.

    The result is that of ``scipy.ndimage.gaussian_laplace``, for integers with ``output=float``
    (without it SciPy rounds and wraps to the input's dtype at each step).

    Parameters
    ----------
    {input}
    axes : int or sequence of int, optional
        Axes of the derivatives and of the smoothing, all by default. If not all, `sigma` has one
        number for each, in their order.
    {derivative}

    Returns
    -------
    laplacian : ndarray of float32 or float64
        Sum of the second derivatives, per square voxel or, with `spacing`, per mm².

    Raises
    ------
    {raises}

    Notes
    -----
    {derivative_notes}
    {filter_cost}

    References
    ----------
    .. [1] D. Marr, E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society of
       London B 207, 1980.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> edge = ms.gaussian_laplace([0.0] * 9 + [1.0] * 9, 1)
    >>> ms.zero_crossings(edge, 0.1).nonzero()[0].tolist()
    [8]
    """
    return _derivatives(
        "gaussian_laplace",
        2,
        *(input, sigma, output, mode, cval, axes, truncate, radius, spacing, dtype, out),
    )
