"""Niblack's and Sauvola's thresholds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from _local_thresholds import CASES, SINGLE, limited, sizes_of
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import threshold_local as twin


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "block"), CASES, ids=str)
def test_niblack_and_sauvola_equal_twin(rng, isa, shape, block, dtype):
    image = limited(rng, shape, dtype)
    sizes = sizes_of(block, image.ndim)
    wide = image.astype(np.float64)
    largest = float(np.abs(wide).max())
    # The variance loses about eps * largest**2 to cancellation where its numerator is not exact
    # (n additions each rounded); the result is then rounded to its own dtype.
    n = math.prod(sizes)
    exact = image.dtype.kind in "bui" and image.dtype.itemsize <= 2 and n * largest < 2**26
    eps = np.finfo(np.float64).eps
    atol = largest * (8 * eps if exact else math.sqrt(4 * eps * n))
    if image.dtype in SINGLE:
        atol += largest * 4 * float(np.finfo(np.float32).eps)
    expected = twin.of_windows(image, sizes, "mirror", 0, twin.niblack(0.3))
    assert_allclose(ms.threshold_niblack(image, block, 0.3), expected, rtol=0, atol=atol)
    r = max(largest, 1.0)
    expected = twin.of_windows(image, sizes, "mirror", 0, twin.sauvola(0.3, r))
    assert_allclose(ms.threshold_sauvola(image, block, 0.3, r), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "float32", "float64"])
@pytest.mark.parametrize("name", ["threshold_niblack", "threshold_sauvola"])
def test_niblack_and_sauvola_equal_scikit_image(rng, name, dtype):
    filters = pytest.importorskip("skimage.filters")
    for shape, size in [((40, 70), 15), ((9, 33, 21), (1, 5, 7)), ((12, 9), 35), ((60,), 7)]:
        image = limited(rng, shape, dtype)
        ours, peer = (getattr(m, name)(image, size) for m in (ms, filters))
        assert ours.dtype == peer.dtype
        # Its integral images round sums of the whole image's squares in float64, which the
        # difference of mean square and squared mean turns into an error of their root; for float32
        # images that difference is taken in float32.
        largest = float(np.abs(image.astype(np.float64)).max())
        total = math.prod(n + s for n, s in zip(shape, sizes_of(size, image.ndim), strict=True))
        relative = float(np.finfo(ours.dtype).eps) * 8 + np.finfo(np.float64).eps * total
        assert_allclose(ours, peer, rtol=0, atol=largest * math.sqrt(relative))


def test_sauvola_of_flat_regions_is_exact():
    """Where nothing varies the standard deviation is 0, not the root of a rounding error."""
    image = np.full((50, 60), 201, np.uint8)
    image[:, :3] = 7
    assert (ms.threshold_niblack(image, 15, 5)[:, 12:] == 201).all()
    assert (ms.threshold_sauvola(image, 15, 0.5, 100)[:, 12:] == 201 * 0.5).all()


def test_sauvola_default_range():
    for dtype, r in [("bool", 0.5), ("uint8", 127.5), ("int16", 32767.5), ("float32", 1.0)]:
        image = (np.arange(60).reshape(6, 10) % 2).astype(dtype)
        assert_array_equal(ms.threshold_sauvola(image, 3), ms.threshold_sauvola(image, 3, r=r))


@pytest.mark.parametrize("name", ["threshold_niblack", "threshold_sauvola"])
@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "window_size must be odd", {"window_size": 4}),
        (ValueError, "window_size", {"window_size": (3,)}),
        (TypeError, "window_size must be an integer", {"window_size": 2.5}),
        (ValueError, "k must be a number, got NaN", {"k": np.nan}),
        (TypeError, "out must be a NumPy array", {"out": [[0]]}),
    ],
)
def test_niblack_and_sauvola_bad_input(name, error, message, arguments):
    with pytest.raises(error, match=f"{name}: .*{message}"):
        getattr(ms, name)(np.zeros((3, 3)), **arguments)


def test_sauvola_bad_range():
    with pytest.raises(ValueError, match="threshold_sauvola: r must not be 0"):
        ms.threshold_sauvola(np.zeros((3, 3)), r=0)
