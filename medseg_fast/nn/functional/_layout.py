"""Arrays of networks as kernels take them: any order of the axes in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks


def memory_order(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[int, ...]]:
    """The array's values as a C-contiguous array, and its strides there, in elements.

    An array that is contiguous in some order of its axes (channels-last, Fortran) is not copied.
    """
    if not array.flags.c_contiguous:
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        transposed = array.transpose(order)
        if transposed.flags.c_contiguous:
            stored = _checks.contiguous(transposed)
            return stored, tuple(s // array.itemsize for s in array.strides)
    stored = _checks.contiguous(array)
    return stored, tuple(s // array.itemsize for s in stored.strides)


def floats(op: str, name: str, value: Any) -> NDArray[Any]:
    """The value as an array of float16, float32 or float64."""
    array = np.asarray(value)
    if array.dtype.kind != "f" or array.itemsize > 8:
        raise TypeError(f"{op}: {name} must be float16, float32 or float64, got {array.dtype}")
    return array


def several(value: Any) -> bool:
    """Whether there is a value for each axis, not one for all."""
    if isinstance(value, np.ndarray):
        return value.ndim == 1
    return isinstance(value, Sequence) and not isinstance(value, str)


def space_rank(op: str, name: str, sizes: Any, array: Any) -> int:
    """Axes in space, 2 or 3, of an array of shape ([N,] C, ...).

    As many as `sizes` has numbers. A single number says nothing: then four axes are (N, C, H, W).
    """
    rank = len(sizes) if several(sizes) else 3 if len(array.shape) == 5 else 2
    if rank not in (2, 3) or len(array.shape) not in (rank + 1, rank + 2):
        raise ValueError(
            f"{op}: {name} must have a number for each of 2 or 3 axes in space, "
            f"got {sizes!r} for shape {tuple(array.shape)}"
        )
    return rank


def per_axis(op: str, name: str, value: Any, rank: int, low: int) -> tuple[int, ...]:
    """One integer of at least `low` for each axis in space."""
    given = tuple(value) if several(value) else (value,) * rank
    if len(given) != rank:
        raise ValueError(f"{op}: {name} must have one number per axis in space, got {value!r}")
    return tuple(_checks.integer(op, name, n, low) for n in given)
