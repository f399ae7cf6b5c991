"""Batches on a GPU: each image's result, with as many launches as one image takes."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_device
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS
from medseg_fast.batch import _Batch

pytestmark = needs_compiler


def launches(name, *args, **kwargs):
    """What was launched for one image: names of kernels, as often as they were."""
    return on_device(OPERATIONS[name], args, kwargs)[1]


def check(name, images, *args, seeds=(0, 1), **kwargs):
    """The batch's results are the CPU's of each image alone."""
    for seed in seeds:
        batch = _Batch(OPERATIONS[name])
        got, launched = on_device(batch, (images, *args), kwargs, seed)
        expected = ms.batch(OPERATIONS[name].function, images, *args, **kwargs)
        if not isinstance(expected, tuple):
            got, expected = (got,), (expected,)
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == other.dtype
            if one.dtype.kind == "f":
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
            else:
                assert_array_equal(one, other)
    return launched


SHAPES = [(1, 9, 33), (3, 8, 32), (4, 17, 35), (3, 1, 40), (2, 67), (2, 5, 0)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_operations_in_one_launch(rng, shape):
    images = rng.integers(0, 7, shape).astype(np.float32)
    images[:1] = 3  # an image without edges and minima
    for name, *args in [
        ("threshold", 3.5),
        ("sobel",),
        ("gaussian", 1.5),
        ("label",),
        ("apply_hysteresis_threshold", 3, 5),
        ("distance_transform_edt",),
        ("local_minima",),
        ("watershed",),
    ]:
        launched = check(name, images, *args)
        if images.size:
            assert len(launched) == len(launches(name, images[-1], *args))
    if len(shape) == 3:
        check("sobel_h", images)
        launched = check("canny", images * 30, 0.7, mode="nearest")
        assert len(launched) == len(launches("canny", images[-1], 0.7, mode="nearest"))


def test_canny_by_both_conventions(rng):
    images = (ms.batch(ms.gaussian, rng.random((3, 20, 40)), 2) * 900 % 256).astype(np.uint8)
    mask = rng.random((20, 40)) < 0.97
    check("canny", images, 1.0)
    check("canny", images, 1.0, mask=mask)
    check("canny", images, low_threshold=20, high_threshold=60, convention="opencv")


def test_labels_of_images_with_and_without_components(rng):
    images = rng.random((5, 9, 40)) < 0.4
    images[1] = images[4] = False
    for connectivity in (1, 2):
        check("label", images, connectivity=connectivity, return_num=True)
    check("label", images, dtype=np.int16, return_num=True)
    check("label", images[:1])
    check("apply_hysteresis_threshold", images, 0.5, 0.5, connectivity=2)


def test_watershed_with_everything(rng):
    images = rng.integers(0, 9, (3, 12, 34)).astype(np.float64)
    images[1, 2:4] = np.nan
    markers = np.where(rng.random(images.shape) < 0.03, 5, 0)
    mask = rng.random(images.shape) < 0.9
    check("watershed", images, markers, 2)
    check("watershed", images, markers[0])
    check("watershed", images, mask=mask)
    check("watershed", images, 6, mask=mask)
    check("watershed", images, mask=mask, watershed_line=True)
    for name in ("local_minima", "local_maxima"):
        check(name, images, connectivity=1)


def test_filters_with_options(rng):
    images = rng.random((3, 9, 34))
    mask = rng.random((9, 34)) < 0.9
    check("sobel", images, mask)
    check("sobel", images, axis=1, mode=["wrap", "constant"])
    check("gaussian", images, (1, 2), mode=["wrap", "mirror"], spacing=(1, 0.5))
    check("distance_transform_edt", images > 0.2, (2, 0.7))
    with pytest.raises(NotImplementedError, match="channel_axis"):
        check("gaussian", images, channel_axis=0)


def test_others_and_volumes_go_one_by_one(rng):
    images = rng.integers(0, 9, (3, 9, 12)).astype(np.uint8)
    check("threshold_otsu", images)
    check("connected_threshold", images, (3, 4), 0, 7)
    check("maxflow_grid", images.astype(np.int32), images[::-1].astype(np.int32), 3)
    check("label", rng.random((2, 5, 6, 7)) < 0.5)
    out = np.zeros(images.shape, bool)
    got, _ = on_device(_Batch(OPERATIONS["threshold"]), (images, 4), {"out": out})
    assert got is out
    assert_array_equal(out, images >= 4)
