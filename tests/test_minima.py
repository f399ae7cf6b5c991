from __future__ import annotations

import warnings

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

PAIRS = [
    (ms.local_minima, reference.minima.local_minima),
    (ms.local_maxima, reference.minima.local_maxima),
]


def few_values(rng, shape, dtype):
    """Many plateaus; infinities and both zeros for floats."""
    image = rng.integers(0, 4, shape).astype(dtype)
    if np.dtype(dtype).kind == "f":
        image[rng.random(shape) < 0.1] = np.inf
        image[rng.random(shape) < 0.1] = -np.inf
        image[rng.random(shape) < 0.1] = -0.0
    return image


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_equals_reference(rng, isa, dtype):
    for shape in (s for s in SHAPES if np.prod(s) < 400):
        for image in (random_image(rng, shape, dtype), few_values(rng, shape, dtype)):
            for ours, twin in PAIRS:
                for connectivity in {1, len(shape)}:
                    got = ours(image, connectivity=connectivity)
                    assert got.dtype == bool
                    assert_array_equal(got, twin(image, connectivity))
                if image.size and min(shape) >= 3:
                    assert_array_equal(ours(image, allow_borders=False), twin(image, None, False))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.name not in ("bool", "float16")], ids=str)
def test_equals_skimage(rng, threads, dtype):
    peer = pytest.importorskip("skimage.morphology")
    for _ in range(25):
        ndim = int(rng.integers(1, 4))
        image = few_values(rng, rng.integers(1, 12, ndim), dtype)
        given_ = [{}, {"connectivity": int(rng.integers(0, 5))}]
        footprint = rng.random((3,) * ndim) < rng.random()
        given_ += [{"footprint": footprint}]
        given_ += [{"footprint": footprint | footprint[(slice(None, None, -1),) * ndim]}]
        for arguments in given_:
            for borders in (True, False):
                for name in ("local_minima", "local_maxima"):
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        expected = getattr(peer, name)(image, allow_borders=borders, **arguments)
                        got = getattr(ms, name)(image, allow_borders=borders, **arguments)
                    assert got.dtype == expected.dtype
                    assert_array_equal(got, expected)


def test_indices_equal_skimage(rng):
    peer = pytest.importorskip("skimage.morphology")
    for shape in [(0,), (3, 0), (50,), (9, 11), (5, 6, 7)]:
        image = rng.integers(0, 9, shape)
        for name in ("local_minima", "local_maxima"):
            got = getattr(ms, name)(image, indices=True)
            expected = getattr(peer, name)(image, indices=True)
            assert isinstance(got, tuple)
            for one, other in zip(got, expected, strict=True):
                assert one.dtype == other.dtype
                assert_array_equal(one, other)


def test_warns_as_skimage_where_nothing_can_be_found():
    peer = pytest.importorskip("skimage.morphology")
    image = np.array([[1, 2], [3, 0], [2, 2]])
    for name, what in (("local_minima", "minima"), ("local_maxima", "maxima")):
        with pytest.warns(UserWarning, match="can't exist for an image with any dimension"):
            expected = getattr(peer, name)(image, allow_borders=False)
        with pytest.warns(UserWarning, match=f"{what} can't exist") as caught:
            assert_array_equal(getattr(ms, name)(image, allow_borders=False), expected)
        assert caught[0].filename == __file__


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_random_plateaus(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=1, max_size=3)))
    values = st.integers(0, data.draw(st.integers(1, 3)))
    size = int(np.prod(shape))
    image = np.array(data.draw(st.lists(values, min_size=size, max_size=size)), np.uint16)
    image = image.reshape(shape)
    connectivity = data.draw(st.integers(1, len(shape)))
    with ms.num_threads(data.draw(st.integers(1, 3))):
        for ours, twin in PAIRS:
            assert_array_equal(ours(image, connectivity=connectivity), twin(image, connectivity))


def test_plateaus_across_slabs_and_strips(threads):
    """A plateau of a million pixels that one lower pixel at its end disqualifies."""
    image = np.ones((1000, 1100), np.uint8)
    image[1:-1:4, 1:] = 2  # a maze of ones, five rows wide turns
    image[3:-1:4, :-1] = 2
    assert ms.local_minima(image, connectivity=1).sum() == (image == 1).sum()
    image[-1, -1] = 0
    assert ms.local_minima(image, connectivity=1).sum() == 1
    long = np.full(3_000_000, 7, np.int16)
    long[0] = 9
    assert ms.local_minima(long).sum() == long.size - 1
    long[-1] = 3
    assert_array_equal(ms.local_minima(long, indices=True)[0], [long.size - 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_nan_counts_as_the_far_end_and_is_no_extremum(rng, dtype):
    nan = np.nan
    image = np.array([3, nan, 2, 4, nan, nan, 5], dtype)
    assert ms.local_minima(image).tolist() == [True, False, True, False, False, False, False]
    assert ms.local_maxima(image).tolist() == [True, False, False, True, False, False, True]
    assert not ms.local_minima(np.full((3, 3), nan, dtype)).any()
    for _ in range(30):
        image = few_values(rng, (5, 6), dtype)
        image[rng.random(image.shape) < 0.2] = -nan if rng.random() < 0.5 else nan
        for ours, twin in PAIRS:
            assert_array_equal(ours(image), twin(image))


def test_layout_and_out(rng, layout):
    image = random_image(rng, (5, 9, 8), np.float32).round(-1)
    for ours, twin in PAIRS:
        expected = twin(image)
        assert_array_equal(ours(layout(image)), expected)
        out = layout(np.ones(image.shape, bool))
        if not out.flags.writeable:
            with pytest.raises(ValueError, match="out must be writable"):
                ours(image, out=out)
            continue
        assert ours(image, out=out) is out
        assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "image must be bool, integer or float", {"image": np.zeros((3, 3), complex)}),
        (ValueError, "image must have at least one dimension", {"image": 3}),
        (
            ValueError,
            "footprint must have the image.s number of dimensions, 2, got 1",
            {"footprint": np.ones(3)},
        ),
        (ValueError, "footprint must be an array, got rows of", {"footprint": [[1, 1], [1]]}),
        (
            ValueError,
            "footprint must have the dimension size 3 along each axis",
            {"footprint": np.ones((3, 5))},
        ),
        (ValueError, "out must have shape", {"out": np.zeros(3, bool)}),
        (ValueError, "out must be None", {"out": np.zeros((3, 3), bool), "indices": True}),
    ],
)
def test_bad_input(error, message, arguments):
    for ours, _ in PAIRS:
        with pytest.raises(error, match=f"{ours.__name__}: {message}"):
            ours(**{"image": np.zeros((3, 3)), **arguments})


@pytest.mark.parametrize(("dtype", "most"), [("uint8", 1), ("uint16", 1), ("float32", 5)])
def test_memory(dtype, most):
    setup = "image = np.random.default_rng(0).integers(0, 200, (150, 200, 220))"
    setup += f".astype(np.{dtype})\nsmall = image[:8].copy()"
    got = peak_bytes_per_pixel(
        "ms.local_minima(image)", setup=setup, warm="ms.local_minima(small)", threads=2
    )
    assert got <= most + 0.25
