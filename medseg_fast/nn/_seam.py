"""Operations of networks for which medseg_fast.nn.functional has a kernel, or PyTorch until then.

The one place that decides which of both runs.
"""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_fast.nn import functional
from medseg_fast.nn._blocks import crop


def crop_concat(skip: Tensor, x: Tensor) -> Tensor:
    """The centre of `skip` as large as `x`, then the channels of `x`."""
    return torch.cat([crop(skip, x), x], 1)


def max_pool_with_indices(x: Tensor) -> tuple[Tensor, Tensor]:
    """2 x 2 max pooling, and where in its plane each maximum was (the first of equals)."""
    pooled, indices = torch.nn.functional.max_pool2d(x, 2, return_indices=True)
    return pooled, indices


def max_unpool(x: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """Values to where their maxima were in a map of `like`'s size, 0 elsewhere."""
    return torch.nn.functional.max_unpool2d(x, indices, [2, 2], output_size=like.shape[2:])


def enlarge(logits: Tensor, size: tuple[int, ...]) -> Tensor:
    """(classes, planes, rows[, columns]) to other rows and columns, linearly."""
    planes = (logits.shape[1], *size)
    mode = "trilinear" if len(size) == 2 else "bilinear"
    return torch.nn.functional.interpolate(logits[None], planes, mode=mode, align_corners=False)[0]


def label_planes(logits: Tensor, size: tuple[int, ...]) -> NDArray[Any]:
    """The class of the largest logit after `enlarge`; of one class, where it exceeds 0."""
    threshold = 0.0 if logits.shape[0] == 1 else None
    kernel = getattr(functional, "resample_argmax", None)
    if kernel is None:
        found = enlarge(logits, size)
        labels = found[0] > 0 if threshold is not None else found.argmax(0)
        return labels.cpu().numpy()
    array = logits.cpu().numpy()
    if len(size) == 1:  # rows of a 2D image: one plane
        planes = kernel(array, (array.shape[1], *size), threshold=threshold)
    else:
        planes = kernel(array.swapaxes(0, 1), size, threshold=threshold)
    result: NDArray[Any] = planes
    return result
