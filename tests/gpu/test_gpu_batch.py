"""Batches on a GPU: each image's result, with as many launches as one image takes."""

from __future__ import annotations

import inspect
import tracemalloc
from importlib import import_module

import numpy as np
import pytest
from _shim import needs_compiler, on_device
from conftest import DTYPES
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _device
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


def test_thresholds_in_one_launch(rng):
    images = rng.gamma(2, 12, (4, 20, 34))
    images[1] = 3
    images[2, 0, :3] = np.nan, np.inf, 5
    check("threshold_li", images, seeds=(0,))
    check("threshold_mean", images, seeds=(0,))
    images = np.delete(images, (1, 2), 0)
    assert len(check("threshold_li", images, tolerance=1e-3)) < 20
    greys = images.astype(np.uint8)
    for name in ("li", "mean", "triangle", "multiotsu"):
        check(f"threshold_{name}", greys, seeds=(0,))


def test_differences_in_one_launch(rng):
    images = rng.normal(size=(4, 20, 34))
    for name in ("laplace", "roberts", "roberts_pos_diag", "roberts_neg_diag"):
        assert len(check(name, images, mask=rng.random((20, 34)) < 0.97)) == 1
    assert len(check("zero_crossings", images)) == 1
    assert len(check("gaussian_laplace", images, 1)) == 4
    check("gaussian_gradient_magnitude", images, (1, 2), axes=1, mode="wrap")
    check("difference_of_gaussians", images, 1, spacing=(1, 0.5))


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


def test_memory_grows_with_the_images_not_with_their_pairs(rng):
    images = rng.random((3000, 1, 4)) < 0.5
    check("label", images[:40], seeds=(0,), return_num=True)
    on_device(_Batch(OPERATIONS["label"]), [images], {})
    tracemalloc.start()
    on_device(_Batch(OPERATIONS["label"]), [images], {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(images) ** 2


def test_what_is_returned_beside_out(rng):
    images = rng.random((3, 9, 40)) < 0.4
    for each in (images, images.reshape(3, 9, 5, 8)):
        out = np.empty(each.shape, np.int32)
        labels, counts = on_device(
            _Batch(OPERATIONS["label"]), [each], {"out": out, "return_num": True}
        )[0]
        assert labels is out
        expected = ms.batch(ms.label, each, return_num=True)
        assert_array_equal(out, expected[0])
        assert_array_equal(counts, expected[1])


def test_indices_of_extrema_stay_those_of_each_image():
    images = np.zeros((2, 9, 40))
    images[0, 3, 30] = images[1, 7, 2] = 1
    check("local_maxima", images, indices=True)
    images[1, 7, 7] = 1
    with pytest.raises(ValueError, match="results of local_maxima have different shapes"):
        on_device(_Batch(OPERATIONS["local_maxima"]), [images], {"indices": True})


def test_images_in_a_list(rng):
    images = rng.random((3, 9, 40))
    for given in (list(images), tuple(images)):
        got = on_device(_Batch(OPERATIONS["threshold"]), [given, 0.5], {})[0]
        assert_array_equal(got, images >= 0.5)


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


def test_regions_from_seeds_and_holes(rng):
    images = rng.integers(0, 4, (4, 17, 35)).astype(np.float32)
    images[2] = 3
    for name, *args in [
        ("connected_threshold", (8, 30), 0, 2),
        ("connected_threshold", [(8, 30), (0, 0)], 1, 2),
        ("flood", (8, 30)),
        ("flood_fill", (8, 30), 7),
        ("fill_holes",),
    ]:
        launched = check(name, images, *args)
        assert len(launched) <= len(launches(name, images[0], *args))
    check("flood", images, (3, 3), tolerance=1)
    check("connected_threshold", images, (8, 30), 0, 2, connectivity=2)
    check("fill_holes", images > 1, connectivity=2)
    images[1, 3, 3] = np.inf
    check("flood", images, (3, 3), tolerance=1)
    images[1, 3, 3] = np.nan
    with pytest.raises(ValueError, match=r"flood: seed_point \(3, 3\) lies on NaN"):
        check("flood", images, (3, 3))
    with pytest.raises(NotImplementedError, match="max_voxels=5"):
        check("connected_threshold", images, (8, 30), 0, 9, max_voxels=5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_otsu_of_each_image(rng, dtype, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    images = (rng.random((4, 30, 41)) * 90).astype(dtype)
    images[1] = 3
    images[2] = rng.random((30, 41)) * 20
    for given in (images, images[:1], images[1:2]):
        launched = check("threshold_otsu", given)
        if len(given) == 4:
            assert len(launched) == 1
    if dtype.itemsize >= 4 and dtype.kind in "iu":
        images[3, 0, 0] = 1 << 20  # counted one by one
        check("threshold_otsu", images)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f2", "f4"])
def test_more_images_than_a_grid_has_blocks(rng, dtype, monkeypatch):
    monkeypatch.setattr(_device, "MOST_SECOND", 2)
    images = (rng.random((5, 30, 41)) * 90).astype(dtype)
    check("threshold_otsu", images)
    check("threshold_li", images)


def test_cuts_of_each_image(rng):
    source, sink = rng.integers(0, 30, (2, 4, 9, 35)).astype(np.int32)
    source[1], sink[2] = 0, 0
    weights = rng.integers(0, 9, source.shape)
    for kind in (np.uint8, np.int32, np.float32):
        images = source.astype(kind), sink.astype(kind)
        check("maxflow_grid", *images, 5)
        check("maxflow_grid", *images, weights)
        check("maxflow_grid", *images, weights[0])
        check("maxflow_grid", *images, 4, structure=np.ones((3, 3), int))
    seeds = np.zeros(source.shape, bool)
    seeds[:, 0] = True
    check("maxflow_grid", source, sink, 3, source_seeds=seeds)
    check("maxflow_grid", source[:, 0], sink[:, 0], 3)
    device_of_one, device_of_all = (
        on_device(op, args, {})[1]
        for op, args in (
            (OPERATIONS["maxflow_grid"], (source[0], sink[0], 5)),
            (_Batch(OPERATIONS["maxflow_grid"]), (source, sink, 5)),
        )
    )
    assert set(device_of_one) == set(device_of_all)
    assert len(device_of_all) == len(device_of_one) == 4


def test_every_operation_of_images_takes_a_batch():
    """Those of networks have a batch in their arguments."""
    for op in OPERATIONS.values():
        if op.gpu is not None and not op.of_networks:
            launch = getattr(import_module(f"medseg_fast._gpu.{op.gpu}"), op.name)
            assert "apart" in inspect.signature(launch).parameters, op.name


def test_others_and_volumes_go_one_by_one(rng):
    images = rng.integers(0, 9, (3, 9, 12)).astype(np.uint8)
    check("label", rng.random((2, 5, 6, 7)) < 0.5)
    out = np.zeros(images.shape, bool)
    got, _ = on_device(_Batch(OPERATIONS["threshold"]), (images, 4), {"out": out})
    assert got is out
    assert_array_equal(out, images >= 4)
