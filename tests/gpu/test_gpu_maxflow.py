"""Minimum cuts on a GPU: the CPU's flow and the CPU's cut, which is unique."""

from __future__ import annotations

import numpy as np
import pytest
from _grids import arcs_of, random_grid
from _shim import needs_compiler, on_shim
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._gpu import graph_cut

pytestmark = needs_compiler

# Around the tile of 8 by 32 pixels, thin, empty, volumes.
SHAPES = [(0,), (1,), (67,), (0, 5), (1, 1), (9, 33), (1, 70), (20, 3), (3, 0, 2), (3, 5, 33)]


def same(args, schedules=2, **options):
    """Both give the same; returns it."""
    flow, cut = on_shim("maxflow_grid", *args, schedules=schedules, **options)
    expected, segments = ms.maxflow_grid(*args, **options)
    assert type(flow) is type(expected)
    assert flow == (expected if isinstance(flow, int) else pytest.approx(expected, rel=1e-5))
    assert cut.dtype == np.bool_
    assert_array_equal(cut, segments)
    return flow, cut


def forth_and_back(pairs):
    """Weights of `maxflow_grid` for pairs of capacities."""
    weights = [forth for _, forth, _ in pairs]
    for offset, _, back in pairs:
        weights.append(dict(arcs_of([(offset, back * 0, back)]))[tuple(-o for o in offset)])
    return weights


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_random_grids(rng, shape):
    for connectivity in range(1, len(shape) + 1):
        for most in (1, 9, 50_000):
            source, sink, pairs = random_grid(rng, shape, connectivity, most=most)
            if shape[0] == 1 or len(pairs) == 4:  # where four are always those of 8 neighbours
                args = source, sink, [forth for _, forth, _ in pairs]
            else:
                args = source, sink, forth_and_back(pairs), None, False
            same(args)


def test_the_slow_twin(rng):
    for connectivity in (1, 2):
        for _ in range(5):
            source, sink, pairs = random_grid(rng, (5, 6), connectivity, most=5)
            weights = [forth for _, forth, _ in pairs]
            got = on_shim("maxflow_grid", source, sink, weights)
            arcs = arcs_of([(o, f, f) for o, f, _ in pairs])
            flow, cut = reference.graph_cut.maxflow_grid(source, sink, arcs)
            assert got[0] == flow
            assert_array_equal(got[1], cut)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32, np.float64], ids=str)
def test_dtypes(rng, dtype):
    """Floats that are multiples of 1/64: their sums are exact, so cuts are the same."""
    source, sink = rng.integers(0, 90, (2, 18, 40)) * (rng.random((2, 18, 40)) < 0.4)
    weights = rng.integers(0, 30, (2, 18, 40))
    source, sink, weights = (a.astype(dtype) for a in (source, sink, weights))
    if np.dtype(dtype).kind == "f":
        source, sink, weights = source / 64, sink / 64, weights / 64
    same((source, sink, weights))
    same((source, sink, weights[0]))
    same((source, sink, dtype(1)))


def test_large_sums_and_floats(rng):
    source, sink = rng.integers(0, 2**30, (2, 9, 20))
    same((source, sink, 2**28))
    source, sink, weights = rng.random((3, 20, 40))
    got, cut = on_shim("maxflow_grid", source, sink, weights)
    assert got == pytest.approx(ms.maxflow_grid(source, sink, weights)[0], rel=1e-12)
    assert ms.verify_cut(source, sink, weights, got, cut)


def test_structures(rng):
    source, sink, weights = rng.integers(0, 9, (3, 9, 12))
    full = np.array([[1, 2, 1], [0, 0, 2], [0, 3, 0]])
    for structure in (full, np.ones((3, 3)), full / 2, np.zeros((3, 3))):
        for symmetric in (False, True):
            same((source, sink, weights, structure, symmetric))
    same((source, sink, weights, None, False))
    same((3, sink, 1))


def test_a_maze(monkeypatch):
    """One path through walls of capacity 0: excess goes a long way, searches are many."""
    monkeypatch.setattr(graph_cut, "PULSES", 8)
    n = 24
    free = np.zeros((n, n), bool)
    free[::4] = True
    free[1::8, -1] = free[2::8, -1] = free[3::8, -1] = True
    free[5::8, 0] = free[6::8, 0] = free[7::8, 0] = True
    source, sink = np.zeros((2, n, n), np.int32)
    source[0, 0], sink[20, -1] = 9, 7
    for width in (3, 8, 20):
        weights = np.where(free, width, 0).astype(np.int32)
        down = weights * np.roll(free, -1, 0)
        across = weights * np.roll(free, -1, 1)
        flow, _ = same((source, sink, [down, across]))
        assert flow == min(width, 7)


def test_an_image(rng):
    """A noisy disc with soft terminals, as people cut it."""
    rows, columns = np.indices((40, 50))
    image = ((rows - 20) ** 2 + (columns - 25) ** 2 < 150) * 60 + rng.integers(0, 60, (40, 50))
    source, sink = np.maximum(image - 60, 0), np.maximum(60 - image, 0)
    for connectivity in (1, 2):
        same((source, sink, [25] * (2 * connectivity)), schedules=1)


def test_seeds(rng):
    source, sink, weights = rng.integers(0, 9, (3, 12, 35))
    inside, outside = rng.random((2, 12, 35)) < 0.05
    outside &= ~inside
    for dtype in (np.int32, np.float32):
        args = source.astype(dtype), sink.astype(dtype), weights.astype(dtype)
        _, cut = same(args, source_seeds=inside, sink_seeds=outside)
        assert not cut[inside].any()
        assert cut[outside].all()
        same(args, sink_seeds=outside, schedules=1)
    same((0, np.zeros((3, 4), int), 2), source_seeds=np.eye(3, 4) > 0, schedules=1)


def test_what_is_wrong(rng):
    good = np.ones((3, 4))
    wrong = [
        ((good, good, -1), ValueError, "weights must not be negative"),
        ((good, good * np.nan, 1), ValueError, "sink must not contain NaN"),
        ((good, good, good[1:]), ValueError, "weights must be numbers or arrays"),
        ((good, good[1:], 1), ValueError, "source and sink must have one shape"),
        ((good * 1j, good, 1), TypeError, "source must be"),
    ]
    for args, error, message in wrong:
        with pytest.raises(error, match=f"maxflow_grid: {message}"):
            on_shim("maxflow_grid", *args)
    mask = np.ones((3, 4), bool)
    with pytest.raises(ValueError, match="no pixel in common"):
        on_shim("maxflow_grid", good, good, 1, source_seeds=mask, sink_seeds=mask)
    with pytest.raises(TypeError, match="source_seeds must be bool"):
        on_shim("maxflow_grid", good, good, 1, source_seeds=good)
