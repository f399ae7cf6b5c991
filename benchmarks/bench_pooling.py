"""Pooling and its inverses beside PyTorch, OpenVINO and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _runtimes import close, runtimes

from medseg_fast.nn import functional


def features(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _pool():
    import torch

    x = features(1, 64, 256, 256)
    pool = torch.nn.functional.max_pool2d
    tensor = torch.from_numpy(x)
    return x, {
        "medseg_fast": lambda: functional.max_pool_with_indices(x, 2),
        "PyTorch": lambda: pool(tensor, 2, return_indices=True),
    }


def _same_pair(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


def _unpool():
    import torch

    x, indices = functional.max_pool_with_indices(features(1, 64, 256, 256), 2)
    unpool = torch.nn.functional.max_unpool2d
    tensors = torch.from_numpy(x), torch.from_numpy(indices)
    return x, {
        "medseg_fast": lambda: functional.max_unpool(x, indices, 2),
        "PyTorch": lambda: unpool(*tensors, 2),
    }


def _pyramid(with_convolutions):
    def build():
        import torch

        functions = torch.nn.functional
        x, bins = features(1, 512, 64, 64), (1, 2, 3, 6)
        weights = [features(128, 512) / 20 for _ in bins] if with_convolutions else None
        activation = "relu" if with_convolutions else None

        def by_torch(x):
            parts = [x]
            for i, b in enumerate(bins):
                part = functions.adaptive_avg_pool2d(x, b)
                if with_convolutions:
                    kernel = torch.from_numpy(weights[i])[..., None, None]
                    part = functions.relu(functions.conv2d(part, kernel))
                parts.append(functions.interpolate(part, (64, 64), mode="bilinear"))
            return torch.cat(parts, 1)

        return x, {
            "medseg_fast": lambda: functional.pyramid_pool(x, bins, weights, activation=activation),
            **runtimes(by_torch, x, skip="ONNX Runtime"),  # adaptive pooling into 3 and 6 of 64
        }

    return build


def _transposed(channels, *shape):
    def build():
        import torch

        x = features(1, channels, *shape)
        weight = features(channels, channels // 2, *(2,) * len(shape)) / channels
        bias = features(channels // 2)
        convolve = getattr(torch.nn.functional, f"conv_transpose{len(shape)}d")
        kernel, added = torch.from_numpy(weight), torch.from_numpy(bias)
        return x, {
            "medseg_fast": lambda: functional.transposed_conv2x2(x, weight, bias),
            **runtimes(lambda x: convolve(x, kernel, added, stride=2), x),
        }

    return build


def _joined():
    import torch

    skip, x = features(1, 64, 392, 392), features(1, 64, 386, 386)

    # OpenVINO writes to its own memory at each call; so do we.
    joined = np.empty((1, 128, 386, 386), np.float32)

    def by_torch(skip, x):
        return torch.cat([skip[:, :, 3:389, 3:389], x], 1)

    return x, {
        "medseg_fast": lambda: functional.crop_concat(skip, x, out=joined),
        **runtimes(by_torch, skip, x),
    }


CASES = [
    Case("max_pool_with_indices", "64 channels 256^2, 2x2", _pool, same=_same_pair),
    Case("max_unpool", "64 channels to 256^2", _unpool, target=2.5),
    Case("pyramid_pool", "512 channels 64^2", _pyramid(False), same=close, target=2),
    Case("pyramid_pool", "512 channels 64^2, convolutions to 128", _pyramid(True), same=close),
    Case("transposed_conv2x2", "128 to 64 channels 128^2", _transposed(128, 128, 128), same=close),
    Case("transposed_conv2x2", "1024 to 512 channels 16^2", _transposed(1024, 16, 16), same=close),
    Case("transposed_conv2x2", "64 to 32 channels 32^3", _transposed(64, 32, 32, 32), same=close),
    Case("crop_concat", "64 and 64 channels 386^2", _joined),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_pooling(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
