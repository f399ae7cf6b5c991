"""Non-local U-Net: attention over the whole image instead of a deep encoder."""

from __future__ import annotations

from torch import Tensor, nn

from medseg_fast.nn._blocks import (
    Network,
    choice,
    conv,
    crop,
    fraction,
    network,
    normalisation,
    pad_to_multiple,
    positive,
    transposed,
)


class GlobalAggregation(nn.Module):
    """Every output pixel is a weighted mean over all input pixels; weights by attention.

    Parameters
    ----------
    ndim : int
        Spatial axes.
    inputs, outputs : int
        Channels.
    heads : int
        Independent weightings; the channels are shared out among them.
    up : bool
        False: queries from a 1x1 convolution, the output has the input's size. True: from a 3x3
        transposed convolution of stride 2, the output is twice as large.
    rate : float
        Dropout of the weights.

    Notes
    -----
    Time and memory grow with pixels squared (memory not where PyTorch's fused attention runs).
    """

    def __init__(
        self, ndim: int, inputs: int, outputs: int, heads: int, *, up: bool, rate: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.rate = rate
        self.query = _up(ndim, inputs, outputs, True) if up else conv(ndim, inputs, outputs, 1)
        self.key = conv(ndim, inputs, outputs, 1)
        self.value = conv(ndim, inputs, outputs, 1)
        self.out = conv(ndim, outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, ...) -> (N, outputs, ...)."""
        query = self.query(x)
        q, k, v = (self._rows(y) for y in (query, self.key(x), self.value(x)))
        rate = self.rate if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        y: Tensor = self.out(seen.transpose(2, 3).reshape(query.shape))
        return y

    def _rows(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, heads, pixels, C / heads)."""
        count, channels = x.shape[:2]
        return x.reshape(count, self.heads, channels // self.heads, -1).transpose(2, 3)


def _up(ndim: int, inputs: int, outputs: int, bias: bool) -> nn.Module:
    return transposed(ndim, inputs, outputs, 3, padding=1, output_padding=1, bias=bias)


class _Block(nn.Module):
    """Pre-activated residual block: two 3x3 convolutions, the first of stride 1 or 2."""

    def __init__(self, ndim: int, inputs: int, outputs: int, norm: str, stride: int) -> None:
        super().__init__()
        self.before = _activation(norm, ndim, inputs)
        self.conv1 = conv(ndim, inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.between = _activation(norm, ndim, outputs)
        self.conv2 = conv(ndim, outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = None
        if stride > 1:
            self.shortcut = conv(ndim, inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, ...) -> (N, outputs, ...)."""
        y = self.before(x)
        shortcut = x if self.shortcut is None else self.shortcut(y)
        y = self.conv2(self.between(self.conv1(y))) + shortcut
        return y  # type: ignore[no-any-return]


def _activation(norm: str, ndim: int, channels: int) -> nn.Sequential:
    layer = normalisation(norm, ndim, channels)
    return nn.Sequential(*([layer] if layer is not None else []), nn.ReLU6())


class NonlocalUNet(Network):
    """See `nonlocal_unet`."""

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        ndim: int,
        width: int,
        depth: int,
        heads: int,
        norm: str,
        rate: float,
    ) -> None:
        op = "nonlocal_unet"
        super().__init__(op, ndim, in_channels, classes)
        positive(op, width=width, depth=depth, heads=heads)
        choice(op, "norm", norm, ("none", "batch", "instance", "group"))
        if width % heads:
            raise ValueError(f"{op}: width must be a multiple of heads ({heads}), got {width}")
        widths = [width * 2**level for level in range(depth + 1)]
        self.depth = depth
        self.stem = conv(ndim, in_channels, width, 3, padding=1, bias=False)
        self.encoder = nn.ModuleList(
            _Block(ndim, widths[max(i - 1, 0)], widths[i], norm, 2 if i else 1)
            for i in range(depth + 1)
        )
        self.bottom = nn.Sequential(
            _activation(norm, ndim, widths[-1]),
            GlobalAggregation(ndim, widths[-1], widths[-1], heads, up=False, rate=rate),
        )
        self.before = nn.ModuleList(_activation(norm, ndim, widths[i + 1]) for i in range(depth))
        self.up = nn.ModuleList(_up(ndim, widths[i + 1], widths[i], False) for i in range(depth))
        self.gather = nn.ModuleList(
            GlobalAggregation(ndim, widths[i + 1], widths[i], heads, up=True, rate=rate)
            for i in range(depth)
        )
        self.decoder = nn.ModuleList(
            _Block(ndim, widths[i], widths[i], norm, 1) for i in range(depth)
        )
        self.head = nn.Sequential(
            _activation(norm, ndim, width),
            conv(ndim, width, width, 1, bias=False),
            nn.Dropout(rate),
            conv(ndim, width, classes, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, [D,] H, W) -> logits (N, classes, [D,] H, W)."""
        self.check(x)
        y = self.stem(pad_to_multiple(x, 2**self.depth))
        skips = []
        for block in self.encoder:
            y = block(y)
            skips.append(y)
        y = y + self.bottom(y)
        for level in reversed(range(self.depth)):
            y = self.before[level](y)
            y = self.up[level](y) + self.gather[level](y) + skips[level]
            y = self.decoder[level](y)
        return crop(self.head(y), x, 0)


@network
def nonlocal_unet(
    in_channels: int = 2,
    classes: int = 4,
    *,
    ndim: int = 3,
    width: int = 32,
    depth: int = 2,
    heads: int = 2,
    norm: str = "batch",
    dropout: float = 0.5,
) -> NonlocalUNet:
    """Non-local U-Net: two halvings, then attention gathers from the whole image.

    Parameters
    ----------
    in_channels, classes : int, optional
        Channels of the images, classes of the pixels.
    ndim : {2, 3}, optional
        Spatial axes.
    width : int, optional
        Channels at full size, a multiple of `heads`; each level below has twice as many.
    depth : int, optional
        Levels below the first.
    heads : int, optional
        Independent attentions in each global aggregation block.
    norm : {"none", "batch", "instance", "group"}, optional
        Normalisation before each activation (ReLU6).
    dropout : float, optional
        Rate in attention and before the last convolution.

    Returns
    -------
    model : NonlocalUNet
        (N, in_channels, [D,] H, W) -> logits (N, classes, [D,] H, W) of the input's size, which may
        be any of at least one pixel (padded inside to a multiple of 4). Every output pixel sees
        the whole input.

    Notes
    -----
    1 821 124 parameters by default, as in the paper. The encoder has residual blocks of 3x3x3
    convolutions, the bottom a size-preserving global aggregation block, the decoder up-sampling
    ones beside a transposed convolution and residual blocks; skips are added, not concatenated.
    Attention compares all pairs of pixels: time grows with the square of the volume, so work in
    windows (the paper: 32 x 32 x 32).

    References
    ----------
    .. [1] Z. Wang, N. Zou, D. Shen and S. Ji, "Non-local U-Nets for biomedical image segmentation",
       AAAI 2020, pp. 6315-6322.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.nonlocal_unet(1, 2, ndim=2, width=4).eval()
    >>> tuple(model(torch.zeros(1, 1, 21, 16)).shape)
    (1, 2, 21, 16)
    """
    return NonlocalUNet(
        in_channels,
        classes,
        ndim=ndim,
        width=width,
        depth=depth,
        heads=heads,
        norm=norm,
        rate=fraction("nonlocal_unet", "dropout", dropout),
    )
