"""PyMaxflow itself where it is installed (it is in no extra: GPL), else the slow twin."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import pymaxflow, reference
from medseg_fast.grid_graph import GridGraph
from medseg_fast.sparse_graph import Graph

twin = reference.graph_cut
KINDS = pytest.mark.parametrize("kind", [int, float])
SHAPES = [(17,), (7, 9), (1, 8), (2, 5), (3, 4, 5), (2, 2, 3, 2)]


class Twin:
    """PyMaxflow's rules spelt out on the slow twin's dictionaries; asked once."""

    def __init__(self):
        self.graph = {"source": {}, "sink": {}}
        self.n = 0
        self.flow = 0

    def add_nodes(self, n):
        return self.add_grid_nodes((n,))

    def add_grid_nodes(self, shape):
        ids = self.n + np.arange(np.prod(shape)).reshape(shape)
        self.graph.update({int(i): {} for i in ids.ravel()})
        self.n += ids.size
        return ids

    def add_edge(self, i, j, capacity, reverse):
        if i != j:
            twin._add(self.graph, int(i), int(j), capacity)
            twin._add(self.graph, int(j), int(i), reverse)

    def add_edges(self, i, j, capacity, reverse):
        for edge in zip(i, j, capacity.tolist(), reverse.tolist(), strict=True):
            self.add_edge(*edge)

    def add_grid_edges(self, ids, weights=1, structure=None, symmetric=False, periodic=False):
        weights = np.broadcast_to(weights, ids.shape)
        if structure is None:
            structure = pymaxflow.vonNeumann_structure(ids.ndim, symmetric)
        structure = np.asarray(structure)
        around = np.broadcast_to(periodic, ids.ndim)
        for p in np.ndindex(ids.shape):
            for index in np.ndindex(structure.shape):
                q = [x + k - n // 2 for x, k, n in zip(p, index, structure.shape, strict=True)]
                q = [x % n if a else x for x, n, a in zip(q, ids.shape, around, strict=True)]
                if all(0 <= x < n for x, n in zip(q, ids.shape, strict=True)):
                    capacity = (weights[p] * structure[index]).item()
                    back = capacity if symmetric else 0
                    if structure[index]:
                        self.add_edge(ids[p], ids[tuple(q)], capacity, back)

    def add_tedge(self, i, source, sink):
        if min(source, sink) < 0:  # what counts is the difference
            self.flow += min(source, sink)
            source, sink = source - min(source, sink), sink - min(source, sink)
        twin._add(self.graph, "source", int(i), source)
        twin._add(self.graph, int(i), "sink", sink)

    def add_grid_tedges(self, ids, source, sink):
        source, sink = np.broadcast_to(source, ids.shape), np.broadcast_to(sink, ids.shape)
        for each in zip(ids.ravel(), source.ravel().tolist(), sink.ravel().tolist(), strict=True):
            self.add_tedge(*each)

    def maxflow(self):
        self.flow += twin.maxflow(self.graph)
        self.reached = twin._reached(self.graph, "sink", backwards=True)
        return self.flow

    def get_grid_segments(self, ids):
        return np.array([int(i) in self.reached for i in ids.ravel()]).reshape(ids.shape)


def graphs(kind):
    """Ours and what it must equal."""
    others = [Twin()]
    try:
        import maxflow
    except ImportError:
        pass
    else:
        others.append(maxflow.Graph[kind]())
    return [pymaxflow.Graph[kind](), *others]


def assert_same(all_graphs, ids, kind):
    ours, *others = all_graphs
    flow = ours.maxflow()
    assert isinstance(flow, kind)
    for other in others:
        assert flow == pytest.approx(other.maxflow(), rel=1e-12, abs=0 if kind is int else 1e-9)
        if kind is int:
            assert_array_equal(ours.get_grid_segments(ids), other.get_grid_segments(ids))
        if not isinstance(other, Twin):
            assert ours.get_node_count() == other.get_node_count()
            assert ours.get_edge_count() == other.get_edge_count()
            assert ours.get_segment(int(ids.flat[0])) == other.get_segment(int(ids.flat[0]))


def random(rng, shape, kind):
    values = rng.integers(0, 12, shape) * (rng.random(shape) < 0.6)
    return values if kind is int else values / 3


@KINDS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("periodic", [False, True, "one"])
def test_grids(rng, shape, kind, symmetric, periodic):
    periodic = np.arange(len(shape)) == 0 if periodic == "one" else periodic
    far = np.zeros((3,) * (len(shape) - 1) + (5,), int)
    far[..., 4] = rng.integers(0, 3, far[..., 4].shape)
    near = rng.integers(0, 3, (3,) * len(shape))
    for structure in (None, near, far):
        weights = random(rng, shape, kind)
        source, sink = (random(rng, shape, kind) for _ in range(2))
        built = graphs(kind)
        for graph in built:
            ids = graph.add_grid_nodes(shape)
            graph.add_grid_edges(ids, weights, structure, symmetric, periodic)
            graph.add_grid_tedges(ids, source, sink)
        assert_same(built, ids, kind)
        grid = structure is not far and np.all(~np.asarray(periodic)) and len(shape) <= 3
        assert isinstance(built[0]._graph, GridGraph if grid else Graph)


@KINDS
def test_edges_and_parts_of_grids(rng, kind):
    for _ in range(8):
        built = graphs(kind)
        source, sink = (random(rng, 20, kind) for _ in range(2))
        ends = rng.integers(0, 32, (2, 60))
        caps = [random(rng, 60, kind) for _ in range(2)]
        for graph in built:
            first = graph.add_nodes(20)
            ids = graph.add_grid_nodes((3, 4))
            assert (first[-1], ids[0, 0], ids.shape) == (19, 20, (3, 4))
            graph.add_edges(*ends, *caps)
            graph.add_grid_edges(ids[::2, 1:], kind(2), symmetric=True)
            graph.add_edge(0, 25, kind(3), kind(1))
            graph.add_edge(4, 4, kind(3), kind(1))
            graph.add_grid_tedges(first, source, sink)
            graph.add_tedge(30, kind(4), kind(-2))
            graph.add_tedge(30, kind(0), kind(5))
            graph.add_grid_tedges(ids, kind(0), kind(1))
        assert_same(built, np.arange(32), kind)


@KINDS
def test_changes_after_a_flow(rng, kind):
    """Flows of all calls together, and whatever graph it was before."""
    maxflow = pytest.importorskip("maxflow")
    for step in range(6):
        both = [pymaxflow.Graph[kind](), maxflow.Graph[kind]()]
        shape = (5, 6)
        weights, source, sink, more = (random(rng, shape, kind) for _ in range(4))
        for graph in both:
            ids = graph.add_grid_nodes(shape)
            graph.add_grid_edges(ids, weights, symmetric=True)
            graph.add_grid_tedges(ids, source, sink)
        assert_same(both, ids, kind)
        both = [g.copy() for g in both]
        for graph in both:
            if step == 0:
                graph.add_grid_tedges(ids, more, more[::-1])
            elif step == 1:
                graph.add_tedge(7, kind(90), kind(0))
                graph.add_tedge(20, kind(0), kind(90))
            elif step == 2:
                graph.add_grid_edges(ids, more)
            elif step == 3:  # no grid of that connectivity any more
                graph.add_grid_edges(ids, more, np.ones((3, 3), int))
            elif step == 4:
                graph.add_edge(0, 29, kind(50), kind(50))
            else:
                new = graph.add_nodes(2)
                graph.add_edge(3, int(new[1]), kind(9), kind(9))
                graph.add_tedge(int(new[1]), kind(0), kind(9))
        assert_same(both, ids, kind)


def test_wide_integers_after_narrow_ones():
    graph = pymaxflow.GraphInt(2, 1)
    ids = graph.add_grid_nodes((1, 2))
    graph.add_grid_edges(ids, 3)
    graph.add_grid_tedges(ids, [[5, 0]], [[0, 5]])
    assert graph.maxflow() == 3
    assert graph._graph.dtype == np.int32
    graph.add_grid_edges(ids, 2**40)
    graph.add_grid_tedges(ids, [[2**41, 0]], [[0, 2**41]])
    assert graph.maxflow() == 2**40 + 3
    assert graph.get_grid_segments(ids).tolist() == [[False, True]]


def test_structures_names_and_state():
    assert pymaxflow.vonNeumann_structure(2).tolist() == [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    assert pymaxflow.vonNeumann_structure(directed=True).tolist() == [
        [0, 0, 0],
        [0, 0, 1],
        [0, 1, 0],
    ]
    assert pymaxflow.moore_structure(2).sum() == 8
    assert pymaxflow.moore_structure(2, True).tolist() == [[0, 0, 0], [0, 0, 1], [1, 1, 1]]
    assert ms.Graph[int] is pymaxflow.GraphInt is ms.GraphInt
    assert ms.Graph[float] is pymaxflow.GraphFloat is ms.GraphFloat
    graph = ms.GraphInt()
    assert graph.add_grid_nodes(4).tolist() == [0, 1, 2, 3]
    assert graph.add_grid_nodes((0, 3)).shape == (0, 3)
    assert repr(graph) == "<GraphInt with 4 nodes and 0 edges>"
    assert graph.get_segment(0) == 0
    assert not graph.get_grid_segments([[0, 1]]).any()
    for make in (copy.copy, copy.deepcopy):
        other = make(graph)
        other.add_tedge(0, 3, 2)
        assert (other.maxflow(), graph.maxflow()) == (2, 0)
    graph.mark_node(0)
    graph.mark_grid_nodes([0])
    graph.reset()
    assert graph.get_node_num() == graph.get_edge_num() == 0


def test_integers_lose_what_is_behind_the_point():
    graph = ms.GraphInt()
    graph.add_nodes(2)
    graph.add_edge(0, 1, 1.7, 0)
    graph.add_grid_tedges([0, 1], [5.9, 0], [0, 5.9])
    assert graph.maxflow() == 1


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (
            ValueError,
            "capacity must be a number of float64 and not negative",
            lambda g: g.add_edge(0, 1, -1, 0),
        ),
        (ValueError, "got NaN", lambda g: g.add_edge(0, 1, np.nan, 0)),
        (ValueError, "j must be from 0 to 3", lambda g: g.add_edge(0, 4, 1, 0)),
        (ValueError, "i must be nodes", lambda g: g.add_edges([4], [0], [1], [1])),
        (ValueError, "weights must not be neg", lambda g: g.add_grid_edges(np.arange(4), -1)),
        (ValueError, "must not contain NaN", lambda g: g.add_grid_edges(np.arange(4), np.nan)),
        (ValueError, "odd", lambda g: g.add_grid_edges(np.arange(4), 1, np.ones((3, 3)))),
        (ValueError, "odd", lambda g: g.add_grid_edges(np.arange(4), 1, np.ones(2))),
        (ValueError, "broadcast", lambda g: g.add_grid_edges(np.arange(4), [1, 2])),
        (TypeError, "nodeids must be integers", lambda g: g.add_grid_edges([0.5], 1)),
        (ValueError, "cap_source must be a number of float64", lambda g: g.add_tedge(0, np.inf, 1)),
        (ValueError, "sinkcaps must be finite", lambda g: g.add_grid_tedges([0], 1, np.inf)),
        (ValueError, "periodic", lambda g: g.add_grid_edges([[0, 1]], 1, periodic=[True] * 3)),
        (ValueError, "num_nodes must be at least 0", lambda g: g.add_nodes(-1)),
        (ValueError, "fewer than 2", lambda g: g.add_grid_nodes((2**16, 2**16))),
        (ValueError, "i must be from 0 to 3", lambda g: g.get_segment(9)),
    ],
)
def test_bad_input(error, message, call):
    graph = ms.GraphFloat()
    graph.add_nodes(4)
    with pytest.raises(error, match=message):
        call(graph)
    assert graph.get_edge_count() == 0
    assert graph.maxflow() == 0


def test_integers_that_are_too_large():
    graph = ms.GraphInt()
    graph.add_nodes(2)
    for call in (
        lambda: graph.add_edge(0, 1, 2**70, 0),
        lambda: graph.add_tedge(0, 2**70, 0),
        lambda: graph.add_tedge(0, 0, -(2**70)),
    ):
        with pytest.raises(ValueError, match="must be a number of int64"):
            call()
    graph.add_tedge(0, 5, 0)
    assert graph.maxflow() == 0


@KINDS
def test_networkx_graph_is_pymaxflows(rng, kind):
    """Before a flow; after it what is left depends on the path that the flow took."""
    pytest.importorskip("networkx")
    maxflow = pytest.importorskip("maxflow")
    for grid in (True, False):
        shown = []
        for module in (pymaxflow, maxflow):
            graph, draw = module.Graph[kind](), np.random.default_rng(3)
            ids = graph.add_grid_nodes((4, 5))
            graph.add_grid_edges(ids, random(draw, (4, 5), kind))
            graph.add_grid_tedges(ids, *(random(draw, (4, 5), kind) for _ in range(2)))
            if not grid:
                for i, j in ((0, 19), (0, 1), (1, 0)):
                    graph.add_edge(i, j, kind(3), kind(0))
            shown.append(graph.get_nx_graph())
        assert dict(shown[0].nodes(data=True)) == dict(shown[1].nodes(data=True))
        got, expected = ({e[:2]: e[2]["weight"] for e in s.edges(data=True)} for s in shown)
        assert got.keys() == expected.keys()
        assert all(np.isclose(got[e], expected[e], rtol=1e-12) for e in expected)


@KINDS
def test_networkx_graph_holds_what_a_flow_leaves(kind):
    networkx = pytest.importorskip("networkx")
    graph = pymaxflow.Graph[kind]()
    graph.add_nodes(3)
    graph.add_edge(0, 1, kind(1), kind(2))
    graph.add_edge(0, 1, kind(4), kind(0))
    graph.add_edge(1, 2, kind(3), kind(0))
    graph.add_tedge(0, kind(9), kind(1))
    graph.add_tedge(2, kind(0), kind(7))
    before = graph.get_nx_graph()
    assert before.edges["s", 0] == {"weight": 8}
    assert before.edges[0, 1] == {"weight": 5}
    assert networkx.maximum_flow_value(before, "s", "t", capacity="weight") == 3
    assert graph.maxflow() == 4  # one more between the terminals of node 0
    after = graph.get_nx_graph()
    assert {e[:2]: e[2]["weight"] for e in after.edges(data=True)} == {
        ("s", 0): 5,
        (0, 1): 2,
        (1, 0): 5,
        (2, 1): 3,
        (2, "t"): 4,
    }
    assert [after.nodes[node]["segment"] for node in range(3)] == [0, 0, 1]


@pytest.mark.parametrize("name", ["aexpansion_grid", "abswap_grid"])
def test_many_labels(rng, name):
    unary = 20 * rng.random((6, 7, 3))  # no ties
    binary = 4.0 * (1 - np.eye(3))
    solve = getattr(pymaxflow, name)
    ours = {"aexpansion_grid": ms.alpha_expansion, "abswap_grid": ms.alpha_beta_swap}[name]
    expected = ours(unary, binary)
    got = solve(unary, binary)
    assert got.dtype == np.int_
    assert_array_equal(got, expected)
    labels = np.zeros((6, 7), int)
    assert solve(unary, binary, labels=labels) is labels
    assert_array_equal(labels, ours(unary, binary, labels=np.zeros((6, 7), int)))
    with pytest.raises(ValueError, match="pairwise"):
        solve(unary, np.zeros((2, 2)))
    peer = getattr(pytest.importorskip("maxflow"), name)
    assert_array_equal(got, peer(unary, binary))
