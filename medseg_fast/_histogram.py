"""Exact histograms of whole images, shared by every method that starts from one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

# More values than this are not laid out one per bin (128 MiB of counts).
MAX_BINS = 1 << 24
# Images with fewer pixels than a 16-bit table has entries look for their range first.
_SMALL = 1 << 16

Counts = NDArray[np.int64]


def bounds(image: NDArray[Any]) -> tuple[Any, Any]:
    """Smallest and largest pixel as scalars of the image's dtype; both NaN if any pixel is NaN.

    `image` is not empty and comes from ``_checks.pixels``.
    """
    pair = np.empty(2, image.dtype)
    if core.value_range(image, pair):
        pair[...] = np.nan
    return pair[0], pair[1]


def histogram(
    op: str, image: NDArray[Any], nbins: int = 256, *, sparse: bool = False
) -> tuple[Counts, NDArray[Any]]:
    """Counts and the values they stand for, as ``skimage.exposure.histogram`` gives them.

    Parameters
    ----------
    op : str
        Name of the public function, for messages.
    image : ndarray
        Not empty, from ``_checks.pixels``.
    nbins : int
        Number of bins for float images (and bool); integers have one bin per value from their
        smallest to their largest.
    sparse : bool
        Leave empty bins out where integers span more than `MAX_BINS` values, instead of refusing.

    Returns
    -------
    counts : ndarray of int64
        The first and the last are positive. A constant image has a single bin.
    centers : ndarray
        Ascending; int64 for integers, the image's dtype for floats, float64 for bool.

    Raises
    ------
    ValueError
        If a float image is not finite or too narrow for `nbins`, or integers span too many values.

    Notes
    -----
    Time O(n): one pass for integers of 8 and 16 bits, otherwise two. Extra memory does not depend
    on the number of pixels, except that a sparse histogram sorts a copy of the image.
    """
    if image.dtype.kind in "iu":
        return _integers(op, image, sparse)
    nbins = _checks.integer(op, "nbins", nbins, 1, MAX_BINS)
    if image.dtype.kind == "b" or image.dtype.itemsize == 2:
        values, counts = occupied(op, image)
        return _rebinned(op, values, counts, nbins)
    low, high = bounds(image)
    _require_finite(op, low, high)
    if low == high:
        return np.array([image.size]), np.array([low])
    edges = np.histogram_bin_edges(np.array([low, high]), nbins)
    counts = np.zeros(nbins, np.int64)
    core.count_bins(image, edges, counts)
    return counts, (edges[:-1] + edges[1:]) / 2


def occupied(op: str, image: NDArray[Any]) -> tuple[NDArray[Any], Counts]:
    """The distinct values of a bool, integer or float16 image, ascending, and their counts."""
    if image.dtype.kind == "b":
        image = image.view(np.uint8)
    if image.dtype.kind == "f":
        patterns, counts = occupied(op, image.view(np.uint16))
        values, place = np.unique(patterns.astype(np.uint16).view(image.dtype), return_inverse=True)
        return values, np.bincount(place, counts).astype(np.int64)  # -0.0 and 0.0 are one value
    counts, values = _integers(op, image, sparse=True)
    present = np.flatnonzero(counts)
    return values[present], counts[present]


def _integers(op: str, image: NDArray[Any], sparse: bool) -> tuple[Counts, NDArray[np.int64]]:
    info = np.iinfo(image.dtype)
    low, high = int(info.min), int(info.max)
    whole_type = info.bits == 8 or (info.bits == 16 and image.size >= _SMALL)
    if not whole_type:
        low, high = map(int, bounds(image))
        if high > np.iinfo(np.int64).max:
            raise ValueError(f"{op}: image must not exceed the int64 range, got {high}")
        if high - low >= MAX_BINS:
            if not sparse:
                raise ValueError(too_wide(op, low, high))
            values, counts = np.unique(image, return_counts=True)
            return counts, values.astype(np.int64)
    counts = np.zeros(high - low + 1, np.int64)
    core.count_values(image, low, counts)
    if whole_type:
        present = counts != 0
        first, last = int(present.argmax()), len(counts) - int(present[::-1].argmax())
        counts, low, high = counts[first:last], low + first, low + last - 1
    return counts, np.arange(low, high + 1)


def too_wide(op: str, low: int, high: int) -> str:
    """What is said of integers that have too many values between them for one bin each."""
    return (
        f"{op}: an integer image must span at most {MAX_BINS} values, got {low} to "
        f"{high}; convert it to float to use bins"
    )


def _rebinned(
    op: str, values: NDArray[Any], weights: Counts, nbins: int
) -> tuple[Counts, NDArray[Any]]:
    """Histogram of few distinct values, each with its count."""
    _require_finite(op, values[-1] if np.isnan(values[-1]) else values[0], values[-1])
    if len(values) == 1:
        return weights, values.astype(np.float64) if values.dtype.kind == "i" else values
    counts, edges = np.histogram(values, nbins, weights=weights)
    return counts, (edges[:-1] + edges[1:]) / 2


def _require_finite(op: str, low: Any, high: Any) -> None:
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{op}: autodetected range of [{low}, {high}] is not finite")
    with np.errstate(over="ignore"):
        if high.dtype.kind == "f" and not np.isfinite(high - low):
            raise ValueError(f"{op}: image range [{low}, {high}] overflows {high.dtype}")
