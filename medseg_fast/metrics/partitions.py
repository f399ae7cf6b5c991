"""How two partitions of an image into regions agree, whatever the regions are called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import operation
from medseg_fast.metrics import _pairs

Table = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def _table(
    op: str,
    names: tuple[str, str],
    first: Any,
    second: Any,
    table: Any,
    ignore: int | Sequence[int] | None,
) -> Table:
    """Region in the first, region in the second, voxels they share; without ignored first ones."""
    if table is not None:
        if hasattr(table, "tocoo"):
            sparse = table.tocoo()
            return sparse.row, sparse.col, sparse.data
        array = np.asarray(table)
        rows, columns = np.nonzero(array)
        return rows, columns, array[rows, columns]
    if first is None or second is None:
        raise ValueError(f"{op}: {names[0]} and {names[1]} must be given where table is not")
    left, right, count = _pairs.contingency(op, names, first, second)
    ignored = () if ignore is None else ignore if isinstance(ignore, Iterable) else (ignore,)
    kept = ~np.isin(left, np.asarray(list(ignored)))
    return left[kept], right[kept], count[kept]


def _marginals(table: Table) -> tuple[Any, Any, Any, Any]:
    """Voxels of every region of each image, and the regions' places for every pair."""
    left, right, count = table
    places = [np.unique(x, return_inverse=True)[1].reshape(-1) for x in (left, right)]
    sums = [np.bincount(place, count) for place in places]
    return sums[0], sums[1], places[0], places[1]


def _pair_sums(table: Table) -> tuple[float, float, float, float]:
    """Ordered pairs of voxels that are together in both, in the first, in the second; all pairs."""
    first, second, _, _ = _marginals(table)
    count = table[2].astype(np.float64)
    n = float(count.sum())
    together = [float(x @ x) - n for x in (count, first, second)]
    return together[0], together[1], together[2], n * (n - 1)


@operation(result=None)
def adapted_rand_error(
    image_true: ArrayLike | None = None,
    image_test: ArrayLike | None = None,
    *,
    table: Any = None,
    ignore_labels: int | Sequence[int] | None = (0,),
    alpha: float = 0.5,
) -> tuple[float, float, float]:
    """Adapted Rand error of two label images, one minus the F-score of pairs of voxels.

    The result is that of ``skimage.metrics.adapted_rand_error``.

    Parameters
    ----------
    image_true, image_test : array_like, optional
        Label images of one shape, bool or integer, of any rank.
    table : array_like or scipy.sparse array, optional
        Voxels by label of `image_true` (rows) and of `image_test` (columns), instead of these.
    ignore_labels : int or sequence of int, optional
        Voxels with these true labels do not count. None: all count.
    alpha : float, optional
        Weight of precision against recall, from 0 to 1.

    Returns
    -------
    error, precision, recall : float
        NaN where no two voxels share a region, as in scikit-image.

    Raises
    ------
    TypeError
        If an image is not bool or integer.
    ValueError
        If shapes differ, neither images nor `table` are given or `alpha` is out of range.

    Notes
    -----
    Time O(n) on all threads and O(k log k) for the k pairs of labels that meet; memory O(k).

    References
    ----------
    .. [1] I. Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms
       for connectomics", Front. Neuroanat. 9 (2015) 142.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.adapted_rand_error([1, 1, 2, 2], [1, 1, 1, 2])
    (0.6, 0.5, 0.3333333333333333)
    """
    op = "adapted_rand_error"
    weight = float(_checks.number(op, "alpha", alpha))
    if not 0 <= weight <= 1:
        raise ValueError(f"{op}: alpha must be from 0 to 1, got {alpha!r}")
    names = ("image_true", "image_test")
    found = _table(op, names, image_true, image_test, table, ignore_labels)
    both, true, test, _ = _pair_sums(found)
    return (
        1 - _share(both, weight * true + (1 - weight) * test),
        _share(both, true),
        _share(both, test),
    )


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@operation(result=None)
def variation_of_information(
    image0: ArrayLike | None = None,
    image1: ArrayLike | None = None,
    *,
    table: Any = None,
    ignore_labels: int | Sequence[int] | None = (),
) -> NDArray[np.float64]:
    """Conditional entropies of two label images in bits; their sum is the variation of information.

    The result is that of ``skimage.metrics.variation_of_information``.

    Parameters
    ----------
    image0, image1 : array_like, optional
        Label images of one shape, bool or integer, of any rank.
    table : array_like or scipy.sparse array, optional
        Share of voxels by label of `image0` (rows) and of `image1` (columns), instead of these.
    ignore_labels : int or sequence of int, optional
        Voxels with these labels in `image0` do not count. None: all count.

    Returns
    -------
    entropies : ndarray of float64
        Shape (2,): of `image1` given `image0` (false splits), of `image0` given `image1` (false
        merges). 0 without voxels.

    Raises
    ------
    TypeError
        If an image is not bool or integer.
    ValueError
        If shapes differ, or neither images nor `table` are given.

    Notes
    -----
    Time O(n) on all threads and O(k log k) for the k pairs of labels that meet; memory O(k).

    References
    ----------
    .. [1] M. Meila, "Comparing clusterings: an information based distance", J. Multivariate
       Analysis 98 (2007) 873-895.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.variation_of_information([1, 1, 2, 2], [1, 1, 1, 1]).tolist()
    [0.0, 1.0]
    """
    op = "variation_of_information"
    found = _table(op, ("image0", "image1"), image0, image1, table, ignore_labels)
    first, second, rows, columns = _marginals(found)
    count = found[2].astype(np.float64)
    whole = 1.0 if table is not None else max(float(count.sum()), 1.0)
    splits = -(count * np.log2(count / first[rows])).sum() / whole
    merges = -(count * np.log2(count / second[columns])).sum() / whole
    return np.array([splits, merges]) + 0.0  # no negative zeros


@operation(result=None)
def rand_index(labels_true: ArrayLike, labels_pred: ArrayLike, *, adjusted: bool = False) -> float:
    """Share of the pairs of voxels on which two partitions agree: together or apart.

    Parameters
    ----------
    labels_true, labels_pred : array_like
        Label images of one shape, bool or integer, of any rank. 0 is a label as any other.
    adjusted : bool, optional
        Corrected for chance: 0 is what random labels would have [2]_.

    Returns
    -------
    index : float
        From 0 to 1, adjusted from -0.5 to 1. 1 for fewer than two voxels.

    Raises
    ------
    TypeError
        If an image is not bool or integer.
    ValueError
        If shapes differ.

    Notes
    -----
    ``sklearn.metrics.rand_score`` and ``adjusted_rand_score`` of the flat images. Time O(n) on all
    threads and O(k log k) for the k pairs of labels that meet; memory O(k).

    References
    ----------
    .. [1] W. M. Rand, "Objective criteria for the evaluation of clustering methods", J. Am. Stat.
       Assoc. 66 (1971) 846-850.
    .. [2] L. Hubert, P. Arabie, "Comparing partitions", J. Classification 2 (1985) 193-218.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.rand_index([1, 1, 2, 2], [1, 1, 1, 2])
    0.5
    """
    op = "rand_index"
    names = ("labels_true", "labels_pred")
    both, true, pred, pairs = _pair_sums(_table(op, names, labels_true, labels_pred, None, ()))
    wrong, missed = pred - both, true - both
    if wrong == missed == 0:
        return 1.0
    if not adjusted:
        return 1 - (wrong + missed) / pairs
    apart = pairs - both - wrong - missed
    return (
        2
        * (both * apart - missed * wrong)
        / ((both + missed) * (missed + apart) + (both + wrong) * (wrong + apart))
    )
