"""The multi-scale gradient and the boundary F-measure, as their definitions say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _box(image: NDArray[Any], side: int, extreme: Any) -> NDArray[Any]:
    """Minimum or maximum over a box; beyond the border the image is mirrored."""
    around = np.pad(image, side // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(around, (side,) * image.ndim)
    return np.asarray(extreme(windows, axis=tuple(range(image.ndim, 2 * image.ndim))))


def multiscale_morphological_gradient(image: NDArray[Any], scales: int) -> NDArray[np.float64]:
    total = np.zeros(image.shape)
    for i in range(1, scales + 1):
        gradient = _box(image, 2 * i + 1, np.max).astype(float) - _box(image, 2 * i + 1, np.min)
        if image.dtype.kind in "ui":  # differences do not wrap
            gradient = np.minimum(gradient, np.iinfo(image.dtype).max)
        total += _box(gradient, 2 * i - 1, np.min)
    return total / scales


def boundary_f1(
    pred: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_mm: float, spacing: Sequence[float]
) -> tuple[float, float, float]:
    def share(of: NDArray[np.bool_], to: NDArray[np.bool_]) -> float:
        points, others = (np.argwhere(mask) * np.array(spacing) for mask in (of, to))
        if len(points) == 0:
            return 1.0
        near = sum(any(math.dist(p, q) <= tolerance_mm for q in others) for p in points)
        return near / len(points)

    precision, recall = share(pred, truth), share(truth, pred)
    both = precision + recall
    return (2 * precision * recall / both if both else 0.0), precision, recall
