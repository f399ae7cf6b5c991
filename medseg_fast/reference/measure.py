"""Measurements of one region as their definitions say, voxel by voxel and pair by pair."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def second_moments(mask: Array) -> Array:
    """Sums of products of the indices' distances from their mean."""
    away = np.argwhere(mask) - np.argwhere(mask).mean(0)
    result: Array = away.T @ away
    return result


def outline(mask: Array) -> Array:
    """Indices of the middles of all faces between the region and the outside, one a row."""
    found = []
    for index in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = index.copy()
            other[axis] += step
            outside = not 0 <= other[axis] < mask.shape[axis]
            if outside or not mask[tuple(other)]:
                found.append((index + other) / 2)
    return np.array(found)


def max_diameter(mask: Array, spacing: tuple[float, ...]) -> float:
    """Largest distance between two middles of faces."""
    points = outline(mask) * spacing
    return max(math.dist(p, q) for p in points for q in points)


def axes(mask: Array, spacing: tuple[float, float]) -> tuple[float, float]:
    """Of a plane the largest diameter, and the longest chord of the outline's hull across it.

    Chords through places close to each other along the diameter; the hull as all lines between
    two places of the outline.
    """
    points = outline(mask) * spacing
    lengths = np.linalg.norm(points[:, None] - points[None], axis=2)
    i, j = np.unravel_index(int(lengths.argmax()), lengths.shape)
    along = (points[j] - points[i]) / lengths[i, j]
    beside = np.array([along[1], -along[0]])
    s, t = points @ along, points @ beside
    widest = 0.0
    for at in s:
        cuts = [float(t[k]) for k in range(len(s)) if abs(s[k] - at) < 1e-9]
        for p, q in itertools.combinations(range(len(s)), 2):
            if (s[p] - at) * (s[q] - at) < 0:
                cuts.append(float(t[p] + (t[q] - t[p]) * (at - s[p]) / (s[q] - s[p])))
        widest = max(widest, max(cuts) - min(cuts))
    return float(lengths[i, j]), widest


def convex_image(mask: Array) -> Array:
    """Pixels that no line through two middles of faces has alone on one side."""
    points = (2 * outline(mask)).astype(int).tolist()
    inside = np.ones(mask.shape, bool)
    for (y, x), (v, u) in itertools.permutations({tuple(p) for p in points}, 2):
        left = [(v - y) * (b - x) - (u - x) * (a - y) for a, b in points]
        if min(left) >= 0:  # the line is one of the hull's sides
            for a, b in np.ndindex(mask.shape):
                inside[a, b] &= (v - y) * (2 * b - x) - (u - x) * (2 * a - y) >= 0
    return inside


def first_order(values: Array) -> dict[str, float]:
    """The IBSI's intensity-based statistics."""
    x = np.asarray(values, np.float64)
    x = x[~np.isnan(x)]
    mean, median = x.mean(), np.median(x)
    p10, p25, p75, p90 = np.percentile(x, (10, 25, 75, 90))
    middle = x[(x >= p10) & (x <= p90)]
    variance = x.var()
    figures = {
        "count": x.size,
        "mean": mean,
        "variance": variance,
        "skewness": ((x - mean) ** 3).mean() / variance**1.5 if variance else 0,
        "kurtosis": ((x - mean) ** 4).mean() / variance**2 - 3 if variance else 0,
        "median": median,
        "min": x.min(),
        "p10": p10,
        "p90": p90,
        "max": x.max(),
        "interquartile_range": p75 - p25,
        "range": x.max() - x.min(),
        "mean_absolute_deviation": np.abs(x - mean).mean(),
        "robust_mean_absolute_deviation": np.abs(middle - middle.mean()).mean(),
        "median_absolute_deviation": np.abs(x - median).mean(),
        "coefficient_of_variation": x.std() / mean if variance else 0,
        "quartile_coefficient_of_dispersion": (p75 - p25) / (p75 + p25) if variance else 0,
        "energy": (x**2).sum(),
        "root_mean_square": math.sqrt((x**2).mean()),
        "std": x.std(),
    }
    return {name: float(value) for name, value in figures.items()}
