"""Gradients and Gaussians on a GPU: the CPU's up to rounding, Gaussians bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._gpu import _device

pytestmark = needs_compiler

SHAPES = [(1,), (67,), (0, 5), (1, 1), (9, 33), (1, 130), (3, 0, 2), (1, 1, 1), (5, 7, 19)]
MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]


def noise(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(0, 10, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def close(got, expected, image):
    """Up to rounding: 3 axes of 5 weights each, all products and sums rounded once or twice."""
    assert got.dtype == expected.dtype
    most = np.abs(image.astype(np.float64)).max(initial=0) if image.dtype.kind == "f" else 1
    assert_allclose(got, expected, rtol=0, atol=120 * np.finfo(got.dtype).eps * float(most))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["sobel", "prewitt", "scharr", "farid"])
def test_magnitude(rng, name, shape):
    image = noise(rng, shape, np.float32)
    for mode in MODES:
        got = on_shim(name, image, mode=mode, cval=3, schedules=1)
        close(got, getattr(ms, name)(image, mode=mode, cval=3), image)
        if mode == "reflect" and image.size:
            twin = reference.edges.gradient(name, image)
            assert_allclose(got, twin, rtol=1e-4, atol=1e-4)
    axis = len(shape) - 1
    for given in (axis, (0, 0)):
        close(on_shim(name, image, axis=given), getattr(ms, name)(image, axis=given), image)
    if len(shape) > 1:
        options = {"axis": (0, 1), "spacing": (1.5, 2, 0.5)[: len(shape)]}
        close(on_shim(name, image, **options), getattr(ms, name)(image, **options), image)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(rng, dtype):
    image = noise(rng, (9, 21), dtype)
    for wanted in (None, np.float32, np.float64):
        close(
            on_shim("sobel", image, dtype=wanted, schedules=1), ms.sobel(image, dtype=wanted), image
        )
        for preserve in (False, True):
            options = {"sigma": 0.8, "dtype": wanted, "preserve_range": preserve}
            got = on_shim("gaussian", image, schedules=1, **options)
            close(got, ms.gaussian(image, **options), image if not preserve else image + 0.0)


@pytest.mark.parametrize("name", ["sobel_h", "sobel_v", "farid_h", "prewitt_v", "scharr_h"])
def test_directions(rng, name):
    image, mask = noise(rng, (9, 21), np.float64), rng.random((9, 21)) < 0.9
    close(on_shim(name, image, mask=mask), getattr(ms, name)(image, mask=mask), image)
    with pytest.raises(ValueError, match=f"{name}: image must have 2 dimensions"):
        on_shim(name, image[0])


def test_masks_and_nan(rng):
    for shape in [(9, 21), (4, 9, 11), (30,)]:
        image, mask = noise(rng, shape, np.float64), rng.random(shape) < 0.97
        close(on_shim("sobel", image, mask), ms.sobel(image, mask), image)
        flat = image.copy()
        flat.reshape(-1)[7] = np.nan
        got, expected = on_shim("sobel", flat, axis=0), ms.sobel(flat, axis=0)
        assert_array_equal(np.isnan(got), np.isnan(expected))
    with pytest.raises(NotImplementedError, match="more than 3 axes"):
        on_shim("sobel", np.zeros((2, 2, 2, 2)))


DIFFERENCES = ["laplace", "roberts", "roberts_pos_diag", "roberts_neg_diag"]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_bit_for_bit(rng, name, shape):
    for dtype in (np.float32, np.float64):
        image = noise(rng, shape, dtype)
        if len(shape) == 1 and name != "laplace":
            with pytest.raises(ValueError, match=f"{name}: image must have at least 2 dimensions"):
                on_shim(name, image, schedules=1)
            continue
        mask = rng.random(shape) < 0.95
        for options in ({}, {"mask": mask}):
            assert_array_equal(on_shim(name, image, **options), getattr(ms, name)(image, **options))
        if name == "laplace":
            options = {"spacing": (1.5, 2, 0.5)[: len(shape)]}
            assert_array_equal(on_shim(name, image, **options), ms.laplace(image, **options))
        else:
            flat = image.copy()
            flat.reshape(-1)[:1] = np.nan
            assert_array_equal(on_shim(name, flat), getattr(ms, name)(flat))
    with pytest.raises(NotImplementedError, match=f"{name}: no GPU kernel for more than 3 axes"):
        on_shim(name, np.zeros((2, 2, 2, 2)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_differences_of_every_dtype(rng, dtype):
    image = noise(rng, (9, 21), dtype)
    for name, wanted in [("laplace", None), ("roberts", None), ("roberts", np.float64)]:
        got = on_shim(name, image, dtype=wanted, schedules=1)
        close(got, getattr(ms, name)(image, dtype=wanted), image)
    given = np.zeros((9, 42), np.float32)[:, ::2]
    assert on_shim("roberts", image, out=given, schedules=1) is given
    close(given, ms.roberts(image, dtype=np.float32), image)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 4, 5)], ids=str)
def test_gaussian_bit_for_bit(rng, shape, dtype):
    image = noise(rng, shape, dtype)
    for mode in MODES:
        for sigma in (0.3, 1.7, 0, [0.5, 2, 0, 1][: len(shape)]):
            options = {"sigma": sigma, "mode": mode, "cval": 2.5}
            got = on_shim("gaussian", image, schedules=1, **options)
            expected = ms.gaussian(image, **options)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 4, 5)], ids=str)
def test_differences_and_derivatives_of_gaussians(rng, shape, dtype):
    image = noise(rng, shape, dtype)
    for mode in MODES:
        options = {"mode": mode, "cval": 2.5}
        got = on_shim("difference_of_gaussians", image, 0.7, schedules=1, **options)
        assert_array_equal(got, ms.difference_of_gaussians(image, 0.7, **options))
        several = {**options, "sigma": [0.5, 2, 0, 1][: len(shape)]}
        spaced = {**options, "sigma": 1.1, "spacing": (1, 0.5, 2, 1)[: len(shape)]}
        for name in ("gaussian_gradient_magnitude", "gaussian_laplace"):
            narrow = {**options, "sigma": 0.1}, {**options, "sigma": 1.5, "radius": 0}
            for each in (several, spaced, {**options, "sigma": 1.5, "radius": 40}, *narrow):
                got, expected = (
                    on_shim(name, image, schedules=1, **each),
                    getattr(ms, name)(image, **each),
                )
                values = 4 * image.astype(np.float64) / min(np.min(each["sigma"]) or 1, 1) ** 2
                close(got, expected, values)
    if len(shape) > 1 and 0 not in shape:
        for options in ({"axes": 1}, {"axes": (1, 0), "mode": ["wrap", "mirror"]}, {"axes": ()}):
            for name in ("gaussian_gradient_magnitude", "gaussian_laplace"):
                sigma = 1.5 if options["axes"] else []
                sigma = sigma if name.endswith("laplace") else 1.5
                got, expected = (
                    on_shim(name, image, sigma, **options),
                    getattr(ms, name)(image, sigma, **options),
                )
                close(got, expected, 4 * image.astype(np.float64))


def test_output_as_scipy_takes_it(rng):
    image = noise(rng, (9, 21), np.float32)
    given = np.zeros((9, 21))
    assert on_shim("gaussian_laplace", image, 1, output=given, schedules=1) is given
    close(given, ms.gaussian_laplace(image, 1, np.float64), image)
    assert on_shim("gaussian_laplace", image, 1, np.float64, schedules=1).dtype == np.float64
    with pytest.raises(ValueError, match="output must not be given together with dtype"):
        on_shim("gaussian_laplace", image, 1, np.float64, dtype=np.float32)
    with pytest.raises(ValueError, match="high_sigma must not be less than low_sigma"):
        on_shim("difference_of_gaussians", image, 2, 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_zero_crossings(rng, dtype):
    for shape in SHAPES:
        image = noise(rng, shape, dtype)
        if image.dtype.kind in "if":
            image = image // np.array(4, dtype)
            image = np.where(rng.random(shape) < 0.3, np.array(0, dtype), image)
        if image.dtype.kind == "f":
            image.reshape(-1)[:1] = np.nan
        for threshold in (0, 1.5):
            got = on_shim("zero_crossings", image, threshold, schedules=2)
            assert got.dtype == np.bool_
            assert_array_equal(got, ms.zero_crossings(image, threshold))
    with pytest.raises(ValueError, match="threshold must not be negative, got -1"):
        on_shim("zero_crossings", image, -1)


def test_blocks_go_on_and_out_may_be_the_image(rng, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    image = noise(rng, (40, 41), np.float32)
    assert_array_equal(on_shim("gaussian", image, 1.5), ms.gaussian(image, 1.5))
    close(on_shim("sobel", image), ms.sobel(image), image)
    for name in ("sobel", "gaussian"):
        given = image.copy()
        assert on_shim(name, given, out=given, schedules=1) is given
        close(given, getattr(ms, name)(image), image)
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        on_shim("gaussian", image, dtype=np.int16)
