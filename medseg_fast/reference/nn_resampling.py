"""Slow twins of `medseg_fast.nn.functional.resampling`: all logits resampled, then compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def resample_argmax(
    logits: NDArray[Any],
    size: Sequence[int],
    scales: Sequence[float],
    order: Sequence[int],
    align_corners: bool = False,
    threshold: float | None = None,
) -> NDArray[np.int64]:
    """Labels of logits of shape (N, C, ...); `scales`: inputs an output covers along each axis."""
    logits = logits.astype(np.float32 if logits.dtype == np.float16 else logits.dtype)
    most = np.finfo(logits.dtype).max / 4
    values = np.where(np.isnan(logits), most, np.clip(logits, -most, most)).astype(logits.dtype)
    for axis in reversed(range(2, logits.ndim)):  # columns first
        n, scale = values.shape[axis], scales[axis - 2]
        outputs = np.arange(size[axis - 2])
        if order[axis - 2] == 0:
            at = outputs * scale + 0.5 if align_corners else (outputs + 0.5) * scale - 0.5 + 0.5
            values = values.take(np.minimum(at.astype(np.int64), n - 1), axis)
            continue
        kind = logits.dtype.type
        if align_corners:
            at = outputs.astype(kind) * kind(scale)
        else:
            at = np.maximum((outputs.astype(kind) + kind(0.5)) * kind(scale) - kind(0.5), kind(0))
        low = np.minimum(at.astype(np.int64), n - 1)
        high = np.minimum(low + 1, n - 1)
        weight = np.minimum(at - low.astype(kind), kind(1))
        weight = weight.reshape((-1,) + (1,) * (logits.ndim - axis - 1))
        values = values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight
    if threshold is None:
        return np.asarray(values.argmax(1), np.int64)
    over = values > logits.dtype.type(threshold)
    last = over.shape[1] - over[:, ::-1].argmax(1)
    return np.where(over.any(1), last, 0)
