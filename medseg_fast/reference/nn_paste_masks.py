"""Pasting of masks, pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def _between(to: int, source: int, size: int) -> tuple[int, int, float]:
    position = max((to + 0.5) * source / size - 0.5, 0.0)
    low = min(int(position), source - 1)
    return low, min(low + 1, source - 1), min(position - low, 1.0)


def paste_masks(
    masks: NDArray[Any],
    boxes: NDArray[Any],
    image_shape: tuple[int, int],
    padding: int = 1,
    threshold: float | None = None,
) -> NDArray[Any]:
    """Every pixel of every box: the mean of the four mask pixels around it, in float64."""
    out = np.zeros((len(masks), 1, *image_shape))
    scale = (masks.shape[-1] + 2 * padding) / masks.shape[-1]
    for k, (mask, box) in enumerate(zip(masks, boxes, strict=True)):
        source = np.pad(mask.reshape(mask.shape[-2:]).astype(np.float64), padding)
        centre, half = (box[2:] + box[:2]) * 0.5, (box[2:] - box[:2]) * 0.5 * scale
        x0, y0 = (int(c) for c in centre - half)
        x1, y1 = (int(c) for c in centre + half)
        for y in range(max(y0, 0), min(y1 + 1, image_shape[0])):
            a, b, v = _between(y - y0, source.shape[0], y1 - y0 + 1)
            for x in range(max(x0, 0), min(x1 + 1, image_shape[1])):
                c, d, u = _between(x - x0, source.shape[1], x1 - x0 + 1)
                above = (1 - u) * source[a, c] + u * source[a, d]
                below = (1 - u) * source[b, c] + u * source[b, d]
                out[k, 0, y, x] = (1 - v) * above + v * below
    return out.astype(masks.dtype) if threshold is None else out >= threshold
