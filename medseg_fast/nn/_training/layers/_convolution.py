"""Convolutions whose three products are made by our kernels or by PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medseg_fast._cpu import core
from medseg_fast.nn._training.layers import _memory as memory
from medseg_fast.nn.functional.convolution import Geometry


def takes(layer: Any) -> bool:
    """Whether our kernels have this layer and its gradients."""
    if type(layer) not in (nn.Conv2d, nn.Conv3d):
        return False
    ones = (1,) * len(layer.kernel_size)
    taps = layer.kernel_size[-2:]
    return (
        taps in ((3, 3), (5, 5))
        and layer.stride == layer.dilation == ones
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and all(p < k for p, k in zip(layer.padding, layer.kernel_size, strict=True))
    )


def forward_of(layer: Any) -> Callable[[Tensor], Any]:
    """What runs instead of the layer's own."""
    convolve: Any = _Convolve.apply
    sizes = _geometry(layer.kernel_size, layer.padding)

    def forward(x: Tensor) -> Any:
        narrowed = x
        if torch.is_autocast_enabled("cpu") and x.device.type == "cpu":
            narrowed = x.to(torch.get_autocast_dtype("cpu"))
        elif x.dtype is not torch.float32:
            return type(layer).forward(layer, x)
        fits = memory.is_ours(narrowed) and memory.are_floats(layer.weight, layer.bias)
        if not fits or x.shape[1] != layer.in_channels or min(_size(x, sizes)) < 1:
            return type(layer).forward(layer, x)
        return convolve(memory.last(narrowed), layer.weight, layer.bias, layer.padding)

    return forward


def _geometry(kernel: Sequence[int], padding: Sequence[int]) -> Geometry:
    ones = (1,) * len(kernel)
    return Geometry(tuple(kernel), ones, tuple(padding), tuple(padding), ones, ones)


def _size(x: Tensor, sizes: Geometry) -> tuple[int, ...]:
    return sizes.full(tuple(x.shape[2:]))


class _Convolve(torch.autograd.Function):
    """Convolution of features channels-last in memory by float32 weights, stride 1."""

    @staticmethod
    def forward(  # type: ignore[override, unused-ignore]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return _convolved(x, weight, bias, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override, unused-ignore]
        x, weight = ctx.saved_tensors
        gradient = memory.last(gradient)
        by_x, by_weight, by_bias, _ = ctx.needs_input_grad
        found = _input_gradient(gradient, x, weight, ctx.padding) if by_x else None
        if not (by_weight or by_bias):
            return found, None, None, None
        return found, *_parameter_gradients(gradient, x, weight, ctx.padding, by_bias), None


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, ...]) -> Tensor:
    if not _pays(x, weight):
        dtype = _of_products(x)
        given = [None if each is None else each.to(dtype) for each in (x, weight, bias)]
        with torch.autocast("cpu", enabled=False):
            y = _plain(x)(*given, padding=padding)
        return memory.last(y.to(x.dtype))
    geometry = _geometry(weight.shape[2:], padding)
    sizes = geometry.of_volumes()
    y = memory.empty((len(x), len(weight), *_size(x, geometry)), x.dtype)
    channels = (weight.shape[1], weight.shape[0])
    planes = (1,) * (5 - x.ndim) + tuple(x.shape[2:])
    algorithm = core.convolution_algorithm(
        channels, sizes, planes, x.dtype is torch.bfloat16, False
    )
    offset = np.zeros(len(weight), np.float32) if bias is None else bias.detach().numpy()
    values = weight.detach().contiguous().numpy()
    layer = core.convolution(channels, sizes, 0, 0.0, 0, algorithm, values, offset)
    layer.run(memory.array(x), True, memory.array(y), None, None)
    return y


def _input_gradient(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, ...]
) -> Tensor:
    if not _pays(x, weight):
        found: Tensor = _aten(gradient, x, weight, padding, (True, False, False))[0]
        return found.to(x.dtype)
    turned = weight.detach().transpose(0, 1).flip(tuple(range(2, weight.ndim)))
    around = tuple(k - 1 - p for k, p in zip(weight.shape[2:], padding, strict=True))
    return _convolved(gradient, turned, None, around)


def _parameter_gradients(
    gradient: Tensor, x: Tensor, weight: Tensor, padding: tuple[int, ...], biased: bool
) -> tuple[Tensor, Tensor | None]:
    """Of weight and bias."""
    # Ours are products of float32, which AMX's of bfloat16 outrun.
    if not _pays(x, weight) or (x.dtype is torch.bfloat16 and core.have_tiles()):
        _, by_weight, by_bias = _aten(gradient, x, weight, padding, (False, True, biased))
        return by_weight.float(), by_bias.float() if biased else None
    by_weight = torch.empty(weight.shape)
    by_bias = torch.empty(len(weight)) if biased else None
    core.convolution_weight_gradient(
        _geometry(weight.shape[2:], padding).of_volumes(),
        memory.array(x),
        memory.array(gradient),
        True,
        by_weight.numpy(),
        None if by_bias is None else by_bias.numpy(),
    )
    return by_weight, by_bias


def _pays(x: Tensor, weight: Tensor) -> bool:
    """Whether our kernels are quicker than PyTorch's, as measured on a CPU with AVX-512.

    Channels below a vector's width are not worth their transforms; nor are weights, which are
    transformed anew at every step, worth theirs for few pixels.
    """
    few, many = sorted(weight.shape[:2])
    filters, pixels = weight.shape[:-2].numel(), x.numel() // x.shape[1]
    if few < 16:
        return False
    if x.dtype is torch.float32:
        return filters <= 1000 * pixels
    return filters <= 256 * pixels and (few + many >= 48 or weight.shape[2:] != (3, 3))


def _aten(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: tuple[int, ...],
    wanted: tuple[bool, bool, bool],
) -> Any:
    """PyTorch's gradients of input, weight and bias."""
    one, none = (1,) * len(padding), (0,) * len(padding)
    given = [each.to(_of_products(x)) for each in (gradient, x, weight)]
    return torch.ops.aten.convolution_backward(
        *given, [len(weight)], one, padding, one, False, none, 1, wanted
    )


def _of_products(x: Tensor) -> torch.dtype:
    """In what PyTorch multiplies features."""
    return x.dtype if _narrow_products() else torch.float32


@cache
def _narrow_products() -> bool:
    """Whether oneDNN has bfloat16 on this CPU.

    Else PyTorch's own loops would round the sum of each tap, and take five times as long as in
    float32.
    """
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _plain(x: Tensor) -> Callable[..., Tensor]:
    return nn.functional.conv2d if x.ndim == 4 else nn.functional.conv3d
