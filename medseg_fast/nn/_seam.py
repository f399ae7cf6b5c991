"""Operations of networks for which `medseg_fast.nn.functional` has a kernel.

The one place that decides whether the kernel or PyTorch runs: the kernels take float32 and float64
on a CPU. torch.fx keeps each as one call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from medseg_fast.nn import functional
from medseg_fast.nn._blocks import crop

_torch_only: ContextVar[bool] = ContextVar("torch_only", default=False)


@contextmanager
def torch_only() -> Iterator[None]:
    """No kernels within this block: for what looks at PyTorch's own calls."""
    token = _torch_only.set(True)
    try:
        yield
    finally:
        _torch_only.reset(token)


def _kernel(name: str, x: Tensor) -> Any:
    """The kernel, or None where PyTorch must do."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return None
    # torch.compile cannot follow the variable, and is never called within such a block.
    if not torch.compiler.is_dynamo_compiling() and _torch_only.get():
        return None
    return getattr(functional, name)


class _Joined(torch.autograd.Function):
    """Maps joined channel by channel, whose gradients are contiguous, in the memory order given.

    Slices, as `torch.cat` has them, are slow to add to others and to multiply.
    """

    @staticmethod
    def forward(ctx: Any, *maps: Tensor) -> Tensor:  # type: ignore[override, unused-ignore]
        ctx.channels = [x.shape[1] for x in maps]
        return torch.cat(maps, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override, unused-ignore]
        order = torch.channels_last if gradient.ndim == 4 else torch.channels_last_3d
        if not gradient.is_contiguous(memory_format=order):
            order = torch.contiguous_format
        return tuple(g.contiguous(memory_format=order) for g in gradient.split(ctx.channels, 1))


@torch.fx.wrap
def _crop_concat(skip: Tensor, x: Tensor) -> Tensor:
    kernel = _kernel("crop_concat", x)
    if kernel is not None and x.is_contiguous():  # it would turn channels-last maps about
        joined: Tensor = kernel(skip, x)
        return joined
    if torch.compiler.is_compiling():
        return torch.cat([crop(skip, x), x], 1)
    join: Any = _Joined.apply
    joined = join(crop(skip, x), x)
    return joined


@torch.fx.wrap
def _max_pool_with_indices(x: Tensor) -> tuple[Tensor, Tensor]:
    kernel = _kernel("max_pool_with_indices", x)
    if kernel is None:
        pooled, indices = nn.functional.max_pool2d(x, 2, return_indices=True)
    else:
        pooled, indices = kernel(x, 2)
    return pooled, indices


@torch.fx.wrap
def _max_unpool(x: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    kernel = _kernel("max_unpool", x)
    size = tuple(like.shape[2:])
    if kernel is None:
        return nn.functional.max_unpool2d(x, indices, [2, 2], output_size=size)
    placed: Tensor = kernel(x, indices, 2, output_size=size)
    return placed


def crop_concat(skip: Tensor, x: Tensor) -> Tensor:
    """The centre of `skip` as large as `x`, then the channels of `x`."""
    return _crop_concat(skip, x)


def max_pool_with_indices(x: Tensor) -> tuple[Tensor, Tensor]:
    """2 x 2 max pooling, and where in its plane each maximum was (the first of equals)."""
    pair = _max_pool_with_indices(x)
    return pair[0], pair[1]


def max_unpool(x: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """Values to where their maxima were in a map of `like`'s size, 0 elsewhere."""
    return _max_unpool(x, indices, like)


def pyramid_pool(
    x: Tensor, branches: Sequence[nn.Module], bins: Sequence[int], align_corners: bool
) -> Tensor | None:
    """The map and its pyramid of means in one pass, norms folded into the mixing convolutions.

    `branches` are (mean, convolution, batch norm, ReLU) each. None where there is no kernel.
    """
    kernel = _kernel("pyramid_pool", x)
    if kernel is None:
        return None
    weights, biases = [], []
    for branch in branches:
        _, mix, norm, _ = branch.children()
        assert isinstance(mix, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weights.append(mix.weight.flatten(1) * scale[:, None])
        biases.append(norm.bias - norm.running_mean * scale)
    found: Tensor = kernel(
        x, tuple(bins), weights, biases, activation="relu", align_corners=align_corners
    )
    return found
