"""Thresholds from a histogram, as their formulas say, in exact fractions where that is possible."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


def histogram(image: NDArray[Any], nbins: int = 256) -> tuple[list[int], list[Any]]:
    """Counts and values: a bin per value for integers, equal bins between the extremes else."""
    pixels = image.ravel().tolist()
    if image.dtype.kind in "iu":
        number = Counter(pixels)
        values = list(range(min(pixels), max(pixels) + 1))
        return [number[v] for v in values], values
    dtype = image.dtype if image.dtype.kind == "f" else np.float64
    edges = np.linspace(image.dtype.type(min(pixels)), max(pixels), nbins + 1, dtype=dtype).tolist()
    counts = [0] * nbins
    for x in pixels:
        counts[next(k for k in range(nbins) if x < edges[k + 1] or k == nbins - 1)] += 1
    return counts, list((np.array(edges[:-1], dtype) + np.array(edges[1:], dtype)) / 2)


def otsu_variances(counts: list[int], values: list[Any]) -> list[Fraction]:
    """Variance between the classes, up to a factor, for a threshold at each bin but the last."""
    variances = []
    for k in range(1, len(counts)):
        number: list[Any] = []
        total: list[Any] = []
        for part in (slice(None, k), slice(k, None)):
            number.append(sum(counts[part]))
            products = (c * Fraction(v) for c, v in zip(counts[part], values[part], strict=True))
            total.append(sum(products))
        between = total[0] / number[0] - total[1] / number[1]
        variances.append(number[0] * number[1] * between**2)
    return variances


def threshold_otsu(image: NDArray[Any], nbins: int = 256) -> Any:
    counts, values = histogram(image, nbins)
    variances = otsu_variances(counts, values)
    return values[variances.index(max(variances))]


def threshold_multiotsu(probabilities: NDArray[np.float32], classes: int) -> tuple[int, ...]:
    """Bin indices by exhaustive search, in the peer's arithmetic: float32, ends first."""
    zeroth, first = [probabilities[0]], [probabilities[0]]
    for i, p in enumerate(probabilities[1:], 1):
        zeroth.append(zeroth[-1] + p)
        first.append(first[-1] + np.float32(i) * p)

    def variance(begin: int, end: int) -> np.float32:
        if begin == end == 0:
            return np.float32(0)
        number = zeroth[end] - (zeroth[begin - 1] if begin else np.float32(0))
        total = first[end] - (first[begin - 1] if begin else np.float32(0))
        return total * total / number if number > 0 else np.float32(0)

    best = np.float32(0)
    found: tuple[int, ...] = ()
    for cut in itertools.combinations(range(len(probabilities) - 1), classes - 1):
        value = variance(0, cut[0]) + variance(cut[-1] + 1, len(probabilities) - 1)
        for begin, end in itertools.pairwise(cut):
            value += variance(begin + 1, end)
        if value > best:
            best, found = value, cut
    return found


def multiotsu_levels(image: NDArray[Any], classes: int) -> list[Any]:
    """Those of an image with more values than classes."""
    counts, values = histogram(image)
    shares = (np.array(counts) / sum(counts)).astype(np.float32)
    return [values[k] for k in threshold_multiotsu(shares, classes)]


def threshold_triangle(image: NDArray[Any]) -> Any:
    """Of the bins of the longer tail the one farthest below the line from the peak to its end."""
    counts, values = histogram(image)
    peak, last = counts.index(max(counts)), len(counts) - 1
    right = last - peak > peak
    end = last if right else 0
    # Twice the area of the triangle of the line and the bin, over the line's length.
    tail = range(end, peak, -1 if right else 1)
    height, width = counts[peak], abs(end - peak)
    if not width:
        return values[0]
    depth = [height * abs(k - end) - width * counts[k] for k in tail]
    return values[tail[depth.index(max(depth))]]


def threshold_isodata(image: NDArray[np.integer[Any]]) -> list[int]:
    """Every integer t between the means' midpoint and one below it."""
    pixels = sorted(image.ravel().tolist())
    found = []
    for t in range(pixels[0], pixels[-1]):
        below = [p for p in pixels if p <= t]
        above = [p for p in pixels if p > t]
        middle = (Fraction(sum(below), len(below)) + Fraction(sum(above), len(above))) / 2
        if t <= middle < t + 1:
            found.append(t)
    return found


def threshold_yen(image: NDArray[Any]) -> Any:
    """The first value of the largest -log(G1 G2) + 2 log(P (1 - P)): shares' squares, and share."""
    counts, values = histogram(image)
    shares = [Fraction(c, sum(counts)) for c in counts]
    criterion = []
    for k in range(1, len(shares)):
        below, above = shares[:k], shares[k:]
        product = sum(s**2 for s in below) * sum(s**2 for s in above)
        criterion.append((sum(below) * sum(above)) ** 2 / product)
    return values[criterion.index(max(criterion))]


def threshold_minimum(image: NDArray[Any]) -> Any:
    """The lowest bin between the two peaks."""
    counts, values = histogram(image)
    _, (first, second), bins = smooth_to_two_peaks([float(c) for c in counts], 10_000)
    return values[bins.index(min(bins[first : second + 1]), first)]


def threshold_mean(image: NDArray[Any]) -> float:
    return float(sum(map(Fraction, image.ravel().tolist())) / image.size)


def threshold_li(image: NDArray[Any], tolerance: float) -> float:
    """Li and Tam's iteration from the mean, in float64."""
    low = min(image.ravel().tolist())
    pixels = [p - low for p in image.ravel().tolist()]
    t, previous = math.fsum(pixels) / len(pixels), -math.inf
    while abs(t - previous) > tolerance:
        previous = t
        below = [p for p in pixels if p <= t]
        above = [p for p in pixels if p > t]
        back, fore = math.fsum(below) / len(below), math.fsum(above) / len(above)
        if back == 0:
            break
        t = (back - fore) / (math.log(back) - math.log(fore))
    return float(t + low)


def smooth_to_two_peaks(counts: list[float], passes: int) -> tuple[int, list[int], list[float]]:
    """Passes made, places of the peaks, and the histogram after them."""
    bins = np.array(counts, np.float32)
    done = 0
    while True:
        done += 1
        padded = np.pad(bins.astype(np.float64), 1, mode="edge")
        sums = list(
            itertools.accumulate(
                padded[3:] - padded[:-3], initial=padded[0] + padded[1] + padded[2]
            )
        )
        bins = (np.array(sums) / 3).astype(np.float32)
        peaks, rising = [], True
        for i, (here, after) in enumerate(itertools.pairwise(bins.tolist())):
            if rising and after < here:
                peaks.append(i)
            rising = after > here or (rising and after == here)
        if len(peaks) < 3 or done == passes:
            return done, peaks, bins.tolist()
