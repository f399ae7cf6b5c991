from __future__ import annotations

import warnings

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

twin = reference.random_walker.random_walker
pytestmark = pytest.mark.filterwarnings("ignore:The probability range")


def image_and_seeds(rng, shape, labels=2, dtype=np.float64, negative=False):
    """Blobs with noise, and a few seeds of each label."""
    grid = sum(np.sin(g * rng.uniform(0.2, 0.8)) for g in np.indices(shape))
    image = grid + rng.normal(0, 0.2, shape)
    image = (image - image.min()) / np.ptp(image)
    if np.dtype(dtype).kind in "iu":
        image = image * min(np.iinfo(dtype).max, 10**6)
    seeds = np.zeros(shape, np.int32)
    flat = rng.permutation(seeds.size)
    for k in range(labels):
        seeds.ravel()[flat[3 * k : 3 * k + 3]] = k + 1
    if negative:
        left_out = rng.random(shape) < 0.35
        seeds[left_out & (seeds == 0)] = -1
    return image.astype(dtype), seeds


def skimage_walker():
    return pytest.importorskip("skimage.segmentation").random_walker


SHAPES = [(13, 17), (1, 9), (9, 1), (8, 8), (5, 6, 7), (1, 6, 5), (4, 1, 9), (2, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("negative", [False, True])
def test_probabilities_equal_reference(rng, shape, negative):
    labels = 1 if np.prod(shape) < 8 else 2
    for spacing in (None, (0.5, 2.0, 1.5)[: len(shape)]):
        image, seeds = image_and_seeds(rng, shape, labels, negative=negative)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = ms.random_walker(image, seeds, 90, "bf", return_full_prob=True, spacing=spacing)
        if (seeds == 0).any() and got.shape[1:] == shape and got.shape[0] == labels:
            expected = twin(image[..., None], seeds, 90, spacing or (1.0,) * len(shape))
            assert_allclose(got, expected, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(2, 7), min_size=2, max_size=3))
def test_random_small_images_equal_reference(seed, shape):
    rng = np.random.default_rng(seed)
    image, seeds = image_and_seeds(rng, tuple(shape), 1)
    seeds.ravel()[rng.integers(seeds.size)] = 2
    if not (seeds == 1).any() or not (seeds == 0).any():
        return
    got = ms.random_walker(image, seeds, mode="bf", return_full_prob=True)
    assert_allclose(got, twin(image[..., None], seeds, 130, (1.0,) * len(shape)), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 50), (14, 15, 16)], ids=str)
@pytest.mark.parametrize("labels", [1, 2, 5])
@pytest.mark.parametrize("mode", ["cg_j", "cg", None])
@pytest.mark.filterwarnings('ignore:"cg" mode')
def test_iterates_are_those_of_skimage(rng, shape, labels, mode):
    """Not the solution alone: the same approximation to it, which `tol` lets err by 1e-3."""
    image, seeds = image_and_seeds(rng, shape, labels)
    expected = skimage_walker()(image, seeds, mode=mode, return_full_prob=True)
    got = ms.random_walker(image, seeds, mode=mode, return_full_prob=True)
    assert_allclose(got, expected, atol=2e-4)
    assert got.dtype == expected.dtype
    assert np.mean(ms.random_walker(image, seeds, mode=mode) != expected.argmax(0) + 1) < 2e-3


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.6, 0.9, 0.98])
@pytest.mark.parametrize("shape", [(50, 130), (9, 14, 70)], ids=str)
def test_scattered_seeds_equal_the_twin(rng, share, shape):
    """Rows of nodes with gaps, dense and sparse stretches, and rows that are known as a whole."""
    image = rng.random(shape)
    seeds = np.where(rng.random(shape) < share, rng.integers(1, 3, shape), 0)
    seeds[rng.random(shape) < 0.02] = -1
    seeds[..., 3] = 2
    seeds[..., 40:61] = 1  # longer than a stretch bridges
    seeds[..., 50] = 0
    seeds[4:6] = 1
    got = ms.random_walker(image, seeds, 10, tol=1e-12, return_full_prob=True)
    expected = twin(image[..., None], seeds, 10, (1.0,) * len(shape))
    assert_allclose(got, expected, atol=1e-6)
    labels = ms.random_walker(image, seeds, 10, tol=1e-12)
    assert_array_equal(labels[seeds > 0], seeds[seeds > 0])
    sure = np.abs(expected[0] - expected[1]) > 1e-5
    assert_array_equal(labels[sure], expected.argmax(0)[sure] + 1)


@pytest.mark.parametrize("dtype", "bool uint8 uint16 int8 int16 int32 float16 float32".split())
def test_every_dtype_equals_skimage(rng, dtype, layout):
    image, seeds = image_and_seeds(rng, (12, 13), dtype=dtype)
    expected = skimage_walker()(image, seeds, beta=10)
    got = ms.random_walker(layout(image), layout(seeds), beta=10)
    assert np.count_nonzero(got != expected) <= (2 if dtype.startswith("f") else 0)


def test_labels_of_floats_equal_skimage(rng):
    image, seeds = image_and_seeds(rng, (12, 13), 3)
    seeds[2, 3:6] = -1
    for labels in (seeds.astype(np.float64), seeds.astype(np.float32) * 1.5, seeds.astype(">f8")):
        expected = skimage_walker()(image, labels.copy(), beta=10)
        got = ms.random_walker(image, labels, beta=10)
        assert got.dtype == labels.dtype
        assert_array_equal(got, expected)


def test_cg_warns_as_skimage(rng):
    image, seeds = image_and_seeds(rng, (12, 13))
    for walk in (skimage_walker(), ms.random_walker):
        with pytest.warns(UserWarning, match='"cg" mode may be slow'):
            walk(image, seeds, mode="cg")


def test_channels_equal_skimage(rng):
    image, seeds = image_and_seeds(rng, (12, 13))
    colour = np.stack([image, rng.random((12, 13)), image**2])
    for axis in (0, 1, 2, -1):
        given = np.moveaxis(colour, 0, axis)
        expected = skimage_walker()(given, seeds, return_full_prob=True, channel_axis=axis)
        got = ms.random_walker(given, seeds, return_full_prob=True, channel_axis=axis)
        assert_allclose(got, expected, atol=2e-4)
    one = ms.random_walker(image[..., None], seeds, channel_axis=-1)
    assert_array_equal(one, ms.random_walker(image, seeds))


def test_labels_are_renumbered_as_in_skimage(rng):
    image, seeds = image_and_seeds(rng, (14, 15), 3)
    for values in ((2, 7, 40), (3, 10**9, 2 * 10**9)):
        for dtype in (np.int32, np.int64, np.uint32):
            named = np.array([0, *values], dtype)[seeds]
            expected = skimage_walker()(image, named)
            got = ms.random_walker(image, named)
            assert got.dtype == expected.dtype == dtype
            assert_array_equal(got, expected)


def test_pruned_and_isolated_pixels_as_in_skimage(rng):
    theirs = skimage_walker()
    for _ in range(15):
        image, seeds = image_and_seeds(rng, (11, 12), 2, negative=True)
        seeds[rng.random(seeds.shape) < 0.05] = -3
        kept = np.pad(seeds >= 0, 1)
        beside = kept[:-2, 1:-1] | kept[2:, 1:-1] | kept[1:-1, :-2] | kept[1:-1, 2:]
        seeds[(seeds > 0) & ~beside] = -1  # scikit-image then confuses the others
        if not ((seeds == 1).any() and (seeds == 2).any()):
            continue
        for full in (False, True):
            a, b = seeds.copy(), seeds.copy()
            expected = theirs(image, a, copy=False, return_full_prob=full)
            got = ms.random_walker(image, b, copy=False, return_full_prob=full)
            assert_allclose(got, expected, atol=2e-4)
            assert_array_equal(a, b)
            assert_allclose(ms.random_walker(image, seeds, return_full_prob=full), got)


def test_nothing_to_label(rng):
    theirs = skimage_walker()
    image = rng.random((4, 5))
    full = rng.integers(1, 4, (4, 5))
    walled = np.full((4, 5), -1)
    walled[0, 0], walled[3, 4] = 1, 0
    for labels, message in ((full, "No zero valued"), (walled, "All unlabeled pixels")):
        for probabilities in (False, True):
            with pytest.warns(UserWarning, match=message):
                expected = theirs(image, labels.copy(), return_full_prob=probabilities)
            with pytest.warns(UserWarning, match=message) as caught:
                got = ms.random_walker(image, labels, return_full_prob=probabilities)
            assert caught[0].filename == __file__
            assert_array_equal(got, expected)
            assert got.dtype == expected.dtype


def test_warns_beyond_the_tolerance_of_probabilities(rng):
    image, seeds = image_and_seeds(rng, (30, 30))
    with pytest.warns(UserWarning, match="probability range is outside"):
        ms.random_walker(image, seeds, tol=0.5, beta=2000, prob_tol=-0.2)


def test_constant_image_and_ties():
    flat = np.full((5, 7), 3.0)
    seeds = np.zeros((5, 7), int)
    seeds[:, 0], seeds[:, -1] = 1, 2
    got = ms.random_walker(flat, seeds, mode="bf", return_full_prob=True)
    assert_allclose(got[0], np.broadcast_to(1 - np.arange(7) / 6, (5, 7)), atol=1e-8)


@pytest.mark.parametrize("mode", ["cg_j", "cg_mg"])
def test_threads_give_the_same_bytes(rng, mode):
    image, seeds = image_and_seeds(rng, (70, 30, 40), 3)
    results = []
    for threads in (1, 2, 5):
        with ms.num_threads(threads):
            got = ms.random_walker(image, seeds, mode=mode, return_full_prob=True)
            results.append(got.tobytes())
    assert results[0] == results[1] == results[2]


def test_a_real_image_is_labelled_as_by_skimage():
    image = pytest.importorskip("skimage.data").camera()[::2, ::2]
    seeds = np.zeros(image.shape, np.uint8)
    seeds[image < 20], seeds[image > 190] = 1, 2
    expected = skimage_walker()(image, seeds)
    got = ms.random_walker(image, seeds)
    assert np.count_nonzero(got != expected) < 1e-4 * image.size


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "mode must be one of", {"mode": "lu"}),
        (ValueError, "No seeds provided", {"labels": np.zeros((4, 5), int)}),
        (ValueError, "labels must have shape", {"labels": np.ones((4, 4), int)}),
        (TypeError, "labels must be numbers", {"labels": np.ones((4, 5), complex)}),
        (ValueError, "labels must be finite", {"labels": np.full((4, 5), np.nan)}),
        (ValueError, "two or three dimensions", {"data": np.ones(5), "labels": np.ones(5, int)}),
        (ValueError, "spacing must be 2", {"spacing": (1, 2, 3)}),
        (ValueError, "spacing must be 2", {"spacing": (1, 0)}),
        (ValueError, "data must be finite", {"data": np.full((4, 5), np.nan)}),
        (ValueError, "data must be finite", {"data": np.full((4, 5), np.inf)}),
        (TypeError, "data must be bool, integer or float", {"data": np.ones((4, 5), complex)}),
        (ValueError, "channel_axis must be from -2 to 1", {"channel_axis": 3}),
    ],
)
def test_bad_input(error, message, change):
    labels = np.zeros((4, 5), int)
    labels[0, 0] = 1
    with pytest.raises(error, match=message):
        ms.random_walker(**{"data": np.arange(20.0).reshape(4, 5), "labels": labels, **change})


@pytest.mark.parametrize("shape", [(90, 110), (30, 32, 34)], ids=str)
@pytest.mark.parametrize("labels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("contrast", [1, 100])
def test_multigrid_solves_the_system(rng, shape, labels, contrast):
    """Weights down to 1e-10: the residual, and what it leaves of the exact solution by `tol`."""
    image, seeds = image_and_seeds(rng, shape, labels)
    image = np.round(image * 40) * contrast  # plateaus
    args = {"return_full_prob": True, "beta": 1.0}
    exact = ms.random_walker(image, seeds, mode="bf", **args)
    got = ms.random_walker(image, seeds, mode="cg_mg", **args)
    for k in range(labels):
        assert _residual(image, seeds, exact, k) < 1e-7
        assert _residual(image, seeds, got, k) < 1.1e-3
    assert_allclose(exact.sum(0), 1, atol=1e-9)
    assert np.mean(got.argmax(0) != exact.argmax(0)) < 5e-3
    chosen = ms.random_walker(image, seeds, mode="cg_mg", beta=1.0)
    assert_array_equal(chosen[seeds == 0] - 1, got.argmax(0)[seeds == 0])


def _residual(image, seeds, probabilities, k):
    """Of the equations of unlabelled pixels, relative to what the seeds of label k give them."""
    p = np.where(seeds > 0, seeds == k + 1, probabilities[k])
    left, right = np.zeros(p.shape), np.zeros(p.shape)
    for axis in range(p.ndim):
        a = tuple(slice(-1) if d == axis else slice(None) for d in range(p.ndim))
        b = tuple(slice(1, None) if d == axis else slice(None) for d in range(p.ndim))
        w = np.exp(-((image[a] - image[b]) ** 2) / (10 * image.std())) + 1e-10
        w = w.astype(np.float32).astype(np.float64)
        for here, there in ((a, b), (b, a)):
            left[here] += w * (p[here] - p[there])
            right[here] += w * (seeds[there] == k + 1)
    unknown = seeds == 0
    return np.linalg.norm(left[unknown]) / np.linalg.norm(right[unknown])


@pytest.mark.parametrize(("mode", "most"), [("cg_j", 93), ("cg_mg", 280)])
def test_peak_memory(mode, most):
    setup = """
    rng = np.random.default_rng(0)
    image = rng.random((60, 70, 80)).astype(np.float32)
    seeds = np.zeros(image.shape, np.int32)
    seeds[:2], seeds[-2:] = 1, 2
    """
    got = peak_bytes_per_pixel(
        f"ms.random_walker(image, seeds, mode={mode!r}, tol=0.3)",
        setup=setup,
        warm=f"ms.random_walker(image[:4, :4, :4], seeds[:4, :4, :4], mode={mode!r})",
    )
    assert got < most
