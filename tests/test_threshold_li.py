from __future__ import annotations

import numpy as np
import pytest
from _thresholds import FLOATS, scan, scikit_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import threshold_histogram as reference


@pytest.fixture(scope="module")
def peer():
    return scikit_image()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("tolerance", [None, 0.001, 0.5, 3])
def test_li_equals_reference_and_skimage(rng, peer, dtype, tolerance):
    image = scan(rng, (30, 30), dtype) - (20 if np.dtype(dtype).kind != "u" else 0)
    gap = np.diff(np.unique(image)).min() if image.dtype.kind == "f" else 1
    found, trace, wanted_trace = None, [], []
    found = ms.threshold_li(image, tolerance=tolerance, iter_callback=trace.append)
    wanted = peer("li", image, tolerance=tolerance, iter_callback=wanted_trace.append)
    # float32 means of 900 values near 60: a few units in the last place at every iteration
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    assert np.isclose(found, wanted, rtol=rtol)
    assert np.allclose(trace, wanted_trace, rtol=rtol)
    assert type(found) is type(wanted)
    exact = reference.threshold_li(image, tolerance or gap / 2)
    assert np.isclose(found, exact, rtol=rtol)
    assert ms.threshold_li(image, tolerance=tolerance) == found


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32], ids=str)
@pytest.mark.parametrize("guess", [40, 99.5, np.mean, np.median])
def test_li_initial_guess(rng, peer, dtype, guess):
    image = scan(rng, (30, 30), dtype)
    found, wanted = (
        f(image, initial_guess=guess)
        for f in (ms.threshold_li, lambda *a, **k: peer("li", *a, **k))
    )
    assert np.isclose(
        found,
        wanted,
        rtol=8 * np.finfo(np.float32).eps if dtype != np.float16 else 8 * np.finfo(np.float16).eps,
    )
    for bad in (-1, 1000, lambda pixels: 1000.0):
        with pytest.raises(ValueError, match="initial guess for threshold_li must be within"):
            ms.threshold_li(image, initial_guess=bad)
    with pytest.raises(TypeError, match="Incorrect type for `initial_guess`"):
        ms.threshold_li(image, initial_guess=np.ones(2))


def test_li_guess_sees_pixels_without_overflow():
    image = np.array([-128, -100, 100, 127], np.int8)
    seen = []
    ms.threshold_li(image, initial_guess=lambda pixels: seen.append(pixels) or 100.0)
    assert seen[0].tolist() == [0, 28, 228, 255]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_li_ignores_what_is_not_finite(rng, peer, dtype):
    image = scan(rng, (20, 30), dtype)
    image.flat[[3, 50, 333]] = np.nan, np.inf, -np.inf
    rtol = 8 * np.finfo(dtype).eps
    assert np.isclose(ms.threshold_li(image), peer("li", image), rtol=rtol)
    for values, wanted in [
        ([np.nan], np.nan),
        ([np.inf, np.inf], np.inf),
        ([np.inf, -np.inf], 0),
        ([2, np.inf, 2], 2),
    ]:
        assert_array_equal(ms.threshold_li(np.array(values, dtype)), wanted)


@pytest.mark.parametrize("distinct", [3, 90_000])
def test_li_default_tolerance_of_a_large_image(rng, distinct):
    """More pixels than the sample: few values (exact gap needed) and many."""
    values = np.sort(rng.random(distinct)).astype(np.float64)
    image = rng.choice(values, 100_000)
    trace = []
    found = ms.threshold_li(image, iter_callback=trace.append)
    gap = np.diff(np.unique(image)).min()
    assert found == ms.threshold_li(image, tolerance=gap / 2)
    assert trace[-1] == found
    assert found == ms.threshold_li(image)


def test_li_ends_where_rounding_circles():
    """float32 means need not settle; scikit-image goes round for ever on such an image."""
    image = np.random.default_rng(0).normal(100, 20, 300_000).astype(np.float32)
    image[:150_000] += 90
    assert 130 < ms.threshold_li(image) < 150
    assert 130 < ms.threshold_li(image, tolerance=1e-30) < 150
