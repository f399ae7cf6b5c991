"""Thresholds that look at the pixels' mean values: the mean itself, and Li's iteration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast._histogram import Counts, bounds, occupied

# Pixels whose smallest difference bounds that of the whole image.
_SAMPLE = 1 << 16

Sums = tuple[Any, int]  # of values above a threshold, and their number
Search = Generator[Any, Sums, Any]


def _mean_like(image: Any, **kwargs: Any) -> tuple[tuple[()], np.dtype[Any]]:
    """Means are float64, those of floats in the image's dtype."""
    dtype = np.dtype(image.dtype)
    return (), dtype if dtype.kind == "f" else np.dtype(np.float64)


@operation(result=_mean_like, gpu="means")
def threshold_mean(image: ArrayLike) -> Any:
    """Threshold at the mean value.

    Parameters
    ----------
    image : array_like
        Grayscale image of any shape; bool, integer or float.

    Returns
    -------
    threshold : scalar
        float64 for bool and integers, the image's dtype for floats. NaN if a pixel is NaN, or, with
        NumPy's RuntimeWarning, if there is no pixel.

    Notes
    -----
    Integers are summed exactly, so the result is the mean rounded once; scikit-image agrees while
    its sum stays below 2**53. Floats are summed in float64, scikit-image's own precision being the
    image's: expect its float32 means to differ in the last digits.

    Time O(n), one pass. Extra memory does not depend on the number of pixels, but for 24 bytes
    every 65536 of them.

    On a GPU the pixels are summed there and the sum fetched, which waits for it.

    References
    ----------
    .. [1] C. A. Glasbey, "An analysis of histogram-based thresholding algorithms", CVGIP: Graph.
       Models Image Process., 55, 532-537, 1993.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> float(ms.threshold_mean([[1, 2], [3, 6]]))
    3.0
    """
    op = "threshold_mean"
    array = _checks.pixels(op, image)
    if array.size == 0:
        return np.mean(array)
    if array.dtype.kind != "f":
        high, low = core.sum_integers(array)
        return np.float64(((high << 64) + low) / array.size)
    if array.dtype.itemsize == 2:
        values, counts = occupied(op, array)
        mean = (values.astype(np.float64) * counts).sum() / array.size
    else:
        mean = core.sum_floats(array) / array.size
    return array.dtype.type(mean)


@operation(result=_mean_like, gpu="means")
def threshold_li(
    image: ArrayLike,
    *,
    tolerance: float | None = None,
    initial_guess: float | Callable[[NDArray[Any]], float] | None = None,
    iter_callback: Callable[[Any], Any] | None = None,
) -> Any:
    """Threshold of minimum cross entropy between image and mask, by Li and Tam's iteration.

    Parameters
    ----------
    image : array_like
        Grayscale image of any shape; integer or float. NaN and infinite pixels are ignored.
    tolerance : float, optional
        Stop when the threshold changes by no more than this. By default half the smallest
        difference between two values of a float image, 0.5 for integers.
    initial_guess : float or callable, optional
        Where to start, within the image's range; a callable gets the pixels minus their smallest
        value as a flat array and returns the start on that scale. By default the mean.
    iter_callback : callable, optional
        Called with every threshold, the first included.

    Returns
    -------
    threshold : scalar
        Pixels above it are foreground. float64 for integers, the image's dtype for floats. The
        value of a constant image in its dtype (but a tensor's dtype never depends on the data), NaN
        if all pixels are NaN or there is none, 0.0 if they are infinite of both signs.

    Raises
    ------
    TypeError
        If the image is bool, or `initial_guess` neither a number nor callable.
    ValueError
        If the guess lies outside the image's range.

    Notes
    -----
    The iteration of scikit-image in the same precision, with exact means for integers and means of
    float64 sums, rounded to the image's dtype, for floats; scikit-image sums floats in their own
    dtype. Thresholds agree to about 1e-6 of the image's range for float32 and 1e-12 for float64.
    Integers of 8 and 16 bits whose range exceeds half their type overflow in scikit-image, not
    here.

    Time O(n) a pass: one for integers of 8 and 16 bits and float16, otherwise one for the range and
    one an iteration (about ten). Extra memory: none that grows with the number of pixels in the
    usual case; a copy of the finite pixels in their own dtype if some are not finite or
    `initial_guess` is callable, and a sorted copy where the default tolerance cannot be decided
    from a sample.

    On a GPU pixels are counted or summed there and the sums fetched, which waits for them, once an
    iteration; a callable `initial_guess` gets an array of the GPU.

    References
    ----------
    .. [1] C. H. Li, C. K. Lee, "Minimum cross entropy thresholding", Pattern Recognit., 26(4),
       617-625, 1993.
    .. [2] C. H. Li, P. K. S. Tam, "An iterative algorithm for minimum cross entropy thresholding",
       Pattern Recognit. Lett., 19(8), 771-776, 1998.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> round(float(ms.threshold_li([[1, 1, 2], [8, 9, 9]])), 3)
    3.339
    """
    op = "threshold_li"
    array, low, high = search_range(op, _checks.pixels(op, image), bounds)
    if array is None:
        return low
    values: Values
    if array.dtype.kind in "iu" or array.dtype.itemsize == 2:
        values = Table(*occupied(op, array), low, array.dtype)
    else:
        values = Pixels(array, low)
    search = iterate(op, array, low, high, values, tolerance, initial_guess, iter_callback)
    (threshold,) = side_by_side([search], lambda asked: {0: values.above(asked[0])})
    return threshold


class Values(Protocol):
    """What the iteration asks of an image's pixels, all on the scale that begins at the least."""

    def above(self, t: Any) -> Sums:
        """Sum and number of the values above t."""

    def mean(self, total: Any, number: int) -> Any:
        """In the type that the thresholds are of."""

    def half_gap(self) -> Any:
        """Half the smallest difference between two values; integers count as one apart."""

    def half_gap_bound(self) -> Any:
        """What `half_gap` cannot exceed."""


def search_range(
    op: str, array: Any, bounds: Callable[[Any], tuple[Any, Any]]
) -> tuple[Any, Any, Any]:
    """Pixels to search, the least and the largest; or None, and what is the threshold anyway."""
    low, high = bounds(array) if array.size else (np.nan, np.nan)
    if np.isnan(low):
        array = array[~np.isnan(array)]
        if array.size == 0:
            return None, np.nan, np.nan
        low, high = bounds(array)
    if low == high:
        return None, low, high
    if array.dtype.kind == "b":
        raise TypeError(f"{op}: image must be integer or float, got bool")
    if not (np.isfinite(low) and np.isfinite(high)):
        array = array[np.isfinite(array)]
        if array.size == 0:
            return None, 0.0, 0.0
        low, high = bounds(array)
        if low == high:
            return None, low, high
    return array, low, high


def side_by_side(
    searches: Sequence[Search], above: Callable[[dict[int, Any]], dict[int, Sums]]
) -> list[Any]:
    """The searches' thresholds; `above` answers what they ask, by their numbers, all at once."""
    found: list[Any] = [None] * len(searches)
    answers: dict[int, Any] = dict.fromkeys(range(len(searches)))
    while answers:
        asked = {}
        for i, answer in answers.items():
            try:
                asked[i] = searches[i].send(answer)
            except StopIteration as end:
                found[i] = end.value
        answers = dict(above(asked)) if asked else {}
    return found


def iterate(
    op: str,
    array: Any,
    low: Any,
    high: Any,
    values: Values,
    tolerance: float | None,
    guess: Any,
    callback: Callable[[Any], Any] | None,
) -> Search:
    """The iteration; it yields a threshold wherever it has to know what lies above."""
    if tolerance is not None:
        _checks.number(op, "tolerance", tolerance)
    if not (callback is None or callable(callback)):
        raise TypeError(f"{op}: iter_callback must be callable, got {callback!r}")
    total, number = yield -1
    t = _start(op, array, low, high, values.mean(total, number), guess)

    def follow(t: Any) -> Search:
        """The logarithmic mean of the two classes' means, None where there is none."""
        above, number_above = yield t
        if number_above in (0, number):
            return None
        fore = values.mean(above, number_above)
        back = values.mean(total - above, number - number_above)
        if back == 0 or back == fore:
            return None
        return (back - fore) / (np.log(back) - np.log(fore))

    def settled(change: Any, t: Any) -> Search:
        if change == 0 or tolerance:
            return bool(change <= (tolerance or 0))
        if change > values.half_gap_bound():
            return False
        # Rather one more iteration than the exact gap: where it changes nothing, both end here.
        if callback is None and (yield from follow(t)) in (None, t):
            return True
        return bool(change <= values.half_gap())

    seen = set()  # rounding might make it circle
    if callback is not None:
        callback(t + low)
    while t not in seen:
        seen.add(t)
        following = yield from follow(t)
        if following is None:
            break
        previous, t = t, following
        if callback is not None:
            callback(t + low)
        if (yield from settled(abs(t - previous), t)):
            break
    return t + low


def _start(op: str, array: Any, low: Any, high: Any, mean: Any, guess: Any) -> Any:
    """Where to start, on the scale of the pixels minus their smallest value."""
    if guess is None:
        return mean
    if callable(guess):
        shifted = (array - low).ravel()
        if array.dtype.kind == "i":  # wraps around to the right unsigned difference
            wide = int(high) - int(low) > np.iinfo(array.dtype).max
            shifted = shifted.view(f"u{array.dtype.itemsize}") if wide else shifted
        start = guess(shifted)
        start = start.item() if getattr(start, "ndim", None) == 0 else start
    elif isinstance(guess, (int, float, np.number)):
        start = guess - float(low)  # type: ignore[operator, unused-ignore]
    else:
        raise TypeError(
            f"{op}: Incorrect type for `initial_guess`; should be a floating point value, or a "
            "function mapping an array to a floating point value."
        )
    if not 0 < start < float(high) - float(low):
        raise ValueError(
            f"{op}: The initial guess for threshold_li must be within the range of the image. "
            f"Got {guess} for image min {low} and max {high}."
        )
    return start if callable(guess) else array.dtype.type(start)


class Table:
    """Values, and their counts, of an image with few distinct ones."""

    def __init__(
        self, values: NDArray[Any], counts: Counts, low: Any, dtype: np.dtype[Any]
    ) -> None:
        integer = dtype.kind in "iu"
        self._values = values - (int(low) if integer else low)
        self._sums = np.append(0.0, (self._values.astype(np.float64) * counts).cumsum())
        self._numbers = np.append(0, counts.cumsum())
        self._type = np.float64 if integer else dtype.type
        self._half_gap = 0.5 if integer else np.diff(np.unique(self._values)).min() / 2

    def above(self, t: Any) -> Sums:
        k = self._values.searchsorted(t, "right")
        return self._sums[-1] - self._sums[k], int(self._numbers[-1] - self._numbers[k])

    def mean(self, total: Any, number: int) -> Any:
        return self._type(total / number)

    def half_gap(self) -> Any:
        return self._half_gap

    half_gap_bound = half_gap


class Pixels:
    """Those of a float32 or float64 image, without a table."""

    def __init__(self, image: Any, low: Any) -> None:
        self._image, self._low = image, low
        self._bound: Any = None
        self._exact: Any = None

    def above(self, t: Any) -> Sums:
        total, number = core.sum_above(self._image, float(self._low), float(t))
        return total, int(number)

    def mean(self, total: float, number: int) -> Any:
        return self._image.dtype.type(total / number)

    def half_gap_bound(self) -> Any:
        if self._bound is None:
            step = -(-self._image.size // _SAMPLE)
            self._bound = self._smallest_gap(self._image.reshape(-1)[::step]) / 2
            if step == 1:
                self._exact = self._bound
        return self._bound

    def half_gap(self) -> Any:
        if self._exact is None:
            self._exact = self._smallest_gap(self._image) / 2
        return self._exact

    def _smallest_gap(self, pixels: NDArray[Any]) -> Any:
        values = np.unique(pixels - self._low)
        return np.diff(values).min() if len(values) > 1 else values.dtype.type(np.inf)
