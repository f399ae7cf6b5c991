"""Transposed convolution and joining of skips: PyTorch's results."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES, random_image
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn.functional import crop_concat, transposed_conv2x2
from medseg_fast.reference import nn_upsampling as reference

# Relative to the sum of absolute products: one rounding a channel.
CLOSE = {np.float16: 2e-3, np.float32: 2e-6, np.float64: 1e-14}
SHAPES = [  # input, output channels: both sides of the panel of 12 to 48 voxels
    ((2, 3, 5, 7), 4),
    ((1, 33, 4, 6), 20),
    ((1, 2, 1, 50), 1),
    ((1, 1, 1, 1), 1),
    ((1, 70, 16, 16), 33),
    ((2, 3, 2, 3, 5), 4),
    ((1, 9, 3, 4, 4), 17),
]


def _problem(rng, shape, outputs, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    rank = len(shape) - 2
    weight = (rng.standard_normal((shape[1], outputs, *(2,) * rank)) / shape[1]).astype(dtype)
    return x, weight, rng.standard_normal(outputs).astype(dtype)


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_transposed_conv_equals_reference(rng, threads, shape, outputs, dtype):
    x, weight, bias = _problem(rng, shape, outputs, dtype)
    got = transposed_conv2x2(x, weight, bias)
    assert got.dtype == dtype
    assert_allclose(
        got, reference.transposed_conv2x2(x, weight, bias), rtol=0, atol=4 * CLOSE[dtype]
    )
    without = reference.transposed_conv2x2(x, weight, 0 * bias)
    assert_allclose(transposed_conv2x2(x, weight), without, rtol=0, atol=4 * CLOSE[dtype])
    assert_array_equal(transposed_conv2x2(x[0], weight, bias), got[0])


@pytest.mark.parametrize(("shape", "outputs"), SHAPES)
def test_transposed_conv_equals_torch_with_gradients(rng, shape, outputs):
    torch = pytest.importorskip("torch")
    x, weight, bias = (
        torch.from_numpy(a).requires_grad_() for a in _problem(rng, shape, outputs, np.float64)
    )
    convolve = getattr(torch.nn.functional, f"conv_transpose{len(shape) - 2}d")
    for inputs in ((x, weight, bias), (x[0], weight, bias), (x, weight)):
        ours, theirs = transposed_conv2x2(*inputs), convolve(*inputs, stride=2)
        assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-13)
        to_come = torch.from_numpy(rng.standard_normal(tuple(ours.shape)))
        ours, theirs = (torch.autograd.grad((y * to_come).sum(), inputs) for y in (ours, theirs))
        for one, other in zip(ours, theirs, strict=True):
            assert_allclose(one, other, rtol=0, atol=1e-11)


def test_gradcheck(rng):
    torch = pytest.importorskip("torch")
    given = [torch.from_numpy(a).requires_grad_() for a in _problem(rng, (1, 2, 3, 3), 2, float)]
    assert torch.autograd.gradcheck(transposed_conv2x2, given)
    skip = torch.from_numpy(rng.standard_normal((2, 2, 5, 4))).requires_grad_()
    x = torch.from_numpy(rng.standard_normal((2, 1, 2, 3))).requires_grad_()
    assert torch.autograd.gradcheck(crop_concat, (skip, x))


@pytest.mark.parametrize("taps", [(2, 2), (2, 2, 2)])
def test_gradients_of_no_images(taps):
    torch = pytest.importorskip("torch")
    x = torch.zeros(0, 3, *(4,) * len(taps), requires_grad=True)
    weight, bias = torch.ones(3, 4, *taps, requires_grad=True), torch.ones(4, requires_grad=True)
    transposed_conv2x2(x, weight, bias).sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()
    assert not bias.grad.any()


def test_compiles_with_gradients(rng):
    torch = pytest.importorskip("torch")
    x, weight, bias = (
        torch.from_numpy(a).requires_grad_() for a in _problem(rng, (1, 3, 4, 5), 2, np.float64)
    )

    def up(x, weight, bias):
        doubled = transposed_conv2x2(x, weight, bias)
        return crop_concat(x.repeat(1, 1, 3, 3), doubled)

    traced = torch.compile(up, backend="aot_eager", fullgraph=True)(x, weight, bias)
    eager = up(x, weight, bias)
    assert torch.equal(traced, eager)
    ours, expected = (torch.autograd.grad(y.square().sum(), (x, weight)) for y in (traced, eager))
    for one, other in zip(ours, expected, strict=True):
        assert_allclose(one, other)


def test_layouts(rng, layout):
    x, weight, bias = _problem(rng, (2, 3, 4, 5), 4, np.float32)
    got = transposed_conv2x2(layout(x), layout(weight), layout(bias))
    assert_array_equal(got, transposed_conv2x2(x, weight, bias))
    assert_array_equal(
        crop_concat(layout(x), layout(x[..., :3])), crop_concat(x, x[..., :3].copy())
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("skip", "x"),
    [
        ((2, 3, 9, 12), (2, 4, 5, 9)),
        ((2, 3, 5, 9), (2, 4, 5, 9)),
        ((1, 1, 8, 8), (1, 0, 3, 3)),
        ((2, 3, 9, 8, 12), (2, 1, 5, 8, 9)),
    ],
)
def test_crop_concat_equals_reference(rng, threads, skip, x, dtype):
    skip, x = random_image(rng, skip, dtype), random_image(rng, x, dtype)
    got = crop_concat(skip, x)
    assert got.dtype == dtype
    assert_array_equal(got, reference.crop_concat(skip, x))
    if skip.ndim == 4:
        assert_array_equal(crop_concat(skip[0], x[0]), got[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_out(rng, layout, dtype):
    x, weight, bias = _problem(rng, (2, 3, 4, 6), 4, dtype)
    doubled, joined = transposed_conv2x2(x, weight, bias), crop_concat(x, x[..., 1:5])
    for expected, call in (
        (doubled, lambda out: transposed_conv2x2(x, weight, bias, out=out)),
        (joined, lambda out: crop_concat(x, x[..., 1:5], out=out)),
    ):
        out = layout(np.empty_like(expected))
        if not out.flags.writeable:
            with pytest.raises(ValueError, match="out must be writable"):
                call(out)
            continue
        assert call(out) is out
        assert_array_equal(out, expected)
        with pytest.raises(ValueError, match="out must have shape"):
            call(out[:1])
    memory = rng.standard_normal((2, 7, 4, 6)).astype(dtype)  # of inputs as well
    expected = crop_concat(memory[:, :3], memory[:, :4])
    assert_array_equal(crop_concat(memory[:, :3], memory[:, :4], out=memory), expected)


@pytest.mark.parametrize("columns", [61, 64, 83])
def test_crop_concat_of_large_features(rng, threads, columns):
    """Rows that start anywhere in a cache line, streamed to memory."""
    skip = rng.standard_normal((1, 40, 130, columns + 5)).astype(np.float32)
    x = rng.standard_normal((1, 100, 126, columns)).astype(np.float32)
    expected = np.concatenate([skip[:, :, 2:128, 2 : columns + 2], x], axis=1)
    assert_array_equal(crop_concat(skip, x), expected)


def test_nan_is_copied_and_spreads(rng):
    x, weight, bias = _problem(rng, (1, 3, 4, 5), 2, np.float32)
    x[0, 1, 2, 3] = np.nan
    doubled = transposed_conv2x2(x, weight, bias)
    assert np.isnan(doubled[0, :, 4:6, 6:8]).all()
    assert np.isnan(doubled).sum() == 8
    assert np.isnan(crop_concat(x, x)).sum() == 2


def test_empty():
    weight = np.ones((3, 4, 2, 2), np.float32)
    assert transposed_conv2x2(np.zeros((0, 3, 5, 5), np.float32), weight).shape == (0, 4, 10, 10)
    assert transposed_conv2x2(np.zeros((3, 0, 5), np.float32), weight).shape == (4, 0, 10)
    none = transposed_conv2x2(np.zeros((1, 0, 2, 2)), np.zeros((0, 2, 2, 2)), [1, 2])
    assert_array_equal(none[0, 1], 2)
    assert crop_concat(np.zeros((0, 3, 5, 5)), np.zeros((0, 3, 5, 5))).shape == (0, 6, 5, 5)


X, W = np.zeros((1, 3, 4, 4), np.float32), np.zeros((3, 2, 2, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: transposed_conv2x2(X.astype(int), W), TypeError, "x must be float16"),
        (lambda: transposed_conv2x2(X, W[..., :1]), ValueError, "weight must have shape"),
        (lambda: transposed_conv2x2(X[:, :2], W), ValueError, "x must have shape"),
        (lambda: transposed_conv2x2(X[0, 0], W), ValueError, "x must have shape"),
        (lambda: transposed_conv2x2(X, W, np.zeros(3)), ValueError, "bias must have shape"),
        (lambda: transposed_conv2x2(X, W + 1j), TypeError, "weight must be .* got complex"),
        (lambda: transposed_conv2x2(X, W.astype(object)), TypeError, "weight must be .* got obj"),
        (lambda: transposed_conv2x2(X, W, [1j, 0]), TypeError, "bias must be .* got complex"),
        (lambda: crop_concat(X, X.astype(float)), TypeError, "skip must have the dtype of x"),
        (lambda: crop_concat(X[..., :3], X), ValueError, "at least its size"),
        (lambda: crop_concat(X[:0], X), ValueError, "x's batch"),
        (lambda: crop_concat(X[0], X), ValueError, "3 to 5 axes"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call()
