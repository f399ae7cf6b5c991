"""Losses that are means over voxels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_fast.nn._arrays import votes
from medseg_fast.nn.losses._labelled import Labelled, Loss, at_hand


class CrossEntropyLoss(Loss):
    """Cross entropy of labels or of probabilities.

    ``-sum w_c t_c log p_c`` over labelled voxels and classes, divided by ``sum w_c t_c``: for
    labels it is torch's, also with weights. Of probabilities torch divides by the voxels instead.

    Parameters
    ----------
    weight : sequence of float, optional
        One for each class; two, outside and inside, where the logits have one channel.
    label_smoothing : float, optional
        Share of each voxel's target, in [0, 1), that is spread evenly over all classes; weights
        then apply to the smoothed target, and the divisor stays that of the given one, as in torch.
    ignore_index : int or None, optional
        Label of voxels that count for nothing.

    Examples
    --------
    >>> loss = CrossEntropyLoss()
    >>> float(loss(torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [3, -100]]]))).__round__(4)
    1.3863
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        *,
        label_smoothing: float = 0.0,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, ignore_index)
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"CrossEntropyLoss: label_smoothing must be in [0, 1), got {label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def of(self, given: Labelled) -> Tensor:
        classes = given.logits.shape[1]
        weight = self.weights(max(classes, 2), given.logits)
        if classes > 1 and given.hard and given.logits.numel():
            target = given.target
            if given.valid is not None:
                target = target.masked_fill(~given.valid, -100)
                if at_hand(given.valid) and not given.valid.any():
                    return given.logits.sum() * 0
            loss = F.cross_entropy(
                given.logits, target, weight, label_smoothing=self.label_smoothing, reduction="sum"
            )
            if weight is None:
                return loss / given.known
            each = weight[given.target]
            return loss / _divisor((each if given.valid is None else each * given.valid).sum())
        if classes == 1 and weight is None and given.logits.numel():
            inside = given.shares()
            if self.label_smoothing:
                inside = inside * (1 - self.label_smoothing) + self.label_smoothing / 2
            mask = None if given.valid is None else given.valid[:, None].to(inside.dtype)
            loss = F.binary_cross_entropy_with_logits(
                given.logits, inside, weight=mask, reduction="sum"
            )
            return loss / given.known
        logs, shares = given.two_classes()
        k = logs.shape[1]
        total = shares if weight is None else shares * weight[:, None]
        if self.label_smoothing:
            even = torch.full_like(shares, self.label_smoothing / k)
            if given.valid is not None:
                even = even.masked_fill(~given.valid[:, None], 0)
            shares = shares * (1 - self.label_smoothing) + even
        if weight is not None:
            shares = shares * weight[:, None]
        return -(shares * logs).sum() / _divisor(total.sum())


class FocalLoss(Loss):
    """Focal loss: cross entropy where voxels that are right already count little.

    ``-sum w_c t_c (1 - p_c)^gamma log p_c`` over classes, its mean over labelled voxels.

    Parameters
    ----------
    gamma : float, optional
        At 0 it is cross entropy (with weights, divided by the voxels).
    weight : sequence of float, optional
        One for each class: the paper's alpha is ``(1 - alpha, alpha)`` where the logits have one
        channel.
    ignore_index : int or None, optional
        Label of voxels that count for nothing.

    References
    ----------
    .. [1] T.-Y. Lin et al., "Focal loss for dense object detection", ICCV 2017, 2980-2988. Its sum
       is divided by the number of matched anchors; here all voxels are.
    """

    def __init__(
        self,
        gamma: float = 2.0,
        weight: Sequence[float] | None = None,
        *,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, ignore_index)
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"FocalLoss: gamma must be finite and not negative, got {gamma!r}")
        self.gamma = float(gamma)

    def of(self, given: Labelled) -> Tensor:
        weight = self.weights(max(given.logits.shape[1], 2), given.logits)
        logs, shares = given.two_classes()
        if weight is not None:
            shares = shares * weight[:, None]
        terms = shares * logs
        if self.gamma:
            # Not 1 - exp: it has no digits left where p is near 1. Below 1 a power's slope at 0 is
            # infinite, hence the smallest normal number.
            away = -torch.expm1(logs)
            terms = terms * away.clamp(min=torch.finfo(logs.dtype).tiny) ** self.gamma
        return -terms.sum() / given.known


class StructuredLoss(Loss):
    """Structured prediction for vessels: each voxel predicts the labels of a patch around it.

    A network with ``size ** ndim`` output channels says for each voxel whether each voxel of the
    patch around it (raster order) is inside; the loss is the cross entropy of all these labels,
    taken as independent given the image (multi-label inference). Labels beyond the image count for
    nothing. `votes` merges what all patches say of a voxel, which makes thin vessels smoother and
    less broken than one opinion does. `fit` notes `size` in ``network.metadata["structured"]``, so
    that its validation and `predict` merge votes, too, to a mask.

    Parameters
    ----------
    size : int, optional
        Side of a patch, odd. With 1 it is binary cross entropy.
    weight : sequence of two floats, optional
        Of outside and inside.
    ignore_index : int or None, optional
        Label of voxels that count for nothing.

    Notes
    -----
    The target holds labels 0 and 1, (N, *spatial), or probabilities, (N, 1, *spatial).

    References
    ----------
    .. [1] A. Dasgupta and S. Singh, "A fully convolutional neural network based structured
       prediction approach towards the retinal vessel segmentation", ISBI 2017, 248-251. There a
       network sees a patch of the image and predicts its labels, and the means of overlapping
       patches make the map. Here the network is convolved with the image, so all patches share its
       work.
    """

    def __init__(
        self,
        size: int = 3,
        weight: Sequence[float] | None = None,
        *,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, ignore_index)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ValueError(f"StructuredLoss: size must be odd and positive, got {size!r}")
        self.size = size

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        ndim = self._spatial(logits)
        one = self.read(logits[:, :1], target)
        inside, reach = one.shares().reshape(logits[:, 0].shape), self.size // 2
        known = torch.ones_like(inside)
        if one.valid is not None:
            known = one.valid.reshape(inside.shape).to(inside.dtype)
        pad = (reach, reach) * ndim
        inside, known = F.pad(inside, pad), F.pad(known, pad)
        wanted = torch.stack([inside[cut] for cut in self._cuts(logits)], 1)
        counts = torch.stack([known[cut] for cut in self._cuts(logits)], 1)
        weight = self.weights(2, inside)
        if weight is not None:
            counts = counts * (weight[0] * (1 - wanted) + weight[1] * wanted)
        loss = F.binary_cross_entropy_with_logits(
            logits.to(inside.dtype), wanted, weight=counts, reduction="sum"
        )
        return loss / _divisor(counts.sum())

    def votes(self, logits: Tensor) -> Tensor:
        """Probability (N, 1, *spatial) of being inside: the mean of what all patches say."""
        self._spatial(logits)
        merged: Tensor = votes(logits, self.size)
        return merged

    def _spatial(self, logits: Tensor) -> int:
        ndim = logits.ndim - 2
        if ndim < 1 or logits.shape[1] != self.size**ndim:
            raise ValueError(
                f"StructuredLoss: logits must have one channel for each voxel of a patch of side "
                f"{self.size}, got shape {tuple(logits.shape)}"
            )
        return ndim

    def _cuts(self, logits: Tensor) -> list[tuple[slice, ...]]:
        """Where each voxel of the patches lies in an image padded by half a patch."""
        sizes = logits.shape[2:]
        return [
            (slice(None), *(slice(o, o + n) for o, n in zip(at, sizes, strict=True)))
            for at in itertools.product(range(self.size), repeat=len(sizes))
        ]


def _divisor(total: Tensor) -> Tensor:
    """A sum of weights; 1 where nothing is labelled, so that the loss is 0."""
    return torch.where(total > 0, total, torch.ones_like(total))
