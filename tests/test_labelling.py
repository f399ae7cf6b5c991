from __future__ import annotations

import itertools

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast.grid_graph import grid_offsets

twin = reference.labelling
DTYPES = pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
MOVES = pytest.mark.parametrize("function", [ms.alpha_expansion, ms.alpha_beta_swap])
GRIDS = [((7,), 1), ((2, 4), 1), ((3, 3), 2), ((1, 7), 2), ((2, 2, 2), 3), ((2, 1, 4), 1)]
GRID = pytest.mark.parametrize(("shape", "connectivity"), GRIDS, ids=str)


def random_field(rng, shape, connectivity, count, dtype=np.int64):
    unary = rng.integers(-5, 20, (*shape, count))
    weights = {o: rng.integers(0, 3, shape) for o in grid_offsets(len(shape), connectivity)}
    scale = 1 if np.dtype(dtype).kind == "i" else 0.3
    return (unary * scale).astype(dtype), {o: w.astype(dtype) for o, w in weights.items()}


def metrics(rng, count, dtype):
    line = ms.truncated_linear(count, 2, 5)
    far = rng.integers(3, 7, (count, count)) * (1 - np.eye(count, dtype=int))  # 3 + 3 >= 6
    return [m.astype(dtype) for m in (ms.potts(count, 4), line, far)]


@GRID
@DTYPES
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_expansion_and_no_swap_lowers_the_energy(rng, shape, connectivity, count, dtype):
    unary, weights = random_field(rng, shape, connectivity, count, dtype)
    given = {"weights": list(weights.values()), "connectivity": connectivity}
    for pairwise in rng.permutation(metrics(rng, count, dtype))[:1]:
        best = [
            function(unary, pairwise, **given)
            for function in (ms.alpha_expansion, ms.alpha_beta_swap)
        ]
        same = np.arange(count)
        moves = [(same, np.full(count, alpha)) for alpha in range(count)]
        swaps = []
        for a, b in itertools.combinations(range(count), 2):
            stay, go = same.copy(), same.copy()
            stay[b], go[a] = a, b
            swaps.append((stay, go))
        for labels, tries in zip(best, (moves, swaps), strict=True):
            assert labels.dtype == np.int32
            energy = twin.energy(unary, pairwise, labels, weights)
            assert ms.labelling_energy(unary, pairwise, labels, **given) == pytest.approx(energy)
            for stay, go in tries[:2]:
                least = twin.least_after_move(unary, pairwise, labels, weights, stay, go)
                assert energy == pytest.approx(least, rel=1e-5, abs=1e-5)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 5)
)
def test_icm_equals_reference(seed, shape, count):
    rng = np.random.default_rng(seed)
    connectivity = int(rng.integers(1, len(shape) + 1))
    unary, weights = random_field(rng, tuple(shape), connectivity, count)
    pairwise = rng.integers(0, 6, (count, count))
    start = rng.integers(0, count, shape)
    arguments = {"weights": list(weights.values()), "connectivity": connectivity}
    got = ms.icm(unary, pairwise, 50, start, **arguments)
    if ms.icm(unary, pairwise, 49, start, **arguments).tobytes() == got.tobytes():
        symmetric = np.triu(pairwise) + np.triu(pairwise, 1).T
        got = ms.icm(unary, symmetric, None, start, **arguments)
        assert_array_equal(got, twin.icm(unary, symmetric, start, weights))


@MOVES
def test_two_labels_are_one_minimum_cut(rng, function):
    unary = rng.integers(0, 90, (20, 30, 2))
    weights = rng.integers(0, 20, (20, 30))
    labels = function(unary, ms.potts(2, 3), weights=weights)
    _, cut = ms.maxflow_grid(unary[..., 1], unary[..., 0], 3 * weights)
    assert ms.labelling_energy(unary, ms.potts(2, 3), labels, weights=weights) == (
        ms.labelling_energy(unary, ms.potts(2, 3), cut.astype(int), weights=weights)
    )


@MOVES
@DTYPES
def test_energy_falls_and_icm_is_worse(rng, function, dtype):
    y, x = np.indices((40, 50))
    truth = (x // 13 + y // 21) % 4
    unary = ((truth[..., None] - np.arange(4)) ** 2 + rng.normal(0, 1.5, (40, 50, 4))) * 10
    unary = unary.astype(dtype)
    pairwise = ms.truncated_linear(4, 6, 12).astype(dtype)
    first = unary.argmin(-1)
    labels = [first, *(function(unary, pairwise, n) for n in (1, 2, None))]
    energies = [ms.labelling_energy(unary, pairwise, each) for each in labels]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] > ms.labelling_energy(unary, pairwise, ms.icm(unary, pairwise)) > energies[3]
    assert np.mean(labels[3] == truth) > np.mean(first == truth) + 0.05
    again = function(unary, pairwise, labels=labels[3])
    assert ms.labelling_energy(unary, pairwise, again) == energies[3]


@pytest.mark.parametrize("name", ["aexpansion_grid", "abswap_grid"])
def test_energies_are_those_of_pymaxflow(rng, name):
    maxflow = pytest.importorskip("maxflow")  # not in any extra: GPL
    ours = {"aexpansion_grid": ms.alpha_expansion, "abswap_grid": ms.alpha_beta_swap}[name]
    for pairwise in (ms.potts(5, 30), ms.truncated_linear(5, 9, 20)):
        unary = rng.integers(0, 90, (20, 30, 5))
        theirs = getattr(maxflow.fastmin, name)(unary, pairwise)
        expected = ms.labelling_energy(unary, pairwise, theirs)
        got = ms.labelling_energy(unary, pairwise, ours(unary, pairwise))
        assert got == pytest.approx(expected, rel=0.003)


@pytest.mark.parametrize("function", [ms.alpha_expansion, ms.alpha_beta_swap, ms.icm])
def test_layouts_threads_and_inputs_left_alone(rng, layout, function):
    unary = rng.integers(0, 30, (30, 41, 3))
    start = rng.integers(0, 3, (30, 41))
    expected = function(unary, ms.potts(3, 5), labels=start)
    got = function(layout(unary), layout(ms.potts(3, 5)), labels=layout(start))
    assert_array_equal(got, expected)
    for threads in (1, 5):
        with ms.num_threads(threads):
            assert_array_equal(function(unary, ms.potts(3, 5), labels=start), expected)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 0, 2)])
@pytest.mark.parametrize("function", [ms.alpha_expansion, ms.alpha_beta_swap, ms.icm])
def test_empty_images(shape, function):
    assert function(np.zeros((*shape, 3)), ms.potts(3)).shape == shape


def test_small_integers_do_not_overflow():
    unary = np.array([[[0, 255], [255, 0]]], np.uint8)
    assert ms.alpha_expansion(unary, ms.potts(2, 260)).tolist() in ([[0, 0]], [[1, 1]])
    big = 2**40 * np.array([[[0, 9], [9, 0]]])
    assert ms.alpha_expansion(big, ms.potts(2, 2**41)).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "unary must be finite", {"unary": np.full((2, 3, 2), np.nan)}),
        (ValueError, "unary must have one to three axes", {"unary": np.zeros(3)}),
        (TypeError, "unary must be bool, integer or float", {"unary": np.zeros((2, 2), complex)}),
        (ValueError, "pairwise must have shape", {"pairwise": np.zeros((3, 3))}),
        (ValueError, "pairwise must be finite", {"pairwise": np.full((2, 2), np.inf)}),
        (ValueError, "weights must not be negative", {"weights": -1}),
        (ValueError, "weights must be numbers or arrays", {"weights": [1, 2, 3]}),
        (ValueError, "weights must be numbers or arrays", {"weights": np.ones((3, 3))}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "max_cycles must be at least 0", {"max_cycles": -1}),
        (ValueError, "labels must be from 0 to 1", {"labels": np.full((2, 3), 2)}),
        (ValueError, "labels must have shape", {"labels": np.zeros((2, 2), int)}),
        (TypeError, "labels must be integers", {"labels": np.zeros((2, 3))}),
        (ValueError, "numbers of int64", {"unary": np.full((2, 3, 2), 2**62)}),
    ],
)
@pytest.mark.parametrize("function", [ms.alpha_expansion, ms.alpha_beta_swap, ms.icm])
def test_bad_input(function, error, message, change):
    given = {"unary": np.zeros((2, 3, 2)), "pairwise": ms.potts(2)}
    with pytest.raises(error, match=f"{function.__name__}: .*{message}"):
        function(**{**given, **change})


def test_costs_that_no_cut_can_minimise():
    quadratic = (np.arange(3) - np.arange(3)[:, None]) ** 2
    unary = np.zeros((2, 2, 3))
    with pytest.raises(ValueError, match="triangle inequality"):
        ms.alpha_expansion(unary, quadratic)
    assert ms.alpha_beta_swap(unary, quadratic).shape == (2, 2)
    with pytest.raises(ValueError, match="less for two labels than for one"):
        ms.alpha_beta_swap(unary, np.eye(3))


@pytest.mark.parametrize(("name", "most"), [("alpha_expansion", 54), ("icm", 16)])
def test_peak_memory(name, most):
    setup = """
    rng = np.random.default_rng(0)
    image = rng.integers(0, 9, (600, 700)).astype(np.int32)
    unary = np.abs(image[..., None] - np.array([1, 4, 7], np.int32))
    """
    got = peak_bytes_per_pixel(
        f"ms.{name}(unary, ms.potts(3, 2).astype(np.int32))",
        setup=setup,
        warm=f"ms.{name}(unary[:9, :9], ms.potts(3, 2))",
    )
    assert got < most
