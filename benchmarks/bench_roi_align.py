"""ROI Align beside torchvision, ONNX Runtime and OpenVINO, on boxes as proposals have them."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _runtimes import onnxruntime_call, openvino_call

from medseg_fast.nn import functional

TV, ORT, OV = "torchvision", "ONNX Runtime", "OpenVINO"


def proposals(n, rows, columns, seed=0, least=16, most=400):
    """Boxes of sizes even on a logarithmic scale, with their centres inside the image."""
    rng = np.random.default_rng(seed)
    centre = rng.random((n, 2)) * (columns, rows)
    half = least * (most / least) ** rng.random((n, 2)) / 2
    boxes = np.concatenate([centre - half, centre + half], 1)
    return boxes.clip(0, [columns, rows, columns, rows]).astype(np.float32)


def features(channels, rows, columns, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((1, channels, rows, columns), np.float32)


def _close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=2e-5)


def _onnx(size, samples, scale):
    from onnx import TensorProto, helper

    node = helper.make_node(
        "RoiAlign",
        ["x", "rois", "index"],
        ["y"],
        coordinate_transformation_mode="output_half_pixel",
        output_height=size,
        output_width=size,
        sampling_ratio=samples,
        spatial_scale=scale,
    )
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, None, None, None]),
        helper.make_tensor_value_info("rois", TensorProto.FLOAT, [None, 4]),
        helper.make_tensor_value_info("index", TensorProto.INT64, [None]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "roi_align", inputs, [output])
    opset = [helper.make_opsetid("", 16)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _single(size, samples, shape, scale, channels_last=False, n=1000):
    def build():
        import torch
        from torchvision.ops import roi_align

        x, boxes = features(*shape), proposals(n, shape[1] / scale, shape[2] / scale)
        given = torch.from_numpy(x)
        if channels_last:
            given = given.contiguous(memory_format=torch.channels_last)
        lists = [torch.from_numpy(boxes)]
        ratio = samples or -1
        calls = {
            "medseg_fast": lambda: functional.roi_align(given, lists, size, scale, ratio),
            TV: lambda: roi_align(given, lists, size, scale, ratio),
        }
        if not channels_last:  # what these two take
            feed = {"x": x, "rois": boxes, "index": np.zeros(n, np.int64)}
            model = _onnx(size, samples, scale)
            calls[ORT] = onnxruntime_call(model, feed)
            calls[OV] = openvino_call(model, feed)
        return x, calls

    return build


def _pyramid(size=7, n=1000, image=(800, 1088)):
    def build():
        from collections import OrderedDict

        import torch
        from torchvision.ops import MultiScaleRoIAlign

        scales = [1 / 4, 1 / 8, 1 / 16, 1 / 32]
        maps = [
            torch.from_numpy(features(256, int(image[0] * s), int(image[1] * s))) for s in scales
        ]
        boxes = [torch.from_numpy(proposals(n, *image))]
        pooler = MultiScaleRoIAlign(["0", "1", "2", "3"], size, 2)
        named = OrderedDict((str(i), m) for i, m in enumerate(maps))
        return maps[0].numpy(), {
            "medseg_fast": lambda: functional.multiscale_roi_align(
                maps, boxes, size, 2, image_shapes=[image]
            ),
            TV: lambda: pooler(named, boxes, [image]),
        }

    return build


def _volume():
    import torch

    from medseg_fast.reference import nn_roi_align as slow

    rng = np.random.default_rng(2)
    x = rng.standard_normal((1, 32, 32, 48, 48), np.float32)
    low = rng.random((20, 3)) * (40, 40, 24)
    boxes = np.concatenate([low, low + 8 + 8 * rng.random((20, 3))], 1).astype(np.float32)
    given = torch.from_numpy(x)
    return x, {
        "medseg_fast": lambda: functional.roi_align(given, [boxes], 4, 1.0, 2),
        "NumPy, our slow twin": lambda: slow.roi_align(x, [boxes], 4, 1.0, 2),
    }


def _case(name, build):
    return Case("roi_align", name, build, same=_close, target=4)


P2 = (256, 200, 272)  # the finest level of a pyramid, for an image of 800 x 1088
C4 = (256, 50, 68)
CASES = [
    _case("1000 boxes 7x7, 2 samples, 256x50x68", _single(7, 2, C4, 1 / 16)),
    _case("1000 boxes 7x7, 2 samples, 256x50x68 channels last", _single(7, 2, C4, 1 / 16, True)),
    _case("1000 boxes 7x7, 2 samples, 256x200x272", _single(7, 2, P2, 1 / 4)),
    _case("1000 boxes 7x7, 2 samples, 256x200x272 channels last", _single(7, 2, P2, 1 / 4, True)),
    _case("1000 boxes 7x7, adaptive, 256x200x272", _single(7, 0, P2, 1 / 4)),
    _case("1000 boxes 7x7, adaptive, 256x200x272 channels last", _single(7, 0, P2, 1 / 4, True)),
    _case("1000 boxes 14x14, 2 samples, 256x200x272", _single(14, 2, P2, 1 / 4)),
    _case(
        "1000 boxes 14x14, 2 samples, 256x200x272 channels last", _single(14, 2, P2, 1 / 4, True)
    ),
    _case("100 boxes 14x14, 2 samples, 256x200x272", _single(14, 2, P2, 1 / 4, n=100)),
    Case("multiscale_roi_align", "1000 boxes 7x7, 4 levels of 256", _pyramid(), _close, target=4),
    Case("roi_align", "3D, 20 boxes 4x4x4, 32x32x48x48", _volume, _close),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_roi_align(benchmark, case):
    pytest.importorskip("torchvision")
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
