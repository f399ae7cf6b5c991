"""What `fit` makes smaller: a loss of logits and labels, or anything of network and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from medseg_fast.nn.losses import CombinedLoss, CrossEntropyLoss, DeepSupervisionLoss, DiceLoss

Loss = Callable[[Any, Tensor], Tensor]
Objective = Callable[[nn.Module, Any, Any], Tensor]


def default_loss() -> nn.Module:
    """Cross entropy and Dice: the one knows every pixel, the other how few a class may have."""
    both = CombinedLoss([CrossEntropyLoss(), DiceLoss(background=False, batch=True)])
    return DeepSupervisionLoss(both)


def of_logits(loss: Loss) -> Objective:
    """A loss of logits and labels as an objective."""

    def objective(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = network(images)
        first = logits[0] if isinstance(logits, (tuple, list)) else logits
        return loss(logits, _centre(labels, tuple(first.shape[2:])))

    return objective


def _centre(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    """The part of the labels for which there are logits: convolutions may have no padding."""
    for axis, length in enumerate(size, 1):
        lost = labels.shape[axis] - length
        if lost < 0 or lost % 2:
            raise ValueError(
                f"fit: labels of {tuple(labels.shape[1:])} do not fit logits of {size}"
            )
        labels = labels.narrow(axis, lost // 2, length)
    return labels
