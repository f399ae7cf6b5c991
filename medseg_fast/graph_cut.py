"""Minimum cuts of images: exact maximum flow on 1D, 2D and 3D grids."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_arguments
from medseg_fast._dispatch import operation
from medseg_fast.grid_graph import GridGraph


@operation(gpu="graph_cut")
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

        A sequence, or an array with one more axis in front: one number or array for each of
        `GridGraph.offsets`, in 2D ``(1, 0), (0, 1)`` and for 8 neighbours ``(1, 1), (1, -1)``, in
        3D ``(1, 0, 0), (0, 1, 0), (0, 0, 1)`` and so on for 18 and 26: pixel p has an edge to p +
        offset. How many there are tells the connectivity. As many again (``symmetric=False``) are
        for the opposite offsets, in the same order; but four in 2D are always those of 8
        neighbours.
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

    On a GPU all pixels at once push excess to the sink, with searches back from it (Goldberg and
    Tarjan 1988): flow and cut are the same for integers, for floats up to rounding, and the same on
    every run. 2 capacities per pixel and directed edge, 4 more and 9
    bytes. The host waits for the device, which must tell it whether excess is left.

    References
    ----------
    A. V. Goldberg and R. E. Tarjan (1988), "A new approach to the maximum-flow problem", Journal of
    the ACM 35(4):921-940.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> flow, segments = ms.maxflow_grid([[9, 1, 0, 0]], [[0, 0, 1, 9]], 3)
    >>> flow, segments.tolist()
    (3, [[False, False, True, True]])
    """
    op = "maxflow_grid"
    grid = _grid_arguments.Grid(op, source, sink, weights, structure, symmetric)
    seeds = [
        None if mask is None else _grid_arguments.seed_mask(op, name, mask, grid.shape)
        for name, mask in (("source_seeds", source_seeds), ("sink_seeds", sink_seeds))
    ]
    seeded = any(mask is not None for mask in seeds)
    graph = _graph(op, grid, seeded=seeded)
    if seeded:
        nowhere = np.zeros(grid.shape, np.bool_)
        graph.add_seeds(*(nowhere if mask is None else mask for mask in seeds))
    return graph.maxflow(), graph.segments()


def _graph(op: str, grid: _grid_arguments.Grid, *, seeded: bool) -> GridGraph:
    cast, dtype = _grid_arguments.cast, grid.dtype
    if seeded and dtype == np.int32:
        enough = _grid_arguments.seed_capacity(dtype, grid.most, [e.most for e in grid.edges])
        if grid.most + enough > _grid_arguments.limit(dtype):
            dtype = np.dtype(np.int64)
    graph = GridGraph(grid.shape, grid.connectivity, dtype)
    for e in grid.edges:
        forth = cast(e.forth, dtype)
        back = forth if e.back is e.forth else cast(e.back, dtype)
        graph._put_edges(op, graph._direction(op, e.offset), forth, back, e.most)
    graph._put_terminal(op, cast(grid.source, dtype), cast(grid.sink, dtype), None, grid.most)
    return graph


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
    grid = _grid_arguments.Grid(op, source, sink, weights, structure, symmetric)
    cut = _grid_arguments.seed_mask(op, "segments", segments, grid.shape)
    flow = _checks.number(op, "flow", flow)
    wide = np.int64 if grid.dtype.kind == "i" else np.float64
    capacity = grid.source[cut].sum(dtype=wide) + grid.sink[~cut].sum(dtype=wide)
    for offset, forth, back, _ in grid.edges:
        here, there = _grid_arguments.pairs(grid.shape, offset)
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
