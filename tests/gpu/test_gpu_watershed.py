"""Watershed and regional minima on a GPU: the CPU's, ties and plateaus included."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from conftest import DTYPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._gpu import _device

pytestmark = needs_compiler

# Around the tile of 8 by 32 pixels, thin, empty, volumes.
SHAPES = [(0,), (1,), (67,), (0, 5), (1, 1), (9, 33), (17, 65), (1, 130), (40, 3), (3, 0, 2)]
SHAPES += [(3, 9, 33), (1, 20, 1, 34)]


def same(got, expected):
    assert got.dtype == expected.dtype
    assert_array_equal(got, expected)


def seeds(rng, shape, share, dtype=np.int32):
    markers = np.where(rng.random(shape) < share, rng.integers(1, 100, shape), 0)
    return markers.astype(dtype)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_markers(rng, shape, levels):
    """Few values: plateaus and ties everywhere. Many: each pixel has a value of its own."""
    image = rng.integers(0, levels, shape)
    for share in (0.01, 0.2):
        markers = seeds(rng, shape, share)
        for connectivity in range(1, min(len(shape), 3) + 1):
            got = on_shim("watershed", image, markers, connectivity, schedules=2)
            same(got, ms.watershed(image, markers, connectivity))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(rng, dtype):
    image = random_image(rng, (19, 40), dtype)
    if image.dtype.kind == "f":
        image[2:5, 7:20] = np.nan
        image[9, ::2], image[9, 1::2] = 0.0, -0.0
    markers = seeds(rng, image.shape, 0.03)
    same(on_shim("watershed", image, markers, schedules=2), ms.watershed(image, markers))
    same(on_shim("watershed", image, schedules=2), ms.watershed(image))
    for name in ("local_minima", "local_maxima"):
        for connectivity in (1, 2):
            got = on_shim(name, image, connectivity=connectivity, schedules=2)
            same(got, getattr(ms, name)(image, connectivity=connectivity))


def slow_twin(image, markers, connectivity, *args):
    footprint = np.abs(np.indices((3,) * image.ndim) - 1).sum(0) <= connectivity
    return reference.watershed.watershed(image, markers, footprint, (1,) * image.ndim, *args)


def test_slow_twins(rng):
    for levels in (2, 4, 30, 1000):
        for _ in range(8):
            image = rng.integers(0, levels, (9, 11)).astype(np.float32)
            markers, mask = seeds(rng, image.shape, 0.06), rng.random(image.shape) < 0.9
            got = on_shim("watershed", image, markers, 2, mask=mask, schedules=1)
            assert_array_equal(got, slow_twin(image, markers, 2, mask))
            got = on_shim("local_minima", image, schedules=1)
            assert_array_equal(got, reference.minima.local_minima(image))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("levels", [1, 3, 10_000])
def test_lines(rng, shape, levels):
    """Markers that touch, lines that end, and what a line keeps apart no longer."""
    image = rng.integers(0, levels, shape)
    for share in (0.02, 0.4):
        markers = seeds(rng, shape, share)
        for connectivity in range(1, min(len(shape), 3) + 1):
            args = image, markers, connectivity
            got = on_shim("watershed", *args, watershed_line=True, schedules=2)
            same(got, ms.watershed(*args, watershed_line=True))


def test_lines_of_the_slow_twin_smooth_images_and_masks(rng):
    for levels in (2, 4, 30):
        for _ in range(6):
            image = rng.integers(0, levels, (9, 11)).astype(np.float32)
            markers, mask = seeds(rng, image.shape, 0.08), rng.random(image.shape) < 0.9
            options = {"mask": mask, "watershed_line": True}
            got = on_shim("watershed", image, markers, 2, **options, schedules=1)
            assert_array_equal(got, slow_twin(image, markers, 2, mask, 0, True))
    smooth = ms.gaussian(rng.random((60, 90)), 3)
    image = (smooth * 900 % 200).astype(np.uint8)
    image_of_floats = smooth.copy()
    image_of_floats[20:24, 30:50] = np.nan
    for each in (image, image_of_floats):
        got = on_shim("watershed", each, watershed_line=True, schedules=2)
        same(got, ms.watershed(each, watershed_line=True))


def test_real_order_of_smooth_images(rng):
    """Slopes, lakes behind passes, far fronts that meet on plateaus: many ties of many levels."""
    for dtype, levels in [(np.uint8, 12), (np.uint8, 200), (np.uint16, 30_000)]:
        smooth = ms.gaussian(rng.random((70, 100)), 3)
        smooth = (smooth - smooth.min()) / np.ptp(smooth)
        image = (smooth * levels).astype(dtype)
        for share in (0.001, 0.01):
            markers = seeds(rng, image.shape, share)
            same(on_shim("watershed", image, markers, schedules=2), ms.watershed(image, markers))
        same(on_shim("watershed", image, schedules=1), ms.watershed(image))


def test_far_away_and_around_corners():
    """A spiral of low ground between walls: fronts pass through every tile, several times."""
    image = np.full((41, 71), 9, np.uint8)
    image[::4] = 1
    image[1::8, -1] = image[2::8, -1] = image[3::8, -1] = 1
    image[5::8, 0] = image[6::8, 0] = image[7::8, 0] = 1
    markers = np.zeros(image.shape, np.int16)
    markers[0, 0], markers[-1, -1] = 3, -4
    same(on_shim("watershed", image, markers), ms.watershed(image, markers))


def test_markers_of_every_kind(rng):
    image = rng.integers(0, 6, (20, 40)).astype(np.uint8)
    for dtype in (np.bool_, np.uint8, np.int8, np.int16, np.uint32, np.int64, np.uint64):
        markers = seeds(rng, image.shape, 0.02, dtype)
        same(on_shim("watershed", image, markers, schedules=1), ms.watershed(image, markers))
    mask = rng.random(image.shape) < 0.8
    for markers in (1, 7, 30, 900):
        same(on_shim("watershed", image, markers, schedules=1), ms.watershed(image, markers))
        got = on_shim("watershed", image, markers, mask=mask, schedules=1)
        same(got, ms.watershed(image, markers, mask=mask))
    same(on_shim("watershed", image, mask=mask), ms.watershed(image, mask=mask))
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    markers = seeds(rng, image.shape, 0.02)
    same(on_shim("watershed", image, markers, cross), ms.watershed(image, markers, cross))
    assert not on_shim("watershed", image, np.zeros_like(markers)).any()
    given = markers.copy()
    assert on_shim("watershed", image, given, out=given, schedules=1) is given
    assert_array_equal(given, ms.watershed(image, markers))
    view = np.zeros((20, 80), np.int32)[:, ::2]
    assert on_shim("watershed", image, markers, out=view) is view
    assert_array_equal(view, given)


def test_wide_indices_and_few_blocks(rng, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    for module in ("_components", "watershed"):
        name = f"medseg_fast._gpu.{module}.index_type"
        monkeypatch.setattr(name, lambda n: np.dtype(np.int64))
    image = rng.integers(0, 9, (3, 17, 41))
    same(on_shim("watershed", image, schedules=3), ms.watershed(image))


def shim_minima(*args, **kwargs):
    return on_shim("local_minima", *args, **kwargs)


def test_minima_options(rng):
    image = rng.integers(0, 4, (12, 40)).astype(np.uint8)
    got, expected = (f(image, indices=True) for f in (shim_minima, ms.local_minima))
    for one, other in zip(got, expected, strict=True):
        assert_array_equal(one, other)
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    same(on_shim("local_maxima", image, cross), ms.local_maxima(image, cross))
    assert not on_shim("local_minima", np.ones((3, 4))).any()
    assert on_shim("local_minima", np.ones((0, 4))).shape == (0, 4)
    with pytest.raises(NotImplementedError, match="allow_borders=False"):
        on_shim("local_minima", image, allow_borders=False)
    with pytest.raises(NotImplementedError, match="local_minima: no GPU kernel for this footprint"):
        on_shim("local_minima", image, np.eye(3))


def test_what_has_no_kernel_and_what_is_wrong(rng):
    image, markers = rng.random((5, 6)), np.ones((5, 6), np.int32)
    for options in ({"compactness": 1}, {"connectivity": np.eye(3)}):
        with pytest.raises(NotImplementedError, match="watershed: no GPU kernel for"):
            on_shim("watershed", image, markers, **options)
    with pytest.raises(NotImplementedError, match="more than 3 axes"):
        on_shim("watershed", np.ones((2, 2, 2, 2)), 1)
    with pytest.raises(TypeError, match="watershed: markers must be bool or integer, got float64"):
        on_shim("watershed", image, image)
    with pytest.raises(ValueError, match="watershed: markers must have the image's shape"):
        on_shim("watershed", image, markers[1:])
    with pytest.raises(ValueError, match="watershed: mask must have the image's shape"):
        on_shim("watershed", image, markers, mask=markers[1:])
