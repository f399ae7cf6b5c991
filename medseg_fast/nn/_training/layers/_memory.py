"""Features channels-last in memory, and what our kernels see of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_fast._dispatch import BFLOAT16

ORDERS = {4: torch.channels_last, 5: torch.channels_last_3d}
_FLOATS = (torch.float32, torch.bfloat16)


def is_ours(x: Tensor) -> bool:
    """Whether our kernels take these features."""
    if torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype in _FLOATS and x.ndim in ORDERS and x.numel() > 0


def are_floats(*parameters: Tensor | None) -> bool:
    """Whether parameters, where there are such, are float32."""
    return all(p is None or p.dtype is torch.float32 for p in parameters)


def last(x: Tensor) -> Tensor:
    """The features channels-last in memory."""
    return x.contiguous(memory_format=ORDERS[x.ndim])


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Features to be, channels-last in memory."""
    return torch.empty(shape, dtype=dtype, memory_format=ORDERS[len(shape)])


def array(x: Tensor) -> NDArray[Any]:
    """Features channels-last in memory as an array (N, [D,] H, W, C)."""
    x = x.detach().movedim(1, -1)
    if x.dtype is torch.bfloat16:
        return x.view(torch.uint16).numpy().view(BFLOAT16)
    return x.numpy()
