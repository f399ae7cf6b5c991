"""Several networks that decide together: late fusion of modalities, and ensembles of folds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medseg_fast.nn._blocks import positive

_OP = "Ensemble"


class Ensemble(nn.Module):
    """The mean of the probabilities of several networks.

    Parameters
    ----------
    networks : sequence of nn.Module
        From (N, C, ...) to logits (N, classes, ...) of the same size, all of as many axes and
        classes. Networks of `medseg_fast.nn`, or others with the attributes `in_channels`,
        `classes` and `ndim`.
    channels : sequence of sequence of int, optional
        Which channels of an image each network sees, in its order: late fusion, where each
        modality has a network of its own. Default: all see all channels, as the networks of a
        cross-validation do.

    Attributes
    ----------
    ndim, in_channels, classes : int
        As those of its networks; `predict` takes an ensemble like any of them.

    Notes
    -----
    The result is the logarithm of the mean, so that a softmax (of one class: a sigmoid of the
    log-odds) gives the mean itself. Networks of one modality may be trained on cases that lack the
    others. For early fusion give a network all channels; for fusion between encoder and decoder
    see the parameter `modalities` of `unet`.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> t1, flair = (nn.unet(1, 2, widths=(4, 8), padding="same") for _ in range(2))
    >>> both = nn.Ensemble([t1, flair], channels=[[0], [1]]).eval()
    >>> tuple(both(torch.zeros(1, 2, 20, 30)).shape)
    (1, 2, 20, 30)
    """

    def __init__(
        self, networks: Sequence[nn.Module], channels: Sequence[Sequence[int]] | None = None
    ) -> None:
        super().__init__()
        given = list(networks)
        if not given:
            raise ValueError(f"{_OP}: networks must not be empty")
        self.networks = nn.ModuleList(given)
        facts: list[tuple[int, int]] = []
        for network in given:
            try:
                facts.append((int(network.ndim), int(network.classes)))  # type: ignore[arg-type]
                positive(_OP, in_channels=network.in_channels)
            except AttributeError:
                raise TypeError(
                    f"{_OP}: networks must have in_channels, classes and ndim, "
                    f"{type(network).__name__} has not"
                ) from None
        if len(set(facts)) > 1:
            raise ValueError(
                f"{_OP}: networks must have the same axes and classes, got (ndim, classes) {facts}"
            )
        if any(getattr(network, "metadata", {}).get("structured") for network in given):
            raise ValueError(f"{_OP}: networks must label voxels, not patches (StructuredLoss)")
        self.ndim, self.classes = facts[0]
        counts: list[Any] = [network.in_channels for network in given]
        seen = [list(some) for some in channels] if channels is not None else None
        if seen is None:
            seen = [list(range(max(counts)))] * len(given)
        if [len(some) for some in seen] != counts or min(map(min, seen)) < 0:
            raise ValueError(
                f"{_OP}: channels must name {counts} channels for the networks, got {channels!r}"
            )
        self.channels = seen
        self.in_channels = 1 + max(map(max, seen))
        self.metadata: dict[str, Any] = {}

    def sizes(self, size: int) -> tuple[int, int]:
        """Smallest input of at least `size` pixels along an axis, and the size of its output."""
        found = {network.sizes(size) for network in self.networks}  # type: ignore[operator]
        if len(found) > 1:
            raise ValueError(f"{_OP}: networks must take and give the same sizes, got {found}")
        (both,) = found
        return int(both[0]), int(both[1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, ...) -> logits (N, classes, ...)."""
        total: Tensor | None = None
        for network, channels in zip(self.networks, self.channels, strict=True):
            logits = network(x[:, channels])
            likely = logits.sigmoid() if self.classes == 1 else logits.softmax(1)
            total = likely if total is None else total + likely
        assert total is not None
        mean = total / len(self.networks)
        tiny = torch.finfo(mean.dtype).tiny
        return mean.logit(tiny) if self.classes == 1 else mean.clamp_min(tiny).log()
