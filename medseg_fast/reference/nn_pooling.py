"""Slow twins of `medseg_fast.nn.functional.pooling`: one window, one value, one bin after another."""

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
    """Values of planes of shape (planes, ...) at their indices in zeros of shape (planes, *size)."""
    output = np.zeros((len(planes), int(np.prod(size))), planes.dtype)
    for plane, values, where in zip(output, planes, indices, strict=True):
        for value, index in zip(values.ravel(), where.ravel(), strict=True):
            plane[index] = value
    return output.reshape(-1, *size)
