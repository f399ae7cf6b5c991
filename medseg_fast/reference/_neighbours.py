"""Neighbours of a voxel, as the definition of connectivity says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

Index = tuple[int, ...]


def neighbours(index: Index, shape: tuple[int, ...], connectivity: int) -> Iterator[Index]:
    """Indices that differ by one in 1 to `connectivity` coordinates, in raster order."""
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        moved = tuple(i + s for i, s in zip(index, step, strict=True))
        inside = all(0 <= i < extent for i, extent in zip(moved, shape, strict=True))
        if inside and 1 <= sum(map(abs, step)) <= connectivity:
            yield moved
