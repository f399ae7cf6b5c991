from __future__ import annotations

import warnings

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.reconstruction.reconstruction


def pair(rng, shape, dtype, method):
    """A seed and its limits."""
    one, other = random_image(rng, shape, dtype), random_image(rng, shape, dtype)
    below, above = np.minimum(one, other), np.maximum(one, other)
    return (below, above) if method == "dilation" else (above, below)


@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference(rng, isa, dtype, method):
    for shape in (s for s in SHAPES if np.prod(s) < 70):
        seed, mask = pair(rng, shape, dtype, method)
        got, expected = ms.reconstruction(seed, mask, method), twin(seed, mask, method)
        assert got.dtype == expected.dtype
        assert_array_equal(got, expected)


@pytest.mark.parametrize("method", ["dilation", "erosion"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_skimage(rng, dtype, method):
    peer = pytest.importorskip("skimage.morphology")
    for shape in [(1,), (200,), (30, 41), (9, 12, 14), (3, 4, 5, 6)]:
        seed, mask = pair(rng, shape, dtype, method)
        footprints = [None, np.ones((1,) * len(shape)), np.ones((5, 1, 3, 1)[: len(shape)])]
        footprints += [rng.random((3,) * len(shape)) < 0.5, rng.random((5,) * len(shape)) < 0.2]
        for footprint in footprints:
            with np.errstate(invalid="ignore"):
                expected = peer.reconstruction(seed, mask, method, footprint)
            got = ms.reconstruction(seed, mask, method, footprint)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)


def test_mixed_dtypes_equal_skimage(rng):
    peer = pytest.importorskip("skimage.morphology")
    for first in DTYPES:
        for second in DTYPES:
            seed = rng.integers(0, 2, (6, 7)).astype(first)
            mask = rng.integers(1, 2, (6, 7)).astype(second)
            expected = peer.reconstruction(seed, mask)
            got = ms.reconstruction(seed, mask)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)


def test_values_turn_back_in_a_spiral(rng):
    """Scans alone do not follow: the queue must."""
    peer = pytest.importorskip("skimage.morphology")
    mask = np.zeros((41, 41), np.uint8)
    for ring in range(0, 20, 2):
        mask[ring, ring : 41 - ring] = mask[40 - ring, ring : 41 - ring] = 200
        mask[ring : 41 - ring, ring] = mask[ring : 41 - ring, 40 - ring] = 200
        mask[ring + 1, ring] = 0
        mask[ring + 2, ring + 1] = 200
    mask[mask > 0] -= rng.integers(0, 50, (mask > 0).sum()).astype(np.uint8)
    seed = np.zeros_like(mask)
    seed[0, 0] = mask[0, 0]
    footprint = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    expected = peer.reconstruction(seed, mask, footprint=footprint)
    assert_array_equal(ms.reconstruction(seed, mask, footprint=footprint), expected)


def test_offset_moves_the_centre(rng):
    for footprint, offset in [(np.ones((2, 3)), (0, 1)), (np.ones((1, 2)), (0, 1))]:
        seed, mask = pair(rng, (7, 8), np.uint8, "dilation")
        got = ms.reconstruction(seed, mask, footprint=footprint, offset=offset)
        assert_array_equal(got, twin(seed, mask, "dilation", footprint, offset))
    seed, mask = pair(rng, (40,), np.int16, "erosion")
    expected = twin(seed, mask, "erosion", np.ones(4), (1,))
    assert_array_equal(ms.reconstruction(seed, mask, "erosion", np.ones(4), [1]), expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_lets_nothing_through(rng, dtype):
    nan = np.nan
    seed, mask = np.array([5, 0, 0, 0], dtype), np.array([5, 4, nan, 4], dtype)
    assert_array_equal(ms.reconstruction(seed, mask), [5, 4, nan, 0])
    for method in ("dilation", "erosion"):
        seed, mask = pair(rng, (6, 7), dtype, method)
        seed[rng.random(seed.shape) < 0.1] = nan
        mask[rng.random(seed.shape) < 0.1] = -nan
        assert_array_equal(ms.reconstruction(seed, mask, method), twin(seed, mask, method))


def test_layout_and_out(rng, layout):
    seed, mask = pair(rng, (5, 9, 8), np.float32, "dilation")
    expected = twin(seed, mask)
    assert_array_equal(ms.reconstruction(layout(seed), layout(mask)), expected)
    out = layout(np.ones(mask.shape, np.float32))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.reconstruction(seed, mask, out=out)
        return
    assert ms.reconstruction(seed, mask, out=out) is out
    assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "seed must be bool, integer or float", {"seed": np.zeros((3, 3), complex)}),
        (ValueError, "seed must have the shape of mask", {"seed": np.zeros(3)}),
        (ValueError, "seed must not be above mask", {"seed": np.full((3, 3), 2)}),
        (ValueError, "seed must not be below mask", {"method": "erosion"}),
        (ValueError, 'method must be "dilation" or "erosion"', {"method": "opening"}),
        (ValueError, "footprint must have 2 dimensions", {"footprint": np.ones(3)}),
        (ValueError, "footprint must be an array, got rows of", {"footprint": [[1, 1], [1]]}),
        (ValueError, "footprint must have odd extents", {"footprint": np.ones((3, 2))}),
        (ValueError, "offset must lie inside", {"offset": (3, 0)}),
        (ValueError, "offset must lie inside", {"offset": (1,)}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 3), np.float32)}),
    ],
)
def test_bad_input(error, message, arguments):
    given = {"seed": np.zeros((3, 3)), "mask": np.ones((3, 3)), **arguments}
    with pytest.raises(error, match=f"reconstruction: {message}"):
        ms.reconstruction(**given)


@pytest.mark.parametrize("name", ["h_maxima", "h_minima"])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
def test_h_extrema_equal_skimage(rng, threads, dtype, name):
    peer = getattr(pytest.importorskip("skimage.morphology"), name)
    ours = getattr(ms, name)
    for shape in [(1,), (60,), (11, 13), (5, 6, 7)]:
        image = rng.integers(0, 100, shape)
        if dtype.kind == "f":
            image = image / 7 - 5
        elif dtype.kind == "i":
            image = image - 30
        image = image.astype(dtype)
        ring = np.ones((3,) * len(shape))
        ring[(0,) * len(shape)] = 0
        for h in (1, 2.0, 2.5, 7, np.float32(3), np.float64(0.3), 99, 200):
            for footprint in (None, ring):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    expected = peer(image, h, footprint)
                    got = ours(image, h, footprint)
                assert got.dtype == expected.dtype
                assert_array_equal(got, expected)


def test_h_extrema_at_the_ends_of_the_type():
    image = np.array([-128, 127, -128, 0, -128], np.int8)
    assert ms.h_maxima(image, 129).tolist() == [0, 1, 0, 0, 0]
    assert ms.h_maxima(image, 128).tolist() == [0, 1, 0, 1, 0]
    assert ms.h_minima(np.array([255, 0, 255, 3, 250], np.uint8), 248).tolist() == [0, 1, 0, 1, 0]


def test_h_extrema_warn_and_raise():
    image = np.array([0, 3, 0], np.uint8)
    for function in (ms.h_maxima, ms.h_minima):
        name = function.__name__
        with pytest.warns(UserWarning, match="possible precision loss") as caught:
            function(image, 1.5)
        assert caught[0].filename == __file__
        with pytest.raises(ValueError, match=f"{name}: h must not be 0"):
            function(image, 0)
        with pytest.raises(ValueError, match=f"{name}: h must be positive"):
            function(image, -1)
        with pytest.raises(ValueError, match=f"{name}: h must be a number, got NaN"):
            function(image, np.nan)
        with pytest.raises(TypeError, match=f"{name}: image must be integer or float"):
            function(image > 0, 1)
        out = np.zeros(3, np.uint8)
        assert function(image, 2, out=out) is out
        assert out.any()
        assert function(np.zeros((0, 3)), 1).shape == (0, 3)
