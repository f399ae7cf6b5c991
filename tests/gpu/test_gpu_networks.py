"""Kernels of networks on a GPU: the CPU's results, ROI Align's up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast._gpu import _device
from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_resampling, nn_roi_align, nn_upsampling

pytestmark = needs_compiler


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_roi_align(rng, dtype, dims):
    features = rng.normal(size=(2, 3, 7, 9, 11)[: 4 if dims == 2 else 5]).astype(dtype)
    low = rng.uniform(-4, 9, (6, dims))
    corners = np.concatenate([low, low + rng.uniform(0, 12, (6, dims))], 1)
    boxes = np.concatenate([rng.integers(0, 2, (6, 1)), corners], 1).astype(dtype)
    boxes[3, 1:] = 2  # without any size
    boxes[4, 1 + dims :] = 500
    tolerance = {2: 2e-3, 4: 2e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    for samples in (-1, 2):
        for aligned in (False, True):
            for sizes in (3, (2, 3, 4)[:dims]):
                args = features, boxes, sizes, 0.75, samples, aligned
                got, expected = on_shim("roi_align", *args, schedules=1), F.roi_align(*args)
                assert got.dtype == expected.dtype
                assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_roi_align_lists_twin_and_limits(rng):
    features = rng.normal(size=(2, 3, 9, 12))
    boxes = [np.array([[1.0, 2, 8, 7]]), np.array([[0.0, 0, 5, 5], [3, 3, 20, 8]])]
    got = on_shim("roi_align", features, boxes, 4)
    assert_allclose(got, F.roi_align(features, boxes, 4), rtol=1e-12, atol=1e-12)
    assert_allclose(got, nn_roi_align.roi_align(features, boxes, 4), rtol=1e-12, atol=1e-12)
    assert on_shim("roi_align", features, np.empty((0, 5)), 4).shape == (0, 3, 4, 4)
    wrong = np.array([[5.0, 0, 0, 4, 4], [0, np.nan, 0, 4, 4], [-1, 0, 0, 4, 4]])
    assert not on_shim("roi_align", features, wrong, 2).any()
    with pytest.raises(AssertionError, match=r"Tensor\[K, 5\]"):
        on_shim("roi_align", features, np.empty((0, 4)), 4)
    with pytest.raises(ValueError, match="input must have pixels"):
        on_shim("roi_align", features[:, :, :0], np.zeros((1, 5)), 4)


@pytest.mark.parametrize("dims", [2, 3])
def test_roi_align_in_pieces(rng, dims):
    """Bins and samples of which a block lists only some at a time, or stages only some."""
    shape = (1, 2, 4, 9, 11)[:2] + (4, 9, 11)[3 - dims :]
    features = rng.normal(size=shape)
    boxes = np.array([[0, *(-3, 1, 0)[:dims], *(9, 7, 3)[:dims]], [0, *(5,) * dims, *(1,) * dims]])
    for sizes, samples in [((2, 9, 70)[-dims:], 2), ((2, 1, 3)[-dims:], 300), ((1, 1, 9), 99)]:
        args = boxes.astype(float), 1.0, samples, True
        got = on_shim("roi_align", features, args[0], sizes[:dims], *args[1:], schedules=1)
        expected = F.roi_align(features, args[0], sizes[:dims], *args[1:])
        assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
        back = on_shim("roi_align_backward", got, args[0], shape, *args[1:], schedules=1)
        expected = F.roi_align_backward(got, args[0], shape, *args[1:])
        assert_allclose(back, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_multiscale_roi_align(rng, dtype):
    shapes = [(2, 3, 16, 20), (2, 3, 8, 10), (2, 3, 4, 5)]
    features = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    low = rng.uniform(0, 20, (9, 2))
    corners = np.concatenate([low, low + rng.uniform(1, 40, (9, 2))], 1)
    corners[7], corners[8] = [9, 9, 3, 20], [2, 2, 2, 2]  # of negative area, of none
    boxes = [corners[:5].astype(dtype), corners[5:].astype(dtype)]
    tolerance = {2: 2e-3, 4: 2e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    options = {"scales": [0.5, 0.25, 0.125], "canonical_scale": 16, "canonical_level": 2}
    for change in (options, {"image_shapes": [(32, 40)]}):
        args = features, boxes, (2, 3), 2
        got = on_shim("multiscale_roi_align", *args, **change, schedules=1)
        expected = F.multiscale_roi_align(*args, **change)
        assert got.dtype == expected.dtype
        assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        back = got, boxes, shapes, 2
        found = on_shim("multiscale_roi_align_backward", *back, **change, schedules=1)
        for a, b in zip(found, F.multiscale_roi_align_backward(*back, **change), strict=True):
            assert a.dtype == b.dtype
            assert_allclose(a, b, rtol=10 * tolerance, atol=10 * tolerance)
    assert sum(a.any() for a in found) >= 1
    single = on_shim("multiscale_roi_align", features[:1], boxes, 2, scales=[0.5], schedules=1)
    assert_allclose(single, F.roi_align(features[0], boxes, 2, 0.5), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": []}, ValueError, "features must not be empty"),
        ({"features": [np.ones((1, 2, 4, 4)), np.ones((1, 1, 2, 2))]}, ValueError, "one N and C"),
        ({"features": [np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2), "f4")]}, TypeError, "dtype"),
        ({"scales": None}, ValueError, "image_shapes must not be empty"),
        ({"canonical_scale": 0}, ValueError, "canonical_scale must be positive"),
        ({"boxes": [np.ones((1, 5))]}, AssertionError, "boxes list is not correct"),
    ],
)
def test_multiscale_roi_align_errors(change, error, message):
    given = {"features": [np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2))], "scales": [1, 0.5]}
    given |= {"boxes": [np.array([[0.0, 0, 2, 2]])], "output_size": 2, **change}
    with pytest.raises(error, match=message):
        on_shim("multiscale_roi_align", **given)
    if "features" in change or "scales" in change:
        return
    given["gradient"] = np.ones((2, 1, 2, 2))
    given["feature_sizes"] = [f.shape for f in given.pop("features")]
    del given["output_size"]
    with pytest.raises(error, match=message):
        on_shim("multiscale_roi_align_backward", **given)


def test_roi_align_does_not_read_pixels_without_weight(rng):
    features = rng.normal(size=(1, 3, 8, 9))
    args = np.array([[0.0, 2, 2, 4, 4]]), 2, 1.0, 1
    expected = on_shim("roi_align", features, *args, schedules=1)
    features[:, :, 5:] = features[:, :, :2] = features[..., 5:] = features[..., :2] = np.nan
    assert_array_equal(on_shim("roi_align", features, *args, schedules=1), expected)
    assert np.isfinite(expected).all()
    gradient = rng.normal(size=(1, 3, 2, 2))
    gradient[..., 1, 1] = np.nan
    back = on_shim("roi_align_backward", gradient, args[0], features.shape, *args[2:])
    assert_array_equal(back, F.roi_align_backward(gradient, args[0], features.shape, *args[2:]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("dims", [2, 3])
def test_roi_align_backward(rng, dtype, dims):
    shape = (2, 5, 4, 9, 37)[:2] + (4, 9, 37)[3 - dims :]
    low = rng.uniform(-4, 9, (9, dims))
    corners = np.concatenate([low, low + rng.uniform(0, 25, (9, dims))], 1)
    boxes = np.concatenate([rng.integers(0, 2, (9, 1)), corners], 1).astype(dtype)
    boxes[3, 1:] = 2  # without any size
    boxes[4, 1 + dims :] = 500
    tolerance = {2: 2e-2, 4: 2e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    for samples, aligned in [(-1, False), (2, True), (3, False)]:
        sizes = (2, 3, 4)[:dims]
        gradient = rng.normal(size=(9, 5, *sizes)).astype(dtype)
        args = gradient, boxes, shape, 0.75, samples, aligned
        got = on_shim("roi_align_backward", *args, schedules=2)
        expected = F.roi_align_backward(*args)
        assert got.dtype == expected.dtype
        assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def test_roi_align_backward_of_many_boxes_and_of_none(rng):
    """More boxes than a block looks through at a time; the transpose of the forward pass."""
    low = rng.uniform(0, 20, (300, 2))
    boxes = np.concatenate([np.zeros((300, 1)), low, low + rng.uniform(0, 9, (300, 2))], 1)
    features, gradient = rng.normal(size=(1, 1, 24, 33)), rng.normal(size=(300, 1, 2, 2))
    back = on_shim("roi_align_backward", gradient, boxes, features.shape, 1.0, 2, schedules=1)
    forth = on_shim("roi_align", features, boxes, 2, 1.0, 2, schedules=1)
    assert np.vdot(back, features) == pytest.approx(np.vdot(gradient, forth), rel=1e-10)
    boxes[::2, 2] = np.nan
    boxes[1::2, 0] = 7
    assert not on_shim("roi_align_backward", gradient, boxes, features.shape).any()
    nothing = on_shim("roi_align_backward", gradient[:0], boxes[:0], features.shape)
    assert nothing.shape == features.shape
    assert not nothing.any()
    with pytest.raises(ValueError, match="gradient must have a box for each of 300"):
        on_shim("roi_align_backward", gradient[1:], boxes, features.shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16], ids=str)
def test_resample_argmax(rng, dtype):
    for shape, sizes in [
        ((5, 7, 9), (20, 31)),
        ((2, 3, 4, 6, 5), (9, 13, 8)),
        ((4, 9, 9), (5, 40)),
    ]:
        logits = (rng.normal(size=shape) * 50).astype(dtype)
        for options in (
            {},
            {"align_corners": True},
            {"order": 0},
            {"threshold": 3.0},
            {"dtype": np.int16},
        ):
            got = on_shim("resample_argmax", logits, sizes, schedules=1, **options)
            expected = F.resample_argmax(logits, sizes, **options)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)
    logits = rng.normal(size=(2, 5, 6, 7)).astype(np.float32)
    twin = nn_resampling.resample_argmax(logits, (13, 9), (6 / 13, 7 / 9), (1, 1))
    assert_array_equal(on_shim("resample_argmax", logits, (13, 9)), twin)
    assert_array_equal(on_shim("upsample_argmax", logits, 4), F.upsample_argmax(logits, 4))


def test_resample_argmax_of_nan_infinity_and_out(rng):
    logits = rng.normal(size=(4, 6, 7)).astype(np.float32)
    logits[1, 2, 3], logits[2, 4, 4], logits[0] = np.nan, np.inf, -np.inf
    expected = F.resample_argmax(logits, (17, 21))
    assert_array_equal(on_shim("resample_argmax", logits, (17, 21)), expected)
    out = np.zeros((17, 42), np.uint8)[:, ::2]
    assert on_shim("resample_argmax", logits, (17, 21), out=out, schedules=1) is out
    assert_array_equal(out, expected)
    assert on_shim("resample_argmax", logits, (0, 3)).shape == (0, 3)
    many = np.zeros((300, 1, 2))
    many[270] = 1
    assert on_shim("resample_argmax", many, (2, 2)).dtype == np.uint16
    assert (on_shim("resample_argmax", many, (2, 2)) == 270).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_pyramid_pool(rng, dtype):
    tolerance = {2: 4e-3, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    for shape, bins in [
        ((2, 3, 13, 37), (1, 2, 3, 6)),
        ((4, 6, 5), (1, 5, 7)),
        ((1, 1, 1, 1), (1, 2)),
        ((1, 2, 40, 33), (4,)),
        ((0, 3, 4, 4), (1, 2)),
    ]:
        x = rng.normal(size=shape).astype(dtype)
        weights = [rng.normal(size=(n, shape[-3])).astype(dtype) for n, _ in enumerate(bins, 1)]
        biases = [rng.normal(size=len(w)).astype(dtype) for w in weights]
        for args, options in [
            ((bins,), {}),
            ((bins, weights), {"activation": "relu"}),
            ((bins, weights, biases), {"align_corners": True}),
        ]:
            got = on_shim("pyramid_pool", x, *args, schedules=2, **options)
            expected = F.pyramid_pool(x, *args, **options)
            assert got.dtype == expected.dtype
            assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
    with pytest.raises(ValueError, match="pyramid_pool: weights must have shape"):
        on_shim("pyramid_pool", x + 0, (1,), [np.ones((2, 9))])
    with pytest.raises(TypeError, match="pyramid_pool: x must be float16"):
        on_shim("pyramid_pool", np.ones((1, 2, 2), int))


def test_max_unpool(rng, monkeypatch):
    monkeypatch.setattr(_device, "MOST_BLOCKS", 2)
    monkeypatch.setattr(_device, "MOST_SECOND", 4)
    for dtype, index in [("f2", "i4"), ("f4", "u1"), ("f8", "i8")]:
        for shape, rank in [((2, 3, 8, 12), 2), ((3, 9, 10), 2), ((1, 2, 4, 6, 6), 3)]:
            features = rng.normal(size=shape).astype(dtype)
            pooled, indices = F.max_pool_with_indices(features, (2,) * rank, 1)  # overlaps
            args = pooled, indices.astype(index), (2,) * rank, 1
            got, expected = on_shim("max_unpool", *args, schedules=3), F.max_unpool(*args)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)
    outside = np.array([[[-1, 99]]])
    assert not on_shim("max_unpool", np.ones((1, 1, 2)), outside, 2).any()
    with pytest.raises(TypeError, match="max_unpool: indices must be integers"):
        on_shim("max_unpool", np.ones((1, 1, 2)), np.ones((1, 1, 2)), 2)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_transposed_conv2x2(rng, dtype):
    """Outputs and tiles that are full and begun, channels staged in parts, images and volumes."""
    tolerance = {2: 4e-3, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    for shape, outputs in [
        ((2, 3, 9, 33), 5),
        ((300, 4, 5), 2),
        ((1, 1, 1, 1), 1),
        ((2, 3, 3, 9, 4), 4),
        ((3, 2, 5, 6), 7),
        ((1, 2, 0, 5), 3),
    ]:
        rank = 3 if len(shape) == 5 or shape[0] == 3 else 2
        x = rng.normal(size=shape).astype(dtype)
        channels = shape[-rank - 1]
        weight = (rng.normal(size=(channels, outputs, *(2,) * rank)) / channels).astype(dtype)
        bias = rng.normal(size=outputs).astype(dtype)
        for args in ((x, weight), (x, weight, bias)):
            got = on_shim("transposed_conv2x2", *args, schedules=2)
            expected = F.transposed_conv2x2(*args)
            assert got.dtype == expected.dtype
            assert_allclose(got, expected, rtol=tolerance, atol=tolerance)
        if x.ndim == rank + 2 and x.size:
            twin = nn_upsampling.transposed_conv2x2(x, weight, bias)
            assert_allclose(got, twin, rtol=tolerance, atol=tolerance)
    out = np.empty((*expected.shape[:-1], 2 * expected.shape[-1]), dtype)[..., ::2]
    assert on_shim("transposed_conv2x2", *args, out=out, schedules=1) is out
    assert_array_equal(out, got)
    with pytest.raises(ValueError, match="transposed_conv2x2: weight must have shape"):
        on_shim("transposed_conv2x2", x, weight[..., :1])
    with pytest.raises(ValueError, match="transposed_conv2x2: bias must have shape"):
        on_shim("transposed_conv2x2", x, weight, bias[1:])
    with pytest.raises(TypeError, match="transposed_conv2x2: x must be float16"):
        on_shim("transposed_conv2x2", np.ones((2, 5, 6), int), weight)


def test_crop_concat(rng):
    for skip, x in [((2, 3, 9, 12), (2, 2, 6, 12)), ((1, 1, 4, 5, 6), (1, 2, 3, 3, 3))]:
        args = rng.random(skip).astype(np.float32), rng.random(x).astype(np.float32)
        assert_array_equal(on_shim("crop_concat", *args, schedules=1), F.crop_concat(*args))
        assert_array_equal(F.crop_concat(*args), nn_upsampling.crop_concat(*args))
    with pytest.raises(TypeError, match="crop_concat: skip must have the dtype of x"):
        on_shim("crop_concat", args[0].astype(float), args[1])
