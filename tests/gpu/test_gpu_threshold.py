"""Thresholds on a GPU: the slow twin, the CPU's kernels and the GPU's kernels agree."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _shim import ShimDevice, needs_compiler, on_device, on_shim
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _device, means
from medseg_fast.batch import _Batch

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threshold(rng, dtype):
    for shape in SHAPES:
        image = random_image(rng, shape, dtype)
        for t, upper in [(0, None), (1.5, 3.25), (2, 4), (1000, None), (-np.inf, 2)]:
            mask = on_shim("threshold", image, t, upper, schedules=2)
            assert mask.dtype == np.bool_
            assert_array_equal(mask, ms.threshold(image, t, upper))
            assert_array_equal(mask, reference.threshold.threshold(image, t, upper))


def test_nan_is_outside():
    image = np.array([np.nan, 1, np.inf, -np.inf], np.float32)
    assert on_shim("threshold", image, -np.inf).tolist() == [False, True, True, True]


@pytest.mark.parametrize("size", [255, 256, 1023, 1024, 1025, 2 * 1024, 5 * 1024 + 3])
def test_sizes_at_the_blocks_edges(rng, size, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    image = rng.integers(0, 255, size, np.uint8)
    assert_array_equal(on_shim("threshold", image, 99), image >= 99)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64], ids=str)
def test_images_that_begin_anywhere(rng, dtype):
    whole = rng.integers(0, 100, 3000).astype(dtype)
    for first in range(0, 17, 3):
        image = whole[first:-2]
        mask = on_shim("threshold", image, 40, 60, schedules=1)
        assert_array_equal(mask, (image >= 40) & (image <= 60))
        assert on_shim("threshold_otsu", image, schedules=1) == ms.threshold_otsu(image)


def test_out_of_any_layout_is_filled_and_returned(rng):
    image = rng.integers(0, 255, (9, 11), np.uint8)
    for out in (np.zeros((9, 11), bool), np.zeros((9, 22), bool)[:, ::2], np.zeros(100, bool)[1:]):
        fits = out if out.ndim == 2 else out.reshape(9, 11)
        assert on_shim("threshold", image, 99, out=fits) is fits
        assert_array_equal(fits, image >= 99)


def test_arrays_of_another_kind_are_refused(rng):
    device = ShimDevice()
    device.array = type("ndarray", (), {})
    with pytest.raises(TypeError, match=r"threshold: image must lie on the GPU .* numpy.ndarray"):
        OPERATIONS["threshold"].on_gpu(device, [np.zeros(3)], {"t": 1})


@pytest.mark.filterwarnings("ignore:threshold_otsu is expected")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_otsu(rng, dtype):
    for shape in [(1,), (67,), (33, 65), (5, 7, 9), (3000,)]:
        image = random_image(rng, shape, dtype)
        if image.dtype.kind == "f":
            image = np.nan_to_num(image, posinf=9, neginf=-9).astype(dtype)
        elif image.dtype == np.uint64:
            image >>= 1
        for one in (image, np.full_like(image, 3)):
            got, expected = on_shim("threshold_otsu", one, schedules=2), ms.threshold_otsu(one)
            assert got.dtype == np.asarray(expected).dtype
            assert got.shape == ()
            assert got == expected
            if one.dtype in (np.float32, np.float64):
                assert on_shim("threshold_otsu", one, 5000) == ms.threshold_otsu(one, 5000)
                for name in ("threshold_otsu", "threshold_triangle"):
                    assert on_shim(name, one, nbins=1) == getattr(ms, name)(one, nbins=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_bins_of_the_least_numbers(rng, dtype):
    """More of them go into one than the dtype has numbers for."""
    image = (rng.integers(0, 301, (9, 33)) * np.finfo(dtype).smallest_subnormal).astype(dtype)
    image[0, :2] = 0, 300 * np.finfo(dtype).smallest_subnormal
    assert on_shim("threshold_otsu", image, 100) == ms.threshold_otsu(image, 100)
    assert on_shim("threshold_yen", image, 5) == ms.threshold_yen(image, 5)


@pytest.mark.parametrize(
    "name", ["otsu", "yen", "isodata", "triangle", "minimum", "multiotsu"], ids=str
)
def test_integers_of_a_wide_range(rng, name):
    """Empty bins count for most criteria: what the CPU refuses is refused here too."""
    name = f"threshold_{name}"
    images = rng.integers(-(2**40), 2**40, (2, 40))
    batch = _Batch(OPERATIONS[name])
    if name in ("threshold_otsu", "threshold_yen"):
        assert on_shim(name, images) == getattr(ms, name)(images)
        expected = [getattr(ms, name)(image) for image in images]
        assert on_device(batch, [images], {})[0].tolist() == expected
        return
    message = f"{name}: an integer image must span at most 16777216 values, got"
    for call in (getattr(ms, name), lambda _: on_shim(name, images)):
        with pytest.raises(ValueError, match=f"{message} {images.min()} to {images.max()}"):
            call(images)
    with pytest.raises(ValueError, match=message):
        on_device(batch, [images], {})


@pytest.mark.parametrize("name", ["threshold_yen", "threshold_isodata", "threshold_minimum"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_other_criteria(rng, name, dtype):
    function = getattr(ms, name)
    for shape in [(67,), (33, 65), (5, 7, 9), (3000,)]:
        many = np.prod(shape)
        two_peaks = np.where(
            rng.random(many) < 0.4, rng.normal(40, 6, many), rng.normal(90, 8, many)
        )
        image = two_peaks.clip(0, 127).reshape(shape)
        image = image > 60 if dtype == np.bool_ else image.astype(dtype)
        for one in (image, np.full_like(image, 1)):
            try:
                expected = function(one)
            except RuntimeError as error:  # no two peaks
                with pytest.raises(RuntimeError, match=str(error)):
                    on_shim(name, one, schedules=1)
                continue
            got = on_shim(name, one, schedules=1)
            assert got.dtype == np.asarray(expected).dtype
            assert got.shape == ()
            assert got == expected
    if dtype == np.float32:
        assert on_shim(name, image, 999) == function(image, 999)


@pytest.mark.filterwarnings("ignore:threshold_multiotsu is expected")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_triangle_and_several_classes(rng, dtype):
    for shape in [(67,), (33, 65), (5, 7, 9)]:
        image = rng.gamma(2, 12, shape).clip(0, 127)
        image = image > 30 if dtype == np.bool_ else image.astype(dtype)
        for name, *args in [
            ("threshold_triangle",),
            ("threshold_triangle", 99),
            ("threshold_multiotsu",),
            ("threshold_multiotsu", 4, 40),
            ("threshold_multiotsu", 2),
        ]:
            function = getattr(ms, name)
            if dtype == np.bool_ and args and name == "threshold_multiotsu" and args[0] > 2:
                with pytest.raises(ValueError, match="only 2 different values"):
                    on_shim(name, image, *args, schedules=1)
                continue
            if dtype == np.bool_ and not args and name == "threshold_multiotsu":
                continue
            got, expected = on_shim(name, image, *args, schedules=1), function(image, *args)
            assert got.dtype == np.asarray(expected).dtype
            assert_array_equal(got, expected)
        same = np.full_like(image, 1)
        got, expected = on_shim("threshold_triangle", same), ms.threshold_triangle(same)
        assert got.dtype == expected.dtype
        assert got == expected
        with pytest.raises(ValueError, match="only 1 different values"):
            on_shim("threshold_multiotsu", same)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_mean(rng, dtype):
    for shape in [(1,), (67,), (33, 65), (5, 7, 9), (2, 0)]:
        image = random_image(rng, shape, dtype)
        if image.size == 0:
            with warnings.catch_warnings(record=True) as seen:
                warnings.simplefilter("always")
                got = on_shim("threshold_mean", image, schedules=1)
            assert "Mean of empty slice" in str(seen[0].message)
            assert np.isnan(got)
            continue
        with np.errstate(invalid="ignore"):
            got, expected = on_shim("threshold_mean", image), ms.threshold_mean(image)
        assert got.dtype == expected.dtype
        assert got.shape == ()
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(got.dtype).eps)
        if image.dtype.kind != "f":
            assert got == expected


def test_mean_of_the_largest_integers():
    for dtype in (np.int64, np.uint64):
        info = np.iinfo(dtype)
        for image in ([info.max] * 5, [info.min, info.max, 1], [info.max, info.max - 1024]):
            array = np.array(image, dtype)
            assert on_shim("threshold_mean", array) == ms.threshold_mean(array)


def close_to_the_cpu(got, expected, image):
    assert got.dtype == np.asarray(expected).dtype
    assert got.shape == ()
    values = image[np.isfinite(image)] if image.dtype.kind == "f" else image
    span = float(values.max(initial=0)) - float(values.min(initial=0))
    precision = 1e-6 if image.dtype in (np.float16, np.float32) else 1e-12
    np.testing.assert_allclose(got, expected, rtol=0, atol=precision * span)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if np.dtype(d).kind != "b"], ids=str)
def test_li(rng, dtype, monkeypatch):
    monkeypatch.setattr(means, "_PIXELS_OF_BLOCK", 256)
    for shape in [(1,), (67,), (33, 65), (5, 7, 9)]:
        image = rng.gamma(2, 12, shape).clip(0, 127).astype(dtype)
        close_to_the_cpu(on_shim("threshold_li", image), ms.threshold_li(image), image)
        same = np.full_like(image, 7)
        close_to_the_cpu(on_shim("threshold_li", same), ms.threshold_li(same), same)
        if image.size == 1:
            continue
        for options in (
            {"tolerance": 0.01},
            {"initial_guess": float(image.max()) / 2},
            {"initial_guess": np.median},
        ):
            got, expected = (
                on_shim("threshold_li", image, **options),
                ms.threshold_li(image, **options),
            )
            close_to_the_cpu(got, expected, image)
        seen, others = [], []
        on_shim("threshold_li", image, iter_callback=seen.append, schedules=1)
        ms.threshold_li(image, iter_callback=others.append)
        np.testing.assert_allclose(seen, others, rtol=1e-5)


def test_li_of_what_is_not_finite(rng):
    for dtype in (np.float16, np.float32, np.float64):
        image = rng.normal(50, 20, (20, 31)).astype(dtype)
        for wrong in ([np.nan], [np.inf], [-np.inf, np.nan, np.inf]):
            image.reshape(-1)[: len(wrong)] = wrong
            close_to_the_cpu(on_shim("threshold_li", image), ms.threshold_li(image), image)
    for settled in ([np.nan] * 3, [], [np.inf, -np.inf], [np.inf, 3, 3, -np.inf], [True, True]):
        array = np.array(settled)
        assert_array_equal(on_shim("threshold_li", array), ms.threshold_li(array))
    with pytest.raises(TypeError, match="threshold_li: image must be integer or float, got bool"):
        on_shim("threshold_li", np.array([True, False]))
    with pytest.raises(ValueError, match="must be within the range of the image"):
        on_shim("threshold_li", np.arange(9.0), initial_guess=99)


def test_what_other_criteria_take_beside(rng):
    image = rng.integers(0, 200, (40, 50), np.uint8)
    with pytest.raises(
        NotImplementedError, match="threshold_isodata: no GPU kernel for return_all"
    ):
        on_shim("threshold_isodata", image, 256, True)
    with pytest.raises(RuntimeError, match="threshold_minimum: Maximum iteration reached"):
        on_shim("threshold_minimum", np.array([0, 0, 0, 5, 9, 9, 9], np.uint8), max_num_iter=1)
    with pytest.raises(NotImplementedError, match="threshold_yen: no GPU kernel for histograms"):
        on_shim("threshold_yen", hist=np.ones(4))
    assert on_shim("threshold_isodata", image, return_all=False) == ms.threshold_isodata(image)


def test_otsu_of_blocks_that_go_on_and_of_narrow_ranges(rng, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    image = rng.integers(-70, 900, (50, 60)).astype(np.int32)
    assert on_shim("threshold_otsu", image) == ms.threshold_otsu(image)
    assert on_shim("threshold_otsu", image / 7) == ms.threshold_otsu(image / 7)


def test_otsu_refuses_what_the_cpu_refuses(rng):
    for wrong in (np.zeros((0, 3)), np.array([1, np.nan]), np.array([1, np.inf])):
        with pytest.raises(ValueError, match="threshold_otsu: "):
            ms.threshold_otsu(wrong)
        with pytest.raises(ValueError, match="threshold_otsu: "):
            on_shim("threshold_otsu", wrong)
    with pytest.raises(NotImplementedError, match="threshold_otsu: no GPU kernel for histograms"):
        on_shim("threshold_otsu", np.ones(4), hist=np.ones(4))
    with pytest.warns(UserWarning, match="looks like that of an RGB image"):
        on_shim("threshold_otsu", rng.random((4, 4, 3)), schedules=1)
