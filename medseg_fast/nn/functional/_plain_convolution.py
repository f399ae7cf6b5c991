"""Convolution in float64, for checks of gradients: one product of matrices for each tap."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.nn.functional import _features


def plain_conv_pool(
    x: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    sizes: Any,
    activation: str | None,
    slope: float,
    pool: str | None,
    return_indices: bool,
    return_full: bool,
) -> NDArray[Any] | tuple[NDArray[Any], ...]:
    """What `conv_pool` returns, through NumPy."""
    moved = _features.channels_last(x)
    channels_last = moved.flags.c_contiguous and not x.flags.c_contiguous

    def order(result: NDArray[Any]) -> NDArray[Any]:  # from channels last
        result = np.ascontiguousarray(result if channels_last else _features.channels_first(result))
        return _features.channels_first(result) if channels_last else result

    padded = np.pad(moved, [(0, 0), *zip(sizes.before, sizes.after, strict=True), (0, 0)])
    size = sizes.full(x.shape[2:])
    full = np.zeros((x.shape[0], *size, weight.shape[0]), x.dtype) + bias
    for tap in itertools.product(*map(range, sizes.kernel)):
        steps = zip(tap, sizes.dilation, sizes.stride, size, strict=True)
        window = tuple(slice(t * d, t * d + s * (n - 1) + 1, s) for t, d, s, n in steps)
        at: Any = (..., *tap)
        full += padded[(slice(None), *window)] @ weight[at].T
    full = _activated(full, activation, slope)
    if pool is None:
        return order(full)
    count = sizes.pooled(x.shape[2:])
    parts = []
    for place in itertools.product(*map(range, sizes.pool)):
        windows = zip(place, sizes.pool, count, strict=True)
        parts.append(full[(slice(None), *(slice(p, p + w * n, w) for p, w, n in windows))])
    stacked = np.stack(parts)
    if pool == "avg":
        results = [order(stacked.mean(0))]
    else:
        best = np.argmax(stacked, 0)  # the first of equals; NaN wins
        results = [order(np.take_along_axis(stacked, best[None], 0)[0])]
        if return_indices:
            within = np.unravel_index(best, sizes.pool)
            corner = np.indices(count)[:, None, ..., None]
            at = [c * w + i for c, w, i in zip(corner, sizes.pool, within, strict=True)]
            results.append(order(np.ravel_multi_index(at, size)))
    if return_full:
        results.append(order(full))
    return tuple(results) if len(results) > 1 else results[0]


def _activated(x: NDArray[Any], activation: str | None, slope: float) -> NDArray[Any]:
    if activation == "relu":
        return np.where(x < 0, 0, x)
    if activation == "leaky_relu":
        return np.where(x < 0, x * slope, x)
    if activation == "elu":
        return np.where(x < 0, slope * np.expm1(np.minimum(x, 0)), x)
    if activation == "sigmoid":
        x = 1 / (1 + np.exp(-x))
    return x
