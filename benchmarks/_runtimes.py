"""The rivals of networks and of their operations: PyTorch, OpenVINO, ONNX Runtime.

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
            calls["OpenVINO"] = openvino_call(converted_model(Model(), tensors), list(inputs))
        if find_spec("onnxruntime") and find_spec("onnx") and "ONNX Runtime" not in skip:
            feed = {f"x{i}": each for i, each in enumerate(inputs)}
            model = onnx_of(Model(), tensors, list(feed))
            calls["ONNX Runtime"] = onnxruntime_call(model, feed)
    return calls


def onnxruntime_call(model: bytes, feed: dict[str, Any], every: bool = False) -> Callable[[], Any]:
    """A call of ONNX Runtime that returns the model's first output, or a list of all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3  # it warns of every mask that is pasted
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)[slice(None) if every else 0]


def openvino_call(
    model: Any, feed: Any, precision: str = "f32", every: bool = False
) -> Callable[[], Any]:
    """The same by OpenVINO; `model` is a converted one, or bytes of ONNX.

    Arrays are given once and results are read where they lie: the shortest call that it has.
    """
    import openvino

    core = openvino.Core()
    if isinstance(model, bytes):
        model = core.read_model(model, b"")
        model.reshape({name: array.shape for name, array in feed.items()})
    options = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    for name, array in feed.items() if isinstance(feed, dict) else enumerate(feed):
        tensor = openvino.Tensor(array, shared_memory=True)
        (request.set_tensor if isinstance(name, str) else request.set_input_tensor)(name, tensor)
    outputs = range(len(request.model_outputs) if every else 1)

    def call() -> Any:
        request.infer()
        found = [request.get_output_tensor(i).data for i in outputs]
        return found if every else found[0]

    return call


def converted_model(model: Any, tensors: Any) -> Any:
    """A module as OpenVINO's."""
    import torch
    from openvino import convert_model

    shapes = [list(each.shape) for each in tensors]
    with warnings.catch_warnings():  # of checks of sizes, which stay as they are
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return convert_model(model, example_input=tensors, input=shapes)


def narrow_runtimes(
    function: Callable[..., Any], module: Any, x: Any, precision: str
) -> dict[str, Any]:
    """Calls at a precision below float32, "bfloat16" or "int8".

    OpenVINO's integers are those of NNCF, which sees the same example as we do. PyTorch runs the
    function in bfloat16, channels-last; `module`, whose weights it uses, is changed for that.
    """
    import torch

    torch.set_num_threads(THREADS)
    tensor = torch.from_numpy(x)

    class Model(torch.nn.Module):
        def forward(self, given: Any) -> Any:
            return function(given)

    calls: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if find_spec("openvino") and (precision == "bfloat16" or find_spec("nncf")):
            model = converted_model(Model(), (tensor,))
            if precision == "int8":
                import nncf

                model = nncf.quantize(model, nncf.Dataset([x]), subset_size=1)
            hint = "bf16" if precision == "bfloat16" else "f32"
            calls["OpenVINO"] = openvino_call(model, [x], hint)
    if precision == "bfloat16":
        order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        module.to(torch.bfloat16).to(memory_format=order)
        narrow = tensor.to(torch.bfloat16).contiguous(memory_format=order)

        def channels_last() -> Any:
            with torch.inference_mode():
                return function(narrow).float()

        calls["PyTorch channels-last"] = channels_last
    return calls


def onnx_of(model: Any, tensors: Any, names: list[str]) -> bytes:
    """A module as an ONNX file."""
    import torch

    file = io.BytesIO()
    torch.onnx.export(model, tensors, file, input_names=names, opset_version=17, dynamo=False)
    return file.getvalue()


def close(ours: Any, theirs: Any) -> None:
    """Equal up to the rounding of sums in float32."""
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5, atol=2e-5)
