"""Convolution with pooling on tensors: PyTorch's results, gradients, bfloat16, tracing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_conv_pool import BOUND, WINOGRAD4, assert_near, layer

import medseg_fast as ms
from medseg_fast.nn.functional import conv_pool

torch = pytest.importorskip("torch")
F = torch.nn.functional


def test_equals_torch_in_every_combination():
    generator = torch.Generator().manual_seed(3)
    choices = itertools.product(
        [2, 3], [1, 3, 20, 33], [5, 40], [1, 3, 5, 7], [1, 2], [0, 1, "same"], [1, 2], [0, 1]
    )
    for axes, channels, out, size, stride, padding, dilation, last in itertools.islice(
        choices, 0, None, 13
    ):
        if padding == "same" and stride != 1:
            continue
        shape = (2, channels, *(7, 23, 37)[-axes:])
        reach = dilation * (size - 1) + 1
        if padding != "same" and min(shape[2:]) + 2 * padding < reach + stride:
            continue
        x = torch.randn(shape, generator=generator)
        order = torch.channels_last if axes == 2 else torch.channels_last_3d
        x = x.to(memory_format=order) if last else x
        weight = torch.randn((out, channels, *(size,) * axes), generator=generator)
        weight /= (channels * size**axes) ** 0.5
        convolve = F.conv2d if axes == 2 else F.conv3d
        expected = convolve(x.double(), weight.double(), None, stride, padding, dilation).relu()
        got = conv_pool(
            x, weight, stride=stride, padding=padding, dilation=dilation, activation="relu"
        )
        assert_near(got.numpy(), expected.numpy(), BOUND[WINOGRAD4])
        assert not last or got.is_contiguous(memory_format=order) or channels == 1


def test_bfloat16_tensors(rng):
    x, weight, _ = map(torch.from_numpy, layer(rng, (20, 24), (30, 37), (3, 3)))
    for features in (x.bfloat16(), x.bfloat16().to(memory_format=torch.channels_last)):
        for kernel in (weight, weight.bfloat16()):
            got = conv_pool(features, kernel, pool="max", return_indices=True)[0]
            assert got.dtype is torch.bfloat16
            expected = F.max_pool2d(F.conv2d(features.float(), kernel.float()), 2)
            assert_near(got.float().numpy(), expected.numpy(), 2**-8)
    with pytest.raises(TypeError, match=r"threshold: .*bfloat16; pass image.float"):
        ms.threshold(x.bfloat16(), 1)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"activation": "relu", "pool": "max", "return_full": True, "return_indices": True},
        {"activation": "elu", "pool": "avg", "stride": 2, "padding": 2},
        {"activation": "sigmoid", "pool": "max", "padding": "same"},
        {"activation": "leaky_relu", "dilation": 2},
    ],
    ids=str,
)
def test_gradients(rng, options):
    tensors = [torch.from_numpy(a) for a in layer(rng, (2, 3), (6, 8), (3, 2), np.float64)]
    tensors += [torch.from_numpy(a + 2) for a in rng.random((2, 3))]
    for tensor in tensors:
        tensor.requires_grad_()

    def call(x, weight, bias, scale, shift):
        results = conv_pool(x, weight, bias, scale=scale, shift=shift, **options)
        results = results if isinstance(results, tuple) else (results,)
        return [r for r in results if r.is_floating_point()]

    assert torch.autograd.gradcheck(call, tensors)
    x, weight = tensors[:2]

    def total(x, weight):
        result = conv_pool(x, weight, **options)
        return (result[0] if isinstance(result, tuple) else result).sum()

    expected = torch.autograd.grad(total(x, weight), (x, weight))
    torch._dynamo.reset()
    traced = torch.compile(total, backend="aot_eager", fullgraph=True)
    for one, other in zip(
        torch.autograd.grad(traced(x, weight), (x, weight)), expected, strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tracing_knows_type_and_memory_order(rng, dtype):
    x, weight, _ = (torch.from_numpy(a).to(dtype) for a in layer(rng, (4, 6), (8, 9), (3, 3)))
    operator = torch.ops.medseg_fast.conv_pool.literal
    for features in (x, x.to(memory_format=torch.channels_last)):
        literal = (
            "{'x': ..., 'weight': ..., 'pool': 'max', 'return_indices': True, 'return_full': True}"
        )
        torch.library.opcheck(
            operator,
            ([features, weight], literal),
            test_utils=("test_schema", "test_faketensor"),
        )
