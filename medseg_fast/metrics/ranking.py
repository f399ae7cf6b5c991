"""How well scores rank true voxels above the others, whatever the threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import operation


def _split(op: str, y_true: Any, y_score: Any, mask: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """The scores of the true voxels and of the others, each in ascending order."""
    true = _checks.mask(op, y_true, "y_true")
    score = _checks.image(op, y_score, "y_score")
    if true.shape != score.shape:
        raise ValueError(f"{op}: y_score must have shape {true.shape}, got {score.shape}")
    if score.dtype.kind == "f" and np.isnan(score).any():
        raise ValueError(f"{op}: y_score must not contain NaN")
    if mask is None:
        positive, negative = score[true], score[~true]
    else:
        counted = _checks.mask(op, mask, "mask")
        if counted.shape != true.shape:
            raise ValueError(f"{op}: mask must have shape {true.shape}, got {counted.shape}")
        positive, negative = score[true & counted], score[counted & ~true]
    positive.sort()
    negative.sort()
    return positive, negative


@operation(result=None)
def roc_auc_score(y_true: ArrayLike, y_score: ArrayLike, *, mask: ArrayLike | None = None) -> float:
    """Area under the ROC curve: how often a true voxel has a higher score than another one.

    The result is that of ``sklearn.metrics.roc_auc_score`` of the flat images.

    Parameters
    ----------
    y_true : array_like
        What is not 0 is true; bool, integer or float of any rank.
    y_score : array_like
        Of the same shape: probabilities or any scores that are higher where true is likelier.
    mask : array_like, optional
        Only voxels where this is not 0 count, such as the field of view of a fundus camera.

    Returns
    -------
    auc : float
        Equal scores count half. NaN where all or no voxels are true.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If shapes differ or an image holds NaN.

    Notes
    -----
    Pairs are counted in integers, without a curve and its rounding. Time O(n log n); extra memory:
    up to 30 bytes per voxel.

    References
    ----------
    .. [1] J. A. Hanley, B. J. McNeil, "The meaning and use of the area under a receiver operating
       characteristic (ROC) curve", Radiology 143 (1982) 29-36.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    positive, negative = _split("roc_auc_score", y_true, y_score, mask)
    if not (len(positive) and len(negative)):
        return float("nan")
    values, count = np.unique(positive, return_counts=True)
    below = np.searchsorted(negative, values, "left")
    upto = np.searchsorted(negative, values, "right")
    return int(count @ below + count @ upto) / (2 * len(positive) * len(negative))


@operation(result=None)
def average_precision_score(
    y_true: ArrayLike, y_score: ArrayLike, *, mask: ArrayLike | None = None
) -> float:
    """Area under the curve of precision and recall, as the mean of precision over recall's steps.

    The result is that of ``sklearn.metrics.average_precision_score`` of the flat images.

    Parameters
    ----------
    y_true, y_score, mask : array_like
        As in `roc_auc_score`.

    Returns
    -------
    precision : float
        NaN where no voxel is true.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If shapes differ or an image holds NaN.

    Notes
    -----
    Time O(n log n); extra memory: up to 30 bytes per voxel.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> round(ms.metrics.average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    positive, negative = _split("average_precision_score", y_true, y_score, mask)
    if not len(positive):
        return float("nan")
    values, count = np.unique(positive, return_counts=True)
    true = len(positive) - np.searchsorted(positive, values, "left")
    wrong = len(negative) - np.searchsorted(negative, values, "left")
    return float((count * (true / (true + wrong))).sum() / len(positive))
