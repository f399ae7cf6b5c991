"""Thresholds found from an image's histogram, with scikit-image's names and results."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast._histogram import bounds, histogram

Hist = NDArray[Any] | Sequence[NDArray[Any]]


def prepare(op: str, image: ArrayLike | None, *, grayscale: bool = False) -> NDArray[Any] | None:
    """Check an image (None passes), and warn of one that looks like colour if `grayscale`."""
    if image is None:
        return None
    array = _checks.as_array(op, image)
    if array.size == 0:
        raise ValueError(f"{op}: image must have at least one pixel, got shape {array.shape}")
    if grayscale and array.ndim > 2 and array.shape[-1] in (3, 4):
        warnings.warn(
            f"{op} is expected to work correctly only for grayscale images; image shape "
            f"{array.shape} looks like that of an RGB image.",
            stacklevel=4,  # prepare, the operation, its dispatch, the caller
        )
    return _checks.pixels(op, array)


def counts_of(
    op: str, image: NDArray[Any] | None, hist: Hist | None, nbins: int, *, sparse: bool = False
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Counts and bin centers of `hist` without its empty ends, otherwise of the image."""
    if hist is None:
        if image is None:
            raise ValueError(f"{op}: Either image or hist must be provided.")
        return histogram(op, image, nbins, sparse=sparse)
    if isinstance(hist, (tuple, list)):
        if len(hist) != 2:
            raise ValueError(f"{op}: hist must be counts or (counts, bin_centers), got {hist!r}")
        counts, centers = map(np.asarray, hist)
    else:
        counts = np.asarray(hist)
        centers = np.arange(counts.size)
    if counts.ndim != 1 or counts.shape != centers.shape or counts.dtype.kind not in "buif":
        raise ValueError(
            f"{op}: hist must be one-dimensional counts, with as many bin centers, "
            f"got shapes {counts.shape} and {centers.shape}"
        )
    present = np.flatnonzero(counts > 0)
    if present.size == 0:
        raise ValueError(f"{op}: hist must have a positive count")
    inner = slice(present[0], present[-1] + 1)
    return counts[inner], centers[inner]


def center_dtype(image: Any, hist: Any = None) -> np.dtype[Any]:
    """The dtype of the values that bins stand for, as `counts_of` returns them."""
    if hist is None:
        dtype = np.dtype(np.bool_ if image is None else image.dtype)
        integer = np.dtype(np.int64 if dtype.kind in "iu" else np.float64)
        return dtype if dtype.kind == "f" else integer
    if hasattr(hist, "dtype"):
        return np.dtype(np.int64)  # bins 0, 1, 2, ...
    *_, centers = hist
    return np.dtype(getattr(centers, "dtype", None) or np.asarray(centers).dtype)


def _one_center(image: Any = None, *args: Any, hist: Any = None, **kwargs: Any) -> tuple[Any, Any]:
    return (), center_dtype(image, hist)


@operation(result=_one_center, gpu="histogram")
def threshold_otsu(
    image: ArrayLike | None = None, nbins: int = 256, *, hist: Hist | None = None
) -> Any:
    """Threshold that maximises the variance between two classes (Otsu).

    Parameters
    ----------
    image : array_like, optional
        Grayscale image of any shape; bool, integer or float, not empty.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.
    hist : ndarray or (ndarray, ndarray), optional
        Counts, or counts and the values of their bins, to be used instead of the image's own.

    Returns
    -------
    threshold : scalar
        Pixels above it are foreground. int64 for integers, the image's dtype for floats, float64
        for bool. The value of a constant image, in its dtype (but a tensor's dtype never depends on
        the data). Of equal maxima the smallest.

    Warns
    -----
    UserWarning
        If the last axis of an image of three or more dimensions has 3 or 4 elements.

    Raises
    ------
    ValueError
        If the image is empty or not finite, or neither image nor hist is given.

    Notes
    -----
    Sums are exact for integers and float64 otherwise. scikit-image sums in float32, so that its
    threshold can differ by a value or a bin where two variances are nearly equal; with integers it
    agrees up to 2**24 pixels.

    Time O(n + bins). Extra memory does not depend on the number of pixels, except for integers
    that span more than 2**24 values: a sorted copy of the image.

    On a GPU the pixels are counted there and the counts fetched, which waits for them; `hist` has
    no kernel.

    References
    ----------
    .. [1] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst.,
       Man, Cybern., 9(1), 62-66, 1979.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> int(ms.threshold_otsu([[1, 1, 2], [8, 9, 9]]))
    2
    """
    op = "threshold_otsu"
    array = prepare(op, image, grayscale=True)
    if array is not None and (hist is not None or array.dtype.kind == "f"):
        low, high = bounds(array)
        if low == high:
            return array.flat[0]
    counts, centers = counts_of(op, array, hist, nbins, sparse=True)
    if len(counts) == 1:
        return centers[0] if hist is not None else array.flat[0]  # type: ignore[union-attr]
    return centers[_otsu_index(counts, centers)]


def _otsu_index(counts: NDArray[Any], centers: NDArray[Any]) -> int:
    """Index of the last bin of the lower class.

    With counts n_i, values x_i, N and S their totals, and N_k and S_k those up to bin k, the
    variance between the classes is (S N_k - S_k N)^2 / (N_k (N - N_k)), divided by N^2.
    """
    present = np.flatnonzero(counts)  # an empty bin gives the same classes as the one before it
    if len(present) == 1:
        return int(present[0])
    counts, values = counts[present], centers[present] - centers[present[0]]
    exact = counts.dtype.kind in "iu" and values.dtype.kind in "iu"
    if exact:
        largest = int(counts.sum()) ** 2 * int(values[-1])
        exact = largest < 2**63
    if not exact:
        counts, values = counts.astype(np.float64), values.astype(np.float64)
    number = counts.cumsum()
    total = (counts * values).cumsum()
    gap = total[-1] * number[:-1] - total[:-1] * number[-1]
    pairs = number[:-1].astype(np.float64) * (number[-1] - number[:-1])
    variance = gap.astype(np.float64) ** 2 / pairs
    best = int(variance.argmax())
    if exact:  # rounding decides no tie
        near = np.flatnonzero(variance >= variance[best] * (1 - 1e-14))
        best = int(near[0])
        for k in map(int, near[1:]):
            ours, its = (int(gap[i]) ** 2 for i in (best, k))
            below, its_below = (int(number[i]) * int(number[-1] - number[i]) for i in (best, k))
            if its * below > ours * its_below:
                best = k
    return int(present[best])


@operation(result=_one_center, gpu="histogram")
def threshold_yen(
    image: ArrayLike | None = None, nbins: int = 256, *, hist: Hist | None = None
) -> Any:
    """Threshold that maximises Yen's criterion of correlation.

    Parameters
    ----------
    image : array_like, optional
        Grayscale image of any shape; bool, integer or float, not empty.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.
    hist : ndarray or (ndarray, ndarray), optional
        Counts, or counts and the values of their bins, to be used instead of the image's own.

    Returns
    -------
    threshold : scalar
        Pixels above it are foreground. int64 for integers, the image's dtype for floats, float64
        for bool. The value of a constant image.

    Raises
    ------
    ValueError
        If the image is empty or not finite, or neither image nor hist is given.

    Notes
    -----
    Same arithmetic as scikit-image (float32 on the histogram), so the same threshold, except that
    scikit-image returns the centre of the first bin for a constant float image.

    Time O(n + bins). Extra memory does not depend on the number of pixels, except for integers
    that span more than 2**24 values: a sorted copy of the image.

    On a GPU the pixels are counted there and the counts fetched, which waits for them; `hist` has
    no kernel.

    References
    ----------
    .. [1] J.-C. Yen, F.-J. Chang, S. Chang, "A new criterion for automatic multilevel
       thresholding", IEEE Trans. Image Process., 4(3), 370-378, 1995.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> int(ms.threshold_yen([[1, 1, 2], [8, 9, 9]]))
    2
    """
    op = "threshold_yen"
    counts, centers = counts_of(op, prepare(op, image), hist, nbins, sparse=True)
    if len(counts) == 1:
        return centers[0]
    counts = counts.astype(np.float32)
    share = counts / counts.sum()
    squares = share**2
    below = share.cumsum()[:-1]
    squares_below = squares.cumsum()[:-1]
    squares_above = squares[::-1].cumsum()[::-1][1:]
    with np.errstate(divide="ignore"):  # a class whose share rounds to all pixels
        criterion = np.log((squares_below * squares_above) ** -1 * (below * (1 - below)) ** 2)
    return centers[criterion.argmax()]


@operation(result=_one_center, eager=("return_all",), gpu="histogram")
def threshold_isodata(
    image: ArrayLike | None = None,
    nbins: int = 256,
    return_all: bool = False,
    *,
    hist: Hist | None = None,
) -> Any:
    """Threshold midway between the means of the two classes it makes (Ridler and Calvard).

    Parameters
    ----------
    image : array_like, optional
        Grayscale image of any shape; bool, integer or float, not empty.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.
    return_all : bool
        Return every such threshold, not only the smallest.
    hist : ndarray or (ndarray, ndarray), optional
        Counts, or counts and the values of their bins, to be used instead of the image's own.

    Returns
    -------
    threshold : scalar or ndarray
        Pixels above it are foreground. int64 for integers, the image's dtype for floats, float64
        for bool. The value of a constant image.

    Raises
    ------
    ValueError
        If the image is empty or not finite, integers span more than 2**24 values, or neither image
        nor hist is given.

    Notes
    -----
    Same arithmetic as scikit-image (float32 counts), so the same thresholds, except that
    scikit-image raises IndexError for a constant float image.

    Time O(n + bins). Extra memory does not depend on the number of pixels.

    On a GPU the pixels are counted there and the counts fetched, which waits for them; `hist` and
    `return_all` have no kernel.

    References
    ----------
    .. [1] T. W. Ridler, S. Calvard, "Picture thresholding using an iterative selection method",
       IEEE Trans. Syst., Man, Cybern., 8(8), 630-632, 1978.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> int(ms.threshold_isodata([[1, 1, 2], [8, 9, 9]]))
    5
    """
    op = "threshold_isodata"
    counts, centers = counts_of(op, prepare(op, image), hist, nbins)
    if len(counts) == 1:
        return centers if return_all else centers[0]
    counts = counts.astype(np.float32)
    number = counts.cumsum()
    total = (counts * centers).cumsum()
    below = total[:-1] / number[:-1]
    above = (total[-1] - total[:-1]) / (number[-1] - number[:-1])
    distance = (below + above) / 2.0 - centers[:-1]
    found = centers[:-1][(distance >= 0) & (distance < centers[1] - centers[0])]
    return found if return_all else found[0]


@operation(result=_one_center, gpu="histogram")
def threshold_triangle(image: ArrayLike, nbins: int = 256) -> Any:
    """Threshold farthest from the line between the histogram's peak and its longer tail.

    Parameters
    ----------
    image : array_like
        Grayscale image of any shape; bool, integer or float, not empty.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.

    Returns
    -------
    threshold : scalar
        Pixels above it are foreground. int64 for integers, the image's dtype for floats, float64
        for bool. The value of a constant image, in its dtype (but a tensor's dtype never depends on
        the data).

    Raises
    ------
    ValueError
        If the image is empty or not finite, or integers span more than 2**24 values.

    Notes
    -----
    Same result as scikit-image. Time O(n + bins). Extra memory does not depend on the number of
    pixels.

    On a GPU the pixels are counted there and the counts fetched, which waits for them.

    References
    ----------
    .. [1] G. W. Zack, W. E. Rogers, S. A. Latt, "Automatic measurement of sister chromatid exchange
       frequency", J. Histochem. Cytochem., 25(7), 741-753, 1977.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> int(ms.threshold_triangle([[1, 1, 1, 1, 2, 3], [1, 1, 1, 2, 5, 9]]))
    4
    """
    op = "threshold_triangle"
    array = prepare(op, image)
    counts, centers = counts_of(op, array, None, nbins)
    if len(counts) == 1:
        return array.flat[0]  # type: ignore[union-attr]
    return triangle_level(counts, centers)


def triangle_level(counts: NDArray[Any], centers: NDArray[Any]) -> Any:
    """The threshold of a histogram of at least two bins."""
    peak, last = int(counts.argmax()), len(counts) - 1
    flip = peak < last - peak  # the tail is on the right: mirror it
    if flip:
        counts, peak = counts[::-1], last - peak
    height, width = counts[peak], np.int64(peak)
    norm = np.sqrt(height**2 + width**2)
    # Distance of each bin of the tail below the line, up to a constant.
    distance = height / norm * np.arange(peak) - width / norm * counts[:peak]
    level = int(distance.argmax())
    return centers[last - level if flip else level]


@operation(result=_one_center, gpu="histogram")
def threshold_minimum(
    image: ArrayLike | None = None,
    nbins: int = 256,
    max_num_iter: int = 10000,
    *,
    hist: Hist | None = None,
) -> Any:
    """Threshold at the lowest bin between the two peaks of the smoothed histogram.

    Parameters
    ----------
    image : array_like, optional
        Grayscale image of any shape; bool, integer or float, not empty.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.
    max_num_iter : int
        Smoothing passes (means of three bins) at most.
    hist : ndarray or (ndarray, ndarray), optional
        Counts, or counts and the values of their bins, to be used instead of the image's own.

    Returns
    -------
    threshold : scalar
        Pixels above it are foreground. int64 for integers, the image's dtype for floats, float64
        for bool.

    Raises
    ------
    RuntimeError
        If smoothing does not end with two peaks.
    ValueError
        If the image is empty or not finite, integers span more than 2**24 values, or neither image
        nor hist is given.

    Notes
    -----
    Same result as scikit-image. Time O(n + bins * passes). Extra memory does not depend on the
    number of pixels.

    On a GPU the pixels are counted there and the counts fetched, which waits for them; `hist` has
    no kernel.

    References
    ----------
    .. [1] J. M. S. Prewitt, M. L. Mendelsohn, "The analysis of cell images", Ann. N. Y. Acad. Sci.,
       128, 1035-1053, 1966.
    .. [2] C. A. Glasbey, "An analysis of histogram-based thresholding algorithms", CVGIP: Graph.
       Models Image Process., 55, 532-537, 1993.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> int(ms.threshold_minimum(hist=np.array([1, 5, 9, 4, 0, 1, 4, 7, 3])))
    4
    """
    op = "threshold_minimum"
    max_num_iter = min(_checks.integer(op, "max_num_iter", max_num_iter, 1), 2**63 - 1)
    counts, centers = counts_of(op, prepare(op, image), hist, nbins)
    smooth = counts.astype(np.float32)  # always a copy: smoothed in place
    passes, peaks, first, second = core.smooth_to_two_peaks(smooth, max_num_iter)
    if peaks != 2:
        raise RuntimeError(f"{op}: Unable to find two maxima in histogram")
    if passes == max_num_iter:
        raise RuntimeError(f"{op}: Maximum iteration reached for histogram smoothing")
    return centers[first + smooth[first : second + 1].argmin()]
