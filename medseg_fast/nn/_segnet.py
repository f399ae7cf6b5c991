"""SegNet: the decoder puts values back where the encoder's poolings found their maxima."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_fast.nn import _seam
from medseg_fast.nn._blocks import Network, choice, conv, dropout, fraction, network, width_list
from medseg_fast.nn._vgg import DEPTHS, WIDTHS, vgg16_features


class SegNet(Network):
    """See `segnet`."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        widths: Sequence[int],
        batch_norm: bool,
        rate: float,
    ) -> None:
        super().__init__("segnet", 2, in_channels, classes)
        stages = width_list("segnet", widths, 5, 5)
        self.features = vgg16_features(in_channels, stages, batch_norm=batch_norm)
        self.dropout = dropout(rate, 2)
        blocks = []
        for stage in reversed(range(5)):
            layers: list[nn.Module] = []
            for i in range(DEPTHS[stage]):
                last = i == DEPTHS[stage] - 1
                head = last and stage == 0
                below = stages[stage - 1] if stage else classes
                outputs = below if last else stages[stage]
                layers.append(conv(2, stages[stage], outputs, 3, padding=1))
                if not head:
                    layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
                    layers.append(nn.ReLU())
            blocks.append(nn.Sequential(*layers))
        self.decoder = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes, H, W)."""
        self.check(x)
        _check_size(x)
        places: list[tuple[Tensor, Tensor]] = []
        y = x
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):
                before = y
                y, indices = _seam.max_pool_with_indices(y)
                places.append((indices, before))
                if len(places) >= 3:
                    y = self.dropout(y)
            else:
                y = layer(y)
        for block, (indices, before) in zip(self.decoder, reversed(places), strict=True):
            y = block(_seam.max_unpool(y, indices, before))
        return y


@torch.fx.wrap
def _check_size(x: Tensor) -> None:
    if min(x.shape[2:]) < 32:
        raise ValueError(
            f"segnet: input must be at least 32 pixels along each axis, for five poolings, got "
            f"{tuple(x.shape)}"
        )


@network
def segnet(
    in_channels: int = 3,
    classes: int = 11,
    *,
    widths: Sequence[int] = WIDTHS,
    norm: str = "batch",
    dropout: float = 0.0,
) -> SegNet:
    """SegNet: VGG16's convolutions and their mirror image, joined by pooling indices.

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the images, classes of the pixels.
    widths : sequence of 5 int, optional
        Channels of each stage.
    norm : {"batch", "none"}, optional
        Batch norm before each ReLU.
    dropout : float, optional
        Rate after the last three poolings (0.5 makes the Bayesian SegNet's encoder); drops
        channels.

    Returns
    -------
    model : SegNet
        (N, in_channels, H, W) -> logits (N, classes, H, W), 2D only. Any size of at least 32
        pixels: a pooling leaves an odd last row or column out, un-pooling fills it with zeros.

    Notes
    -----
    29 449 355 parameters for three channels and eleven classes, two thirds of them in the middle.
    ``load_weights(model, path)`` takes the features of torchvision's VGG16 (with batch norm:
    ``vgg16_bn``).

    References
    ----------
    .. [1] V. Badrinarayanan, A. Kendall and R. Cipolla, "SegNet: a deep convolutional
       encoder-decoder architecture for image segmentation", IEEE TPAMI 39 (2017), pp. 2481-2495.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.segnet(1, 2, widths=(4, 4, 8, 8, 8)).eval()
    >>> tuple(model(torch.zeros(1, 1, 45, 64)).shape)
    (1, 2, 45, 64)
    """
    choice("segnet", "norm", norm, ("batch", "none"))
    rate = fraction("segnet", "dropout", dropout)
    return SegNet(in_channels, classes, widths=widths, batch_norm=norm == "batch", rate=rate)
