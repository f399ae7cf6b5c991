"""Triton's kernels in its interpreter, against the CPU's: for TRITON_INTERPRET=1.

The interpreter must be chosen before the kernels are imported, hence a process of its own.
"""

from __future__ import annotations

import itertools
import sys
import types
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from medseg_fast.kernels import conv_pool_triton, resample_argmax_triton, roi_align_triton

from medseg_fast import _torch_cuda, _triton
from medseg_fast._dispatch import OPERATIONS
from medseg_fast.nn import functional as F

rng = np.random.default_rng(0)


def tensor(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).to(dtype)


def convolutions() -> None:
    tolerance = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}
    for dtype, (pool, shape, outputs) in itertools.product(
        tolerance,
        [
            (None, (1, 1, 5, 6), 1),
            ("max", (2, 3, 10, 15), 17),
            ("avg", (1, 19, 9, 9), 5),
        ],
    ):
        x, weight = tensor(*shape, dtype=dtype), tensor(outputs, shape[1], 3, 3, dtype=dtype) / 3
        bias = tensor(outputs, dtype=dtype)
        several = [{"padding": 1, "activation": "relu"}]
        if dtype is torch.float32:
            several.append({"stride": 2, "padding": 2, "dilation": 2, "activation": "leaky_relu"})
        for options in several:
            got = conv_pool_triton.conv_pool(x, weight, bias, pool=pool, **options)
            wide = [t.float().numpy() for t in (x, weight, bias)]
            expected = F.conv_pool(*wide, pool=pool, **options)
            assert got.dtype is dtype
            most = tolerance[dtype] * max(np.abs(expected).max(), 1)
            np.testing.assert_allclose(got.float().numpy(), expected, rtol=0, atol=most)
    not_finite()
    memory_orders()
    every_configuration()


def not_finite() -> None:
    """NaN is a maximum, and infinity no NaN: not even in float32, which is split in two."""
    one = torch.ones((1, 1, 1, 1))
    for dtype in (torch.float32, torch.float16):
        x = torch.zeros((1, 1, 4, 6), dtype=dtype)
        x[0, 0, 1, 2], x[0, 0, 2, 2], x[0, 0, 3, 5] = torch.nan, torch.inf, -torch.inf
        for factor in (1, 1.001, -0.7):
            weight = (one * factor).to(dtype)
            got = conv_pool_triton.conv_pool(x, weight, pool="max")
            expected = torch.nn.functional.max_pool2d(x * weight, 2)
            assert torch.equal(got.nan_to_num(-1), expected.nan_to_num(-1))
            got = conv_pool_triton.conv_pool(x, weight, activation="relu")
            assert torch.equal(got.nan_to_num(-1), (x * weight).relu().nan_to_num(-1))


def memory_orders() -> None:
    """Channels-last features are taken as they are, and so is the result."""
    last = torch.channels_last
    for dtype, channels in itertools.product((torch.float32, torch.float16), (3, 32)):
        x, weight = tensor(2, channels, 5, 7, dtype=dtype), tensor(6, channels, 2, 2, dtype=dtype)
        expected = conv_pool_triton.conv_pool(x, weight, padding=1, pool="max")
        for features, kernel in (
            (x.to(memory_format=last), weight),
            (x, weight.to(memory_format=last)),
            (x.to(memory_format=last), weight.to(memory_format=last)),
            (x.mT.contiguous().mT, weight),
        ):
            got = conv_pool_triton.conv_pool(features, kernel, padding=1, pool="max")
            assert torch.equal(got, expected)
            order = last if features.is_contiguous(memory_format=last) else torch.contiguous_format
            assert got.is_contiguous(memory_format=order)


def every_configuration() -> None:
    """However the product is cut, the sums are the same ones up to rounding."""
    x, weight = tensor(2, 19, 5, 8), tensor(20, 19, 2, 3)
    for dtype, most in ((torch.float32, 1e-4), (torch.float16, 1e-2)):
        args = x.to(dtype), weight.to(dtype)
        expected = torch.nn.functional.conv2d(args[0].double(), args[1].double(), padding=1)
        for rows, outputs, channels in ((64, 16, 16), (128, 128, 64), (64, 128, 32)):
            for precision in ("split", "ieee")[: 1 + (dtype is torch.float32)]:
                config = conv_pool_triton.Config(rows, outputs, channels, 4, 3, precision)
                got = conv_pool_triton.conv_pool(*args, padding=1, config=config)
                assert (got - expected).abs().max() < most * expected.abs().max()
    for rows, outputs in itertools.product((1, 1000, 10**6), (1, 17, 64, 65, 512)):
        for channels in (1, 17, 96, 128, 1024):
            config = conv_pool_triton.configuration(rows, channels, outputs, 132)
            assert config.stages * (config.rows + config.outputs) * config.channels <= 48 << 10


def boxes() -> None:
    for dtype in (torch.float32, torch.float16):
        features = tensor(2, 9, 12, 15, dtype=dtype)
        low = rng.uniform(-4, 9, (5, 2))
        corners = np.concatenate([low, low + rng.uniform(0, 12, (5, 2))], 1)
        rows = np.concatenate([rng.integers(0, 2, (5, 1)), corners], 1).astype(np.float32)
        rows[3, 1:] = 2  # without any size
        for samples, aligned, size in [(2, True, (3, 3)), (-1, False, (2, 5)), (-1, True, (1, 4))]:
            args = size, 0.75, samples, aligned
            got = roi_align_triton.roi_align(features, torch.from_numpy(rows), *args)
            expected = F.roi_align(features.float().numpy(), rows, *args)
            tolerance = 2e-5 if dtype is torch.float32 else 4e-3
            np.testing.assert_allclose(
                got.float().numpy(), expected, rtol=tolerance, atol=tolerance
            )
    nowhere = torch.tensor([[5.0, 0, 0, 4, 4], [-1, 0, 0, 4, 4]])
    assert not roi_align_triton.roi_align(features, nowhere, (3, 3)).any()
    assert roi_align_triton.roi_align(features, torch.empty((0, 5)), (3, 3)).shape == (0, 9, 3, 3)


def labels() -> None:
    for shape, size in [((2, 4, 6, 7), (13, 9)), ((1, 3, 9, 9), (5, 40)), ((1, 2, 1, 5), (3, 5))]:
        logits = tensor(*shape) * 50
        if shape[2] == 6:
            logits[0, 1, 2, 3], logits[0, 2, 4, 4], logits[1, 0] = torch.nan, torch.inf, -torch.inf
        for align_corners in (False, True):
            options = {"align_corners": align_corners}
            got = resample_argmax_triton.resample_argmax(logits, size, **options)
            expected = F.resample_argmax(logits.numpy(), size, **options)
            np.testing.assert_array_equal(got.numpy(), expected)


def routed(name: str, *args: object, **kwargs: object) -> Any:
    """An operation's result by the way that CUDA tensors take; None if that is to CuPy."""
    if _triton.kernel_for(OPERATIONS[name], args, kwargs) is None:
        return None
    return _torch_cuda.run(OPERATIONS[name], args, kwargs)


def layers() -> None:
    """Calls of `conv_pool` are right, those that go to Triton and those that go to PyTorch."""
    pooled = {"padding": "same", "pool": "max", "activation": "relu"}
    whole = ["float16", "bfloat16", "float32"]
    for name, tolerance in (
        ("float16", 1e-2),
        ("bfloat16", 6e-2),
        ("float32", 1e-4),
        ("float64", 1e-12),
    ):
        dtype = getattr(torch, name)
        x, weight = tensor(1, 3, 9, 12, dtype=dtype), tensor(5, 3, 3, 3, dtype=dtype) / 3
        bias, scale, shift = (tensor(5, dtype=dtype) for _ in range(3))
        volume, kernel = tensor(2, 3, 5, 6, 7, dtype=dtype), tensor(5, 3, 2, 3, 3, dtype=dtype) / 5
        more = {"scale": scale, "shift": shift}
        even, last = weight[:, :, :2, :2].contiguous(), x.to(memory_format=torch.channels_last)
        for args, options, by_triton in (
            ((x, weight), {}, ["float32"]),
            (
                (x, weight, bias),
                {"stride": 2, "slope": 0.2, "activation": "leaky_relu"},
                ["float32"],
            ),
            ((x, even), {"padding": "same"}, ["float32"]),
            ((x, weight, bias), pooled, whole),
            ((last, weight), {**pooled, **more}, whole),
            (
                (x, weight, bias),
                {"padding": (2, 0), "pool": "avg", "pool_size": (2, 2), **more},
                whole,
            ),
            ((x, even, bias), {"padding": "same", "activation": "elu"}, []),
            ((x, weight, bias), {**pooled, "activation": "sigmoid"}, []),
            ((last, weight, bias), {**pooled, "return_indices": True, "return_full": True}, []),
            ((x, weight), {**pooled, "pool_size": 3, "dilation": (1, 2)}, []),
            ((volume, kernel), {"padding": "same", "pool": "max", "return_full": True, **more}, []),
            ((volume, kernel, bias), {"pool": "max", "pool_size": (1, 2, 2)}, []),
        ):
            with patch.object(
                conv_pool_triton, "conv_pool", wraps=conv_pool_triton.conv_pool
            ) as it:
                got = routed("conv_pool", *args, **options)
            assert it.called == (name in by_triton), (name, options)
            wide = torch.float64 if dtype is torch.float64 else torch.float32
            named = {k: v.to(wide).numpy() if k in more else v for k, v in options.items()}
            expected = F.conv_pool(*(t.to(wide).numpy() for t in args), **named)
            several = isinstance(expected, tuple)
            order = torch.channels_last if args[0] is last else torch.contiguous_format
            for one, other in zip(got, expected, strict=True) if several else [(got, expected)]:
                assert one.is_contiguous(memory_format=order)
                if other.dtype == np.int64:
                    assert dtype in (torch.float16, torch.bfloat16) or np.array_equal(one, other)
                    continue
                assert one.dtype is dtype
                most = tolerance * max(np.abs(other).max(), 1)
                np.testing.assert_allclose(one.to(wide).numpy(), other, rtol=0, atol=most)
        for wrong in (
            (x, weight.to(torch.int32)),
            (x, weight, bias[1:]),
            (x[:, :, :2], weight),
            (x[0], weight),
        ):
            assert routed("conv_pool", *wrong) is None  # whose error the other route words


def routes() -> None:
    """Calls of the public functions: those that Triton takes are right, the rest it leaves."""
    sys.modules["cupy"] = types.ModuleType("cupy")  # installed, so that float32 is not Triton's
    for dtype in (torch.float16, torch.bfloat16):
        features = tensor(2, 9, 12, 15, dtype=dtype)
        features[0, :, 5, 5] = torch.nan  # which must not spread to samples that do not weigh it
        corners = [[0, 1, 2, 8, 9], [1, 0, 0, 15, 11], [0, 4.5, 4.5, 6.5, 6.5]]
        corners += [[3, 0, 0, 4, 4], [0, torch.nan, 1, 2, 3], [1, 0, 0, torch.inf, 3]]
        regions = torch.tensor(corners).to(dtype)
        for aligned in (False, True):
            args = (2, 3), 1.0, 2, aligned
            got = routed("roi_align", features, regions, *args)
            assert got is not None
            right = regions[:3].float().numpy()
            expected = F.roi_align(features.float().numpy(), right, *args)
            np.testing.assert_allclose(got[:3].float().numpy(), expected, rtol=4e-2, atol=4e-2)
            assert not got[3:].any()  # the CPU refuses such boxes, the GPU would have to wait
        assert routed("roi_align", features, regions, 3) is None
        logits = tensor(2, 4, 6, 7, dtype=dtype) * 50
        wide = logits.float().numpy()
        for name, args, options in (
            ("resample_argmax", ((13, 9),), {}),
            ("resample_argmax", ((13, 9),), {"align_corners": True}),
            ("resample_argmax", (), {"spacing": (2, 1), "new_spacing": (0.7, 1.5)}),
            ("upsample_argmax", (3,), {}),
        ):
            got = routed(name, logits, *args, **options)
            assert got is not None
            np.testing.assert_array_equal(got.numpy(), getattr(F, name)(wide, *args, **options))
            one = routed(name, logits[0], *args, **options)
            np.testing.assert_array_equal(one.numpy(), got[0].numpy())
        for options in ({"threshold": 0.5}, {"order": 0}, {"dtype": np.int32}):
            assert routed("resample_argmax", logits, (5, 5), **options) is None
        assert routed("resample_argmax", tensor(1, 2, 3, 4, 5, dtype=dtype), (4, 4, 4)) is None
    logits = tensor(1, 2, 6, 7)
    assert routed("upsample_argmax", logits, 2) is None
    sys.modules["cupy"] = None  # not installed
    got = routed("upsample_argmax", logits, 2)
    np.testing.assert_array_equal(got.numpy(), F.upsample_argmax(logits.numpy(), 2))
    assert routed("upsample_argmax", logits.double(), 2) is None
    assert routed("pyramid_pool", logits, (1, 2)) is None


if __name__ == "__main__":
    np.seterr(all="ignore")  # the interpreter computes masked lanes as well
    convolutions()
    boxes()
    labels()
    layers()
    routes()
    print("all of Triton's kernels are right")
