from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("t", "upper"), [(3, None), (-2.5, 1.5), (0, 0)])
def test_threshold_equals_reference(rng, isa, shape, dtype, t, upper):
    image = random_image(rng, shape, dtype)
    mask = ms.threshold(image, t, upper)
    assert mask.dtype == bool
    assert_array_equal(mask, reference.threshold.threshold(image, t, upper))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threshold_takes_any_layout(rng, layout, dtype):
    image = random_image(rng, (5, 6, 7), dtype)
    given = layout(image)
    before = given.copy()
    assert_array_equal(ms.threshold(given, 1), image >= 1)
    assert_array_equal(given, before)


def test_threshold_does_not_depend_on_threads(rng, threads):
    image = random_image(rng, (3, 500, 700), np.int16)
    assert_array_equal(ms.threshold(image, 100), image >= 100)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_threshold_nan_is_outside(dtype):
    image = np.array([np.nan, -np.inf, 0, np.inf], dtype)
    assert ms.threshold(image, -np.inf).tolist() == [False, True, True, True]


def test_threshold_rounds_t_as_numpy_does():
    image = np.array([0.7], np.float32)
    assert ms.threshold(image, 0.7)[0]
    assert ms.threshold(np.array([99, 100]), 99.5).tolist() == [False, True]


def test_threshold_limits_beyond_the_dtype():
    image = np.array([0, 255], np.uint8)
    assert not ms.threshold(image, 256).any()
    assert ms.threshold(image, -1, 1000).all()
    assert not ms.threshold(image, 0.2, 0.8).any()


def test_threshold_out(rng, layout):
    image = random_image(rng, (4, 9, 8), np.float32)
    out = layout(np.zeros(image.shape, bool))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.threshold(image, 0, out=out)
        return
    assert ms.threshold(image, 0, out=out) is out
    assert_array_equal(out, image >= 0)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "NaN", {"t": np.nan}),
        (ValueError, "lower must not exceed upper", {"t": 2, "upper": 1}),
        (TypeError, "must be a number", {"t": "1"}),
        (TypeError, "complex", {"image": np.zeros(3, complex), "t": 1}),
        (ValueError, "out must have shape", {"t": 1, "out": np.zeros(2, bool)}),
        (ValueError, "dtype bool", {"t": 1, "out": np.zeros(3, np.uint8)}),
        (TypeError, "out must be a NumPy array", {"t": 1, "out": [0, 0, 0]}),
    ],
)
def test_threshold_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.threshold(**{"image": np.zeros(3), **arguments})
