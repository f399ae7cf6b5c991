"""Paths of least cost: the twin, scikit-image, and what both promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, LAYOUTS, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

graph = pytest.importorskip("skimage.graph")
PAIRS = [("MCP", graph.MCP), ("MCP_Geometric", graph.MCP_Geometric)]


def offsets(ndim, fully_connected):
    every = itertools.product((-1, 0, 1), repeat=ndim)
    most = ndim if fully_connected else 1
    return [s for s in every if 1 <= sum(map(abs, s)) <= most]


def some_costs(rng, kind, shape):
    """Without ties, with many, with walls, with nothing but ties."""
    costs = {
        "random": rng.random(shape),
        "few values": rng.integers(0, 4, shape).astype(np.uint8),
        "walls": rng.integers(-1, 3, shape),
        "flat": np.ones(shape, np.float32),
        "nothing": np.zeros(shape),
        "infinite": np.where(rng.random(shape) < 0.3, np.inf, rng.random(shape)),
    }
    return costs[kind]


KINDS = ["random", "few values", "walls", "flat", "nothing", "infinite"]


def indices(rng, shape, n):
    return [tuple(int(rng.integers(0, extent)) for extent in shape) for _ in range(n)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(7,), (1, 6), (5, 6), (1, 1), (3, 4, 3), (2, 2, 3, 2)])
@pytest.mark.parametrize("geometric", [True, False])
def test_equals_the_twin(rng, kind, shape, geometric):
    costs = some_costs(rng, kind, shape)
    spacing = rng.integers(1, 4, len(shape)) * 0.5
    for full, n in ((True, 1), (False, 3)):
        starts = indices(rng, shape, n)
        got = ms.minimum_costs(
            costs, starts, fully_connected=full, geometric=geometric, spacing=spacing
        )
        steps = offsets(len(shape), full)
        expected = reference.minimum_cost.minimum_costs(costs, starts, steps, spacing, geometric)
        assert_array_equal(got[0], expected[0])
        assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize(("name", "peer"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_classes_equal_scikit_image_ties_included(rng, name, peer, kind):
    for shape in ((9,), (1, 8), (23, 31), (6, 7, 8), (3, 4, 2, 3)):
        costs = some_costs(rng, kind, shape)
        for full, sampling in ((True, None), (False, (2.0,) * len(shape))):
            ours = getattr(ms, name)(costs, fully_connected=full, sampling=sampling)
            theirs = peer(costs, fully_connected=full, sampling=sampling)
            assert_array_equal(ours.offsets, theirs.offsets)
            for n, ends, every in ((1, None, True), (3, 2, True), (2, 3, False), (1, 0, True)):
                starts = indices(rng, shape, n)
                stops = None if ends is None else indices(rng, shape, ends)
                got = ours.find_costs(starts, stops, find_all_ends=every)
                expected = theirs.find_costs(starts, stops, find_all_ends=every)
                for one, other in zip(got, expected, strict=True):
                    assert one.dtype == other.dtype
                    assert_array_equal(one, other)
            for end in indices(rng, shape, 3):
                if math.isfinite(got[0][end]):
                    assert ours.traceback(end) == theirs.traceback(end)


@pytest.mark.parametrize(("name", "peer"), PAIRS)
def test_equals_scikit_image_on_larger_images(rng, name, peer):
    for kind in KINDS:
        costs = some_costs(rng, kind, (150, 170))
        got = getattr(ms, name)(costs).find_costs([(70, 80)])
        expected = peer(costs).find_costs([(70, 80)])
        assert_array_equal(got[0], expected[0])
        assert_array_equal(got[1], expected[1])


def test_offsets_and_limits_equal_scikit_image(rng):
    costs = rng.integers(1, 9, (12, 14)).astype(np.int16)
    knight = [(a, b) for a, b in itertools.product((-2, -1, 1, 2), repeat=2) if abs(a) != abs(b)]
    ours = ms.MCP(costs, knight)
    for options in ({}, {"max_coverage": 0.4}, {"max_step_cost": 5}, {"max_coverage": 0.0}):
        got, expected = (
            m.find_costs([(3, 4)], **options) for m in (ours, graph.MCP(costs, knight))
        )
        assert_array_equal(got[0], expected[0])
        assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("name", ["MCP", "MCP_Geometric"])
def test_arguments_by_position_and_deprecated_ones(rng, name):
    costs = rng.random((9, 9)) + 0.1
    finders = [getattr(module, name) for module in (ms, graph)]
    # The first of the ends, at most half of the pixels.
    got, expected = (
        make(costs).find_costs([(0, 0)], [(8, 8), (0, 3)], False, 0.5) for make in finders
    )
    assert_array_equal(got[0], expected[0])
    for former, value in (("max_cost", 0.5), ("max_cumulative_cost", 2.0)):
        found = []
        for make in finders:
            with pytest.warns(FutureWarning, match=f"`{former}` is deprecated") as told:
                found.append(make(costs).find_costs([(0, 0)], **{former: value}))
            assert told[0].filename == __file__
        assert_array_equal(found[0][0], found[1][0])


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_small_cases_equal_scikit_image(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    values = st.sampled_from([-2, -1, 0, 0, 1, 1, 2, 3])
    n = math.prod(shape)
    costs = np.array(data.draw(st.lists(values, min_size=n, max_size=n))).reshape(shape)
    start, end = (tuple(data.draw(st.integers(0, k - 1)) for k in shape) for _ in range(2))
    full, geometric = data.draw(st.booleans()), data.draw(st.booleans())
    try:
        expected = graph.route_through_array(costs, start, end, full, geometric)
    except ValueError:
        with pytest.raises(ValueError, match="no path leads"):
            ms.route_through_array(costs, start, end, full, geometric)
        return
    assert ms.route_through_array(costs, start, end, full, geometric) == expected


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    costs = random_image(rng, (11, 13), dtype)
    if dtype.kind == "f":
        costs = np.abs(costs)
    got = ms.minimum_costs(costs, (5, 6))
    expected = graph.MCP_Geometric(costs).find_costs([(5, 6)])
    assert_array_equal(got[0], expected[0])
    assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in s], ids=str)
def test_every_shape_and_layout(rng, shape):
    costs = rng.integers(0, 9, shape).astype(np.float32)
    start = tuple(n // 2 for n in shape)
    expected = graph.MCP_Geometric(costs).find_costs([start])
    for layout in LAYOUTS.values():
        got = ms.minimum_costs(layout(costs), start)
        assert_array_equal(got[0], expected[0])
        assert_array_equal(got[1], expected[1])


@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 in s], ids=str)
def test_empty_arrays_hold_no_index(shape):
    with pytest.raises(ValueError, match="starts must lie within"):
        ms.minimum_costs(np.zeros(shape), (0,) * len(shape))


def test_route_types():
    path, cost = ms.route_through_array(np.ones((3, 3)), [0, 0], (-1, np.int64(2)))
    assert path == [(0, 0), (1, 1), (2, 2)]
    assert type(path[0][0]) is int
    assert type(cost) is np.float64


def test_path_between_any_of_several(rng):
    costs = rng.random((20, 30))
    starts, ends = indices(rng, costs.shape, 4), indices(rng, costs.shape, 5)
    path, cost = ms.minimum_cost_path(costs, starts, ends, spacing=(2, 1))
    every = [ms.minimum_cost_path(costs, s, e, spacing=(2, 1))[1] for s in starts for e in ends]
    assert cost == min(every)
    assert tuple(path[0]) in starts
    assert tuple(path[-1]) in ends
    assert np.abs(np.diff(path, axis=0)).max() == 1
    masks = [np.zeros(costs.shape, bool) for _ in range(2)]
    for mask, points in zip(masks, (starts, ends), strict=True):
        mask[tuple(np.array(points).T)] = True
    assert ms.minimum_cost_path(costs, *masks, spacing=(2, 1))[1] == cost


def test_nan_is_a_wall():
    costs = np.array([[1, np.nan, 1], [1, np.nan, 1], [1, 1, 1.0]])
    path, cost = ms.route_through_array(costs, (0, 0), (0, 2), fully_connected=False)
    assert (2, 1) in path
    assert cost == 6
    costs[2, 1] = np.nan
    with pytest.raises(ValueError, match="no path leads to end"):
        ms.route_through_array(costs, (0, 0), (0, 2))
    total, steps = ms.minimum_costs(costs, (0, 0))
    assert np.isinf(total[:, 1:]).all()
    assert (steps[:, 1:] == -2).all()


def test_out(rng):
    costs = rng.random((9, 8))
    expected = ms.minimum_costs(costs, (1, 1))[0]
    out = np.zeros((8, 9)).T
    assert ms.minimum_costs(costs, (1, 1), out=out)[0] is out
    assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out must have shape"):
        ms.minimum_costs(costs, (1, 1), out=np.zeros((9, 9)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: ms.route_through_array(np.ones((3, 3), complex), (0, 0), (1, 1)),
            TypeError,
            "array must",
        ),
        (lambda: ms.route_through_array(np.ones(()), (), ()), ValueError, "at least one dimension"),
        (
            lambda: ms.route_through_array(np.ones((3, 3)), (0, 3), (1, 1)),
            ValueError,
            "start must lie within",
        ),
        (
            lambda: ms.route_through_array(np.ones((3, 3)), (0, 0), (1,)),
            ValueError,
            "end must lie within",
        ),
        (
            lambda: ms.route_through_array(np.ones((3, 3)), (0, 0.5), (1, 1)),
            TypeError,
            "start must be an integer",
        ),
        (
            lambda: ms.route_through_array(np.ones((3, 3)), 0, (1, 1)),
            TypeError,
            "start must be an index",
        ),
        (
            lambda: ms.minimum_cost_path(np.ones((3, 3)), (0, 0), []),
            (TypeError, ValueError),
            "ends must",
        ),
        (
            lambda: ms.minimum_cost_path([1, -1, 1], 0, 2),
            ValueError,
            "no path leads to any of ends",
        ),
        (
            lambda: ms.minimum_costs(np.ones((3, 3)), np.ones((2, 3), bool)),
            ValueError,
            "starts must have shape",
        ),
        (
            lambda: ms.minimum_costs(np.ones((3, 3)), (0, 0), spacing=(1, 0)),
            ValueError,
            "spacing must",
        ),
        (lambda: ms.MCP(np.ones(3), [(1, 2)]), ValueError, "offsets must have shape"),
        (lambda: ms.MCP_Geometric(np.ones(3), [(2,)]), ValueError, "offsets must be from -1 to 1"),
        (lambda: ms.MCP(np.ones(3), [(0.5,)]), TypeError, "offsets must be integers"),
        (lambda: ms.MCP(np.ones(3)).traceback((0,)), RuntimeError, "find_costs must be called"),
        (lambda: ms.MCP(np.ones(3)).find_costs([]), ValueError, "starts must hold"),
        (lambda: ms.MCP(np.ones(3)).find_costs([(9,)]), ValueError, "starts must lie within"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("dtype", "most"), [("float32", 18 + 10), ("float64", 26 + 10)])
def test_peak_memory(dtype, most):
    setup = f"image = np.random.default_rng(0).random((2000, 2000)).astype(np.{dtype})"
    got = peak_bytes_per_pixel("ms.minimum_costs(image, (9, 9))", setup=setup)
    assert got < most + 1
