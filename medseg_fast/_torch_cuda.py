"""CUDA tensors: CuPy sees their memory without a copy, on PyTorch's current stream.

What kernels take beside comes from PyTorch's allocator: one pool of memory for both libraries, and
that of a CUDA graph while PyTorch records one. Calls that Triton takes go there (_triton.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from medseg_fast import _triton
from medseg_fast._dispatch import Operation, leaves


def run(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation's kernels on tensors of one GPU; its results are tensors there."""
    in_triton = _triton.kernel_for(op, args, kwargs)
    if in_triton is not None:
        return in_triton()
    try:
        import cupy

        from medseg_fast import _cupy
    except ImportError:
        raise RuntimeError(
            f"{op.name}: CUDA tensors need CuPy: "
            'pip install "medseg_fast[cuda12]" or "medseg_fast[cuda13]"'
        ) from None
    _cupy.require_gpu(op.name)

    def memory(size: int) -> Any:
        tensor = torch.empty(size, dtype=torch.uint8, device=device)
        held = cupy.cuda.UnownedMemory(tensor.data_ptr(), size, tensor, device.index)
        return cupy.cuda.MemoryPointer(held, 0)

    device = next(t.device for t in _tensors(args, kwargs) if t.is_cuda)
    stream = torch.cuda.current_stream(device).cuda_stream
    with (
        cupy.cuda.Device(device.index),
        cupy.cuda.ExternalStream(stream),
        cupy.cuda.using_allocator(memory),
    ):
        lent = _Lent(op.name, cupy)
        named = {name: lent.to_cupy(value) for name, value in kwargs.items()}
        given = tuple(map(lent.to_cupy, args))
        result = lent.to_torch(op.on_gpu(_cupy.CupyDevice(), given, named))
    return _narrowed(op, args, kwargs, result)


class _Lent:
    """CuPy's arrays that stand for the tensors of one call; a class as in _torch_arrays.py."""

    def __init__(self, name: str, cupy: Any) -> None:
        self._name, self._cupy = name, cupy
        self._seen: list[tuple[torch.Tensor, Any]] = []

    def to_cupy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            if value.device.type != "cuda":
                raise TypeError(f"{self._name}: tensors must lie on one GPU, got one on the CPU")
            tensor = value.detach().resolve_neg()
            if tensor.dtype is torch.bfloat16:  # of which CuPy has no arrays
                tensor = tensor.float()
            boolean = tensor.dtype is torch.bool  # DLPack has known it for a short time only
            array = self._cupy.from_dlpack(tensor.view(torch.uint8) if boolean else tensor)
            self._seen.append((value, array.view(bool) if boolean else array))
            return self._seen[-1][1]
        return type(value)(map(self.to_cupy, value)) if type(value) in (list, tuple) else value

    def to_torch(self, value: Any) -> Any:
        if type(value) is tuple:
            return tuple(map(self.to_torch, value))
        if not isinstance(value, self._cupy.ndarray):
            return value
        for tensor, array in self._seen:
            if value is array:  # out=
                if tensor.dtype is torch.bfloat16:
                    tensor.copy_(torch.utils.dlpack.from_dlpack(value))
                return tensor
        boolean = value.dtype == bool
        result: Any = torch.utils.dlpack.from_dlpack(value.view("uint8") if boolean else value)
        return result.view(torch.bool) if boolean else result


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    values = leaves((args, tuple(kwargs.values())))
    return (value for value in values if isinstance(value, torch.Tensor))


def _narrowed(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
    """Results of bfloat16 where the operation tells so, which were computed as float32."""
    given = _tensors(args, kwargs)
    if op.result is None or all(tensor.dtype is not torch.bfloat16 for tensor in given):
        return result
    from medseg_fast._torch import _tell

    told = [dtype for _, dtype in _tell(op, args, kwargs)]
    several = isinstance(result, tuple)
    results = result if several else (result,)
    narrow = tuple(r.to(dtype) for r, dtype in zip(results, told, strict=True))
    return narrow if several else narrow[0]
