"""Edge weights by a structure or for each offset, as PyMaxflow has them."""

from __future__ import annotations

import numpy as np
import pytest
from _maxflow import (
    arcs_of,
    random_grid,
    twin,
)
from numpy.testing import assert_array_equal

import medseg_fast as ms


def all_pairs(weights, structure, symmetric):
    """PyMaxflow's rule, spelt out."""
    pairs = []
    ndim = weights.ndim
    for index in np.ndindex(*(3,) * ndim):
        offset = tuple(i - 1 for i in index)
        if any(offset) and structure[index]:
            capacity = weights * structure[index]
            pairs.append((offset, capacity, capacity if symmetric else np.zeros_like(capacity)))
    return pairs


@pytest.mark.parametrize("shape", [(40,), (7, 9), (4, 5, 3)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_structure(rng, shape, symmetric):
    source, sink, _ = random_grid(rng, shape, 1)
    weights = rng.integers(0, 9, shape)
    steps = np.indices((3,) * len(shape)) - 1
    along = (np.abs(steps).sum(0) == 1).astype(int)
    default = along * (steps.sum(0) > 0) if symmetric else along
    for structure in (None, along, rng.integers(0, 3, along.shape)):
        pairs = all_pairs(weights, default if structure is None else structure, symmetric)
        expected, cut = twin.maxflow_grid(source, sink, arcs_of(pairs))
        flow, segments = ms.maxflow_grid(source, sink, weights, structure, symmetric)
        assert flow == expected
        assert_array_equal(segments, cut)
        assert ms.verify_cut(source, sink, weights, flow, segments, structure, symmetric)
        assert not ms.verify_cut(source, sink, weights, flow + 1, segments, structure, symmetric)


def test_weights_for_each_offset(rng):
    for shape, connectivity in [((90,), 1), ((7, 9), 1), ((7, 9), 2), ((3, 4, 5), 2)]:
        source, sink, pairs = random_grid(rng, shape, connectivity)
        both = [(o, f, f) for o, f, _ in pairs]
        forth = [f for _, f, _ in pairs]
        expected, cut = twin.maxflow_grid(source, sink, arcs_of(both))
        for weights in (forth, tuple(forth), np.stack(forth)):
            flow, segments = ms.maxflow_grid(source, sink, weights)
            assert flow == expected
            assert_array_equal(segments, cut)
            assert ms.verify_cut(source, sink, weights, flow, segments)
        one_way = [(o, f, f * 0) for o, f, _ in pairs]
        flow, _ = ms.maxflow_grid(source, sink, forth, symmetric=False)
        assert flow == twin.maxflow_grid(source, sink, arcs_of(one_way))[0]
        if (len(shape), connectivity) == (2, 1):
            continue  # four arrays are those of 8 neighbours
        back = [b for _, _, b in pairs]
        opposite = one_way + [(tuple(-i for i in o), b, b * 0) for o, _, b in pairs]
        flow, segments = ms.maxflow_grid(source, sink, [*forth, *back], symmetric=False)
        assert flow == twin.maxflow_grid(source, sink, arcs_of(opposite))[0]
        assert ms.verify_cut(source, sink, [*forth, *back], flow, segments, symmetric=False)


def test_results_are_those_of_pymaxflow(rng):
    maxflow = pytest.importorskip("maxflow")  # not in any extra: GPL
    for shape in [(17, 23), (5, 6, 7)]:
        for symmetric in (True, False):
            source, sink, _ = random_grid(rng, shape, 1)
            weights = rng.integers(0, 9, shape)
            graph = maxflow.Graph[int]()
            nodes = graph.add_grid_nodes(shape)
            graph.add_grid_edges(nodes, weights, symmetric=symmetric)
            graph.add_grid_tedges(nodes, source, sink)
            flow, segments = ms.maxflow_grid(source, sink, weights, symmetric=symmetric)
            assert flow == graph.maxflow()
            assert_array_equal(segments, graph.get_grid_segments(nodes))
