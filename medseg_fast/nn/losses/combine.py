"""Losses made of losses."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class CombinedLoss(nn.Module):
    """A weighted sum of losses.

    Parameters
    ----------
    losses : sequence of modules
    weights : sequence of float, optional
        One for each; 1 by default. May be changed while training.

    Examples
    --------
    >>> from medseg_fast.nn import CrossEntropyLoss, DiceLoss
    >>> loss = CombinedLoss([DiceLoss(), CrossEntropyLoss()], [1.0, 0.5])
    """

    def __init__(self, losses: Sequence[nn.Module], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not losses:
            raise ValueError("CombinedLoss: losses must not be empty")
        self.losses = nn.ModuleList(losses)
        self.weights = _weights("CombinedLoss", weights, [1.0] * len(losses))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        total = [
            w * loss(logits, target) for w, loss in zip(self.weights, self.losses, strict=True)
        ]
        return torch.stack(total).sum()


class DeepSupervisionLoss(nn.Module):
    """A loss of several outputs of a network, the target resized to each by its nearest voxels.

    Parameters
    ----------
    loss : module
    weights : sequence of float, optional
        One for each output, the finest first. Default: each half of the one before, 1 in all.

    Notes
    -----
    A single tensor as output gives the plain loss, so evaluation needs no other module.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.loss = loss
        self.weights = None if weights is None else _weights("DeepSupervisionLoss", weights, None)

    def forward(self, outputs: Tensor | Sequence[Tensor], target: Tensor) -> Tensor:
        if isinstance(outputs, Tensor):
            return self.loss(outputs, target)  # type: ignore[no-any-return]
        weights = self.weights
        if weights is None:
            weights = [2.0**-k for k in range(len(outputs))]
            weights = [w / sum(weights) for w in weights]
        if len(weights) != len(outputs) or not outputs:
            raise ValueError(
                f"DeepSupervisionLoss: outputs must be as many as weights, {len(weights)}, "
                f"got {len(outputs)}"
            )
        total = [
            weight * self.loss(output, resize_nearest(target, tuple(output.shape[2:])))
            for weight, output in zip(weights, outputs, strict=True)
            if weight
        ]
        return torch.stack(total).sum() if total else outputs[0].sum() * 0


def resize_nearest(target: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """`target` with other last axes, each voxel the one whose centre is nearest (the right one)."""
    for axis, new in enumerate(spatial, start=target.ndim - len(spatial)):
        old = target.shape[axis]
        if old != new:
            index = (2 * torch.arange(new, device=target.device) + 1) * old // (2 * new)
            target = target.index_select(axis, index)
    return target


def _weights(op: str, given: Sequence[float] | None, default: list[float] | None) -> list[float]:
    if given is None:
        return default or []
    weights = [float(w) for w in given]
    if not all(math.isfinite(w) for w in weights) or (
        default is not None and len(weights) != len(default)
    ):
        wanted = "finite numbers" if default is None else f"{len(default)} finite numbers"
        raise ValueError(f"{op}: weights must be {wanted}, got {given!r}")
    return weights
