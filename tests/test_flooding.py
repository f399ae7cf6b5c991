from __future__ import annotations

import numpy as np
import pytest
from _regions import FULL, index, patchy, structure
from conftest import DTYPES
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import region as reference

SKIMAGE_DTYPES = [d for d in DTYPES if d != np.float16]


@pytest.mark.parametrize("dtype", SKIMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("shape", FULL, ids=str)
def test_flood_equals_scikit_image(rng, shape, dtype):
    peer = pytest.importorskip("skimage.morphology").flood
    image = patchy(rng, shape, dtype, 7)
    for tolerance in (None, 1, -2, 1.5, 1e9):
        for connectivity in (None, 0, 1):
            seed = index(rng, shape)
            options = {"tolerance": tolerance, "connectivity": connectivity}
            mask = ms.flood(image, seed, **options)
            assert_array_equal(mask, peer(image, seed, **options), str(options))


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float32], ids=str)
@pytest.mark.parametrize("tolerance", [None, 0, -2, 1.5])
def test_flood_equals_reference(rng, isa, dtype, tolerance):
    for shape in [(67,), (13, 65), (4, 5, 20)]:
        image = patchy(rng, shape, dtype, 7)
        for connectivity in range(1, len(shape) + 1):
            options = {"tolerance": tolerance, "connectivity": connectivity}
            seed = index(rng, shape)
            expected = reference.flood(image, seed, **options)
            assert_array_equal(ms.flood(image, seed, **options), expected)


def test_negative_seeds_count_from_the_end_as_in_scikit_image(rng):
    peer = pytest.importorskip("skimage.morphology")
    image = patchy(rng, (7, 8, 9), np.uint8, 7)
    for seed in ((-1, -1, -1), (-7, 3, -2), (0, -8, 8)):
        assert_array_equal(ms.flood(image, seed), peer.flood(image, seed))
        assert_array_equal(ms.flood_fill(image, seed, 200), peer.flood_fill(image, seed, 200))
    assert_array_equal(ms.flood(image[0, 0], -1), peer.flood(image[0, 0], -1))


def test_flood_fractional_tolerance_is_scikit_images(rng):
    image = np.array([2, 3, 4, 5, 6], np.uint8)
    assert ms.flood(image, 2, tolerance=0.5).tolist() == [False, True, True, False, False]
    assert ms.flood(image.astype(np.int8) - 8, 2, tolerance=0.5).tolist() == [
        False, False, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(41,), (19, 23), (6, 7, 11), (3, 4, 3, 5)], ids=str)
def test_flood_footprints_equal_scikit_image(rng, shape):
    peer = pytest.importorskip("skimage.morphology").flood
    for trial in range(12):
        image = patchy(rng, shape, np.float32)
        size = tuple(int(n) for n in rng.choice([1, 3, 5], len(shape)))
        footprint = rng.random(size) < 0.4
        footprint[tuple(n // 2 for n in size)] = True  # scikit-image loses a neighbour without it
        seed, tolerance = index(rng, shape), rng.choice([0, 1])
        mask = ms.flood(image, seed, footprint=footprint, tolerance=tolerance)
        assert_array_equal(mask, peer(image, seed, footprint=footprint, tolerance=tolerance))
        footprint[tuple(n // 2 for n in size)] = False
        assert_array_equal(
            mask, ms.flood(image, seed, footprint=footprint, tolerance=tolerance), str(trial)
        )


def test_flood_footprint_beyond_the_image():
    image = np.ones((3, 4), np.uint8)
    footprint = np.zeros((9, 13), bool)
    footprint[4, 8] = footprint[0, 6] = footprint[6, 6] = True  # steps (0, 2), (-4, 0), (2, 0)
    mask = ms.flood(image, (0, 1), footprint=footprint)
    assert np.argwhere(mask).tolist() == [[0, 1], [0, 3], [2, 1], [2, 3]]
    assert ms.flood(image, (1, 1), footprint=np.zeros((3, 3))).sum() == 1


def test_flood_footprint_of_a_connectivity_is_that_connectivity(rng):
    image = patchy(rng, (9, 10, 70), np.uint8)
    for connectivity in (1, 2, 3):
        footprint = structure(3, connectivity)
        assert_array_equal(
            ms.flood(image, (4, 4, 4), footprint=footprint),
            ms.flood(image, (4, 4, 4), connectivity=connectivity),
        )


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int8])
def test_flood_at_the_ends_of_the_dtype(dtype):
    info = np.iinfo(dtype)
    image = np.array([info.max, info.max - 1, info.max - 3, info.min], dtype)
    assert ms.flood(image, 0, tolerance=2).tolist() == [True, True, False, False]
    assert ms.flood(image, 0, tolerance=2**70).all()
    assert ms.flood(image, 0, tolerance=np.inf).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_flood_nan_and_infinity(dtype):
    image = np.array([1, np.inf, np.inf, 1, np.nan, 1, -np.inf], dtype)
    assert ms.flood(image, 0, tolerance=np.inf).tolist() == [True] + [False] * 6
    assert ms.flood(image, 1).tolist() == [False, True, True] + [False] * 4
    assert ms.flood(image, 1, tolerance=1).tolist() == [False, True] + [False] * 5
    assert ms.flood(image, 3, tolerance=1).tolist() == [False] * 3 + [True] + [False] * 3
    for call in (ms.flood, lambda *a: ms.flood_fill(*a, 5)):
        with pytest.raises(ValueError, match=r"seed_point .* lies on NaN"):
            call(image, 4)


@pytest.mark.parametrize("dtype", SKIMAGE_DTYPES, ids=str)
@pytest.mark.parametrize("in_place", [False, True])
def test_flood_fill_equals_scikit_image(rng, layout, dtype, in_place):
    peer = pytest.importorskip("skimage.morphology").flood_fill
    image = patchy(rng, (7, 9, 70), dtype)
    ours = layout(image)
    before = ours.copy()
    expected = peer(image, (3, 4, 5), 1, connectivity=2)
    if in_place and not ours.flags.writeable:
        with pytest.raises(ValueError, match="writable"):
            ms.flood_fill(ours, (3, 4, 5), 1, connectivity=2, in_place=True)
        return
    result = ms.flood_fill(ours, (3, 4, 5), 1, connectivity=2, in_place=in_place)
    assert (result is ours) == in_place
    assert result.dtype == ours.dtype
    assert_array_equal(result, expected)
    assert_array_equal(ours, expected if in_place else before)


def test_flood_fill_writes_nothing_around_a_view():
    big = np.full((8, 9), 42, np.int16)
    view = big[1:7:2, 1:8:3]
    view[...] = 1
    ms.flood_fill(view, (0, 0), 5, in_place=True)
    assert_array_equal(view, 5)
    assert (big == 42).sum() == big.size - view.size


def test_flood_fill_converts_as_assignment_does():
    image = np.array([1, 1, 2], np.uint8)
    assert ms.flood_fill(image, 0, 2.7).tolist() == [2, 2, 2]
    assert ms.flood_fill(image, 0, [7, 8]).tolist() == [7, 8, 2]
    assert ms.flood_fill(image.astype(">i2"), 0, 258).tolist() == [258, 258, 2]
    for bad in (300, -1):
        with pytest.raises(OverflowError):
            ms.flood_fill(image, 0, bad, in_place=True)
    with pytest.raises(ValueError, match="assign"):
        ms.flood_fill(image, 0, [7, 8, 9], in_place=True)
    assert image.tolist() == [1, 1, 2]
    assert ms.flood_fill(np.zeros((0, 3)), (0, 0), 5).shape == (0, 3)


def test_uneven_footprint():
    with pytest.raises(ValueError, match="footprint must be an array, got rows of uneven"):
        ms.flood(np.zeros((3, 3)), (1, 1), footprint=[[1, 1], [1]])


def test_flood_fill_out(rng):
    image = patchy(rng, (8, 9), np.float32)
    out = np.empty((9, 8), np.float32).T
    assert ms.flood_fill(image, (1, 1), 9, out=out) is out
    assert_array_equal(out, ms.flood_fill(image, (1, 1), 9))
    with pytest.raises(ValueError, match="out cannot be given"):
        ms.flood_fill(image, (1, 1), 9, in_place=True, out=out)
    with pytest.raises(TypeError, match="NumPy array to be changed in place"):
        ms.flood_fill([1, 2], 0, 9, in_place=True)
