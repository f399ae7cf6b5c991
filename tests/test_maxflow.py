from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
from _grids import (
    FLOATS,
    INTEGERS,
    assert_minimum,
    capacity,
    graph_of,
    random_grid,
    scipy_flow,
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
    grids = [((400, 350), 1, False), ((400, 350), 2, False), ((52, 60, 50), 1, False)]
    for shape, connectivity, regions in [*grids, ((400, 300), 1, True)]:
        source, sink, pairs = random_grid(rng, shape, connectivity, dtype)
        if regions:  # of one terminal: as long, and many
            stripe = np.add.reduce(np.indices(shape)) // 20 % 2 == 0
            source, sink = source * stripe, sink * ~stripe
        else:
            source, sink = source * (rng.random(shape) < 0.1), sink * (rng.random(shape) < 0.1)
        source, sink = source.astype(dtype), sink.astype(dtype)
        new, less = rng.integers(0, 9, (2, *shape)).astype(dtype)
        results = []
        for threads in (1, 2, 5):
            with ms.num_threads(threads):
                graph = graph_of(source, sink, pairs, connectivity)
                results.append([graph.maxflow(), graph.segments().tobytes()])
                segments = graph.segments()
                graph.change_terminal(new - source, less - sink)  # most: trees are planted anew
                results[-1] += [graph.maxflow(), graph.segments().tobytes()]
        assert results[0] == results[1] == results[2]
        tolerance = 1e-6 if dtype in FLOATS else 0
        for got, cut in [
            (results[0][0], capacity(source, sink, pairs, segments)),
            (results[0][2], capacity(new, less, pairs, graph.segments())),
        ]:
            assert got == pytest.approx(cut, rel=tolerance, abs=0)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize("shape", [(1000,), (70, 75), (21, 18, 23)], ids=str)
def test_regions_with_one_terminal_equal_scipy(rng, shape, dtype):
    """Long paths from region to region: flow goes along straight lines first."""
    for connectivity in range(1, len(shape) + 1):
        source, sink, pairs = random_grid(rng, shape, connectivity, dtype, most=30)
        stripe = np.add.reduce(np.indices(shape)) // 9 % 2 == 0
        source, sink = (source * stripe).astype(dtype), (sink * ~stripe).astype(dtype)
        graph = graph_of(source, sink, pairs, connectivity)
        flow, segments = graph.maxflow(), graph.segments()
        tolerance = 1e-6 if dtype in FLOATS else 0
        assert flow == pytest.approx(capacity(source, sink, pairs, segments), rel=tolerance, abs=0)
        if dtype in INTEGERS:
            assert flow == scipy_flow(source, sink, pairs)


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


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize(("shape", "connectivity"), [*NEIGHBOURHOODS, ((40, 50), 2)], ids=str)
def test_changed_edges_equal_a_fresh_solve(rng, shape, connectivity, dtype):
    """Capacities above and below the flow that goes through them."""
    source, sink, pairs = random_grid(rng, shape, connectivity, dtype)
    graph = graph_of(source, sink, pairs, connectivity)
    for step in range(5):
        flow, segments = graph.maxflow(), graph.segments()
        fresh = graph_of(source, sink, pairs, connectivity)
        if dtype in INTEGERS:
            assert flow == fresh.maxflow()
            assert_array_equal(segments, fresh.segments())
        else:
            assert flow == pytest.approx(fresh.maxflow(), rel=1e-5, abs=1e-5)
            cut = capacity(source, sink, pairs, segments)
            assert cut == pytest.approx(flow, rel=1e-5, abs=1e-5)
        new, less, others = random_grid(rng, shape, connectivity, dtype)
        if step % 2:
            graph.change_terminal(new - source, less - sink)
            source, sink = new, less
        for (offset, forth, back), (_, to, fro) in zip(pairs, others, strict=True):
            way = 1 if step % 3 else -1  # the same edges from their other end
            if way > 0:
                graph.change_edges(offset, to - forth, fro - back)
            else:
                graph.change_edges(
                    tuple(-o for o in offset), moved(fro - back, offset), moved(to - forth, offset)
                )
        pairs = others


def moved(array, offset):
    """Each value at pixel + offset; 0 where none comes from."""
    out = np.zeros_like(array)
    to = tuple(slice(max(o, 0), n + min(o, 0)) for o, n in zip(offset, array.shape, strict=True))
    fro = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, array.shape, strict=True))
    out[to] = array[fro]
    return out


@pytest.mark.parametrize("dtype", INTEGERS)
def test_changing_for_ever_stays_in_range(dtype):
    """Sums of all changes leave the dtype, what capacities become does not."""
    most = 2**28 if dtype == np.int32 else 2**60
    graph = ms.GridGraph((1, 3), dtype=dtype)
    graph.add_terminal([[most, 0, 0]], [[0, 0, most]])
    graph.add_edges(1, 0)
    for _ in range(40):
        graph.change_edges(1, most)
        assert graph.maxflow() == most
        graph.change_edges(1, -most)
        assert graph.maxflow() == 0
    more = np.full((1, 3), np.iinfo(dtype).max - most, dtype)
    graph.change_edges(1, most)
    with pytest.raises(ValueError, match=r"change_edges: capacities must remain numbers of int"):
        graph.change_edges(1, more)
    assert graph.maxflow() == most


def planes(rng, n, connectivity, dtype):
    """From one face of a cube to the opposite one through random capacities: orphans walk far."""
    source, sink = np.zeros((2, n, n, n), dtype)
    source[0], sink[-1] = 10**6, 10**6
    offsets = twin.OFFSETS[3, connectivity]
    return (
        source,
        sink,
        [(o, w, w) for o in offsets for w in [rng.integers(1, 1000, (n, n, n)).astype(dtype)]],
    )


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
@pytest.mark.parametrize(("n", "connectivity"), [(20, 1), (16, 3)])
def test_hard_grids_are_finished_level_by_level(rng, n, connectivity, dtype):
    """Large enough for the other search to take over; then it goes on with the trees it gets."""
    pytest.importorskip("scipy")
    source, sink, pairs = planes(rng, n, connectivity, dtype)
    graph = graph_of(source, sink, pairs, connectivity)
    flow = graph.maxflow()
    assert flow == scipy_flow(source, sink, pairs)  # floats are exact, too: integers
    for _ in range(5):
        assert flow == capacity(source, sink, pairs, graph.segments())
        flat = np.unique(rng.integers(0, source.size, 50))
        at = np.unravel_index(flat, source.shape)
        new, less = rng.integers(0, 3000, (2, len(flat))).astype(dtype)
        graph.change_terminal(new - source[at], less - sink[at], at=at)
        source[at], sink[at] = new, less
        fresh = graph_of(source, sink, pairs, connectivity)
        flow = graph.maxflow()
        assert flow == fresh.maxflow()
        assert_array_equal(graph.segments(), fresh.segments())


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


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_range_of_capacities(rng, dtype):
    from medseg_fast._cpu import core

    for n in (0, 1, 31, 200_001):
        values = (rng.normal(size=n) * 1000).astype(dtype)
        for array in (values, abs(values), -abs(values)):
            least, most = min(array, default=0), max(array, default=0)
            assert core.capacity_range(array) == (min(least, 0), max(most, 0), False)
    if dtype in FLOATS:
        for special, found in [(np.nan, 2), (-np.nan, 2), (np.inf, 1), (-np.inf, 0)]:
            values[150_000] = special
            got = core.capacity_range(values)
            assert got[2] if found == 2 else got[found] == special and not got[2]


@pytest.mark.parametrize("dtype", ms.grid_graph._grid_arguments.DTYPES)
def test_any_number_of_strokes(rng, dtype):
    """Seeds hold, also those that change sides, however many calls came before."""
    graph = ms.GridGraph((8, 9), 1, dtype)
    graph.add_terminal(*rng.integers(0, 20, (2, 8, 9)).astype(dtype))
    for axis in (0, 1):
        graph.add_edges(axis, 50)
    sides = np.zeros((8, 9), int)
    for stroke in range(700):
        at = rng.random((8, 9)) < 0.1
        sides[at] = rng.integers(1, 3)
        graph.add_seeds(at & (sides == 1), at & (sides == 2))
        if stroke % 50 == 0:
            graph.maxflow()
            segments = graph.segments()
            assert not segments[sides == 1].any()
            assert segments[sides == 2].all()


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
