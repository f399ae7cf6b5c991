"""What `fit` makes smaller: a loss of logits and labels, or anything of network and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medseg_fast.nn._lenet import LeNet5
from medseg_fast.nn.losses import (
    CombinedLoss,
    CrossEntropyLoss,
    DeepSupervisionLoss,
    DiceLoss,
    StructuredLoss,
)
from medseg_fast.nn.mask_rcnn import MaskRCNN

Loss = Callable[[Any, Tensor], Tensor]
Objective = Callable[[nn.Module, Any, Any], Tensor]

_LEAST = 4  # pixels of an object that is worth finding


def default_loss() -> nn.Module:
    """Cross entropy and Dice: the one knows every pixel, the other how few a class may have."""
    both = CombinedLoss([CrossEntropyLoss(), DiceLoss(background=False, batch=True)])
    return DeepSupervisionLoss(both)


def of_network(network: nn.Module, loss: Loss | None) -> Objective:
    """What a network of its kind is to make smaller."""
    if isinstance(network, MaskRCNN):
        if loss is not None:
            raise ValueError("fit: loss must be None for Mask R-CNN, which has its own")
        return of_objects
    if isinstance(network, LeNet5):
        return of_patches(loss or default_loss())
    return of_logits(loss or default_loss())


def note_patches(network: Any, loss: Loss | None) -> None:
    """Say in the network's metadata whether its results are patches, which `predict` merges."""
    parts = loss.modules() if isinstance(loss, nn.Module) else ()
    side = next((part.size for part in parts if isinstance(part, StructuredLoss)), None)
    known = dict(getattr(network, "metadata", None) or {})
    if side != known.pop("structured", None):
        network.metadata = known if side is None else {**known, "structured": side}


def of_logits(loss: Loss) -> Objective:
    """A loss of logits and labels as an objective."""

    def objective(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        logits = network(images)
        first = logits[0] if isinstance(logits, (tuple, list)) else logits
        return loss(logits, _centre(labels, tuple(first.shape[2:])))

    return objective


def of_patches(loss: Loss) -> Objective:
    """For a network that says what the pixel in the middle of a patch is."""

    def objective(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        row, column = ((n - 1) // 2 for n in labels.shape[1:])  # where `predict` puts the answer
        logits = network(images)[..., None, None]
        return loss(logits, labels[:, row, column][:, None, None])

    return objective


def of_objects(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Mask R-CNN's losses of classes, boxes and masks (He et al. 2017), and of proposals, summed.

    Every label above 0 is an object of class 1.
    """
    losses = network(list(images), [target(label) for label in labels])
    return torch.stack(list(losses.values())).sum()


def target(label: Tensor) -> dict[str, Tensor]:
    """Boxes (N, 4), classes and masks of the objects in (H, W); slivers at the edge are left out.

    A box is x1, y1, x2, y2, of the edges of its pixels.
    """
    numbers, counts = label[label > 0].unique(return_counts=True)
    numbers = numbers[counts >= _LEAST]
    masks = label == numbers[:, None, None]
    sides = []
    for lines in (masks.any(1), masks.any(2)):  # columns, rows that an object has
        first = lines.int().argmax(1)
        last = lines.shape[1] - lines.flip(1).int().argmax(1)
        sides.append((first, last))
    (x1, x2), (y1, y2) = sides
    return {
        "boxes": torch.stack([x1, y1, x2, y2], 1).float(),
        "labels": torch.ones(len(numbers), dtype=torch.int64, device=label.device),
        "masks": masks.to(torch.uint8),
    }


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
