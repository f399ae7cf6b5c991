"""Image moments of one region, in any number of dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def moments(image: Array, center: Sequence[float] | Array, spacing: Array, order: int = 3) -> Array:
    """Sums of the values times powers, up to `order` each, of their distances from `center`."""
    result: Array = image.astype(np.float64, copy=False)
    for n, at, size in zip(image.shape, center, spacing, strict=True):
        powers = (np.arange(n) * size - at)[:, None] ** np.arange(order + 1)
        result = np.tensordot(result, powers, axes=(0, 0))  # this axis goes, its powers come last
    return result


def normalized(central: Array, spacing: Array, order: int = 3) -> Array:
    """Central moments that do not change with scale; NaN for powers that sum to less than 2."""
    whole, scale = central.flat[0], float(min(spacing))
    result = np.full(central.shape, np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):  # intensities may sum to 0 or less
        for powers in itertools.product(range(order + 1), repeat=central.ndim):
            total = sum(powers)
            if total >= 2:
                share = whole ** (total / central.ndim + 1)
                result[powers] = central[powers] / scale**total / share
    return result


def hu(nu: Array) -> Array:
    """Hu's seven moments, which do not change with rotation, of normalized ones.

    M.-K. Hu, "Visual pattern recognition by moment invariants", IRE Trans. Inform. Theory 8 (1962)
    179-187.
    """
    n20, n02, n11 = nu[2, 0], nu[0, 2], nu[1, 1]
    n30, n03, n21, n12 = nu[3, 0], nu[0, 3], nu[2, 1], nu[1, 2]
    p, q = n30 + n12, n21 + n03
    u, v = p * p - q * q, n20 - n02
    a, b = n30 - 3 * n12, 3 * n21 - n03
    long_p, long_q = p * (p * p - 3 * q * q), q * (3 * p * p - q * q)
    return np.array(
        [
            n20 + n02,
            v * v + 4 * n11 * n11,
            a * a + b * b,
            p * p + q * q,
            a * long_p + b * long_q,
            v * u + 4 * n11 * p * q,
            b * long_p - a * long_q,
        ]
    )


def perimeter(image: Array) -> float:
    """Length of the line through the centres of border pixels, by their neighbourhoods.

    K. Benkrid, D. Crookes, "Design and FPGA implementation of a perimeter estimator", Queen's
    University of Belfast, 2000.
    """
    inside = np.pad(image, 2).astype(bool)
    inner = inside[1:-1, 1:-1].copy()
    for step in (0, 2):
        inner &= inside[step : step + inner.shape[0], 1:-1]
        inner &= inside[1:-1, step : step + inner.shape[1]]
    border = (inside[1:-1, 1:-1] & ~inner).astype(np.int64)
    rows, columns = (n - 2 for n in border.shape)
    part = [[border[y : y + rows, x : x + columns] for x in range(3)] for y in range(3)]
    straight = part[0][1] + part[1][0] + part[1][2] + part[2][1]
    oblique = part[0][0] + part[0][2] + part[2][0] + part[2][2]
    pairs = np.bincount((straight + 5 * oblique)[part[1][1] == 1], minlength=25).reshape(5, 5)
    weights = np.zeros((5, 5))  # (diagonal neighbours, neighbours by a side)
    weights[[0, 0, 1, 1], [2, 3, 2, 3]] = 1
    weights[[2, 2], [2, 3]] = 1
    weights[[2, 3], [0, 1]] = math.sqrt(2)
    weights[[1, 2], [1, 1]] = (1 + math.sqrt(2)) / 2
    return float((pairs * weights).sum())
