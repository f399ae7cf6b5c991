from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from _maxflow import (
    FLOATS,
    INTEGERS,
    arcs_of,
    assert_minimum,
    capacity,
    graph_of,
    random_grid,
    slices,
    twin,
)
from _memory import peak_bytes_per_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms

# Around the blocks of 64, 8 x 8 and 4 x 4 x 4, and thin ones.
GRIDS = [(1,), (2,), (63,), (64,), (65,), (130,)]


GRIDS += [(1, 1), (1, 9), (9, 1), (7, 8), (8, 8), (9, 17), (17, 3)]


GRIDS += [(1, 1, 5), (1, 5, 1), (5, 1, 1), (4, 4, 4), (3, 5, 6), (9, 2, 5), (1, 9, 10)]


NEIGHBOURHOODS = [(s, c) for s in GRIDS for c in range(1, len(s) + 1)]


def scipy_flow(source, sink, pairs):
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_flow

    number = np.arange(source.size).reshape(source.shape)
    s, t = source.size, source.size + 1
    rows, columns = [np.full(source.size, s), number.ravel()], [number.ravel()]
    columns.append(np.full(source.size, t))
    values = [source.ravel(), sink.ravel()]
    for offset, weights in arcs_of(pairs):
        here, there = slices(source.shape, offset)
        rows.append(number[here].ravel())
        columns.append(number[there].ravel())
        values.append(weights[here].ravel())
    data, at = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    matrix = coo_array((data, at), (t + 1, t + 1)).tocsr().astype(np.int32)
    return maximum_flow(matrix, s, t).flow_value


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize(("shape", "connectivity"), NEIGHBOURHOODS, ids=str)
def test_flow_and_cut_equal_reference(rng, shape, connectivity, dtype):
    for _ in range(1 if np.prod(shape) > 60 else 3):
        grid = random_grid(rng, shape, connectivity, dtype)
        assert_minimum(graph_of(*grid, connectivity), *grid)


@pytest.mark.parametrize(("shape", "connectivity"), NEIGHBOURHOODS, ids=str)
def test_flow_equals_scipy(rng, shape, connectivity):
    pytest.importorskip("scipy")
    for _ in range(25):
        source, sink, pairs = random_grid(rng, shape, connectivity, most=rng.choice([1, 5, 1000]))
        graph = graph_of(source, sink, pairs, connectivity)
        assert graph.maxflow() == scipy_flow(source, sink, pairs)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 10), min_size=1, max_size=3), st.data())
def test_random_small_grids_equal_scipy(seed, shape, data):
    connectivity = data.draw(st.integers(1, len(shape)))
    source, sink, pairs = random_grid(np.random.default_rng(seed), tuple(shape), connectivity)
    graph = graph_of(source, sink, pairs, connectivity)
    assert graph.maxflow() == scipy_flow(source, sink, pairs)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_parts_and_threads_give_the_same_bytes(rng, dtype):
    """Large enough to be searched in parts; scarce terminals make long paths across them."""
    for shape, connectivity in [((400, 350), 1), ((400, 350), 2), ((52, 60, 50), 1)]:
        source, sink, pairs = random_grid(rng, shape, connectivity, dtype)
        source, sink = source * (rng.random(shape) < 0.1), sink * (rng.random(shape) < 0.1)
        source, sink = source.astype(dtype), sink.astype(dtype)
        results = []
        for threads in (1, 2, 5):
            with ms.num_threads(threads):
                graph = graph_of(source, sink, pairs, connectivity)
                results.append((graph.maxflow(), graph.segments().tobytes()))
        assert results[0] == results[1] == results[2]
        assert results[0][0] == pytest.approx(
            capacity(source, sink, pairs, graph.segments()), rel=1e-6 if dtype in FLOATS else 0
        )


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_solving_again_after_changes_equals_a_fresh_solve(rng, dtype):
    for shape, connectivity in [((9, 10), 1), ((6, 9), 2), ((3, 6, 4), 1), ((3, 4, 5), 3)]:
        source, sink, pairs = random_grid(rng, shape, connectivity, dtype)
        graph = graph_of(source, sink, pairs, connectivity)
        for step in range(8):
            segments = assert_minimum(graph, source, sink, pairs)
            if dtype in INTEGERS:  # whatever happened before
                fresh = graph_of(source, sink, pairs, connectivity)
                assert fresh.maxflow() == graph.maxflow()
                assert_array_equal(fresh.segments(), segments)
            if step % 4 == 3:
                more, other, _ = random_grid(rng, shape, connectivity, dtype)
                graph.add_terminal(more, other)
                source, sink = source + more, sink + other
                continue
            at = tuple(rng.integers(0, n, 7) for n in shape)  # some of them twice
            new, less = (rng.integers(0, 9, 7).astype(dtype) for _ in range(2))
            if step % 2:
                graph.add_terminal(new, less, at=at)
                np.add.at(source, at, new)
                np.add.at(sink, at, less)
            else:  # to new values
                flat = np.unique(np.ravel_multi_index(at, shape))
                at = np.unravel_index(flat, shape)
                new, less = new[: len(flat)], less[: len(flat)]
                graph.change_terminal(new - source[at], less - sink[at], at=at)
                source[at], sink[at] = new, less


def test_many_changes_equal_scipy(rng):
    """Large changes flip pixels between the trees, which must tell their neighbours."""
    for shape, connectivity in [((40, 50), 1), ((30, 30), 2), ((9, 10, 11), 1)]:
        source, sink, pairs = random_grid(rng, shape, connectivity)
        graph = graph_of(source, sink, pairs, connectivity)
        for _ in range(10):
            assert graph.maxflow() == scipy_flow(source, sink, pairs)
            fresh = graph_of(source, sink, pairs, connectivity)
            fresh.maxflow()
            assert_array_equal(graph.segments(), fresh.segments())
            new, less, _ = random_grid(rng, shape, connectivity)
            graph.change_terminal(new - source, less - sink)
            source, sink = new, less


def test_edges_added_after_solving_count(rng):
    source, sink, pairs = random_grid(rng, (9, 12), 2)
    graph = graph_of(source, sink, pairs, 2)
    graph.maxflow()
    for offset in [(0, 1), (1, -1), (-1, 0)]:
        _, _, [(_, forth, back), *_] = random_grid(rng, (9, 12), 2)
        graph.add_edges(offset, forth, back)
        pairs = [*pairs, (offset, forth, back)]
        assert_minimum(graph, source, sink, pairs)


def test_offsets_axes_and_scalars(rng):
    source, sink, _ = random_grid(rng, (9, 7), 1)
    flows = []
    for offset, weights, reverse in [
        (1, 3, 2),
        ((0, 1), np.full((9, 7), 3), 2),
        ((0, -1), 2, np.full((9, 7), 3, np.int8)),
    ]:
        graph = ms.GridGraph((9, 7))
        graph.add_edges(offset, weights, reverse)
        graph.add_terminal(source, sink)
        flows.append(graph.maxflow())
    assert flows[0] == flows[1] == flows[2]
    one_way = ms.GridGraph((1, 2))
    one_way.add_edges(1, 5, 0)
    one_way.add_terminal([[0, 4]], [[4, 0]])
    assert one_way.maxflow() == 0
    assert one_way.segments().tolist() == [[True, False]]


def test_ties_and_free_pixels_are_on_the_source_side():
    flow, segments = ms.maxflow_grid([0, 3, 5, 0, 2], [0, 3, 0, 5, 2], 0)
    assert flow == 5
    assert segments.tolist() == [False, False, False, True, False]
    # A chain that may be cut anywhere: only the sink's own pixel is on its side.
    flow, segments = ms.maxflow_grid([4, 0, 0, 0], [0, 0, 0, 9], 4)
    assert flow == 4
    assert segments.tolist() == [False, False, False, True]


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (3, 0, 2), (0, 0, 0)])
def test_empty_grids(shape):
    zero = np.zeros(shape, int)
    flow, segments = ms.maxflow_grid(zero, zero, 1)
    assert flow == 0
    assert segments.shape == shape


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_copies_and_pickles_go_on_alike(rng, dtype):
    source, sink, pairs = random_grid(rng, (11, 14), 2, dtype)
    for solved in (False, True):
        graph = graph_of(source, sink, pairs, 2)
        if solved:
            graph.maxflow()
        for make in (ms.GridGraph.copy, copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))):
            other = make(graph)
            assert repr(other) == repr(graph)
            other.add_terminal(5, 0)
            assert_minimum(other, source + dtype(5), sink, pairs)
        assert_minimum(graph, source, sink, pairs)


@pytest.mark.parametrize(
    "dtype",
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split(),
)
def test_every_dtype_and_layout(rng, dtype, layout):
    most = 1 if dtype == "bool" else 9
    source, sink, pairs = random_grid(rng, (9, 11), 1, most=most)
    expected, cut = twin.maxflow_grid(source, sink, arcs_of([(o, f, f) for o, f, _ in pairs]))
    given = [layout(a.astype(dtype)) for a in (source, sink, *(f for _, f, _ in pairs))]
    flow, segments = ms.maxflow_grid(given[0], given[1], given[2:])
    assert flow == expected
    assert isinstance(flow, float if dtype.startswith("f") else int)
    assert_array_equal(segments, cut)
    assert ms.verify_cut(given[0], given[1], given[2:], flow, segments)


def test_segments_into_out(rng, layout):
    source, sink, pairs = random_grid(rng, (5, 9, 8), 1)
    graph = graph_of(source, sink, pairs, 1)
    graph.maxflow()
    out = layout(np.ones((5, 9, 8), bool))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            graph.segments(out=out)
        return
    assert graph.segments(out=out) is out
    assert_array_equal(out, graph.segments())


def test_wide_integers():
    for big in (2**31 - 1, 2**31, 2**40, 2**61):
        flow, segments = ms.maxflow_grid([big, 0], [0, big], [[big // 2, 0]])
        assert flow == big // 2
        assert segments.tolist() == [False, True]
    # The sum over pixels may exceed the capacity's type.
    top = np.full((4, 5), 2**31 - 1, np.int32)
    assert ms.maxflow_grid(top, top, 0)[0] == 20 * (2**31 - 1)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_seeds_stay_whatever_it_costs(rng, dtype):
    for shape, connectivity in [((8, 9), 2), ((4, 5, 6), 1)]:
        source, sink, pairs = random_grid(rng, shape, connectivity, dtype, most=10**6)
        choice = rng.integers(0, 6, shape)
        weights = [f for _, f, _ in pairs]
        seeds = {"source_seeds": choice == 1, "sink_seeds": choice == 2}
        flow, segments = ms.maxflow_grid(source, sink, weights, **seeds)
        assert not segments[choice == 1].any()
        assert segments[choice == 2].all()
        assert ms.verify_cut(source, sink, weights, flow, segments)
        big = np.array(10**9).astype(np.int64 if dtype in INTEGERS else np.float64)
        arcs = arcs_of([(o, f.astype(big.dtype), f.astype(big.dtype)) for o, f, _ in pairs])
        forced = [
            a.astype(big.dtype) + big * m
            for a, m in zip((source, sink), seeds.values(), strict=True)
        ]
        assert flow == pytest.approx(twin.maxflow_grid(*forced, arcs)[0], rel=1e-6, abs=0)


def test_a_real_image_cut_is_certified(threads):
    data = pytest.importorskip("skimage.data")
    image = data.camera()[::2, ::2].astype(np.float32)
    source, sink = (image - 60) ** 2 / 3000, (image - 170) ** 2 / 3000
    for dtype in (np.int32, np.float32):
        scale = 1000 if dtype == np.int32 else 1
        weights = []
        for offset in [(1, 0), (0, 1), (1, 1), (1, -1)]:
            here, there = slices(image.shape, offset)
            w = np.zeros(image.shape, np.float32)
            w[here] = 5 * np.exp(-((image[here] - image[there]) ** 2) / 450) / np.hypot(*offset)
            weights.append((w * scale).astype(dtype))
        terminals = [(a * scale).astype(dtype) for a in (source, sink)]
        flow, segments = ms.maxflow_grid(*terminals, weights)
        assert ms.verify_cut(*terminals, weights, flow, segments)
        assert 0.2 < segments.mean() < 0.5


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "source must not be negative, got -1", {"source": np.array([[0, -1]])}),
        (ValueError, "sink must not contain NaN", {"sink": np.array([[0, np.nan]])}),
        (ValueError, "weights must be finite", {"weights": np.inf}),
        (ValueError, "weights must be finite", {"weights": np.array([[1, np.inf]], np.float16)}),
        (ValueError, "weights must not be negative", {"weights": [np.ones((1, 2)), -1]}),
        (TypeError, "source must be bool, integer or float", {"source": np.zeros((1, 2), complex)}),
        (TypeError, "weights must be bool, integer or float", {"weights": "a"}),
        (ValueError, "one shape", {"sink": np.zeros((2, 2))}),
        (ValueError, "one to three dimensions", {"source": 1, "sink": 2}),
        (ValueError, "grid's shape", {"weights": np.ones((2, 1))}),
        (ValueError, "2 or 4, got 3", {"weights": [1, 2, 3]}),
        (ValueError, "structure must have shape", {"structure": np.ones((3, 5))}),
        (ValueError, "structure must not be negative", {"structure": -np.ones((3, 3))}),
        (ValueError, "for each offset", {"weights": [[[1, 1]]] * 2, "structure": np.ones((3, 3))}),
        (TypeError, "source_seeds must be bool", {"source_seeds": np.ones((1, 2))}),
        (ValueError, "sink_seeds must have shape", {"sink_seeds": np.ones((2, 2), bool)}),
        (
            ValueError,
            "no pixel in common",
            {"source_seeds": np.ones((1, 2), bool), "sink_seeds": np.ones((1, 2), bool)},
        ),
    ],
)
def test_maxflow_grid_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.maxflow_grid(
            **{"source": np.zeros((1, 2)), "sink": np.zeros((1, 2)), "weights": 1, **arguments}
        )


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "dtype must be int32", lambda: ms.GridGraph((2, 2), dtype=np.int16)),
        (ValueError, "one to three axes", lambda: ms.GridGraph((2, 2, 2, 2))),
        (ValueError, "2\\*\\*31 pixels", lambda: ms.GridGraph((2**16, 2**16))),
        (ValueError, "connectivity must be from 1 to 2", lambda: ms.GridGraph((2, 2), 3)),
        (ValueError, "must lead to a neighbour", lambda: ms.GridGraph((2, 2)).add_edges((1, 1), 1)),
        (ValueError, "must lead to a neighbour", lambda: ms.GridGraph((2, 2)).add_edges((0, 0), 1)),
        (ValueError, "from 0 to 1, got 2", lambda: ms.GridGraph((2, 2)).add_edges(2, 1)),
        (TypeError, "must be integers", lambda: ms.GridGraph((2, 2)).add_edges(0, 1.5)),
        (ValueError, "numbers of int32", lambda: ms.GridGraph((2, 2)).add_edges(0, 2**31)),
        (ValueError, "must together be", lambda: ms.GridGraph((2, 2)).add_edges(0, 2**30)),
        (ValueError, "not be negative", lambda: ms.GridGraph((2, 2)).add_edges(0, 1, -1)),
        (ValueError, "have shape", lambda: ms.GridGraph((2, 2)).add_terminal([1, 2], 0)),
        (ValueError, "not be negative", lambda: ms.GridGraph((2, 2)).add_terminal(0, -3)),
        (ValueError, "inside", lambda: ms.GridGraph((2, 2)).add_terminal(0, 1, at=([0], [2]))),
        (ValueError, "tuple of 2", lambda: ms.GridGraph((2, 2)).add_terminal(0, 1, at=([0],))),
        (TypeError, "integers", lambda: ms.GridGraph((2, 2)).add_terminal(0, 1, at=([0.0], [1]))),
    ],
)
def test_grid_graph_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call()


def test_terminals_do_not_overflow():
    graph = ms.GridGraph((3,))
    for _ in range(3):
        graph.add_terminal(2**29, 0)
    with pytest.raises(ValueError, match="must sum up to numbers of int32, got up to"):
        graph.add_terminal(2**29, 0)
    graph.add_terminal(0, 2**29)  # what counts is the difference
    graph.add_terminal(2**29, 0)
    assert graph.maxflow() == 3 * 2**29


def test_offsets_are_those_documented():
    from medseg_fast.grid_graph import grid_offsets

    for (ndim, connectivity), offsets in twin.OFFSETS.items():
        assert grid_offsets(ndim, connectivity) == offsets
        both = {*offsets, *(tuple(-o for o in offset) for offset in offsets)}
        steps = itertools.product((-1, 0, 1), repeat=ndim)
        assert both == {o for o in steps if 0 < sum(map(abs, o)) <= connectivity}


@pytest.mark.parametrize(("dtype", "connectivity", "most"), [("int32", 1, 48), ("float32", 1, 48)])
def test_peak_memory(dtype, connectivity, most):
    setup = f"""
    rng = np.random.default_rng(0)
    shape = (80, 96, 88)
    source, sink = (rng.integers(0, 50, shape).astype('{dtype}') for _ in range(2))
    weights = rng.integers(0, 30, shape).astype('{dtype}')

    def solve():
        graph = ms.GridGraph(shape, {connectivity}, '{dtype}')
        graph.add_terminal(source, sink)
        for offset in graph.offsets:
            graph.add_edges(offset, weights)
        graph.maxflow()
        return graph, graph.segments()
    """
    got = peak_bytes_per_pixel(
        "solve()", setup=setup, pixels="source.size", warm="ms.maxflow_grid([1], [1], 1)"
    )
    assert got < most
