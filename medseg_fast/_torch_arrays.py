"""Tensors on the CPU as NumPy arrays of the same memory, and an operation's results as tensors."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch

from medseg_fast._dispatch import BFLOAT16, Operation

DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64".split()
    + "float16 float32 float64".split()
}
DTYPES[torch.bfloat16] = BFLOAT16
TORCH_DTYPES = {dtype: torch_dtype for torch_dtype, dtype in DTYPES.items()}
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def run(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any], *, fresh: bool) -> Any:
    """The NumPy body on the tensors' memory. `fresh`: the results may not share it."""
    lent = _Lent(op.features, fresh)
    named = {name: lent.to_numpy(value) for name, value in kwargs.items()}
    return lent.to_torch(op.body(*map(lent.to_numpy, args), **named))


class _Lent:
    """The arrays that stand for the tensors of one call.

    Not functions within a function: those that call themselves are a cycle, and would hold the
    call's tensors until the garbage collector comes.
    """

    def __init__(self, features: bool, fresh: bool) -> None:
        self._features, self._fresh = features, fresh
        self._seen: list[tuple[torch.Tensor, Any]] = []

    def to_numpy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            tensor = value.detach().resolve_neg()
            narrow = tensor.dtype is torch.bfloat16
            array = tensor.view(torch.uint16).numpy().view(BFLOAT16) if narrow else tensor.numpy()
            self._seen.append((value, array))
            return array
        return tuple(map(self.to_numpy, value)) if isinstance(value, (tuple, list)) else value

    def to_torch(self, value: Any) -> Any:
        if isinstance(value, tuple):
            parts = map(self.to_torch, value)
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in fields(value)]
            return replace(value, **{name: self.to_torch(getattr(value, name)) for name in names})
        if not isinstance(value, (np.ndarray, np.generic)):
            return value  # a number or an object of ours
        for tensor, array in self._seen:
            if value is array:
                if not self._fresh:
                    return tensor  # out=, in_place=
                value = value.copy()
        if not (self._features and _is_channels_last(value)):
            value = np.require(value, requirements=["C", "W"])
        if self._fresh and any(np.may_share_memory(value, given) for _, given in self._seen):
            value = value.copy()
        return tensor_of(value)


def tensor_of(array: Any) -> torch.Tensor:
    """A tensor on the memory of a writable array, if its bytes are in this machine's order."""
    narrow = array.dtype == BFLOAT16
    words = array.view(np.uint16) if narrow else array
    tensor = torch.from_numpy(words.astype(words.dtype.newbyteorder("="), copy=False))
    return tensor.view(torch.bfloat16) if narrow else tensor


def _is_channels_last(array: Any) -> bool:
    """Whether features are channels-last in memory and not in C order."""
    if array.ndim not in CHANNELS_LAST or array.flags.c_contiguous:
        return False
    return bool(array.transpose(0, *range(2, array.ndim), 1).flags.c_contiguous)
