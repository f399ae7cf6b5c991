"""Labels, regions and hysteresis on a GPU equal those of the CPU and of the slow twins."""

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
SHAPES = [(0,), (1,), (67,), (0, 5), (1, 1), (8, 32), (9, 33), (17, 65), (1, 130), (40, 3)]
SHAPES += [(3, 0, 2), (1, 1, 1), (3, 9, 33), (5, 7, 9), (1, 20, 1, 34)]


def same(got, expected):
    assert got.dtype == expected.dtype
    assert_array_equal(got, expected)


def spiral(n):
    """One path that winds through many tiles."""
    image = np.zeros((n, n), np.uint8)
    image[::4] = 1
    image[1::4, -1] = image[2::4, -1] = image[3::4, -1] = 1
    image[1::8, -1] = image[2::8, -1] = image[3::8, -1] = 0
    image[1::8, 0] = image[2::8, 0] = image[3::8, 0] = 1
    return image


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_label_of_masks(rng, shape):
    ndim = len(shape)
    for density in (0.3, 0.6):
        mask = rng.random(shape) < density
        for connectivity in range(1, ndim + 1):
            got = on_shim("label", mask, connectivity=connectivity)
            same(got, ms.label(mask, connectivity=connectivity))
            if mask.size < 100:
                twin, _ = reference.components.label(mask, connectivity=connectivity)
                assert_array_equal(got, twin)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_label_of_values(rng, dtype):
    image = np.clip(random_image(rng, (9, 37), dtype), 0, 2)
    if image.dtype.kind == "f":
        image[2:4, 3:9] = np.nan
        image[5, :9] = -0.5
    for background in (None, 1, 77):
        got, count = on_shim("label", image, background, True, 1, schedules=2)
        expected, number = ms.label(image, background, True, 1)
        same(got, expected)
        assert count == number


def test_label_of_a_spiral_and_of_one_component():
    for image in (spiral(70), np.ones((70, 70), np.uint8), np.ones((3, 20, 40), bool)):
        same(on_shim("label", image, connectivity=1), ms.label(image, connectivity=1))


def test_label_beyond_one_round_of_blocks(rng, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    image = rng.random((60, 90)) < 0.5
    same(on_shim("label", image, schedules=3), ms.label(image))


def test_label_with_wide_indices(rng, monkeypatch):
    monkeypatch.setattr("medseg_fast._gpu._components.index_type", lambda n: np.dtype(np.int64))
    image = rng.random((3, 17, 41)) < 0.5
    same(on_shim("label", image, schedules=3), ms.label(image))


def test_label_dtype_and_out(rng):
    image = rng.random((20, 40)) < 0.4
    for dtype in ("smallest", np.int16, np.uint64):
        same(on_shim("label", image, dtype=dtype, schedules=1), ms.label(image, dtype=dtype))
    out = np.zeros((20, 80), np.int16)[:, ::2]
    assert on_shim("label", image, out=out, schedules=1) is out
    assert_array_equal(out, ms.label(image))
    with pytest.raises(ValueError, match="cannot hold"):
        on_shim("label", np.indices((20, 40)).sum(0) % 2, dtype=np.int8, connectivity=1)
    with pytest.raises(NotImplementedError, match="label: no GPU kernel for more than 3 axes"):
        on_shim("label", np.ones((2, 2, 2, 2)))


@pytest.mark.parametrize("shape", [(9, 33), (20, 70), (3, 9, 20), (67,)], ids=str)
def test_connected_threshold_and_flood(rng, shape):
    for dtype in (np.uint8, np.int16, np.float32, np.float64, np.bool_):
        image = rng.integers(0, 4, shape).astype(dtype)
        seeds = rng.integers(0, shape, (3, len(shape)))
        for connectivity in range(1, len(shape) + 1):
            args = image, seeds, 1, 2.5, connectivity
            same(on_shim("connected_threshold", *args, schedules=3), ms.connected_threshold(*args))
            seed = tuple(map(int, seeds[0]))
            for tolerance in (None, 1):
                options = {"connectivity": connectivity, "tolerance": tolerance}
                got = on_shim("flood", image, seed, schedules=2, **options)
                same(got, ms.flood(image, seed, **options))


@pytest.mark.parametrize("shape", [(0, 5), (9, 33), (40, 50), (5, 9, 34), (60,), (1, 1)], ids=str)
def test_fill_holes(rng, shape):
    for density in (0.5, 0.75):
        mask = rng.random(shape) < density
        for connectivity in range(1, len(shape) + 1):
            got = on_shim("fill_holes", mask, connectivity=connectivity, schedules=2)
            same(got, ms.fill_holes(mask, connectivity=connectivity))
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    if len(shape) == 2:
        given = mask.astype(np.float32) * 3
        same(on_shim("fill_holes", given, cross), ms.fill_holes(given, cross))
        out = mask.copy()
        assert on_shim("fill_holes", out, out=out, schedules=1) is out
        same(out, ms.fill_holes(mask))
    with pytest.raises(ValueError, match="fill_holes: mask must not contain NaN"):
        on_shim("fill_holes", np.array([np.nan]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64, np.bool_], ids=str)
def test_flood_fill(rng, dtype):
    image = rng.integers(0, 3, (20, 40)).astype(dtype)
    for new_value in (1, 7.9, np.float32(2)):
        same(
            on_shim("flood_fill", image, (4, 5), new_value, schedules=2),
            ms.flood_fill(image, (4, 5), new_value),
        )
    view = np.zeros((20, 80), dtype)[:, ::2]
    for options in ({"in_place": True}, {"out": view}):
        given = image.copy()
        got = on_shim("flood_fill", given, (4, 5), 9, tolerance=1, schedules=1, **options)
        assert got is (given if "in_place" in options else view)
        assert_array_equal(got, ms.flood_fill(image, (4, 5), 9, tolerance=1))
    with pytest.raises(ValueError, match="out cannot be given with in_place"):
        on_shim("flood_fill", image, (4, 5), 9, in_place=True, out=view)
    with pytest.raises(ValueError, match="flood_fill: seed_point must lie within"):
        on_shim("flood_fill", image, (40, 5), 9)
    with pytest.raises(OverflowError, match="flood_fill: new_value must fit uint8, got 300"):
        on_shim("flood_fill", image.astype(np.uint8), (4, 5), 300)


def test_regions_at_their_limits(rng):
    image = np.array([[1, np.inf, np.nan, 4.0]], np.float32)
    same(on_shim("flood", image, (0, 1), tolerance=3), ms.flood(image, (0, 1), tolerance=3))
    with pytest.raises(ValueError, match=r"connected_threshold: seeds \(0, 2\) lies on NaN"):
        on_shim("connected_threshold", image, (0, 2), 0, 9)
    with pytest.raises(NotImplementedError, match="max_voxels=2"):
        on_shim("connected_threshold", np.ones((4, 4)), (0, 2), 0, 9, max_voxels=2)
    assert on_shim("connected_threshold", np.ones((2, 2)), (0, 1), 0, 9, max_voxels=4).all()
    assert not on_shim("connected_threshold", np.ones((2, 2)), (0, 1), 3, 9).any()
    assert on_shim("flood", np.ones((0, 4)), (0, 0)).shape == (0, 4)
    with pytest.raises(NotImplementedError, match="flood: no GPU kernel for this footprint"):
        on_shim("flood", np.ones((4, 4)), (0, 2), footprint=np.ones((5, 1)))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64], ids=str)
def test_hysteresis(rng, dtype):
    for shape in [(9, 33), (3, 10, 35), (67,), (0, 3)]:
        image = np.clip(rng.normal(2, 2, shape), 0, 9).astype(dtype)
        for low, high in [(1, 3), (2.5, 2.5), (4, 1), (-1, 99), (0, np.inf)]:
            for connectivity in (1, len(shape)):
                options = {"connectivity": connectivity}
                got = on_shim(
                    "apply_hysteresis_threshold", image, low, high, schedules=2, **options
                )
                same(got, ms.apply_hysteresis_threshold(image, low, high, **options))
    with pytest.raises(NotImplementedError, match="thresholds that are arrays"):
        on_shim("apply_hysteresis_threshold", image, np.zeros(image.shape), 2)
