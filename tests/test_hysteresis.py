from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

# NumPy warns of a threshold that the image's dtype rounds to infinity.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")
twin = reference.components.apply_hysteresis_threshold


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hysteresis_equals_reference(rng, isa, dtype):
    for shape in [*(s for s in SHAPES if np.prod(s) < 400), (3, 64), (2, 65)]:
        image = random_image(rng, shape, dtype)
        for low, high in [(0.5, 3.25), (0, 1), (2, -2), (-3, 10**6)]:
            for connectivity in {1, len(shape)}:
                mask = ms.apply_hysteresis_threshold(image, low, high, connectivity=connectivity)
                assert mask.dtype == bool
                assert_array_equal(mask, twin(image, low, high, connectivity))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hysteresis_equals_skimage(rng, threads, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape in [(300,), (40, 200), (20, 60, 70)]:
        image = rng.normal(1, 1, shape)
        image = (image > 1 if dtype.kind == "b" else np.maximum(image, 0)).astype(dtype)
        for low, high in [(0.3, 1.5), (1, 2), (1.5, 0.3), (-1, 300), (np.float64(0.3), 1e300)]:
            expected = filters.apply_hysteresis_threshold(image, low, high)
            assert_array_equal(ms.apply_hysteresis_threshold(image, low, high), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_hysteresis_rounds_thresholds_as_skimage(dtype):
    filters = pytest.importorskip("skimage.filters")
    for t in (0.1, 0.2, 0.3, 0.7, 1e-9, 70000.0):
        with np.errstate(over="ignore"):
            near = np.array(t).astype(dtype)
        image = np.array([np.nextafter(near, 0), near, np.nextafter(near, np.inf)], dtype)
        for low, high in [(t, t), (0.0, t), (t, np.float64(t)), (np.float32(t), np.float32(t))]:
            expected = filters.apply_hysteresis_threshold(image, low, high)
            assert_array_equal(ms.apply_hysteresis_threshold(image, low, high), expected)


def test_hysteresis_takes_arrays_of_thresholds(rng):
    filters = pytest.importorskip("skimage.filters")
    image = rng.integers(0, 50, (30, 70)).astype(np.uint8)
    low, high = rng.integers(10, 30, image.shape), rng.integers(20, 50, image.shape)
    for arguments in [(low, high), (15, high), (low, 45.5), (low + 0.5, high.astype(np.float32))]:
        expected = filters.apply_hysteresis_threshold(image, *arguments)
        assert_array_equal(ms.apply_hysteresis_threshold(image, *arguments), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_hysteresis_nan_is_outside(dtype):
    image = np.array([3, np.nan, 2, np.inf, -np.inf], dtype)
    assert ms.apply_hysteresis_threshold(image, 1, 2.5).tolist() == [True, False, True, True, False]
    limits = ms.apply_hysteresis_threshold(image, -np.inf, 5).tolist()
    assert limits == [False, False, True, True, False]
    assert not ms.apply_hysteresis_threshold(image, 0, np.inf).any()


def test_hysteresis_layout_and_out(rng, layout):
    image = random_image(rng, (5, 9, 8), np.float32)
    expected = twin(image, 1, 9)
    assert_array_equal(ms.apply_hysteresis_threshold(layout(image), 1, 9), expected)
    out = layout(np.ones(image.shape, bool))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.apply_hysteresis_threshold(image, 1, 9, out=out)
        return
    assert ms.apply_hysteresis_threshold(image, 1, 9, out=out) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "low must be a number, got NaN", {"low": np.nan}),
        (ValueError, "high must be a number, got NaN", {"high": np.nan}),
        (ValueError, "high must not contain NaN", {"high": np.full((2, 3), np.nan)}),
        (TypeError, "low must be a number", {"low": "1"}),
        (ValueError, "low must broadcast", {"low": np.zeros((4, 3))}),
        (ValueError, "low must broadcast", {"low": np.zeros((4, 2, 3))}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "at least one dimension", {"image": 3.0}),
        (TypeError, "complex", {"image": np.zeros(3, complex)}),
        (ValueError, "out must have shape", {"out": np.zeros(2, bool)}),
    ],
)
def test_hysteresis_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.apply_hysteresis_threshold(
            **{"image": np.zeros((2, 3)), "low": 1, "high": 2, **arguments}
        )
