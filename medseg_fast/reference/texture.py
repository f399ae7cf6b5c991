"""Counts of grey levels as the IBSI defines them, voxel by voxel."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Index = tuple[int, ...]


def level_at(levels: Array, index: Index) -> int:
    """0 outside the image, too."""
    inside = all(0 <= i < n for i, n in zip(index, levels.shape, strict=True))
    return int(levels[index]) if inside else 0


def moved(index: Index, offset: Index, times: int = 1) -> Index:
    return tuple(i + times * step for i, step in zip(index, offset, strict=True))


def neighbours(index: Index) -> Iterator[Index]:
    for offset in itertools.product((-1, 0, 1), repeat=len(index)):
        if any(offset):
            yield moved(index, offset)


def cooccurrence(levels: Array, offset: tuple[int, ...], number: int) -> Array:
    """How often a level has another one at the offset."""
    counts = np.zeros((number, number), np.int64)
    for index in np.ndindex(levels.shape):
        one, two = level_at(levels, index), level_at(levels, moved(index, offset))
        if one and two:
            counts[one - 1, two - 1] += 1
    return counts


def runs(levels: Array, offset: Index) -> Counter[tuple[int, int]]:
    """How many runs there are of a level and length."""
    found: Counter[tuple[int, int]] = Counter()
    for index in np.ndindex(levels.shape):
        level, length = level_at(levels, index), 1
        if not level or level_at(levels, moved(index, offset, -1)) == level:
            continue
        while level_at(levels, moved(index, offset, length)) == level:
            length += 1
        found[level, length] += 1
    return found


def zones(levels: Array) -> list[tuple[int, set[Index]]]:
    """Level and voxels of each zone."""
    found, seen = [], set()
    for start in np.ndindex(levels.shape):
        level = level_at(levels, start)
        if not level or start in seen:
            continue
        zone, rest = {start}, [start]
        while rest:
            for other in neighbours(rest.pop()):
                if level_at(levels, other) == level and other not in zone:
                    zone.add(other)
                    rest.append(other)
        seen |= zone
        found.append((level, zone))
    return found


def steps_to_outside(mask: Array, index: Index) -> int:
    """Steps along axes to the nearest voxel that is not in the mask, or not in the image."""
    if not mask[index]:
        return 0
    around = [range(-1, n + 1) for n in mask.shape]
    return min(
        sum(abs(i - j) for i, j in zip(index, other, strict=True))
        for other in itertools.product(*around)
        if not level_at(mask, other)
    )


def tone_differences(levels: Array) -> dict[int, list[float]]:
    """Of each level, how far each voxel is from the mean of its neighbours."""
    found: dict[int, list[float]] = {}
    for index in np.ndindex(levels.shape):
        level = level_at(levels, index)
        beside = [level_at(levels, other) for other in neighbours(index)]
        beside = [other for other in beside if other]
        if level and beside:
            found.setdefault(level, []).append(abs(level - sum(beside) / len(beside)))
    return found


def dependences(levels: Array, coarseness: int) -> Counter[tuple[int, int]]:
    """How many voxels of a level have so many neighbours of about the same."""
    found: Counter[tuple[int, int]] = Counter()
    for index in np.ndindex(levels.shape):
        level = level_at(levels, index)
        beside = [level_at(levels, other) for other in neighbours(index)]
        if level:
            found[level, sum(1 for o in beside if o and abs(o - level) <= coarseness)] += 1
    return found
