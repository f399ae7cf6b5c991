"""Batch and instance norms, and the rectifiers after them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from medseg_fast._cpu import core
from medseg_fast.nn._training.layers import _memory as memory

_BY_IMAGE = (nn.InstanceNorm2d, nn.InstanceNorm3d)
_KINDS = (nn.BatchNorm2d, nn.BatchNorm3d, *_BY_IMAGE)


def takes(layer: Any) -> bool:
    """Whether a layer is a norm that our kernels have."""
    return type(layer) in _KINDS


def slope_of(layer: Any) -> float | None:
    """What a rectifier multiplies values below 0 by; None for another layer."""
    if type(layer) is nn.ReLU:
        return 0.0
    return float(layer.negative_slope) if type(layer) is nn.LeakyReLU else None


def forward_of(layer: Any, rectifier: Any = None) -> Callable[[Tensor], Any]:
    """What runs instead of the layer's own and, if it is given, of the one after it."""
    slope = slope_of(rectifier)
    by_image = type(layer) in _BY_IMAGE
    normalise: Any = _Normalise.apply

    def unchanged(x: Tensor) -> Any:
        y = type(layer).forward(layer, x)
        return y if rectifier is None else rectifier(y)

    def forward(x: Tensor) -> Any:
        fits = memory.is_ours(x) and x.shape[1] == layer.num_features
        values = x.numel() // (x.shape[1] * (len(x) if by_image else 1)) if fits else 0
        learns = layer.training if not by_image else not layer.track_running_stats
        affine = layer.weight is not None and layer.bias is not None
        if not (learns and affine and values > 1 and memory.are_floats(layer.weight, layer.bias)):
            return unchanged(x)
        options = (by_image, layer.eps, 1.0 if slope is None else slope)
        y, mean, inverse = normalise(memory.last(x), layer.weight, layer.bias, *options)
        if layer.running_mean is not None:
            _remember(layer, mean[0], inverse[0], values)
        return y

    return forward


@torch.no_grad()
def _remember(layer: Any, mean: Tensor, inverse: Tensor, values: int) -> None:
    """The running statistics that a batch norm keeps for evaluation."""
    layer.num_batches_tracked.add_(1)
    part = layer.momentum
    if part is None:
        part = 1.0 / float(layer.num_batches_tracked)
    variance = (inverse**-2 - layer.eps).clamp_(min=0) * (values / (values - 1))
    layer.running_mean.lerp_(mean, part)
    layer.running_var.lerp_(variance, part)


class _Normalise(torch.autograd.Function):
    """Norm of features channels-last in memory, and what a rectifier makes of it."""

    @staticmethod
    def forward(  # type: ignore[override, unused-ignore]
        ctx: Any,
        x: Tensor,
        scale: Tensor,
        shift: Tensor,
        by_image: bool,
        epsilon: float,
        slope: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        y = torch.empty_like(x)
        mean = torch.empty(len(x) if by_image else 1, x.shape[1])
        inverse = torch.empty_like(mean)
        affine = [scale.detach().numpy(), shift.detach().numpy()]
        core.norm_activation(
            _pixels(x), *affine, by_image, epsilon, slope, _pixels(y), mean.numpy(), inverse.numpy()
        )
        ctx.save_for_backward(x, scale, shift, mean, inverse)
        ctx.options = (by_image, slope)
        ctx.mark_non_differentiable(mean, inverse)
        return y, mean, inverse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> Any:  # type: ignore[override, unused-ignore]
        x, *constants = ctx.saved_tensors
        found = torch.empty_like(x), torch.empty(x.shape[1]), torch.empty(x.shape[1])
        core.norm_activation_gradient(
            _pixels(x),
            _pixels(memory.last(gradient)),
            *(t.detach().numpy() for t in constants),
            *ctx.options,
            _pixels(found[0]),
            found[1].numpy(),
            found[2].numpy(),
        )
        return *found, None, None, None


def _pixels(x: Tensor) -> NDArray[Any]:
    """(N, pixels, channels)."""
    array = memory.array(x)
    return array.reshape(len(array), -1, array.shape[-1])
