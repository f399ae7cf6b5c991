"""Geodesic distances and the segmentation by them."""

from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, LAYOUTS, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference


def both(image, markers, spacing, spatial, intensity, connectivity):
    options = {
        "spacing": spacing,
        "spatial_weight": spatial,
        "intensity_weight": intensity,
        "connectivity": connectivity,
    }
    labels, distance = ms.geodesic_segmentation(image, markers, return_distance=True, **options)
    assert_array_equal(distance, ms.geodesic_distance(image, markers != 0, **options))
    assert_array_equal(labels, ms.geodesic_segmentation(image, markers, **options))
    return labels, distance


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_equals_the_twin(data):
    """Few values and whole weights: many ties, and none but exact distances."""
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = rng.integers(0, 3, shape).astype(data.draw(st.sampled_from([np.uint8, np.float64])))
    markers = rng.integers(0, 3, shape) * (rng.random(shape) < 0.3)
    markers[tuple(n // 2 for n in shape)] = 3
    spacing = tuple(data.draw(st.sampled_from([0.5, 1.0, 2.0])) for _ in shape)
    spatial = data.draw(st.sampled_from([0.0, 1.0, 0.3]))
    intensity = data.draw(st.sampled_from([0.0, 1.0, 2.5]))
    connectivity = data.draw(st.integers(1, len(shape)))
    arguments = (image, markers, spacing, spatial, intensity, connectivity)
    labels, distance = both(*arguments)
    expected = reference.geodesic.geodesic_segmentation(*arguments)
    assert_array_equal(labels, expected[0])
    assert_array_equal(distance, expected[1])


def test_without_intensity_it_is_a_distance_on_the_grid(rng):
    image = rng.random((40, 50))
    got = ms.geodesic_distance(image, (20, 20), intensity_weight=0)
    rows, columns = np.abs(np.indices(image.shape) - 20)
    expected = np.abs(rows - columns) + np.sqrt(2) * np.minimum(rows, columns)
    assert_allclose(got, expected, rtol=1e-12)


def test_a_step_keeps_labels_apart():
    image = np.zeros((30, 40))
    image[:, 25:] = 50
    markers = np.zeros(image.shape, np.uint8)
    markers[15, 2], markers[15, 27] = 1, 2
    assert_array_equal(ms.geodesic_segmentation(image, markers), np.where(image > 0, 2, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    image = random_image(rng, (9, 11), dtype)
    image[4, 5] = 1
    markers = np.zeros(image.shape, np.int16)
    markers[4, 5] = 7
    labels, distance = both(image, markers, None, 1.0, 0.1, 2)
    with np.errstate(invalid="ignore"):
        wide = ms.geodesic_distance(image.astype(np.float64), (4, 5), intensity_weight=0.1)
    assert_array_equal(distance, wide)
    assert labels.dtype == np.int16
    assert_array_equal(labels, np.where(np.isfinite(distance), 7, 0))


@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in s], ids=str)
def test_every_shape_and_layout(rng, shape):
    image = rng.random(shape).astype(np.float32)
    markers = np.zeros(shape, np.uint8)
    markers.flat[0], markers.flat[-1] = 1, 2
    arguments = (None, 1.0, 1.0, len(shape))
    expected = both(image, markers, *arguments)
    for layout in LAYOUTS.values():
        for got, one in zip(
            both(layout(image), layout(markers), *arguments), expected, strict=True
        ):
            assert_array_equal(got, one)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int32, np.uint64])
def test_labels_keep_their_dtype_and_order(dtype):
    most = np.iinfo(dtype).max if dtype is not bool else True
    markers = np.array([most, 0, 0, 0, 0], dtype)
    assert ms.geodesic_segmentation(np.zeros(5), markers).tolist() == [most] * 5
    if np.dtype(dtype).kind == "i":
        markers[4] = -3  # the least label wins the tie in the middle
        assert ms.geodesic_segmentation(np.zeros(5), markers).tolist() == [most, most, -3, -3, -3]


def test_nan_infinity_and_limits():
    image = np.array([0, 1, np.nan, 0, np.inf, 0])
    markers = np.array([1, 0, 0, 0, 0, 2])
    labels, distance = ms.geodesic_segmentation(
        image, markers, intensity_weight=0, return_distance=True
    )
    # Without intensity NaN * 0 and inf * 0 are still no distances.
    assert labels.tolist() == [1, 1, 0, 0, 0, 2]
    assert distance.tolist() == [0, 1, np.inf, np.inf, np.inf, 0]
    got = ms.geodesic_distance(np.zeros(6), 0, max_distance=2)
    assert got.tolist() == [0, 1, 2, np.inf, np.inf, np.inf]
    labels = ms.geodesic_segmentation(np.zeros(6), [4, 0, 0, 0, 0, 0], max_distance=2)
    assert labels.tolist() == [4, 4, 4, 0, 0, 0]


def test_out(rng):
    image = rng.random((9, 8))
    markers = np.zeros(image.shape, np.uint8)
    markers[2, 2] = 5
    distance, labels = np.zeros((8, 9)).T, np.zeros((8, 9), np.uint8).T
    assert ms.geodesic_distance(image, (2, 2), out=distance) is distance
    assert_array_equal(distance, ms.geodesic_distance(image, (2, 2)))
    assert ms.geodesic_segmentation(image, markers, out=labels) is labels
    assert (labels == 5).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ms.geodesic_distance([1j], 0), TypeError, "image must"),
        (lambda: ms.geodesic_distance([1, np.nan], 1), ValueError, "lies on NaN"),
        (lambda: ms.geodesic_distance([1, 2], 2), ValueError, "seeds must lie within"),
        (
            lambda: ms.geodesic_distance([1, 2], 0, spatial_weight=-1),
            ValueError,
            "spatial_weight must",
        ),
        (
            lambda: ms.geodesic_distance([1, 2], 0, intensity_weight=np.inf),
            ValueError,
            "intensity_weight must",
        ),
        (lambda: ms.geodesic_distance([1, 2], 0, connectivity=2), ValueError, "connectivity must"),
        (lambda: ms.geodesic_segmentation([1, 2], [0, 0]), ValueError, "markers must hold"),
        (lambda: ms.geodesic_segmentation([1, 2], [0.0, 1]), TypeError, "markers must be integers"),
        (
            lambda: ms.geodesic_segmentation([1, 2], [0, 1, 2]),
            ValueError,
            "markers must have shape",
        ),
        (
            lambda: ms.geodesic_segmentation([1, np.nan], [0, 1]),
            ValueError,
            "markers must not lie on NaN",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "most"),
    [
        ("ms.geodesic_distance(image, (9, 9))", 18 + 8),
        ("ms.geodesic_segmentation(image, markers)", 20 + 1),
    ],
)
def test_peak_memory(call, most):
    setup = """
    image = np.random.default_rng(0).random((2000, 2000)).astype(np.float32)
    markers = np.zeros(image.shape, np.uint8)
    markers[:] = 0
    markers[5, 5] = 3
    """
    assert peak_bytes_per_pixel(call, setup=setup) < most + 1.2
