"""Local thresholds: every pixel is compared with its own neighbourhood."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast._stencil import MODES

# In the order of the kernels' Border; SciPy's second names for the same borders follow.


def _threshold_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """scikit-image's rule: float32 for float16 and float32 images, else float64."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def _local_like(
    image: Any, *args: Any, binary: bool = False, **kwargs: Any
) -> tuple[tuple[int, ...], Any]:
    return tuple(image.shape), np.bool_ if binary else _threshold_dtype(np.dtype(image.dtype))


def _window(op: str, name: str, size: Any, ndim: int) -> list[int]:
    """One odd size per axis."""
    sizes = [size] * ndim if np.ndim(size) == 0 else list(size)
    if len(sizes) != ndim:
        raise ValueError(f"{op}: len({name}) must equal image.ndim ({ndim}), got {size!r}")
    sizes = [_checks.integer(op, name, b, 1) for b in sizes]
    if any(b % 2 == 0 for b in sizes):
        raise ValueError(f"{op}: {name} must be odd, got {size!r}")
    return sizes


def _result(op: str, image: NDArray[Any], binary: bool, out: Any) -> NDArray[Any]:
    dtype = np.dtype(np.bool_) if binary else _threshold_dtype(image.dtype)
    return _checks.output(op, out, image.shape, dtype)


@operation(result=_local_like)
def threshold_local(
    image: ArrayLike,
    block_size: int | Sequence[int] = 3,
    method: Literal["generic", "gaussian", "mean", "median"] = "gaussian",
    offset: float = 0,
    mode: str = "reflect",
    param: float | Sequence[float] | Callable[[NDArray[np.float64]], float] | None = None,
    cval: float = 0,
    *,
    binary: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Threshold of every pixel from its neighbourhood, or at once the pixels above it.

    Parameters
    ----------
    image : array_like
        Any number of axes; bool, integer or float.
    block_size : int or sequence of int, optional
        Odd size of the neighbourhood in pixels, for all axes or for each. It may exceed the image.
    method : {"gaussian", "mean", "median", "generic"}, optional
        What of the neighbourhood is the threshold: the mean weighted by a Gaussian, the mean, the
        median, or what the function `param` returns.
    offset : float, optional
        Subtracted from it, in the image's units.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap"}, optional
        How the image goes on beyond its border, in SciPy's names: ``d c b a | a b c d | d c b a``,
        `cval`, the edge pixel, ``d c b | a b c d | c b a``, periodic.
    param : float, sequence of float or callable, optional
        With "gaussian" the standard deviation in pixels (for all axes or for each) instead of
        ``(block_size - 1) / 6``. With "generic" a function that takes the pixels of a
        neighbourhood as a 1D float64 array, in raster order, and returns the threshold.
    cval : float, optional
        Value beyond the border when `mode` is "constant".
    binary : bool, optional
        Return the mask ``image > threshold`` instead of the thresholds. They are then never
        written: the mask takes one byte per pixel, the thresholds eight.
    out : ndarray, optional
        Array of the image's shape and the result's dtype that receives the result.

    Returns
    -------
    threshold : ndarray of float64 or float32
        Threshold of each pixel; float32 for float16 and float32 images. With ``binary=True`` a
        bool mask, equal to ``image > threshold_local(image, ...)`` pixel by pixel.

    Raises
    ------
    TypeError
        If a dtype is not supported, an argument is of the wrong kind, or `param` is not callable
        with the method "generic".
    ValueError
        If a block size is even or not positive or their number is not that of the axes, if
        `method` or `mode` is unknown, if the standard deviation is negative or not finite, or if
        `out` does not fit.

    Notes
    -----
    Results are scikit-image's, with these remarks:

    - "mean" of integers is the exact sum of the block, divided once: a pixel equal to its local
      mean is never above it, whereas the peer divides and rounds after each axis. Of floats: the
      sum of the block in float64, each of its n values rounded at most ``sum(block_size)`` times.
    - "gaussian" equals the peer bit for bit: the same kernel, truncated at 4 standard deviations,
      the axes in the same order and the same order of additions.
    - "median" is exact for every dtype.
    - NaN makes the thresholds of the blocks that hold it NaN, and only those (the peer's running
      sums carry it on along the axis); infinity likewise spreads in its blocks alone. No pixel is
      above a NaN threshold. Empty images give empty results.
    - 64-bit integers are compared as float64 with their thresholds, as in NumPy.

    Time per pixel: "mean" O(1) per axis; "median" O(1) in 2D for 8 bits, nearly so for other
    dtypes; "gaussian" O(block_size) per axis; "generic" one call of `param` each. Extra memory is
    scratch of at most a few MB per thread (for "gaussian" and "mean" of more than two axes: a few
    slices of the image), nothing of the image's size.

    References
    ----------
    .. [1] S. Perreault, P. Hebert, "Median filtering in constant time", IEEE Transactions on Image
       Processing 16(9), 2007, for "median". The others: see csrc/local_mean.cpp and
       csrc/separable.cpp.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.threshold_local([[1, 1, 1], [1, 9, 1], [1, 1, 1]], 3, "mean", binary=True).astype(int)
    array([[0, 0, 0],
           [0, 1, 0],
           [0, 0, 0]])
    """
    op = "threshold_local"
    array = _checks.image(op, image)
    sizes = _window(op, "block_size", block_size, array.ndim)
    if method not in ("generic", "gaussian", "mean", "median"):
        raise ValueError(
            f"{op}: method must be 'generic', 'gaussian', 'mean' or 'median', got {method!r}"
        )
    if not isinstance(mode, str) or mode not in MODES:
        raise ValueError(f"{op}: mode must be one of {', '.join(MODES)}, got {mode!r}")
    shift = float(_checks.number(op, "offset", offset))
    fill = float(_as_number(op, "cval", cval))
    result = _result(op, array, binary, out)
    written = _checks.scratch(result, array)
    border = MODES[mode]
    if method == "generic":
        if not callable(param):
            raise TypeError(f"{op}: param must be callable for method 'generic', got {param!r}")
        _finish(array, _generic(array, sizes, param, border, fill), shift, written)
    elif method == "gaussian":
        weights = [_gaussian_weights(s) for s in _sigmas(op, param, sizes)]
        core.local_gaussian(array, weights, border, fill, shift, written)
    else:
        kernel = core.local_mean if method == "mean" else core.local_median
        kernel(array, sizes, border, fill, shift, written)
    return _checks.finish(result, written)


def _as_number(op: str, name: str, value: Any) -> float:
    """A number that may be NaN: a border of NaN is a way to say unknown."""
    if isinstance(value, (float, np.floating)) and math.isnan(value):
        return math.nan
    return float(_checks.number(op, name, value))


def _sigmas(op: str, param: Any, sizes: list[int]) -> list[float]:
    """Standard deviation per axis, in pixels."""
    if param is None:
        return [(b - 1) / 6.0 for b in sizes]
    values = list(param) if isinstance(param, Iterable) else [param] * len(sizes)
    if len(values) != len(sizes):
        raise ValueError(f"{op}: param must have one sigma per axis ({len(sizes)}), got {param!r}")
    sigmas = [float(_checks.number(op, "param", v)) for v in values]
    if not all(0 <= s < math.inf for s in sigmas):
        raise ValueError(f"{op}: param (sigma) must be finite and not negative, got {param!r}")
    return sigmas


def _gaussian_weights(sigma: float, truncate: float = 4.0) -> NDArray[np.float64]:
    """Half of the sampled Gaussian, centre first: 1 + radius weights of a kernel whose sum is 1."""
    if sigma <= 1e-15:
        return np.ones(1)
    radius = int(truncate * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 / (sigma * sigma) * x**2)
    return np.ascontiguousarray((weights / weights.sum())[radius:])


def _generic(
    image: NDArray[Any],
    sizes: list[int],
    function: Callable[[NDArray[np.float64]], float],
    border: int,
    cval: float,
) -> NDArray[Any]:
    """`function` of every window, called in raster order, in the dtype of thresholds."""
    level = np.empty(image.shape, _threshold_dtype(image.dtype))
    flat = level.reshape(-1)
    for position, window in enumerate(_windows(image, sizes, border, cval)):
        flat[position] = function(window)
    return level


def _windows(
    image: NDArray[Any], sizes: list[int], border: int, cval: float
) -> Iterator[NDArray[np.float64]]:
    """The window of every pixel in raster order, 1D; those of a row are gathered together."""
    if image.size == 0:
        return
    if image.ndim == 0:
        yield image.reshape(1).astype(np.float64)
        return
    source = [_extended_axis(n, b // 2, border) for n, b in zip(image.shape, sizes, strict=True)]
    single = _threshold_dtype(image.dtype)
    for index in np.ndindex(*image.shape[:-1]):
        reach = [s[i : i + b] for s, i, b in zip(source, index, sizes, strict=False)]
        reach.append(source[-1])
        slab = image[np.ix_(*reach)].astype(single).astype(np.float64)
        for axis, positions in enumerate(reach):
            slab[(slice(None),) * axis + (positions < 0,)] = cval
        rows = slab.reshape(-1, slab.shape[-1])
        for column in range(image.shape[-1]):
            yield rows[:, column : column + sizes[-1]].reshape(-1)


def _extended_axis(n: int, radius: int, border: int) -> NDArray[np.intp]:
    """Image position of every position of an axis extended on both sides; -1 is outside."""
    axis = np.arange(n)
    if border == MODES["constant"]:
        return np.pad(axis, radius, constant_values=-1)
    modes = {"reflect": "symmetric", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}
    return np.pad(axis, radius, modes[[*MODES][border]])  # type: ignore[call-overload, no-any-return]


def _finish(image: NDArray[Any], level: NDArray[Any], offset: float, out: NDArray[Any]) -> None:
    level -= offset
    if out.dtype == np.bool_:
        np.greater(image, level, out=out)
    else:
        out[...] = level


@operation(result=_local_like)
def threshold_niblack(
    image: ArrayLike,
    window_size: int | Sequence[int] = 15,
    k: float = 0.2,
    *,
    binary: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Niblack's threshold of every pixel: local mean minus `k` local standard deviations.

    Parameters
    ----------
    image : array_like
        Any number of axes; bool, integer or float.
    window_size : int or sequence of int, optional
        Odd size of the window in pixels, for all axes or for each. Beyond its border the image is
        mirrored at the edge pixels (``d c b | a b c d | c b a``).
    k : float, optional
        Standard deviations below the mean.
    binary : bool, optional
        Return the mask ``image > threshold`` instead; the thresholds are then never written.
    out : ndarray, optional
        Array of the image's shape and the result's dtype that receives the result.

    Returns
    -------
    threshold : ndarray of float64 or float32
        float32 for float16 and float32 images; bool with ``binary=True``.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        If a window size is even or not positive or their number is not that of the axes, if `k` is
        NaN, or if `out` does not fit.

    Notes
    -----
    The variance is ``(n * sum of squares - sum**2) / n**2`` of the n pixels of the window. For 8-
    and 16-bit images both sums are exact integers, and so is the numerator while ``n * max``
    is below 2**26.5; wider integers and floats are summed in float64. The peer takes differences
    of integral images in float64 (for float32 images then squares in float32), so its error grows
    with the image's size and mean. NaN and infinity make NaN (infinity: NaN or infinite) thresholds
    in the windows that hold them, not beyond. Empty images give empty results, where the peer
    raises.

    Time O(1) per pixel and axis; scratch of at most a few MB per thread.

    References
    ----------
    .. [1] W. Niblack, An Introduction to Digital Image Processing, Prentice-Hall, 1986.
    .. [2] D. Bradley, G. Roth, "Adaptive thresholding using the integral image", Journal of
       Graphics Tools 12(2), 2007: the case ``k=0``.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> ms.threshold_niblack(np.array([[0, 9, 0]]), window_size=(1, 3), k=1).round(2)
    array([[ 1.76, -1.24,  1.76]])
    """
    return _mean_std("threshold_niblack", image, window_size, k, None, binary, out)


@operation(result=_local_like)
def threshold_sauvola(
    image: ArrayLike,
    window_size: int | Sequence[int] = 15,
    k: float = 0.2,
    r: float | None = None,
    *,
    binary: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Sauvola's threshold of every pixel: ``mean * (1 + k * (std / r - 1))`` of its window.

    Parameters
    ----------
    image : array_like
        Any number of axes; bool, integer or float.
    window_size : int or sequence of int, optional
        Odd size of the window in pixels, for all axes or for each. Beyond its border the image is
        mirrored at the edge pixels (``d c b | a b c d | c b a``).
    k : float, optional
        Weight of the contrast.
    r : float, optional
        Largest standard deviation, in the image's units; half the range of the dtype by default
        (uint8: 127.5; bool: 0.5; float: 1, for images within [-1, 1]).
    binary : bool, optional
        Return the mask ``image > threshold`` instead; the thresholds are then never written.
    out : ndarray, optional
        Array of the image's shape and the result's dtype that receives the result.

    Returns
    -------
    threshold : ndarray of float64 or float32
        float32 for float16 and float32 images; bool with ``binary=True``.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        As `threshold_niblack`, or if `r` is 0 or NaN.

    Notes
    -----
    What `threshold_niblack` says of exactness, NaN, time O(1) and memory holds here, too.

    References
    ----------
    .. [1] J. Sauvola, M. Pietikainen, "Adaptive document image binarization", Pattern Recognition
       33(2), 2000.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> page = np.array([[200, 200, 90, 200, 200]], np.uint8)
    >>> ms.threshold_sauvola(page, window_size=(1, 3), binary=True).astype(int)
    array([[1, 1, 0, 1, 1]])
    """
    op = "threshold_sauvola"
    if r is None:
        r = _half_range(_checks.as_array(op, image).dtype)
    elif _checks.number(op, "r", r) == 0:
        raise ValueError(f"{op}: r must not be 0")
    return _mean_std(op, image, window_size, k, float(r), binary, out)


def _half_range(dtype: np.dtype[Any]) -> float:
    if dtype.kind not in "ui":
        return 0.5 if dtype.kind == "b" else 1.0
    limits = np.iinfo(dtype)
    return 0.5 * (limits.max - limits.min)


def _mean_std(
    op: str, image: Any, window_size: Any, k: Any, r: float | None, binary: bool, out: Any
) -> NDArray[Any]:
    array = _checks.image(op, image)
    sizes = _window(op, "window_size", window_size, array.ndim)
    factor = float(_checks.number(op, "k", k))
    result = _result(op, array, binary, out)
    written = _checks.scratch(result, array)
    core.local_mean_std(array, sizes, factor, r or 1.0, r is not None, written)
    return _checks.finish(result, written)
