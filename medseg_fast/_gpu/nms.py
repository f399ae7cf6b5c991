"""Launches of `nms`, `batched_nms` and `soft_nms`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._boxes import computed, floats
from medseg_fast._gpu._device import BLOCK, Device, blocks, ceil_div, run
from medseg_fast.kernels.source import FLOATS, Source

_RANKS = (2, 3)
SOURCE = Source(
    "nms.cuh",
    rank_scores=(FLOATS,),
    find_overlaps=(FLOATS, _RANKS),
    keep_best=(),
    soften=(FLOATS, _RANKS),
)
_RANKED, _GROUP, _KEEP, _SOFT = 32, 64, 1024, 512
MOST_RANKED = 8192  # boxes: every score is compared with every other; more of them are sorted


def nms(device: Device, boxes: Any, scores: Any, iou_threshold: float) -> Any:
    op = "nms"
    array, order = _best_first(device, op, boxes, scores)
    return _suppress(device, op, array, None, order, iou_threshold)


def batched_nms(device: Device, boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    op = "batched_nms"
    array, order = _best_first(device, op, boxes, scores)
    classes = _arrays.image(device, op, idxs, "idxs")
    if classes.dtype.kind not in "bui":
        raise TypeError(f"{op}: idxs must be integers, got {classes.dtype}")
    if classes.shape != order.shape:
        raise ValueError(f"{op}: idxs must have shape {order.shape}, got {classes.shape}")
    if 0 < array.size <= 4000:  # as torchvision: the boxes of each class shifted apart
        with np.errstate(all="ignore"):
            apart = classes.astype(array.dtype) * (array.max() + array.dtype.type(1))
            shifted = array + apart[:, None]
        return _suppress(device, op, shifted, None, order, iou_threshold)
    return _suppress(device, op, array, classes.astype(np.int64), order, iou_threshold)


def soft_nms(
    device: Device,
    boxes: Any,
    scores: Any,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: str = "linear",
) -> Any:
    op, xp = "soft_nms", device.xp
    array, ranks = _boxes_and_scores(device, op, boxes, scores)
    if method not in ("linear", "gaussian"):
        raise ValueError(f'{op}: method must be "linear" or "gaussian", got {method!r}')
    width = float(_checks.number(op, "sigma", sigma))
    if not width > 0:
        raise ValueError(f"{op}: sigma must be positive, got {sigma!r}")
    threshold = float(_checks.number(op, "iou_threshold", iou_threshold))
    least = float(_checks.number(op, "score_threshold", score_threshold))
    real, n = array.dtype.type, len(array)
    left = xp.where(xp.isnan(ranks), real(-np.inf), ranks.astype(real)).astype(real)
    keep, lowered = xp.empty(n, np.int64), xp.empty(n, array.dtype)
    count = xp.zeros(1, np.int32)
    limits = [real(threshold), real(0 if method == "linear" else width), np.float64(least)]
    launch = device.kernel(SOURCE, "soften", array.dtype, array.shape[1] // 2)
    args = [array, left, np.int32(n), *limits, real(-np.inf), keep, lowered, count]
    run(launch, (1 if n else 0,), (_SOFT,), *args)
    picked = int(count[0])
    return keep[:picked].copy(), lowered[:picked].copy()


def _best_first(device: Device, op: str, boxes: Any, scores: Any) -> tuple[Any, Any]:
    """The boxes in the dtype they are computed in, and their numbers, best first."""
    array, ranks = _boxes_and_scores(device, op, boxes, scores)
    ranks, n = computed(ranks), len(array)
    if n > MOST_RANKED:
        return array, device.xp.argsort(_keys(device, ranks), kind="stable").astype(np.int64)
    order = device.xp.empty(n, np.int64)
    launch = device.kernel(SOURCE, "rank_scores", ranks.dtype)
    run(launch, blocks(n, _RANKED), (BLOCK,), ranks, np.int32(n), order)
    return array, order


def _boxes_and_scores(device: Device, op: str, boxes: Any, scores: Any) -> tuple[Any, Any]:
    """The boxes in the dtype they are computed in, and their scores."""
    array = floats(device, op, "boxes", boxes)
    ranks = floats(device, op, "scores", scores)
    if array.ndim != 2 or array.shape[1] not in (4, 6):
        raise ValueError(f"{op}: boxes must have shape (N, 4) or (N, 6), got {array.shape}")
    if ranks.shape != array.shape[:1]:
        raise ValueError(f"{op}: scores must have shape ({len(array)},), got {ranks.shape}")
    if len(array) >= 2**24:
        raise ValueError(f"{op}: boxes must be fewer than 2**24, got {len(array)}")
    return computed(array), ranks


def _keys(device: Device, scores: Any) -> Any:
    """Integers that ascend as the scores descend; NaN first."""
    xp, size = device.xp, scores.dtype.itemsize
    signed = np.dtype(f"i{size}")
    bits = (scores + 0).view(signed)  # -0.0 becomes 0.0
    least, most = signed.type(np.iinfo(signed).min), signed.type(np.iinfo(signed).max)
    descending = xp.where(bits < 0, bits & most, ~bits)  # positive ones below 0
    return xp.where(xp.isnan(scores), least, descending)


def _suppress(
    device: Device, op: str, boxes: Any, groups: Any, order: Any, iou_threshold: float
) -> Any:
    """Indices of the kept boxes, best first: their number is waited for."""
    xp = device.xp
    threshold = np.float64(_checks.number(op, "iou_threshold", iou_threshold))
    n, dims = len(boxes), boxes.shape[1] // 2
    if n == 0:
        return xp.empty(0, np.int64)
    words = ceil_div(n, _GROUP)
    of = xp.empty(0, np.int64) if groups is None else groups
    found, busy = xp.empty((words, words, _GROUP), np.uint64), xp.empty((words, words), np.uint64)
    dropped, kept, total = xp.empty(words, np.uint64), xp.empty(n, np.int64), xp.empty(1, np.int32)
    number = np.int32(n)
    launch = device.kernel(SOURCE, "find_overlaps", boxes.dtype, dims)
    args = boxes, of, order, number, threshold, found, busy.view(np.uint32), dropped
    run(launch, (words * words,), (_GROUP,), *args)
    launch = device.kernel(SOURCE, "keep_best")
    run(launch, (1,), (_KEEP,), found, busy, order, number, dropped, kept, total)
    return kept[: int(total[0])].copy()
