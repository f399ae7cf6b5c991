"""Random walks to seeds, by solving the whole linear system densely."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def random_walker(
    image: NDArray[np.float64], labels: NDArray[Any], beta: float, spacing: tuple[float, ...]
) -> NDArray[np.float64]:
    """Probabilities, label first; channels of `image` last, labels numbered from 1.

    Zero where a pixel has no way to a seed, and where its label is negative.
    """
    number = np.arange(labels.size).reshape(labels.shape)
    laplacian = np.zeros((labels.size, labels.size))
    deviation = image.std() * np.sqrt(image.shape[-1])
    for axis, size in enumerate(spacing):
        for index in np.ndindex(labels.shape):
            if index[axis] + 1 == labels.shape[axis]:
                continue
            other = tuple(i + (a == axis) for a, i in enumerate(index))
            if labels[index] < 0 or labels[other] < 0:
                continue
            squares = (((image[index] - image[other]) / size) ** 2).sum()
            exponent = -beta * squares / (10 * deviation) if deviation else 0
            weight = np.exp(exponent) + 1e-10
            i, j = number[index], number[other]
            laplacian[i, j] -= weight
            laplacian[j, i] -= weight
            laplacian[i, i] += weight
            laplacian[j, j] += weight
    flat = labels.ravel()
    seeded = _reached(laplacian, flat > 0)
    unknown = (flat == 0) & seeded
    probabilities = np.zeros((flat.max(), labels.size))
    for k in range(flat.max()):
        at_seeds = (flat == k + 1).astype(float)
        right = -(laplacian[unknown] @ at_seeds)
        probabilities[k] = at_seeds
        probabilities[k, unknown] = np.linalg.solve(laplacian[unknown][:, unknown], right)
    return probabilities.reshape(-1, *labels.shape)


def _reached(laplacian: NDArray[np.float64], start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    reached = start
    while True:
        more = reached | ((laplacian != 0) @ reached)
        if (more == reached).all():
            return reached
        reached = more
