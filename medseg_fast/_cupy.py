"""CuPy arrays: an operation with kernels for GPUs runs there, without a copy to the host."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.util import find_spec
from typing import Any

import cupy
import numpy as np

from medseg_fast._dispatch import Operation, leaves
from medseg_fast._gpu._device import Launch, constant, recording
from medseg_fast.kernels.source import OPTIONS, Source

# Operations whose fastest kernels are for tensors (_triton.py).
_OF_TENSORS = {"conv_pool"}


class CupyDevice:
    """CuPy's current device and stream: whoever calls has made them the arrays' own."""

    xp = cupy
    array = cupy.ndarray

    def kernel(self, source: Source, name: str, *arguments: Any) -> Launch:
        return _launch(source, name, arguments)

    def constant(self, array: Any) -> Any:
        return constant(array, _upload)


@cache
def _launch(source: Source, name: str, arguments: tuple[Any, ...]) -> Launch:
    launch: Launch = _kernel(source, source.expression(name, *arguments))
    return launch


@cache
def _kernel(source: Source, expression: str) -> Any:
    # NVRTC compiles it at its first launch and CuPy keeps the machine code on disk.
    module = cupy.RawModule(code=source.text(), options=OPTIONS, name_expressions=[expression])
    return module.get_function(expression)


def _upload(array: np.ndarray[Any, Any]) -> Any:
    device = cupy.cuda.runtime.getDevice()
    return _uploaded(device, array.dtype.str, array.shape, array.tobytes())


@lru_cache(256)
def _uploaded(device: int, dtype: str, shape: tuple[int, ...], data: bytes) -> Any:
    """Weights and steps come again with every frame; a copy takes longer than many a kernel."""
    with cupy.cuda.using_allocator(cupy.get_default_memory_pool().malloc):
        array = cupy.asarray(np.frombuffer(data, dtype).reshape(shape))
    cupy.cuda.get_current_stream().synchronize()  # the next to read it may be another stream
    return array


def call(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if op.gpu is None:
        raise NotImplementedError(
            f"{op.name}: no implementation for CuPy arrays; pass image.get() to run it on the CPU"
        )
    require_gpu(op.name)
    values = leaves((args, tuple(kwargs.values())))
    with next(value for value in values if isinstance(value, cupy.ndarray)).device as device:
        if op.name in _OF_TENSORS and _has_tensors() and not recording():
            result = _by_tensors(op, args, kwargs, device)
            if result is not NotImplemented:
                return result
        return op.on_gpu(CupyDevice(), args, kwargs)


@cache
def _has_tensors() -> bool:
    if find_spec("torch") is None or find_spec("triton") is None:
        return False
    import torch

    return bool(torch.cuda.is_available())


def _by_tensors(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], device: Any) -> Any:
    """The result of tensors that share the arrays' memory, on CuPy's current stream.

    NotImplemented where no kernel of tensors takes the call. Not in a graph that CuPy records:
    PyTorch would give the memory in it to others.
    """
    import torch

    from medseg_fast import _triton

    def given(value: Any) -> Any:
        return torch.utils.dlpack.from_dlpack(value) if isinstance(value, cupy.ndarray) else value

    stream = torch.cuda.ExternalStream(cupy.cuda.get_current_stream().ptr, device.id)
    with torch.cuda.stream(stream), torch.no_grad():
        named = {name: given(value) for name, value in kwargs.items()}
        call = _triton.kernel_for(op, tuple(map(given, args)), named)
        return NotImplemented if call is None else _from_tensors(call())


def _from_tensors(value: Any) -> Any:
    """The tensors of a result as arrays."""
    import torch

    if isinstance(value, tuple):
        return tuple(map(_from_tensors, value))
    return cupy.from_dlpack(value) if isinstance(value, torch.Tensor) else value


def require_gpu(op: str) -> None:
    """Refuse work for a GPU that CuPy cannot reach, in words rather than by an error number."""
    reason = why_not()
    if reason:
        raise RuntimeError(f"{op}: no GPU to run on: {reason}")


@cache
def why_not() -> str:
    """Why CuPy has no GPU to run on; empty where it has one."""
    runtime = cupy.cuda.runtime
    try:
        return "" if runtime.getDeviceCount() else "the driver lists no device"
    except runtime.CUDARuntimeError as error:
        return f"the CUDA driver is missing or too old ({error})"
