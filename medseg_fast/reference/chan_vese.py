"""Active contours without edges, equation 22 of Getreuer (2012), on whole arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def _means(image: NDArray[Any], weight: NDArray[Any]) -> list[Any]:
    """Of the image inside and outside, weighted."""
    sums = [(np.sum(image * w), np.sum(w)) for w in (weight, 1 - weight)]
    return [total / n if n != 0 else total for total, n in sums]


def _around(phi: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """The neighbours to the left, right, above and below; at the border the pixel itself."""
    p = np.pad(phi, 1, mode="edge")
    return p[1:-1, :-2], p[1:-1, 2:], p[:-2, 1:-1], p[2:, 1:-1]


def energy(
    image: NDArray[Any], phi: NDArray[Any], mu: float, lambda1: float, lambda2: float
) -> float:
    inside = 0.5 * (1 + (2 / np.pi) * np.arctan(phi))
    c1, c2 = _means(image, inside)
    left, right, up, down = _around(phi)
    length = np.hypot((right - left) / 2, (down - up) / 2) / (1 + phi**2)
    fit = lambda1 * (image - c1) ** 2 * inside + lambda2 * (image - c2) ** 2 * (1 - inside)
    return float(np.sum(fit) + mu * np.sum(length))


def chan_vese(
    image: NDArray[Any],
    phi: NDArray[Any],
    mu: float,
    lambda1: float,
    lambda2: float,
    tol: float,
    max_num_iter: int,
    dt: float,
) -> tuple[NDArray[Any], list[float]]:
    """Level set and energies; `image` from 0 to 1, in the dtype of `phi`."""
    energies: list[float] = []
    change = tol + 1
    while change > tol and len(energies) < max_num_iter:
        energies.append(energy(image, phi, mu, lambda1, lambda2))
        c1, c2 = _means(image, (phi > 0).astype(image.dtype))
        left, right, up, down = _around(phi)
        x0, y0 = (right - left) / 2, (down - up) / 2
        squares = [
            ((right - phi) ** 2, y0**2),
            ((phi - left) ** 2, y0**2),
            (x0**2, (down - phi) ** 2),
            (x0**2, (phi - up) ** 2),
        ]
        c = [1 / np.sqrt(1e-16 + a + b) for a, b in squares]
        pull = right * c[0] + left * c[1] + down * c[2] + up * c[3]
        fit = -lambda1 * (image - c1) ** 2 + lambda2 * (image - c2) ** 2
        delta = 1 / (1 + phi**2)
        new = phi + (dt * delta) * (mu * pull + fit)
        new = new / (1 + mu * dt * delta * (c[0] + c[1] + c[2] + c[3]))
        change = np.sqrt(((new - phi) ** 2).mean())
        phi = new
    return phi, energies
