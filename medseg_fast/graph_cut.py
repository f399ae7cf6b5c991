"""Minimum cuts of images: exact maximum flow on 1D, 2D and 3D grids."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

Offset = tuple[int, ...]

_NAME = "GridGraph"
_DTYPES = tuple(np.dtype(name) for name in ("int32", "int64", "float32", "float64"))


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


class GridGraph:
    """A graph with a node for every pixel, edges between neighbours, a source and a sink.

    Neighbours are implied, so the graph is a few arrays. The maximum flow stays in it: after a
    change of terminal capacities, `maxflow` goes on from there instead of from nothing.

    Parameters
    ----------
    shape : int or tuple of int
        Pixels along each axis, one to three axes.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one, 1 to ``len(shape)``, as in SciPy: in
        2D 1 and 2 are 4 and 8 neighbours; in 3D 1, 2 and 3 are 6, 18 and 26.
    dtype : dtype, optional
        Type of capacities: int32, int64, float32 or float64. Integer flows are exact.

    Attributes
    ----------
    shape : tuple of int
    connectivity : int
    dtype : numpy.dtype
    offsets : list of tuple of int
        The positive offsets, as from `grid_offsets`.

    Raises
    ------
    TypeError
        If `dtype` is none of the four.
    ValueError
        If `shape` or `connectivity` is out of range, or the grid has 2**31 pixels or more.

    Notes
    -----
    Two search trees (Boykov and Kolmogorov 2004) in blocks of neighbouring pixels (Jamriska et al.
    2012), grown in parts of the grid first and then joined (Liu and Sun 2010), on all threads as
    far as parts go. Trees and flow are reused after changes (Kohli and Torr 2007).

    Memory: a capacity for each directed edge and one for the terminals, 13 bytes (11 where no node
    has more than 8 neighbours) for the trees, and a queue. A 6-connected int32 or float32 volume
    takes 39 bytes per voxel, a 4-connected image 31 bytes per pixel, plus what fills up blocks of
    8 x 8 pixels or 4 x 4 x 4 voxels at the border, plus 4 to 8 bytes for each node that waits in
    the queue. The method was chosen by measurement: Incremental breadth-first search (Goldberg et
    al. 2011) was slower on hard instances and no faster on easy ones.

    A graph can be copied and pickled. It may be shared by threads; they take turns.

    References
    ----------
    Y. Boykov and V. Kolmogorov (2004), "An experimental comparison of min-cut/max-flow algorithms
    for energy minimization in vision", IEEE PAMI 26(9):1124-1137.

    O. Jamriska, D. Sykora and A. Hornung (2012), "Cache-efficient graph cuts on structured grids",
    CVPR, 3673-3680.

    J. Liu and J. Sun (2010), "Parallel graph-cuts by adaptive bottom-up merging", CVPR, 2181-2188.

    P. Kohli and P. Torr (2007), "Dynamic graph cuts for efficient inference in Markov random
    fields", IEEE PAMI 29(12):2079-2088.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> graph = ms.GridGraph((1, 4))
    >>> graph.add_terminal([[9, 1, 0, 0]], [[0, 0, 1, 9]])
    >>> graph.add_edges(1, 3)
    >>> graph.maxflow()
    3
    >>> graph.segments().tolist()
    [[False, False, True, True]]
    >>> graph.add_terminal([5], [0], at=([0], [2]))
    >>> graph.maxflow(), graph.segments().tolist()
    (4, [[False, False, False, True]])
    """

    def __init__(
        self, shape: int | Sequence[int], connectivity: int = 1, dtype: DTypeLike = np.int32
    ) -> None:
        sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)  # type: ignore[arg-type]
        self.shape = tuple(_checks.integer(_NAME, "shape", n, 0) for n in sizes)
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(f"{_NAME}: shape must have one to three axes, got {self.shape}")
        self.connectivity = _checks.integer(_NAME, "connectivity", connectivity, 1, len(self.shape))
        self.dtype = np.dtype(dtype)
        if self.dtype not in _DTYPES:
            raise TypeError(
                f"{_NAME}: dtype must be int32, int64, float32 or float64, got {self.dtype}"
            )
        self.offsets = grid_offsets(len(self.shape), self.connectivity)
        if math.prod(-(-n // 8) * 8 for n in self.shape) >= 2**31:
            raise ValueError(f"{_NAME}: shape must have fewer than 2**31 pixels, got {self.shape}")
        self._core = core.GridGraph(np.empty(0, self.dtype), self.shape, self.offsets)
        # No capacity, left or summed over both ways of an edge, is larger.
        self._terminal_bound = 0.0
        self._edge_bounds = [0.0] * len(self.offsets)

    def __repr__(self) -> str:
        return f"<{_NAME} of shape {self.shape}, connectivity {self.connectivity}, {self.dtype}>"

    def add_terminal(
        self, source: ArrayLike, sink: ArrayLike, *, at: Sequence[ArrayLike] | None = None
    ) -> None:
        """Add capacities of the edges from the source and to the sink.

        Parameters
        ----------
        source, sink : array_like
            Capacities to add, not negative: one number for all pixels, or an array of the grid's
            shape. The capacity from the source is what it costs to cut the pixel off from it.
        at : tuple of array_like of int, optional
            Index of the pixels meant, one array per axis as from ``numpy.nonzero``; `source` and
            `sink` then hold one value for each. A pixel named twice gets both.

        Raises
        ------
        TypeError
            If the graph has integer capacities and these are floats.
        ValueError
            If a capacity is negative, NaN, infinite or too large for the graph's dtype, or an
            array does not fit. Nothing is added then.

        Notes
        -----
        Time O(n), or in proportion to the pixels named by `at` (and to the parts of the search
        trees that the change tears off).
        """
        self._add_terminal(f"{_NAME}.add_terminal", source, sink, at, signed=False)

    def change_terminal(
        self, source: ArrayLike, sink: ArrayLike, *, at: Sequence[ArrayLike] | None = None
    ) -> None:
        """Like `add_terminal`, but changes may be negative.

        That no capacity becomes negative is not checked; a cut then counts the negative number.
        """
        self._add_terminal(f"{_NAME}.change_terminal", source, sink, at, signed=True)

    def _add_terminal(self, op: str, source: Any, sink: Any, at: Any, *, signed: bool) -> None:
        shape, flat = self.shape, None
        if at is not None:
            flat = _flat_indices(op, at, self.shape)
            shape = flat.shape
        pair, bound = [], 0.0
        for name, value in (("source", source), ("sink", sink)):
            array, most = _capacities(op, name, value, self.dtype, shape, signed=signed)
            pair.append(np.broadcast_to(array, shape) if array.ndim == 0 else array)
            bound = bound + most if signed else max(bound, most)
        if flat is not None and flat.size:  # a pixel may be named often
            bound *= int(np.bincount(_ranks(flat)).max())
        if self._terminal_bound + bound > _limit(self.dtype):
            self._terminal_bound = self._largest_terminal()
            if self._terminal_bound + bound > _limit(self.dtype):
                raise ValueError(
                    f"{op}: source and sink must sum up to numbers of {self.dtype}, "
                    f"got up to {self._terminal_bound + bound:.17g}"
                )
        self._terminal_bound += bound
        self._core.add_terminal(*map(np.ascontiguousarray, pair), flat)

    def _largest_terminal(self) -> float:
        excess = np.empty(self.shape, self.dtype)
        self._core.excess(excess)
        least, most, _ = core.capacity_range(excess)
        return float(max(-least, most))

    def add_seeds(self, source: ArrayLike, sink: ArrayLike) -> None:
        """Tie pixels to the source or the sink, whatever their capacities.

        Parameters
        ----------
        source, sink : array_like of bool
            Masks of the grid's shape: where they are True, the pixel stays on that side of the
            cut.

        Raises
        ------
        ValueError
            If a pixel is in both, a mask does not fit, or the dtype has no number large enough.

        Notes
        -----
        The terminal capacity added is larger than all edges of a pixel together with its other
        terminal, as they are now: add seeds after edges and terminals.
        """
        op = f"{_NAME}.add_seeds"
        masks = [_seed_mask(op, n, m, self.shape) for n, m in (("source", source), ("sink", sink))]
        if (masks[0] & masks[1]).any():
            raise ValueError(f"{op}: source and sink must have no pixel in common")
        enough = _seed_capacity(self.dtype, self._terminal_bound, self._edge_bounds)
        if self._terminal_bound + enough > _limit(self.dtype):
            raise ValueError(f"{op}: dtype must have numbers up to {enough:.17g}, got {self.dtype}")
        for mask, signs in zip(masks, ((1, 0), (0, 1)), strict=True):
            at = np.nonzero(mask)
            values = [np.full(len(at[0]), s * enough).astype(self.dtype) for s in signs]
            self._core.add_terminal(*values, _flat_indices(op, at, self.shape))
        self._terminal_bound += enough

    def add_edges(
        self,
        offset: int | Sequence[int],
        weights: ArrayLike,
        reverse: ArrayLike | None = None,
    ) -> None:
        """Add capacities between each pixel and its neighbour at one offset.

        Parameters
        ----------
        offset : int or tuple of int
            An axis, meaning a step of one along it; or an offset of the neighbourhood, one of
            `offsets` or the opposite of one.
        weights : array_like
            Capacities from each pixel to the one at pixel + offset, not negative: one number, or an
            array of the grid's shape; where that neighbour lies outside the grid the value is not
            used.
        reverse : array_like, optional
            Capacities of the way back, at the same place in the array. Default: `weights`.

        Raises
        ------
        TypeError
            If the graph has integer capacities and these are floats.
        ValueError
            If a capacity is negative, NaN or infinite, an array does not fit, or the largest of
            `weights` and of `reverse` together are too large for the graph's dtype. Nothing is
            added then.

        Notes
        -----
        Time O(n). The search trees are given up; the flow is kept.
        """
        op = f"{_NAME}.add_edges"
        direction = self._direction(op, offset)
        forth, bound = _capacities(op, "weights", weights, self.dtype, self.shape)
        if reverse is None:
            back, bound = forth, 2 * bound
        else:
            back, most = _capacities(op, "reverse", reverse, self.dtype, self.shape)
            bound += most
        bound += self._edge_bounds[direction // 2]
        if bound > _limit(self.dtype):
            raise ValueError(
                f"{op}: weights and reverse must together be numbers of {self.dtype}, "
                f"got up to {bound:.17g}"
            )
        self._edge_bounds[direction // 2] = bound
        self._core.add_edges(direction, forth, back)

    def _direction(self, op: str, offset: int | Sequence[int]) -> int:
        """The kernel's number: twice the place in `offsets`, one more for its opposite."""
        ndim = len(self.shape)
        if np.ndim(offset) == 0:
            axis = _checks.integer(op, "offset", offset, 0, ndim - 1)
            return 2 * self.offsets.index(tuple(int(a == axis) for a in range(ndim)))
        step = tuple(_checks.integer(op, "offset", o) for o in offset)  # type: ignore[union-attr]
        if step in self.offsets:
            return 2 * self.offsets.index(step)
        opposite = tuple(-o for o in step)
        if opposite in self.offsets:
            return 2 * self.offsets.index(opposite) + 1
        raise ValueError(
            f"{op}: offset must lead to a neighbour of connectivity {self.connectivity} "
            f"in {ndim} dimensions, got {offset!r}"
        )

    def maxflow(self) -> int | float:
        """Find the maximum flow, and with it the minimum cut; return its value.

        Returns
        -------
        flow : int or float
            Capacity of the minimum cut. A sum of integers beyond 2**63 wraps.

        Notes
        -----
        Stops within 0.2 s of Ctrl-C; called again it goes on from there.
        """
        self._core.maxflow()
        integer = self.dtype.kind == "i"
        return self._core.flow_integer() if integer else self._core.flow_float()  # type: ignore[no-any-return]

    def segments(self, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return the minimum cut, after `maxflow`.

        Parameters
        ----------
        out : ndarray of bool, optional
            Array of the grid's shape that receives it.

        Returns
        -------
        segments : ndarray of bool
            True on the sink's side: of all minimum cuts the one with the fewest such pixels, as
            PyMaxflow gives it. Pixels that may be on either side are on the source's side. With
            integer capacities this is a property of the graph: it does not depend on the order
            of changes.
        """
        mask = _checks.output(f"{_NAME}.segments", out, self.shape, np.bool_)
        written = _checks.scratch(mask)
        self._core.segments(written)
        return _checks.finish(mask, written)

    def copy(self) -> GridGraph:
        """Return an independent copy, flow and search trees included."""
        return self.__copy__()

    def __copy__(self) -> GridGraph:
        other = object.__new__(GridGraph)
        other.__dict__.update(self.__dict__)
        other._core = self._core.copy()
        other._edge_bounds = list(self._edge_bounds)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> GridGraph:
        return self.__copy__()

    def __getstate__(self) -> dict[str, Any]:
        """Return what is left of capacities and the flow; search trees grow again from it."""
        left = [np.empty(self.shape, self.dtype) for _ in range(2 * len(self.offsets) + 1)]
        self._core.excess(left[0])
        for direction, array in enumerate(left[1:]):
            self._core.residual(direction, array)
        state = {k: v for k, v in self.__dict__.items() if k != "_core"}
        flow = (self._core.flow_integer(), self._core.flow_float())
        return {**state, "left": left, "flow": flow}

    def __setstate__(self, state: dict[str, Any]) -> None:
        excess, *arcs = state.pop("left")
        flow = state.pop("flow")
        self.__dict__.update(state)
        self._core = core.GridGraph(np.empty(0, self.dtype), self.shape, self.offsets)
        zero = np.zeros((), self.dtype)
        for direction, array in enumerate(arcs):
            self._core.add_edges(direction, array, zero)
        self._core.add_terminal(np.maximum(excess, 0), np.maximum(-excess, 0), None)
        self._core.set_flow(*flow)


@operation()
def maxflow_grid(
    source: ArrayLike,
    sink: ArrayLike,
    weights: Any,
    structure: ArrayLike | None = None,
    symmetric: bool = True,
    *,
    source_seeds: ArrayLike | None = None,
    sink_seeds: ArrayLike | None = None,
) -> tuple[int | float, NDArray[np.bool_]]:
    """Cut a grid in two at the least cost: exact maximum flow from source to sink.

    Parameters
    ----------
    source, sink : array_like
        Capacity of the edge from the source to each pixel and from it to the sink, of one shape
        with one to three axes. A cut that puts a pixel on the sink's side pays its `source`.
    weights : scalar, array_like or sequence of these
        Capacities between neighbours.

        One number, or one array of the grid's shape: pixel p has an edge to each neighbour that
        `structure` names, of capacity ``weights[p] * structure[neighbour]`` (PyMaxflow's rule).

        A sequence, or an array with one more axis in front: one number or array for each offset of
        `grid_offsets`, in 2D ``(1, 0), (0, 1)`` and for 8 neighbours ``(1, 1), (1, -1)``, in 3D
        ``(1, 0, 0), (0, 1, 0), (0, 0, 1)`` and so on for 18 and 26: pixel p has an edge to p +
        offset. As many again (``symmetric=False``) are for the opposite offsets, in the same order.
        How many there are tells the connectivity.
    structure : array_like, optional
        Of three entries per axis; the middle one is ignored. Default: the neighbours along the
        axes, each pair of pixels once (``symmetric=True``) or in both ways.
    symmetric : bool, optional
        Whether each edge also leads back, with the same capacity (that of the pixel it started at).
    source_seeds, sink_seeds : array_like of bool, optional
        Pixels that stay on that side whatever it costs.

    Returns
    -------
    flow : int or float
        The maximum flow, which is the capacity of the minimum cut; int if all capacities are.
    segments : ndarray of bool
        True on the sink's side, see `GridGraph.segments`: ties are on the source's side.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a capacity is negative, NaN or infinite, shapes do not fit, `structure` reaches farther
        than one pixel, or a pixel is in both seeds.

    Notes
    -----
    Integers are computed in int32 where that is wide enough, else int64; floats in float32 if no
    float is wider and no integer needs more than 24 bits, else float64. Time and memory as for
    `GridGraph`, and one byte per pixel for the result.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> flow, segments = ms.maxflow_grid([[9, 1, 0, 0]], [[0, 0, 1, 9]], 3)
    >>> flow, segments.tolist()
    (3, [[False, False, True, True]])
    """
    op = "maxflow_grid"
    grid = _Grid(op, source, sink, weights, structure, symmetric)
    seeds = [
        None if mask is None else _seed_mask(op, name, mask, grid.shape)
        for name, mask in (("source_seeds", source_seeds), ("sink_seeds", sink_seeds))
    ]
    graph = grid.graph(seeded=any(mask is not None for mask in seeds))
    if seeds != [None, None]:
        nowhere = np.zeros(grid.shape, np.bool_)
        graph.add_seeds(*(nowhere if mask is None else mask for mask in seeds))
    return graph.maxflow(), graph.segments()


def verify_cut(
    source: ArrayLike,
    sink: ArrayLike,
    weights: Any,
    flow: float,
    segments: ArrayLike,
    structure: ArrayLike | None = None,
    symmetric: bool = True,
    *,
    rtol: float = 1e-6,
) -> bool:
    """Certify a minimum cut: whether its capacity is the value of the flow.

    No cut has less capacity than a flow has value, so where both are equal the cut is a minimum
    and the flow a maximum.

    Parameters
    ----------
    source, sink, weights, structure, symmetric
        The grid, as for `maxflow_grid`.
    flow : int or float
        Value of the flow.
    segments : array_like of bool
        The cut, True on the sink's side.
    rtol : float, optional
        Relative difference that is allowed where capacities are floats; integers must be equal.

    Returns
    -------
    equal : bool

    Raises
    ------
    TypeError, ValueError
        As `maxflow_grid`; also if `segments` does not fit.

    Notes
    -----
    Time O(n); 9 bytes per pixel of extra memory. Capacities are summed as int64 or float64.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> source, sink = [[9, 1, 0, 0]], [[0, 0, 1, 9]]
    >>> flow, segments = ms.maxflow_grid(source, sink, 3)
    >>> ms.verify_cut(source, sink, 3, flow, segments)
    True
    """
    op = "verify_cut"
    grid = _Grid(op, source, sink, weights, structure, symmetric)
    cut = _seed_mask(op, "segments", segments, grid.shape)
    flow = _checks.number(op, "flow", flow)
    wide = np.int64 if grid.dtype.kind == "i" else np.float64
    capacity = grid.source[cut].sum(dtype=wide) + grid.sink[~cut].sum(dtype=wide)
    for offset, forth, back in grid.edges:
        here, there = _pairs(grid.shape, offset)
        for capacities, leaves in (
            (forth, ~cut[here] & cut[there]),
            (back, cut[here] & ~cut[there]),
        ):
            if capacities.ndim == 0:
                capacity += capacities.astype(wide) * np.count_nonzero(leaves)
            else:
                capacity += capacities[here][leaves].sum(dtype=wide)
    if grid.dtype.kind == "i":
        return int(capacity) == flow
    return math.isclose(float(capacity), flow, rel_tol=rtol, abs_tol=0.0)


class _Grid:
    """The arguments of `maxflow_grid`, checked and in the type to compute in."""

    def __init__(
        self, op: str, source: Any, sink: Any, weights: Any, structure: Any, symmetric: bool
    ) -> None:
        terminals = [_numbers(op, "source", source), _numbers(op, "sink", sink)]
        self.shape = np.broadcast_shapes(*(np.shape(t) for t in terminals))
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(
                f"{op}: source must have one to three dimensions, got shape {self.shape}"
            )
        for name, array in zip(("source", "sink"), terminals, strict=True):
            if array.shape != self.shape and array.ndim:
                raise ValueError(
                    f"{op}: source and sink must have one shape, "
                    f"got {terminals[0].shape} and {terminals[1].shape}"
                )
            _check_range(op, name, array)
        self.connectivity, edges = _edges(op, self.shape, weights, structure, symmetric)
        arrays = [*terminals, *(a for _, *pair in edges for a in pair)]
        self.dtype = _computed_in(op, terminals, edges)
        cast = {id(a): _cast(a, self.dtype) for a in arrays}
        self.source, self.sink = (np.broadcast_to(cast[id(t)], self.shape) for t in terminals)
        self.edges = [(offset, cast[id(f)], cast[id(b)]) for offset, f, b in edges]

    def graph(self, *, seeded: bool) -> GridGraph:
        dtype = self.dtype
        if seeded and dtype == np.int32:
            most = max(_most(self.source), _most(self.sink))
            bounds = [_most(f) + _most(b) for _, f, b in self.edges]
            if most + _seed_capacity(dtype, most, bounds) > _limit(dtype):
                dtype = np.dtype(np.int64)
        graph = GridGraph(self.shape, self.connectivity, dtype)
        for offset, forth, back in self.edges:
            graph.add_edges(
                offset, _cast(forth, dtype), None if back is forth else _cast(back, dtype)
            )
        graph.add_terminal(_cast(self.source, dtype), _cast(self.sink, dtype))
        return graph


_Edges = list[tuple[Offset, NDArray[Any], NDArray[Any]]]


def _edges(
    op: str, shape: tuple[int, ...], weights: Any, structure: Any, symmetric: bool
) -> tuple[int, _Edges]:
    """Connectivity, and for each offset the capacities forth and back."""
    ndim = len(shape)
    zero = np.zeros((), np.int32)
    if not _is_sequence(weights, ndim):
        array = _weights(op, weights, shape)
        edges: _Edges = []
        for offset, factor in _structure(op, structure, ndim, symmetric):
            scaled = array if factor == 1 else _scaled(op, array, factor)
            edges.append((offset, scaled, scaled if symmetric else zero))
        return max((sum(map(abs, o)) for o, *_ in edges), default=1), edges
    if structure is not None:
        raise ValueError(f"{op}: structure must not be given with weights for each offset")
    arrays = [_weights(op, w, shape) for w in weights]
    for connectivity in range(1, ndim + 1):
        offsets = grid_offsets(ndim, connectivity)
        if len(arrays) == len(offsets):
            return connectivity, [
                (o, a, a if symmetric else zero) for o, a in zip(offsets, arrays, strict=True)
            ]
        if len(arrays) == 2 * len(offsets) and not symmetric:
            opposite = [tuple(-i for i in o) for o in offsets]
            pairs = zip([*offsets, *opposite], arrays, strict=True)
            return connectivity, [(o, a, zero) for o, a in pairs]
    counts = [len(grid_offsets(ndim, c)) for c in range(1, ndim + 1)]
    raise ValueError(
        f"{op}: weights must be one for each offset of {ndim} dimensions, "
        f"{' or '.join(map(str, counts))}{'' if symmetric else ' or twice as many'}, "
        f"got {len(arrays)}"
    )


def _scaled(op: str, array: NDArray[Any], factor: int | float) -> NDArray[Any]:
    if isinstance(factor, int) and array.dtype.kind in "bui":
        if _most(array) * factor > _limit(np.dtype(np.int64)):
            raise ValueError(f"{op}: weights times structure must be numbers of int64")
        array = array.astype(np.int64)
    scaled = np.asarray(array * factor)
    _check_range(op, "weights times structure", scaled)
    return scaled


def _is_sequence(weights: Any, ndim: int) -> bool:
    """Whether weights are given for each offset, not one number or array for all."""
    if isinstance(weights, np.ndarray):
        return weights.ndim == ndim + 1
    if not isinstance(weights, (list, tuple)):
        return False
    try:
        return np.ndim(weights) != ndim
    except ValueError:  # of uneven shapes
        return True


def _structure(
    op: str, structure: Any, ndim: int, symmetric: bool
) -> Iterator[tuple[Offset, int | float]]:
    if structure is None:
        for offset in grid_offsets(ndim, 1):
            yield offset, 1
            if not symmetric:
                yield tuple(-o for o in offset), 1
        return
    array = _numbers(op, "structure", structure)
    if array.shape != (3,) * ndim:
        raise ValueError(f"{op}: structure must have shape {(3,) * ndim}, got {array.shape}")
    _check_range(op, "structure", array)
    for index in np.argwhere(array):
        if (index != 1).any():
            yield tuple(int(i) - 1 for i in index), array[tuple(index)].item()


def _weights(op: str, value: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    array = _numbers(op, "weights", value)
    if array.ndim and array.shape != shape:
        raise ValueError(
            f"{op}: weights must be numbers or arrays of the grid's shape {shape}, "
            f"got shape {array.shape}"
        )
    _check_range(op, "weights", array)
    return array


def _computed_in(op: str, terminals: list[NDArray[Any]], edges: _Edges) -> np.dtype[Any]:
    """The narrowest type that holds all capacities and their sums."""
    arrays = [*terminals, *(a for _, *pair in edges for a in pair)]
    if any(a.dtype.kind == "f" for a in arrays):
        narrow = all(
            a.dtype.itemsize <= 4 if a.dtype.kind == "f" else _most(a) < 2**24 for a in arrays
        )
        return np.dtype(np.float32 if narrow else np.float64)
    most: dict[Offset, float] = {}
    for offset, forth, back in edges:
        pair = max(offset, tuple(-o for o in offset))
        most[pair] = most.get(pair, 0) + _most(forth) + _most(back)
    largest = max([*most.values(), *map(_most, terminals)])
    if largest > np.iinfo(np.int64).max:
        raise ValueError(f"{op}: weights must sum up to numbers of int64, got up to {largest:.17g}")
    return np.dtype(np.int32 if largest <= np.iinfo(np.int32).max else np.int64)


def _numbers(op: str, name: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{op}: {name} must be bool, integer or float of at most 64 bits, got {array.dtype}"
        )
    return array


def _most(array: NDArray[Any]) -> float:
    return float(array.max()) if array.size else 0.0


def _check_range(op: str, name: str, array: NDArray[Any], *, signed: bool = False) -> float:
    """Refuse negative, NaN and infinite capacities; return the largest magnitude."""
    if array.dtype in _DTYPES and array.flags.c_contiguous and array.dtype.isnative:
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


def _cast(array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return _checks.contiguous(array.astype(dtype, copy=False))


def _capacities(
    op: str,
    name: str,
    value: Any,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    *,
    signed: bool = False,
) -> tuple[NDArray[Any], float]:
    """Return numbers of `dtype`, none or as many axes as `shape`, and their largest magnitude."""
    array = _numbers(op, name, value)
    if array.ndim and array.shape != shape:
        raise ValueError(
            f"{op}: {name} must be a number or have shape {shape}, got shape {array.shape}"
        )
    if dtype.kind == "i" and array.dtype.kind == "f":
        raise TypeError(f"{op}: {name} must be integers for a graph of {dtype}, got {array.dtype}")
    most = _check_range(op, name, array, signed=signed)
    if most > _limit(dtype):
        raise ValueError(f"{op}: {name} must be numbers of {dtype}, got up to {most:.17g}")
    return _cast(array, dtype), most


def _limit(dtype: np.dtype[Any]) -> float:
    """The largest capacity; for int64 a little less than there is, since bounds are floats."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).max)
    return float(np.iinfo(dtype).max) if dtype.itemsize == 4 else 2.0**63 - 2.0**12


def _seed_capacity(dtype: np.dtype[Any], terminal: float, edges: list[float]) -> float:
    """More than can leave a pixel; a float large enough to be more after rounding."""
    leaves = 2 * sum(edges) + terminal
    return leaves + 1 if dtype.kind == "i" else 2 * leaves + 1


def _seed_mask(op: str, name: str, value: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    mask = np.asarray(value)
    if mask.dtype != np.bool_:
        raise TypeError(f"{op}: {name} must be bool, got {mask.dtype}")
    if mask.shape != shape:
        raise ValueError(f"{op}: {name} must have shape {shape}, got {mask.shape}")
    return mask


def _flat_indices(op: str, at: Any, shape: tuple[int, ...]) -> NDArray[np.int64]:
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


def _ranks(flat: NDArray[np.int64]) -> NDArray[np.intp]:
    """A small number for each different index."""
    return np.unique(flat, return_inverse=True)[1].reshape(-1)


def _pairs(shape: tuple[int, ...], offset: Offset) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the pixels whose neighbour at `offset` is inside, and of those neighbours."""
    steps = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(0, -o), max(0, n - max(0, o))) for o, n in steps)
    there = tuple(slice(max(0, o), max(0, n - max(0, -o))) for o, n in steps)
    return here, there
