"""What components.py keeps or removes by component."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from conftest import DTYPES, SHAPES
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.components
_label, _known = twin.label, {}


def remembered_label(image, background=0, connectivity=None):
    key = (image.tobytes(), image.dtype.str, image.shape, background, connectivity)
    if key not in _known:
        _known[key] = _label(image, background, connectivity)
    return _known[key]


MASK_OPERATIONS = {
    "remove_small_objects": lambda m, **k: ms.remove_small_objects(m, max_size=2, **k),
    "remove_small_holes": lambda m, **k: ms.remove_small_holes(m, max_size=2, **k),
    "largest_component": ms.largest_component,
    "fill_holes": ms.fill_holes,
    "clear_border": ms.clear_border,
}


@pytest.fixture(autouse=True)
def _twin_remembers(monkeypatch):
    """The twins label the same small masks over and over."""
    monkeypatch.setattr(twin, "label", remembered_label)


NOISE = [(70,), (9, 130), (1, 30), (8, 1), (3, 3, 66), (6, 1, 40), (2, 2, 3, 4)]


def noise(rng, shape):
    for density in (0.0, 0.4, 0.7, 1.0):
        yield rng.random(shape) < density


@pytest.mark.parametrize("shape", NOISE, ids=str)
def test_equals_reference(rng, isa, shape):
    for mask in noise(rng, shape):
        for c in range(1, len(shape) + 1):
            for size in (0, 1, 4):
                given = {"max_size": size, "connectivity": c}
                expected = twin.remove_small_objects(mask, size, c)
                assert_array_equal(ms.remove_small_objects(mask, **given), expected)
                assert_array_equal(ms.remove_small_holes(~mask, **given), ~expected)
            assert_array_equal(ms.largest_component(mask, c), twin.largest_component(mask, c))
            assert_array_equal(
                ms.fill_holes(mask, connectivity=c), twin.fill_holes(mask, connectivity=c)
            )


def in_border(shape, width):
    inner = np.zeros(shape, bool)
    if all(n > 2 * width for n in shape):
        inner[(slice(width, -width),) * len(shape)] = True
    return ~inner


@pytest.mark.parametrize("shape", NOISE, ids=str)
@pytest.mark.parametrize("dtype", [bool, np.int16, np.float32])
def test_clear_border_equals_reference(rng, isa, shape, dtype):
    for mask in noise(rng, shape):
        labels = (mask * rng.integers(1, 4, shape)).astype(dtype)
        allowed = rng.random(shape) < 0.97
        for bgval in (0, 1):
            for buffer_size in (0, 1, 2):
                if all(buffer_size < n for n in shape):
                    cleared = ms.clear_border(labels, buffer_size, bgval)
                    border = in_border(shape, buffer_size + 1)
                    assert_array_equal(cleared, twin.clear_border(labels, border, bgval))
            cleared = ms.clear_border(labels, 0, bgval, allowed)
            assert_array_equal(cleared, twin.clear_border(labels, ~allowed, bgval))
            assert cleared.dtype == labels.dtype


@pytest.mark.parametrize("shape", [(200,), (60, 130), (20, 50, 40), (1, 9, 9), (5, 6, 7, 8)])
def test_equals_peers(rng, threads, shape):
    morphology = pytest.importorskip("skimage.morphology")
    ndimage = pytest.importorskip("scipy.ndimage")
    for mask in noise(rng, shape):
        for c in range(1, len(shape) + 1):
            for size in (0, 1, 7, 1000):
                for name in ("remove_small_objects", "remove_small_holes"):
                    given = {"max_size": size, "connectivity": c}
                    expected = getattr(morphology, name)(mask, **given)
                    assert_array_equal(getattr(ms, name)(mask, **given), expected)
            structure = ndimage.generate_binary_structure(len(shape), c)
            expected = ndimage.binary_fill_holes(mask, structure)
            assert_array_equal(ms.fill_holes(mask, structure), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bgval", [0, 1])
def test_clear_border_equals_skimage(rng, dtype, bgval):
    segmentation = pytest.importorskip("skimage.segmentation")
    for shape in [(40,), (30, 50), (9, 30, 20)]:
        labels = (rng.integers(0, 4, shape) * (rng.random(shape) < 0.4)).astype(dtype)
        allowed = rng.random(shape) < 0.97
        for arguments in [(0, bgval), (2, bgval), (0, bgval, allowed), (99, bgval, allowed)]:
            expected = segmentation.clear_border(labels, *arguments)
            cleared = ms.clear_border(labels, *arguments)
            assert cleared.dtype == expected.dtype
            assert_array_equal(cleared, expected)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind in "ui"], ids=str)
def test_remove_small_objects_takes_labels(rng, isa, threads, dtype):
    morphology = pytest.importorskip("skimage.morphology")
    labels = np.repeat(rng.integers(0, 100, (300, 100)), 3, 1).astype(dtype)
    for size in (0, 290, 300.5, 10**6):
        expected = morphology.remove_small_objects(labels, max_size=size)
        kept = ms.remove_small_objects(labels, max_size=size)
        assert kept.dtype == dtype
        assert_array_equal(kept, expected)


def test_remove_small_objects_takes_huge_label_numbers():
    labels = np.array([7, 2**50, 2**50, 0, 7, 3])
    assert ms.remove_small_objects(labels, max_size=1).tolist() == [7, 2**50, 2**50, 0, 7, 0]


def test_remove_small_objects_old_argument():
    morphology = pytest.importorskip("skimage.morphology")
    mask = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)
    for old in (0, 1, 2, 2.5, 3):
        for name, values in [("remove_small_objects", mask), ("remove_small_holes", ~mask)]:
            with pytest.warns(FutureWarning) as theirs:
                expected = getattr(morphology, name)(values, old)
            with pytest.warns(FutureWarning) as ours:
                kept = getattr(ms, name)(values, old)
            assert str(ours[0].message) == str(theirs[0].message)
            assert ours[0].filename == __file__
            assert_array_equal(kept, expected)
    with (
        pytest.warns(FutureWarning, match="min_size"),
        pytest.raises(ValueError, match="must not both be given"),
    ):
        ms.remove_small_objects(mask, min_size=3, max_size=2)


def test_warnings_for_labels():
    with pytest.warns(UserWarning, match="Only one label was provided") as record:
        ms.remove_small_objects(np.array([0, 1, 1]), max_size=1)
    assert record[0].filename == __file__
    with pytest.warns(UserWarning, match="returned as a boolean array") as record:
        assert ms.remove_small_holes(np.array([2, 0, 1]), max_size=1).tolist() == [True] * 3
    assert record[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ms.remove_small_objects(np.array([0, 2, 1]), max_size=1)
        ms.remove_small_objects(np.array([False, True]), max_size=1)
        ms.remove_small_holes(np.array([False, True]), max_size=1)


def test_largest_component_takes_the_first_of_equals():
    mask = np.array([[0, 1, 1], [0, 0, 0], [1, 1, 0]], bool)
    assert ms.largest_component(mask).tolist() == [[False, True, True], [False] * 3, [False] * 3]
    assert not ms.largest_component(np.zeros((3, 4), bool)).any()


def test_largest_component_joins_slabs(rng, threads):
    ndimage = pytest.importorskip("scipy.ndimage")
    mask = rng.random((50, 140, 130)) < 0.32
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    expected = labels == 1 + sizes[1:].argmax()
    assert_array_equal(ms.largest_component(mask, 1), expected)
    kept = ms.remove_small_objects(mask, max_size=100)
    assert_array_equal(kept, (sizes > 100)[labels] & mask)
    assert_array_equal(ms.fill_holes(mask), ndimage.binary_fill_holes(mask))


@pytest.mark.parametrize("operation", MASK_OPERATIONS.values(), ids=MASK_OPERATIONS)
def test_takes_any_layout_and_out(rng, layout, operation):
    mask = rng.random((6, 7, 9)) < 0.6
    expected = operation(mask.copy())
    given = layout(mask)
    assert_array_equal(operation(given), expected)
    assert_array_equal(given, mask)
    if given.flags.writeable:
        assert operation(given, out=given) is given
        assert_array_equal(given, expected)
    else:
        with pytest.raises(ValueError, match="out must be writable"):
            operation(mask, out=given)


@pytest.mark.parametrize("given", [bool, np.uint8, np.int64])
@pytest.mark.parametrize("wanted", [bool, np.uint8, np.int32])
@pytest.mark.filterwarnings("ignore:Only one label was provided")
def test_out_of_another_dtype_is_as_in_skimage(rng, given, wanted):
    peer = pytest.importorskip("skimage.morphology").remove_small_objects
    for most in (2, 6):
        labels = rng.integers(0, most, (9, 10)).astype(given)
        got, expected = np.empty((9, 10), wanted), np.empty((9, 10), wanted)
        assert ms.remove_small_objects(labels, max_size=5, out=got) is got
        assert_array_equal(got, peer(labels, max_size=5, out=expected))


@pytest.mark.parametrize("operation", MASK_OPERATIONS.values(), ids=MASK_OPERATIONS)
def test_odd_shapes(operation):
    for shape in SHAPES:
        if 0 in shape and operation is ms.clear_border:
            with pytest.raises(ValueError, match="buffer_size must be less"):
                operation(np.zeros(shape, bool))
            continue
        mask = operation(np.ones(shape, bool))
        assert mask.shape == shape
        assert mask.dtype == bool
    with pytest.raises(ValueError, match="at least one dimension"):
        operation(np.array(True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masks_of_any_dtype(rng, dtype):
    mask = rng.random((20, 33)) < 0.6
    values = mask.astype(dtype)
    assert_array_equal(ms.largest_component(values), ms.largest_component(mask))
    assert_array_equal(ms.fill_holes(values), ms.fill_holes(mask))
    if dtype.kind == "f":
        values[3, 3] = np.nan
        for operation in (ms.largest_component, ms.fill_holes):
            with pytest.raises(ValueError, match="mask must not contain NaN"):
                operation(values)
        for operation in (ms.remove_small_objects, ms.remove_small_holes):
            with pytest.raises(TypeError, match="ar must be bool or integer, got float"):
                operation(values)


def test_real_scan(data):
    """Holes and specks of a thresholded CT, against SciPy and scikit-image."""
    nrrd = pytest.importorskip("nrrd")
    morphology = pytest.importorskip("skimage.morphology")
    ndimage = pytest.importorskip("scipy.ndimage")
    image, _ = nrrd.read(str(data / "ct_lung_tumour" / "lung2_image.nrrd"))
    image = image[::2, ::2, :40]
    mask = image > image.mean()
    assert_array_equal(ms.fill_holes(mask), ndimage.binary_fill_holes(mask))
    assert_array_equal(ms.remove_small_objects(mask), morphology.remove_small_objects(mask))


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "connectivity must be", lambda m: ms.remove_small_objects(m, connectivity=0)),
        (ValueError, "connectivity must be", lambda m: ms.remove_small_holes(m, connectivity=3)),
        (ValueError, "connectivity must be", lambda m: ms.largest_component(m, 3)),
        (
            ValueError,
            "must not be negative, got -1",
            lambda m: ms.remove_small_objects(m.astype(int) - 1),
        ),
        (TypeError, "max_size must be a number", lambda m: ms.remove_small_objects(m, max_size="")),
        (ValueError, "max_size", lambda m: ms.remove_small_objects(m, max_size=np.nan)),
        (TypeError, "out must be bool", lambda m: ms.remove_small_holes(m, out=np.zeros((4, 5)))),
        (ValueError, "out must have", lambda m: ms.remove_small_objects(m, out=np.zeros(2, bool))),
        (ValueError, "structure must be", lambda m: ms.fill_holes(m, np.ones((5, 5)))),
        (ValueError, "structure must be an array", lambda m: ms.fill_holes(m, [[1, 1], [1]])),
        (ValueError, "structure must be", lambda m: ms.fill_holes(m, np.zeros((3, 3)))),
        (ValueError, "not both", lambda m: ms.fill_holes(m, np.ones((3, 3)), connectivity=1)),
        (ValueError, "less than every axis", lambda m: ms.clear_border(m, 4)),
        (ValueError, "buffer_size must be at least 0", lambda m: ms.clear_border(m, -1)),
        (ValueError, "shape of labels", lambda m: ms.clear_border(m, mask=np.ones(3, bool))),
        (TypeError, "mask must be bool", lambda m: ms.clear_border(m, mask=np.ones((4, 5)))),
        (OverflowError, "uint8", lambda m: ms.clear_border(m.astype(np.uint8), bgval=-1)),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call(np.zeros((4, 5), bool))
