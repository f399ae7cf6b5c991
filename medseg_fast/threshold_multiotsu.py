"""Otsu's method for several classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.threshold_histogram import Hist, center_dtype, counts_of, prepare


def _centers(
    image: Any = None, classes: int = 3, nbins: int = 256, *, hist: Any = None
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    return (max(classes - 1, 0),), center_dtype(image, hist)


@operation(result=_centers, gpu="histogram")
def threshold_multiotsu(
    image: ArrayLike | None = None,
    classes: int = 3,
    nbins: int = 256,
    *,
    hist: Hist | None = None,
) -> NDArray[np.generic]:
    """Thresholds that maximise the variance between several classes (Otsu).

    Parameters
    ----------
    image : array_like, optional
        Grayscale image of any shape; bool, integer or float, not empty.
    classes : int
        Number of classes, at least 2.
    nbins : int
        Bins of the histogram of a float image; integer images have one per value.
    hist : ndarray or (ndarray, ndarray), optional
        Counts, or counts and the values of their bins, to be used instead of the image's own.

    Returns
    -------
    thresholds : ndarray
        The ``classes - 1`` thresholds, ascending; each is the largest value of its class, so
        ``np.digitize(image, thresholds, right=True)`` are the classes. int64 for integers, the
        image's dtype for floats, float64 for bool.

    Warns
    -----
    UserWarning
        If the last axis of an image of three or more dimensions has 3 or 4 elements.

    Raises
    ------
    ValueError
        If fewer values occur than classes are wanted, the image is empty or not finite, integers
        span more than 2**24 values, or neither image nor hist is given.

    Notes
    -----
    The same thresholds as scikit-image, whose exhaustive search takes O(bins**(classes - 1)): of
    equal variances in its float32 arithmetic the lexicographically first.

    Time O(n + classes * bins**2). Extra memory O(classes * bins), whatever the number of pixels.

    On a GPU the pixels are counted there and the counts fetched, which waits for them; `hist` has
    no kernel.

    References
    ----------
    .. [1] P.-S. Liao, T.-S. Chen, P.-C. Chung, "A fast algorithm for multilevel thresholding",
       J. Inf. Sci. Eng., 17(5), 713-727, 2001. The criterion; the search here is another one.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.threshold_multiotsu([[1, 1, 2], [5, 6, 5], [9, 9, 8]]).tolist()
    [2, 6]
    """
    op = "threshold_multiotsu"
    classes = _checks.integer(op, "classes", classes, 2)
    array = prepare(op, image, grayscale=True)
    counts, centers = counts_of(op, array, hist, nbins)
    if hist is None:
        counts = counts / counts.sum()
    share = counts.astype(np.float32)
    present = np.flatnonzero(share)
    if len(present) < classes:
        raise ValueError(
            f"{op}: After discretization into bins, the input image has only {len(present)} "
            f"different values. It cannot be thresholded in {classes} classes. If there are more "
            "unique values before discretization, try increasing the number of bins (`nbins`)."
        )
    if len(present) == classes:
        return centers[present[:-1]]
    indices = np.empty(classes - 1, np.int64)
    core.multi_otsu(share, indices)
    return centers[indices]
