"""Dijkstra's search with lists, and scikit-image's order of ties."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, ...]


def minimum_costs(
    costs: NDArray[Any],
    starts: Iterable[Index],
    offsets: Sequence[Index],
    spacing: Sequence[float],
    geometric: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Least costs, and the number of the offset that leads to each pixel.

    The front is a list. The next pixel is the first one of least cost; the last takes its place.
    """
    value = costs.astype(np.float64)
    total = np.full(costs.shape, np.inf)
    came = np.full(costs.shape, -2, np.int16)
    front: list[Index] = []
    trial: dict[Index, float] = {}
    settled = set()
    for start in starts:
        if start not in trial:
            front.append(start)
            trial[start] = 0.0 if geometric else float(value[start])
            came[start] = -1
    while front:
        least = min(trial[v] for v in front)
        if not least < math.inf:
            break
        place = next(i for i, v in enumerate(front) if trial[v] == least)
        here = front[place]
        front[place] = front[-1]
        front.pop()
        settled.add(here)
        total[here] = least
        for k, offset in enumerate(offsets):
            there = tuple(i + s for i, s in zip(here, offset, strict=True))
            if there in settled or not _inside(there, costs.shape):
                continue
            if not 0 <= value[there] < math.inf:
                continue
            if geometric:
                length = math.sqrt(sum((s * o) ** 2 for s, o in zip(spacing, offset, strict=True)))
                step = length * 0.5 * (float(value[here]) + float(value[there]))
            else:
                step = float(value[there])
            if least + step < trial.get(there, math.inf):
                if there not in trial:
                    front.append(there)
                trial[there] = least + step
                came[there] = k
    return total, came


def _inside(index: Index, shape: tuple[int, ...]) -> bool:
    return all(0 <= i < n for i, n in zip(index, shape, strict=True))
