"""The rivals of a network's operation that PyTorch can say: PyTorch, OpenVINO, ONNX Runtime.

A runtime that is not installed, or that knows no such operation, is left out.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

THREADS = 2


def runtimes(function: Callable[..., Any], *inputs: Any, skip: str = "") -> dict[str, Any]:
    """Calls of a function of tensors, by runtime; `skip` names those that cannot run it."""
    import torch

    torch.set_num_threads(THREADS)
    tensors = tuple(map(torch.from_numpy, inputs))

    class Model(torch.nn.Module):
        def forward(self, *given: Any) -> Any:
            return function(*given)

    def eager() -> Any:
        with torch.no_grad():
            return function(*tensors)

    calls = {"PyTorch": eager}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if find_spec("openvino") and "OpenVINO" not in skip:
            calls["OpenVINO"] = _openvino(Model(), tensors, inputs)
        if find_spec("onnxruntime") and find_spec("onnx") and "ONNX Runtime" not in skip:
            calls["ONNX Runtime"] = _onnxruntime(Model(), tensors, inputs)
    return calls


def _openvino(model: Any, tensors: Any, inputs: Any) -> Callable[[], Any]:
    import openvino

    shapes = [list(each.shape) for each in inputs]
    converted = openvino.convert_model(model, example_input=tensors, input=shapes)
    options = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    return lambda: request.infer(list(inputs), share_inputs=True, share_outputs=True)[0]


def _onnxruntime(model: Any, tensors: Any, inputs: Any) -> Callable[[], Any]:
    import onnxruntime
    import torch

    file = io.BytesIO()
    names = [f"x{i}" for i in range(len(inputs))]
    torch.onnx.export(model, tensors, file, input_names=names, opset_version=17, dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(
        file.getvalue(), options, providers=["CPUExecutionProvider"]
    )
    feed = dict(zip(names, inputs, strict=True))
    return lambda: session.run(None, feed)[0]


def close(ours: Any, theirs: Any) -> None:
    """Equal up to the rounding of sums in float32."""
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=2e-5)
