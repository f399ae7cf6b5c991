"""Fast marching: the twin, SimpleITK, distances that are known."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, LAYOUTS, SHAPES, random_image
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

SIZES = [((9,), (1,)), ((8, 7), (1, 1)), ((7, 9), (2, 0.5)), ((4, 5, 6), (1, 1, 1))]
SIZES += [((5, 4, 3), (3, 1, 0.7)), ((2, 3, 4, 3), (1, 2, 1, 1)), ((1, 6), (1, 1))]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("shape", "spacing"), SIZES)
def test_equals_the_twin(rng, shape, spacing, order):
    for walls in (0, 0.15):
        speed = rng.random(shape) + 0.1
        speed[rng.random(shape) < walls] = 0
        seeds = {}
        for time in (0.0, 0.7, 2.0):
            seeds[tuple(int(rng.integers(0, n)) for n in shape)] = time
        got = ms.fast_marching(
            speed, list(seeds), spacing, order=order, start_times=list(seeds.values())
        )
        expected = reference.fast_marching.fast_marching(speed, seeds, spacing, order)
        # The same roots by other sums: some units in the last place each, along the path.
        assert_allclose(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("shape", "spacing"), [((60, 50), (1, 1)), ((12, 14, 13), (2.5, 1, 0.8))])
def test_first_order_equals_simple_itk(rng, shape, spacing):
    sitk = pytest.importorskip("SimpleITK")
    speed = rng.random(shape) + 0.05
    speed[rng.random(shape) < 0.1] = 0
    seeds = [tuple(int(rng.integers(0, n)) for n in shape) for _ in range(3)]
    image = sitk.GetImageFromArray(speed)
    image.SetSpacing(spacing[::-1])
    march = sitk.FastMarchingImageFilter()
    for seed in seeds:
        march.AddTrialPoint([*seed[::-1]])
    march.SetStoppingValue(1e300)
    expected = sitk.GetArrayFromImage(march.Execute(image))
    expected[expected > 1e300] = np.inf
    got = ms.fast_marching(speed, seeds, spacing, order=1)
    assert_allclose(got, expected, rtol=1e-11)


def test_plane_fronts_are_exact():
    speed = np.full((9, 12), 2.0)
    start = np.zeros(speed.shape, bool)
    start[:, 3] = True
    expected = np.abs(np.indices(speed.shape)[1] - 3) * 1.5 / 2
    for order in (1, 2):
        assert_array_equal(ms.fast_marching(speed, start, (1, 1.5), order=order), expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_second_order_converges_faster(ndim):
    """Distance to a point, from the exact values within a fifth of the image."""
    errors = {}
    for n in (20, 40) if ndim == 3 else (25, 50, 100):
        distance = np.sqrt(((np.indices((2 * n + 1,) * ndim) - n) ** 2).sum(axis=0)) / n
        near = distance <= 0.2
        for order in (1, 2):
            times = ms.fast_marching(
                np.ones(distance.shape),
                near,
                (1 / n,) * ndim,
                order=order,
                start_times=distance[near],
            )
            errors[n, order] = np.abs(times - distance).mean()
    sizes = sorted({n for n, _ in errors})
    for order, least in ((1, 0.7), (2, 1.4)):
        for coarse, fine in itertools.pairwise(sizes):
            assert math.log2(errors[coarse, order] / errors[fine, order]) > least
    assert errors[sizes[-1], 2] < errors[sizes[-1], 1] / 10


def test_two_media_refract():
    """Across the border of two media the front obeys Fermat: times of the bent ray."""
    n = 200
    speed = np.ones((n, n))
    speed[:, n // 2 :] = 2
    times = ms.fast_marching(speed, (n // 2, 10))
    row, column = n // 2 + 60, n - 10
    crossing = np.linspace(0, 60, 100001)
    first = np.hypot(n // 2 - 0.5 - 10, crossing)
    bent = first + np.hypot(column - n // 2 + 0.5, 60 - crossing) / 2
    assert times[row, column] == pytest.approx(bent.min(), rel=0.01)


def test_barriers_stop_values_and_start_times():
    speed = np.array([1, 1, 0, 1, 1, 1.0])
    assert ms.fast_marching(speed, 0).tolist() == [0, 1, np.inf, np.inf, np.inf, np.inf]
    got = ms.fast_marching(np.ones(6), [0, 5], start_times=[0, 9], stopping_value=3)
    assert got.tolist() == [0, 1, 2, 3, np.inf, np.inf]
    assert ms.fast_marching(np.ones(4), [0, 3], start_times=[-1, 0.5]).tolist() == [-1, 0, 1, 0.5]
    assert ms.fast_marching(np.ones(3), [0, 2], start_times=[0, 9]).tolist() == [0, 1, 9]
    assert ms.fast_marching([1, np.inf, 1], 0, order=1).tolist() == [0, 0, 1]
    assert ms.fast_marching([0, 1, 1], 0).tolist() == [0, 1, 2]  # a seed on a barrier starts


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    speed = random_image(rng, (9, 11), dtype)
    speed = np.abs(speed) if dtype.kind == "f" else np.maximum(speed, 0).astype(dtype)
    got = ms.fast_marching(speed, (4, 5))
    assert got.dtype == (np.float32 if dtype in (np.float16, np.float32) else np.float64)
    expected = ms.fast_marching(speed.astype(np.float64), (4, 5)).astype(got.dtype)
    assert_array_equal(got, expected)


@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in s], ids=str)
def test_every_shape_and_layout(rng, shape):
    speed = (rng.random(shape) + 0.1).astype(np.float32)
    seed = tuple(n // 2 for n in shape)
    expected = reference.fast_marching.fast_marching(speed, {seed: 0.0}, (1,) * len(shape), 2)
    for layout in LAYOUTS.values():
        assert_allclose(ms.fast_marching(layout(speed), seed), expected, rtol=1e-6)


def test_out(rng):
    speed = rng.random((9, 8)).astype(np.float32)
    for dtype in (np.float32, np.float64):
        out = np.zeros((8, 9), dtype).T
        assert ms.fast_marching(speed, (1, 1), out=out) is out
        assert_array_equal(out.astype(np.float32), ms.fast_marching(speed, (1, 1)))
    with pytest.raises(ValueError, match="out must have shape"):
        ms.fast_marching(speed, (1, 1), out=np.zeros((9, 9), np.float32))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ms.fast_marching([1, -1], 0), ValueError, "speed must not be negative or NaN"),
        (lambda: ms.fast_marching([1, np.nan], 0), ValueError, "speed must not be negative or NaN"),
        (lambda: ms.fast_marching([1, 1j], 0), TypeError, "speed must"),
        (lambda: ms.fast_marching([1, 1], 2), ValueError, "seeds must lie within"),
        (lambda: ms.fast_marching([1, 1], 0.5), TypeError, "seeds must hold integers"),
        (lambda: ms.fast_marching([1, 1], [False, False]), ValueError, "at least one seed"),
        (lambda: ms.fast_marching([1, 1], [True]), ValueError, "seeds must have shape"),
        (lambda: ms.fast_marching([1, 1], 0, order=3), ValueError, "order must be from 1 to 2"),
        (lambda: ms.fast_marching([1, 1], 0, (0,)), ValueError, "spacing must"),
        (
            lambda: ms.fast_marching([1, 1], 0, start_times=[1, 2]),
            ValueError,
            "start_times must be",
        ),
        (
            lambda: ms.fast_marching([1, 1], 0, start_times=np.inf),
            ValueError,
            "start_times must be",
        ),
        (lambda: ms.fast_marching(np.ones(()), ()), ValueError, "at least one dimension"),
        (lambda: ms.fast_marching(np.ones((0, 2)), (0, 0)), ValueError, "seeds must lie within"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_peak_memory():
    setup = "image = np.random.default_rng(0).random((2000, 2000)).astype(np.float32) + 0.1"
    got = peak_bytes_per_pixel("ms.fast_marching(image, (9, 9))", setup=setup)
    assert got < 24 + 4 + 1
