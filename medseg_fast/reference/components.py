"""Connected components, as their definitions say: one flood after the other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def neighbours(ndim: int, connectivity: int) -> list[tuple[int, ...]]:
    """Steps to all neighbours: at most `connectivity` axes change, each by one."""
    steps = itertools.product((-1, 0, 1), repeat=ndim)
    return [step for step in steps if 1 <= sum(map(abs, step)) <= connectivity]


def label(
    label_image: NDArray[Any], background: int | None = 0, connectivity: int | None = None
) -> tuple[NDArray[np.int64], int]:
    """Labels and their number."""
    shape = label_image.shape
    steps = neighbours(len(shape), connectivity or len(shape))
    labels, count = np.zeros(shape, np.int64), 0
    for start in np.ndindex(shape):
        value = label_image[start]
        if labels[start] or value == background or value != value:
            continue
        count += 1
        labels[start] = count
        stack = [start]
        while stack:
            pixel = stack.pop()
            for step in steps:
                other = tuple(p + s for p, s in zip(pixel, step, strict=True))
                inside = all(0 <= o < n for o, n in zip(other, shape, strict=True))
                if inside and not labels[other] and label_image[other] == value:
                    labels[other] = count
                    stack.append(other)
    return labels, count


def remove_small_objects(
    mask: NDArray[np.bool_], max_size: int, connectivity: int
) -> NDArray[np.bool_]:
    labels, count = label(mask, 0, connectivity)
    kept = mask.copy()
    for number in range(1, count + 1):
        if (labels == number).sum() <= max_size:
            kept[labels == number] = False
    return kept


def largest_component(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.bool_]:
    labels, count = label(mask, 0, connectivity)
    sizes = [(labels == number).sum() for number in range(1, count + 1)]
    return labels == 1 + sizes.index(max(sizes)) if sizes else mask


def fill_holes(mask: NDArray[np.bool_], connectivity: int) -> NDArray[np.bool_]:
    around = np.pad(mask, 1)
    labels, _ = label(~around, 0, connectivity)
    inner = (slice(1, -1),) * mask.ndim
    outside = np.ones(around.shape, bool)
    outside[inner] = False
    return ~np.isin(labels, labels[outside])[inner]


def clear_border(labels: NDArray[Any], in_border: NDArray[np.bool_], bgval: Any) -> NDArray[Any]:
    """`in_border`: the pixels that no object may touch."""
    objects, count = label(labels)
    cleared = labels.copy()
    for number in range(count + 1):
        if in_border[objects == number].any():
            cleared[objects == number] = bgval
    return cleared


def apply_hysteresis_threshold(
    image: NDArray[Any], low: float, high: float, connectivity: int = 1
) -> NDArray[np.bool_]:
    regions, count = label(image > min(low, high), 0, connectivity)
    kept = np.zeros(image.shape, bool)
    for number in range(1, count + 1):
        if (image[regions == number] > high).any():
            kept[regions == number] = True
    return kept
