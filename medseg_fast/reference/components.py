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
