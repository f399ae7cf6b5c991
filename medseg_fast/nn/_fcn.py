"""FCN-32s, FCN-16s and FCN-8s on VGG16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_fast.nn._blocks import (
    Network,
    choice,
    conv,
    crop,
    fraction,
    network,
    positive,
    width_list,
)
from medseg_fast.nn._vgg import WIDTHS, vgg16_features

# Where the paper's networks, padded by 100 at the first convolution, crop: the skips of pool4 and
# pool3, and the last up-sampling by its stride.
_SKIP_OFFSETS = {"pool4": 5, "pool3": 9}
_LAST_OFFSETS = {32: 19, 16: 27, 8: 31}


def bilinear_(weight: Tensor) -> Tensor:
    """Fill the kernels of a transposed convolution: linear interpolation of each channel alone."""
    size = weight.shape[2]
    factor = (size + 1) // 2
    centre = factor - 1.0 if size % 2 else factor - 0.5
    ramp = 1 - (torch.arange(size, dtype=torch.float64) - centre).abs() / factor
    with torch.no_grad():
        weight.zero_()
        channels = torch.arange(min(weight.shape[:2]))
        weight[channels, channels] = torch.outer(ramp, ramp).to(weight.dtype)
    return weight


class FCN(Network):
    """See `fcn32s`, `fcn16s`, `fcn8s`."""

    def __init__(
        self,
        stride: int,
        in_channels: int,
        classes: int,
        *,
        padding: str,
        norm: str,
        rate: float,
        widths: Sequence[int],
        fc_width: int,
    ) -> None:
        name = f"fcn{stride}s"
        super().__init__(name, 2, in_channels, classes)
        choice(name, "padding", padding, ("paper", "same"))
        choice(name, "norm", norm, ("none", "batch"))
        positive(name, fc_width=fc_width)
        stages = width_list(name, widths, 5, 5)
        paper = padding == "paper"
        self.stride = stride
        self.padding = padding
        self.features = vgg16_features(
            in_channels,
            stages,
            batch_norm=norm == "batch",
            first_padding=100 if paper else 1,
            ceil_mode=True,
        )
        self.fc6 = conv(2, stages[4], fc_width, 7, padding=0 if paper else 3)
        self.fc7 = conv(2, fc_width, fc_width, 1)
        self.drop = nn.Dropout2d(rate)
        self.score = _zeros(nn.Conv2d(fc_width, classes, 1))
        if stride <= 16:
            self.score_pool4 = _zeros(nn.Conv2d(stages[3], classes, 1))
            self.up_pool5 = _bilinear(classes, 2)
        if stride == 8:
            self.score_pool3 = _zeros(nn.Conv2d(stages[2], classes, 1))
            self.up_pool4 = _bilinear(classes, 2)
        self.up = _bilinear(classes, stride)
        self.up.requires_grad_(False)  # the paper fixes the last interpolation

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> logits (N, classes, H, W)."""
        self.check(x)
        pools: list[Tensor] = []
        y = x
        for layer in self.features:
            y = layer(y)
            if isinstance(layer, nn.MaxPool2d):
                pools.append(y)
        y = self.drop(self.fc6(y).relu())
        y = self.drop(self.fc7(y).relu())
        y = self.score(y)
        if self.stride <= 16:
            y = self._joined(self.up_pool5(y), self.score_pool4(pools[3]), "pool4")
        if self.stride == 8:
            y = self._joined(self.up_pool4(y), self.score_pool3(pools[2]), "pool3")
        paper = self.padding == "paper"
        return crop(self.up(y), x, _LAST_OFFSETS[self.stride] if paper else self.stride // 2)

    def _joined(self, y: Tensor, skip: Tensor, name: str) -> Tensor:
        """The scores from below plus those of a pooling, where both are."""
        if self.padding == "paper":
            return y + crop(skip, y, _SKIP_OFFSETS[name])
        return crop(y, skip, 1) + skip


def _zeros(layer: nn.Conv2d) -> nn.Conv2d:
    """The paper's start for scores."""
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _bilinear(classes: int, stride: int) -> nn.ConvTranspose2d:
    layer = nn.ConvTranspose2d(classes, classes, 2 * stride, stride, bias=False)
    bilinear_(layer.weight)
    return layer


@network
def fcn32s(
    in_channels: int = 3,
    classes: int = 21,
    *,
    padding: str = "paper",
    norm: str = "none",
    dropout: float = 0.5,
    widths: Sequence[int] = WIDTHS,
    fc_width: int = 4096,
) -> FCN:
    """FCN-32s: VGG16 made fully convolutional, its scores enlarged 32 times.

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the images, classes of the pixels.
    padding : {"paper", "same"}, optional
        "paper": the first convolution pads by 100 pixels, the scores are cropped at the paper's
        offsets; public weights expect this. "same": each convolution pads by half its kernel, which
        saves half of the work at 512 x 512 pixels.
    norm : {"none", "batch"}, optional
        Batch norm in the convolutions of VGG16 (torchvision's ``vgg16_bn``).
    dropout : float, optional
        Rate after both layers that were fully connected; drops channels.
    widths : sequence of 5 int, optional
        Channels of VGG16's stages.
    fc_width : int, optional
        Channels of the layers that were fully connected.

    Returns
    -------
    model : FCN
        (N, in_channels, H, W) -> logits (N, classes, H, W); any size of at least one pixel.

    Notes
    -----
    136 152 917 parameters for three channels and 21 classes (fcn16s: 134 815 994, fcn8s:
    134 489 759; up-sampling alone has 1 806 336, 458 640 and 127 008 of them). A score of FCN-32s
    sees 404 pixels of the input along each axis. Scores start at 0, up-sampling at bilinear
    interpolation; the last one is fixed (``requires_grad`` is False).

    ``load_weights(model, path)`` takes torchvision's VGG16: its features, and its first two
    classifier layers as ``fc6`` and ``fc7``.

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, pp. 3431-3440.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> small = nn.fcn8s(1, 2, widths=(4, 4, 8, 8, 8), fc_width=16)
    >>> tuple(small(torch.zeros(1, 1, 50, 70)).shape)
    (1, 2, 50, 70)
    """
    return _fcn(32, in_channels, classes, padding, norm, dropout, widths, fc_width)


@network
def fcn16s(
    in_channels: int = 3,
    classes: int = 21,
    *,
    padding: str = "paper",
    norm: str = "none",
    dropout: float = 0.5,
    widths: Sequence[int] = WIDTHS,
    fc_width: int = 4096,
) -> FCN:
    """FCN-16s: as `fcn32s`, joined with scores of the fourth pooling, enlarged 16 times.

    Parameters and result are those of `fcn32s`.
    """
    return _fcn(16, in_channels, classes, padding, norm, dropout, widths, fc_width)


@network
def fcn8s(
    in_channels: int = 3,
    classes: int = 21,
    *,
    padding: str = "paper",
    norm: str = "none",
    dropout: float = 0.5,
    widths: Sequence[int] = WIDTHS,
    fc_width: int = 4096,
) -> FCN:
    """FCN-8s: as `fcn16s`, joined with scores of the third pooling, too, enlarged 8 times.

    Parameters and result are those of `fcn32s`.
    """
    return _fcn(8, in_channels, classes, padding, norm, dropout, widths, fc_width)


def _fcn(
    stride: int,
    in_channels: int,
    classes: int,
    padding: str,
    norm: str,
    dropout: float,
    widths: Sequence[int],
    fc_width: int,
) -> FCN:
    return FCN(
        stride,
        in_channels,
        classes,
        padding=padding,
        norm=norm,
        rate=fraction(f"fcn{stride}s", "dropout", dropout),
        widths=widths,
        fc_width=fc_width,
    )
