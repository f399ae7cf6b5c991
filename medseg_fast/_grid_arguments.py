"""Arguments of operations on grid graphs: checks, types to compute in, neighbourhoods."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Offset = tuple[int, ...]

DTYPES = tuple(np.dtype(name) for name in ("int32", "int64", "float32", "float64"))


def grid_offsets(ndim: int, connectivity: int) -> list[Offset]:
    """Return the positive offsets of a neighbourhood, in the order of this module.

    Parameters
    ----------
    ndim : int
        Axes of the grid.
    connectivity : int
        How many coordinates of neighbours may differ by one.

    Returns
    -------
    offsets : list of tuple of int
        One of each pair of opposite offsets, the one whose first number that is not 0 is 1. Those
        along one axis come first, then those along two and three; within these in falling order.

    Examples
    --------
    >>> grid_offsets(2, 2)
    [(1, 0), (0, 1), (1, 1), (1, -1)]
    """
    steps = itertools.product((1, 0, -1), repeat=ndim)
    positive = [o for o in steps if (0,) * ndim < o and sum(map(abs, o)) <= connectivity]
    return sorted(positive, key=lambda o: sum(map(abs, o)))  # stable: falling within


class Reader:
    """How capacities are read: here from anything that NumPy takes, on a GPU from its arrays."""

    xp: Any = np

    def numbers(self, op: str, name: str, value: Any) -> Any:
        return numbers(op, name, value)

    def check_range(self, op: str, name: str, array: Any) -> float:
        return check_range(op, name, array)

    def cast(self, array: Any, dtype: np.dtype[Any]) -> Any:
        return cast(array, dtype)


class Grid:
    """The arguments of `maxflow_grid`, checked and in the type to compute in."""

    def __init__(
        self,
        op: str,
        source: Any,
        sink: Any,
        weights: Any,
        structure: Any,
        symmetric: bool,
        read: Reader | None = None,
    ) -> None:
        read = read or Reader()
        terminals = [read.numbers(op, "source", source), read.numbers(op, "sink", sink)]
        shapes = [t.shape for t in terminals]
        self.shape = max(shapes, key=len)
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(
                f"{op}: source must have one to three dimensions, got shape {self.shape}"
            )
        if any(shape not in ((), self.shape) for shape in shapes):
            raise ValueError(
                f"{op}: source and sink must have one shape, got {shapes[0]} and {shapes[1]}"
            )
        names = zip(("source", "sink"), terminals, strict=True)
        self.most = max(read.check_range(op, name, t) for name, t in names)
        self.connectivity, edges = _edges(op, self.shape, weights, structure, symmetric, read)
        self.dtype = _computed_in(op, terminals, self.most, edges)
        self.source, self.sink = (
            read.xp.broadcast_to(read.cast(t, self.dtype), self.shape) for t in terminals
        )
        self.edges = []
        for e in edges:
            forth = read.cast(e.forth, self.dtype)
            back = forth if e.back is e.forth else read.cast(e.back, self.dtype)
            self.edges.append(e._replace(forth=forth, back=back))


class Edges(NamedTuple):
    """Capacities of the arcs from all pixels to pixel + offset, and back."""

    offset: Offset
    forth: NDArray[Any]
    back: NDArray[Any]
    most: float  # the largest forth and the largest back together


def _edges(
    op: str, shape: tuple[int, ...], weights: Any, structure: Any, symmetric: bool, read: Reader
) -> tuple[int, list[Edges]]:
    """Connectivity, and the capacities for each offset."""
    ndim = len(shape)
    zero = read.xp.zeros((), np.int32)

    def one(offset: Offset, array: NDArray[Any], most: float) -> Edges:
        return Edges(offset, array, *((array, 2 * most) if symmetric else (zero, most)))

    if not _is_sequence(weights, ndim):
        array, most = _weights(op, weights, shape, read)
        edges = [
            one(offset, *((array, most) if factor == 1 else _scaled(op, array, most, factor, read)))
            for offset, factor in _structure(op, structure, ndim, symmetric)
        ]
        return max((sum(map(abs, e.offset)) for e in edges), default=1), edges
    if structure is not None:
        raise ValueError(f"{op}: structure must not be given with weights for each offset")
    given = [_weights(op, w, shape, read) for w in weights]
    neighbourhoods = [(c, grid_offsets(ndim, c)) for c in range(1, ndim + 1)]
    if not symmetric:
        neighbourhoods += [(c, o + [tuple(-i for i in p) for p in o]) for c, o in neighbourhoods]
    for connectivity, offsets in neighbourhoods:
        if len(given) == len(offsets):
            each = zip(offsets, given, strict=True)
            return connectivity, [one(o, array, most) for o, (array, most) in each]
    counts = [len(grid_offsets(ndim, c)) for c in range(1, ndim + 1)]
    raise ValueError(
        f"{op}: weights must be one for each offset of {ndim} dimensions, "
        f"{' or '.join(map(str, counts))}{'' if symmetric else ' or twice as many'}, "
        f"got {len(given)}"
    )


def _scaled(
    op: str, array: NDArray[Any], most: float, factor: int | float, read: Reader
) -> tuple[NDArray[Any], float]:
    if isinstance(factor, int) and array.dtype.kind in "bui":
        if most * factor > limit(np.dtype(np.int64)):
            raise ValueError(f"{op}: weights times structure must be numbers of int64")
        return array.astype(np.int64) * factor, most * factor
    scaled = read.xp.asarray(array * factor)
    return scaled, read.check_range(op, "weights times structure", scaled)


def _is_sequence(weights: Any, ndim: int) -> bool:
    """Whether weights are given for each offset, not one number or array for all."""
    if not isinstance(weights, (list, tuple)):
        return getattr(weights, "ndim", 0) == ndim + 1
    try:
        shapes = {np.shape(w) for w in weights}  # not of all together: that copies
    except ValueError:  # of uneven shapes
        return True
    return len(shapes) > 1 or 1 + len(next(iter(shapes), ())) != ndim


def _structure(
    op: str, structure: Any, ndim: int, symmetric: bool
) -> Iterator[tuple[Offset, int | float]]:
    if structure is None:
        for offset in grid_offsets(ndim, 1):
            yield offset, 1
            if not symmetric:
                yield tuple(-o for o in offset), 1
        return
    array = numbers(op, "structure", structure)
    if array.shape != (3,) * ndim:
        raise ValueError(f"{op}: structure must have shape {(3,) * ndim}, got {array.shape}")
    check_range(op, "structure", array)
    for index in np.argwhere(array):
        if (index != 1).any():
            yield tuple(int(i) - 1 for i in index), array[tuple(index)].item()


def _weights(
    op: str, value: Any, shape: tuple[int, ...], read: Reader
) -> tuple[NDArray[Any], float]:
    array = read.numbers(op, "weights", value)
    if array.ndim and array.shape != shape:
        raise ValueError(
            f"{op}: weights must be numbers or arrays of the grid's shape {shape}, "
            f"got shape {array.shape}"
        )
    return array, read.check_range(op, "weights", array)


def _computed_in(
    op: str, terminals: list[NDArray[Any]], most: float, edges: list[Edges]
) -> np.dtype[Any]:
    """The narrowest type that holds all capacities and their sums."""
    arrays = [(t, most) for t in terminals]
    arrays += [(a, e.most) for e in edges for a in (e.forth, e.back)]
    if any(a.dtype.kind == "f" for a, _ in arrays):
        exact = (
            a.dtype.itemsize <= 4 if a.dtype.kind == "f" else bound <= 2**24 for a, bound in arrays
        )
        return np.dtype(np.float32 if all(exact) else np.float64)
    sums: dict[Offset, float] = {}
    for e in edges:
        both_ways = max(e.offset, tuple(-o for o in e.offset))
        sums[both_ways] = sums.get(both_ways, 0) + e.most
    largest = max(most, *sums.values()) if sums else most
    for dtype in DTYPES[:2]:
        if largest <= limit(dtype):
            return dtype
    raise ValueError(f"{op}: weights must sum up to numbers of int64, got up to {largest:.17g}")


def numbers(op: str, name: str, value: Any) -> NDArray[Any]:
    array = _checks.as_array(op, value, name)
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{op}: {name} must be bool, integer or float of at most 64 bits, got {array.dtype}"
        )
    return array


def check_range(op: str, name: str, array: NDArray[Any], *, signed: bool = False) -> float:
    """Refuse negative, NaN and infinite capacities; return the largest magnitude."""
    if array.dtype in DTYPES and array.flags.c_contiguous and array.dtype.isnative:
        least, most, nan = core.capacity_range(_checks.contiguous(array))
    elif array.size == 0:
        return 0.0
    else:
        least, most = float(array.min()), float(array.max())
        nan = math.isnan(most)
    if nan:
        raise ValueError(f"{op}: {name} must not contain NaN")
    if least < 0 and not signed:
        raise ValueError(f"{op}: {name} must not be negative, got {least:.17g}")
    if math.inf in (most, -least):
        raise ValueError(f"{op}: {name} must be finite; use seeds to tie pixels to a terminal")
    return float(max(most, -least))


def cast(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return _checks.contiguous(array.astype(dtype, copy=False))


def capacities(
    op: str,
    name: str,
    value: Any,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    signed: bool = False,
) -> tuple[NDArray[Any], float]:
    """Return numbers of `dtype`, none or as many axes as `shape`, and their largest magnitude."""
    array = numbers(op, name, value)
    if array.ndim and array.shape != shape:
        raise ValueError(
            f"{op}: {name} must be a number or have shape {shape}, got shape {array.shape}"
        )
    if dtype.kind == "i" and array.dtype.kind == "f":
        raise TypeError(f"{op}: {name} must be integers for a graph of {dtype}, got {array.dtype}")
    most = check_range(op, name, array, signed=signed)
    if most > limit(dtype):
        raise ValueError(f"{op}: {name} must be numbers of {dtype}, got up to {most:.17g}")
    return cast(array, dtype), most


def limit(dtype: np.dtype[Any]) -> float:
    """The largest capacity; for int64 a little less than there is, since bounds are floats."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).max)
    return float(np.iinfo(dtype).max) if dtype.itemsize == 4 else 2.0**63 - 2.0**12


def seed_capacity(dtype: np.dtype[Any], terminal: float, edges: list[float]) -> float:
    """More than can leave a pixel; a float large enough to be more after rounding."""
    leaves = 2 * sum(edges) + terminal
    return leaves + 1 if dtype.kind == "i" else 2 * leaves + 1


def seed_capacities(
    op: str, excess: NDArray[Any], pixels: Sequence[Any], edges: list[float]
) -> list[NDArray[Any]]:
    """The same for each pixel tied to the source, and to the sink, given what terminals have left.

    It is added to `excess`: positive on the source's side, negative on the sink's.
    """
    dtype = excess.dtype
    exact = np.int64 if dtype.kind == "i" else np.float64
    values = []
    for at, side in zip(pixels, (1, -1), strict=True):
        left = side * excess[at].astype(exact)
        own, other = np.maximum(left, 0), np.maximum(-left, 0)
        if seed_capacity(dtype, float(other.max(initial=0)), edges) > limit(dtype):
            raise ValueError(f"{op}: capacities must sum up to numbers of {dtype}")
        enough = other + exact(2 * sum(edges))
        enough = enough + 1 if dtype.kind == "i" else 2 * enough + 1
        values.append(np.asarray(np.maximum(enough - own, 0).astype(dtype)))
        excess[at] += side * values[-1]
    return values


def seed_mask(op: str, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(value)
    if mask.dtype != np.bool_:
        raise TypeError(f"{op}: {name} must be bool, got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"{op}: {name} must have shape {shape}, got {mask.shape}")
    return mask


def flat_indices(op: str, at: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Flat indices of pixels named by one array per axis."""
    if not isinstance(at, (tuple, list)) or len(at) != len(shape):
        raise ValueError(f"{op}: at must be a tuple of {len(shape)} arrays of indices")
    axes = [np.atleast_1d(a) for a in at]
    flat = np.zeros(axes[0].shape, np.int64)
    for axis, extent in zip(axes, shape, strict=True):
        if axis.dtype.kind not in "iu" and axis.size:
            raise TypeError(f"{op}: at must hold integers, got {axis.dtype}")
        if axis.ndim != 1 or axis.shape != flat.shape:
            raise ValueError(f"{op}: at must hold arrays of one dimension and length")
        if axis.size and (axis.min() < 0 or axis.max() >= extent):
            raise ValueError(f"{op}: at must lie inside the grid of shape {shape}")
        flat = flat * extent + axis.astype(np.int64)
    return flat


def most_often(flat: NDArray[np.int64]) -> int:
    """How often the index named most often is named."""
    return int(np.unique(flat, return_counts=True)[1].max())


def pairs(shape: tuple[int, ...], offset: Offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the pixels whose neighbour at `offset` is inside, and of those neighbours."""
    steps = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(0, -o), max(0, n - max(0, o))) for o, n in steps)
    there = tuple(slice(max(0, o), max(0, n - max(0, -o))) for o, n in steps)
    return here, there
