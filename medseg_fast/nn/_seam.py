"""Operations of networks for which medseg_fast.nn.functional has a kernel, or PyTorch until then.

The one place that decides which of both runs.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
