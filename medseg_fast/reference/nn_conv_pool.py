"""Convolution with pooling, pixel by pixel: the slow twin of `medseg_fast.nn.functional.conv_pool`.

Differs from the kernels in rounding only: all sums are of float64.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def convolve(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any] | None = None,
    stride: Sequence[int] = (1, 1),
    before: Sequence[int] = (0, 0),
    after: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
) -> NDArray[np.float64]:
    """Each output as the sum over its window of the input with zeros around."""
    zeros = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    padded = np.pad(x.astype(np.float64), zeros)
    kernel = weight.shape[2:]
    size = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    out = np.zeros((x.shape[0], weight.shape[0], *size))
    for n, k in np.ndindex(out.shape[:2]):
        for at in np.ndindex(*size):
            window = tuple(
                slice(i * s, i * s + d * (taps - 1) + 1, d)
                for i, s, d, taps in zip(at, stride, dilation, kernel, strict=True)
            )
            out[(n, k, *at)] = np.sum(padded[(n, slice(None), *window)] * weight[k])
    if bias is not None:
        out += np.reshape(bias, (-1, *(1,) * len(size)))
    return out


def activate(x: NDArray[Any], activation: str | None, slope: float = 0.01) -> NDArray[Any]:
    """The functions by their definition."""
    if activation == "relu":
        return np.where(x > 0, x, 0.0)
    if activation == "leaky_relu":
        return np.where(x > 0, x, slope * x)
    if activation == "elu":
        return np.where(x > 0, x, slope * (np.exp(np.minimum(x, 0)) - 1))
    if activation == "sigmoid":
        x = 1 / (1 + np.exp(-x))
    return x


def pool(
    x: NDArray[Any], kind: str, window: Sequence[int]
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Maxima or averages of windows side by side; for maxima the flat index of the first one."""
    size = x.shape[2:]
    count = [n // w for n, w in zip(size, window, strict=True)]
    values = np.zeros((*x.shape[:2], *count), x.dtype)
    indices = np.zeros(values.shape, np.int64)
    for n, k in np.ndindex(x.shape[:2]):
        for at in np.ndindex(*count):
            corner = [i * w for i, w in zip(at, window, strict=True)]
            best = -math.inf
            total = 0.0
            for step in itertools.product(*map(range, window)):
                pixel = tuple(c + s for c, s in zip(corner, step, strict=True))
                value = x[(n, k, *pixel)]
                total += value
                if value > best:
                    best = value
                    indices[(n, k, *at)] = np.ravel_multi_index(pixel, size)
            values[(n, k, *at)] = best if kind == "max" else total / math.prod(window)
    return values, indices
