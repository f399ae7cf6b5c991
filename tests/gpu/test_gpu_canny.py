"""Canny on a GPU: the CPU's edges, pixel for pixel."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from conftest import DTYPES
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

pytestmark = needs_compiler


def blobs(rng, shape, dtype):
    """Smooth shapes with noise; floats from 0 to 1."""
    image = ms.gaussian(rng.random(shape), 2.0) * 8 % 1
    image[shape[0] // 3 :, shape[1] // 2 :] = 0.9
    dtype = np.dtype(dtype)
    if dtype.kind in "ui":
        return (image * np.iinfo(dtype).max).astype(dtype)
    return (image > 0.5) if dtype.kind == "b" else image.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    image = blobs(rng, (37, 70), dtype)
    if dtype.kind in "ui" and dtype.itemsize == 8:
        with pytest.raises(ValueError, match="64-bit integer images are not supported"):
            on_shim("canny", image)
        return
    got = on_shim("canny", image, schedules=2)
    assert got.any()
    assert_array_equal(got, ms.canny(image))


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (2, 9), (3, 3), (9, 33), (17, 64), (70, 70)])
def test_shapes(rng, shape):
    image = rng.random(shape).astype(np.float32)
    assert_array_equal(on_shim("canny", image, 0.7), ms.canny(image, 0.7))


@pytest.mark.parametrize("mode", ["constant", "reflect", "nearest", "mirror", "wrap"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64], ids=str)
def test_modes_masks_and_spacing(rng, mode, dtype):
    image, mask = blobs(rng, (29, 50), dtype), rng.random((29, 50)) < 0.99
    limit = 255 if dtype == np.uint8 else 1
    for options in (
        {"sigma": (1.5, 0.5), "low_threshold": 0.05 * limit, "high_threshold": 0.3 * limit},
        {"sigma": 0, "cval": 0.25},
        {"mask": mask},
        {"spacing": (2, 0.5), "low_threshold": 0, "mask": mask},
    ):
        got = on_shim("canny", image, mode=mode, schedules=1, **options)
        assert_array_equal(got, ms.canny(image, mode=mode, **options))


def test_equals_the_slow_twin(rng):
    image = blobs(rng, (21, 40), np.float64)
    got = on_shim("canny", image, 1.0, 0.1, 0.2)
    assert_array_equal(got, reference.canny.canny_skimage(image, 1.0, 0.1, 0.2))


def test_nan_and_infinity(rng):
    image = blobs(rng, (30, 40), np.float64)
    image[10, 10], image[20, 30] = np.nan, np.inf
    assert_array_equal(on_shim("canny", image, schedules=1), ms.canny(image))


@pytest.mark.parametrize("squares", [False, True])
def test_opencv(rng, squares):
    for shape in [(0, 4), (1, 1), (9, 33), (40, 70)]:
        image = rng.integers(0, 255, shape, np.uint8)
        if shape[0] > 9:
            image = blobs(rng, shape, np.uint8)
        for low, high in [(None, None), (100, 50.5), (-3, 1e9), (0, 0)]:
            options = {"convention": "opencv", "l2_gradient": squares}
            got = on_shim("canny", image, 1.0, low, high, schedules=2, **options)
            assert_array_equal(got, ms.canny(image, 1.0, low, high, **options))


def test_what_has_no_kernel_is_said_so(rng):
    image = rng.random((9, 9))
    with pytest.raises(NotImplementedError, match="canny: no GPU kernel for quantiles"):
        on_shim("canny", image, 1.0, 0.1, 0.9, use_quantiles=True)
    with pytest.raises(NotImplementedError, match='no GPU kernel for convention="itk"'):
        on_shim("canny", image, convention="itk")
    with pytest.raises(ValueError, match="canny: mask must have shape"):
        on_shim("canny", image, mask=np.ones((3, 3)))
