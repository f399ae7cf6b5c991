from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

INITS = ["checkerboard", "disk", "small disk"]


def scene(rng, shape, dtype):
    away = np.hypot(*(np.indices(shape) - np.array(shape).reshape(2, 1, 1) / 2))
    image = rng.normal(0, 0.2, shape) + (away < min(shape) / 3)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return image > 0.5
    return (
        image.astype(dtype) if dtype.kind == "f" else (image * 50 + 50).clip(0, 120).astype(dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_skimage_bit_for_bit(rng, dtype):
    peer = pytest.importorskip("skimage.segmentation")
    for shape in [(33, 40), (7, 9), (4, 130)]:
        image = scene(rng, shape, dtype)
        for init in [*INITS, rng.normal(0, 1, shape)]:
            for options in ({}, {"mu": 0.1, "lambda2": 2, "dt": 1, "tol": 1e-2}):
                options = {"max_num_iter": 30, "init_level_set": init, **options}
                expected = peer.chan_vese(image, extended_output=True, **options)
                mask, phi, energies = ms.chan_vese(image, extended_output=True, **options)
                assert mask.dtype == bool
                assert phi.dtype == expected[1].dtype
                assert_array_equal(phi, expected[1])
                assert_array_equal(mask, expected[0])
                # float64 is exact to rounding; the peer's float32 energies carry the error of
                # sums of squares of values near 1, a few 1e-6 of the number of pixels.
                rtol, atol = (1e-9, 1e-9) if phi.dtype == np.float64 else (1e-4, 1e-5 * phi.size)
                assert_allclose(energies, expected[2], rtol=rtol, atol=atol)
                assert_array_equal(ms.chan_vese(image, **options), mask)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_energies_are_skimages(rng, dtype):
    peer = pytest.importorskip("skimage.segmentation")
    image = (rng.random((12, 13)) * 9).astype(dtype)
    for options in ({}, {"mu": 0, "tol": 0, "max_num_iter": 30}):
        got = ms.chan_vese(image, extended_output=True, **options)[2]
        expected = peer.chan_vese(image, extended_output=True, **options)[2]
        assert [e.dtype for e in got] == [e.dtype for e in expected]
        assert_allclose(got, expected, rtol=1e-3 if "16" in dtype or "32" in dtype else 1e-9)


def test_equals_skimage_to_convergence(rng):
    peer = pytest.importorskip("skimage.segmentation")
    image = scene(rng, (70, 80), np.float64)
    expected = peer.chan_vese(image, extended_output=True)
    got = ms.chan_vese(image, extended_output=True)
    assert_array_equal(got[1], expected[1])
    assert len(got[2]) == len(expected[2]) > 60


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_reference(rng, isa, dtype):
    for shape in [(1, 1), (1, 9), (9, 1), (33, 65), (64, 9)]:
        image, phi = rng.random(shape).astype(dtype), rng.normal(0, 1, shape).astype(dtype)
        image -= image.min()
        image /= image.max() or 1
        expected, energies = reference.chan_vese.chan_vese(image, phi, 0.25, 1, 2, 1e-3, 20, 0.5)
        _, got, found = ms.chan_vese(
            image, lambda2=2, max_num_iter=20, init_level_set=phi, extended_output=True
        )
        assert_array_equal(got, expected)
        assert_allclose(found, energies, rtol=1e-4, atol=1e-4)


def test_result_does_not_depend_on_threads(threads):
    image = np.random.default_rng(0).random((300, 200))
    options = {"max_num_iter": 10, "extended_output": True}
    got = ms.chan_vese(image, **options)
    with ms.num_threads(1):
        expected = ms.chan_vese(image, **options)
    for one, other in zip(got, expected, strict=True):
        assert_array_equal(one, other)


def test_layouts(rng, layout):
    image, phi = scene(rng, (30, 40), np.float32), rng.normal(0, 1, (30, 40))
    expected = ms.chan_vese(image, max_num_iter=9, init_level_set=phi)
    got = ms.chan_vese(layout(image), max_num_iter=9, init_level_set=layout(phi))
    assert_array_equal(got, expected)


def test_constant_image_and_no_iterations():
    assert ms.chan_vese(np.full((9, 9), 7, np.uint8)).shape == (9, 9)
    mask, phi, energies = ms.chan_vese(np.eye(9), max_num_iter=0, extended_output=True)
    assert energies == []
    assert_array_equal(mask, phi > 0)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "image must have 2 dimensions", {"image": np.zeros((3, 4, 5))}),
        (ValueError, "image must not be empty", {"image": np.zeros((0, 5))}),
        (ValueError, "image must be finite", {"image": np.full((5, 5), np.nan)}),
        (ValueError, "image must be finite", {"image": np.array([[0, np.inf], [0, 0]])}),
        (TypeError, "complex", {"image": np.zeros((5, 5), complex)}),
        (ValueError, "init_level_set must be 'checkerboard'", {"init_level_set": "ball"}),
        (ValueError, "init_level_set must have shape", {"init_level_set": np.zeros((4, 5))}),
        (ValueError, "init_level_set must be finite", {"init_level_set": np.full((5, 5), np.nan)}),
        (ValueError, "3 by 3 pixels for a disk", {"image": np.eye(2), "init_level_set": "disk"}),
        (ValueError, "tol and mu must not be negative", {"tol": -1}),
        (ValueError, "tol and mu must not be negative", {"mu": -1}),
        (ValueError, "dt must be a number, got NaN", {"dt": np.nan}),
        (ValueError, "max_num_iter must be at least 0", {"max_num_iter": -1}),
    ],
)
def test_bad_input(error, message, arguments):
    with np.errstate(all="ignore"), pytest.raises(error, match=message):
        ms.chan_vese(**{"image": np.eye(5), **arguments})


@pytest.mark.parametrize(("dtype", "most"), [("float64", 25), ("float32", 13), ("uint8", 25)])
def test_peak_memory(dtype, most):
    setup = f"image = np.random.default_rng(0).random((2000, 2000)).astype(np.{dtype})"
    call = "ms.chan_vese({}, max_num_iter=2)"
    warm = call.format("image[:40, :40]")
    got = peak_bytes_per_pixel(call.format("image"), setup=setup, warm=warm)
    assert got <= most + 0.3
