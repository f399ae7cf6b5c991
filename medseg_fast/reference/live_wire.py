"""Costs of live-wire's steps, one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 255


def _edge(gradient: Sequence[float]) -> tuple[float, float] | None:
    """Unit vector along the edge, as one of 255 directions."""
    if gradient[0] == 0 and gradient[1] == 0:
        return None
    turn = 2 * math.pi * round(math.atan2(gradient[0], gradient[1]) / 2 / math.pi * DIRECTIONS)
    turn /= DIRECTIONS
    return math.cos(turn), -math.sin(turn)


def step_cost(
    local: NDArray[Any],
    gradient: NDArray[Any],
    here: tuple[int, int],
    there: tuple[int, int],
    spacing: Sequence[float],
    weight: float,
) -> float:
    """Mortensen and Barrett's cost of a step, times its length."""
    move = [(t - h) * s for h, t, s in zip(here, there, spacing, strict=True)]
    length = math.hypot(*move)
    edges = [_edge(gradient[:, r, c].tolist()) for r, c in (here, there)]
    along = [0.0 if e is None else (e[0] * move[0] + e[1] * move[1]) / length for e in edges]
    if along[0] < 0:  # the link has the direction of the edge it leaves
        along = [-a for a in along]
    angles = [math.acos(min(max(a, -1.0), 1.0)) for a in along]
    return length * (float(local[there]) + weight * 2 / (3 * math.pi) * sum(angles))


def least_cost(
    local: NDArray[Any],
    gradient: NDArray[Any],
    start: tuple[int, int],
    spacing: Sequence[float],
    weight: float,
) -> NDArray[np.float64]:
    """Costs of the best paths, by relaxing every step until nothing changes."""
    cost = np.full(local.shape, np.inf)
    cost[start] = 0
    while True:
        before = cost.copy()
        for r, c in np.ndindex(*local.shape):
            for dr, dc in ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)):
                there = (r + dr, c + dc)
                if 0 <= there[0] < local.shape[0] and 0 <= there[1] < local.shape[1]:
                    step = step_cost(local, gradient, (r, c), there, spacing, weight)
                    cost[there] = min(cost[there], cost[r, c] + step)
        if np.array_equal(before, cost):
            return cost
