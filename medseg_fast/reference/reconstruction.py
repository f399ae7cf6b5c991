"""Morphological reconstruction: values spread step by step until nothing changes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray


def reconstruction(
    seed: NDArray[Any],
    mask: NDArray[Any],
    method: str = "dilation",
    footprint: NDArray[np.bool_] | None = None,
    offset: tuple[int, ...] | None = None,
) -> NDArray[Any]:
    small = mask.dtype.kind == "f" and mask.itemsize < 8
    dtype = np.float32 if small else np.float64
    value, limit = seed.astype(dtype), mask.astype(dtype)
    nan = np.isnan(value) | np.isnan(limit)
    sign = 1 if method == "dilation" else -1
    given = np.ones((3,) * seed.ndim, bool) if footprint is None else footprint.astype(bool)
    centre = tuple(extent // 2 for extent in given.shape) if offset is None else offset
    steps = [np.subtract(index, centre) for index in zip(*given.nonzero(), strict=True)]
    changed = True
    while changed:
        changed = False
        for p in itertools.product(*map(range, seed.shape)):
            for step in steps:
                q = tuple(int(i) for i in np.add(p, step))
                inside = all(0 <= i < extent for i, extent in zip(q, seed.shape, strict=True))
                if not inside or nan[p] or nan[q]:
                    continue
                reached = min(sign * value[p], sign * limit[q])
                if reached > sign * value[q]:
                    value[q] = sign * reached
                    changed = True
    value[nan] = np.nan
    return value
