"""Losses that compare whole regions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg_fast.nn.losses._labelled import Labelled, Loss


class _RegionLoss(Loss):
    """1 minus a score of each class and image, which sums over voxels tell; their mean."""

    def __init__(
        self,
        weight: Sequence[float] | None,
        background: bool,
        batch: bool,
        smooth: float,
        ignore_index: int | None,
    ) -> None:
        super().__init__(weight, ignore_index)
        if not 0 <= smooth < float("inf"):
            raise ValueError(f"{self._name}: smooth must be finite and not negative, got {smooth}")
        self.background, self.batch, self.smooth = background, batch, float(smooth)

    def of(self, given: Labelled) -> Tensor:
        p, t = given.probabilities(), given.shares()
        classes = p.shape[1]
        weight = self.weights(classes, p)
        if not self.background and classes > 1:
            p, t = p[:, 1:], t[:, 1:]
            weight = None if weight is None else weight[1:]
        over = (0, 2) if self.batch else (2,)
        losses = 1 - self.score(p, t, over)  # (N, C) or (C,)
        if given.valid is not None:  # an image without labels says nothing
            known = given.valid.any() if self.batch else given.valid.any(1)[:, None]
            losses = losses * known
            share = known.to(losses.dtype).expand_as(losses)
        else:
            share = torch.ones_like(losses)
        if weight is not None:
            losses, share = losses * weight, share * weight
        total = share.sum()
        return losses.sum() / torch.where(total > 0, total, torch.ones_like(total))

    def score(self, p: Tensor, t: Tensor, over: tuple[int, ...]) -> Tensor:
        raise NotImplementedError


class DiceLoss(_RegionLoss):
    """Soft Dice loss: ``1 - (2 sum p t + s) / (sum p + sum t + s)``, its mean over classes, images.

    Parameters
    ----------
    weight : sequence of float, optional
        One for each class (channel of the logits).
    background : bool, optional
        Whether class 0 of several counts.
    batch : bool, optional
        Sum over the whole batch instead of each image: steadier where a class is often absent.
    squared : bool, optional
        ``sum p^2 + sum t^2`` below the line, as in V-Net.
    smooth : float, optional
        The `s` above: an absent class that is not predicted either costs nothing.
    ignore_index : int or None, optional
        Label of voxels that count for nothing.

    References
    ----------
    .. [1] F. Milletari, N. Navab and S.-A. Ahmadi, "V-Net", 3DV 2016, 565-571.

    Examples
    --------
    >>> target = torch.tensor([[[0, 1], [1, 1]]])
    >>> float(DiceLoss()(torch.zeros(1, 1, 2, 2), target)).__round__(3)  # 1 - 2 * 1.5 / (2 + 3)
    0.4
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        *,
        background: bool = True,
        batch: bool = False,
        squared: bool = False,
        smooth: float = 1e-5,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, background, batch, smooth, ignore_index)
        self.squared = squared

    def score(self, p: Tensor, t: Tensor, over: tuple[int, ...]) -> Tensor:
        both = (p * t).sum(over)
        each = (p * p).sum(over) + (t * t).sum(over) if self.squared else p.sum(over) + t.sum(over)
        return _ratio(2 * both + self.smooth, each + self.smooth)


class JaccardLoss(_RegionLoss):
    """Jaccard distance: ``1 - (sum p t + s) / (sum p^2 + sum t^2 - sum p t + s)``.

    Parameters
    ----------
    weight, background, batch, ignore_index
        As in `DiceLoss`.
    smooth : float, optional
        The `s` above; the paper has none.

    References
    ----------
    .. [1] Y. Yuan, M. Chao and Y.-C. Lo, "Automatic skin lesion segmentation using deep fully
       convolutional networks with Jaccard distance", IEEE Transactions on Medical Imaging 36 (2017)
       1876-1886.
    """

    def __init__(
        self,
        weight: Sequence[float] | None = None,
        *,
        background: bool = True,
        batch: bool = False,
        smooth: float = 1e-5,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, background, batch, smooth, ignore_index)

    def score(self, p: Tensor, t: Tensor, over: tuple[int, ...]) -> Tensor:
        both = (p * t).sum(over)
        either = (p * p).sum(over) + (t * t).sum(over) - both
        return _ratio(both + self.smooth, either + self.smooth)


class TverskyLoss(_RegionLoss):
    """Tversky loss: ``1 - (TP + s) / (TP + alpha FP + beta FN + s)``.

    Parameters
    ----------
    alpha, beta : float, optional
        What a false positive and a false negative cost; both 0.5 give `DiceLoss` (with half of its
        `smooth`).
    weight, background, batch, smooth, ignore_index
        As in `DiceLoss`.

    References
    ----------
    .. [1] S. Salehi, D. Erdogmus and A. Gholipour, "Tversky loss function for image segmentation
       using 3D fully convolutional deep networks", MLMI 2017, 379-387.
    """

    def __init__(
        self,
        alpha: float = 0.3,
        beta: float = 0.7,
        weight: Sequence[float] | None = None,
        *,
        background: bool = True,
        batch: bool = False,
        smooth: float = 1e-5,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(weight, background, batch, smooth, ignore_index)
        if not (0 <= alpha < float("inf") and 0 <= beta < float("inf") and alpha + beta > 0):
            raise ValueError(
                "TverskyLoss: alpha and beta must be finite, not negative and not both 0, "
                f"got {alpha!r} and {beta!r}"
            )
        self.alpha, self.beta = float(alpha), float(beta)

    def score(self, p: Tensor, t: Tensor, over: tuple[int, ...]) -> Tensor:
        both = (p * t).sum(over)
        wrong = self.alpha * (p.sum(over) - both) + self.beta * (t.sum(over) - both)
        return _ratio(both + self.smooth, both + wrong + self.smooth)


class LovaszLoss(Loss):
    """Lovasz loss: the convex surrogate of the Jaccard index. Softmax, or hinge for C == 1.

    Parameters
    ----------
    classes : {"present", "all"}, optional
        Of several classes: those that the target holds, or all of them.
    per_image : bool, optional
        The mean of the images' losses instead of the batch's.
    ignore_index : int or None, optional
        Label of voxels that count for nothing.

    Notes
    -----
    Probabilities as a target are rounded to the likeliest class. O(n log n) for each class.

    References
    ----------
    .. [1] M. Berman, A. Rannen Triki and M. Blaschko, "The Lovasz-softmax loss: a tractable
       surrogate for the optimization of the intersection-over-union measure in neural networks",
       CVPR 2018, 4413-4421.
    """

    def __init__(
        self,
        *,
        classes: str = "present",
        per_image: bool = False,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(None, ignore_index)
        if classes not in ("present", "all"):
            raise ValueError(f"LovaszLoss: classes must be 'present' or 'all', got {classes!r}")
        self.classes, self.per_image = classes, per_image

    def of(self, given: Labelled) -> Tensor:
        labels, scores = given.labels(), given.logits
        one = scores.shape[1] == 1
        scores = scores if one else scores.softmax(1)
        groups = []
        if self.per_image:
            for k in range(len(scores)):
                known = slice(None) if given.valid is None else given.valid[k]
                groups.append((scores[k][:, known], labels[k][known]))
        else:
            flat, of = scores.movedim(1, 0).flatten(1), labels.flatten()
            known = slice(None) if given.valid is None else given.valid.flatten()
            groups.append((flat[:, known], of[known]))
        losses = [
            self._hinge(s[0], t) if one else self._softmax(s, t) for s, t in groups if t.numel()
        ]
        return torch.stack(losses).mean() if losses else given.logits.sum() * 0

    def _softmax(self, p: Tensor, labels: Tensor) -> Tensor:
        """(C, M) probabilities, (M,) labels."""
        losses = []
        for c, own in enumerate(p):
            inside = labels == c
            if self.classes == "present" and not inside.any():
                continue
            losses.append(_lovasz((inside.to(own.dtype) - own).abs(), inside))
        return torch.stack(losses).mean()

    def _hinge(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(M,) logits and labels."""
        inside = labels == 1
        return _lovasz(1 - logits * (2.0 * inside - 1), inside)


def _lovasz(errors: Tensor, inside: Tensor) -> Tensor:
    """The Lovasz extension of the Jaccard loss at `errors` (M,)."""
    ordered, order = errors.sort(descending=True, stable=True)
    member = inside[order].to(torch.float64)  # sums of 2^24 and more voxels
    total = member.sum()
    intersection = total - member.cumsum(0)
    union = total + (1 - member).cumsum(0)
    jaccard = 1 - intersection / union
    slope = torch.cat([jaccard[:1], jaccard.diff()]).to(errors.dtype)
    return F.relu(ordered) @ slope


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 1 for 0 / 0: neither predicted nor there."""
    empty = b == 0
    return torch.where(empty, torch.ones_like(a), a / torch.where(empty, torch.ones_like(b), b))
