"""Logits and targets as all losses see them: checked, flat, with a mask of what is labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Labelled(NamedTuple):
    """A batch of V voxels an image; what is not labelled holds label or probabilities 0."""

    logits: Tensor  # (N, C, V), float32 or float64
    target: Tensor  # (N, V) int64 labels, or (N, C, V) probabilities
    valid: Tensor | None  # (N, V) bool: what is labelled; None: all

    @property
    def hard(self) -> bool:
        return not self.target.is_floating_point()

    @property
    def known(self) -> Tensor | int:
        """Labelled voxels, at least 1."""
        if self.valid is None:
            return max(len(self.logits) * self.logits.shape[-1], 1)
        return self.valid.sum().clamp(min=1)

    def probabilities(self) -> Tensor:
        """(N, C, V), 0 where nothing is labelled."""
        one = self.logits.shape[1] == 1
        p = self.logits.sigmoid() if one else self.logits.softmax(1)
        return p if self.valid is None else p.masked_fill(~self.valid[:, None], 0)

    def shares(self) -> Tensor:
        """The target as probabilities (N, C, V), 0 where nothing is labelled."""
        if not self.hard:
            return self.target
        if self.logits.shape[1] == 1:
            return self.target[:, None].to(self.logits.dtype)
        shares = torch.zeros_like(self.logits).scatter_(1, self.target[:, None], 1)
        return shares if self.valid is None else shares.masked_fill(~self.valid[:, None], 0)

    def labels(self) -> Tensor:
        """The target as labels (N, V): the likeliest class."""
        if self.hard:
            return self.target
        one = self.logits.shape[1] == 1
        return (self.target[:, 0] > 0.5).long() if one else self.target.argmax(1)

    def two_classes(self) -> tuple[Tensor, Tensor]:
        """Logarithms of all classes' probabilities, and their shares in the target.

        (N, K, V) both; of C == 1 the two classes are outside and inside.
        """
        if self.logits.shape[1] > 1:
            return self.logits.log_softmax(1), self.shares()
        inside = self.shares()
        outside = 1 - inside
        if self.valid is not None:
            outside = outside.masked_fill(~self.valid[:, None], 0)
        logs = torch.cat([F.logsigmoid(-self.logits), F.logsigmoid(self.logits)], 1)
        return logs, torch.cat([outside, inside], 1)


class Loss(nn.Module):
    """What all losses share: the check of their arguments, weights of classes.

    Parameters
    ----------
    weight : sequence of float, optional
        One for each class (two for C == 1: outside, inside), not negative.
    ignore_index : int or None, optional
        Label of voxels of which nothing is known. None: there is no such label.
    """

    weight: Tensor | None

    def __init__(
        self, weight: Sequence[float] | None = None, ignore_index: int | None = -100
    ) -> None:
        super().__init__()
        self.ignore_index = ignore_index
        numbers = None if weight is None else [float(w) for w in weight]
        if numbers is not None and not (
            all(0 <= w < math.inf for w in numbers) and sum(numbers) > 0
        ):
            raise ValueError(f"{self._name}: weight must be finite and not negative, got {weight}")
        self.register_buffer(
            "weight", None if numbers is None else torch.tensor(numbers), persistent=False
        )

    @property
    def _name(self) -> str:
        return type(self).__name__

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.of(self.read(logits, target))

    def of(self, given: Labelled) -> Tensor:
        """The loss of a checked batch."""
        raise NotImplementedError

    def weights(self, classes: int, like: Tensor) -> Tensor | None:
        """Weights of `classes` classes."""
        if self.weight is None:
            return None
        if len(self.weight) != classes:
            raise ValueError(
                f"{self._name}: weight must have one number for each of {classes} classes, "
                f"got {len(self.weight)}"
            )
        return self.weight.to(like)

    def read(self, logits: Tensor, target: Tensor) -> Labelled:
        """Checks a batch and makes it flat."""
        if not (isinstance(logits, Tensor) and isinstance(target, Tensor)):
            raise TypeError(
                f"{self._name}: logits and target must be tensors, "
                f"got {type(logits).__name__} and {type(target).__name__}"
            )
        if logits.ndim < 2 or not logits.is_floating_point() or logits.shape[1] == 0:
            raise ValueError(
                f"{self._name}: logits must be floats of shape (N, C, *spatial), "
                f"got {logits.dtype} of shape {tuple(logits.shape)}"
            )
        n, classes = logits.shape[:2]
        spatial = tuple(logits.shape[2:])
        shape = tuple(target.shape)
        soft = target.is_floating_point()
        fits = shape == tuple(logits.shape) if soft else shape in ((n, *spatial), (n, 1, *spatial))
        if not fits or target.is_complex():
            raise ValueError(
                f"{self._name}: target must be integers of shape {(n, *spatial)} or floats of "
                f"shape {tuple(logits.shape)}, got {target.dtype} of shape {shape}"
            )
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        voxels = math.prod(spatial)
        logits = logits.reshape(n, classes, voxels)
        if soft:
            return self._soft(logits, target.reshape(n, classes, voxels).to(logits.dtype))
        return self._hard(logits, target.reshape(n, voxels).long())

    def _soft(self, logits: Tensor, target: Tensor) -> Labelled:
        unknown = target.isnan().any(1)
        if at_hand(unknown) and not unknown.any():
            return Labelled(logits, target, None)
        return Labelled(logits, target.masked_fill(unknown[:, None], 0), ~unknown)

    def _hard(self, logits: Tensor, target: Tensor) -> Labelled:
        valid = None
        if self.ignore_index is not None:
            valid = target != self.ignore_index
            if at_hand(valid) and valid.all():
                valid = None
        if valid is not None:
            target = target.masked_fill(~valid, 0)
        if at_hand(target) and target.numel():
            low, high = (int(t) for t in target.aminmax())
            if low < 0 or high >= max(logits.shape[1], 2):
                raise ValueError(
                    f"{self._name}: target must be labels below {max(logits.shape[1], 2)}"
                    f"{'' if self.ignore_index is None else f' or {self.ignore_index}'}, "
                    f"got {low if low < 0 else high}"
                )
        return Labelled(logits, target, valid)


def at_hand(tensor: Tensor) -> bool:
    """Whether values may be looked at: a GPU would be waited for, torch.compile has none."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()
