"""Random capacities on grids, and what a cut of them must satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.graph_cut
INTEGERS, FLOATS = [np.int32, np.int64], [np.float32, np.float64]


def random_grid(rng, shape, connectivity, dtype=np.int32, most=9):
    """Terminals and two capacities (forth, back) for each offset, many of them 0 or equal."""

    def capacities(zeros):
        values = rng.integers(0, most + 1, shape) * (rng.random(shape) > zeros)
        scale = 1 if np.dtype(dtype).kind == "i" else rng.choice([0.1, 1.0, 1 / 3])
        return (values * scale).astype(dtype)

    offsets = twin.OFFSETS[len(shape), connectivity]
    zeros = rng.choice([0, 0.3, 0.8])
    pairs = [(o, capacities(zeros), capacities(zeros)) for o in offsets]
    return capacities(0.5), capacities(0.5), pairs


def arcs_of(pairs):
    """Every directed arc, as the slow twin takes them."""
    arcs = []
    for offset, forth, back in pairs:
        ends = np.zeros_like(back)  # the way back starts at the neighbour
        here, there = slices(back.shape, offset)
        ends[there] = back[here]
        arcs += [(offset, forth), (tuple(-o for o in offset), ends)]
    return arcs


def slices(shape, offset):
    steps = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(0, -o), max(0, n - max(0, o))) for o, n in steps)
    there = tuple(slice(max(0, o), max(0, n - max(0, -o))) for o, n in steps)
    return here, there


def graph_of(source, sink, pairs, connectivity):
    graph = ms.GridGraph(source.shape, connectivity, source.dtype)
    graph.add_terminal(source, sink)
    for offset, forth, back in pairs:
        graph.add_edges(offset, forth, back)
    return graph


def scipy_flow(source, sink, pairs):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    number = np.arange(source.size).reshape(source.shape)
    s, t = source.size, source.size + 1
    rows, columns = [np.full(source.size, s), number.ravel()], [number.ravel()]
    columns.append(np.full(source.size, t))
    values = [source.ravel(), sink.ravel()]
    for offset, capacity in arcs_of(pairs):
        here, there = slices(source.shape, offset)
        rows.append(number[here].ravel())
        columns.append(number[there].ravel())
        values.append(capacity[here].ravel())
    data, at = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_array((data, at), (t + 1, t + 1)).tocsr().astype(np.int32)
    return maximum_flow(matrix, s, t).flow_value


def capacity(source, sink, pairs, segments):
    """Of the cut: where it equals the flow, both are certified."""
    wide = np.int64 if source.dtype.kind == "i" else np.float64
    total = source[segments].sum(dtype=wide) + sink[~segments].sum(dtype=wide)
    for offset, capacities in arcs_of(pairs):
        here, there = slices(source.shape, offset)
        total += capacities[here][~segments[here] & segments[there]].sum(dtype=wide)
    return total


def assert_minimum(graph, source, sink, pairs, flow=None):
    """Our flow and cut against the slow twin; returns the segments."""
    got = graph.maxflow()
    segments = graph.segments()
    arcs = arcs_of(pairs)
    expected, cut = twin.maxflow_grid(source, sink, arcs)
    if source.dtype.kind == "i":
        assert isinstance(got, int)
        assert got == expected == twin.cut_capacity(source, sink, arcs, segments)
        assert_array_equal(segments, cut)
    else:
        assert isinstance(got, float)
        assert got == pytest.approx(expected, rel=1e-6, abs=0)
        assert got == pytest.approx(twin.cut_capacity(source, sink, arcs, segments), rel=1e-6)
    return segments
