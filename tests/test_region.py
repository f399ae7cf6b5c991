from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from _regions import FULL, index, patchy, structure
from conftest import DTYPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._region import Growth
from medseg_fast.reference import region as reference

ITK_DTYPES = [d for d in DTYPES if d.kind in "uif" and d != np.float16]


def itk_image(sitk, image):
    return sitk.GetImageFromArray(image)


# --- connected_threshold ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", FULL, ids=str)
def test_connected_threshold_equals_reference(rng, isa, shape):
    pattern = patchy(rng, shape, np.uint8)
    seeds = [index(rng, shape), index(rng, shape)]
    for connectivity in range(1, len(shape) + 1):
        expected = reference.connected_threshold(pattern, seeds, 1, 1, connectivity)
        for dtype in DTYPES:
            image = (pattern == 1 if dtype.kind == "b" else pattern).astype(dtype)
            mask = ms.connected_threshold(image, seeds, 1, 1, connectivity)
            assert mask.dtype == bool
            assert_array_equal(mask, expected, str(dtype))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 129, 200])
@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_connected_threshold_across_words(rng, isa, length, connectivity):
    image = (rng.random((3, 4, length)) < 0.4).astype(np.uint8)
    image[0, 0] = 1  # one run across all words
    for x in {0, length // 2, length - 1}:
        mask = ms.connected_threshold(image, (0, 0, x), 1, 1, connectivity)
        expected = reference.connected_threshold(image, [(0, 0, x)], 1, 1, connectivity)
        assert_array_equal(mask, expected)


def test_connected_threshold_winding_path(threads):
    """One path through the whole image, up and down: a row is revisited hundreds of times."""
    image = np.zeros((130, 200), np.int16)
    image[:, ::2] = 1
    image[0, 1::4] = image[-1, 3::4] = 1
    assert_array_equal(ms.connected_threshold(image, (129, 0), 1, 1), image == 1)
    assert_array_equal(ms.connected_threshold(image.T, (0, 129), 1, 1), image.T == 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_connected_threshold_takes_any_layout(rng, layout, dtype):
    image = patchy(rng, (5, 6, 7), dtype)
    given = layout(image)
    before = given.copy()
    expected = reference.connected_threshold(image, [(2, 3, 4)], 1, 1, 2)
    assert_array_equal(ms.connected_threshold(given, (2, 3, 4), 1, 1, 2), expected)
    assert_array_equal(given, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_connected_threshold_large(rng, isa, threads, dtype, connectivity):
    """Large enough for the rest of the rows to be compared at once, by all threads."""
    scipy_label = pytest.importorskip("scipy.ndimage").label
    image = (rng.random((30, 40, 150)) < 0.45).astype(dtype)
    labels, _ = scipy_label(image, structure(3, connectivity))
    seed = tuple(np.argwhere(labels == np.bincount(labels[labels > 0]).argmax())[0])
    mask = ms.connected_threshold(image, seed, 1, 1, connectivity)
    assert_array_equal(mask, labels == labels[seed])


@pytest.mark.parametrize("dtype", ITK_DTYPES, ids=str)
def test_connected_threshold_equals_simpleitk(rng, dtype):
    sitk = pytest.importorskip("SimpleITK")
    for shape in [(9, 31), (5, 12, 13)]:
        image = patchy(rng, shape, dtype, 6) * (1 if dtype.kind in "ui" else dtype.type(0.1))
        low, high = (1, 3) if dtype.kind in "ui" else (0.1, 0.3)
        seeds = [index(rng, shape) for _ in range(3)]
        points = [[int(x) for x in seed[::-1]] for seed in seeds]
        for full, connectivity in ((False, 1), (True, len(shape))):
            choice = sitk.ConnectedThresholdImageFilter
            theirs = sitk.ConnectedThreshold(
                itk_image(sitk, image),
                points,
                low,
                high,
                1,
                choice.FullConnectivity if full else choice.FaceConnectivity,
            )
            ours = ms.connected_threshold(image, seeds, low, high, connectivity)
            assert_array_equal(ours, sitk.GetArrayFromImage(theirs) != 0)


def test_connected_threshold_limits():
    image = np.arange(10, dtype=np.uint8)
    assert ms.connected_threshold(image, 4, 2.5, 5.5).nonzero()[0].tolist() == [3, 4, 5]
    assert ms.connected_threshold(image, 4, -5, 1000).all()
    assert not ms.connected_threshold(image, 4, 300, 400).any()
    assert not ms.connected_threshold(image, 4, 0, 3).any()  # the seed is outside the interval
    assert ms.connected_threshold(image, [4, 1], 0, 3).nonzero()[0].tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="lower must not exceed upper"):
        ms.connected_threshold(image, 4, 5, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_connected_threshold_special_values(isa, dtype):
    image = np.array([-np.inf, -1, -0.0, 0.0, 1, np.inf, np.nan, 1, -np.nan, 1], dtype)
    inside = ms.connected_threshold(image, 4, -np.inf, np.inf)
    assert inside.tolist() == [True] * 6 + [False] * 4
    assert ms.connected_threshold(image, 2, 0, 1).tolist() == [False] * 2 + [True] * 3 + [False] * 5
    assert ms.connected_threshold(image, 3, -1, -0.0).tolist() == [False] + [True] * 3 + [False] * 6


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_connected_threshold_every_word_position(rng, isa, dtype):
    """Each lane of each build's comparison, with NaN and both signs around the limits."""
    image = random_image(rng, (1000,), dtype)
    image[rng.random(1000) < 0.1] = np.nan
    expected = (image >= -1.5) & (image <= dtype(3.1))
    for start in np.flatnonzero(expected)[::31]:
        mask = ms.connected_threshold(image, int(start), -1.5, 3.1)
        lo = start - np.argmin(np.append(expected[start::-1], False))
        hi = start + np.argmin(np.append(expected[start:], False))
        assert mask.nonzero()[0].tolist() == list(range(lo + 1, hi))


# --- neighborhood_connected ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1,), (150,), (9, 70), (4, 5, 65), (3, 4, 3, 5)], ids=str)
def test_neighborhood_connected_equals_reference(rng, isa, shape):
    image = np.where(rng.random(shape) < 0.03, 0, 1)
    for trial in range(3):
        radius = tuple(int(r) for r in rng.integers(0, 4, len(shape)))
        seeds = [index(rng, shape), index(rng, shape)]
        expected = reference.neighborhood_connected(image, seeds, 1, 2, radius)
        for dtype in DTYPES[trial::3]:
            mask = ms.neighborhood_connected(image.astype(dtype), seeds, 1, 2, radius)
            assert_array_equal(mask, expected, f"{dtype} {radius}")


@pytest.mark.parametrize("radius", [0, 1, 5, 64, 65, 200])
def test_neighborhood_connected_radius_across_words(isa, radius):
    image = np.ones(400, np.uint8)
    image[399] = 0
    mask = ms.neighborhood_connected(image, 0, 1, 1, radius)
    assert mask.sum() == 399 - radius


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_neighborhood_connected_equals_simpleitk(rng, dtype):
    sitk = pytest.importorskip("SimpleITK")
    for shape in [(20, 31), (9, 12, 13)]:
        image = np.where(rng.random(shape) < 0.03, 0, 2).astype(dtype)
        for radius in ((1,) * len(shape), (2, 0, 1)[: len(shape)]):
            seed = index(rng, shape)
            theirs = sitk.NeighborhoodConnected(
                itk_image(sitk, image), [seed[::-1]], 1, 3, radius[::-1]
            )
            ours = ms.neighborhood_connected(image, seed, 1, 3, radius)
            assert_array_equal(ours, sitk.GetArrayFromImage(theirs) != 0)


def test_neighborhood_connected_large(rng, threads):
    image = (rng.random((50, 60, 100)) > 0.01).astype(np.float32)
    ndimage = pytest.importorskip("scipy.ndimage")
    eroded = ndimage.binary_erosion(image, np.ones((3, 3, 3)), border_value=1)
    labels, _ = ndimage.label(eroded)
    seed = tuple(np.argwhere(labels == 1)[0])
    assert_array_equal(ms.neighborhood_connected(image, seed, 1, 1), labels == 1)


# --- confidence_connected --------------------------------------------------------------------


def blobs(rng, shape, dtype):
    """A bright and a dark half with noise, within every dtype's range."""
    image = rng.normal(40, 4, shape)
    image[tuple(slice(0, n // 2 + 1) for n in shape)] += 50
    return image.astype(dtype)


@pytest.mark.parametrize("dtype", ITK_DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(40, 33), (17, 20, 21)], ids=str)
def test_confidence_connected_equals_simpleitk(rng, dtype, shape):
    sitk = pytest.importorskip("SimpleITK")
    image = blobs(rng, shape, dtype)
    for multiplier, iterations, radius, count in [
        (4.5, 4, 1, 1), (2.5, 4, 1, 1), (2.0, 1, 2, 2),
        (1.7, 0, 3, 1), (2.2, 7, 0, 3), (1.1, 12, 2, 2),
    ]:  # fmt: skip
        seeds = [index(rng, shape) for _ in range(count)]
        points = [[int(x) for x in seed[::-1]] for seed in seeds]
        theirs = sitk.ConfidenceConnected(
            itk_image(sitk, image), points, iterations, multiplier, radius
        )
        ours = ms.confidence_connected(image, seeds, multiplier, iterations, radius)
        assert_array_equal(ours, sitk.GetArrayFromImage(theirs) != 0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_confidence_connected_equals_reference(rng, isa, dtype):
    for shape in [(30,), (12, 70), (5, 6, 20)]:
        image = blobs(rng, shape, dtype)
        for multiplier, iterations, radius in [(2.5, 4, 1), (1.5, 2, 2)]:
            seeds = [index(rng, shape), index(rng, shape)]
            ours = ms.confidence_connected(image, seeds, multiplier, iterations, radius)
            assert_array_equal(
                ours,
                reference.confidence_connected(image, seeds, multiplier, iterations, radius),
            )


def test_confidence_connected_statistics_do_not_depend_on_threads(rng):
    image = rng.normal(size=(40, 50, 300)).astype(np.float32)
    sums = []
    for n in (1, 2, 5):
        with ms.num_threads(n):
            growth = Growth("test", image)
            seeds = np.zeros((1, 3), np.int64)
            growth.grow(np.array([-9, 9], np.float32), seeds, 1, image.size)
            sums.append(growth.moments())
    assert sums[0] == sums[1] == sums[2]
    count, total, squares = sums[0]
    assert count == image.size
    exact = image.astype(np.float64)
    # 75,000 additions a lane, each off by at most half a unit in the last place of the sum.
    assert total == pytest.approx(math.fsum(exact.ravel()), abs=1e5 * 2**-53 * np.abs(exact).sum())
    assert squares == pytest.approx(math.fsum((exact**2).ravel()), rel=1e5 * 2**-53)


def test_confidence_connected_moments_equal_bytes_in_all_builds(rng, isa):
    image = rng.normal(size=(9, 50, 300)).astype(np.float16)
    growth = Growth("test", image)
    growth.grow(np.array([-1, 9], np.float16), np.argwhere(image > -1)[:1], 2, image.size)
    mask = growth.mask(None)
    values = image[mask].astype(np.float64)
    count, total, squares = growth.moments()
    known = test_confidence_connected_moments_equal_bytes_in_all_builds.__dict__
    assert known.setdefault("sums", (count, total, squares)) == (count, total, squares)
    assert count == values.size
    assert total == pytest.approx(values.sum(), rel=1e-12)
    assert squares == pytest.approx((values**2).sum(), rel=1e-12)


def test_confidence_connected_region_of_one_voxel_stays():
    sitk = pytest.importorskip("SimpleITK")
    image = np.array([[4, 5, 7]], np.float32)
    for iterations in (0, 1):
        ours = ms.confidence_connected(image, (0, 1), 1, iterations)
        assert ours.tolist() == [[False, True, False]]
    assert not sitk.GetArrayFromImage(
        sitk.ConfidenceConnected(itk_image(sitk, image), [(1, 0)], 1, 1.0, 1, 1)
    ).any()


def test_confidence_connected_constant_and_odd_images():
    for dtype in (np.uint8, np.float32, np.float64):
        image = np.full((6, 7), 0.1 if np.dtype(dtype).kind == "f" else 3, dtype)
        assert ms.confidence_connected(image, (2, 2)).all()
    image = np.full((6, 7), 5.0)
    image[0, 0], image[5, 5] = np.nan, np.inf
    mask = ms.confidence_connected(image, (1, 1))
    assert_array_equal(mask, np.isfinite(image))
    with pytest.raises(ValueError, match="initial_radius must be at least 1"):
        ms.confidence_connected(image, (1, 1), initial_radius=0)
    with pytest.raises(ValueError, match="multiplier must be finite and not negative"):
        ms.confidence_connected(image, (1, 1), -1)
    with pytest.raises(ValueError, match="iterations"):
        ms.confidence_connected(image, (1, 1), iterations=-1)


# --- isolated_connected ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ITK_DTYPES, ids=str)
def test_isolated_connected_equals_simpleitk(rng, dtype):
    sitk = pytest.importorskip("SimpleITK")
    scipy_filter = pytest.importorskip("scipy.ndimage").gaussian_filter
    warned = 0
    for trial in range(12):
        shape = (11, 13) if trial % 2 else (4, 5, 9)
        smooth = scipy_filter(rng.normal(size=shape), 1.5)
        image = (100 * (smooth - smooth.min()) / np.ptp(smooth)).astype(dtype)
        seed1, seed2 = index(rng, shape), index(rng, shape)
        low, high = (0, 100) if trial % 3 else (20, 90)
        tolerance = (1.0, 2.5, 7.0)[trial % 3]  # ITK never ends with less than 1
        find_upper = bool(trial % 4 < 2)
        peer = sitk.IsolatedConnectedImageFilter()
        peer.SetSeed1(seed1[::-1])
        peer.SetSeed2(seed2[::-1])
        peer.SetLower(low)
        peer.SetUpper(high)
        peer.SetFindUpperThreshold(find_upper)
        peer.SetIsolatedValueTolerance(tolerance)
        theirs = sitk.GetArrayFromImage(peer.Execute(itk_image(sitk, image))) != 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ours = ms.isolated_connected(image, seed1, seed2, low, high, find_upper, tolerance)
        assert_array_equal(ours, theirs)
        assert bool(caught) == peer.GetThresholdingFailed()
        warned += bool(caught)
        expected = reference.isolated_connected(
            image, seed1, seed2, low, high, find_upper, tolerance
        )
        assert_array_equal(ours, expected)
    assert 0 < warned < 12


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("find_upper", [True, False])
def test_isolated_connected_separates(isa, dtype, find_upper):
    values = [0, 0, 1, 0] if dtype.kind == "b" else [10, 20, 50, 20, 10]
    image = np.array(values if find_upper else [max(values) - v for v in values], dtype)
    mask = ms.isolated_connected(image, 0, len(values) - 1, image.min(), image.max(), find_upper, 0)
    assert mask.tolist() == [True, True] + [False] * (len(values) - 2)


def test_isolated_connected_several_seeds_and_failure():
    image = np.array([10, 20, 50, 20, 10, 5, 60, 7])
    mask = ms.isolated_connected(image, [0, 4], [7], 0, 100)
    assert mask.tolist() == [True] * 6 + [False] * 2
    with pytest.warns(UserWarning, match="no interval separates seed1 from seed2"):
        ms.isolated_connected(image, 1, 0, 0, 100)
    with pytest.warns(UserWarning, match="no interval"):
        assert not ms.isolated_connected(image.astype(np.uint8), 0, 7, 300, 400).any()
    floats = image.astype(np.float64)
    for low, high in [(0, 100), (-np.inf, 100), (0, np.inf)]:  # ITK never ends with 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ms.isolated_connected(floats, 0, 7, low, high, tolerance=0)


@settings(max_examples=40, deadline=None)
@given(
    hnp.arrays(np.uint8, hnp.array_shapes(max_dims=4, max_side=6), elements=st.integers(0, 2)),
    st.data(),
)
def test_growth_properties(image, data):
    """The region is connected, within the interval, and cannot grow."""
    seed = tuple(data.draw(st.integers(0, n - 1)) for n in image.shape)
    connectivity = data.draw(st.integers(1, image.ndim))
    limits = data.draw(st.sampled_from([(0, 0), (1, 1), (0, 1), (1, 2)]))
    mask = ms.connected_threshold(image, seed, *limits, connectivity)
    expected = reference.connected_threshold(image, [seed], *limits, connectivity)
    assert_array_equal(mask, expected)
    flipped = (slice(None, None, -1),) * image.ndim
    mirrored = tuple(n - 1 - x for x, n in zip(seed, image.shape, strict=True))
    assert_array_equal(
        ms.connected_threshold(image[flipped], mirrored, *limits, connectivity)[flipped], mask
    )
