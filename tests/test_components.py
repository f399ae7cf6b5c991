from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

# Rows shorter than a word, of whole words, off by one, of several words; axes of one pixel.
GRIDS = [(64,), (65, 3), (3, 63), (9, 64), (9, 65), (5, 128), (4, 200), (5, 6, 70), (6, 1, 40)]
GRIDS += [(1, 7, 1, 9), (3, 4, 3, 5)]


def few_values(rng, shape, dtype, levels=3):
    """Small regions of few values, and negative ones where the dtype has them."""
    values = rng.integers(0, levels, shape)
    if np.dtype(dtype).kind in "if":
        values -= levels // 2
    return values.astype(dtype)


_known = {}


def twin(image, connectivity=None):
    """The reference's labels and count; remembered, as builds and threads meet the same images."""
    if image.dtype.kind == "f":
        image = np.trunc(image)  # what label compares
    key = (image.tobytes(), image.dtype.str, image.shape, connectivity)
    if key not in _known:
        _known[key] = reference.components.label(image, 0, connectivity)
    return _known[key]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_label_equals_reference_on_odd_shapes(rng, isa, shape, dtype):
    cases = [(random_image(rng, shape, dtype), None)]
    cases += [(few_values(rng, shape, dtype), c) for c in range(1, len(shape) + 1)]
    for image, connectivity in cases:
        labels, count = ms.label(image, return_num=True, connectivity=connectivity)
        expected, expected_count = twin(image, connectivity)
        assert labels.dtype == (np.int32 if dtype.kind == "b" else np.int64)
        assert type(count) is int
        assert count == expected_count
        assert_array_equal(labels, expected)


@pytest.mark.parametrize("density", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("shape", GRIDS, ids=str)
def test_label_of_noise_equals_reference(rng, isa, shape, density):
    mask = rng.random(shape) < density
    image = mask * few_values(rng, shape, np.uint8, 4)
    for connectivity in range(1, len(shape) + 1):
        for pixels in (mask, image):
            expected, _ = twin(pixels, connectivity)
            assert_array_equal(ms.label(pixels, connectivity=connectivity), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("background", [None, 0, 1, -1, 2, 300])
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_label_equals_skimage(rng, dtype, background):
    measure = pytest.importorskip("skimage.measure")
    for shape in [(40,), (30, 50), (7, 30, 20)]:
        image = few_values(rng, shape, dtype)
        if image.dtype.kind == "f":
            image += rng.choice([0, 0.25], shape).astype(dtype)
        for connectivity in (None, *range(1, len(shape) + 1)):
            arguments = {"background": background, "connectivity": connectivity}
            labels, count = ms.label(image, return_num=True, **arguments)
            expected, expected_count = measure.label(image, return_num=True, **arguments)
            assert labels.dtype == expected.dtype
            assert count == expected_count
            assert_array_equal(labels, expected)


@settings(max_examples=50, deadline=None)
@given(
    image=hnp.arrays(
        st.sampled_from([np.uint8, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=90).filter(lambda s: np.prod(s) < 1000),
        elements={"min_value": 0, "max_value": 2},
        fill=st.nothing(),
    ),
    data=st.data(),
)
def test_label_equals_reference_on_found_images(image, data):
    connectivity = data.draw(st.integers(1, image.ndim))
    expected, count = reference.components.label(image, 0, connectivity)
    labels, num = ms.label(image, return_num=True, connectivity=connectivity)
    assert num == count
    assert_array_equal(labels, expected)


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_label_joins_slabs(rng, threads, connectivity):
    """Large enough for a slab per thread; the percolating cluster crosses every border."""
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = rng.random((40, 150, 130)) < {1: 0.3116, 2: 0.1373, 3: 0.0976}[connectivity]
    structure = ndimage.generate_binary_structure(3, connectivity)
    expected, count = ndimage.label(mask, structure)
    labels, num = ms.label(mask, return_num=True, connectivity=connectivity)
    assert num == count
    assert_array_equal(labels, expected)
    as_integers = ms.label(np.where(mask, np.uint16(700), np.uint16(3)), 3, False, connectivity)
    assert_array_equal(as_integers, expected)


def test_label_of_long_paths(threads):
    """A spiral and a comb: one region whose parts meet last."""
    n = 601
    spiral = np.zeros((n, n), bool)
    spiral[::2, :] = True
    spiral[1::4, -1] = spiral[3::4, 0] = True
    assert ms.label(spiral, return_num=True, connectivity=1)[1] == 1
    comb = np.zeros((n, n), bool)
    comb[:, ::2] = comb[-1] = True
    labels, count = ms.label(comb, return_num=True)
    assert count == 1
    assert_array_equal(labels, comb)
    assert ms.label(comb[:-1], return_num=True)[1] == (n + 1) // 2


def test_label_with_wide_tables(rng, threads):
    """64-bit run numbers, otherwise met beyond 2**31 runs only."""
    from medseg_fast._cpu import core

    for image in (rng.random((70, 80, 90)) < 0.3, few_values(rng, (70, 80, 90), np.int16)):
        labels = np.full(image.shape, -1, np.int64)
        core.label_components(image, np.zeros((), image.dtype), 2, True).write(labels, False)
        assert_array_equal(labels, ms.label(image, connectivity=2))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_label_takes_any_layout(rng, layout, dtype):
    image = few_values(rng, (5, 6, 7), dtype)
    given = layout(image)
    before = given.copy()
    assert_array_equal(ms.label(given), ms.label(image))
    assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_label_nan_is_background(dtype):
    image = np.array([[np.nan, 1, 1.5], [np.inf, np.inf, np.nan], [-0.5, np.nan, -np.inf]], dtype)
    assert ms.label(image).tolist() == [[0, 1, 1], [2, 2, 0], [0, 0, 3]]
    assert ms.label(image, background=7).tolist() == [[0, 1, 1], [2, 2, 0], [3, 0, 4]]


def test_label_compares_large_values_exactly():
    assert ms.label(np.array([2**62, 2**62 + 1, 2**62 + 1])).tolist() == [1, 2, 2]
    image = np.array([2**64 - 1, 2**64 - 2, 0], np.uint64)
    assert ms.label(image, background=2**64 - 2).tolist() == [1, 0, 2]


def test_label_background_of_bool():
    mask = np.array([True, False, True])
    assert ms.label(mask, background=1).tolist() == [0, 1, 0]
    assert ms.label(mask, background=2).tolist() == [1, 0, 2]


def test_label_smallest_dtype():
    dots = np.zeros((2, 1200), bool)
    for count, dtype in [(255, np.uint8), (256, np.uint16), (0, np.uint8)]:
        dots[0] = False
        dots[0, : 2 * count : 2] = True
        labels = ms.label(dots, dtype="smallest")
        assert labels.dtype == dtype
        assert labels.max() == count
    dots[0, :512:2] = True
    with pytest.raises(ValueError, match="uint8 cannot hold 256 labels"):
        ms.label(dots, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "ui"], ids=str)
def test_label_dtype(rng, isa, dtype):
    for shape in [(9, 100), (3, 5, 33)]:
        mask = rng.random(shape) < 0.2
        expected, _ = twin(mask)
        labels = ms.label(mask, dtype=dtype)
        assert labels.dtype == dtype
        assert_array_equal(labels, expected)
        out = np.full(shape, 77, dtype)
        assert ms.label(mask, out=out) is out
        assert_array_equal(out, expected)


def test_label_out(rng, layout):
    image = few_values(rng, (4, 9, 8), np.int16)
    out = layout(np.full(image.shape, -5, np.int64))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            ms.label(image, out=out)
        return
    labels, count = ms.label(image, return_num=True, out=out)
    assert labels is out
    assert count == out.max()
    assert_array_equal(out, ms.label(image))


def test_label_may_overwrite_its_input(rng):
    image = few_values(rng, (30, 40), np.int64, 5)
    expected = ms.label(image)
    assert_array_equal(ms.label(image, out=image), expected)


def test_label_writes_nothing_outside(rng, threads):
    """Runs are written in whole vectors: not beyond the array."""
    for shape in [(1, 3), (7, 9), (64, 65)]:
        guarded = np.full(np.prod(shape) + 64, 42, np.int32)
        out = guarded[32:-32].reshape(shape)
        ms.label(np.ones(shape, bool), out=out)
        assert_array_equal(guarded[:32], 42)
        assert_array_equal(guarded[-32:], 42)
        assert_array_equal(out, 1)


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "connectivity must be from 1 to 2, got 0", {"connectivity": 0}),
        (ValueError, "connectivity must be from 1 to 2, got 3", {"connectivity": 3}),
        (TypeError, "connectivity must be an integer", {"connectivity": 1.5}),
        (ValueError, "at least one dimension", {"label_image": np.array(1)}),
        (TypeError, "complex", {"label_image": np.zeros(3, complex)}),
        (TypeError, "background must be a number", {"background": "0"}),
        (TypeError, "integer dtype", {"dtype": np.float32}),
        (ValueError, "out must have shape", {"out": np.zeros(3, np.int64)}),
        (ValueError, "dtype int64", {"out": np.zeros((2, 2), np.float32)}),
        (ValueError, "dtype uint8", {"out": np.zeros((2, 2), np.int32), "dtype": np.uint8}),
        (TypeError, "out must be a NumPy array", {"out": [0, 0, 0]}),
    ],
)
def test_label_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.label(**{"label_image": np.zeros((2, 2), int), **arguments})


@pytest.mark.slow
def test_label_of_more_than_two_thousand_million_pixels():
    """Indices beyond 32 bits: 2.2 GB of mask, 2.2 GB of labels."""
    mask = np.zeros((3, 1100, 700_000), bool)
    mask[0, 0, 0] = mask[:, 5, 699_990:] = mask[2, -1, -1] = True
    labels, count = ms.label(mask, return_num=True, dtype=np.uint8)
    assert count == 3
    assert labels[0, 0, 0] == 1
    assert labels[2, 5, -1] == 2
    assert labels[2, -1, -1] == 3
