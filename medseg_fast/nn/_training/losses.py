"""The loss that `fit` takes where none is given."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

_SMOOTH = 1.0  # pixels: a class absent from batch and prediction costs nothing


def default_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy plus soft Dice over the classes but the first, both over the whole batch.

    Labels below 0 (the usual -100, -1) are ignored.
    """
    logits = logits.float()
    known = labels >= 0
    entropy = functional.cross_entropy(logits, labels.where(known, -100), ignore_index=-100)
    likely = logits.softmax(1) * known[:, None]
    truth = functional.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1)
    truth = (truth * known[:, None]).to(likely)
    axes = [0, *range(2, logits.ndim)]
    both = (likely * truth).sum(axes)
    dice = (2 * both + _SMOOTH) / (likely.sum(axes) + truth.sum(axes) + _SMOOTH)
    return entropy + 1 - dice[1:].mean() if len(dice) > 1 else entropy + 1 - dice.mean()


def masked_error(found: Tensor, truth: Tensor, hidden: Tensor) -> Tensor:
    """Mean squared error where `hidden`."""
    weight = hidden.to(found).expand_as(found)
    return ((found.float() - truth).square() * weight).sum() / weight.sum().clamp(min=1)
