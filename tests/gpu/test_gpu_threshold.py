"""Thresholds on a GPU: the slow twin, the CPU's kernels and the GPU's kernels agree."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import ShimDevice, needs_compiler, on_shim
from conftest import DTYPES, SHAPES, random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _device

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
