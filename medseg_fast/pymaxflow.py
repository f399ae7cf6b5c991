"""PyMaxflow's graph by its own names: ``from medseg_fast import pymaxflow as maxflow``.

The calls are recorded. When the flow is asked for, a graph that is one grid with edges between
neighbours becomes a `GridGraph`, any other a `Graph`. Flows and cuts are those of PyMaxflow 1.3;
where that computes something else or nothing, these raise: negative, NaN and infinite capacities
between nodes, structures of another number of axes than the grid.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _graph_forms, _grid_arguments
from medseg_fast.grid_graph import GridGraph
from medseg_fast.labelling import alpha_beta_swap, alpha_expansion
from medseg_fast.sparse_graph import Graph as SparseGraph

__all__ = [
    "Graph",
    "GraphFloat",
    "GraphInt",
    "abswap_grid",
    "aexpansion_grid",
    "moore_structure",
    "vonNeumann_structure",
]

Array = NDArray[Any]
_NARROW = 2.0**28  # int32 where capacities stay far from its limit


class _Edges(NamedTuple):
    """Edges from grids of nodes to those beside them, or between named nodes."""

    i: Array
    j: Array
    forth: Array
    back: Array


class _GridEdges(NamedTuple):
    """Edges from every pixel of the grid to pixel + offset, where that lies inside."""

    offset: tuple[int, ...]
    forth: Array
    back: Array
    most: float  # the largest forth and the largest back together


class _Base:
    """What `GraphInt` and `GraphFloat` have in common."""

    _dtype: ClassVar[np.dtype[Any]]

    def __init__(self, est_node_num: int = 0, est_edge_num: int = 0) -> None:
        """`est_node_num` and `est_edge_num` are PyMaxflow's; nothing is reserved by them."""
        self.reset()

    def __repr__(self) -> str:
        counts = f"{self.get_node_count()} nodes and {self.get_edge_count()} edges"
        return f"<{type(self).__name__} with {counts}>"

    def reset(self) -> None:
        """Remove all nodes and edges."""
        self._nodes = 0
        self._arcs = 0
        self._shape: tuple[int, ...] | None = None  # of the grid, if the nodes are one
        self._edges: list[_Edges | _GridEdges] = []  # not yet in the graph
        self._single: list[tuple[int, int, Any, Any]] = []  # by add_edge
        self._terminals: list[tuple[Array, Array, Array]] = []
        self._single_terminals: list[tuple[int, Any, Any]] = []  # by add_tedge
        self._graph: GridGraph | SparseGraph | None = None
        self._segments: NDArray[np.bool_] | None = None

    def copy(self) -> Any:
        """Return a copy; after `maxflow` its capacities are what is left of them."""
        return self.__copy__()

    def __copy__(self) -> Any:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        for name in ("_edges", "_single", "_terminals", "_single_terminals"):
            setattr(other, name, list(getattr(self, name)))
        other._graph = None if self._graph is None else self._graph.copy()
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self.__copy__()

    def add_nodes(self, num_nodes: int) -> NDArray[np.int64]:
        """Add nodes; return their numbers."""
        n = _checks.integer(f"{type(self).__name__}.add_nodes", "num_nodes", num_nodes, 0)
        return self._number((n,), grid=False)

    def add_grid_nodes(self, shape: int | tuple[int, ...]) -> NDArray[np.int64]:
        """Add a grid of nodes; return their numbers in an array of that shape."""
        op = f"{type(self).__name__}.add_grid_nodes"
        sizes = (shape,) if np.ndim(shape) == 0 else tuple(shape)  # type: ignore[arg-type]
        return self._number(tuple(_checks.integer(op, "shape", n, 0) for n in sizes), grid=True)

    def _number(self, shape: tuple[int, ...], *, grid: bool) -> NDArray[np.int64]:
        first = self._nodes
        n = math.prod(shape)
        if first + n >= 2**31:
            raise ValueError(f"{type(self).__name__}: nodes must be fewer than 2**31")
        if n:
            alone = grid and first == 0 and 1 <= len(shape) <= 3
            self._shape = shape if alone else None
            self._nodes += n
        return np.arange(first, first + n).reshape(shape)

    def add_edge(self, i: int, j: int, capacity: Any, rcapacity: Any) -> None:
        """Add an edge from node `i` to node `j`, and back with `rcapacity`."""
        op = f"{type(self).__name__}.add_edge"
        for name, node in (("i", i), ("j", j)):
            _checks.integer(op, name, node, 0, self._nodes - 1)
        for name, value in (("capacity", capacity), ("rcapacity", rcapacity)):
            if not 0 <= _checks.number(op, name, value) <= _grid_arguments.limit(self._dtype):
                raise ValueError(
                    f"{op}: {name} must be a number of {self._dtype} and not negative, got {value}"
                )
        if i != j:
            self._single.append((i, j, capacity, rcapacity))
            self._arcs += 2

    def add_edges(
        self, i: ArrayLike, j: ArrayLike, capacity: ArrayLike, rev_capacity: ArrayLike
    ) -> None:
        """Add an edge for each entry of the arrays."""
        op = f"{type(self).__name__}.add_edges"
        first, second = self._named(op, "i", i), self._named(op, "j", j)
        forth = self._capacities(op, "capacity", capacity)
        back = self._capacities(op, "rev_capacity", rev_capacity)
        self._connect(first, second, forth, back)

    def _connect(self, i: Array, j: Array, forth: Array, back: Array) -> None:
        i, j, forth, back = (a.ravel() for a in np.broadcast_arrays(i, j, forth, back))
        if (same := i == j).any():
            i, j, forth, back = (a[~same] for a in (i, j, forth, back))
        self._edges.append(_Edges(i.copy(), j.copy(), forth.copy(), back.copy()))
        self._arcs += 2 * len(i)

    def add_grid_edges(
        self,
        nodeids: ArrayLike,
        weights: ArrayLike = 1,
        structure: ArrayLike | None = None,
        symmetric: bool = False,
        periodic: bool | ArrayLike = False,
    ) -> None:
        """Add edges from each node of a grid to those that `structure` names around it.

        Parameters
        ----------
        nodeids : array_like of int
            Numbers of the nodes.
        weights : array_like, optional
            For each node, or of a shape that can be broadcast to that.
        structure : array_like, optional
            An odd number of entries along each axis; the capacity of the edge to the node at an
            offset is the weight times the entry there. Default: the neighbours along the axes,
            each pair of nodes once if `symmetric`.
        symmetric : bool, optional
            Whether each edge also leads back with the same capacity.
        periodic : bool or array_like of bool, optional
            Whether the nodes at opposite borders are neighbours, along all axes or each of them.
        """
        op = f"{type(self).__name__}.add_grid_edges"
        ids = self._named(op, "nodeids", nodeids)
        given = self._capacities(op, "weights", weights)
        capacities = np.broadcast_to(given, ids.shape)
        if structure is None:
            factors = vonNeumann_structure(ids.ndim, bool(symmetric))
        else:
            factors = self._numbers(op, "structure", structure)
        if factors.ndim != ids.ndim or any(n % 2 == 0 for n in factors.shape):
            raise ValueError(
                f"{op}: structure must have an odd number of entries along each of {ids.ndim} "
                f"axes, got shape {factors.shape}"
            )
        around = np.asarray(periodic, np.bool_)
        if around.shape not in ((), (1,), (ids.ndim,)):
            raise ValueError(
                f"{op}: periodic must be one bool or one for each of {ids.ndim} axes, "
                f"got {periodic!r}"
            )
        around = np.broadcast_to(around, (ids.ndim,))
        whole = not around.any() and self._is_grid(ids)
        for index in np.argwhere(factors):
            offset = tuple(int(k) - n // 2 for k, n in zip(index, factors.shape, strict=True))
            if any(offset):
                factor = factors[tuple(index)].item()
                forth = capacities
                if factor != 1:
                    forth = self._capacities(op, "weights times structure", capacities * factor)
                back = forth if symmetric else np.zeros((), self._dtype)
                self._add_offset(ids, offset, forth, back, around, whole=whole)

    def _is_grid(self, ids: Array) -> bool:
        return ids.shape == self._shape and bool((ids.ravel() == np.arange(self._nodes)).all())

    def _add_offset(
        self,
        ids: Array,
        offset: tuple[int, ...],
        forth: Array,
        back: Array,
        around: Array,
        *,
        whole: bool,
    ) -> None:
        if whole and max(map(abs, offset)) == 1:
            most = _largest(forth)
            self._edges.append(_GridEdges(offset, forth, back, 2 * most if back.ndim else most))
            pairs = zip(ids.shape, offset, strict=True)
            self._arcs += 2 * math.prod(max(0, n - abs(o)) for n, o in pairs)
            return
        there = np.roll(ids, [-o for o in offset], tuple(range(ids.ndim)))
        here, _ = _grid_arguments.pairs(ids.shape, offset)
        inside = tuple(slice(None) if a else s for a, s in zip(around, here, strict=True))
        back = np.broadcast_to(back, ids.shape)
        self._connect(ids[inside], there[inside], forth[inside], back[inside])

    def add_tedge(self, i: int, cap_source: Any, cap_sink: Any) -> None:
        """Add capacities from the source to node `i` and from it to the sink; may be negative."""
        op = f"{type(self).__name__}.add_tedge"
        _checks.integer(op, "i", i, 0, self._nodes - 1)
        for name, value in (("cap_source", cap_source), ("cap_sink", cap_sink)):
            if abs(_checks.number(op, name, value)) > _grid_arguments.limit(self._dtype):
                raise ValueError(f"{op}: {name} must be a number of {self._dtype}, got {value}")
        self._single_terminals.append((i, cap_source, cap_sink))

    def add_grid_tedges(
        self, nodeids: ArrayLike, sourcecaps: ArrayLike, sinkcaps: ArrayLike
    ) -> None:
        """Add capacities from the source and to the sink for many nodes; may be negative."""
        op = f"{type(self).__name__}.add_grid_tedges"
        ids = self._named(op, "nodeids", nodeids)
        source = self._capacities(op, "sourcecaps", sourcecaps, signed=True)
        sink = self._capacities(op, "sinkcaps", sinkcaps, signed=True)
        source, sink = (np.broadcast_to(a, ids.shape) for a in (source, sink))
        self._terminals.append((ids.ravel(), source.ravel(), sink.ravel()))

    def _named(self, op: str, name: str, value: Any) -> Array:
        ids = np.asarray(value)
        if ids.dtype.kind not in "iu" and ids.size:
            raise TypeError(f"{op}: {name} must be integers, got {ids.dtype}")
        if ids.size and (ids.min() < 0 or ids.max() >= self._nodes):
            raise ValueError(f"{op}: {name} must be nodes of the graph, 0 to {self._nodes - 1}")
        return ids.astype(np.int64, copy=False)

    def _numbers(self, op: str, name: str, value: Any) -> Array:
        """In the graph's type; floats of an integer graph lose what is behind the point."""
        array = _grid_arguments.numbers(op, name, value)
        most = _grid_arguments.check_range(op, name, array, signed=True)
        if most > _grid_arguments.limit(self._dtype):
            raise ValueError(f"{op}: {name} must be numbers of {self._dtype}, got up to {most}")
        return array.astype(self._dtype)

    def _capacities(self, op: str, name: str, value: Any, *, signed: bool = False) -> Array:
        array = self._numbers(op, name, value)
        if not signed and array.size and (least := array.min()) < 0:
            raise ValueError(f"{op}: {name} must not be negative, got {least}")
        return array

    def maxflow(self, reuse_trees: bool = False) -> Any:
        """Find the maximum flow; return its value, that of all calls together.

        `reuse_trees` is PyMaxflow's: search trees are reused anyway.
        """
        graph = self._current()
        self._segments = None
        flow = graph.maxflow()
        self._segments = graph.segments().ravel()
        return flow

    def get_nx_graph(self) -> Any:
        """Return what is left of the capacities as a ``networkx.DiGraph``: slow, to look at.

        Edges have a `weight`, those without any left out, nodes the `segment` they are in; the
        terminals are "s" and "t".
        """
        graph = self._current()
        if isinstance(graph, GridGraph):
            graph = _graph_forms.sparse(graph, self._dtype)
        segments = [self.get_segment(node) for node in range(self._nodes)]
        return _graph_forms.networkx_graph(graph, segments)

    def _current(self) -> GridGraph | SparseGraph:
        """The graph with all that was recorded."""
        self._flush_single()
        if self._graph is None:
            self._graph = self._grid() or SparseGraph(0, self._dtype)
        self._graph = self._flushed(self._graph)
        return self._graph

    def _flush_single(self) -> None:
        if self._single:
            i, j, forth, back = zip(*self._single, strict=True)
            ends = [np.array(k, np.int64) for k in (i, j)]
            values = [np.array(v).astype(self._dtype) for v in (forth, back)]
            self._edges.append(_Edges(*ends, *values))
            self._single.clear()
        if self._single_terminals:
            nodes, *caps = zip(*self._single_terminals, strict=True)
            source, sink = (np.array(v).astype(self._dtype) for v in caps)
            self._terminals.append((np.array(nodes, np.int64), source, sink))
            self._single_terminals.clear()

    def _grid(self) -> GridGraph | None:
        """An empty grid graph, if that will do."""
        edges = [e for e in self._edges if isinstance(e, _GridEdges)]
        if self._shape is None or len(edges) < len(self._edges):
            return None
        most = sum(2 * e.most for e in edges)
        most += sum(_largest(*t[1:]) for t in self._terminals)
        narrow = self._dtype.kind == "i" and most < _NARROW
        connectivity = max((sum(map(abs, e.offset)) for e in edges), default=1)
        return GridGraph(self._shape, connectivity, np.int32 if narrow else self._dtype)

    def _flushed(self, graph: GridGraph | SparseGraph) -> GridGraph | SparseGraph:
        """The graph with all that was recorded; another one if this could not hold it."""
        if isinstance(graph, GridGraph) and not self._fits(graph):
            graph = _graph_forms.sparse(graph, self._dtype)
        if graph.dtype == np.int32 and (graph._terminal_bound or any(graph._edge_bounds)):  # type: ignore[union-attr]
            more = sum(2 * e.most for e in self._edges if isinstance(e, _GridEdges))
            more += sum(_largest(*t[1:]) for t in self._terminals)
            if graph._terminal_bound + sum(graph._edge_bounds) + more >= _NARROW:  # type: ignore[union-attr]
                graph = _graph_forms.widened(graph)  # type: ignore[arg-type]
        if isinstance(graph, SparseGraph) and graph.n_nodes < self._nodes:
            graph.add_nodes(self._nodes - graph.n_nodes)
        op = type(self).__name__
        cast: dict[int, Array] = {}  # offsets often share their weights
        for e in self._edges:
            if isinstance(graph, GridGraph):
                assert isinstance(e, _GridEdges)
                for a in (e.forth, e.back):
                    if id(a) not in cast:
                        cast[id(a)] = _grid_arguments.cast(a, graph.dtype)
                pair = cast[id(e.forth)], cast[id(e.back)]
                graph._put_edges(op, graph._direction(op, e.offset), *pair, e.most)
            else:
                graph.add_edge(*(e if isinstance(e, _Edges) else self._spelt_out(e)))
        self._edges.clear()
        if self._terminals:
            nodes, source, sink = self._summed_terminals()
            at = None if nodes is None else nodes
            caps = [a.astype(graph.dtype, copy=False) for a in (source, sink)]
            if isinstance(graph, GridGraph):
                where = None if at is None else np.unravel_index(at, graph.shape)
                caps = [c.reshape(graph.shape) for c in caps] if at is None else caps
                graph.change_terminal(*caps, at=where)
            else:
                graph.change_terminal(*caps, at=at)
            self._terminals.clear()
        return graph

    def _fits(self, graph: GridGraph) -> bool:
        return self._shape == graph.shape and all(
            isinstance(e, _GridEdges) and sum(map(abs, e.offset)) <= graph.connectivity
            for e in self._edges
        )

    def _spelt_out(self, e: _GridEdges) -> _Edges:
        shape = e.forth.shape
        ids = np.arange(math.prod(shape)).reshape(shape)
        here, there = _grid_arguments.pairs(shape, e.offset)
        back = np.broadcast_to(e.back, shape)
        i, j, forth, back = (a.ravel() for a in (ids[here], ids[there], e.forth[here], back[here]))
        return _Edges(i, j, forth, back)

    def _summed_terminals(self) -> tuple[Array | None, Array, Array]:
        """Nodes (None: all, in order) and what comes to their terminals."""
        if len(self._terminals) == 1:
            nodes, source, sink = self._terminals[0]
            if len(nodes) == self._nodes and (nodes == np.arange(self._nodes)).all():
                return None, source, sink
            return self._terminals[0]
        nodes, source, sink = (np.concatenate(a) for a in zip(*self._terminals, strict=True))
        return nodes, source, sink

    def get_segment(self, i: int) -> int:
        """Return 1 if node `i` is on the sink's side of the cut, else 0."""
        op = f"{type(self).__name__}.get_segment"
        i = _checks.integer(op, "i", i, 0, self._nodes - 1)
        return 0 if self._segments is None else int(self._segments[i])

    def get_grid_segments(self, nodeids: ArrayLike) -> NDArray[np.bool_]:
        """Return whether nodes are on the sink's side of the cut."""
        ids = self._named(f"{type(self).__name__}.get_grid_segments", "nodeids", nodeids)
        if self._segments is None:
            return np.zeros(ids.shape, np.bool_)
        return self._segments[ids]

    def get_node_count(self) -> int:
        """Return how many nodes there are, source and sink not counted."""
        return self._nodes

    def get_edge_count(self) -> int:
        """Return how many edges there are, each way counted on its own."""
        return self._arcs

    get_node_num = get_node_count
    get_edge_num = get_edge_count

    def mark_node(self, i: int) -> None:
        """Do nothing: what changed is known."""

    def mark_grid_nodes(self, nodeids: ArrayLike) -> None:
        """Do nothing: what changed is known."""


class GraphInt(_Base):
    """A graph of integer capacities (int64), with PyMaxflow's methods; ``Graph[int]``.

    Examples
    --------
    >>> from medseg_fast import pymaxflow as maxflow
    >>> graph = maxflow.Graph[int]()
    >>> nodes = graph.add_grid_nodes((1, 4))
    >>> graph.add_grid_edges(nodes, 3)
    >>> graph.add_grid_tedges(nodes, [[9, 1, 0, 0]], [[0, 0, 1, 9]])
    >>> graph.maxflow(), graph.get_grid_segments(nodes).tolist()
    (3, [[False, False, True, True]])
    """

    _dtype = np.dtype(np.int64)


class GraphFloat(_Base):
    """A graph of float64 capacities, with PyMaxflow's methods; ``Graph[float]``."""

    _dtype = np.dtype(np.float64)


Graph: dict[type, type[Any]] = {int: GraphInt, float: GraphFloat}


def aexpansion_grid(
    unary: ArrayLike,
    binary: ArrayLike,
    max_cycles: int | None = None,
    labels: ArrayLike | None = None,
) -> Array:
    """`alpha_expansion` by PyMaxflow's name; an array of `labels` is written to and returned."""
    return _received(alpha_expansion(unary, binary, max_cycles, labels), labels)


def abswap_grid(
    unary: ArrayLike,
    binary: ArrayLike,
    max_cycles: int | None = None,
    labels: ArrayLike | None = None,
) -> Array:
    """`alpha_beta_swap` by PyMaxflow's name; an array of `labels` is written to and returned."""
    return _received(alpha_beta_swap(unary, binary, max_cycles, labels), labels)


def _received(found: Array, labels: Any) -> Array:
    if not isinstance(labels, np.ndarray):
        return found.astype(np.int_)
    labels[...] = found
    return labels


def vonNeumann_structure(ndim: int = 2, directed: bool = False) -> NDArray[np.float64]:
    """Return the structure of the neighbours along the axes, each pair once if `directed`."""
    return _structure(ndim, 1, directed)


def moore_structure(ndim: int = 2, directed: bool = False) -> NDArray[np.float64]:
    """Return the structure of all neighbours of a 3 x 3 x ... box, each pair once if `directed`."""
    return _structure(ndim, ndim, directed)


def _structure(ndim: int, connectivity: int, directed: bool) -> NDArray[np.float64]:
    structure = np.zeros((3,) * ndim)
    for offset in itertools.product((-1, 0, 1), repeat=ndim):
        if 0 < sum(map(abs, offset)) <= connectivity and (not directed or offset > (0,) * ndim):
            structure[tuple(o + 1 for o in offset)] = 1
    return structure


def _largest(*arrays: Array) -> float:
    """The largest magnitude of each, together."""
    return sum(float(max(a.max(initial=0), -a.min(initial=0))) for a in arrays)
