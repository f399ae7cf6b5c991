"""The metrics as their definitions say, voxel by voxel and pair by pair."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Points = list[tuple[float, ...]]


def overlap(a: Array, b: Array) -> tuple[int, int, int, int]:
    """Voxels in both, in the first alone, in the second alone, in neither."""
    count = Counter(zip((a != 0).ravel().tolist(), (b != 0).ravel().tolist(), strict=True))
    return count[True, True], count[True, False], count[False, True], count[False, False]


def contingency(a: Array, b: Array) -> dict[tuple[int, int], int]:
    """How often each pair of labels meets."""
    return Counter(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))


def _points(mask: Array, spacing: tuple[float, ...]) -> Points:
    return [
        tuple(i * mm for i, mm in zip(index, spacing, strict=True))
        for index in np.argwhere(mask).tolist()
    ]


def _nearest(of: Points, to: Points) -> list[float]:
    return [min((math.dist(p, q) for q in to), default=math.inf) for p in of]


def hausdorff_distance(
    a: Array, b: Array, spacing: tuple[float, ...], method: str = "standard"
) -> float:
    """Largest distance of a voxel of one mask to the other, or the larger mean."""
    first, second = _points(a, spacing), _points(b, spacing)
    if not first or not second:
        return 0.0 if not (first or second) else math.inf
    both = _nearest(first, second), _nearest(second, first)
    return max(max(d) if method == "standard" else sum(d) / len(d) for d in both)


def surface(mask: Array) -> Array:
    """Voxels of the mask with a face towards the outside or at the image's border."""
    result = np.zeros(mask.shape, bool)
    for index in map(tuple, np.argwhere(mask)):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(index)
            other[axis] += step
            outside = not 0 <= other[axis] < mask.shape[axis]
            if outside or not mask[tuple(other)]:
                result[index] = True
    return result


def average_surface_distance(a: Array, b: Array, spacing: tuple[float, ...]) -> float:
    """Mean over the surface voxels of both of the distance to the other surface."""
    first, second = _points(surface(a), spacing), _points(surface(b), spacing)
    if not first or not second:
        return 0.0 if not (first or second) else math.inf
    distances = _nearest(first, second) + _nearest(second, first)
    return sum(distances) / len(distances)


def surface_cells(mask: Array) -> Array:
    """Code of the cell before each voxel and behind the last ones: bit 4 z + 2 y + x."""
    padded = np.pad(mask != 0, 1)
    codes = np.zeros([n + 1 for n in mask.shape], np.uint8)
    for bit, corner in enumerate(itertools.product((0, 1), repeat=mask.ndim)):
        part = padded[tuple(slice(c, c + n + 1) for c, n in zip(corner, mask.shape, strict=True))]
        codes |= part.astype(np.uint8) << bit
    return codes


def pair_counts(a: Array, b: Array) -> tuple[int, int, int, int]:
    """Pairs of voxels together in both, in the first alone, in the second alone, in neither."""
    count: Counter[tuple[bool, bool]] = Counter()
    for (i, j), (k, m) in itertools.combinations(
        zip(a.ravel().tolist(), b.ravel().tolist(), strict=True), 2
    ):
        count[i == k, j == m] += 1
    return count[True, True], count[True, False], count[False, True], count[False, False]


def variation_of_information(a: Array, b: Array) -> tuple[float, float]:
    """Entropy of the second given the first, and of the first given the second, in bits."""
    pairs, n = contingency(a, b), a.size
    first, second = Counter(a.ravel().tolist()), Counter(b.ravel().tolist())
    return (
        -sum(c / n * math.log2(c / first[i]) for (i, _), c in pairs.items()),
        -sum(c / n * math.log2(c / second[j]) for (_, j), c in pairs.items()),
    )


def roc_auc(truth: Array, score: Array) -> float:
    """How often a true voxel's score exceeds another's; equal scores count half."""
    positive, negative = score[truth != 0].tolist(), score[truth == 0].tolist()
    wins = sum((p > q) + 0.5 * (p == q) for p in positive for q in negative)
    return wins / (len(positive) * len(negative)) if positive and negative else math.nan


def instance_average_precision(pred: Array, truth: Array, threshold: float) -> float:
    """Objects found over objects found, missed and invented."""
    found, true = ({v for v in x.ravel().tolist() if v} for x in (pred, truth))
    hits = 0
    for i, j in itertools.product(found, true):
        a, b = pred == i, truth == j
        hits += (a & b).sum() / (a | b).sum() >= threshold
    every = len(found) + len(true) - hits
    return hits / every if every else 1.0
