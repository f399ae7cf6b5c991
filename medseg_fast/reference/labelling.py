"""Markov random fields: the energy as its definition says, and moves by trying all."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[tuple[int, ...], NDArray[Any]]  # by offset, from each pixel


def neighbours(weights: Weights, shape: tuple[int, ...]) -> Iterator[tuple[Any, Any, Any]]:
    """Every pair of pixels and its weight."""
    for offset, weight in weights.items():
        for p in np.ndindex(shape):
            q = tuple(a + b for a, b in zip(p, offset, strict=True))
            if all(0 <= a < n for a, n in zip(q, shape, strict=True)):
                yield p, q, weight[p]


def energy(
    unary: NDArray[Any], pairwise: NDArray[Any], labels: NDArray[Any], weights: Weights
) -> Any:
    total = sum(unary[p][labels[p]] for p in np.ndindex(labels.shape))
    for p, q, w in neighbours(weights, labels.shape):
        total += w * pairwise[labels[p], labels[q]]
    return total


def least_after_move(
    unary: NDArray[Any],
    pairwise: NDArray[Any],
    labels: NDArray[Any],
    weights: Weights,
    stay: NDArray[Any],
    go: NDArray[Any],
) -> Any:
    """The least energy any set of pixels that goes can give."""
    least = None
    for goes in itertools.product((False, True), repeat=labels.size):
        moved = np.where(np.reshape(goes, labels.shape), go[labels], stay[labels])
        e = energy(unary, pairwise, moved, weights)
        least = e if least is None else min(least, e)
    return least


def icm(
    unary: NDArray[Any], pairwise: NDArray[Any], labels: NDArray[Any], weights: Weights
) -> NDArray[Any]:
    beside: dict[Any, list[Any]] = {p: [] for p in np.ndindex(labels.shape)}
    for p, q, w in neighbours(weights, labels.shape):
        beside[p].append((q, w, False))
        beside[q].append((p, w, True))
    labels = labels.copy()
    while True:
        before = labels.copy()
        for p in np.ndindex(labels.shape):
            costs = unary[p].copy()
            for q, w, turned in beside[p]:
                costs += w * (pairwise[labels[q]] if turned else pairwise[:, labels[q]])
            if costs.min() < costs[labels[p]]:
                labels[p] = costs.argmin()
        if (labels == before).all():
            return labels
