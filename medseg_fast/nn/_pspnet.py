"""PSPNet: what the whole image and its parts hold, beside every pixel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_fast.nn import _seam
from medseg_fast.nn._blocks import Network, choice, conv, fraction, network, positive
from medseg_fast.nn._resnet import LAYERS, ResNet


class PyramidPooling(nn.Module):
    """Means over 1, 2 x 2, 3 x 3 and 6 x 6 parts of the map, mixed, enlarged, and put beside it.

    Parameters
    ----------
    channels : int
        Channels of the map; each of the means is mixed down to ``channels // len(bins)``.
    bins : sequence of int
        Parts along an axis.
    align_corners : bool
        How the means are enlarged, as in torch.
    """

    def __init__(self, channels: int, bins: Sequence[int], align_corners: bool) -> None:
        super().__init__()
        self.bins = tuple(bins)
        self.align_corners = align_corners
        width = channels // len(self.bins)
        self.outputs = channels + width * len(self.bins)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.AdaptiveAvgPool2d(size),
                conv(2, channels, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )
            for size in self.bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, about 2 C, H, W)."""
        if not self.training and not torch.is_grad_enabled():
            fused = _seam.pyramid_pool(x, list(self.branches), self.bins, self.align_corners)
            if fused is not None:
                return fused
        means = [
            nn.functional.interpolate(
                branch(x), x.shape[2:], mode="bilinear", align_corners=self.align_corners
            )
            for branch in self.branches
        ]
        return torch.cat([x, *means], 1)


class PSPNet(Network):
    """See `pspnet`."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        backbone: str,
        bins: Sequence[int],
        rate: float,
        auxiliary: bool,
        align_corners: bool,
        width: int,
    ) -> None:
        super().__init__("pspnet", 2, in_channels, classes)
        choice("pspnet", "backbone", backbone, tuple(LAYERS))
        positive("pspnet", width=width, **{f"bins[{i}]": size for i, size in enumerate(bins)})
        self.align_corners = align_corners
        self.backbone = ResNet(backbone, in_channels, output_stride=8, width=width)
        stage3, stage4 = self.backbone.channels[2:]
        self.pyramid = PyramidPooling(stage4, bins, align_corners)
        self.head = _head(self.pyramid.outputs, max(1, stage4 // 4), classes, rate)
        self.auxiliary = _head(stage3, max(1, stage3 // 4), classes, rate) if auxiliary else None

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(N, in_channels, H, W) -> logits (N, classes, H, W); in training mode, and the auxiliary.

        The auxiliary head looks at the third stage; the paper adds 0.4 times its loss.
        """
        self.check(x)
        stages = self.backbone(x)
        y = self._enlarged(self.head(self.pyramid(stages[3])), x)
        if self.training and self.auxiliary is not None:
            return y, self._enlarged(self.auxiliary(stages[2]), x)
        return y

    def _enlarged(self, y: Tensor, x: Tensor) -> Tensor:
        return nn.functional.interpolate(
            y, x.shape[2:], mode="bilinear", align_corners=self.align_corners
        )


def _head(inputs: int, width: int, classes: int, rate: float) -> nn.Sequential:
    return nn.Sequential(
        conv(2, inputs, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Dropout2d(rate),
        conv(2, width, classes, 1),
    )


@network
def pspnet(
    in_channels: int = 3,
    classes: int = 21,
    *,
    backbone: str = "resnet50",
    bins: Sequence[int] = (1, 2, 3, 6),
    dropout: float = 0.1,
    auxiliary: bool = True,
    align_corners: bool = True,
    width: int = 64,
) -> PSPNet:
    """PSPNet: a dilated ResNet and a pyramid of means over ever smaller parts of the image.

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the images, classes of the pixels.
    backbone : {"resnet50", "resnet101", "resnet34", "resnet18"}, optional
        Depth of the ResNet.
    bins : sequence of int, optional
        Parts along each axis at each step of the pyramid.
    dropout : float, optional
        Rate before the last convolution; drops channels.
    auxiliary : bool, optional
        A second head on the third stage, used in training only.
    align_corners : bool, optional
        How maps are enlarged, as in torch; the authors' code has True.
    width : int, optional
        Channels of the ResNet's first stage; torchvision's weights need 64.

    Returns
    -------
    model : PSPNet
        (N, in_channels, H, W) -> logits (N, classes, H, W), 2D only, any size of at least one
        pixel. In training mode with `auxiliary`: the tuple (logits, auxiliary logits).

    Notes
    -----
    48 957 802 parameters by default, of which 2 365 205 in the auxiliary head (ResNet34:
    22 879 402, ResNet101: 67 949 930). Every output pixel sees the whole input. The ResNet begins
    with torchvision's 7x7 convolution, so that its weights load (``load_weights(model, path)``);
    the authors' begins with three of 3x3. Training needs batches of at least two: the mean over
    one part has one value per image for its batch norm.

    References
    ----------
    .. [1] H. Zhao, J. Shi, X. Qi, X. Wang and J. Jia, "Pyramid scene parsing network", CVPR 2017,
       pp. 2881-2890.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.pspnet(1, 2, backbone="resnet18", width=8).eval()
    >>> tuple(model(torch.zeros(1, 1, 50, 64)).shape)
    (1, 2, 50, 64)
    """
    return PSPNet(
        in_channels,
        classes,
        backbone=backbone,
        bins=bins,
        rate=fraction("pspnet", "dropout", dropout),
        auxiliary=auxiliary,
        align_corners=align_corners,
        width=width,
    )
