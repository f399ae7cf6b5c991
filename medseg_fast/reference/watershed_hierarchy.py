"""Merging watershed basins, one pass after the other, with plain sets."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import neighbours
from medseg_fast.reference.watershed_immersion import drains, watershed_immersion

Merge = tuple[float, int, int]


def passes(
    image: NDArray[Any], labels: NDArray[np.int32], connectivity: int
) -> list[tuple[float, int, int]]:
    """Height, lower and higher label of every pass, in the order of flooding."""
    found: dict[tuple[int, int], float] = {}
    for p in itertools.product(*map(range, image.shape)):
        for q in neighbours(p, image.shape, connectivity):
            a, b = int(labels[p]), int(labels[q])
            if 0 < a < b:
                height = float(max(image[p], image[q]))
                found[a, b] = min(height, found.get((a, b), math.inf))
    return sorted((height, a, b) for (a, b), height in found.items())


def merges(
    image: NDArray[Any],
    connectivity: int = 1,
    mask: NDArray[np.bool_] | None = None,
    saliency: str = "dynamics",
) -> list[Merge]:
    """Saliency of every merge and the two basins it joins, in the order of flooding."""
    labels = watershed_immersion(image, connectivity, mask)
    region = {label: frozenset([label]) for label in range(1, int(labels.max(initial=0)) + 1)}
    values = {label: image[labels == label].astype(np.float64) for label in region}
    rises: dict[frozenset[int], tuple[float, float]] = {}  # level and volume of merged regions

    def volume(basins: frozenset[int], level: float) -> float:
        area = sum(values[label].size for label in basins)
        if basins in rises:
            since, held = rises[basins]
        else:
            since, held = min(values[label].min() for label in basins), 0.0
        return float(held + area * (level - since))

    def amount(basins: frozenset[int], level: float) -> float:
        if saliency == "dynamics":
            return float(level - min(values[label].min() for label in basins))
        if saliency == "area":
            return float(sum(values[label].size for label in basins))
        return volume(basins, level)

    done: list[Merge] = []
    for height, a, b in passes(image, labels, connectivity):
        one, two = region[a], region[b]
        if one == two:
            continue
        done.append((min(amount(one, height), amount(two, height)), a, b))
        rises[one | two] = (height, volume(one, height) + volume(two, height))
        for label in one | two:
            region[label] = one | two
    return done


def cut(labels: NDArray[np.int32], made: list[Merge]) -> NDArray[np.int32]:
    """Labels after the merges that are made."""
    lowest = {label: label for label in range(int(labels.max(initial=0)) + 1)}
    for _, a, b in made:
        joined = {lowest[a], lowest[b]}
        for label, now in lowest.items():
            if now in joined:
                lowest[label] = min(joined)
    numbers = {low: number for number, low in enumerate(sorted(set(lowest.values())))}
    table = np.array([numbers[lowest[label]] for label in sorted(lowest)], np.int32)
    joined_labels: NDArray[np.int32] = table[labels]
    return joined_labels


def dynamics(image: NDArray[Any], connectivity: int = 1) -> dict[int, float]:
    """Of each minimum: the climb to a lower one, or an equal one with a lower number."""
    minima, _ = drains(image, connectivity)
    depth = {n: float(image[minima == n][0]) for n in range(1, int(minima.max(initial=0)) + 1)}
    found = dict.fromkeys(depth, math.inf)
    for level in sorted({float(v) for v in image.flat}, reverse=True):
        flooded = image <= level
        for n in depth:
            if depth[n] > level:
                continue
            start = tuple(int(i[0]) for i in (minima == n).nonzero())
            seen, stack = {start}, [start]
            while stack:
                for q in neighbours(stack.pop(), image.shape, connectivity):
                    if q not in seen and flooded[q]:
                        seen.add(q)
                        stack.append(q)
            others = {int(minima[p]) for p in seen} - {0}
            if any((depth[m], m) < (depth[n], n) for m in others):
                found[n] = level - depth[n]
    return found
