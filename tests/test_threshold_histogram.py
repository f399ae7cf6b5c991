"""Histograms and the thresholds found from them, against their slow twins and scikit-image."""

from __future__ import annotations

import importlib.util
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from _thresholds import FLOATS, METHODS, finite, ours, scan, scikit_image
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import _histogram
from medseg_fast._cpu import core
from medseg_fast.reference import threshold_histogram as reference


@pytest.fixture(scope="module")
def peer():
    return scikit_image()


# --- the histogram


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [s for s in SHAPES if 0 not in s], ids=str)
def test_histogram_equals_reference(rng, isa, shape, dtype):
    image = finite(random_image(rng, shape, dtype))
    if dtype.kind in "iu" and dtype.itemsize > 2:
        image = image % np.asarray(3000, dtype)
    counts, centers = _histogram.histogram("op", image, 37)
    if image.min() == image.max():
        assert (counts.tolist(), centers.tolist()) == ([image.size], [image.flat[0]])
        return
    wanted, values = reference.histogram(image, 37)
    assert counts.dtype == np.int64
    assert_array_equal(counts, wanted)
    assert_array_equal(centers, values)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("nbins", [1, 2, 7, 255, 256, 1000, 5000])
@pytest.mark.parametrize("kind", ["normal", "integers", "narrow", "edges", "outlier"])
def test_float_histogram_is_numpys(rng, isa, dtype, nbins, kind):
    """Bin by bin, with pixels on and beside edges, and bins a few steps of the dtype wide."""
    n = 5000
    image = {
        "normal": lambda: rng.normal(0, 10, n),
        "integers": lambda: rng.integers(-3, 256, n),
        "narrow": lambda: 1000 + rng.random(n) * (4 if dtype.itemsize == 2 else 0.4),
        "edges": lambda: np.linspace(-0.7, 1.3, nbins + 1).repeat(3),
        "outlier": lambda: np.append(rng.random(n), 30_000),
    }[kind]().astype(dtype)
    if kind == "edges" and not (dtype == np.float16 and nbins > 1000):
        edges = np.histogram_bin_edges(image, nbins)
        image = np.concatenate([image, edges, np.nextafter(edges[1:], edges[:1]), edges])
        image = image.clip(edges[0], edges[-1])
    try:
        wanted, edges = np.histogram(image, nbins)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)[:25]):
            _histogram.histogram("op", image, nbins)
        return
    counts, centers = _histogram.histogram("op", image, nbins)
    assert_array_equal(counts, wanted)
    assert_array_equal(centers, (edges[:-1] + edges[1:]) / 2)
    assert centers.dtype == dtype


@settings(deadline=None, max_examples=300)
@given(
    arrays(np.float32, st.integers(2, 40), elements=st.floats(-1e3, 1e3, width=32)),
    st.integers(1, 300),
)
def test_float_histogram_is_numpys_hypothesis(image, nbins):
    if image.min() == image.max():
        return
    try:
        wanted, _ = np.histogram(image, nbins)
    except ValueError:  # too many bins for the range
        return
    assert_array_equal(_histogram.histogram("op", image, nbins)[0], wanted)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32], ids=str)
def test_histogram_does_not_depend_on_threads(rng, threads, dtype):
    image = scan(rng, (70, 90, 100), np.float64)
    image[:20] = 0  # runs
    image = (image * 200).astype(dtype) if np.dtype(dtype).itemsize > 1 else image.astype(dtype)
    counts, centers = _histogram.histogram("op", image)
    if image.dtype.kind == "f":
        assert_array_equal(counts, np.histogram(image, 256)[0])
    else:
        assert_array_equal(counts, np.bincount(image.ravel() - centers[0]))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint64], ids=str)
def test_wide_integers(rng, dtype, peer):
    """Values up to 2**40: no table can hold them, the sorted values give the same thresholds."""
    high = min(np.iinfo(dtype).max, 2**40)
    image = (rng.integers(0, 50, 500) * (high // 60)).astype(dtype)
    low = int(image.min())
    small = (image - image.min()) // np.asarray(high // 60, dtype)
    for method in ("otsu", "yen"):
        t = ours(method)(image)
        assert t == peer(method, small) * (high // 60) + low
        assert t.dtype == np.int64
    assert np.isclose(ms.threshold_mean(image), image.mean(), rtol=1e-15)
    assert low < ms.threshold_li(image) < image.max()
    for method in ("isodata", "triangle", "minimum", "multiotsu"):
        with pytest.raises(ValueError, match="must span at most 16777216 values"):
            ours(method)(image)


def test_integers_beyond_int64():
    image = np.array([2**63 + 1, 3], np.uint64)
    with pytest.raises(ValueError, match="must not exceed the int64 range"):
        ms.threshold_otsu(image)
    assert ms.threshold_mean(image) == (2**63 + 4) / 2


# --- every method against scikit-image


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(300,), (33, 65), (5, 17, 19)], ids=str)
def test_threshold_equals_skimage(rng, peer, method, dtype, shape):
    image = scan(rng, shape, dtype)
    if dtype.kind == "b" and method in ("li", "minimum", "multiotsu"):
        error = {"li": TypeError, "minimum": RuntimeError, "multiotsu": ValueError}[method]
        with pytest.raises(error):
            ours(method)(image)
        return
    before = image.copy()
    try:
        wanted = peer(method, image)
    except RuntimeError:  # no two peaks
        with pytest.raises(RuntimeError, match="Unable to find two maxima"):
            ours(method)(image)
        return
    found = ours(method)(image)
    assert_array_equal(image, before)
    assert np.asarray(found).dtype == np.asarray(wanted).dtype
    if method in ("mean", "li") and dtype.kind == "f":
        # The peer sums in the image's dtype (float16: in float32); each of its means may be off by
        # a few units in the last place of a value near 100.
        # In float64 the difference of two logarithms magnifies the last bits.
        tolerance = 1e-12 if dtype == np.float64 else 8 * np.finfo(dtype).eps
        assert np.isclose(found, wanted, rtol=tolerance, atol=0)
    else:
        assert_array_equal(found, wanted)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, np.float32], ids=str)
def test_threshold_takes_any_layout(rng, layout, method, dtype):
    image = scan(rng, (13, 14, 15), dtype)
    given = layout(image)
    before = given.copy()
    if method == "minimum":  # smooth enough to have two peaks
        image, given = image // 8, layout(image // 8)
        before = given.copy()
    assert_array_equal(ours(method)(given), ours(method)(image))
    assert_array_equal(given, before)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64], ids=str)
def test_threshold_does_not_depend_on_build(rng, isa, method, dtype):
    image = scan(rng, (41, 43, 47), dtype)
    if method == "minimum":
        image = image // 8
    found = ours(method)(image)
    _BYTES.setdefault((method, dtype), found)
    assert np.asarray(found).tobytes() == np.asarray(_BYTES[method, dtype]).tobytes()


_BYTES: dict = {}


@pytest.mark.parametrize("method", METHODS)
def test_threshold_does_not_depend_on_threads(rng, threads, method):
    image = scan(rng, (60, 80, 90), np.float32)
    image = image // 8 if method == "minimum" else image
    found = ours(method)(image)
    with ms.num_threads(1):
        assert np.asarray(found).tobytes() == np.asarray(ours(method)(image)).tobytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mni152", "photograph"])
def test_threshold_equals_skimage_on_real_images(peer, method, name):
    if name == "photograph":
        image = pytest.importorskip("skimage.data").camera()
    else:
        nilearn = importlib.util.find_spec("nilearn")  # importing it takes seconds
        if nilearn is None:
            pytest.skip("nilearn brings the scan")
        folder = Path(nilearn.origin).parent / "datasets" / "data"
        file = next(folder.glob("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"))
        volume = pytest.importorskip("nibabel").load(file)
        image = np.asarray(volume.dataobj, np.uint16)[60:90]
    for dtype in (image.dtype, np.float32):
        given = image.astype(dtype)
        try:
            wanted = peer(method, given)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                ours(method)(given)
            continue
        found = ours(method)(given)
        if method in ("mean", "li") and dtype == np.float32:
            assert np.isclose(found, wanted, rtol=1e-5)  # float32 sums of 1e6 pixels
        else:
            assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1,), (4, 5)], ids=str)
def test_constant_image(dtype, shape):
    image = np.full(shape, 1, dtype)
    for method in ("otsu", "yen", "isodata", "triangle", "li", "mean"):
        assert ours(method)(image) == 1
    assert ms.threshold_isodata(image, return_all=True).tolist() == [1]
    with pytest.raises(RuntimeError, match="Unable to find two maxima"):
        ms.threshold_minimum(image)
    with pytest.raises(ValueError, match="only 1 different values"):
        ms.threshold_multiotsu(image, 2)


@pytest.mark.parametrize("method", ["otsu", "yen", "isodata", "triangle", "minimum", "multiotsu"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("bad", "shown"), [(np.nan, "nan, nan"), (np.inf, r"0\.0, inf")])
def test_not_finite(method, dtype, bad, shown):
    image = np.array([0, 1, bad, 2], dtype)
    message = rf"threshold_{method}: autodetected range of \[{shown}\] is not finite"
    with pytest.raises(ValueError, match=message):
        ours(method)(image)


@pytest.mark.parametrize("method", METHODS)
def test_empty_image(method):
    empty = np.zeros((0, 3), np.uint8)
    if method == "li":
        assert np.isnan(ms.threshold_li(empty))
    elif method == "mean":
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert np.isnan(ms.threshold_mean(empty))
        assert "empty" in str(caught[0].message)
    else:
        with pytest.raises(ValueError, match=rf"threshold_{method}: image must have at least one"):
            ours(method)(empty)


@pytest.mark.parametrize("method", METHODS)
def test_unsupported_dtype(method):
    with pytest.raises(TypeError, match=f"threshold_{method}: image must be bool"):
        ours(method)(np.zeros(3, complex))


@pytest.mark.parametrize("method", ["otsu", "multiotsu"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colour_warning(rng, method, channels):
    image = rng.integers(0, 256, (5, 6, channels), dtype=np.uint8)
    with pytest.warns(
        UserWarning, match=f"threshold_{method} .* looks like that of an RGB"
    ) as all_:
        ours(method)(image)
    assert all_[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours(method)(image[..., 0])
        ours(method)(image[0])


@pytest.mark.parametrize("method", ["otsu", "yen", "isodata", "minimum", "multiotsu"])
def test_hist_argument(rng, peer, method):
    image = scan(rng, (40, 50), np.uint8) // 3
    counts = np.bincount(image.ravel(), minlength=99)
    centers = np.linspace(-5, 5, 99)
    for hist in (counts, (counts, centers), [counts.astype(np.float32), centers]):
        assert_array_equal(ours(method)(hist=hist), peer(method, hist=hist))
        assert_array_equal(ours(method)(image + 9, hist=hist), peer(method, image + 9, hist=hist))
    for call in (ours(method), lambda **k: peer(method, **k)):
        with pytest.raises(Exception, match="Either image or hist must be provided"):
            call()


@pytest.mark.parametrize(
    "hist", [np.zeros(4), np.ones((2, 2)), (np.ones(3), np.ones(4)), [np.ones(3)], np.ones(0)]
)
def test_bad_hist(hist):
    with pytest.raises(ValueError, match="threshold_otsu: hist must"):
        ms.threshold_otsu(hist=hist)


@pytest.mark.parametrize("nbins", [0, 2.5, True])
def test_bad_nbins(nbins):
    with pytest.raises((TypeError, ValueError), match="threshold_otsu: nbins must be"):
        ms.threshold_otsu(np.array([1.0, 2.0]), nbins)
    assert ms.threshold_otsu(np.array([1, 2]), nbins) == 1  # ignored for integers


def test_range_beyond_the_dtype():
    image = np.array([-3e38, 3e38], np.float32)
    with pytest.raises(ValueError, match="overflows float32"):
        ms.threshold_otsu(image)


@pytest.mark.parametrize("nbins", [2, 10, 99])
@pytest.mark.parametrize("method", ["otsu", "yen", "isodata", "triangle"])
def test_nbins(rng, peer, method, nbins):
    image = scan(rng, (40, 50), np.float64)
    assert ours(method)(image, nbins) == peer(method, image, nbins)


# --- Otsu


@settings(deadline=None, max_examples=200)
@given(arrays(np.int16, st.integers(2, 30), elements=st.integers(-6, 12)))
def test_otsu_is_the_first_exact_maximum(image):
    if image.min() == image.max():
        return
    assert ms.threshold_otsu(image) == reference.threshold_otsu(image)


def test_otsu_where_float32_sums_err():
    """20 million pixels of which the peer's float32 sums lose some."""
    counts = np.array([16_777_217, 3, 5_000_001, 7, 4_999_999, 1])
    values = list(map(Fraction, range(6)))
    variances = reference.otsu_variances(counts.tolist(), values)
    assert ms.threshold_otsu(hist=counts) == variances.index(max(variances))


def test_otsu_sums_beyond_int64():
    counts, centers = np.array([2**40, 1, 2**40]), np.array([0, 2**20, 2**22])
    assert ms.threshold_otsu(hist=(counts, centers)) in (0, 2**20)


# --- isodata, minimum, mean, Li


@settings(deadline=None, max_examples=100)
@given(arrays(np.uint8, st.integers(2, 30), elements=st.integers(0, 30)))
def test_isodata_equals_reference(image):
    if image.min() == image.max():
        return
    found = ms.threshold_isodata(image, return_all=True)
    assert found.tolist() == reference.threshold_isodata(image)


def test_smooth_to_two_peaks_equals_reference(rng, isa):
    for _ in range(20):
        counts = rng.integers(0, 10**6, 50) * (rng.random(50) < 0.7)
        smooth = counts.astype(np.float32)
        passes, count, first, second = core.smooth_to_two_peaks(smooth, 500)
        wanted, peaks, bins = reference.smooth_to_two_peaks(counts.tolist(), 500)
        assert passes == wanted
        assert count == len(peaks)
        assert [first, second][:count] == peaks[:2]
        assert_array_equal(smooth, bins)


def test_minimum_stops(peer, rng):
    counts = rng.integers(0, 1000, 400)
    counts[[0, -1]] = 1
    for call in (ours("minimum"), lambda **k: peer("minimum", **k)):
        with pytest.raises(RuntimeError):
            call(hist=counts, max_num_iter=3)
    with pytest.raises(ValueError, match="max_num_iter must be at least 1"):
        ms.threshold_minimum(hist=counts, max_num_iter=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean_equals_reference(rng, isa, dtype):
    for n in (1, 67, 5000, 70_001):
        image = finite(random_image(rng, (n,), dtype))
        exact = reference.threshold_mean(image)
        if dtype.kind == "f":
            exact = dtype.type(exact)
            # float64 sums: below 1e-12 relative to the sum of magnitudes, then rounded to dtype.
            spread = 1e-12 * np.abs(image.astype(np.float64)).mean()
            tolerance = spread + abs(np.spacing(exact))
            assert abs(float(ms.threshold_mean(image)) - float(exact)) <= tolerance
        else:
            assert ms.threshold_mean(image) == exact


def test_mean_of_not_finite():
    assert np.isnan(ms.threshold_mean(np.array([1, np.nan])))
    assert ms.threshold_mean(np.array([1, np.inf], np.float32)) == np.inf


# --- other libraries' arrays


@pytest.mark.parametrize("method", METHODS)
def test_torch_tensors(rng, method):
    torch = pytest.importorskip("torch")
    image = scan(rng, (20, 20), np.float32) // 8
    found = ours(method)(torch.from_numpy(image))
    assert isinstance(found, torch.Tensor)
    assert_array_equal(found.numpy(), ours(method)(image))
