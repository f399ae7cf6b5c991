"""Convolution + ReLU + pooling beside PyTorch, ONNX Runtime and OpenVINO, all on two threads.

Rivals that are not installed are left out. The layers are those of the networks: four depths of a
U-Net, the first layer on one and three channels, SegNet's with indices, one of a 3D U-Net.
"""

from __future__ import annotations

import copy
from importlib.util import find_spec

import numpy as np
import pytest
from _cases import Case
from _runtimes import THREADS, converted_model, onnx_of, onnxruntime_call, openvino_call

from medseg_fast.nn.functional import conv_pool


def _same(ours, theirs):
    """Values within the stated bound of the largest; indices may differ where rounding decides."""
    ours = ours if isinstance(ours, tuple) else (ours,)
    theirs = [np.asarray(t) for t in (theirs if isinstance(theirs, (tuple, list)) else (theirs,))]
    assert np.abs(ours[0] - theirs[0]).max() <= 1e-4 * np.abs(theirs[0]).max()
    if len(ours) > 1 and len(theirs) > 1:
        assert (ours[1] != theirs[1]).mean() < 1e-3


def _layer(channels, size, indices=False):
    def build():
        rng = np.random.default_rng(0)
        axes = len(size)
        x = rng.standard_normal((1, channels[0], *size), np.float32)
        weight = rng.standard_normal((channels[1], channels[0], *(3,) * axes), np.float32)
        weight /= np.float32(np.sqrt(channels[0] * 3**axes))
        bias = rng.standard_normal(channels[1], np.float32)
        calls = {
            "medseg_fast": lambda: conv_pool(
                x,
                weight,
                bias,
                padding=1,
                activation="relu",
                pool="max",
                return_indices=indices,
            )
        }
        if find_spec("torch"):
            calls.update(_torch_calls(x, weight, bias, indices))
        return x, calls

    return build


def _channels_last(axes):
    import torch

    return torch.channels_last if axes == 2 else torch.channels_last_3d


def _network(channels, axes, indices):
    """PyTorch's layers."""
    from torch import nn

    convolution, pooling = (nn.Conv2d, nn.MaxPool2d) if axes == 2 else (nn.Conv3d, nn.MaxPool3d)
    layers = convolution(*channels, 3, padding=1), nn.ReLU(), pooling(2, return_indices=indices)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def _torch_calls(x, weight, bias, indices):
    """PyTorch as it comes and channels-last, and what reads its export."""
    import torch

    torch.set_num_threads(THREADS)
    axes = x.ndim - 2
    order = _channels_last(axes)

    def network():
        made = _network((x.shape[1], weight.shape[0]), axes, indices)
        made[0].weight.data, made[0].bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        return made

    def run(model, tensor):
        with torch.inference_mode():
            return model(tensor)

    plain, last = network(), network().to(memory_format=order)
    tensor = torch.from_numpy(x)
    tensor_last = tensor.to(memory_format=order)
    calls = {
        "PyTorch": lambda: run(plain, tensor),
        "PyTorch channels-last": lambda: run(last, tensor_last),
    }
    if find_spec("openvino"):
        calls["OpenVINO"] = openvino_call(converted_model(plain, (tensor,)), [x], every=True)
    if find_spec("onnxruntime") and find_spec("onnx"):
        model = onnx_of(plain, (tensor,), ["x"])
        calls["ONNX Runtime"] = onnxruntime_call(model, {"x": x}, every=True)
    return calls


def _most(ours, theirs):
    """Values of bfloat16, whose products were rounded elsewhere."""
    ours, theirs = (each[0] if isinstance(each, (tuple, list)) else each for each in (ours, theirs))
    ours = ours.float().numpy()
    theirs = theirs if isinstance(theirs, np.ndarray) else theirs.float().numpy()
    assert np.abs(ours - theirs).max() <= 0.03 * np.abs(theirs).max()


def _narrow_layer(channels, size, indices=False):
    """The same on features of bfloat16, channels-last, as PyTorch is fastest with."""

    def build():
        import torch

        torch.set_num_threads(THREADS)
        rng, axes = np.random.default_rng(0), len(size)
        x = torch.from_numpy(rng.standard_normal((1, channels[0], *size), np.float32))
        torch.manual_seed(0)
        network, order = _network(channels, axes, indices), _channels_last(axes)
        weight, bias = network[0].weight, network[0].bias
        options = {"padding": 1, "activation": "relu", "pool": "max", "return_indices": indices}
        given = x.to(torch.bfloat16).contiguous(memory_format=order)
        calls = {"medseg_fast": lambda: conv_pool(given, weight, bias, **options)}
        if find_spec("openvino"):
            model = converted_model(network, (x,))
            calls["OpenVINO"] = openvino_call(model, [x.numpy()], "bf16", every=True)
        last = copy.deepcopy(network).to(torch.bfloat16).to(memory_format=order)
        torch._inductor.config.freezing = True
        for name, model in {
            "PyTorch channels-last": last,
            "torch.compile": torch.compile(last),
        }.items():

            def run(model=model):
                with torch.no_grad():
                    return model(given)

            calls[name] = run
        return x.numpy(), calls

    return build


def _case(name, channels, size, target, indices=False, precision="float32"):
    text = f"{channels[0]} to {channels[1]} channels, {name}, {precision}"
    layer, same = (_layer, _same) if precision == "float32" else (_narrow_layer, _most)
    return Case(
        "conv_pool",
        text + (", indices" if indices else ""),
        layer(channels, size, indices),
        same=same,
        target=target,
    )


CASES = [
    _case("256x256", (64, 64), (256, 256), 2),
    _case("128x128", (128, 128), (128, 128), 1.8),
    _case("64x64", (256, 256), (64, 64), 1.8),
    _case("32x32", (512, 512), (32, 32), 1.8),
    _case("512x512", (3, 64), (512, 512), 2),
    _case("512x512", (1, 64), (512, 512), 2),
    _case("256x256", (64, 64), (256, 256), 2, indices=True),
    _case("64x64x64", (32, 64), (64, 64, 64), 1.5),
    _case("256x256", (64, 64), (256, 256), 1.6, precision="bfloat16"),
    _case("128x128", (128, 128), (128, 128), 1.5, precision="bfloat16"),
    _case("64x64", (256, 256), (64, 64), 1.5, precision="bfloat16"),
    _case("32x32", (512, 512), (32, 32), 1.5, precision="bfloat16"),
    _case("256x256", (64, 64), (256, 256), 2, indices=True, precision="bfloat16"),
    _case("64x64x64", (32, 64), (64, 64, 64), 1.5, precision="bfloat16"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_pool(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
