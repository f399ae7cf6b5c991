"""Pyramid pooling: PyTorch's chain of operators in one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn.functional import pyramid_pool
from medseg_fast.reference import nn_pooling as reference

# Sums of up to a thousand float32 values of size one, then a few operations.
CLOSE = {np.float16: 2e-3, np.float32: 2e-6, np.float64: 1e-13}
BINS = (1, 2, 3, 6)
SHAPES = [(2, 5, 12, 18), (1, 3, 13, 17), (2, 2, 5, 40), (1, 2, 1, 1), (1, 1, 6, 3)]


def _convolutions(rng, channels, outputs=(3, 1, 4, 2)):
    weights = [rng.standard_normal((o, channels)) / channels for o in outputs]
    return weights, [rng.standard_normal(o) for o in outputs]


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bins", [BINS, (4,), (7, 1)])
def test_equals_reference(rng, threads, shape, bins, align_corners, dtype):
    x = rng.standard_normal(shape).astype(dtype)
    got = pyramid_pool(x, bins, align_corners=align_corners)
    assert got.dtype == dtype
    expected = reference.pyramid_pool(x, bins, align_corners=align_corners)
    assert_allclose(got, expected, rtol=0, atol=CLOSE[dtype])
    assert_array_equal(got[:, : shape[1]], x)
    assert_array_equal(pyramid_pool(x[0], bins, align_corners=align_corners), got[0])


@pytest.mark.parametrize("dtype", list(CLOSE))
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("with_bias", [False, True])
def test_with_convolutions(rng, threads, dtype, activation, with_bias):
    x = rng.standard_normal((2, 20, 12, 18)).astype(dtype)
    weights, biases = _convolutions(rng, 20)
    weights[1] = weights[1][..., None, None]
    biases = biases if with_bias else None
    got = pyramid_pool(x, BINS, weights, biases, activation=activation)
    assert got.shape == (2, 30, 12, 18)
    assert got.dtype == dtype
    expected = reference.pyramid_pool(x, BINS, weights, biases, activation == "relu")
    assert_allclose(got, expected, rtol=0, atol=2 * CLOSE[dtype])


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("mixed", [False, True])
def test_equals_torch_with_gradients(rng, align_corners, mixed):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = torch.from_numpy(rng.standard_normal((2, 6, 9, 11)))
    weights, biases = _convolutions(rng, 6)
    weights = [torch.from_numpy(w[..., None, None]).requires_grad_() for w in weights]
    biases = [torch.from_numpy(b).requires_grad_() for b in biases]
    x.requires_grad_()
    parts = [x]
    for i, b in enumerate(BINS):
        part = functional.adaptive_avg_pool2d(x, b)
        if mixed:
            part = functional.relu(functional.conv2d(part, weights[i], biases[i]))
        parts.append(
            functional.interpolate(part, (9, 11), mode="bilinear", align_corners=align_corners)
        )
    theirs = torch.cat(parts, 1)
    how = {"activation": "relu", "weights": weights, "biases": biases} if mixed else {}
    ours = pyramid_pool(x, BINS, align_corners=align_corners, **how)
    assert_allclose(ours.detach(), theirs.detach(), rtol=0, atol=1e-14)
    weight = torch.from_numpy(rng.standard_normal(tuple(ours.shape)))
    inputs = [x, *weights, *biases] if mixed else [x]
    ours, theirs = (torch.autograd.grad((y * weight).sum(), inputs) for y in (ours, theirs))
    for one, other in zip(ours, theirs, strict=True):
        assert_allclose(one, other, rtol=0, atol=1e-12)


def test_gradcheck(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((1, 3, 4, 5))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pyramid_pool(x, (1, 3)), x)
    weights, biases = (
        [torch.from_numpy(a).requires_grad_() for a in each]
        for each in _convolutions(rng, 3, (2, 1))
    )
    call = lambda x, a, b, c, d: pyramid_pool(x, (1, 3), [a, b], [c, d])  # noqa: E731
    assert torch.autograd.gradcheck(call, (x, *weights, *biases))


def test_compiles_with_gradients(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((1, 3, 8, 9))).requires_grad_()
    call = lambda x: pyramid_pool(x * 2)  # noqa: E731
    traced = torch.compile(call, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(traced, call(x))
    (ours,) = torch.autograd.grad(traced.sum(), x)
    (eager,) = torch.autograd.grad(call(x).sum(), x)
    assert_allclose(ours, eager)


def test_layouts(rng, layout):
    x = rng.standard_normal((2, 3, 8, 10)).astype(np.float32)
    assert_array_equal(pyramid_pool(layout(x)), pyramid_pool(x))


def test_nan_stays_in_its_cells():
    x = np.zeros((2, 4, 4), np.float32)
    x[0, 0, 0] = np.nan
    got = pyramid_pool(x, (1, 2))
    assert np.isnan(got[2]).all()
    assert np.isnan(got[4, 0, 0])
    assert got[4, 3, 3] == 0
    assert_array_equal(got[[3, 5]], 0)


def test_empty():
    assert pyramid_pool(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 15, 8, 8)
    assert pyramid_pool(np.zeros((3, 0, 8), np.float32)).shape == (15, 0, 8)
    assert pyramid_pool(np.ones((3, 2, 2)), ()).shape == (3, 2, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: pyramid_pool(x.astype(int)), TypeError, "x must be float16"),
        (lambda x: pyramid_pool(x[0]), ValueError, r"x must have shape \(\[N,\] C, H, W\)"),
        (lambda x: pyramid_pool(x, (0,)), ValueError, "bins must be at least 1"),
        (lambda x: pyramid_pool(x, (2.5,)), TypeError, "bins must be an integer"),
        (lambda x: pyramid_pool(x, 3), TypeError, "bins must be a sequence, got 3"),
        (lambda x: pyramid_pool(x, (10**10,)), ValueError, r"bins must ask for fewer than 2\*\*48"),
        (lambda x: pyramid_pool(x, (1,), 3), TypeError, "weights must be a sequence, got 3"),
        (lambda x: pyramid_pool(x, (1,), [x[0, 0, 0]]), ValueError, r"shape \(O, 3.* got \(\)"),
        (lambda x: pyramid_pool(x, (1,), [x[0] + 1j]), TypeError, "weights must be .* complex"),
        (lambda x: pyramid_pool(x, (1,), [[["1"] * 3]]), TypeError, "weights must be .* <U1"),
        (lambda x: pyramid_pool(x, (1,), [x[0, :, :3]], 5), TypeError, "biases must be a sequ"),
        (
            lambda x: pyramid_pool(x, (1,), [x[0, :, :3]], [1j]),
            TypeError,
            "biases must be .* compl",
        ),
        (lambda x: pyramid_pool(x, activation="gelu"), ValueError, "activation must be"),
        (lambda x: pyramid_pool(x, biases=[]), ValueError, "biases need weights"),
        (lambda x: pyramid_pool(x, weights=[np.ones((2, 3))]), ValueError, "as many as bins"),
        (lambda x: pyramid_pool(x, (1,), [np.ones((2, 4))]), ValueError, r"shape \(O, 3\[, 1, 1"),
        (
            lambda x: pyramid_pool(x, (1,), [np.ones((2, 3))], [np.ones(3)]),
            ValueError,
            "biases must have shape",
        ),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((3, 4, 4), np.float32))
