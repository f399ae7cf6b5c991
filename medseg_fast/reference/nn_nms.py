"""Non-maximum suppression by comparing all pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def overlap(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Intersection over union of a box with each of the others, in their dtype."""
    axes = others.shape[1] // 2
    volume = np.prod(others[:, axes:] - others[:, :axes], 1, dtype=others.dtype)
    own = np.prod(box[axes:] - box[:axes], dtype=others.dtype)
    sides = np.minimum(box[axes:], others[:, axes:]) - np.maximum(box[:axes], others[:, :axes])
    common = np.prod(np.maximum(sides, 0), 1, dtype=others.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: NDArray[Any] = common / (own + volume - common)
    return ratio


def _best_first(scores: NDArray[Any]) -> NDArray[np.int64]:
    keys = np.where(np.isnan(scores), -np.inf, -scores.astype(np.float64))
    return np.lexsort((np.arange(len(keys)), keys, ~np.isnan(scores)))


def nms(boxes: NDArray[Any], scores: NDArray[Any], iou_threshold: float) -> NDArray[np.int64]:
    """Greedy: keep the best box left, drop what it overlaps by more than the threshold."""
    order, kept = _best_first(scores), []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        above = overlap(boxes[best], boxes[order]).astype(np.float64) > iou_threshold
        order = order[~above]
    return np.array(kept, np.int64)


def batched_nms(
    boxes: NDArray[Any], scores: NDArray[Any], idxs: NDArray[Any], iou_threshold: float
) -> NDArray[np.int64]:
    """Class by class."""
    kept: list[int] = []
    for group in np.unique(idxs):
        members = np.flatnonzero(idxs == group)
        kept += members[nms(boxes[members], scores[members], iou_threshold)].tolist()
    among = np.sort(np.array(kept, np.int64))
    return among[_best_first(scores[among])]


def soft_nms(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Pick the best box left, lower the scores of those it overlaps."""
    left = scores.astype(boxes.dtype).copy()
    left[np.isnan(left)] = -np.inf
    kept, lowered = [], []
    while len(left) and (best := int(left.argmax())) >= 0 and left[best] > score_threshold:
        kept.append(best)
        lowered.append(left[best])
        left[best] = -np.inf
        o = np.nan_to_num(overlap(boxes[best], boxes))
        factor = 1 - o if method == "linear" else np.exp(-(o * o) / boxes.dtype.type(sigma))
        lower = (o > 0) & (left > -np.inf) & ((method != "linear") | (o >= iou_threshold))
        left[lower] *= factor[lower]
    return np.array(kept, np.int64), np.array(lowered, boxes.dtype)
