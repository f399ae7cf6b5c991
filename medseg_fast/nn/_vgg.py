"""The convolutions of VGG16, under torchvision's keys, for FCN and SegNet.

K. Simonyan and A. Zisserman, "Very deep convolutional networks for large-scale image recognition",
ICLR 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medseg_fast.nn._blocks import conv

DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions before each of the five poolings."""
WIDTHS = (64, 128, 256, 512, 512)
"""Their channels."""


def vgg16_features(
    in_channels: int,
    widths: Sequence[int] = WIDTHS,
    *,
    batch_norm: bool = False,
    first_padding: int = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> nn.Sequential:
    """Thirteen 3x3 convolutions and five poolings, at torchvision's places.

    Parameters
    ----------
    in_channels : int
        Channels of the input.
    widths : sequence of 5 int
        Channels of each stage.
    batch_norm : bool
        As in ``vgg16_bn``.
    first_padding : int
        Padding of the first convolution; FCN pads by 100.
    ceil_mode : bool
        Odd sizes are rounded up by the poolings, as in Caffe.
    return_indices : bool
        The poolings return where their maxima were, too.
    """
    layers: list[nn.Module] = []
    inputs = in_channels
    for depth, outputs in zip(DEPTHS, widths, strict=True):
        for _ in range(depth):
            padding = 1 if layers else first_padding
            layers.append(conv(2, inputs, outputs, 3, padding=padding))
            if batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU())
            inputs = outputs
        layers.append(nn.MaxPool2d(2, ceil_mode=ceil_mode, return_indices=return_indices))
    return nn.Sequential(*layers)
