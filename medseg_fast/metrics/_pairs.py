"""Two images of one shape as the kernels want them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Array = NDArray[Any]


def _same_shape(op: str, names: tuple[str, str], a: Array, b: Array) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{op}: {names[1]} must have shape {a.shape}, got {b.shape}")


def _same_order(a: Array, b: Array) -> tuple[Array, Array]:
    """Two Fortran-ordered arrays transposed: no copy where a voxel's place does not matter."""
    if a.ndim > 1 and a.flags.f_contiguous and b.flags.f_contiguous:
        return a.T, b.T
    return a, b


def _mask(op: str, name: str, array: Array) -> Array:
    """What is not 0; integers stay as they are, as the kernels can tell 0 from the rest."""
    array = _checks.image(op, array, name)
    return _checks.mask(op, array, name) if array.dtype.kind == "f" else array


def masks(op: str, names: tuple[str, str], first: Any, second: Any) -> tuple[Array, Array]:
    """Two masks of one shape as contiguous bool arrays, in order of their axes."""
    a, b = _checks.mask(op, first, names[0]), _checks.mask(op, second, names[1])
    _same_shape(op, names, a, b)
    return a, b


def overlap(op: str, names: tuple[str, str], first: Any, second: Any) -> tuple[int, int, int, int]:
    """Voxels in both masks, in the first alone, in the second alone, in neither."""
    a, b = (_checks.as_array(op, v, n) for v, n in zip((first, second), names, strict=True))
    _same_shape(op, names, a, b)
    a, b = _same_order(a, b)
    a, b = _mask(op, names[0], a), _mask(op, names[1], b)
    if a.itemsize != b.itemsize:
        a, b = a != 0, b != 0
    both, alone, other = core.overlap_counts(a, b)
    return both, alone, other, a.size - both - alone - other


def label_image(op: str, name: str, value: Any) -> Array:
    """A label image: bool or integer."""
    array = _checks.as_array(op, value, name)
    if array.dtype.kind not in "bui":
        raise TypeError(f"{op}: {name} must be bool or integer labels, got {array.dtype}")
    return array


def wanted(op: str, labels: Any) -> Array:
    """The labels that were asked for."""
    given = np.asarray(labels, object)  # NumPy's own choice is float64 for 2**63 beside 1
    if given.ndim != 1:
        raise ValueError(f"{op}: labels must be a sequence of integers, got {labels!r}")
    for each in given:
        if not isinstance(each, (int, np.integer, np.bool_)):
            raise TypeError(f"{op}: labels must be integers, got {each!r}")
    return alike(given)[0]


def alike(*labels: Array) -> tuple[Array, ...]:
    """Labels of one type, exactly: NumPy has none but float64 for uint64 beside signed ones."""
    if np.result_type(*labels).kind in "bui":
        return labels
    least = min(int(each.min(initial=0)) for each in labels)
    most = max(int(each.max(initial=0)) for each in labels)
    unsigned: Any = np.uint64 if least >= 0 else object
    wide = np.int64 if most < 2**63 else unsigned
    return tuple(each.astype(wide) for each in labels)


def contingency(
    op: str, names: tuple[str, str], first: Any, second: Any
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Every pair of labels that meet in a voxel, in ascending order, and in how many they do."""
    a, b = label_image(op, names[0], first), label_image(op, names[1], second)
    _same_shape(op, names, a, b)
    a, b = _same_order(a, b)
    own = a.dtype, b.dtype
    a, b = _checks.contiguous(a), _checks.contiguous(b)
    if a.itemsize != b.itemsize:
        wide = max(a.itemsize, b.itemsize)
        a, b = (
            x.astype(f"{'i' if x.dtype.kind == 'i' else 'u'}{wide}", copy=False) for x in (a, b)
        )
    first_bits, second_bits, count = core.label_pairs(a, b)
    left, right = (
        bits.astype(f"u{x.itemsize}").view("u1" if x.dtype.kind == "b" else x.dtype).astype(dtype)
        for bits, x, dtype in ((first_bits, a, own[0]), (second_bits, b, own[1]))
    )
    order = np.lexsort((right, left))
    return left[order], right[order], count[order]
