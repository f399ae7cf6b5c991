"""Arrays of networks as kernels take them: any order of the axes in memory."""

from __future__ import annotations

from typing import Any

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
