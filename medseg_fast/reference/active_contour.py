"""A snake by dense matrices and B-splines from their recurrence."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _knots(n: int) -> Array:
    return np.array([0, 0, 0, *(np.arange(n - 3) + 1.5), n - 1, n - 1, n - 1], float)


def _basis(x: float, n: int, degree: int = 2) -> Array:
    """Values at x of the B-splines over the knots for n points (Cox and de Boor)."""
    t = _knots(n)
    piece = min(int(np.searchsorted(t, x, side="right")) - 1, n - 1)
    values = np.zeros(len(t) - 1)
    values[piece] = 1
    for d in range(1, degree + 1):
        new = np.zeros(len(t) - 1 - d)
        for i in range(len(new)):
            if t[i + d] > t[i]:
                new[i] += (x - t[i]) / (t[i + d] - t[i]) * values[i]
            if t[i + d + 1] > t[i + 1]:
                new[i] += (t[i + d + 1] - x) / (t[i + d + 1] - t[i + 1]) * values[i + 1]
        values = new
    return values


def _slope(x: float, n: int) -> Array:
    """Their derivatives."""
    t, lower = _knots(n), _basis(x, n, 1)
    slope = np.zeros(n)
    for i in range(n):
        if t[i + 2] > t[i]:
            slope[i] += 2 / (t[i + 2] - t[i]) * lower[i]
        if t[i + 3] > t[i + 1]:
            slope[i] -= 2 / (t[i + 3] - t[i + 1]) * lower[i + 1]
    return slope


def _matrix(n: int, alpha: float, beta: float, ends: tuple[str, str]) -> Array:
    eye = np.eye(n)
    second = np.roll(eye, 1, 0) + np.roll(eye, -1, 0) - 2 * eye
    fourth = np.roll(eye, 2, 0) + np.roll(eye, -2, 0) - 4 * np.roll(eye, 1, 0)
    fourth += 6 * eye - 4 * np.roll(eye, -1, 0)
    a = beta * fourth - alpha * second
    for kind in ("fixed", "free"):
        if ends[0] == kind:
            a[:2] = 0
            if kind == "fixed":
                a[1, :3] = 1, -2, 1
            else:
                a[0, :3] = 1, -2, 1
                a[1, :4] = -1, 3, -3, 1
        if ends[1] == kind:
            a[-2:] = 0
            if kind == "fixed":
                a[-2, -3:] = 1, -2, 1
            else:
                a[-1, -3:] = 1, -2, 1
                a[-2, -4:] = -1, 3, -3, 1
    return np.asarray(a)


def active_contour(
    potential: Array,
    snake: Array,
    alpha: float,
    beta: float,
    gamma: float,
    max_px_move: float,
    max_num_iter: int,
    convergence: float,
    ends: tuple[str, str],
) -> Array:
    rows, columns = potential.shape
    along_rows = np.array([_basis(i, rows) for i in range(rows)])
    along_columns = np.array([_basis(i, columns) for i in range(columns)])
    coefficients: Any = np.linalg.solve(along_rows, potential)
    coefficients = np.linalg.solve(along_columns, coefficients.T).T
    inverse = np.linalg.inv(_matrix(len(snake), alpha, beta, ends) + gamma * np.eye(len(snake)))
    scale = {"periodic": 1, "fixed": 0, "free": 2}
    at = snake.astype(float)
    before: list[Array] = []
    for iteration in range(max_num_iter):
        force = []
        for y, x in at:
            y, x = np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)
            down = _slope(y, rows) @ coefficients @ _basis(x, columns)
            across = _basis(y, rows) @ coefficients @ _slope(x, columns)
            force.append((down, across))
        pull = np.array(force)
        pull[0] *= scale[ends[0]]
        pull[-1] *= scale[ends[1]]
        step = max_px_move * np.tanh(inverse @ (gamma * at + pull) - at)
        if ends[0] == "fixed":
            step[0] = 0
        if ends[1] == "fixed":
            step[-1] = 0
        at = at + step
        if iteration % 11 < 10:
            before = [*before, at][-10:]
        elif min(np.abs(old - at).sum(1).max() for old in before) < convergence:
            break
    return at
