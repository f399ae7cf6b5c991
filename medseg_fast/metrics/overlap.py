"""How the voxels of two segmentations overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast._dispatch import operation
from medseg_fast.metrics import _pairs

_NAMES = ("a", "b")
_PREDICTION = ("pred", "truth")


def _ratio(part: float, whole: float, empty: float = 1.0) -> float:
    return part / whole if whole else empty


@operation(result=None)
def dice(a: ArrayLike, b: ArrayLike) -> float:
    """Dice coefficient of two masks, ``2 |a and b| / (|a| + |b|)``.

    Parameters
    ----------
    a, b : array_like
        Of one shape; bool, integer or float of any rank. What is not 0 is inside.

    Returns
    -------
    dice : float
        From 0 to 1; 1 for two empty masks.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If shapes differ or a mask holds NaN.

    Notes
    -----
    Voxels are counted, so the result is exact and does not depend on spacing. One pass on all
    threads. Extra memory: none for bool and integers of one width, else 2 bytes per voxel.
    ``SimpleITK.LabelOverlapMeasuresImageFilter.GetDiceCoefficient`` is the same.

    References
    ----------
    .. [1] L. R. Dice, "Measures of the amount of ecologic association between species", Ecology 26
       (1945) 297-302.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.dice([0, 1, 1, 0], [0, 1, 0, 0])
    0.6666666666666666
    """
    both, first, second, _ = _pairs.overlap("dice", _NAMES, a, b)
    return _ratio(2 * both, 2 * both + first + second)


@operation(result=None)
def jaccard(a: ArrayLike, b: ArrayLike) -> float:
    """Jaccard index of two masks, ``|a and b| / |a or b|``: intersection over union.

    Parameters
    ----------
    a, b : array_like
        As in `dice`.

    Returns
    -------
    jaccard : float
        From 0 to 1; 1 for two empty masks.

    Notes
    -----
    Errors, time and memory as for `dice`.

    References
    ----------
    .. [1] P. Jaccard, "The distribution of the flora in the alpine zone", New Phytologist 11 (1912)
       37-50.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.jaccard([0, 1, 1, 0], [0, 1, 0, 0])
    0.5
    """
    both, first, second, _ = _pairs.overlap("jaccard", _NAMES, a, b)
    return _ratio(both, both + first + second)


@operation(result=None)
def sensitivity(pred: ArrayLike, truth: ArrayLike) -> float:
    """Share of the true mask that was found: recall, true positive rate.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    sensitivity : float
        1 where the true mask is empty.

    Notes
    -----
    Errors, time and memory as for `dice`.
    """
    both, _, missed, _ = _pairs.overlap("sensitivity", _PREDICTION, pred, truth)
    return _ratio(both, both + missed)


@operation(result=None)
def specificity(pred: ArrayLike, truth: ArrayLike) -> float:
    """Share of what is outside the true mask that was left out: true negative rate.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    specificity : float
        1 where the true mask covers the image.

    Notes
    -----
    Errors, time and memory as for `dice`.
    """
    _, wrong, _, neither = _pairs.overlap("specificity", _PREDICTION, pred, truth)
    return _ratio(neither, neither + wrong)


@operation(result=None)
def precision(pred: ArrayLike, truth: ArrayLike) -> float:
    """Share of what was found that is true: positive predictive value.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    precision : float
        1 where nothing was found.

    Notes
    -----
    Errors, time and memory as for `dice`.
    """
    both, wrong, _, _ = _pairs.overlap("precision", _PREDICTION, pred, truth)
    return _ratio(both, both + wrong)


@operation(result=None)
def accuracy(pred: ArrayLike, truth: ArrayLike) -> float:
    """Share of all voxels on which two masks agree.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    accuracy : float
        1 for images without voxels.

    Notes
    -----
    Errors, time and memory as for `dice`.
    """
    both, wrong, missed, neither = _pairs.overlap("accuracy", _PREDICTION, pred, truth)
    return _ratio(both + neither, both + wrong + missed + neither)


@operation(result=None)
def volume_error(pred: ArrayLike, truth: ArrayLike) -> float:
    """By what part of the true volume the found one is too large (or, below 0, too small).

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    error : float
        ``(|pred| - |truth|) / |truth|``: 0 for two empty masks, inf where only the true one is.

    Notes
    -----
    Errors, time and memory as for `dice`.
    """
    _, wrong, missed, _ = counts = _pairs.overlap("volume_error", _PREDICTION, pred, truth)
    difference, true = wrong - missed, counts[0] + missed
    return _ratio(difference, true, math.inf if difference else 0.0)


@operation(result=None)
def volume_similarity(pred: ArrayLike, truth: ArrayLike) -> float:
    """Difference of two volumes over their mean, ``2 (|pred| - |truth|) / (|pred| + |truth|)``.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `dice`.

    Returns
    -------
    similarity : float
        From -2 to 2, 0 for equal volumes and for two empty masks.

    Notes
    -----
    SimpleITK's ``GetVolumeSimilarity`` with `pred` as the source. Errors, time and memory as for
    `dice`.
    """
    both, wrong, missed, _ = _pairs.overlap("volume_similarity", _PREDICTION, pred, truth)
    return _ratio(2 * (wrong - missed), 2 * both + wrong + missed, 0.0)


class LabelOverlap(NamedTuple):
    """Voxels and overlap of each label; arrays with one value per label."""

    label: NDArray[Any]
    true_positive: NDArray[np.int64]
    false_positive: NDArray[np.int64]
    false_negative: NDArray[np.int64]
    true_negative: NDArray[np.int64]

    def _over(self, part: NDArray[Any], whole: NDArray[Any], empty: float = 1.0) -> Any:
        return np.divide(part, whole, out=np.full(len(part), empty), where=whole != 0)

    @property
    def dice(self) -> NDArray[np.float64]:
        """As `medseg_fast.dice`, and so for the others."""
        part = 2 * self.true_positive
        return self._over(part, part + self.false_positive + self.false_negative)  # type: ignore[no-any-return]

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """Intersection over union."""
        union = self.true_positive + self.false_positive + self.false_negative
        return self._over(self.true_positive, union)  # type: ignore[no-any-return]

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share of the true label that was found."""
        return self._over(self.true_positive, self.true_positive + self.false_negative)  # type: ignore[no-any-return]

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share of the rest that was left out."""
        return self._over(self.true_negative, self.true_negative + self.false_positive)  # type: ignore[no-any-return]

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of what was found that is true."""
        return self._over(self.true_positive, self.true_positive + self.false_positive)  # type: ignore[no-any-return]


@operation(result=None)
def label_overlap(
    pred: ArrayLike, truth: ArrayLike, labels: Sequence[int] | None = None
) -> LabelOverlap:
    """Overlap of every label of two label images, in one pass.

    Parameters
    ----------
    pred, truth : array_like
        Label images of one shape, bool or integer, of any rank.
    labels : sequence of int, optional
        Which; every label that occurs in either but 0 by default.

    Returns
    -------
    overlap : LabelOverlap
        ``label``, ``true_positive``, ``false_positive``, ``false_negative``, ``true_negative``, and
        from these ``dice``, ``jaccard``, ``sensitivity``, ``specificity``, ``precision``.

    Raises
    ------
    TypeError
        If an image or `labels` are not bool or integer.
    ValueError
        If shapes differ.

    Notes
    -----
    Time O(n) on all threads. Extra memory: that of the pairs of labels that meet; images of two
    widths are brought to the wider one.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.label_overlap([0, 1, 1, 2], [0, 1, 2, 2]).dice.tolist()
    [0.6666666666666666, 0.6666666666666666]
    """
    op = "label_overlap"
    found, true, count = _pairs.contingency(op, _PREDICTION, pred, truth)
    if labels is None:
        found, true = _pairs.alike(found, true)
        every = np.union1d(found, true)
        every = every[every != 0]
    else:
        found, true, every = _pairs.alike(found, true, _pairs.wanted(op, labels))
    agree = found == true
    positive, in_pred, in_truth = (
        _sums(values[chosen], count[chosen], every)
        for values, chosen in ((true, agree), (found, slice(None)), (true, slice(None)))
    )
    rest = int(count.sum()) - in_pred - in_truth + positive
    return LabelOverlap(every, positive, in_pred - positive, in_truth - positive, rest)


def _sums(values: NDArray[Any], count: NDArray[np.int64], of: NDArray[Any]) -> NDArray[np.int64]:
    """For each value of `of` the sum of the counts where `values` is that value."""
    unique, inverse = np.unique(values, return_inverse=True)
    sums = np.zeros(len(unique) + 1, np.int64)
    np.add.at(sums, inverse.reshape(-1), count)
    place = np.searchsorted(unique, of)
    known = place < len(unique)
    known[known] = unique[place[known]] == of[known]
    return sums[np.where(known, place, len(unique))]


@operation(result=None)
def confusion_matrix(
    y_true: ArrayLike, y_pred: ArrayLike, *, labels: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Voxels of every true label (rows) that got every label (columns).

    The result is that of ``sklearn.metrics.confusion_matrix`` of the flat images.

    Parameters
    ----------
    y_true, y_pred : array_like
        Label images of one shape, bool or integer, of any rank.
    labels : sequence of int, optional
        Which labels, in which order; all that occur, in ascending order, by default. Voxels of
        others are left out.

    Returns
    -------
    matrix : ndarray of int64
        Shape (labels, labels).

    Raises
    ------
    TypeError
        If an image or `labels` are not bool or integer.
    ValueError
        If shapes differ, or none of `labels` occurs in `y_true`.

    Notes
    -----
    Time O(n) on all threads. Memory as for `label_overlap`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2]).tolist()
    [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    """
    op = "confusion_matrix"
    true, found, count = _pairs.contingency(op, ("y_true", "y_pred"), y_true, y_pred)
    if labels is None:
        true, found = _pairs.alike(true, found)
        every = np.union1d(true, found)
    else:
        true, found, every = _pairs.alike(true, found, _pairs.wanted(op, labels))
    if labels is not None and not np.isin(every, true).any():
        raise ValueError(f"{op}: labels must have one that occurs in y_true, got {labels!r}")
    order = np.argsort(every, kind="stable")
    ordered = every[order]
    known = np.isin(true, every) & np.isin(found, every)
    matrix = np.zeros((len(every), len(every)), np.int64)
    rows, columns = (order[np.searchsorted(ordered, x[known])] for x in (true, found))
    np.add.at(matrix, (rows, columns), count[known])
    return matrix
