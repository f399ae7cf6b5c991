from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.graph_cut


def random_graph(rng, n, edges, dtype=np.int64, most=9):
    """Terminals, ends of edges and two capacities for each; many of them 0, equal or parallel."""
    i = rng.integers(0, n, edges)
    j = (i + rng.integers(1, max(n, 2), edges)) % n
    values = [rng.integers(0, most + 1, edges) * (rng.random(edges) < 0.7) for _ in range(2)]
    terminals = [rng.integers(0, most + 1, n) * (rng.random(n) < 0.4) for _ in range(2)]
    scale = 1 if np.dtype(dtype).kind == "i" else rng.choice([0.1, 1.0, 1 / 3])
    source, sink, forth, back = ((v * scale).astype(dtype) for v in (*terminals, *values))
    return source, sink, i, j, forth, back


def graph_of(source, sink, i, j, forth, back):
    graph = ms.Graph(len(source), source.dtype)
    graph.add_edge(i, j, forth, back)
    graph.add_terminal(source, sink)
    return graph


def assert_minimum(graph, *given):
    flow, segments = graph.maxflow(), graph.segments()
    expected, cut = twin.maxflow_graph(*given)
    if given[0].dtype.kind == "i":
        assert isinstance(flow, int)
        assert flow == expected
        assert_array_equal(segments, cut)
    else:
        assert isinstance(flow, float)
        assert flow == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert twin.graph_cut_capacity(*given, segments) == pytest.approx(flow, abs=1e-12)
    return segments


DTYPES = pytest.mark.parametrize("dtype", [np.int64, np.float64])


@DTYPES
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(2, 12), edges=st.integers(0, 40))
def test_flow_and_cut_equal_reference(dtype, seed, n, edges):
    arrays = random_graph(np.random.default_rng(seed), n, edges, dtype)
    assert_minimum(graph_of(*arrays), *arrays)


def scipy_flow(source, sink, i, j, forth, back):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    n = len(source)
    number = np.arange(n)
    rows = np.concatenate([np.full(n, n), number, i, j])
    columns = np.concatenate([number, np.full(n, n + 1), j, i])
    values = np.concatenate([source, sink, forth, back])
    matrix = coo_array((values, (rows, columns)), (n + 2, n + 2)).tocsr().astype(np.int32)
    return maximum_flow(matrix, n, n + 1).flow_value


def test_large_graphs_equal_scipy(rng):
    for n, edges, most in [(300, 700, 20), (2000, 9000, 1000), (5000, 9000, 3), (40, 3000, 9)]:
        arrays = random_graph(rng, n, edges, most=most)
        graph = graph_of(*arrays)
        assert graph.maxflow() == scipy_flow(*arrays)
        assert twin.graph_cut_capacity(*arrays, graph.segments()) == graph.maxflow()


def test_results_are_those_of_the_grid(rng):
    shape = (9, 12)
    number = np.arange(108).reshape(shape)
    source, sink, weights = (rng.integers(0, 9, shape) for _ in range(3))
    graph = ms.Graph(108)
    graph.add_edge(number[:-1], number[1:], weights[:-1])
    graph.add_edge(number[:, :-1], number[:, 1:], weights[:, :-1])
    graph.add_terminal(source.ravel(), sink.ravel())
    flow, segments = ms.maxflow_grid(source, sink, weights)
    assert graph.maxflow() == flow
    assert_array_equal(graph.segments().reshape(shape), segments)


@DTYPES
def test_solving_again_after_changes_equals_a_fresh_solve(rng, dtype):
    for n, edges in [(6, 9), (12, 40), (60, 150)]:
        arrays = random_graph(rng, n, edges, dtype)
        source, sink, *rest = arrays
        graph = graph_of(*arrays)
        for step in range(9):
            segments = assert_minimum(graph, source, sink, *rest)
            if dtype == np.int64:
                fresh = graph_of(source, sink, *rest)
                assert fresh.maxflow() == graph.maxflow()
                assert_array_equal(fresh.segments(), segments)
            at = rng.integers(0, n, 5)  # some of them twice
            new, less = (rng.integers(0, 9, 5).astype(dtype) for _ in range(2))
            if step % 3 == 0:
                graph.add_terminal(new, less, at=at)
                np.add.at(source, at, new)
                np.add.at(sink, at, less)
            elif step % 3 == 1:
                at = np.unique(at)
                new, less = new[: len(at)], less[: len(at)]
                graph.change_terminal(new - source[at], less - sink[at], at=at)
                source[at], sink[at] = new, less
            else:  # edges and nodes
                more = random_graph(rng, n, 4, dtype)[2:]
                graph.add_edge(*more)
                rest = [np.concatenate(pair) for pair in zip(rest, more, strict=True)]
                assert graph.add_nodes(2).tolist() == [n, n + 1]
                n += 2
                source, sink = (np.append(a, np.zeros(2, dtype)) for a in (source, sink))


@DTYPES
def test_copies_and_pickles_go_on_alike(rng, dtype):
    source, sink, *rest = random_graph(rng, 10, 30, dtype)
    for solved in (False, True):
        graph = graph_of(source, sink, *rest)
        if solved:
            graph.maxflow()
        for make in (ms.Graph.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))):
            other = make(graph)
            assert repr(other) == repr(graph)
            other.add_terminal(5, 0)
            assert_minimum(other, source + dtype(5), sink, *rest)
        assert_minimum(graph, source, sink, *rest)


@DTYPES
def test_seeds_stay_whatever_it_costs(rng, dtype):
    for _ in range(20):
        arrays = random_graph(rng, 12, 40, dtype, most=10**6)
        choice = rng.integers(0, 6, 12)
        graph = graph_of(*arrays)
        graph.add_seeds(choice == 1, choice == 2)
        flow, segments = graph.maxflow(), graph.segments()
        assert not segments[choice == 1].any()
        assert segments[choice == 2].all()
        forced = [
            a + dtype(10**9) * m
            for a, m in zip(arrays[:2], (choice == 1, choice == 2), strict=True)
        ]
        assert flow == pytest.approx(twin.maxflow_graph(*forced, *arrays[2:])[0], rel=1e-9)


def test_threads_that_add_and_read_take_turns():
    """Nodes and edges that come while a result is copied are not in it."""
    graph, ended = ms.Graph(500), threading.Event()

    def grow():
        while not ended.is_set():
            graph.add_nodes(1)
            graph.add_edge([0, 1, 2], [1, 2, 3], 1)

    other = threading.Thread(target=grow)
    other.start()
    try:
        for _ in range(300):
            assert graph.segments().size >= 500
            twin_graph = pickle.loads(pickle.dumps(graph))
            assert twin_graph.n_edges <= graph.n_edges
    finally:
        ended.set()
        other.join()


def test_scalars_parallel_edges_and_ties():
    graph = ms.Graph(2)
    graph.add_edge(0, 1, 2)
    graph.add_edge(1, 0, 3, 1)  # parallel: 0 -> 1 has 3
    graph.add_terminal(9, 0, at=0)
    graph.add_terminal(0, 9, at=[1])
    assert (graph.n_nodes, graph.n_edges) == (2, 2)
    assert graph.maxflow() == 3
    assert graph.segments().tolist() == [False, True]
    free = ms.Graph(3)  # free nodes are on the source's side
    assert free.maxflow() == 0
    assert free.segments().tolist() == [False] * 3
    assert ms.Graph().maxflow() == 0
    assert ms.Graph().segments().shape == (0,)


def test_segments_into_out():
    graph = ms.Graph(4)
    graph.add_terminal([0, 1, 0, 1], [1, 0, 1, 0])
    graph.maxflow()
    out = np.ones(8, bool)[::2]
    assert graph.segments(out=out) is out
    assert out.tolist() == [True, False, True, False]


def test_wide_integers_do_not_overflow():
    graph = ms.Graph(2)
    graph.add_edge(0, 1, 2**61)
    graph.add_terminal([2**62, 0], [0, 2**62])
    assert graph.maxflow() == 2**61
    with pytest.raises(ValueError, match="must together be numbers of int64"):
        graph.add_edge(0, 1, 2**62)
    with pytest.raises(ValueError, match="must sum up to numbers of int64"):
        graph.add_terminal(2**63 - 2**13, 0)
    full = ms.Graph(2)
    full.add_edge(0, 1, 2**61)
    full.add_edge(0, 1, 2**61)
    with pytest.raises(ValueError, match="capacities must sum up"):
        full.add_seeds([True, False], [False, True])


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "dtype must be int64 or float64", lambda g: ms.Graph(3, np.int32)),
        (ValueError, "n must be from 0", lambda g: ms.Graph(-1)),
        (TypeError, "i must be integers", lambda g: g.add_edge(0.5, 1, 1)),
        (ValueError, "j must be nodes from 0 to 2, got 3 to 3", lambda g: g.add_edge(0, 3, 1)),
        (ValueError, "must differ", lambda g: g.add_edge([0, 1], [1, 1], 1)),
        (ValueError, "one shape", lambda g: g.add_edge([0, 1], [1], 1)),
        (ValueError, "capacity must be a number or have", lambda g: g.add_edge(0, 1, [1, 2])),
        (ValueError, "capacity must not be negative", lambda g: g.add_edge(0, 1, -1)),
        (ValueError, "reverse must not contain NaN", lambda g: g.add_edge(0, 1, 1, np.nan)),
        (ValueError, "capacity must be finite", lambda g: g.add_edge(0, 1, np.inf)),
        (TypeError, "capacity must be integers", lambda g: ms.Graph(3).add_edge(0, 1, 1.5)),
        (ValueError, "source must not be negative", lambda g: g.add_terminal(-1, 0)),
        (ValueError, "sink must be finite", lambda g: g.add_terminal(0, np.inf)),
        (ValueError, "source must be a number or have", lambda g: g.add_terminal([1, 2], 0)),
        (ValueError, "at must be nodes", lambda g: g.add_terminal(1, 0, at=7)),
        (ValueError, "no node in common", lambda g: g.add_seeds([True] * 3, [True] * 3)),
        (TypeError, "source must be bool", lambda g: g.add_seeds([1] * 3, [True] * 3)),
    ],
)
def test_bad_input(error, message, call):
    graph = ms.Graph(3, np.float64)
    with pytest.raises(error, match=message):
        call(graph)
    assert graph.n_edges == 0
    assert graph.maxflow() == 0
