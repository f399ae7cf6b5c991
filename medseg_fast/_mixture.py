"""Mixtures of normal distributions of intensities, each pixel in its likeliest component."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core

Mixture = NDArray[np.float64]  # a row per component: see kernels/mixture.hpp
_SAMPLES = 20000  # enough to place the first components


def fit(pixels: NDArray[Any], components: int = 5, iterations: int = 3) -> Mixture:
    """Fit a mixture to pixels of shape (n, channels)."""
    parts = split(pixels, components)
    mixture = refit(pixels, parts, components)
    for _ in range(iterations):
        mixture = refit(pixels, costs(pixels, mixture)[1], len(mixture))
    return mixture


def split(pixels: NDArray[Any], components: int) -> NDArray[np.uint8]:
    """First components: halve the one that varies most along its main direction, repeatedly.

    Orchard and Bouman (1991), on at most 20000 of the pixels; the others join the likeliest.
    """
    every = sampling(len(pixels))
    some = np.ascontiguousarray(pixels[::every])
    sample = some.astype(np.float64)
    parts = np.zeros(len(sample), np.uint8)
    spreads = [_main_direction(sample)]
    for new in range(1, components):
        widest = max(range(new), key=lambda k: spreads[k][0])
        variance, direction = spreads[widest]
        if variance <= 0:
            break
        inside = np.flatnonzero(parts == widest)
        along = sample[inside] @ direction
        parts[inside[along > along.mean()]] = new
        spreads.append(_main_direction(sample[parts == new]))
        spreads[widest] = _main_direction(sample[parts == widest])
    if every == 1:
        return parts
    return costs(pixels, refit(some, parts, components))[1]


def sampling(pixels: int) -> int:
    """Which of so many pixels place the first components: each first of so many."""
    return max(1, -(-pixels // _SAMPLES))


def _main_direction(sample: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The largest variance times the number of pixels, and along which direction it is."""
    if len(sample) < 2:
        return 0.0, np.zeros(sample.shape[1])
    values, vectors = np.linalg.eigh(np.cov(sample.T, bias=True).reshape(sample.shape[1], -1))
    return float(values[-1]) * len(sample), vectors[:, -1]


def refit(pixels: NDArray[Any], parts: NDArray[np.uint8], components: int) -> Mixture:
    """The mixture whose components have the moments of their pixels; empty ones are left out.

    `parts` is of the shape of `pixels` without channels; numbers from `components` on are in none.
    """
    channels = pixels.shape[-1]
    lower = np.tril_indices(channels)
    origin = pixels.reshape(-1, channels)[0].astype(np.float64)
    sums = np.empty((components, 1 + channels + len(lower[0])))
    core.mixture_sums(pixels, parts, origin, sums)
    total = sums.sum(0)
    everything = _moments(total[None], channels)[1][0]
    # A component must be no thinner than a thousandth of the whole's variance.
    least = max(float(np.trace(everything)) / channels * 1e-3, 1e-12)
    rows = sums[sums[:, 0] > 0]
    means, covariances = _moments(rows, channels)
    roots = np.linalg.cholesky(covariances + least * np.eye(channels))
    constants = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
    constants += channels / 2 * math.log(2 * math.pi) - np.log(rows[:, 0] / total[0])
    factors = np.linalg.inv(roots)[:, lower[0], lower[1]]
    return np.concatenate([constants[:, None], means + origin, factors], axis=1)


def _moments(
    rows: NDArray[np.float64], channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and covariances from the counts and sums of products, one a row."""
    n = np.maximum(rows[:, :1], 1.0)
    means = rows[:, 1 : 1 + channels] / n
    i, j = np.tril_indices(channels)
    products = np.empty((len(rows), channels, channels))
    products[:, i, j] = products[:, j, i] = rows[:, 1 + channels :] / n
    return means, products - means[:, :, None] * means[:, None, :]


def costs(pixels: NDArray[Any], mixture: Mixture) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """-log of the density in the likeliest component and its weight; and which that is."""
    cost = np.empty(pixels.shape[:-1], np.float32)
    parts = np.empty(pixels.shape[:-1], np.uint8)
    core.mixture_costs(pixels, mixture, cost, parts)
    return cost, parts
