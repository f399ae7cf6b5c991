"""The layers made of torch's own functions: for their gradients, and on CUDA tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from medseg_fast.nn.functional.convolution import Geometry


def conv_pool(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    sizes: Geometry,
    activation: str | None,
    slope: float,
    pool: str | None,
    return_indices: bool,
    return_full: bool,
) -> Any:
    """`medseg_fast.nn.functional.conv_pool`, scale and shift folded; float32 without TF32."""
    order = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    last = not x.is_contiguous() and x.is_contiguous(memory_format=order)
    given, before = _padded(x, sizes)
    # As F.conv2d, which asks a setting of the whole process whether TF32 will do.
    axes, lower = (0,) * (x.ndim - 2), False
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    y: Any = torch._convolution(  # type: ignore[attr-defined, unused-ignore]
        given, weight, bias, sizes.stride, before, sizes.dilation, False, axes, 1,
        benchmark, deterministic, torch.backends.cudnn.enabled, lower,
    )  # fmt: skip
    y = _activated(y, activation, slope, in_place=True)
    results = [y]
    if pool is not None:
        pooled = _pooled(y, pool, sizes.pool, return_indices)
        results = [*(pooled if return_indices else [pooled]), *([y] if return_full else [])]
    results = [
        r.contiguous(memory_format=order if last else torch.contiguous_format) for r in results
    ]
    return tuple(results) if len(results) > 1 else results[0]


def _padded(x: torch.Tensor, sizes: Geometry) -> tuple[torch.Tensor, tuple[int, ...]]:
    """The features, and the zeros on both sides that are not yet there."""
    if sizes.before == sizes.after:
        return x, sizes.before
    ends = [n for pair in zip(sizes.before, sizes.after, strict=True) for n in pair[::-1]]
    return F.pad(x, ends[::-1]), (0,) * (x.ndim - 2)


def _activated(y: torch.Tensor, activation: Any, slope: float, in_place: bool) -> torch.Tensor:
    if activation == "relu":
        return F.relu(y, in_place)
    if activation == "leaky_relu":
        return F.leaky_relu(y, slope, in_place)
    if activation == "elu":
        return F.elu(y, slope, in_place)
    if activation == "sigmoid":
        return torch.sigmoid_(y) if in_place else torch.sigmoid(y)
    return y


def _pooled(y: torch.Tensor, pool: str, window: tuple[int, ...], indices: bool = False) -> Any:
    images = y.ndim == 4
    if pool == "avg":
        return (F.avg_pool2d if images else F.avg_pool3d)(y, window)
    largest: Any = F.max_pool2d if images else F.max_pool3d
    return largest(y, window, return_indices=indices)


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
    x, before = _padded(x, sizes)
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
    y = _activated(y, given.get("activation"), given.get("slope", 0.01), in_place=False)
    if pool is None:
        return [y]
    pooled = _pooled(y, pool, sizes.pool)
    return [pooled, y] if given.get("return_full") else [pooled]


def paste_masks_gradient(given: dict[str, Any], gradient: torch.Tensor) -> torch.Tensor:
    """Gradient of the masks: each image is mixed back as pasting mixed the mask.

    Pasting is a product with a matrix of the rows and one of the columns, zero outside the box.
    """
    masks: torch.Tensor = given["masks"]
    padding: int = given.get("padding", 1)
    rows, columns = masks.shape[-2:]
    boxes = given["boxes"] if given["boxes"].dtype is torch.float64 else given["boxes"].float()
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * ((columns + 2 * padding) / columns)
    centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    first, last = (
        edge.clamp(-(2.0**40), 2.0**40).long() for edge in (centre - half, centre + half)
    )
    wide = gradient[:, 0] if gradient.dtype is torch.float64 else gradient[:, 0].float()

    def matrix(axis: int, n: int, pixels: int) -> torch.Tensor:  # (N, pixels, n)
        length = (last - first + 1)[:, axis, None]
        to = torch.arange(pixels, device=masks.device) - first[:, axis, None]
        at = (to.to(wide.dtype) + 0.5) * ((n + 2 * padding) / length.to(wide.dtype)) - 0.5
        at = at.clamp(0, n + 2 * padding - 1) - padding
        away = (at[..., None] - torch.arange(n, device=masks.device)).abs()
        inside = (to >= 0) & (to < length)
        weights: torch.Tensor = torch.relu(1 - away) * inside[..., None]
        return weights

    down, across = matrix(1, rows, wide.shape[1]), matrix(0, columns, wide.shape[2])
    return (down.mT @ wide @ across).reshape(masks.shape).to(masks.dtype)


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
