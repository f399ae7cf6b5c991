"""Non-maximum suppression beside torchvision and OpenVINO."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _runtimes import openvino_call

from medseg_fast.nn import functional


def detections(n, extent=1000, seed=0):
    """Boxes of 16 to 256 pixels, sizes even on a logarithmic scale, with random scores."""
    rng = np.random.default_rng(seed)
    centre, side = rng.random((n, 2)) * extent, 16 * 16 ** rng.random((n, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).astype(np.float32)
    return boxes, (rng.permutation(n) / n).astype(
        np.float32
    )  # no ties: torchvision leaves them open


def _onnx(n, threshold):
    from onnx import TensorProto, helper, numpy_helper

    names = ["boxes", "scores", "most", "iou"]
    node = helper.make_node("NonMaxSuppression", names, ["kept"], center_point_box=0)
    constants = [
        numpy_helper.from_array(np.array([n], np.int64), "most"),
        numpy_helper.from_array(np.array([threshold], np.float32), "iou"),
    ]
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, n, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1, n]),
    ]
    output = helper.make_tensor_value_info("kept", TensorProto.INT64, [None, 3])
    graph = helper.make_graph([node], "nms", inputs, [output], constants)
    opset = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _nms(n, extent, threshold=0.5):
    def build():
        import torch
        from torchvision.ops import nms

        boxes, scores = detections(n, extent)
        tensors = torch.from_numpy(boxes), torch.from_numpy(scores)
        calls = {
            "medseg_fast": lambda: functional.nms(*tensors, threshold),
            "OpenVINO": openvino_call(
                _onnx(n, threshold), {"boxes": boxes[None], "scores": scores[None, None]}
            ),
        }
        if n <= 10_000:  # seconds beyond
            calls["torchvision"] = lambda: nms(*tensors, threshold)
        return boxes, calls

    return build


def _same(ours, theirs):
    theirs = np.asarray(theirs)
    theirs = theirs[theirs[:, 0] >= 0, 2] if theirs.ndim == 2 else theirs  # OpenVINO pads
    np.testing.assert_array_equal(np.asarray(ours), theirs)


def _batched(n=8000):
    import torch
    from torchvision.ops import batched_nms

    boxes, scores = map(torch.from_numpy, detections(n))
    classes = torch.from_numpy(np.random.default_rng(1).integers(0, 80, n))
    return boxes.numpy(), {
        "medseg_fast": lambda: functional.batched_nms(boxes, scores, classes, 0.5),
        "torchvision": lambda: batched_nms(boxes, scores, classes, 0.5),
    }


def _volume(n=10_000):
    from medseg_fast.reference import nn_nms as slow

    rng = np.random.default_rng(0)
    centre, side = rng.random((n, 3)) * 200, 8 * 8 ** rng.random((n, 3))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).astype(np.float32)
    scores = rng.random(n, np.float32)
    return boxes, {
        "medseg_fast": lambda: functional.nms(boxes, scores, 0.3),
        "NumPy, our slow twin": lambda: slow.nms(boxes, scores, 0.3),
    }


CASES = [
    *(
        Case("nms", f"{n} boxes in {e}x{e}", _nms(n, e), _same, target=1.2)
        for n, e in ((1000, 1000), (10_000, 1000), (10_000, 200), (50_000, 1000))
    ),
    Case("batched_nms", "8000 boxes, 80 classes", _batched, target=20),
    Case("nms", "3D, 10000 boxes in 200^3", _volume),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nms(benchmark, case):
    pytest.importorskip("torchvision")
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
