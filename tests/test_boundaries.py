from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

segmentation = pytest.importorskip("skimage.segmentation")
twin = reference.boundaries
INTEGERS = [d for d in DTYPES if d.kind in "bui"]
MODES = ["thick", "inner", "outer", "subpixel"]


def labels_of(rng, shape, dtype):
    """Regions of a few pixels, some of the dtype's extreme values."""
    dtype = np.dtype(dtype)
    labels = random_image(rng, shape, dtype)
    few = rng.integers(0, 3, shape)
    labels = np.where(rng.random(shape) < 0.8, few.astype(dtype), labels)
    if dtype.kind == "i":
        labels = np.where(rng.random(shape) < 0.2, dtype.type(-1), labels)
    return np.where(np.roll(few, 1) > 0, np.roll(labels, 1), labels).astype(dtype)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_find_boundaries_equals_reference(rng, isa, dtype, mode):
    for shape in [s for s in SHAPES if 0 < np.prod(s) < 400]:
        labels = labels_of(rng, shape, dtype)
        for connectivity in {1, len(shape)}:
            for background in (0, 1):
                got = ms.find_boundaries(labels, connectivity, mode, background)
                assert got.dtype == bool
                assert_array_equal(
                    got, twin.find_boundaries(labels, connectivity, mode, background)
                )


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_find_boundaries_equals_skimage(rng, threads, dtype, mode):
    if dtype.itemsize == 8 and mode == "outer":
        pytest.skip("scikit-image marks the dtype's largest value, which SciPy's filters round up")
    shapes = (
        [(67,), (12, 21), (5, 6, 7)] if mode == "subpixel" else [(400,), (33, 165), (9, 31, 70)]
    )
    for shape in shapes:
        labels = labels_of(rng, shape, dtype)
        if dtype.itemsize == 8:  # filtered as float64 there
            labels = np.where((labels < 2**50) & (labels > 0), labels, 0).astype(dtype)
        for connectivity in range(1, len(shape) + 1):
            for background in (0, 1, 300) if labels.dtype.itemsize > 1 else (0, 1):
                expected = segmentation.find_boundaries(labels, connectivity, mode, background)
                got = ms.find_boundaries(labels, connectivity, mode, background)
                assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "shape", [(70, 90, 200), (3, 20, 20000), (300, 500), (3, 70000), (140000,), (3, 34, 9, 70)]
)
def test_find_boundaries_in_tiles(rng, threads, shape):
    labels = np.where(rng.random(shape) < 0.02, rng.integers(0, 9, shape), 0).astype(np.uint16)
    for connectivity in range(1, len(shape) + 1):
        for mode in MODES[:3]:
            expected = segmentation.find_boundaries(labels, connectivity, mode)
            assert_array_equal(ms.find_boundaries(labels, connectivity, mode), expected)


def test_find_boundaries_of_a_background_no_label_can_have():
    labels = np.array([[0, 0, 2], [0, 1, 1]], np.uint8)
    for mode in ("inner", "outer"):
        for background in (-1, 300, 0.5):
            got = ms.find_boundaries(labels, mode=mode, background=background)
            assert_array_equal(got, ms.find_boundaries(labels))


def test_find_boundaries_layout_and_out(rng, layout):
    labels = labels_of(rng, (6, 9, 8), np.int16)
    for mode in MODES:
        expected = twin.find_boundaries(labels, 2, mode)
        assert_array_equal(ms.find_boundaries(layout(labels), 2, mode), expected)
        out = layout(np.zeros(expected.shape, bool))
        if out.flags.writeable:
            assert ms.find_boundaries(labels, 2, mode, out=out) is out
            assert_array_equal(out, expected)
    mask = labels > 0
    expected = twin.find_boundaries(mask)
    assert_array_equal(ms.find_boundaries(mask, out=mask), expected)  # in place


def test_find_boundaries_of_nothing():
    for mode in MODES[:3]:
        assert ms.find_boundaries(np.zeros((0, 3), int), mode=mode).shape == (0, 3)
    with pytest.raises(ValueError, match="must not be empty"):
        ms.find_boundaries(np.zeros((0, 3), int), mode="subpixel")


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "label_img must be bool or integer", {"label_img": np.zeros((2, 2))}),
        (ValueError, "at least one dimension", {"label_img": 1}),
        (ValueError, "connectivity must be from 1 to 2", {"connectivity": 3}),
        (ValueError, "mode must be one of", {"mode": "thin"}),
        (TypeError, "background must be a number", {"background": "0"}),
        (ValueError, "out must have shape", {"out": np.zeros(3, bool)}),
    ],
)
def test_find_boundaries_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.find_boundaries(**{"label_img": np.eye(2, dtype=int), **arguments})


def picture(rng, shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return random_image(rng, shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mark_boundaries_equals_skimage(rng, dtype):
    pytest.importorskip("scipy")
    labels = labels_of(rng, (13, 18), np.uint8)
    for shape in [(13, 18), (13, 18, 3)]:
        image = picture(rng, shape, dtype)
        for mode in MODES:
            for outline in (None, (1, 0.25, 0)):
                if mode == "subpixel" and dtype == np.float16:
                    continue
                arguments = (image, labels, (0.1, 0.2, 1), outline, mode)
                expected = segmentation.mark_boundaries(*arguments)
                got = ms.mark_boundaries(*arguments)
                assert got.dtype == expected.dtype
                assert_array_equal(got, expected)
    image = picture(rng, (13, 18), dtype)
    expected = segmentation.mark_boundaries(image, labels, background_label=1)
    assert_array_equal(ms.mark_boundaries(image, labels, background_label=1), expected)


@pytest.mark.parametrize("shape", [(13, 18), (13, 18, 3)], ids=str)
def test_mark_boundaries_of_any_layout(rng, layout, shape):
    labels = labels_of(rng, (13, 18), np.uint8)
    image = rng.random(shape)
    expected = ms.mark_boundaries(image, labels, outline_color=(0, 0, 1))
    got = ms.mark_boundaries(layout(image), layout(labels), outline_color=(0, 0, 1))
    assert_array_equal(got, expected)
    assert (expected == (1, 1, 0)).all(-1).any()


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "image must have shape", {"image": np.zeros(4)}),
        (ValueError, "image must have shape", {"image": np.zeros((4, 4, 2))}),
        (ValueError, "label_img must have the image's shape", {"image": np.zeros((4, 5))}),
        (ValueError, "color must be three numbers", {"color": (1, 0)}),
        (ValueError, "outline_color must be three numbers", {"outline_color": 1}),
        (ValueError, "mode must be one of", {"mode": "x"}),
        (TypeError, "label_img must be bool or integer", {"label_img": np.zeros((4, 4))}),
    ],
)
def test_mark_boundaries_bad_input(error, message, arguments):
    valid = {"image": np.zeros((4, 4)), "label_img": np.eye(4, dtype=int)}
    with pytest.raises(error, match=message):
        ms.mark_boundaries(**{**valid, **arguments})


@pytest.mark.parametrize("mode", MODES[:3])
def test_peak_memory(mode):
    setup = "image = np.random.default_rng(0).integers(0, 3, (150, 200, 220)).astype(np.int32)"
    call = f"ms.find_boundaries({{}}, 3, {mode!r})"
    got = peak_bytes_per_pixel(
        call.format("image"), setup=setup, warm=call.format("image[:4].copy()"), threads=2
    )
    assert got == pytest.approx(1, abs=0.15)
