"""Local thresholds, as their formulas say: every window by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAD = {"reflect": "symmetric", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}


def of_windows(
    image: NDArray[Any],
    sizes: Sequence[int],
    mode: str,
    cval: float,
    function: Callable[[NDArray[np.float64]], float],
) -> NDArray[np.float64]:
    """`function` of the float64 pixels of each pixel's window."""
    if image.size == 0:
        return np.zeros(image.shape)
    radii = [(b // 2, b // 2) for b in sizes]
    if mode == "constant":
        padded = np.pad(image.astype(np.float64), radii, constant_values=cval)
    else:
        padded = np.pad(image.astype(np.float64), radii, _PAD[mode])  # type: ignore[call-overload]
    result = np.zeros(image.shape)
    for index in np.ndindex(image.shape):
        window = padded[tuple(slice(i, i + b) for i, b in zip(index, sizes, strict=True))]
        result[index] = function(window)
    return result


def mean(window: NDArray[np.float64]) -> float:
    """Correctly rounded for integers below 2**53."""
    values = window.ravel()
    if not np.isfinite(values).all():
        with np.errstate(invalid="ignore"):
            return float(values.mean())
    return math.fsum(values) / values.size


def median(window: NDArray[np.float64]) -> float:
    values = window.ravel()
    return math.nan if np.isnan(values).any() else float(np.sort(values)[values.size // 2])


def gaussian(sigmas: Sequence[float]) -> Callable[[NDArray[np.float64]], float]:
    """Weighted mean of a window whose radius is 4 sigma, rounded."""

    def weighted(window: NDArray[np.float64]) -> float:
        weights = np.ones(())
        for n, sigma in zip(window.shape, sigmas, strict=True):
            x = np.arange(n) - n // 2
            line = np.exp(-0.5 * (x / sigma) ** 2) if sigma > 0 else np.ones(1)
            weights = np.multiply.outer(weights, line / line.sum())
        return math.fsum((weights * window).ravel())

    return weighted


def niblack(k: float) -> Callable[[NDArray[np.float64]], float]:
    def threshold(window: NDArray[np.float64]) -> float:
        m = mean(window)
        return m - k * math.sqrt(mean((window - m) ** 2))

    return threshold


def sauvola(k: float, r: float) -> Callable[[NDArray[np.float64]], float]:
    def threshold(window: NDArray[np.float64]) -> float:
        m = mean(window)
        return m * (1 + k * (math.sqrt(mean((window - m) ** 2)) / r - 1))

    return threshold
