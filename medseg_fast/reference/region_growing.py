"""Region growing by similarity, one voxel at a time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import Index, neighbours


class Statistics:
    """Running mean and population variance (Welford)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        deviation = value - self.mean
        self.mean += deviation / self.count
        self.squares += deviation * (value - self.mean)

    @property
    def std(self) -> float:
        return math.sqrt(self.squares / self.count)


def seeded_region_growing(
    image: NDArray[Any],
    markers: NDArray[Any],
    connectivity: int = 1,
    mask: NDArray[np.bool_] | None = None,
    max_distance: float = math.inf,
    max_voxels: int | None = None,
) -> tuple[NDArray[Any], set[int]]:
    """The labels, and which of them `max_voxels` kept from a voxel."""
    allowed = np.isfinite(image) & (True if mask is None else mask)
    labels = np.where(allowed, markers, 0).astype(markers.dtype)
    regions: dict[int, Statistics] = {}
    for index in map(tuple, np.argwhere(labels)):
        regions.setdefault(int(labels[index]), Statistics()).add(float(image[index]))
    waiting: list[tuple[float, int, Index]] = []  # (distance, age, voxel)
    listed: set[Index] = set()
    age = 0
    stopped: set[int] = set()

    def near(index: Index) -> list[Index]:
        return list(neighbours(index, image.shape, connectivity))

    def takers(index: Index, candidates: set[int]) -> list[tuple[float, int]]:
        """(distance, label) of the regions that may take the voxel, the nearest first."""
        result = []
        for label in candidates:
            distance = abs(float(image[index]) - regions[label].mean)
            if distance > max_distance:
                continue
            if max_voxels is not None and regions[label].count >= max_voxels:
                stopped.add(label)
            else:
                result.append((distance, label))
        return sorted(result)

    def touched(index: Index) -> set[int]:
        return {int(labels[n]) for n in near(index) if labels[n]}

    def enter(index: Index, candidates: set[int]) -> None:
        nonlocal age
        if labels[index] or index in listed or not allowed[index]:
            return
        found = takers(index, candidates)
        if found:
            listed.add(index)
            heapq.heappush(waiting, (found[0][0], age, index))
            age += 1

    for index in map(tuple, np.argwhere(labels)):
        for other in near(index):
            enter(other, touched(other))
    while waiting:
        _, _, index = heapq.heappop(waiting)
        listed.remove(index)
        found = takers(index, touched(index))
        if found:
            label = found[0][1]
            labels[index] = label
            regions[label].add(float(image[index]))
            for other in near(index):
                enter(other, {label})
    return labels, stopped


def region_growing(
    image: NDArray[Any],
    groups: dict[int, list[Index]],
    criterion: Callable[[float, float, float, float], Any],
    connectivity: int = 1,
    max_voxels: int | None = None,
    max_growth: int | None = None,
) -> tuple[NDArray[np.int32], set[int]]:
    """The labels, and which regions a limit stopped."""
    labels = np.zeros(image.shape, np.int32)
    regions, fronts, seed_values = {}, {}, {}
    for label, seeds in groups.items():
        regions[label] = Statistics()
        fronts[label] = list(dict.fromkeys(seeds))
        for index in fronts[label]:
            labels[index] = label
            regions[label].add(float(image[index]))
        seed_values[label] = regions[label].mean
    stopped: set[int] = set()
    while any(fronts.values()):
        for label, front in fronts.items():
            region, joined = regions[label], {}
            for index in front:
                for other in neighbours(index, image.shape, connectivity):
                    value = float(image[other])
                    if labels[other] or other in joined or math.isnan(value):
                        continue
                    if criterion(value, region.mean, region.std, seed_values[label]):
                        joined[other] = value
            too_many = max_voxels is not None and region.count + len(joined) > max_voxels
            if too_many or (max_growth is not None and len(joined) > max_growth):
                stopped.add(label)
                joined = {}
            for other in joined:
                labels[other] = label
            for value in joined.values():
                region.add(value)
            fronts[label] = list(joined)
    return labels, stopped
