"""The same flow graph in another form: what is left of its capacities, and its flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg_fast import _grid_arguments
from medseg_fast.grid_graph import GridGraph
from medseg_fast.sparse_graph import Graph as SparseGraph


def widened(graph: GridGraph) -> GridGraph:
    """The same graph of int64."""
    state = graph.__getstate__()
    state["dtype"] = np.dtype(np.int64)
    state["left"] = [a.astype(np.int64) for a in state["left"]]
    wide = object.__new__(GridGraph)
    wide.__setstate__(state)
    return wide


def sparse(grid: GridGraph, dtype: np.dtype[Any]) -> SparseGraph:
    """The same graph with its edges spelt out, flow included."""
    state = grid.__getstate__()
    excess, *arcs = (a.astype(dtype) for a in state["left"])
    number = np.arange(excess.size).reshape(grid.shape)
    graph = SparseGraph(excess.size, dtype)
    for k, offset in enumerate(grid.offsets):
        here, there = _grid_arguments.pairs(grid.shape, offset)
        forth, back = arcs[2 * k][here], arcs[2 * k + 1][there]
        graph.add_edge(number[here], number[there], forth, back)
    graph.change_terminal(excess.ravel(), 0)
    graph._core.set_flow(*state["flow"])
    return graph


def networkx_graph(graph: SparseGraph, segments: Sequence[int]) -> Any:
    """A ``networkx.DiGraph`` with the terminals "s" and "t"; edges with nothing left are not in it.

    `segments`: of each node, its attribute.
    """
    import networkx

    state = graph.__getstate__()
    i, j, forth, back = (array.tolist() for array in state["edges"])
    excess = state["excess"].tolist()
    nodes = range(len(excess))
    shown = networkx.DiGraph()
    shown.add_nodes_from((node, {"segment": segments[node]}) for node in nodes)
    shown.add_nodes_from("st")
    tails = [*i, *j, *("s" for _ in nodes), *nodes]
    heads = [*j, *i, *nodes, *("t" for _ in nodes)]
    capacities = [*forth, *back, *excess, *(-left for left in excess)]
    for tail, head, left in zip(tails, heads, capacities, strict=True):
        if left > 0:
            before = shown.get_edge_data(tail, head, {"weight": 0})["weight"]
            shown.add_edge(tail, head, weight=before + left)
    return shown
