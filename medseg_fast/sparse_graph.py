"""Maximum flow on any graph: regions, superpixels, meshes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _grid_arguments
from medseg_fast._cpu import core
from medseg_fast._flow_graph import FlowGraph

_NAME = "Graph"


class Graph(FlowGraph):
    """A graph of numbered nodes with edges between any two of them, a source and a sink.

    For images `GridGraph` is several times faster and smaller; this is for what is no grid. The
    maximum flow stays in the graph: after a change of terminal capacities `maxflow` goes on from
    there.

    Parameters
    ----------
    n : int, optional
        Nodes to begin with, numbered from 0.
    dtype : dtype, optional
        Type of capacities: int64, whose flows are exact, or float64.

    Attributes
    ----------
    dtype : numpy.dtype
    n_nodes, n_edges : int

    Raises
    ------
    TypeError
        If `dtype` is neither.
    ValueError
        If `n` is negative, or 2**31 or more.

    Notes
    -----
    Two search trees (Boykov and Kolmogorov 2004), reused after changes of terminals (Kohli and
    Torr 2007). Memory: 32 bytes per node and 32 per edge; while edges are sorted, at the first
    `maxflow` after they were added, 24 to 56 per edge more. Runs on one thread.

    A graph can be copied and pickled. It may be shared by threads; they take turns.

    References
    ----------
    Y. Boykov and V. Kolmogorov (2004), "An experimental comparison of min-cut/max-flow algorithms
    for energy minimization in vision", IEEE PAMI 26(9):1124-1137.

    P. Kohli and P. Torr (2007), "Dynamic graph cuts for efficient inference in Markov random
    fields", IEEE PAMI 29(12):2079-2088.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> graph = ms.Graph(3)
    >>> graph.add_edge([0, 1], [1, 2], [4, 2])
    >>> graph.add_terminal([9, 0, 0], [0, 0, 9])
    >>> graph.maxflow(), graph.segments().tolist()
    (2, [False, False, True])
    """

    def __init__(self, n: int = 0, dtype: DTypeLike = np.int64) -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.int64, np.float64):
            raise TypeError(f"{_NAME}: dtype must be int64 or float64, got {self.dtype}")
        n = _checks.integer(_NAME, "n", n, 0, 2**31 - 1)
        self._core = core.sparse_graph(np.empty(0, self.dtype), n)
        self._terminal_bound = 0.0  # no capacity that is left is larger

    def __repr__(self) -> str:
        return f"<{_NAME} of {self.n_nodes} nodes, {self.n_edges} edges, {self.dtype}>"

    def __class_getitem__(cls, kind: type) -> Any:
        """``Graph[int]`` and ``Graph[float]`` are PyMaxflow's names, see `GraphInt`."""
        from medseg_fast import pymaxflow

        return pymaxflow.Graph[kind]

    @property
    def n_nodes(self) -> int:
        return self._core.counts()[0]  # type: ignore[no-any-return]

    @property
    def n_edges(self) -> int:
        return self._core.counts()[1]  # type: ignore[no-any-return]

    def add_nodes(self, n: int = 1) -> NDArray[np.int64]:
        """Add `n` nodes without edges and return their numbers."""
        before = self.n_nodes
        self._core.add_nodes(_checks.integer(f"{_NAME}.add_nodes", "n", n, 0, 2**31 - 1 - before))
        return np.arange(before, before + n)

    def add_edge(
        self, i: ArrayLike, j: ArrayLike, capacity: ArrayLike, reverse: ArrayLike | None = None
    ) -> None:
        """Add one edge, or one for each entry of arrays.

        Parameters
        ----------
        i, j : int or array_like of int
            Nodes. Two edges between the same nodes add up.
        capacity : array_like
            Capacity from `i` to `j`, not negative; one number, or one for each edge.
        reverse : array_like, optional
            Capacity from `j` to `i`. Default: `capacity`.

        Raises
        ------
        TypeError
            If nodes are no integers, or the graph has integer capacities and these are floats.
        ValueError
            If a node does not exist or has an edge to itself, a capacity is negative, NaN or
            infinite, lengths differ, or both capacities together are too large. Nothing is added
            then.

        Notes
        -----
        Time O(m). The search trees are given up; the flow is kept.
        """
        op = f"{_NAME}.add_edge"
        ends = [self._nodes(op, name, value) for name, value in (("i", i), ("j", j))]
        shape = ends[0].shape
        if ends[1].shape != shape:
            raise ValueError(f"{op}: i and j must have one shape, got {shape} and {ends[1].shape}")
        if (ends[0] == ends[1]).any():
            raise ValueError(f"{op}: i and j must differ")
        forth, bound = _grid_arguments.capacities(op, "capacity", capacity, self.dtype, shape)
        if reverse is None:
            back, bound = forth, 2 * bound
        else:
            back, most = _grid_arguments.capacities(op, "reverse", reverse, self.dtype, shape)
            bound += most
        if bound > _grid_arguments.limit(self.dtype):
            raise ValueError(
                f"{op}: capacity and reverse must together be numbers of {self.dtype}, "
                f"got up to {bound:.17g}"
            )
        if 2 * (self.n_edges + ends[0].size) >= 2**32 - 2:
            raise ValueError(f"{op}: edges must be fewer than 2**31")
        self._core.add_edges(*ends, *(_spread(a, shape) for a in (forth, back)))

    def _nodes(self, op: str, name: str, value: Any) -> NDArray[np.int64]:
        array = np.asarray(value)
        if array.dtype.kind not in "iu" and array.size:
            raise TypeError(f"{op}: {name} must be integers, got {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= self.n_nodes):
            raise ValueError(
                f"{op}: {name} must be nodes from 0 to {self.n_nodes - 1}, "
                f"got {array.min()} to {array.max()}"
            )
        return _checks.contiguous(array.astype(np.int64, copy=False))

    def add_terminal(
        self, source: ArrayLike, sink: ArrayLike, *, at: ArrayLike | None = None
    ) -> None:
        """Add capacities of the edges from the source and to the sink.

        Parameters
        ----------
        source, sink : array_like
            Capacities to add, not negative: one number, or one for each node. The capacity from
            the source is what it costs to cut the node off from it.
        at : int or array_like of int, optional
            Nodes meant; `source` and `sink` then hold one number for each, or one for all. A node
            named twice gets both.

        Raises
        ------
        TypeError
            If the graph has integer capacities and these are floats.
        ValueError
            If a capacity is negative, NaN, infinite or too large for the graph's dtype, or an
            array does not fit. Nothing is added then.

        Notes
        -----
        Time O(n), or in proportion to the nodes named by `at` (and to the parts of the search
        trees that the change tears off).
        """
        self._add_terminal(f"{_NAME}.add_terminal", source, sink, at, signed=False)

    def change_terminal(
        self, source: ArrayLike, sink: ArrayLike, *, at: ArrayLike | None = None
    ) -> None:
        """Like `add_terminal`, but changes may be negative.

        That no capacity becomes negative is not checked; a cut then counts the negative number.
        """
        self._add_terminal(f"{_NAME}.change_terminal", source, sink, at, signed=True)

    def _add_terminal(self, op: str, source: Any, sink: Any, at: Any, *, signed: bool) -> None:
        nodes = None if at is None else self._nodes(op, "at", at)
        shape = (self.n_nodes,) if nodes is None else nodes.shape
        pair, bound = [], 0.0
        for name, value in (("source", source), ("sink", sink)):
            array, most = _grid_arguments.capacities(
                op, name, value, self.dtype, shape, signed=signed
            )
            pair.append(_spread(array, shape))
            bound = bound + most if signed else max(bound, most)
        if nodes is not None and nodes.size:
            bound *= _grid_arguments.most_often(nodes.ravel())
        if self._terminal_bound + bound > _grid_arguments.limit(self.dtype):
            self._terminal_bound = self._largest_terminal()
        bound += self._terminal_bound
        if bound > _grid_arguments.limit(self.dtype):
            raise ValueError(
                f"{op}: source and sink must sum up to numbers of {self.dtype}, "
                f"got up to {bound:.17g}"
            )
        self._terminal_bound = bound
        self._core.add_terminal(*pair, nodes)

    def _largest_terminal(self) -> float:
        excess = np.empty(self.n_nodes, self.dtype)
        self._core.excess(excess)
        return float(np.abs(excess.astype(np.float64)).max(initial=0))

    def add_seeds(self, source: ArrayLike, sink: ArrayLike) -> None:
        """Tie nodes to the source or the sink, whatever their capacities.

        Parameters
        ----------
        source, sink : array_like of bool
            One entry for each node: where it is True, the node stays on that side of the cut.

        Raises
        ------
        ValueError
            If a node is in both, a mask does not fit, or the dtype has no number large enough.

        Notes
        -----
        The terminal capacity added is larger than all edges of the node together with its other
        terminal, as they are now: add seeds after edges and terminals.
        """
        op = f"{_NAME}.add_seeds"
        masks = [
            _grid_arguments.seed_mask(op, n, m, (self.n_nodes,))
            for n, m in (("source", source), ("sink", sink))
        ]
        if (masks[0] & masks[1]).any():
            raise ValueError(f"{op}: source and sink must have no node in common")
        try:
            self._core.tie(masks[0] + 2 * masks[1].astype(np.uint8))
        except OverflowError:
            raise ValueError(f"{op}: capacities must sum up to numbers of {self.dtype}") from None
        self._terminal_bound = self._largest_terminal()

    def segments(self, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return the minimum cut, after `maxflow`.

        Parameters
        ----------
        out : ndarray of bool, optional
            Array of one entry for each node that receives it.

        Returns
        -------
        segments : ndarray of bool
            True on the sink's side, see `GridGraph.segments`: of all minimum cuts the one with the
            fewest such nodes.
        """
        mask = _checks.output(f"{_NAME}.segments", out, (self.n_nodes,), np.bool_)
        written = _checks.scratch(mask)
        self._core.segments(written)
        return _checks.finish(mask, written)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is left of capacities and the flow; search trees grow again from it."""
        still = self._core.copy()  # other threads may add edges meanwhile
        nodes, edges = still.counts()
        ends = [np.empty(edges, np.int64) for _ in range(2)]
        left = [np.empty(edges, self.dtype) for _ in range(2)]
        excess = np.empty(nodes, self.dtype)
        still.residual(*ends, *left)
        still.excess(excess)
        state = {k: v for k, v in self.__dict__.items() if k != "_core"}
        return {
            **state,
            "edges": (*ends, *left),
            "excess": excess,
            "flow": still.flow(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        edges, excess, flow = (state.pop(k) for k in ("edges", "excess", "flow"))
        self.__dict__.update(state)
        self._core = core.sparse_graph(np.empty(0, self.dtype), len(excess))
        self._core.add_edges(*edges)
        self._core.add_terminal(np.maximum(excess, 0), np.maximum(-excess, 0), None)
        self._core.set_flow(*flow)


def _spread(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    return np.ascontiguousarray(np.broadcast_to(array, shape))
