"""What the functions of paths and fronts share: steps between pixels, indices, seeds."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks, _region

Array = NDArray[Any]
Point = tuple[int, ...]


def image(op: str, value: Any, name: str) -> Array:
    """The array as kernels want it, of at least one dimension."""
    array = _checks.image(op, value, name)
    if array.ndim == 0:
        raise ValueError(f"{op}: {name} must have at least one dimension, got shape ()")
    return array


def steps(ndim: int, connectivity: int) -> NDArray[np.int64]:
    """Offsets of the neighbours in raster order, shape (neighbours, ndim)."""
    if 3**ndim > 1 << 15:
        raise ValueError(f"connectivity: too many neighbours in {ndim} dimensions")
    every = itertools.product((-1, 0, 1), repeat=ndim)
    return np.array([s for s in every if 1 <= sum(map(abs, s)) <= connectivity], np.int64)


def lengths(offsets: NDArray[np.int64], spacing: Sequence[float]) -> list[float]:
    """Length of each step, rounded as scikit-image rounds it."""
    squares: Array = (np.asarray(spacing, np.float64) * offsets) ** 2
    return np.sqrt(squares.sum(axis=1)).tolist()  # type: ignore[no-any-return]


def point(op: str, name: str, value: Any, shape: tuple[int, ...]) -> Point:
    """One index; negative numbers count from the end."""
    index = tuple(_checks.integer(op, name, i) for i in _items(op, name, value, shape))
    wrapped = tuple(i + n if i < 0 else i for i, n in zip(index, shape, strict=False))
    inside = all(0 <= i < n for i, n in zip(wrapped, shape, strict=False))
    if len(index) != len(shape) or not inside:
        raise ValueError(f"{op}: {name} must lie within shape {shape}, got {index}")
    return wrapped


def _items(op: str, name: str, value: Any, shape: tuple[int, ...]) -> Iterable[Any]:
    if np.ndim(value) == 0 and len(shape) == 1 and not isinstance(value, Iterable):
        return (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"{op}: {name} must be an index, got {value!r}")
    return value


def points(op: str, name: str, value: Any, shape: tuple[int, ...]) -> list[Point]:
    """A sequence of indices."""
    if not isinstance(value, Iterable):
        raise TypeError(f"{op}: {name} must be a sequence of indices, got {value!r}")
    return [point(op, name, each, shape) for each in value]


def flat(indices: Sequence[Point], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat indices."""
    if not indices:
        return np.zeros(0, np.int64)
    coordinates = tuple(np.array(indices, np.int64).T)
    return np.asarray(np.ravel_multi_index(coordinates, shape), np.int64)


def seeds(op: str, name: str, value: Any, array: Array) -> NDArray[np.int64]:
    """Flat indices of seeds, given as a mask of the array's shape or as indices."""
    given = _checks.as_array(op, value, name)
    if given.dtype.kind == "b":
        if given.shape != array.shape:
            raise ValueError(
                f"{op}: {name} must have shape {array.shape} if it is a mask, got {given.shape}"
            )
        found = np.flatnonzero(given)
        if not found.size:
            raise ValueError(f"{op}: {name} must hold at least one seed")
        return found.astype(np.int64)
    indices = _region.seeds(op, name, value, array)
    return np.asarray(np.ravel_multi_index(tuple(indices.T), array.shape), np.int64)
