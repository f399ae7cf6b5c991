"""Average precision of instances: objects one by one, not voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import operation
from medseg_fast.metrics import _pairs

THRESHOLDS = tuple((np.arange(50, 100, 5) / 100).tolist())
"""0.50, 0.55, ... 0.95."""


class AveragePrecision(NamedTuple):
    """Average precision of instances at each threshold of intersection over union."""

    thresholds: NDArray[np.float64]
    ap: NDArray[np.float64]

    def at(self, threshold: float) -> float:
        """At one of the thresholds: ``at(0.5)`` is AP50."""
        (places,) = np.nonzero(np.isclose(self.thresholds, threshold))
        if not len(places):
            known = ", ".join(f"{limit:g}" for limit in self.thresholds)
            raise ValueError(
                f"AveragePrecision.at: threshold must be one of {known}, got {threshold!r}"
            )
        return float(self.ap[places[0]])

    @property
    def mean(self) -> float:
        """Over the thresholds: with the default ones AP50:95."""
        return float(self.ap.mean())


def _thresholds(op: str, value: Sequence[float], least: float) -> NDArray[np.float64]:
    limits = np.array([float(_checks.number(op, "thresholds", v)) for v in np.ravel(value)])
    if not len(limits) or limits.min() < least or limits.max() > 1:
        raise ValueError(f"{op}: thresholds must be from {least} to 1, got {value!r}")
    return limits


def _ious(op: str, pred: Any, truth: Any) -> tuple[NDArray[np.float64], int, int]:
    """Every intersection over union above 0, descending, of one to one pairs; both counts."""
    found, true, count = _pairs.contingency(op, ("pred", "truth"), pred, truth)
    sizes = []
    for labels in (found, true):
        objects = np.unique(labels[labels != 0])
        place = np.searchsorted(objects, labels[labels != 0])
        sizes.append((objects, np.bincount(place, count[labels != 0], len(objects))))
    (founds, found_size), (trues, true_size) = sizes
    both = (found != 0) & (true != 0)
    i, j = np.searchsorted(founds, found[both]), np.searchsorted(trues, true[both])
    iou = count[both] / (found_size[i] + true_size[j] - count[both])
    # Above a half an object has one partner at most; where two halves tie the first is taken.
    best = []
    free_i, free_j = np.ones(len(founds), bool), np.ones(len(trues), bool)
    for k in np.argsort(-iou, kind="stable"):
        if iou[k] < 0.5:
            break
        if free_i[i[k]] and free_j[j[k]]:
            free_i[i[k]] = free_j[j[k]] = False
            best.append(iou[k])
    return np.array(best), len(founds), len(trues)


@operation(result=None)
def instance_average_precision(
    pred: ArrayLike, truth: ArrayLike, thresholds: Sequence[float] = THRESHOLDS
) -> AveragePrecision:
    """Objects found, over objects found, missed and invented, by how well they must fit.

    The measure of the 2018 Data Science Bowl [1]_, for label images, which have no scores; with
    scores see `mask_average_precision`.

    Parameters
    ----------
    pred, truth : array_like
        Label images of one shape, bool or integer, of any rank; each label but 0 is an object.
    thresholds : sequence of float, optional
        Intersection over union from which on an object counts as found, from 0.5 to 1.

    Returns
    -------
    precision : AveragePrecision
        ``thresholds``, ``ap`` with one value for each, ``at(0.5)`` and ``mean``. 1 without any
        object in both images.

    Raises
    ------
    TypeError
        If an image is not bool or integer.
    ValueError
        If shapes differ or `thresholds` is out of range.

    Notes
    -----
    Time O(n) on all threads and O(k log k) for the k pairs of labels that meet; memory O(k).

    References
    ----------
    .. [1] J. C. Caicedo et al., "Nucleus segmentation across imaging experiments: the 2018 Data
       Science Bowl", Nature Methods 16 (2019) 1247-1253.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.metrics.instance_average_precision([1, 1, 1, 0, 2], [7, 7, 0, 0, 0]).at(0.5)
    0.5
    """
    op = "instance_average_precision"
    limits = _thresholds(op, thresholds, 0.5)
    iou, found, true = _ious(op, pred, truth)
    hits = (iou[None] >= limits[:, None]).sum(1)
    every = found + true - hits
    return AveragePrecision(limits, np.where(every > 0, hits / np.maximum(every, 1), 1.0))


def mask_average_precision(
    predictions: Sequence[tuple[ArrayLike, ArrayLike]],
    truths: Sequence[ArrayLike],
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    most: int = 100,
) -> AveragePrecision:
    """Average precision of scored masks over all images, as COCO defines it: mask AP.

    Parameters
    ----------
    predictions : sequence of (masks, scores)
        For each image its masks, shape (N, ...), not 0 inside, which may overlap; and N scores.
    truths : sequence of array_like
        For each image a label image, bool or integer; each label but 0 is an object.
    thresholds : sequence of float, optional
        Intersection over union from which on an object counts as found.
    most : int, optional
        Only so many masks of each image count, those with the highest scores.

    Returns
    -------
    precision : AveragePrecision
        ``thresholds``, ``ap`` with one value for each, ``at(0.5)`` and ``mean``. NaN where there is
        no true object.

    Raises
    ------
    TypeError
        If a truth is not bool or integer.
    ValueError
        If numbers or shapes differ, a score is NaN, or `thresholds` is out of range.

    Notes
    -----
    Precision is interpolated (made to fall with recall) and averaged at 101 recalls. Masks take
    their best free object in the order of their scores; equal scores keep their order. One class;
    mAP is the mean over classes of calls for each.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014, 740-755.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> masks, scores = [[1, 1, 0, 0], [0, 0, 1, 0]], [0.9, 0.8]
    >>> round(ms.metrics.mask_average_precision([(masks, scores)], [[1, 1, 0, 2]]).mean, 4)
    0.505
    """
    op = "mask_average_precision"
    limits = _thresholds(op, thresholds, 0.0)
    if len(predictions) != len(truths):
        raise ValueError(
            f"{op}: truths must be {len(predictions)}, as predictions, got {len(truths)}"
        )
    scores: list[NDArray[np.float64]] = []
    hits: list[NDArray[np.bool_]] = []
    objects = 0
    for (masks, score), truth in zip(predictions, truths, strict=True):
        true = _pairs.label_image(op, "truths", truth)
        parts, value = _scored(op, masks, score, true.shape)
        order = np.argsort(-value, kind="stable")[:most]
        iou, count = _mask_ious(parts[order], true)
        objects += count
        scores.append(value[order])
        hits.append(_greedy(iou, limits))
    if objects == 0:
        return AveragePrecision(limits, np.full(len(limits), np.nan))
    ranked = np.argsort(-np.concatenate(scores), kind="stable")
    hit = np.concatenate(hits, axis=1)[:, ranked]
    found = np.cumsum(hit, axis=1)
    precision = found / np.arange(1, hit.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at = np.linspace(0, 1, 101)
    ap = np.zeros(len(limits))
    for k in range(len(limits)):
        place = np.searchsorted(found[k] / objects, at, side="left")
        inside = place < hit.shape[1]
        ap[k] = precision[k][place[inside]].sum() / len(at)
    return AveragePrecision(limits, ap)


def _scored(
    op: str, masks: ArrayLike, scores: ArrayLike, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The masks of an image, as many as scores."""
    value = np.asarray(scores, np.float64).reshape(-1)
    if np.isnan(value).any():
        raise ValueError(f"{op}: scores must not be NaN, got {scores!r}")
    parts = np.asarray(masks) != 0
    wanted = (len(value), *shape)
    if parts.shape != wanted and (parts.size or len(value)):  # no masks have no shape in a list
        raise ValueError(
            f"{op}: masks must have shape {wanted}, as scores and truth, got {parts.shape}"
        )
    return parts.reshape(wanted), value


def _mask_ious(masks: NDArray[np.bool_], truth: NDArray[Any]) -> tuple[NDArray[np.float64], int]:
    """Intersection over union of every mask with every object, and the number of objects."""
    objects, flat = np.unique(truth, return_inverse=True)
    flat = flat.reshape(-1)
    sizes = np.bincount(flat, minlength=len(objects))
    kept = objects != 0
    iou = np.zeros((len(masks), int(kept.sum())))
    for i, mask in enumerate(masks.reshape(len(masks), truth.size)):
        both = np.bincount(flat[mask], minlength=len(objects))
        iou[i] = (both / np.maximum(sizes + both.sum() - both, 1))[kept]
    return iou, int(kept.sum())


def _greedy(iou: NDArray[np.float64], limits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which masks find an object, shape (limits, masks): each in turn its best one that is free."""
    hit = np.zeros((len(limits), len(iou)), bool)
    if iou.shape[1] == 0:
        return hit
    for k, limit in enumerate(limits):
        free = np.ones(iou.shape[1], bool)
        for i, row in enumerate(iou):
            best = int(np.argmax(np.where(free, row, -1)))
            if free[best] and row[best] >= min(limit, 1 - 1e-10):
                free[best], hit[k, i] = False, True
    return hit
