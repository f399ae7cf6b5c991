"""ROI Align: as the slow twin and torchvision, in 2D and 3D, forward and backward."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_roi_align as slow

# Sums of at most a few hundred products of numbers around 1, in another order.
CLOSE = {np.float32: {"rtol": 2e-5, "atol": 1e-5}, np.float64: {"rtol": 1e-12, "atol": 1e-12}}
# Channels: one, below and off a vector, off a block, several blocks.
CHANNELS = [1, 3, 8, 33, 70]


def boxes(rng, n, images, extent, dtype=np.float32, least=0.3, most=60.0):
    """Boxes (image, least corner, most corner) as (x, y[, z]), some of them partly outside."""
    axes = len(extent)
    centre = rng.random((n, axes)) * extent[::-1]
    half = least * (most / least) ** rng.random((n, axes)) / 2
    index = rng.integers(0, images, (n, 1))
    return np.concatenate([index, centre - half, centre + half], 1).astype(dtype)


def channels_last(x):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)).transpose(0, -1, *range(1, x.ndim - 1))


@pytest.mark.parametrize("shape", [(1, 1), (7, 9), (1, 12), (3, 5, 6)])
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_slow_twin(rng, shape, channels, dtype):
    x = rng.standard_normal((2, channels, *shape)).astype(dtype)
    regions = boxes(rng, 6, 2, shape, dtype, most=9.0)
    for size, ratio, aligned in [(2, 2, False), (3, -1, True), (2, 0, False), (1, 3, True)]:
        got = F.roi_align(x, regions, size, 0.7, ratio, aligned)
        expected = slow.roi_align(x, regions, size, 0.7, ratio, aligned)
        assert got.dtype == dtype
        assert_allclose(got, expected, **CLOSE[dtype])
        assert_array_equal(F.roi_align(channels_last(x), regions, size, 0.7, ratio, aligned), got)


@pytest.mark.parametrize("n", [0, 1, 7, 90])  # few boxes: windows are copied; many: whole images
@pytest.mark.parametrize("channels", [3, 70])
@pytest.mark.parametrize("output_size", [5, (2, 3), 14])
def test_equals_torchvision(rng, n, channels, output_size):
    tv = pytest.importorskip("torchvision", reason="torchvision is not installed").ops
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((2, channels, 20, 30)).astype(np.float32)
    regions = boxes(rng, n, 2, (40, 60))
    for ratio in (-1, 1, 2):
        for aligned in (False, True):
            arguments = (output_size, 0.5, ratio, aligned)
            expected = tv.roi_align(torch.from_numpy(x), torch.from_numpy(regions), *arguments)
            assert_allclose(F.roi_align(x, regions, *arguments), expected, **CLOSE[np.float32])


def test_many_boxes_give_what_few_give(rng):
    x = rng.standard_normal((2, 40, 24, 25)).astype(np.float32)
    regions = boxes(rng, 80, 2, (24, 25), most=24.0)
    together = F.roi_align(x, regions, (3, 4))
    alone = [F.roi_align(x, regions[k : k + 1], (3, 4)) for k in range(len(regions))]
    assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize("shape", [(20, 21), (7, 8, 9)])
@pytest.mark.parametrize("last", [False, True])
def test_threads_give_the_same_bytes(rng, shape, last, threads, isa):
    x = rng.standard_normal((2, 40, *shape)).astype(np.float32)
    x = channels_last(x) if last else x
    regions = boxes(rng, 30, 2, shape, most=12.0)
    got = F.roi_align(x, regions, 3)
    back = F.roi_align_backward(got, regions, x.shape)
    with ms.num_threads(1):
        assert_array_equal(F.roi_align(x, regions, 3), got)
        assert_array_equal(F.roi_align_backward(got, regions, x.shape), back)


@pytest.mark.parametrize("shape", [(7, 9), (3, 5, 6)])
@pytest.mark.parametrize("channels", CHANNELS)
def test_backward_equals_slow_twin(rng, shape, channels):
    regions = boxes(rng, 6, 2, shape, np.float64, most=9.0)
    gradient = rng.standard_normal((6, channels, *(2,) * len(shape)))
    for ratio, aligned in [(2, False), (-1, True)]:
        size = (2, channels, *shape)
        got = F.roi_align_backward(gradient, regions, size, 0.7, ratio, aligned)
        expected = slow.roi_align_backward(gradient, regions, size, 0.7, ratio, aligned)
        assert_allclose(got, expected, **CLOSE[np.float64])


@pytest.mark.parametrize("shape", [(6, 7), (3, 4, 5)])
def test_gradients(rng, shape):
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 2, *shape, dtype=torch.float64, requires_grad=True)
    regions = torch.from_numpy(boxes(rng, 3, 2, shape, np.float64, most=6.0))
    for ratio in (2, -1):
        call = lambda x, ratio=ratio: F.roi_align(x, regions, 2, 0.9, ratio)  # noqa: E731
        assert torch.autograd.gradcheck(call, (x,))
        assert torch.autograd.gradgradcheck(call, (x,))
    lists = [regions[:2, 1:], regions[2:, 1:]]
    F.roi_align(x, lists, 2).sum().backward()
    assert x.grad.shape == x.shape


def test_compiles_and_keeps_channels_last(rng):
    torch = pytest.importorskip("torch")
    x = torch.randn(2, 8, 9, 10)
    regions = torch.from_numpy(boxes(rng, 5, 2, (9, 10)))
    call = lambda x, boxes: F.roi_align(x * 2, boxes, (2, 3), 0.5, 2) + 1  # noqa: E731
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for n in (5, 3):
        assert torch.equal(compiled(x, regions[:n]), call(x, regions[:n]))
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(F.roi_align(last, regions, 3), F.roi_align(x, regions, 3))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_box(data):
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    number = st.floats(-40, 40, width=16)
    box = np.array([[0, *(data.draw(number) for _ in range(4))]], dtype)
    x = np.random.default_rng(0).standard_normal((1, 2, 5, 6)).astype(dtype)
    arguments = (
        data.draw(st.integers(1, 4)),
        data.draw(st.sampled_from([1.0, 0.5, 0.3])),
        data.draw(st.integers(-1, 4)),
        data.draw(st.booleans()),
    )
    got = F.roi_align(x, box, *arguments)
    assert_allclose(got, slow.roi_align(x, box, *arguments), **CLOSE[dtype])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float16, ">f4"])
def test_other_dtypes_are_computed_in_float32(rng, dtype):
    x = rng.integers(0, 50, (1, 3, 6, 7)).astype(dtype)
    regions = boxes(rng, 4, 1, (6, 7))
    got = F.roi_align(x, regions, 2)
    half = np.dtype(dtype) == np.float16
    assert got.dtype == (np.float16 if half else np.float32)
    expected = F.roi_align(x.astype(np.float32), regions, 2)
    assert_array_equal(got, expected.astype(got.dtype))


def test_layouts(rng, layout):
    x = rng.standard_normal((2, 5, 6, 7)).astype(np.float32)
    regions = boxes(rng, 4, 2, (6, 7))
    assert_array_equal(F.roi_align(layout(x), layout(regions), 2), F.roi_align(x, regions, 2))


def test_huge_boxes_take_no_time():
    x = np.ones((1, 1, 4, 4), np.float32)
    for most in (1e9, 1e30):
        got = F.roi_align(x, [np.array([[-most, -most, most, most]], np.float32)], 2)
        assert np.isfinite(got).all()
    assert_array_equal(F.roi_align(x, [[[50, 50, 60, 60]]], 2), np.zeros((1, 1, 2, 2)))


def test_nan_reaches_the_bins_that_touch_it():
    x = np.zeros((1, 1, 8, 8), np.float32)
    x[0, 0, 1, 1] = np.nan
    got = F.roi_align(x, [[[0, 0, 8, 8]]], 2)
    assert_array_equal(np.isnan(got[0, 0]), [[True, False], [False, False]])


def test_empty():
    x = np.ones((2, 3, 4, 5), np.float32)
    assert F.roi_align(x, np.zeros((0, 5)), 2).shape == (0, 3, 2, 2)
    assert F.roi_align(x, [np.zeros((0, 4))] * 2, (2, 3)).shape == (0, 3, 2, 3)
    assert F.roi_align(x[:, :0], [[[0, 0, 1, 1]]], 2).shape == (1, 0, 2, 2)
    assert_array_equal(F.roi_align_backward(np.ones((0, 3, 2, 2)), [], x.shape), 0 * x)


ONE = np.array([[0, 0, 0, 2, 2]], np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"boxes": np.zeros((2, 4))}, AssertionError, r"Tensor\[K, 5\]"),
        ({"boxes": np.zeros(5)}, AssertionError, r"Tensor\[K, 5\]"),
        ({"boxes": [np.zeros((2, 5))]}, AssertionError, r"List\[Tensor\[L, 4\]\]"),
        ({"input": np.zeros((1, 1, 2, 2, 2))}, AssertionError, r"Tensor\[K, 7\]"),
        ({"boxes": ONE * np.nan}, ValueError, "boxes must be finite"),
        ({"boxes": np.where(ONE > 0, np.inf, ONE)}, ValueError, "boxes must be finite"),
        ({"boxes": ONE + 1}, ValueError, "images from 0 to 0 .* got 1"),
        ({"boxes": ONE - 1}, ValueError, "images from 0 to 0 .* got -1"),
        ({"boxes": [ONE[:, 1:]] * 2}, ValueError, "each of 1 images, got 2"),
        ({"boxes": ONE.astype(complex)}, TypeError, "boxes must be float16"),
        ({"input": np.zeros((1, 4, 4))}, ValueError, r"must have shape \(N, C, H, W\)"),
        ({"input": np.zeros((1, 1, 4, 0))}, ValueError, "input must have pixels"),
        ({"input": np.zeros((1, 1, 4, 4), complex)}, TypeError, "input must be float16"),
        ({"output_size": (1, 2, 3)}, ValueError, "output_size must be an integer or 2"),
        ({"output_size": 0}, ValueError, "output_size must be at least 1"),
        ({"output_size": 1.5}, TypeError, "output_size must be an integer"),
        ({"output_size": 10**9}, ValueError, r"output_size must ask for fewer than 2\*\*48 values"),
        ({"sampling_ratio": 10**19}, ValueError, "sampling_ratio must be at most 1048576"),
        ({"sampling_ratio": 1.5}, TypeError, "sampling_ratio must be an integer"),
        ({"spatial_scale": np.nan}, ValueError, "spatial_scale must be a number"),
        ({"spatial_scale": np.inf}, ValueError, "spatial_scale must be finite"),
    ],
)
def test_errors(change, error, message):
    arguments = {"input": np.zeros((1, 1, 4, 4), np.float32), "boxes": ONE, "output_size": 2}
    with pytest.raises(error, match=message):
        F.roi_align(**{**arguments, **change})


@pytest.mark.parametrize(
    ("gradient", "size", "message"),
    [
        (np.zeros((2, 1, 2, 2)), (1, 1, 4, 4), "a box for each of 1 boxes"),
        (np.zeros((1, 2, 2, 2)), (1, 1, 4, 4), "the channels"),
        (np.zeros((1, 1, 2, 2)), (1, 1, 4), "axes of input_size"),
        (np.zeros((1, 1, 2, 2)), (1, 1, 4, 0), "input_size must have pixels"),
    ],
)
def test_errors_backward(gradient, size, message):
    with pytest.raises(ValueError, match=message):
        F.roi_align_backward(gradient, ONE, size)


def test_backward_names_bad_sizes():
    gradient = np.zeros((1, 1, 2, 2))
    with pytest.raises(TypeError, match="input_size must be a sequence, got 3"):
        F.roi_align_backward(gradient, ONE, 3)
    with pytest.raises(ValueError, match="input_size must ask for fewer than"):
        F.roi_align_backward(gradient, ONE, (1, 1, 10**10, 10**10))
    for sizes in (3, (3,)):
        with pytest.raises(TypeError, match="feature_sizes must be a sequence, got 3"):
            F.multiscale_roi_align_backward(gradient, ONE, sizes, scales=[1])
