"""Features of networks as the kernels want them: (N, C, [D,] H, W) in one of two memory orders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import BFLOAT16


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether values are bfloat16: `BFLOAT16`, or the type of the package ml_dtypes."""
    # The name last: NumPy takes 2 us to make it.
    return dtype.itemsize == 2 and (dtype == BFLOAT16 or dtype.name == "bfloat16")


def name(dtype: np.dtype[Any]) -> str:
    """As messages say it; NumPy writes `BFLOAT16` out as a record."""
    return "bfloat16" if is_bfloat16(dtype) else str(dtype)


def channels_last(array: NDArray[Any]) -> NDArray[Any]:
    """A view of (N, C, ...) with the channels as the last axis; `np.moveaxis` takes 3 us."""
    return array.transpose(0, *range(2, array.ndim), 1)


def channels_first(array: NDArray[Any]) -> NDArray[Any]:
    """A view of (N, ..., C) with the channels as the second axis."""
    return array.transpose(0, array.ndim - 1, *range(1, array.ndim - 1))


def to_float32(array: NDArray[Any]) -> NDArray[Any]:
    """The values of bfloat16 as float32; other arrays as they are."""
    if not is_bfloat16(array.dtype):
        return array
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def checked(op: str, value: Any, name: str, ndim: tuple[int, ...]) -> NDArray[Any]:
    """The array, of float32, float64 or bfloat16 in native byte order."""
    array = np.asarray(value)
    if array.dtype.kind == "f":
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in (np.float32, np.float64) and not is_bfloat16(array.dtype):
        raise TypeError(f"{op}: {name} must be float32, float64 or bfloat16, got {array.dtype}")
    if array.ndim not in ndim:
        numbers = " or ".join(map(str, ndim))
        raise ValueError(f"{op}: {name} must have {numbers} dimensions, got shape {array.shape}")
    return array


def ordered(array: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The features, contiguous and native, and whether their channels are the last axis.

    Copies only what is neither contiguous in the order of the axes nor channels-last.
    """
    if not array.flags.c_contiguous:
        moved = channels_last(array)
        if moved.flags.c_contiguous:
            return _checks.contiguous(moved), True
    if array.dtype.kind == "V":
        return np.require(array, requirements=["C", "A"]), False
    return _checks.contiguous(array), False
