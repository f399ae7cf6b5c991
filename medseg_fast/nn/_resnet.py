"""ResNet as the trunk of PSPNet and Mask R-CNN: four stages out, torchvision's keys.

K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016,
pp. 770-778. As in torchvision, the stride of a bottleneck lies in its 3x3 convolution (the paper
has it in the first 1x1), and the first block of a dilated stage keeps the dilation of the stage
before. There is no classifier: the keys ``fc.*`` of a classification checkpoint have no place here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

NormLayer = Callable[[int], nn.Module]

LAYERS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
}
"""Residual blocks per stage."""

_HALVINGS = {32: 3, 16: 2, 8: 1}  # how many of the stages 2 to 4 halve the size


class FrozenBatchNorm2d(nn.Module):
    """Batch norm whose statistics and affine parameters are constants, under torchvision's keys.

    Parameters
    ----------
    num_features : int
        Channels.
    eps : float, optional
        Added to the variance. torchvision's COCO checkpoints were made with 0.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (
            ("weight", 1.0),
            ("bias", 0.0),
            ("running_mean", 0.0),
            ("running_var", 1.0),
        ):
            self.register_buffer(name, torch.full((num_features,), value))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        # A trained batch norm counts its batches; a frozen one has no use for it.
        state_dict.pop(prefix + "num_batches_tracked", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        shape = (1, -1, 1, 1)
        return x * scale.reshape(shape) + shift.reshape(shape)

    def extra_repr(self) -> str:
        """Channels and eps, as a batch norm prints them."""
        return f"{self.weight.shape[0]}, eps={self.eps}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (ResNet18 and 34)."""

    expansion = 1

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, width, 3, stride, dilation)
        self.bn1 = norm_layer(width)
        self.conv2 = _conv(width, width, 3, 1, dilation)
        self.bn2 = norm_layer(width)
        self.downsample = _shortcut(inputs, width, stride, norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)) + shortcut
        return y.relu()


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut (ResNet50 and 101)."""

    expansion = 4

    def __init__(
        self, inputs: int, width: int, stride: int, dilation: int, norm_layer: NormLayer
    ) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = _conv(inputs, width, 1, 1, 1)
        self.bn1 = norm_layer(width)
        self.conv2 = _conv(width, width, 3, stride, dilation)
        self.bn2 = norm_layer(width)
        self.conv3 = _conv(width, outputs, 1, 1, 1)
        self.bn3 = norm_layer(outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm_layer)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y: Tensor = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        y = self.bn3(self.conv3(y)) + shortcut
        return y.relu()


class ResNet(nn.Module):
    """The trunk of a ResNet: its four stages, without the classifier.

    Parameters
    ----------
    name : {"resnet18", "resnet34", "resnet50", "resnet101"}
        Depth.
    in_channels : int, optional
        Channels of the input.
    output_stride : {32, 16, 8}, optional
        Size of the input by that of the last stage. Below 32 the last one or two stages keep their
        size and dilate their convolutions instead, so that a pixel sees as much as before.
    norm_layer : callable, optional
        ``norm_layer(channels)`` makes a normalisation; `FrozenBatchNorm2d` for detection.
    width : int, optional
        Channels of the first stage before expansion; torchvision's weights need 64.

    Attributes
    ----------
    channels : tuple of int
        Channels of the four stages.
    strides : tuple of int
        Size of the input by that of each stage.

    Notes
    -----
    Parameters without the classifier: 11 176 512, 21 284 672, 23 508 032 and 42 500 160 for three
    channels. Sizes are rounded up at each halving; any input of at least one pixel passes.
    """

    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        name: str = "resnet50",
        in_channels: int = 3,
        *,
        output_stride: int = 32,
        norm_layer: NormLayer = nn.BatchNorm2d,
        width: int = 64,
    ) -> None:
        super().__init__()
        if name not in LAYERS:
            raise ValueError(f"ResNet: name must be one of {', '.join(LAYERS)}, got {name!r}")
        if output_stride not in _HALVINGS:
            raise ValueError(f"ResNet: output_stride must be 32, 16 or 8, got {output_stride!r}")
        block = BasicBlock if name in ("resnet18", "resnet34") else Bottleneck
        self.conv1 = nn.Conv2d(in_channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm_layer(width)

        widths = [width * 2**index for index in range(4)]
        dilation, strides = 1, [4]
        self.layer1 = _stage(block, width, width, LAYERS[name][0], 1, (1, 1), norm_layer)
        for index in (1, 2, 3):
            halves = index <= _HALVINGS[output_stride]
            before, dilation = dilation, dilation if halves else 2 * dilation
            inputs = widths[index - 1] * block.expansion
            stage = _stage(
                block,
                inputs,
                widths[index],
                LAYERS[name][index],
                2 if halves else 1,
                (before, dilation),
                norm_layer,
            )
            self.add_module(f"layer{index + 1}", stage)
            strides.append(strides[-1] * (2 if halves else 1))
        self.channels = tuple(wide * block.expansion for wide in widths)
        self.strides = tuple(strides)

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, x: Tensor) -> Tensor:
        """7x7 convolution and 3x3 max pooling: (N, C, H, W) -> (N, 64, H / 4, W / 4)."""
        x = self.bn1(self.conv1(x)).relu()
        return nn.functional.max_pool2d(x, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, C, H, W) -> the four stages, ``channels[i]`` channels at 1 / ``strides[i]``."""
        c2 = self.layer1(self.stem(x))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return c2, c3, c4, self.layer4(c4)


def _conv(inputs: int, outputs: int, size: int, stride: int, dilation: int) -> nn.Conv2d:
    padding = dilation * (size // 2)
    return nn.Conv2d(inputs, outputs, size, stride, padding, dilation, bias=False)


def _shortcut(
    inputs: int, outputs: int, stride: int, norm_layer: NormLayer
) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride, 1), norm_layer(outputs))


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    inputs: int,
    width: int,
    blocks: int,
    stride: int,
    dilations: tuple[int, int],
    norm_layer: NormLayer,
) -> nn.Sequential:
    """`blocks` residual blocks; the first has its own stride and dilation."""
    first = block(inputs, width, stride, dilations[0], norm_layer)
    outputs = width * block.expansion
    rest = (block(outputs, width, 1, dilations[1], norm_layer) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
