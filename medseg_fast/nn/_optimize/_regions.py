"""Boxes between the networks of a detector, in NumPy: what `_detection` does in torch, for plans.

The conventions are those of S. Ren et al., "Faster R-CNN: Towards real-time object detection with
region proposal networks", NeurIPS 2015, and every step rounds as there, in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Size = tuple[int, int]

LARGEST_LOG = np.float32(math.log(1000.0 / 16))


def anchors(
    maps: Sequence[Size], image: Size, sizes: Sequence[float], ratios: Sequence[float]
) -> list[Array]:
    """Boxes (H W A, 4) of each level of these sizes; a ratio is height by width."""
    found = []
    down = np.sqrt(np.asarray(ratios, np.float32))
    for (rows, columns), size in zip(maps, sizes, strict=True):
        half = np.stack([1 / down, down], 1) * np.float32(size) / np.float32(2)
        cell = np.rint(np.concatenate([-half, half], 1))
        y, x = np.meshgrid(
            np.arange(rows) * (image[0] // rows),
            np.arange(columns) * (image[1] // columns),
            indexing="ij",
        )
        shift = np.stack([x, y, x, y], -1).reshape(-1, 1, 4).astype(np.float32)
        found.append((shift + cell).reshape(-1, 4))
    return found


def decode(offsets: Array, origins: Array, weights: Sequence[float]) -> Array:
    """Boxes (N, K, 4) from K offsets (N, 4 K) from each of N boxes."""
    extent = origins[:, 2:] - origins[:, :2]
    origin = origins[:, :2] + np.float32(0.5) * extent
    offsets = offsets.reshape(len(origins), offsets.shape[1] // 4, 2, 2)
    move = offsets[:, :, 0] / np.asarray(weights[:2], np.float32)
    grow = offsets[:, :, 1] / np.asarray(weights[2:], np.float32)
    centre = move * extent[:, None] + origin[:, None]
    half = np.float32(0.5) * (np.exp(np.minimum(grow, LARGEST_LOG)) * extent[:, None])
    return np.concatenate([centre - half, centre + half], -1)


def clip(boxes: Array, image: Size) -> Array:
    """Boxes (..., 4) within an image of (rows, columns)."""
    most = np.asarray([image[1], image[0]] * 2, np.float32)
    return np.minimum(np.maximum(boxes, np.float32(0)), most)


def large(boxes: Array, least: float) -> NDArray[np.bool_]:
    """Whether both sides are at least `least` pixels."""
    sides = boxes[:, 2:] - boxes[:, :2]
    large: NDArray[np.bool_] = sides.min(1) >= np.float32(least)
    return large


def resize(boxes: Array, before: Size, after: Size) -> Array:
    """Boxes in an image that changed its size."""
    rows, columns = (
        np.float32(new) / np.float32(old) for new, old in zip(after, before, strict=True)
    )
    return boxes * np.asarray([columns, rows, columns, rows], np.float32)


def largest(scores: Array, count: int) -> Array:
    """Indices of the highest scores, best first, of equals the first."""
    count = min(count, len(scores))
    if count < len(scores):  # sorts those alone that can be among them
        least = np.partition(scores, len(scores) - count)[len(scores) - count]
        some = np.flatnonzero(scores >= least)
    else:
        some = np.arange(len(scores))
    return some[np.argsort(-scores[some], kind="stable")][:count]


def softmax(x: Array) -> Array:
    """Along the last axis."""
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))
