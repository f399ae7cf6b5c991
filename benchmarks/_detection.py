"""Runs one-operation ONNX models, for the rivals that want a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def runtime_call(model: Any, feed: dict[str, Any], threads: int = 2) -> Callable[[], Any]:
    """A call of ONNX Runtime that returns the first output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, feed)[0]


def openvino_call(model: Any, feed: dict[str, Any], threads: int = 2) -> Callable[[], Any]:
    """The same by OpenVINO in float32, with the shapes of `feed` made known to it."""
    import openvino

    core = openvino.Core()
    read = core.read_model(model.SerializeToString(), b"")
    read.reshape({name: array.shape for name, array in feed.items()})
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(read, "CPU", options).create_infer_request()

    def call() -> Any:
        request.infer(feed, share_inputs=True, share_outputs=True)
        return request.get_output_tensor(0).data

    return call
