"""Morphological reconstruction, and the extrema it finds."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation


def _float_type(dtype: np.dtype[Any]) -> Any:
    """scikit-image's: float32 for float16 and float32, else float64."""
    return np.float32 if dtype.kind == "f" and dtype.itemsize < 8 else np.float64


def _reconstructed(
    seed: Any,
    mask: Any,
    method: str = "dilation",
    footprint: Any = None,
    offset: Any = None,
    *,
    out: Any = None,
) -> tuple[Any, Any]:
    return mask.shape, _float_type(np.dtype(mask.dtype))


def _steps(op: str, footprint: Any, offset: Any, ndim: int) -> NDArray[np.int64]:
    """Steps by which values spread, one row each."""
    if footprint is None:
        given = np.ones((3,) * ndim, np.bool_)
    else:
        given = _checks.as_array(op, footprint, "footprint").astype(np.bool_)
    if given.ndim != ndim:
        raise ValueError(f"{op}: footprint must have {ndim} dimensions, got {given.ndim}")
    if offset is None:
        if any(extent % 2 == 0 for extent in given.shape):
            raise ValueError(f"{op}: footprint must have odd extents, got shape {given.shape}")
        centre = [extent // 2 for extent in given.shape]
    else:
        centre = [_checks.integer(op, "offset", o) for o in np.ravel(offset)]
        if len(centre) != ndim or not all(
            0 <= o < extent for o, extent in zip(centre, given.shape, strict=True)
        ):
            raise ValueError(
                f"{op}: offset must lie inside the footprint of shape {given.shape}, got {offset!r}"
            )
    given[tuple(centre)] = False
    return np.ascontiguousarray(np.argwhere(given) - np.array(centre, np.int64), np.int64)


def _kernel_dtype(seed: np.dtype[Any], mask: np.dtype[Any]) -> np.dtype[Any]:
    """What to compare in: integers of up to 32 bits as they are, else the result's float."""
    both = np.result_type(seed, mask)
    return both if both.kind in "bui" and both.itemsize <= 4 else np.dtype(_float_type(mask))


@operation(result=_reconstructed)
def reconstruction(
    seed: ArrayLike,
    mask: ArrayLike,
    method: str = "dilation",
    footprint: ArrayLike | None = None,
    offset: ArrayLike | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Spread the values of one image within the limits that another one sets.

    The result is that of ``skimage.morphology.reconstruction``.

    Parameters
    ----------
    seed : array_like
        At least 1D; bool, integer or float: the values that spread.
    mask : array_like
        Of the shape of `seed`: the highest (dilation) or lowest (erosion) value of each pixel.
    method : {"dilation", "erosion"}, optional
        Whether high values spread, or low ones.
    footprint : array_like of bool, optional
        To which neighbours a pixel's value spreads, at once. Without it 3 pixels per axis.
    offset : sequence of int, optional
        Index of the footprint's centre; without it its middle, and extents must be odd.
    out : ndarray, optional
        Array of the result's shape and dtype that receives it.

    Returns
    -------
    reconstructed : ndarray of float32 or float64
        Same shape as `mask`; float32 for a mask of float16 or float32, else float64. Pixels that
        are NaN in one of the images let nothing through and are NaN.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a seed is above its limit (erosion: below), shapes differ, or another argument does not
        fit.

    Notes
    -----
    Time O(n k) for k steps for the two scans, which is nearly all unless values turn back often.
    Extra memory beside the result: two images with a frame as wide as the footprint, in the
    images' own type for integers of up to 32 bits, else in the result's; and 16 bytes for each
    pixel that waits in the queue.

    References
    ----------
    L. Vincent (1993), "Morphological grayscale reconstruction in image analysis: applications and
    efficient algorithms", IEEE Transactions on Image Processing 2(2):176-201.

    K. Robinson and P. F. Whelan (2004), "Efficient morphological reconstruction: a downhill
    filter", Pattern Recognition Letters 25(15):1759-1767.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.reconstruction([0, 4, 0, 0, 0], [5, 6, 3, 5, 1]).tolist()
    [4.0, 4.0, 3.0, 3.0, 1.0]
    """
    op = "reconstruction"
    seeds, limits = _checks.image(op, seed, "seed"), _checks.image(op, mask, "mask")
    if seeds.shape != limits.shape:
        raise ValueError(
            f"{op}: seed must have the shape of mask, got {seeds.shape} and {limits.shape}"
        )
    if seeds.ndim == 0:
        raise ValueError(f"{op}: mask must have at least one dimension, got shape ()")
    if method not in ("dilation", "erosion"):
        raise ValueError(f'{op}: method must be "dilation" or "erosion", got {method!r}')
    if method == "dilation" and np.any(seeds > limits):
        raise ValueError(f"{op}: seed must not be above mask for dilation")
    if method == "erosion" and np.any(seeds < limits):
        raise ValueError(f"{op}: seed must not be below mask for erosion")
    steps = _steps(op, footprint, offset, seeds.ndim)
    result = _checks.output(op, out, seeds.shape, _float_type(limits.dtype))
    written = _checks.scratch(result)
    dtype = _kernel_dtype(seeds.dtype, limits.dtype)
    core.reconstruction(
        seeds.astype(dtype, copy=False),
        limits.astype(dtype, copy=False),
        method == "dilation",
        steps,
        written,
    )
    return _checks.finish(result, written)


def _extrema_like(image: Any, h: Any, footprint: Any = None, *, out: Any = None) -> tuple[Any, Any]:
    return image.shape, np.uint8


def _integer_extrema(
    op: str, array: NDArray[Any], h: int, steps: NDArray[np.int64], written: NDArray[np.uint8]
) -> None:
    """Extrema of at least `h`, for integers of up to 32 bits, without leaving their type."""
    unsigned = np.dtype(f"u{array.itemsize}")
    bits = array.view(unsigned)
    maxima = op == "h_maxima"
    # Modulo 2^bits differences are right as unsigned numbers, and h is at most the image's range.
    room = bits - np.array(np.iinfo(array.dtype).min, array.dtype).view(unsigned)
    amount = unsigned.type(h)
    if maxima:
        shifted = bits - np.minimum(room, amount)
    else:
        shifted = bits + np.minimum(~room, amount)
    rebuilt = np.empty_like(array)
    core.reconstruction(shifted.view(array.dtype), array, maxima, steps, rebuilt)
    residue = (bits - rebuilt.view(unsigned)) if maxima else (rebuilt.view(unsigned) - bits)
    np.greater_equal(residue, amount, out=written.view(np.bool_))


def _h_extrema(op: str, image: Any, h: Any, footprint: Any, out: Any) -> NDArray[np.uint8]:
    array = _checks.image(op, image)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    if array.dtype.kind == "b":
        raise TypeError(f"{op}: image must be integer or float, got {array.dtype}")
    height = _checks.number(op, "h", h)
    steps = _steps(op, footprint, None, array.ndim)
    extrema = _checks.output(op, out, array.shape, np.uint8)
    written = _checks.scratch(extrema)
    integers = array.dtype.kind != "f"
    if array.size == 0:
        return extrema
    lowest, highest = array.min(), array.max()
    too_high = height > (int(highest) - int(lowest) if integers else highest - lowest)
    if too_high:
        written[...] = 0
        return _checks.finish(extrema, written)
    if integers and height % 1 != 0:
        warnings.warn(
            "possible precision loss converting image to floating point. To silence this warning, "
            "ensure image and h have same data type.",
            UserWarning,
            stacklevel=4,
        )
        array = array.astype(np.float64)
        integers = False
    if height == 0:
        raise ValueError(f"{op}: h must not be 0, which is ambiguous; use local_{op[2:]}() instead")
    if height < 0:
        raise ValueError(f"{op}: h must be positive, got {h!r}")
    if integers and array.itemsize <= 4:
        _integer_extrema(op, array, int(height), steps, written)
        return _checks.finish(extrema, written)
    sign = -1 if op == "h_maxima" else 1
    if integers:
        limits = np.iinfo(array.dtype)
        room = array - limits.min if sign < 0 else limits.max - array
        amount = array.dtype.type(int(height))
        shifted = np.where(
            room.view(f"u{array.itemsize}") < int(height),
            limits.min if sign < 0 else limits.max,
            array + amount if sign > 0 else array - amount,
        ).astype(array.dtype)
    else:
        # Room for rounding: a shifted pixel must lie at least h away.
        with np.errstate(invalid="ignore"):
            resolution = 2 * np.finfo(array.dtype).resolution * np.abs(array)
            shifted = array + h + resolution if sign > 0 else array - h - resolution
    kind = _float_type(array.dtype)
    rebuilt = _checks.empty(array.shape, kind)
    core.reconstruction(
        np.ascontiguousarray(shifted, kind),
        array.astype(kind, copy=False),
        sign < 0,
        steps,
        rebuilt,
    )
    with np.errstate(invalid="ignore"):
        residue = rebuilt - array if sign > 0 else array - rebuilt
        np.greater_equal(residue, h, out=written.view(np.bool_))
    return _checks.finish(extrema, written)


@operation(result=_extrema_like)
def h_maxima(
    image: ArrayLike,
    h: float,
    footprint: ArrayLike | None = None,
    *,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Find the maxima that rise at least `h` above what surrounds them.

    The result is that of ``skimage.morphology.h_maxima``: the pixels that a reconstruction by
    dilation from the image less `h` leaves at least `h` below the image.

    Parameters
    ----------
    image : array_like
        At least 1D; integer or float.
    h : float
        Least height, positive, in the image's units.
    footprint : array_like of bool, optional
        Which pixels are neighbours; without it 3 pixels per axis.
    out : ndarray of uint8, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    h_max : ndarray of uint8
        Same shape as `image`: 1 on the maxima, else 0. All 0 if `h` exceeds the image's range.
        NaN and infinite pixels are 0; NaN lets nothing through.

    Warns
    -----
    UserWarning
        If the image is of integers and `h` is not: the image is then converted to float64.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `h` is not positive, or `footprint` or `out` does not fit.

    Notes
    -----
    Time and memory as in `reconstruction`, and up to two images of the input's type more (three of
    the result's float for floats). The range of the image is exact, where scikit-image 0.26 lets
    it overflow for signed integers.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.h_maxima([0, 3, 2, 3, 0, 1, 0], 2).tolist()
    [0, 1, 0, 1, 0, 0, 0]
    """
    return _h_extrema("h_maxima", image, h, footprint, out)


@operation(result=_extrema_like)
def h_minima(
    image: ArrayLike,
    h: float,
    footprint: ArrayLike | None = None,
    *,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Find the minima that lie at least `h` below what surrounds them.

    The result is that of ``skimage.morphology.h_minima``.

    Parameters
    ----------
    image, h, footprint, out
        As in `h_maxima`.

    Returns
    -------
    h_min : ndarray of uint8
        As in `h_maxima`.

    Warns
    -----
    UserWarning
        As in `h_maxima`.

    Raises
    ------
    TypeError, ValueError
        As in `h_maxima`.

    Notes
    -----
    Time and memory as in `h_maxima`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.h_minima([3, 0, 1, 0, 3, 2, 3], 2).tolist()
    [0, 1, 0, 1, 0, 0, 0]
    """
    return _h_extrema("h_minima", image, h, footprint, out)
