"""Slow twins of `medseg_fast.nn.functional.pooling`: one window, one value after another."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray


def max_pool_with_indices(
    planes: NDArray[Any],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    counts: Sequence[int],
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Windows of planes of shape (planes, ...); `counts`: how many along each axis."""
    shape = planes.shape[1:]
    values = np.zeros((len(planes), *counts), planes.dtype)
    indices = np.zeros(values.shape, np.int64)
    for at in np.ndindex(*values.shape):
        best = None
        for tap in product(*map(range, kernel)):
            where = tuple(
                o * s - p + t * d
                for o, s, p, t, d in zip(at[1:], stride, padding, tap, dilation, strict=True)
            )
            if not all(0 <= w < n for w, n in zip(where, shape, strict=True)):
                continue
            value = planes[(at[0], *where)]
            if best is None or value > best or np.isnan(value):
                best, indices[at] = value, np.ravel_multi_index(where, shape)
        values[at] = best
    return values, indices


def max_unpool(
    planes: NDArray[Any], indices: NDArray[np.int64], size: Sequence[int]
) -> NDArray[Any]:
    """Values of planes of shape (planes, ...) at their indices in zeros of `size`."""
    output = np.zeros((len(planes), int(np.prod(size))), planes.dtype)
    for plane, values, where in zip(output, planes, indices, strict=True):
        for value, index in zip(values.ravel(), where.ravel(), strict=True):
            plane[index] = value
    return output.reshape(-1, *size)


def pyramid_pool(
    x: NDArray[Any],
    bins: Sequence[int],
    weights: Sequence[NDArray[Any]] | None = None,
    biases: Sequence[NDArray[Any]] | None = None,
    relu: bool = False,
    align_corners: bool = False,
) -> NDArray[np.float64]:
    """Features of shape (N, C, H, W) and their means over grids, interpolated pixel by pixel."""
    x = x.astype(np.float64)
    rows, columns = x.shape[2:]
    parts = [x]
    for i, b in enumerate(bins):
        grid = np.empty((*x.shape[:2], b, b))
        for y, z in np.ndindex(b, b):
            top, bottom = y * rows // b, -(-(y + 1) * rows // b)
            left, right = z * columns // b, -(-(z + 1) * columns // b)
            grid[:, :, y, z] = x[:, :, top:bottom, left:right].mean((2, 3))
        if weights is not None:
            weight = weights[i].reshape(weights[i].shape[:2]).astype(np.float64)
            grid = np.einsum("oc,ncyx->noyx", weight, grid)
            if biases is not None:
                grid += biases[i][:, None, None]
        if relu:
            grid = np.maximum(grid, 0)
        part = np.empty((*grid.shape[:2], rows, columns))
        for y, z in np.ndindex(rows, columns):
            at = [_position(o, n, b, align_corners) for o, n in ((y, rows), (z, columns))]
            (a, b_, p), (c, d, q) = at
            part[:, :, y, z] = (1 - p) * ((1 - q) * grid[:, :, a, c] + q * grid[:, :, a, d])
            part[:, :, y, z] += p * ((1 - q) * grid[:, :, b_, c] + q * grid[:, :, b_, d])
        parts.append(part)
    return np.concatenate(parts, 1)


def _position(output: int, n: int, cells: int, align_corners: bool) -> tuple[int, int, float]:
    """The two cells that an output lies between, and how far from the first to the second."""
    if align_corners:
        at = output * (cells - 1) / (n - 1) if n > 1 else 0.0
    else:
        at = max((output + 0.5) * cells / n - 0.5, 0.0)
    low = min(int(at), cells - 1)
    return low, min(low + 1, cells - 1), at - low
