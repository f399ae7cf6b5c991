from __future__ import annotations

import warnings

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

ENDS = ["periodic", "fixed", "free", "free-fixed", "fixed-free", "fixed-fixed", "free-free"]
STIFF = {"alpha": 0.015, "beta": 10, "gamma": 0.001}


def disk(rng, dtype=np.float64, shape=(60, 70)):
    away = np.hypot(*(np.indices(shape) - np.reshape((28, 33), (2, 1, 1))))
    image = ms.gaussian((away < 16) + 0.05 * rng.random(shape), 2)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return image > 0.5
    return image.astype(dtype) if dtype.kind == "f" else (120 * image).astype(dtype)


def ellipse(n, rows=25, columns=27):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([30 + rows * np.sin(angle), 34 + columns * np.cos(angle)], axis=1)


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_skimage_step_by_step(rng, ends, dtype):
    """After few iterations: later the weights' stiffness (up to 1e5) magnifies rounding."""
    peer = pytest.importorskip("skimage.segmentation")
    image = disk(rng, dtype)
    for points in (4, 13, 60):
        snake = ellipse(points)
        for options in (
            {},
            STIFF,
            {"w_line": -1, "w_edge": 0.5, "max_px_move": 0.3},
            {"w_edge": 0},
        ):
            arguments = {"boundary_condition": ends, "max_num_iter": 12, **options}
            got = ms.active_contour(image, snake, **arguments)
            expected = peer.active_contour(image, snake, **arguments)
            assert got.dtype == expected.dtype
            # float64: rounding of 1e-14 pixels, times up to 1 / gamma, 12 times. float32: the
            # peer's matrix and coordinates have 1e-7, ours only the potential.
            atol = 1e-5 if got.dtype == np.float64 else 0.05
            assert_allclose(got, expected, rtol=0, atol=atol)


def test_equals_skimage_at_convergence(rng):
    peer = pytest.importorskip("skimage.segmentation")
    image = disk(rng)
    for options in ({}, {"w_line": 1}, {"alpha": 0.1, "beta": 1, "gamma": 0.1}):
        snake = ellipse(80)
        got = ms.active_contour(image, snake, **options)
        assert_allclose(got, peer.active_contour(image, snake, **options), rtol=0, atol=1e-6)
        single = image.astype(np.float32)
        assert_allclose(ms.active_contour(single, snake, **options), got, rtol=0, atol=0.05)


def test_colours_equal_skimage(rng):
    peer = pytest.importorskip("skimage.segmentation")
    for dtype, atol in ((np.float64, 1e-8), (np.uint8, 1e-8), (np.float32, 1e-3)):
        image = np.stack([100 * disk(rng) for _ in range(3)], axis=-1).astype(dtype)
        for options in ({"w_line": 0.01}, {"w_line": 0.02, "w_edge": 0}):
            options["max_num_iter"] = 10
            got = ms.active_contour(image, ellipse(40), **options)
            expected = peer.active_contour(image, ellipse(40), **options)
            assert_allclose(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("ends", [("periodic",) * 2, ("fixed", "free"), ("free", "fixed")])
def test_equals_reference(rng, isa, ends):
    potential = disk(rng, shape=(40, 33))
    word = "periodic" if ends[0] == "periodic" else "-".join(ends)
    for points in (4, 12, 13, 21):
        snake = ellipse(points) * 0.8
        got = ms.active_contour(
            potential, snake, 0.02, 0.2, 1, 0, 0.1, 0.7, 30, boundary_condition=word
        )
        expected = reference.active_contour.active_contour(
            potential, snake, 0.02, 0.2, 0.1, 0.7, 30, 0.1, ends
        )
        assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(3, 3), (3, 9), (4, 5), (50, 3)])
def test_smallest_images_and_points_outside(rng, shape):
    peer = pytest.importorskip("skimage.segmentation")
    image = rng.random(shape)
    snake = ellipse(20) - 10
    got = ms.active_contour(image, snake, w_line=1, max_num_iter=5)
    expected = peer.active_contour(image, snake, w_line=1, max_num_iter=5)
    assert_allclose(got, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("points", [1, 2, 3, 4, 5])
def test_few_points(rng, points):
    peer = pytest.importorskip("skimage.segmentation")
    image, snake = disk(rng), ellipse(points)
    got = ms.active_contour(image, snake, max_num_iter=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = peer.active_contour(image, snake, max_num_iter=20)
    assert_allclose(got, expected, rtol=0, atol=1e-8)


def test_finds_a_disk(rng):
    snake = ms.active_contour(disk(rng), ellipse(100), **STIFF)
    radius = np.hypot(snake[:, 0] - 28, snake[:, 1] - 33)
    assert abs(radius.mean() - 16) < 1
    assert radius.std() < 1


def test_layouts_leave_the_input_alone(rng, layout):
    image, snake = disk(rng, np.float32), ellipse(30)
    expected = ms.active_contour(image, snake, max_num_iter=50)
    given, start = layout(image), layout(snake)
    assert_array_equal(ms.active_contour(given, start, max_num_iter=50), expected)
    assert_array_equal(given, image)
    assert_array_equal(start, snake)
    assert_array_equal(ms.active_contour(image, snake.tolist(), max_num_iter=50), expected)


def test_result_does_not_depend_on_threads(rng, threads):
    image = np.random.default_rng(0).random((300, 400))
    got = ms.active_contour(image, ellipse(50), max_num_iter=30)
    with ms.num_threads(1):
        assert_array_equal(got, ms.active_contour(image, ellipse(50), max_num_iter=30))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, r"image must have shape \(M, N\)", {"image": np.zeros(5)}),
        (ValueError, r"image must have shape \(M, N\)", {"image": np.zeros((5, 5, 2))}),
        (ValueError, "3 by 3 pixels at least", {"image": np.zeros((5, 2))}),
        (ValueError, "3 by 3 pixels at least", {"image": np.zeros((0, 5))}),
        (ValueError, "image must be finite", {"image": np.full((5, 5), np.nan)}),
        (TypeError, "complex", {"image": np.zeros((5, 5), complex)}),
        (ValueError, r"snake must have shape \(K, 2\)", {"snake": np.zeros((4, 3))}),
        (ValueError, "snake must have 1 points", {"snake": np.zeros((0, 2))}),
        (ValueError, "snake must be finite", {"snake": np.full((4, 2), np.inf)}),
        (TypeError, "snake must be integer or float", {"snake": np.zeros((4, 2), complex)}),
        (
            ValueError,
            "snake must have 4 points",
            {"snake": [(1, 1)] * 3, "boundary_condition": "free"},
        ),
        (ValueError, "max_num_iter must be at least 1", {"max_num_iter": 0}),
        (ValueError, "boundary_condition must be one of", {"boundary_condition": "periodic-free"}),
        (ValueError, "boundary_condition must be one of", {"boundary_condition": "wrong"}),
        (ValueError, "alpha must be a number, got NaN", {"alpha": np.nan}),
        (ValueError, "beta must be finite", {"beta": np.inf}),
        (ValueError, "singular", {"alpha": 0, "beta": 0, "gamma": 0}),
    ],
)
def test_bad_input(error, message, arguments):
    given = {"image": np.zeros((5, 5)), "snake": [(1, 1), (1, 3), (3, 3), (3, 1)], **arguments}
    with pytest.raises(error, match=message):
        ms.active_contour(**given)


def test_singular_band():
    snake = ellipse(40)
    with pytest.raises(ValueError, match="singular"):
        ms.active_contour(np.zeros((9, 9)), snake, 0, 0, gamma=0)


@pytest.mark.parametrize(("dtype", "most"), [("float64", 24), ("float32", 20), ("uint8", 24)])
def test_peak_memory(dtype, most):
    setup = f"""
image = np.random.default_rng(0).random((2000, 2000)).astype(np.{dtype})
small, snake = image[:9, :9].copy(), np.array([(3, 3), (3, 9), (9, 9), (9, 3)])
"""
    call = "ms.active_contour({}, snake, max_num_iter=3)"
    got = peak_bytes_per_pixel(call.format("image"), setup=setup, warm=call.format("small"))
    assert got <= most + 0.3
