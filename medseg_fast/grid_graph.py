"""Maximum flow on 1D, 2D and 3D grids of pixels, kept for the next change."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _grid_arguments, _grid_graph_file
from medseg_fast._cpu import core
from medseg_fast._flow_graph import FlowGraph
from medseg_fast._grid_arguments import grid_offsets
from medseg_fast._tuples import tuple_of

_NAME = "GridGraph"


class GridGraph(FlowGraph):
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
        One of each pair of opposite offsets, the positive one. Those along one axis come first,
        then those along two and three; within these in falling order: ``(1, 0), (0, 1), (1, 1),
        (1, -1)``.

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
    far as parts go. Where paths are long and most pixels have a terminal, flow goes along straight
    lines at once. Where orphans have to look far for a root, as with random capacities between few
    terminals, incremental breadth-first search (Goldberg et al. 2011) takes over. Trees and flow
    are reused after changes (Kohli and Torr 2007).

    Memory: a capacity for each directed edge, one for the terminals, and 11 bytes (17 with more
    than 8 neighbours or 64-bit capacities) for the trees: 39 bytes per voxel for a 6-connected
    int32 or float32 volume, 31 per pixel for a 4-connected image. To that come the nodes that fill
    up blocks of 4 x 4 x 4 voxels or 8 x 8 pixels at the border, and 4 to 8 bytes for each node that
    waits in the queue, or while flow goes along straight lines.

    A graph can be copied, pickled and saved. It may be shared by threads; they take turns.

    References
    ----------
    Y. Boykov and V. Kolmogorov (2004), "An experimental comparison of min-cut/max-flow algorithms
    for energy minimization in vision", IEEE PAMI 26(9):1124-1137.

    O. Jamriska, D. Sykora and A. Hornung (2012), "Cache-efficient graph cuts on structured grids",
    CVPR, 3673-3680.

    A. V. Goldberg, S. Hed, H. Kaplan, R. E. Tarjan and R. F. Werneck (2011), "Maximum flows by
    incremental breadth-first search", ESA, 457-468.

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
        if self.dtype not in _grid_arguments.DTYPES:
            raise TypeError(
                f"{_NAME}: dtype must be int32, int64, float32 or float64, got {self.dtype}"
            )
        self.offsets = grid_offsets(len(self.shape), self.connectivity)
        if math.prod(-(-n // 8) * 8 for n in self.shape) >= 2**31:
            raise ValueError(f"{_NAME}: shape must have fewer than 2**31 pixels, got {self.shape}")
        self._core = core.grid_graph(np.empty(0, self.dtype), self.shape, self.offsets)
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
            flat = _grid_arguments.flat_indices(op, at, self.shape)
            shape = flat.shape
        pair, bound = [], 0.0
        for name, value in (("source", source), ("sink", sink)):
            array, most = _grid_arguments.capacities(
                op, name, value, self.dtype, shape, signed=signed
            )
            pair.append(np.broadcast_to(array, shape) if array.ndim == 0 else array)
            bound = bound + most if signed else max(bound, most)
        if flat is not None and flat.size:
            bound *= _grid_arguments.most_often(flat)
        source, sink = (np.ascontiguousarray(a) for a in pair)
        self._put_terminal(op, source, sink, flat, bound)

    def _put_terminal(
        self,
        op: str,
        source: NDArray[Any],
        sink: NDArray[Any],
        flat: NDArray[np.int64] | None,
        bound: float,
    ) -> None:
        """`bound`: by how much the difference of a pixel's terminals may change."""
        bound += self._terminal_bound
        if bound > _grid_arguments.limit(self.dtype):
            bound = self._largest_terminal(source, sink, flat)
        if bound > _grid_arguments.limit(self.dtype):
            raise ValueError(
                f"{op}: source and sink must sum up to numbers of {self.dtype}, "
                f"got up to {bound:.17g}"
            )
        self._terminal_bound = bound
        self._core.add_terminal(source, sink, flat)

    def _largest_terminal(
        self, source: NDArray[Any], sink: NDArray[Any], flat: NDArray[np.int64] | None
    ) -> float:
        """How large terminals are left where these are added."""
        excess = self._excess()
        total = excess.astype(np.float64)
        change = source.astype(np.float64) - sink
        if flat is None:
            total += change
        else:
            np.add.at(total.reshape(-1), flat, change)
        return float(max(np.abs(total).max(), np.abs(excess.astype(np.float64)).max()))

    def _excess(self) -> NDArray[Any]:
        """What is left of each pixel's terminals: positive from the source, else to the sink."""
        excess = _checks.empty(self.shape, self.dtype)
        self._core.excess(excess)
        return excess

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
        masks = [
            _grid_arguments.seed_mask(op, n, m, self.shape)
            for n, m in (("source", source), ("sink", sink))
        ]
        if (masks[0] & masks[1]).any():
            raise ValueError(f"{op}: source and sink must have no pixel in common")
        enough = _grid_arguments.seed_capacity(self.dtype, self._terminal_bound, self._edge_bounds)
        pixels = [np.nonzero(mask) for mask in masks]
        if self._terminal_bound + enough <= _grid_arguments.limit(self.dtype) / 4:
            values = [np.full(len(at[0]), enough).astype(self.dtype) for at in pixels]
            self._terminal_bound += enough
        else:  # after many strokes what is enough for each pixel
            excess = self._excess()
            values = _grid_arguments.seed_capacities(op, excess, pixels, self._edge_bounds)
            self._terminal_bound = float(np.abs(excess.astype(np.float64)).max(initial=0))
        for at, value, sink in zip(pixels, values, (False, True), strict=True):
            pair = (np.zeros_like(value), value) if sink else (value, np.zeros_like(value))
            self._core.add_terminal(*pair, _grid_arguments.flat_indices(op, at, self.shape))

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
        forth, back, *most = self._both_ways(op, weights, reverse)
        self._put_edges(op, direction, forth, back, sum(most))

    def _both_ways(
        self, op: str, weights: ArrayLike, reverse: ArrayLike | None, *, signed: bool = False
    ) -> tuple[NDArray[Any], NDArray[Any], float, float]:
        """Capacities there and back, and the largest magnitude of either."""
        dtype, shape = self.dtype, self.shape
        forth, most = _grid_arguments.capacities(
            op, "weights", weights, dtype, shape, signed=signed
        )
        if reverse is None:
            return forth, forth, most, most
        back, other = _grid_arguments.capacities(
            op, "reverse", reverse, dtype, shape, signed=signed
        )
        return forth, back, most, other

    def change_edges(
        self,
        offset: int | Sequence[int],
        weights: ArrayLike,
        reverse: ArrayLike | None = None,
    ) -> None:
        """Like `add_edges`, but changes may be negative: for the next frame of a video, say.

        Parameters
        ----------
        offset : int or tuple of int
            As for `add_edges`.
        weights, reverse : array_like
            What is added to the capacities there and back.

        Raises
        ------
        TypeError, ValueError
            As `add_edges`.

        Notes
        -----
        That no capacity becomes negative is not checked; the cut is that of some other graph then.
        Flow that an edge no longer has room for is taken back (Kohli and Torr 2007), all other flow
        stays. Time O(n); 4 or 8 bytes per pixel of extra memory meanwhile.

        Examples
        --------
        >>> import medseg_fast as ms
        >>> graph = ms.GridGraph((1, 4))
        >>> graph.add_terminal([[9, 1, 0, 0]], [[0, 0, 1, 9]])
        >>> graph.add_edges(1, 3)
        >>> graph.maxflow()
        3
        >>> graph.change_edges(1, [[0, -1, 0, 0]])
        >>> graph.maxflow(), graph.segments().tolist()
        (2, [[False, False, True, True]])
        """
        op = f"{_NAME}.change_edges"
        direction = self._direction(op, offset)
        forth, back, *most = self._both_ways(op, weights, reverse, signed=True)
        limit = _grid_arguments.limit(self.dtype)
        edges = self._edge_bounds[direction // 2] + sum(most)
        if edges > limit:
            edges = self._largest_edge(direction) + sum(most)
        terminal = self._terminal_bound + 2 * max(most)
        if terminal > limit:
            zero = np.zeros(self.shape, self.dtype)
            terminal = self._largest_terminal(zero, zero, None) + 2 * max(most)
        if max(edges, terminal) > limit:
            raise ValueError(
                f"{op}: capacities must remain numbers of {self.dtype}, "
                f"got up to {max(edges, terminal):.17g}"
            )
        self._edge_bounds[direction // 2], self._terminal_bound = edges, terminal
        self._core.change_grid_edges(direction, forth, back)

    def _largest_edge(self, direction: int) -> float:
        """No more than this is left of an edge's both ways together."""
        left = _checks.empty(self.shape, self.dtype)
        total = 0.0
        for way in (direction, direction ^ 1):
            self._core.grid_residual(way, left)
            total += float(left.max(initial=0))
        return total

    def _put_edges(
        self, op: str, direction: int, forth: NDArray[Any], back: NDArray[Any], bound: float
    ) -> None:
        """`bound`: the largest capacity forth and the largest back together."""
        bound += self._edge_bounds[direction // 2]
        if bound > _grid_arguments.limit(self.dtype):
            raise ValueError(
                f"{op}: weights and reverse must together be numbers of {self.dtype}, "
                f"got up to {bound:.17g}"
            )
        self._edge_bounds[direction // 2] = bound
        self._core.add_grid_edges(direction, forth, back)

    def _direction(self, op: str, offset: int | Sequence[int]) -> int:
        """The kernel's number: twice the place in `offsets`, one more for its opposite."""
        ndim = len(self.shape)
        if np.ndim(offset) == 0:
            axis = _checks.integer(op, "offset", offset, 0, ndim - 1)
            return 2 * self.offsets.index(tuple_of(int(a == axis) for a in range(ndim)))
        step = tuple_of(_checks.integer(op, "offset", o) for o in offset)  # type: ignore[union-attr]
        if step in self.offsets:
            return 2 * self.offsets.index(step)
        opposite = tuple_of(-o for o in step)
        if opposite in self.offsets:
            return 2 * self.offsets.index(opposite) + 1
        raise ValueError(
            f"{op}: offset must lead to a neighbour of connectivity {self.connectivity} "
            f"in {ndim} dimensions, got {offset!r}"
        )

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

    def __copy__(self) -> GridGraph:
        other = super().__copy__()
        other._edge_bounds = list(self._edge_bounds)
        return other

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the graph to a file: capacities that are left, and the flow.

        Parameters
        ----------
        path : str or path-like
            A file of NumPy's ``.npz``, replaced if it exists; until it is complete it has another
            name in the same folder.

        Notes
        -----
        4 or 8 bytes per pixel for each directed edge and 4 or 8 for the terminals, on disk and as
        extra memory. Search trees are not saved: the next `maxflow` grows them again.
        """
        _grid_graph_file.write(Path(path), self.__getstate__())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> GridGraph:
        """Read a graph that `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        OSError
            If there is no such file.
        ValueError
            If it holds no graph.
        """
        given, change = _grid_graph_file.read(Path(path))
        graph = cls(*given)
        state = {k: v for k, v in graph.__dict__.items() if k != "_core"}
        graph.__setstate__({**state, **change})
        return graph

    def __getstate__(self) -> dict[str, Any]:
        """Return what is left of capacities and the flow; search trees grow again from it."""
        arcs = [_checks.empty(self.shape, self.dtype) for _ in range(2 * len(self.offsets))]
        for direction, array in enumerate(arcs):
            self._core.grid_residual(direction, array)
        state = {k: v for k, v in self.__dict__.items() if k != "_core"}
        return {**state, "left": [self._excess(), *arcs], "flow": self._core.flow()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        excess, *arcs = state.pop("left")
        flow = state.pop("flow")
        self.__dict__.update(state)
        self._core = core.grid_graph(np.empty(0, self.dtype), self.shape, self.offsets)
        zero = np.zeros((), self.dtype)
        for direction, array in enumerate(arcs):
            self._core.add_grid_edges(direction, array, zero)
        self._core.add_terminal(np.maximum(excess, 0), np.maximum(-excess, 0), None)
        self._core.set_flow(*flow)
