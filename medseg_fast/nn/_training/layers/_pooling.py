"""Max pooling by 2, which keeps a byte of each window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medseg_fast._cpu import core
from medseg_fast.nn._training.layers import _memory as memory


def takes(layer: Any) -> bool:
    """Whether a layer is max pooling of two pixels along every axis, and takes no pixel twice."""
    if type(layer) not in (nn.MaxPool2d, nn.MaxPool3d):
        return False

    def is_all(value: Any, wanted: int) -> bool:
        return set(value if isinstance(value, tuple) else (value,)) == {wanted}

    sizes = ((layer.kernel_size, 2), (layer.stride, 2), (layer.padding, 0), (layer.dilation, 1))
    plain = not (layer.return_indices or layer.ceil_mode)
    return plain and all(is_all(value, wanted) for value, wanted in sizes)


def forward_of(layer: Any) -> Callable[[Tensor], Any]:
    """What runs instead of the layer's own."""

    halve: Any = _Halve.apply

    def forward(x: Tensor) -> Any:
        if not memory.is_ours(x) or min(x.shape[2:]) < 2:
            return type(layer).forward(layer, x)
        return halve(memory.last(x))

    return forward


class _Halve(torch.autograd.Function):
    """2 x 2 (x 2) max pooling of features channels-last in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override, unused-ignore]
        y = memory.empty((*x.shape[:2], *(n // 2 for n in x.shape[2:])), x.dtype)
        places = torch.empty_like(y, dtype=torch.uint8)
        core.halve(_planes(x), x.ndim - 3, _planes(y), _planes(places))
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override, unused-ignore]
        (places,) = ctx.saved_tensors
        by_x = memory.empty(ctx.shape, gradient.dtype)
        core.halve_gradient(
            _planes(memory.last(gradient)), _planes(places), len(ctx.shape) - 3, _planes(by_x)
        )
        return by_x


def _planes(x: Tensor) -> NDArray[Any]:
    """(N, D, H, W, C), of an image one plane."""
    array = memory.array(x)
    return array if x.ndim == 5 else array[:, None]
