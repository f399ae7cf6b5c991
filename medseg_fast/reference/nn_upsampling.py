"""Slow twins of `medseg_fast.nn.functional.upsampling`: a voxel of the output after another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def transposed_conv2x2(
    x: NDArray[Any], weight: NDArray[Any], bias: NDArray[Any]
) -> NDArray[np.float64]:
    """Features of shape (N, C, ...), weight (C, O, 2, ...), bias (O,)."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    output = np.empty((len(x), weight.shape[1], *(2 * n for n in x.shape[2:])))
    for at in np.ndindex(*output.shape[2:]):
        voxel, tap = tuple(i // 2 for i in at), tuple(i % 2 for i in at)
        here = x[(slice(None), slice(None), *voxel)]  # (N, C)
        output[(slice(None), slice(None), *at)] = here @ weight[(..., *tap)] + bias
    return output


def crop_concat(skip: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
    """Features of shape (N, A, ...) and (N, B, ...)."""
    output = np.empty((len(x), skip.shape[1] + x.shape[1], *x.shape[2:]), x.dtype)
    for at in np.ndindex(*x.shape[2:]):
        there = tuple(
            i + (a - b) // 2 for i, a, b in zip(at, skip.shape[2:], x.shape[2:], strict=True)
        )
        output[(slice(None), slice(None), *at)] = np.concatenate(
            [skip[(slice(None), slice(None), *there)], x[(slice(None), slice(None), *at)]], 1
        )
    return output
