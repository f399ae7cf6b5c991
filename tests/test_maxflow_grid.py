"""What `maxflow_grid` takes and returns."""

from __future__ import annotations

import numpy as np
import pytest
from _grids import FLOATS, INTEGERS, arcs_of, random_grid, slices, twin
from numpy.testing import assert_array_equal

import medseg_fast as ms


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
