from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

ndimage = pytest.importorskip("scipy.ndimage")
twin = reference.distance

# Three roundings of the sum of squares and one of the root, in units of the last place of float64;
# SciPy's own result has as many.
ROUNDED = 1e-15
# Around the tile's width for each type of squared distance, and the block of a transposed tile.
TILED = [(16,), (15, 16), (33, 17), (64, 63), (65, 129), (2, 130), (3, 31, 33), (40, 3, 70)]


def mask_of(rng, shape, density):
    """Foreground of that density, with a background voxel somewhere."""
    mask = rng.random(shape) < density
    if mask.size and mask.all():
        mask.flat[rng.integers(mask.size)] = False
    return mask


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_edt_equals_reference(rng, isa, dtype):
    for shape in [s for s in SHAPES if np.prod(s) < 400]:
        image = random_image(rng, shape, dtype)
        distances, indices = ms.distance_transform_edt(image, return_indices=True)
        assert (distances.dtype, indices.dtype) == (np.float64, np.int32)
        expected, where = twin.distance_transform_edt(image)
        assert_array_equal(distances, expected)
        assert_array_equal(indices, where)
        assert_array_equal(ms.distance_transform_edt(image), expected)


@pytest.mark.parametrize("density", [0.3, 0.9, 0.999])
def test_edt_and_indices_equal_scipy(rng, isa, threads, density):
    for shape in [s for s in (*SHAPES, *TILED) if np.prod(s)]:
        mask = mask_of(rng, shape, density)
        expected, where = ndimage.distance_transform_edt(mask, return_indices=True)
        assert_array_equal(ms.distance_transform_edt(mask), expected)
        distances, indices = ms.distance_transform_edt(mask, return_indices=True)
        assert_array_equal(distances, expected)
        assert_array_equal(indices, where)
        alone = ms.distance_transform_edt(mask, return_distances=False, return_indices=True)
        assert_array_equal(alone, where)


@pytest.mark.parametrize(
    "sampling", ["one", "dyadic", "tenths", "irregular", "flat"], ids="sampling={}".format
)
def test_edt_with_sampling_equals_scipy(rng, isa, sampling):
    for shape in [s for s in (*SHAPES, *TILED) if np.prod(s)]:
        mask = mask_of(rng, shape, 0.97)
        size = {
            "one": 0.7,
            "dyadic": rng.integers(1, 30, mask.ndim) / 4,
            "tenths": list(rng.integers(1, 90, mask.ndim) * 0.1),
            "irregular": tuple(rng.uniform(0.2, 4, mask.ndim)),
            "flat": [1000.0, *[1.0] * (mask.ndim - 1)],
        }[sampling]
        expected, where = ndimage.distance_transform_edt(mask, size, return_indices=True)
        distances, indices = ms.distance_transform_edt(mask, size, return_indices=True)
        assert_allclose(distances, expected, rtol=ROUNDED, atol=0)
        assert_allclose(ms.distance_transform_edt(mask, size), expected, rtol=ROUNDED, atol=0)
        if sampling in ("dyadic", "flat"):
            assert_array_equal(distances, expected)
            assert_array_equal(indices, where)
        assert not mask[tuple(indices)].any()
        away = (indices - np.indices(shape)) * np.reshape(
            np.broadcast_to(size, mask.ndim), (-1,) + (1,) * mask.ndim
        )
        assert_allclose(np.sqrt((away**2).sum(0)), expected, rtol=ROUNDED, atol=0)


@pytest.mark.parametrize("shape", [(3000, 20), (20, 3000), (600, 3, 9), (70001,), (2, 70001)])
def test_edt_of_far_background(isa, shape):
    """Squared distances beyond 16 bits, and the scan of columns that takes over from the search."""
    for at in [(0,) * len(shape), tuple(n - 1 for n in shape), tuple(n // 3 for n in shape)]:
        mask = np.ones(shape, bool)
        mask[at] = False
        for size in (None, [1.25, 0.7, 3.1][: len(shape)]):
            expected, where = ndimage.distance_transform_edt(mask, size, return_indices=True)
            distances, indices = ms.distance_transform_edt(mask, size, return_indices=True)
            assert_allclose(distances, expected, rtol=0 if size is None else ROUNDED)
            assert_array_equal(indices, where)
            alone = ms.distance_transform_edt(mask, size)
            assert_allclose(alone, expected, rtol=0 if size is None else ROUNDED)


def test_edt_beyond_32_bits():
    mask = np.ones((2, 100_000), bool)
    mask[0, 0] = False
    row = np.arange(100_000.0)
    expected = np.sqrt(np.stack([row**2, row**2 + 1]))
    assert_array_equal(ms.distance_transform_edt(mask), expected)
    distances = ms.distance_transform_edt(mask, [1, 1000])
    assert_array_equal(distances, np.sqrt(np.stack([(1e3 * row) ** 2, (1e3 * row) ** 2 + 1])))


def test_edt_of_slopes_that_make_the_column_scan_work(rng):
    """Few and far background voxels of all kinds of envelopes, in every type."""
    for _ in range(20):
        mask = np.ones((700, 40), bool)
        for _ in range(rng.integers(1, 12)):
            mask[rng.integers(700), rng.integers(40)] = False
        for size in (None, 0.25, [1, 7], [0.3, 0.7000001]):
            expected, where = ndimage.distance_transform_edt(mask, size, return_indices=True)
            distances, indices = ms.distance_transform_edt(mask, size, return_indices=True)
            assert_allclose(distances, expected, rtol=ROUNDED)
            assert_array_equal(indices, where)


@settings(max_examples=80, deadline=None)
@given(
    arrays.arrays(bool, arrays.array_shapes(min_dims=1, max_dims=4, max_side=9)),
    st.sampled_from([None, 1, 0.5, 2.75]),
)
def test_edt_of_any_small_mask(mask, sampling):
    distances, indices = ms.distance_transform_edt(mask, sampling, return_indices=True)
    expected, where = twin.distance_transform_edt(mask, sampling)
    assert_array_equal(distances, expected)
    assert_array_equal(indices, where)


def test_edt_without_background():
    distances, indices = ms.distance_transform_edt(np.ones((3, 4)), return_indices=True)
    assert_array_equal(distances, np.full((3, 4), np.inf))
    assert_array_equal(indices, np.full((2, 3, 4), -1))
    assert ms.distance_transform_edt(np.nan).tolist() == [np.inf]
    assert ms.distance_transform_edt(0).tolist() == [0]


def test_edt_dtype_and_layout(rng, layout):
    image = random_image(rng, (9, 20, 35), np.int16)
    expected, where = ndimage.distance_transform_edt(image, [2, 1, 0.5], return_indices=True)
    distances, indices = ms.distance_transform_edt(
        layout(image), [2, 1, 0.5], return_indices=True, dtype=np.float32
    )
    assert distances.dtype == np.float32
    assert_array_equal(distances, expected.astype(np.float32))
    assert_array_equal(indices, where)
    if not layout(image).flags.writeable:
        return
    into = layout(np.zeros(image.shape))
    rows = layout(np.zeros((3, *image.shape), np.int32))
    call = ms.distance_transform_edt
    assert call(image, [2, 1, 0.5], True, True, distances=into, indices=rows) is None
    assert_array_equal(into, expected)
    assert_array_equal(rows, where)


def test_edt_returns_what_was_not_given():
    image = np.array([[1, 1, 0]])
    distances, indices = np.zeros((1, 3)), np.zeros((2, 1, 3), np.int32)
    call = ms.distance_transform_edt
    assert call(image, distances=distances) is None
    assert_array_equal(
        call(image, return_indices=True, distances=distances), [[[0] * 3], [[2] * 3]]
    )
    assert_array_equal(call(image, return_indices=True, indices=indices), distances)
    assert call(image, return_distances=False, return_indices=True, indices=indices) is None
    assert_array_equal(indices, [[[0] * 3], [[2] * 3]])


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (RuntimeError, "at least one of return_distances", {"return_distances": False}),
        (
            RuntimeError,
            "return_distances must be True",
            {"return_distances": False, "return_indices": True, "distances": np.zeros((2, 3))},
        ),
        (RuntimeError, "return_indices must be True", {"indices": np.zeros((2, 2, 3), np.int32)}),
        (RuntimeError, "distances must have shape", {"distances": np.zeros((3, 2))}),
        (RuntimeError, "and dtype float64", {"distances": np.zeros((2, 3), np.float32)}),
        (
            RuntimeError,
            "indices must have shape",
            {"return_indices": True, "indices": np.zeros((2, 2, 3))},
        ),
        (RuntimeError, "sampling must be one number or 2", {"sampling": [1, 2, 3]}),
        (ValueError, "sampling must be positive", {"sampling": [1, 0]}),
        (ValueError, "sampling must be positive", {"sampling": np.inf}),
        (TypeError, "sampling must be a number", {"sampling": "1"}),
        (TypeError, "dtype must be float32 or float64", {"dtype": np.int32}),
        (TypeError, "complex", {"input": np.zeros(3, complex)}),
        (TypeError, "distances must be a NumPy array", {"distances": [0.0]}),
    ],
)
def test_edt_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.distance_transform_edt(**{"input": np.zeros((2, 3)), **arguments})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_signed_distance_is_the_difference_of_two(rng, isa, threads, dtype):
    for shape in [s for s in (*SHAPES, *TILED) if np.prod(s) > 1]:
        mask = mask_of(rng, shape, rng.choice([0.1, 0.5, 0.99]))
        if not mask.any():
            mask.flat[0] = True
        for size in (None, [2, 0.75, 1, 1][: mask.ndim], tuple(rng.uniform(0.3, 2, mask.ndim))):
            outside = ndimage.distance_transform_edt(~mask, size)
            expected = outside - ndimage.distance_transform_edt(mask, size)
            got = ms.signed_distance(mask, size, dtype=dtype)
            assert got.dtype == dtype
            assert_allclose(got, expected, rtol=ROUNDED if dtype == np.float64 else 1e-7)
            assert_array_equal(ms.signed_distance(~mask, size, dtype=dtype), -got)


def test_signed_distance_equals_reference(rng):
    for shape in [(9,), (5, 6), (3, 4, 5)]:
        mask = rng.random(shape) < 0.5
        expected = twin.signed_distance(mask, 0.5)
        assert_array_equal(ms.signed_distance(mask, 0.5, dtype=np.float64), expected)


def test_signed_distance_edges(rng, layout):
    assert_array_equal(ms.signed_distance([0, 0]), [np.inf] * 2)
    assert_array_equal(ms.signed_distance([1, 2.5]), [-np.inf] * 2)
    assert ms.signed_distance(np.zeros((0, 3))).shape == (0, 3)
    image = random_image(rng, (8, 9, 10), np.int8)
    out = layout(np.zeros(image.shape, np.float32))
    if out.flags.writeable:
        assert ms.signed_distance(layout(image), 2, out=out) is out
        assert_array_equal(out, ms.signed_distance(image, [2, 2, 2]))


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "spacing must be one number or 2", {"spacing": [1]}),
        (ValueError, "spacing must be positive", {"spacing": -1}),
        (ValueError, "must not contain NaN", {"mask": [np.nan]}),
        (ValueError, "at least one dimension", {"mask": 1}),
        (TypeError, "dtype must be", {"dtype": bool}),
        (ValueError, "out must have shape", {"out": np.zeros((2, 3))}),
    ],
)
def test_signed_distance_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.signed_distance(**{"mask": np.eye(2, 3), **arguments})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_expand_labels_equals_skimage(rng, isa, dtype):
    expand_labels = pytest.importorskip("skimage.segmentation").expand_labels
    for shape in [(1,), (67,), (7, 1), (1, 130), (33, 65), (5, 7, 9), (2, 3, 4, 5), (40, 3, 70)]:
        labels = random_image(rng, shape, dtype)
        labels[rng.random(shape) > 0.05] = 0
        if not labels.any():
            continue
        for distance in (0, 1.5, 30.5, np.inf):
            for spacing in (
                1,
                [0.5, 2, 1, 1.25][: labels.ndim],
                tuple(rng.uniform(1, 2, labels.ndim)),
            ):
                got = ms.expand_labels(labels, distance, spacing)
                assert got.dtype == labels.dtype
                assert_array_equal(got, expand_labels(labels, distance, spacing))


def test_expand_labels_equals_reference(rng, threads):
    for shape in [(40,), (9, 11), (4, 5, 6)]:
        labels = rng.integers(0, 9, shape) * (rng.random(shape) < 0.2)
        for distance in (0.5, 1, 2.3, 9):
            expected = twin.expand_labels(labels, distance, 1)
            assert_array_equal(ms.expand_labels(labels, distance), expected)


def test_expand_labels_edges(layout):
    labels = np.array([[0, 0, 3, 0], [0, 0, 0, 9]])
    expected = [[0, 3, 3, 3], [0, 0, 3, 9]]
    assert ms.expand_labels(layout(labels)).tolist() == expected
    assert not ms.expand_labels(labels, -1).any()
    assert not ms.expand_labels(np.zeros((3, 3), int), 2).any()
    assert ms.expand_labels(np.zeros((0, 3), int)).shape == (0, 3)
    assert_array_equal(ms.expand_labels([np.nan, 0, -0.0]), [np.nan, np.nan, 0])
    out = layout(labels.copy())
    if out.flags.writeable:
        assert ms.expand_labels(out, out=out) is out  # in place
        assert out.tolist() == expected


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (ValueError, "distance must be a number, got NaN", {"distance": np.nan}),
        (TypeError, "distance must be a number", {"distance": "1"}),
        (ValueError, "spacing must be one number or 2", {"spacing": [1, 1, 1]}),
        (ValueError, "at least one dimension", {"label_image": 1}),
        (ValueError, "out must have shape", {"out": np.zeros((2, 3), np.int8)}),
    ],
)
def test_expand_labels_bad_input(error, message, arguments):
    with pytest.raises(error, match=message):
        ms.expand_labels(**{"label_image": np.eye(2, 3, dtype=int), **arguments})


def test_edt_of_a_tumour(data, threads):
    labels = ms.io.read(data / "mr_brain_tumour" / "brain1_tumour.nrrd").array
    mask = np.ascontiguousarray(labels[..., ::2] > 0)
    for inside in (mask, ~mask):
        expected, where = ndimage.distance_transform_edt(inside, return_indices=True)
        distances, indices = ms.distance_transform_edt(inside, return_indices=True)
        assert_array_equal(distances, expected)
        assert_array_equal(indices, where)


HEAD = """
rng = np.random.default_rng(0)
coarse = rng.random((30, 40, 44)) < 0.5
image = np.kron(coarse, np.ones((5, 5, 5), bool))
labels = np.where(image, 0, 7).astype(np.int32)
small = image[:20].copy(); few = labels[:20].copy()
"""


@pytest.mark.parametrize(
    ("call", "most"),
    [
        ("ms.distance_transform_edt({0})", 8 + 2),
        ("ms.distance_transform_edt({0}, dtype=np.float32)", 4 + 2),
        ("ms.distance_transform_edt({0}, [3, 0.9, 0.9])", 8 + 4),
        ("ms.distance_transform_edt({0}, [3, 0.9, 0.9123456789])", 8 + 8),
        ("ms.distance_transform_edt({0}, return_indices=True)", 8 + 12 + 2),
        ("ms.signed_distance({0})", 4 + 2),
        ("ms.expand_labels({1}, 3)", 4 + 3),
    ],
)
def test_peak_memory(call, most):
    slack = 1.0  # tiles and pages of two threads
    warm = call.format("small", "few")
    got = peak_bytes_per_pixel(call.format("image", "labels"), setup=HEAD, warm=warm, threads=2)
    assert most - slack <= got <= most + slack


@pytest.mark.parametrize("shape", [(140_000, 2), (2, 140_000, 1, 3), (133_000, 8)])
@pytest.mark.parametrize("density", [0.5, 1e-4])
def test_few_long_columns(rng, shape, density):
    """Such columns are transformed one by one."""
    mask = rng.random(shape) >= density
    assert not mask.all()
    expected = ndimage.distance_transform_edt(mask)
    assert_array_equal(ms.distance_transform_edt(mask), expected)


def test_peak_memory_of_few_long_columns():
    setup = "image = np.ones((500_000, 2), bool); image[1000] = False; small = image[:9].copy()"
    call = "ms.distance_transform_edt({})"
    got = peak_bytes_per_pixel(call.format("image"), setup=setup, warm=call.format("small"))
    assert got < 45  # a tile alone would be 64
