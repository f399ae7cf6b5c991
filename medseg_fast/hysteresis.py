"""Thresholding with two thresholds and connectivity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation


def _above(dtype: np.dtype[Any], limit: float) -> Any:
    """The least value of `dtype` above `limit`; None if there is none."""
    if dtype.kind == "f":
        if limit == math.inf:
            return None
        with np.errstate(over="ignore"):
            nearest = np.array(limit).astype(dtype)[()]
        return nearest if float(nearest) > limit else np.nextafter(nearest, dtype.type(np.inf))
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not limit < most:
        return None
    return max(least, math.floor(limit) + 1) if limit >= least else least


@operation(result=mask_like, gpu="hysteresis")
def apply_hysteresis_threshold(
    image: ArrayLike,
    low: float | ArrayLike,
    high: float | ArrayLike,
    *,
    connectivity: int = 1,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Keep regions above `low` that hold a pixel above `high`.

    The result is that of ``skimage.filters.apply_hysteresis_threshold``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    low : float, or array that broadcasts to the shape of `image`
        Pixels above it may belong to a region. Where it exceeds `high`, `high` takes its place.
    high : float, or array that broadcasts to the shape of `image`
        Every region has a pixel above it.
    connectivity : int, optional
        1 to ndim: along how many axes at once a neighbour may differ.
    out : ndarray of bool, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    thresholded : ndarray of bool
        Same shape as `image`. NaN pixels are outside.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a threshold is NaN, `connectivity` is out of range or `out` does not fit.

    Notes
    -----
    Time O(n), with no image of labels. Extra memory: two bits per pixel and 4 bytes per run of
    pixels above `low` along a row; 1 byte per pixel more if a threshold is an array. Thresholds are
    compared as real numbers (a float32 pixel that rounds up from 0.1 is above 0.1), but a Python
    number as `high` is first rounded to the image's dtype: both as in scikit-image.

    On a GPU the thresholds are numbers and the image has up to 3 axes longer than 1; extra memory
    is 7 bytes per pixel (11 from 2**31 pixels on).

    References
    ----------
    .. [1] J. Canny, "A computational approach to edge detection", IEEE Trans. Pattern Anal. Mach.
       Intell. 8 (1986) 679-698.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.apply_hysteresis_threshold([1, 2, 3, 2, 1, 2, 1, 3, 2], 1.5, 2.5).astype(int).tolist()
    [0, 1, 1, 1, 0, 0, 0, 1, 1]
    """
    op = "apply_hysteresis_threshold"
    pixels = _checks.image(op, image)
    if pixels.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension")
    reach = _checks.integer(op, "connectivity", connectivity, 1, pixels.ndim)
    if np.ndim(low) or np.ndim(high):
        pixels, low, high = _levels(op, pixels, low, high), 0, 1
    weak, strong = _limits(op, pixels.dtype, low, high)
    mask = _checks.output(op, out, pixels.shape, np.bool_)
    if strong is None:
        mask[...] = False
        return mask
    written = _checks.scratch(mask)
    core.hysteresis(pixels, np.array([weak, strong], pixels.dtype), reach, written)
    return _checks.finish(mask, written)


def _limits(op: str, dtype: np.dtype[Any], low: Any, high: Any) -> tuple[Any, Any]:
    """The least values of `dtype` above `low` and `high`; None where there is none."""
    strong_from = _checks.number(op, "high", high)
    weak_from = min(_checks.number(op, "low", low), strong_from)
    if dtype.kind == "f" and type(high) in (int, float):
        with np.errstate(over="ignore"):
            strong_from = float(np.array(high).astype(dtype))
    return _above(dtype, weak_from), _above(dtype, strong_from)


def _levels(op: str, image: NDArray[Any], low: Any, high: Any) -> NDArray[np.uint8]:
    """0, 1 or 2: below both thresholds, above the lower, above both; for thresholds in arrays."""
    weak_from = _checks.image(op, low, "low")
    strong_from = _checks.image(op, high, "high")
    for name, array in (("low", weak_from), ("high", strong_from)):
        if np.isnan(array).any():
            raise ValueError(f"{op}: {name} must not contain NaN")
        try:
            np.broadcast_to(array, image.shape)
        except ValueError:
            raise ValueError(
                f"{op}: {name} must broadcast to the shape of image, "
                f"got {array.shape} and {image.shape}"
            ) from None
    above: NDArray[np.uint8] = np.greater(image, np.minimum(weak_from, strong_from)).view(np.uint8)
    above += np.greater(image, strong_from)
    return above
