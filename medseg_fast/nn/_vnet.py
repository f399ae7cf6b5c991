"""V-Net: residual stages of 5x5x5 convolutions, down and up by strided ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_fast.nn._blocks import (
    NORMS,
    Network,
    choice,
    conv,
    crop,
    dropout,
    fraction,
    network,
    normalisation,
    pad_to_multiple,
    transposed,
    width_list,
)

_CONVOLUTIONS = (1, 2, 3, 3, 3)  # per stage, from the full size down


class _Stage(nn.Module):
    """5x5x5 convolutions, to whose result the stage's input is added before the last PReLU."""

    def __init__(self, ndim: int, inputs: int, outputs: int, count: int, norm: str) -> None:
        super().__init__()
        self.outputs = outputs
        self.convs = nn.ModuleList()
        self.acts = nn.ModuleList()
        for i in range(count):
            channels = outputs if i else inputs
            layer = conv(ndim, channels, outputs, 5, padding=2)
            after = normalisation(norm, ndim, outputs)
            self.convs.append(layer if after is None else nn.Sequential(layer, after))
            self.acts.append(nn.PReLU(outputs))

    def forward(self, x: Tensor, shortcut: Tensor) -> Tensor:
        """`shortcut` has the stage's outputs' channels, or one or fewer that are repeated."""
        y = x
        last = len(self.convs) - 1
        for i, (layer, act) in enumerate(zip(self.convs, self.acts, strict=True)):
            y = layer(y)
            y = act(y + shortcut if i == last else y)
        return y


class VNet(Network):
    """See `vnet`."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        ndim: int,
        widths: Sequence[int],
        norm: str,
        rate: float,
    ) -> None:
        op = "vnet"
        super().__init__(op, ndim, in_channels, classes)
        choice(op, "norm", norm, NORMS)
        w = width_list(op, widths, 2, 5)
        depth = self.depth = len(w) - 1
        # The first stage adds its input, its channels repeated, the last time perhaps not all.
        self.repeats, self.rest = divmod(w[0], in_channels)

        def step(layer: nn.Module, outputs: int) -> nn.Sequential:
            after = normalisation(norm, ndim, outputs)
            rest = [] if after is None else [after]
            return nn.Sequential(layer, *rest, nn.PReLU(outputs))

        self.encoder = nn.ModuleList(
            _Stage(ndim, w[i] if i else in_channels, w[i], _CONVOLUTIONS[i], norm)
            for i in range(depth + 1)
        )
        self.down = nn.ModuleList(
            step(conv(ndim, w[i], w[i + 1], 2, stride=2), w[i + 1]) for i in range(depth)
        )
        # A stage of the decoder has as many channels as the one below; half of its input is the
        # skip, half comes from below.
        halves = [w[i + 1] - w[i] for i in range(depth)]
        below = [w[i + 2] if i < depth - 1 else w[-1] for i in range(depth)]
        self.up = nn.ModuleList(
            step(transposed(ndim, below[i], halves[i]), halves[i]) for i in range(depth)
        )
        self.decoder = nn.ModuleList(
            _Stage(ndim, w[i + 1], w[i + 1], _CONVOLUTIONS[i], norm) for i in range(depth)
        )
        self.dropout = dropout(rate, ndim)
        self.head = conv(ndim, w[1], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, [D,] H, W) -> logits (N, classes, [D,] H, W)."""
        self.check(x)
        y = pad_to_multiple(x, 2**self.depth)
        part = [y[:, : self.rest]] if self.rest else []
        shortcut = torch.cat([y] * self.repeats + part, 1)
        skips = []
        for level, stage in enumerate(self.encoder):
            if level:
                shortcut = y = self.down[level - 1](y)
            y = stage(y, shortcut)
            skips.append(y)
        for level in reversed(range(self.depth)):
            y = torch.cat([self.dropout(skips[level]), self.up[level](self.dropout(y))], 1)
            y = self.decoder[level](y, y)
        return crop(self.head(y), x, 0)


@network
def vnet(
    in_channels: int = 1,
    classes: int = 2,
    *,
    ndim: int = 3,
    widths: Sequence[int] = (16, 32, 64, 128, 256),
    norm: str = "none",
    dropout: float = 0.0,
) -> VNet:
    """V-Net: for volumes; residual stages, strided convolutions instead of pooling, PReLU.

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the volumes, classes of the voxels.
    ndim : {2, 3}, optional
        Spatial axes.
    widths : sequence of 2 to 5 int, optional
        Channels of the encoder's stages, growing. The first stage adds its input to its result, the
        channels repeated in turn until there are as many.
    norm : {"none", "batch", "instance", "group"}, optional
        Normalisation after each convolution. The paper has none.
    dropout : float, optional
        Rate of the skips and of what is up-sampled; drops channels.

    Returns
    -------
    model : VNet
        (N, in_channels, [D,] H, W) -> logits (N, classes, [D,] H, W) of the input's size, which may
        be any of at least one voxel (padded inside to a multiple of 16).

    Notes
    -----
    65 175 314 parameters by default. An output voxel sees 551 voxels of the input along each axis
    (table 1 of the paper, whose numbers of convolutions per stage
    these are; MONAI's has fewer in the lowest).

    References
    ----------
    .. [1] F. Milletari, N. Navab and S.-A. Ahmadi, "V-Net: fully convolutional neural networks for
       volumetric medical image segmentation", 3DV 2016, pp. 565-571.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.vnet(1, 2, widths=(2, 4, 8))
    >>> tuple(model(torch.zeros(1, 1, 9, 12, 16)).shape)
    (1, 2, 9, 12, 16)
    """
    return VNet(
        in_channels,
        classes,
        ndim=ndim,
        widths=widths,
        norm=norm,
        rate=fraction("vnet", "dropout", dropout),
    )
