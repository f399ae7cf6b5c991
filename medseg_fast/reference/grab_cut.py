"""GrabCut's energy, term by term."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def mixture_of(
    pixels: NDArray[np.float64], parts: NDArray[Any], least: float
) -> list[tuple[float, NDArray[np.float64], NDArray[np.float64]]]:
    """Weight, mean and covariance of each part's pixels; `least` is added to variances."""
    mixture = []
    for k in np.unique(parts):
        inside = pixels[parts == k]
        apart = inside - inside.mean(0)
        covariance = apart.T @ apart / len(inside) + least * np.eye(pixels.shape[1])
        mixture.append((len(inside) / len(pixels), inside.mean(0), covariance))
    return mixture


def costs(
    pixels: NDArray[np.float64],
    mixture: list[tuple[float, NDArray[np.float64], NDArray[np.float64]]],
) -> NDArray[np.float64]:
    """-log of weight and density, by component (first axis)."""
    rows = []
    for weight, mean, covariance in mixture:
        apart = pixels - mean
        distance = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart)
        determinant = np.linalg.det(2 * np.pi * covariance)
        rows.append(distance / 2 + np.log(determinant) / 2 - np.log(weight))
    return np.array(rows)
