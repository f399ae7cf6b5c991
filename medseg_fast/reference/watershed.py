"""Watershed from markers, one pixel at a time."""

from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import Index


def watershed(
    image: NDArray[Any],
    markers: NDArray[Any],
    footprint: NDArray[np.bool_],
    offset: Index,
    mask: NDArray[np.bool_] | None = None,
    compactness: float = 0,
    watershed_line: bool = False,
) -> NDArray[Any]:
    """Every entry of the queue is kept, so a pixel may leave it several times.

    A pixel of a line lets its neighbours enter as others do. When it leaves again it does not: they
    are in the queue already, by an older entry of no higher value.
    """
    allowed = np.isnan(image) == 0
    if mask is not None:
        allowed &= mask
    labels = np.where(allowed, markers, 0).astype(markers.dtype)
    steps = [tuple(int(i) for i in step) for step in np.argwhere(footprint) - offset]
    steps = [step for step in steps if any(step)]
    steps.sort(key=lambda step: sum(i * i for i in step))
    age = 0
    queue: list[tuple[Any, int, Index, Index]] = []  # (value, age, pixel, pixel of its marker)

    def value(index: Index) -> Any:
        return float(image[index]) if compactness > 0 else image[index].item()

    def near(index: Index) -> list[Index]:
        moved = [tuple(i + s for i, s in zip(index, step, strict=True)) for step in steps]
        inside = [all(0 <= i < n for i, n in zip(m, image.shape, strict=True)) for m in moved]
        return [m for m, i in zip(moved, inside, strict=True) if i and allowed[m]]

    def push(level: Any, index: Index, source: Index) -> None:
        nonlocal age
        heapq.heappush(queue, (level, age, index, source))
        age += 1

    for index in map(tuple, np.argwhere(labels)):
        push(value(index), index, index)
    while queue:
        level, _, index, source = heapq.heappop(queue)
        own = labels[source] if compactness > 0 or watershed_line else labels[index]
        if compactness > 0 or watershed_line:
            if index != source and (labels[index] or not allowed[index]):
                continue
            others = {int(labels[n]) for n in near(index)} - {0, int(own)}
            if compactness > 0 or not others:
                labels[index] = own
            else:
                allowed[index] = False
        for other in near(index):
            if labels[other]:
                continue
            cost = value(other)
            if compactness > 0:
                cost += compactness * math.dist(other, source)
            elif not watershed_line:
                labels[other] = own
            push(max(cost, level), other, source)
    return labels
