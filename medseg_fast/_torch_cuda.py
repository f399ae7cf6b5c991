"""CUDA tensors: CuPy sees their memory without a copy, on PyTorch's current stream."""

from __future__ import annotations

from typing import Any

import torch

from medseg_fast._dispatch import Operation


def run(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation's kernels on tensors of one GPU; its results are tensors there."""
    try:
        import cupy

        from medseg_fast import _cupy
    except ImportError:
        raise RuntimeError(
            f"{op.name}: CUDA tensors need CuPy: "
            'pip install "medseg_fast[cuda12]" or "medseg_fast[cuda13]"'
        ) from None
    _cupy.require_gpu(op.name)
    seen: list[tuple[torch.Tensor, Any]] = []

    def to_cupy(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.device.type != "cuda":
                raise TypeError(f"{op.name}: tensors must lie on one GPU, got one on the CPU")
            if value.dtype is torch.bfloat16:  # of which CuPy has no arrays
                raise NotImplementedError(f"{op.name}: no GPU kernel for bfloat16")
            tensor = value.detach().resolve_neg()
            boolean = tensor.dtype is torch.bool  # DLPack has known it for a short time only
            array = cupy.from_dlpack(tensor.view(torch.uint8) if boolean else tensor)
            seen.append((value, array.view(bool) if boolean else array))
            return seen[-1][1]
        return type(value)(map(to_cupy, value)) if type(value) in (list, tuple) else value

    def to_torch(value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(to_torch, value))
        if not isinstance(value, cupy.ndarray):
            return value
        for tensor, array in seen:
            if value is array:
                return tensor  # out=
        boolean = value.dtype == bool
        result: Any = torch.utils.dlpack.from_dlpack(value.view("uint8") if boolean else value)
        return result.view(torch.bool) if boolean else result

    given = [*args, *kwargs.values()]
    device = next(v.device for v in given if isinstance(v, torch.Tensor) and v.is_cuda)
    stream = torch.cuda.current_stream(device).cuda_stream
    with cupy.cuda.Device(device.index), cupy.cuda.ExternalStream(stream):
        named = {name: to_cupy(value) for name, value in kwargs.items()}
        return to_torch(op.on_gpu(_cupy.CupyDevice(), tuple(map(to_cupy, args)), named))
