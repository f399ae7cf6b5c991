"""U-Net in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg_fast.nn import _seam
from medseg_fast.nn._blocks import (
    NORMS,
    ConvBlock,
    Network,
    choice,
    conv,
    crop,
    dropout,
    fraction,
    max_pool,
    network,
    pad_to_multiple,
    positive,
    transposed,
    width_list,
)

# Where channels double: see `unet`.
DESIGNS = ("2015", "2016", "monai")

_WIDTHS: dict[int | str, tuple[int, ...]] = {
    2: (64, 128, 256, 512, 1024),
    3: (64, 128, 256, 512),
    "monai": (32, 32, 64, 128, 256, 32),
}


class UNet(Network):
    """See `unet`.

    Attributes
    ----------
    depth : int
        Levels below the first: the input is halved so often.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        ndim: int,
        encoder: Sequence[tuple[int, int]],
        ups: Sequence[int],
        decoder: Sequence[tuple[int, int]],
        padding: str,
        up: str,
        norm: str,
        rate: float,
        slope: float,
        bias: bool,
        up_bias: bool,
        align_corners: bool,
        modalities: int,
    ) -> None:
        super().__init__("unet", ndim, in_channels, classes)
        pad = 1 if padding == "same" else 0
        self.padding = padding
        self.depth = len(encoder) - 1
        self.align_corners = align_corners

        def block(*channels: int) -> ConvBlock:
            return ConvBlock(ndim, channels, padding=pad, norm=norm, slope=slope, bias=bias)

        def contracting() -> nn.ModuleList:
            blocks, inputs = [], in_channels // modalities
            for middle, outputs in encoder:
                blocks.append(block(inputs, middle, outputs))
                inputs = outputs
            return nn.ModuleList(blocks)

        self.encoder = contracting()
        self.further_encoders = nn.ModuleList(contracting() for _ in range(modalities - 1))
        self.pool = max_pool(ndim)
        # The paper drops out at the end of the contracting path.
        self.dropout = dropout(rate, ndim)
        steps, blocks, inputs = [], [], encoder[-1][1]
        for level in reversed(range(self.depth)):
            raised = ups[level]
            if up == "transposed":
                steps.append(transposed(ndim, inputs, raised, bias=up_bias))
            middle, outputs = decoder[level]
            blocks.append(block(encoder[level][1] + raised, middle, outputs))
            inputs = outputs
        self.up = nn.ModuleList(reversed(steps))
        self.decoder = nn.ModuleList(reversed(blocks))
        self.head = conv(ndim, inputs, classes, 1)
        self.margin = 0 if pad else _lost(self.depth) // 2

    def sizes(self, size: int) -> tuple[int, int]:
        """Smallest input of at least `size` pixels along an axis, and the size of its output."""
        if self.padding == "same":
            return size, size
        fitting = _fitting(size, self.depth)
        return fitting, fitting - _lost(self.depth)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, [D,] H, W) -> logits (N, classes, ...); see `unet` for sizes."""
        self.check(x)
        y = pad_to_multiple(x, 1 << self.depth) if self.padding == "same" else x
        *skips, y = self._contracted(y)
        for level in reversed(range(self.depth)):
            y = self.up[level](y) if len(self.up) else self._enlarged(y)
            y = self.decoder[level](_seam.crop_concat(skips[level], y))
        y = self.head(y)
        return crop(y, x, 0) if self.padding == "same" else y

    def _contracted(self, x: Tensor) -> list[Tensor]:
        """The maps of every level; means over the modalities, each of which has its encoder."""
        encoders = [self.encoder, *self.further_encoders]
        parts = x.chunk(len(encoders), 1) if len(encoders) > 1 else [x]
        found = []
        for encoder, y in zip(encoders, parts, strict=True):
            maps = []
            for level, block in enumerate(encoder):
                y = block(self.pool(y) if level else y)
                # The paper drops the deepest skip and the bottom.
                y = self.dropout(y) if level >= self.depth - 1 else y
                maps.append(y)
            found.append(maps)
        if len(found) == 1:
            return found[0]
        return [sum(maps[1:], maps[0]) / len(found) for maps in zip(*found, strict=True)]

    def _enlarged(self, y: Tensor) -> Tensor:
        mode = "trilinear" if self.ndim == 3 else "bilinear"
        return nn.functional.interpolate(
            y, scale_factor=2, mode=mode, align_corners=self.align_corners
        )

    def check(self, x: Tensor) -> None:
        """Raise for a tensor that this network does not take."""
        super().check(x)
        if self.padding == "valid":
            _check_valid(x, self.depth)


@torch.fx.wrap
def _check_valid(x: Tensor, depth: int) -> None:
    step, smallest = 1 << depth, _smallest(depth)
    for size in x.shape[2:]:
        if size < smallest or (size - smallest) % step:
            fitting = _fitting(size, depth)
            words = f"{fitting - step} or {fitting}" if fitting > smallest else f"{fitting}"
            raise ValueError(
                f"unet: without padding each size must be {smallest} plus a multiple of {step} "
                f"(near {size}: {words}), got {tuple(x.shape)}; predict() cuts any image into "
                "tiles that fit"
            )


def _fitting(size: int, depth: int) -> int:
    """The smallest input of at least `size` that is even before every pooling."""
    step, smallest = 1 << depth, _smallest(depth)
    return max(smallest, smallest - (smallest - size) // step * step)


def _lost(depth: int) -> int:
    """Pixels by which the output is smaller: 4 per block, at its level's scale."""
    return 4 * ((1 << (depth + 1)) - 1) + 4 * ((1 << depth) - 1)


def _smallest(depth: int) -> int:
    """Smallest input whose bottom level is one pixel, and even before every pooling.

    The decoder loses pixels, too: the bottom must be large enough to leave some.
    """
    bottom = 1
    while True:
        size = bottom  # of the bottom's output
        for _ in range(depth):
            size = 2 * size - 4
            if size < 1:
                break
        if size >= 1:
            break
        bottom += 1
    size = bottom + 4
    for _ in range(depth):
        size = 2 * size + 4
    return size


@network
def unet(
    in_channels: int = 1,
    classes: int = 2,
    *,
    ndim: int = 2,
    widths: Sequence[int] | None = None,
    padding: str = "valid",
    up: str = "transposed",
    norm: str | None = None,
    dropout: float = 0.0,
    design: str | None = None,
    align_corners: bool = False,
    bias: bool = True,
    modalities: int = 1,
) -> UNet:
    """U-Net: an encoder and a decoder joined at every scale (Ronneberger 2015; 3D: Cicek 2016).

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the images, classes of the pixels.
    ndim : {2, 3}, optional
        Spatial axes.
    widths : sequence of int, optional
        Channels of each level, from the full size down; at least two. Default: 64, 128, 256, 512,
        1024 in 2D, 64, 128, 256, 512 in 3D.
    padding : {"valid", "same"}, optional
        "valid": convolutions see the image alone, the output is smaller by a margin, and skips are
        cropped, as in the papers; `predict` joins overlapping tiles. "same": zeros around each map;
        the output has the input's size.
    up : {"transposed", "bilinear"}, optional
        Up-sampling by a 2 x 2 (x 2) transposed convolution; or by linear interpolation, where the
        convolutions around it halve the channels instead (as milesial/Pytorch-UNet does).
    norm : {"none", "batch", "instance", "group"}, optional
        Normalisation before each ReLU. Default: none in 2D, batch in 3D, as in the papers.
    dropout : float, optional
        Rate at the end of the encoder (the two lowest levels); drops channels.
    design : {"2015", "2016", "monai"}, optional
        Where channels double. "2015": at the first convolution of a level, halved again by the
        up-sampling. "2016": at the second of an encoder's level, up-sampling keeps them. "monai":
        BasicUNet of MONAI: as "2015", with instance norm and ReLUs of slope 0.1 below 0; `widths`
        has one more entry, for the decoder at full size. Default: by `ndim`.
    align_corners : bool, optional
        How "bilinear" interpolates, as in torch.
    bias : bool, optional
        Whether convolutions of size 3 add a bias.
    modalities : int, optional
        Fuse in the middle: the channels are so many groups of equal size, and each goes through an
        encoder of its own; the decoder gets the mean of their maps at every level (Havaei 2016).
        1: all channels meet in the first convolution.

    Returns
    -------
    model : UNet
        (N, in_channels, [D,] H, W) -> logits (N, classes, [D,] H, W). With "same" any size of at
        least one pixel; sizes that do not halve evenly are padded inside. With "valid" each size
        is ``188 + 16 k`` in 2D and ``92 + 8 k`` in 3D for the default depth, and the output is
        smaller by 184 and 88 (``model.sizes(n)`` says which size fits n; ``model.margin``).

    Notes
    -----
    31 030 658 parameters in 2D for one channel and two classes; in 3D, for three channels and three
    classes, the paper's 19 069 955 and 4 672 of the batch norms, which it does not count. Sizes of
    the papers: 572 x 572 -> 388 x 388, and 132 x 132 x 116 -> 44 x 44 x 28.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer and T. Brox, "U-Net: convolutional networks for biomedical
       image segmentation", MICCAI 2015, LNCS 9351, pp. 234-241.
    .. [2] O. Cicek, A. Abdulkadir, S. S. Lienkamp, T. Brox and O. Ronneberger, "3D U-Net: learning
       dense volumetric segmentation from sparse annotation", MICCAI 2016, LNCS 9901, pp. 424-432.
    .. [3] M. Havaei, N. Guizard, N. Chapados and Y. Bengio, "HeMIS: hetero-modal image
       segmentation", MICCAI 2016, LNCS 9901, pp. 469-477.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.unet(1, 3, widths=(8, 16, 32), padding="same", norm="batch").eval()
    >>> tuple(model(torch.zeros(1, 1, 50, 37)).shape)
    (1, 3, 50, 37)
    """
    op = "unet"
    choice(op, "ndim", ndim, (2, 3))
    design = design or ("2015" if ndim == 2 else "2016")
    choice(op, "design", design, DESIGNS)
    norm = norm or {"2015": "none", "2016": "batch", "monai": "instance"}[design]
    choice(op, "norm", norm, NORMS)
    choice(op, "padding", padding, ("valid", "same"))
    choice(op, "up", up, ("transposed", "bilinear"))
    positive(op, in_channels=in_channels, modalities=modalities)
    if in_channels % modalities:
        raise ValueError(
            f"{op}: in_channels must be a multiple of modalities = {modalities}, got {in_channels}"
        )
    default = _WIDTHS["monai" if design == "monai" else ndim]
    w = width_list(op, default if widths is None else widths, 3 if design == "monai" else 2)
    top = w.pop() if design == "monai" else w[0]
    depth = len(w) - 1
    if design == "2016":
        encoder = [(max(1, c // 2), c) for c in w]
        ups, decoder = w[1:], [(c, c) for c in w[:-1]]
    else:
        encoder = [(c, c) for c in w]
        ups, decoder = list(w[:-1]), [(c, c) for c in w[:-1]]
    if design == "monai":
        # Up-sampling halves the channels but at the top, where it keeps them.
        ups = [w[1], *(w[i + 1] // 2 for i in range(1, depth))]
        decoder[0] = (top, top)
    if up == "bilinear":
        if design != "2016":
            encoder[-1] = (w[-2], w[-2])
            decoder = [(w[i], w[max(i - 1, 0)]) for i in range(depth)]
        ups = [encoder[-1][1] if i == depth - 1 else decoder[i + 1][1] for i in range(depth)]
    return UNet(
        in_channels,
        classes,
        ndim=ndim,
        encoder=encoder,
        ups=ups,
        decoder=decoder,
        padding=padding,
        up=up,
        norm=norm,
        rate=fraction(op, "dropout", dropout),
        slope=0.1 if design == "monai" else 0.0,
        bias=bias,
        up_bias=design != "2016",
        align_corners=align_corners,
        modalities=modalities,
    )
