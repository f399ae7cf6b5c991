"""The layers made of torch's own functions, for their gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F


def _conv_pool(given: dict[str, Any], tensors: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """The differentiable results of `conv_pool`: pooled, and the full map if it is wanted."""
    from medseg_fast.nn.functional.convolution import geometry

    x, weight = tensors["x"], tensors["weight"].to(tensors["x"].dtype)
    pool, axes = given.get("pool"), x.ndim - 2
    sizes = geometry(
        tuple(weight.shape[2:]),
        given.get("stride", 1),
        given.get("padding", 0),
        given.get("dilation", 1),
        pool,
        given.get("pool_size", 2),
    )
    if sizes.before != sizes.after:
        ends = [n for pair in zip(sizes.before, sizes.after, strict=True) for n in pair[::-1]]
        x, before = F.pad(x, ends[::-1]), (0,) * axes
    else:
        before = sizes.before
    convolve = F.conv2d if axes == 2 else F.conv3d
    y = convolve(x, weight, None, sizes.stride, before, sizes.dilation)

    def per_channel(name: str) -> torch.Tensor:
        return tensors[name].to(y.dtype).reshape(-1, *(1,) * axes)

    if "bias" in tensors:
        y = y + per_channel("bias")
    if "scale" in tensors:
        y = y * per_channel("scale")
    if "shift" in tensors:
        y = y + per_channel("shift")
    activation, slope = given.get("activation"), given.get("slope", 0.01)
    if activation == "relu":
        y = F.relu(y)
    elif activation == "leaky_relu":
        y = F.leaky_relu(y, slope)
    elif activation == "elu":
        y = F.elu(y, slope)
    elif activation == "sigmoid":
        y = torch.sigmoid(y)
    if pool is None:
        return [y]
    if pool == "max":
        pooled = (F.max_pool2d if axes == 2 else F.max_pool3d)(y, sizes.pool)
    else:
        pooled = (F.avg_pool2d if axes == 2 else F.avg_pool3d)(y, sizes.pool)
    return [pooled, y] if given.get("return_full") else [pooled]


def conv_pool_gradient(given: dict[str, Any], gradients: tuple[Any, ...]) -> dict[str, Any]:
    """Gradients of the tensors among the arguments of `conv_pool`."""
    names = [
        name
        for name in ("x", "weight", "bias", "scale", "shift")
        if isinstance(given.get(name), torch.Tensor)
    ]

    def forward(*tensors: torch.Tensor) -> list[torch.Tensor]:
        return _conv_pool(given, dict(zip(names, tensors, strict=True)))

    traced: Any = torch.func.vjp(forward, *(given[name] for name in names))
    results, pull = traced
    wanted = [g for g in gradients if g is None or g.is_floating_point()]
    wanted = wanted if len(wanted) == len(results) else [gradients[0], *gradients[-1:]]
    full = [torch.zeros_like(r) if g is None else g for g, r in zip(wanted, results, strict=False)]
    return dict(zip(names, pull(full), strict=True))
