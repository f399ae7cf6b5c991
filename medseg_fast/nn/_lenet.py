"""LeNet-5, and classifiers of patches turned into networks for whole images."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from medseg_fast.nn._blocks import Network, choice, fraction, network, positive

# Which maps of S2 each map of C3 sees: table I of the paper.
_C3_INPUTS = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),
    *(tuple(sorted((i + k) % 6 for k in range(4))) for i in range(6)),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


class Subsampling(nn.Module):
    """The mean of 2 x 2 pixels, times one trainable number per map, plus another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        shape = (1, -1, 1, 1)
        mean = nn.functional.avg_pool2d(x, 2)
        return mean * self.weight.reshape(shape) + self.bias.reshape(shape)

    def dense(self, step: int) -> nn.Conv2d:
        """The same for every pixel, with pixels `step` apart: a convolution of each map."""
        channels = self.weight.shape[0]
        layer = nn.Conv2d(channels, channels, 2, dilation=step, groups=channels)
        with torch.no_grad():
            layer.weight.copy_((self.weight / 4).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2))
            assert layer.bias is not None
            layer.bias.copy_(self.bias)
        return layer


class PartialConv(nn.Module):
    """The 5x5 convolution C3, whose 16 maps see 3, 4 or all of the 6 maps below: 60 kernels."""

    rows: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        pairs = [(row, column) for row, inputs in enumerate(_C3_INPUTS) for column in inputs]
        self.set_connections()
        bounds = [2.4 / (25 * len(_C3_INPUTS[row])) for row, _ in pairs]
        self.weight = nn.Parameter(torch.empty(len(pairs), 5, 5).uniform_(-1, 1))
        with torch.no_grad():
            self.weight.mul_(torch.tensor(bounds)[:, None, None])
        self.bias = nn.Parameter(torch.zeros(16))

    def set_connections(self) -> None:
        """Which of the 16 x 6 kernels there are."""
        pairs = [(row, column) for row, inputs in enumerate(_C3_INPUTS) for column in inputs]
        rows, columns = torch.tensor(pairs, device="cpu").unbind(1)
        self.register_buffer("rows", rows.contiguous(), persistent=False)
        self.register_buffer("columns", columns.contiguous(), persistent=False)

    def kernels(self) -> Tensor:
        """(16, 6, 5, 5), zero where maps are not connected."""
        full = self.weight.new_zeros(16, 6, 5, 5)
        return full.index_put((self.rows, self.columns), self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 6, H, W) -> (N, 16, H - 4, W - 4)."""
        return nn.functional.conv2d(x, self.kernels(), self.bias)

    def dense(self, step: int) -> nn.Module:
        """An ordinary convolution with the same result, its pixels `step` apart."""
        layer = nn.Conv2d(6, 16, 5, dilation=step)
        with torch.no_grad():
            layer.weight.copy_(self.kernels())
            assert layer.bias is not None
            layer.bias.copy_(self.bias)
        return layer


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3), the paper's squashing function."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class LeNet5(Network):
    """See `lenet5`."""

    patch = 32

    def __init__(self, in_channels: int, classes: int, variant: str, rate: float) -> None:
        super().__init__("lenet5", 2, in_channels, classes)
        choice("lenet5", "variant", variant, ("paper", "modern"))
        modern = variant == "modern"

        def act() -> nn.Module:
            return nn.ReLU() if modern else ScaledTanh()

        def pool(channels: int) -> list[nn.Module]:
            return [nn.MaxPool2d(2)] if modern else [Subsampling(channels), ScaledTanh()]

        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5),
            act(),
            *pool(6),
            nn.Conv2d(6, 16, 5) if modern else PartialConv(),
            act(),
            *pool(16),
            nn.Conv2d(16, 120, 5),
            act(),
        )
        drop = [nn.Dropout(rate)] if rate else []
        self.classifier = nn.Sequential(
            *drop, nn.Linear(120, 84), act(), *drop, nn.Linear(84, classes)
        )
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                if modern:
                    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
                else:  # the paper's: uniform within 2.4 / fan-in
                    bound = 2.4 / layer.weight[0].numel()
                    nn.init.uniform_(layer.weight, -bound, bound)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, 32, 32) -> (N, classes)."""
        self.check(x)
        if x.shape[2] != self.patch or x.shape[3] != self.patch:
            raise ValueError(
                f"lenet5: input must be {self.patch} x {self.patch} pixels, got {tuple(x.shape)}; "
                "to_fully_convolutional(model) takes larger images"
            )
        y: Tensor = self.classifier(self.features(x).flatten(1))
        return y


@network
def lenet5(
    in_channels: int = 1, classes: int = 10, *, variant: str = "paper", dropout: float = 0.0
) -> LeNet5:
    """LeNet-5: a classifier of patches of 32 x 32 pixels.

    With `to_fully_convolutional` it labels every pixel of an image by the patch around it.

    Parameters
    ----------
    in_channels : int, optional
        Channels of the patches.
    classes : int, optional
        Classes.
    variant : {"paper", "modern"}, optional
        "paper": trainable sub-sampling, the table of connections of layer C3, scaled tanh.
        "modern": max pooling, all connections, ReLU.
    dropout : float, optional
        Rate before both fully connected layers.

    Returns
    -------
    model : LeNet5
        (N, in_channels, 32, 32) -> logits (N, classes).

    Notes
    -----
    60 850 parameters for one channel and ten classes, 61 706 if "modern". The paper counts 60 000:
    its output layer has none, but compares with the drawn bitmap of each digit. Here that layer
    is fully connected, for classes that are not digits.

    References
    ----------
    .. [1] Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to
       document recognition", Proceedings of the IEEE 86 (1998), pp. 2278-2324.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.lenet5(classes=2)
    >>> tuple(model(torch.zeros(5, 1, 32, 32)).shape)
    (5, 2)
    >>> dense = nn.to_fully_convolutional(model)
    >>> tuple(dense(torch.zeros(1, 1, 100, 120)).shape)
    (1, 2, 69, 89)
    """
    return LeNet5(in_channels, classes, variant, fraction("lenet5", "dropout", dropout))


class FullyConvolutional(nn.Sequential):
    """A classifier of patches as a network for images: see `to_fully_convolutional`.

    Attributes
    ----------
    patch : tuple of 2 int
        Rows and columns that one output pixel sees.
    stride : int
        Distance of neighbouring outputs, in pixels of the input.
    """

    patch: tuple[int, int]
    stride: int
    ndim = 2

    def sizes(self, size: int) -> tuple[int, int]:
        """Smallest input of at least `size` pixels along an axis, and the size of its output."""
        fitting = max(size, *self.patch)
        return fitting, fitting - max(self.patch) + 1

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, classes, (H - patch) // stride + 1, ...)."""
        rows, columns = self.patch
        if x.ndim != 4 or x.shape[2] < rows or x.shape[3] < columns:
            raise ValueError(
                f"to_fully_convolutional: input must have shape (N, C, H, W) of at least "
                f"{rows} x {columns} pixels, got {tuple(x.shape)}"
            )
        y: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        # More where strides leave a patch's last pixels unread.
        rows = (x.shape[2] - rows) // self.stride + 1
        columns = (x.shape[3] - columns) // self.stride + 1
        return y[:, :, :rows, :columns]


def to_fully_convolutional(
    classifier: nn.Module, patch: int | tuple[int, int] | None = None, *, dense: bool = True
) -> FullyConvolutional:
    """Turn a classifier of patches into a network that labels whole images.

    Its fully connected layers become convolutions, so that neighbouring patches share their work
    instead of repeating it.

    Parameters
    ----------
    classifier : nn.Module
        An ``nn.Sequential``, or a module whose parts ``features`` and ``classifier`` (and between
        them, maybe, ``avgpool``) follow one another, as in `lenet5` and torchvision's VGG and
        AlexNet. Layers: convolution, max and average pooling, batch norm, dropout, elementwise
        functions, flatten, linear.
    patch : int or tuple of 2 int, optional
        Size of the patches that it classifies. Default: the classifier's attribute ``patch``.
    dense : bool, optional
        True: an output for every pixel. Poolings and convolutions lose their stride, and what
        follows them reads pixels so much farther apart. False: strides stay, the output is coarse.

    Returns
    -------
    network : FullyConvolutional
        Output pixel (i, j) is the classifier's answer to the patch that begins at
        ``(stride * i, stride * j)``. Weights are copied. It is in evaluation or training mode as
        the classifier is.

    Notes
    -----
    With padding inside the classifier this holds only where the patch's border does not matter: a
    patch was padded with zeros where the image goes on.

    References
    ----------
    .. [1] J. Long, E. Shelhamer and T. Darrell, "Fully convolutional networks for semantic
       segmentation", CVPR 2015, pp. 3431-3440, section 3.
    .. [2] A. Giusti et al., "Fast image scanning with deep max-pooling convolutional neural
       networks", ICIP 2013, pp. 4034-4038.
    """
    op = "to_fully_convolutional"
    size = getattr(classifier, "patch", None) if patch is None else patch
    if size is None:
        raise TypeError(f"{op}: patch must be given for a {type(classifier).__name__}")
    rows, columns = (size, size) if isinstance(size, int) else size
    positive(op, **{"patch[0]": rows, "patch[1]": columns})
    layers: list[nn.Module] = []
    made: nn.Module
    shape = (rows, columns)  # what is left of a patch
    channels, step, stride, flat = None, 1, 1, False
    for layer in _in_order(classifier):
        if isinstance(layer, (nn.Identity, nn.AdaptiveAvgPool2d)):
            if isinstance(layer, nn.AdaptiveAvgPool2d) and shape != _pair(layer.output_size):
                raise ValueError(
                    f"{op}: {layer} changes {shape[0]} x {shape[1]} pixels, so its size must be "
                    "that of the patch at this layer"
                )
            continue
        if isinstance(layer, nn.Flatten):
            flat = True
            continue
        if isinstance(layer, nn.Linear):
            window = (1, 1) if flat and channels is None else shape
            made = _as_conv(op, layer, channels, window, step)
            shape, channels, flat = (1, 1), layer.out_features, True
        elif isinstance(layer, (nn.Conv2d, PartialConv, nn.MaxPool2d, nn.AvgPool2d, Subsampling)):
            made, kernel, padding, own, own_dilation = _spread(layer, step, dense)
            shape = (
                (shape[0] + 2 * padding[0] - own_dilation * (kernel[0] - 1) - 1) // own + 1,
                (shape[1] + 2 * padding[1] - own_dilation * (kernel[1] - 1) - 1) // own + 1,
            )
            if min(shape) < 1:
                raise ValueError(f"{op}: patch must be larger, {rows} x {columns} vanish")
            if dense:
                step *= own
            else:
                stride *= own
            if isinstance(layer, nn.Conv2d):
                channels = layer.out_channels
            elif isinstance(layer, PartialConv):
                channels = 16
        elif isinstance(layer, nn.BatchNorm1d):
            made = nn.BatchNorm2d(layer.num_features, layer.eps, layer.momentum, layer.affine)
            made.load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.Dropout):
            made = nn.Dropout2d(layer.p)
        else:
            made = copy.deepcopy(layer)
        layers.append(made)
    if shape != (1, 1):
        raise ValueError(
            f"{op}: classifier must give one answer for a patch of {rows} x {columns} pixels, "
            f"got {shape[0]} x {shape[1]}"
        )
    result = FullyConvolutional(*layers)
    result.patch, result.stride = (rows, columns), stride
    some = next(classifier.parameters(), torch.empty(0))
    return result.to(some.device, some.dtype).train(classifier.training)


def _in_order(module: nn.Module) -> Iterator[nn.Module]:
    """The layers, one after the other."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _in_order(child)
        return
    children = dict(module.named_children())
    if not children:
        yield module
        return
    if list(children) not in (["features", "classifier"], ["features", "avgpool", "classifier"]):
        raise TypeError(
            "to_fully_convolutional: classifier must be an nn.Sequential, or have the parts "
            f"features, avgpool (maybe) and classifier, got a {type(module).__name__} with "
            f"{', '.join(children)}"
        )
    yield from _in_order(module.get_submodule("features"))
    if "avgpool" in children:
        yield from _in_order(module.get_submodule("avgpool"))
    yield nn.Flatten()
    yield from _in_order(module.get_submodule("classifier"))


def _pair(value: Any) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _spread(
    layer: nn.Module, step: int, dense: bool
) -> tuple[nn.Module, tuple[int, int], tuple[int, int], int, int]:
    """A layer that reads pixels `step` apart; its kernel, padding, stride and dilation before."""
    if isinstance(layer, PartialConv):
        return layer.dense(step), (5, 5), (0, 0), 1, 1
    if isinstance(layer, Subsampling):
        made = layer.dense(step)
        if not dense:
            made.stride = (2, 2)
        return made, (2, 2), (0, 0), 2, 1
    assert isinstance(layer, (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d))
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    padding = _pair(layer.padding)
    dilation = _pair(getattr(layer, "dilation", 1))
    if isinstance(layer.padding, str) or len(set(stride)) > 1 or len(set(dilation)) > 1:
        raise ValueError(f"to_fully_convolutional: cannot convert {layer}")
    if getattr(layer, "ceil_mode", False):
        raise ValueError(f"to_fully_convolutional: cannot convert {layer}: ceil_mode must be False")
    spread = (padding[0] * step, padding[1] * step)
    new_stride = 1 if dense else stride[0]
    if isinstance(layer, nn.AvgPool2d):
        mean = AveragePool(kernel, new_stride, padding=spread, dilation=step)
        return mean, kernel, padding, stride[0], 1
    spaced: nn.Conv2d | nn.MaxPool2d = copy.deepcopy(layer)
    spaced.stride = (new_stride, new_stride)
    spaced.padding = spread
    spaced.dilation = (step * dilation[0], step * dilation[0])
    if isinstance(spaced, nn.Conv2d):  # what its constructor derives from these
        spaced._reversed_padding_repeated_twice = [spread[1]] * 2 + [spread[0]] * 2
    return spaced, kernel, padding, stride[0], dilation[0]


class AveragePool(nn.Module):
    """Average pooling with dilation, which PyTorch's lacks; padding counts as zeros."""

    def __init__(
        self, kernel: tuple[int, int], stride: int, padding: tuple[int, int], dilation: int
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding, self.dilation = kernel, stride, padding, dilation

    def forward(self, x: Tensor) -> Tensor:
        """One kernel of equal weights for every channel."""
        channels = x.shape[1]
        weight = x.new_full((channels, 1, *self.kernel), 1 / math.prod(self.kernel))
        return nn.functional.conv2d(
            x, weight, None, self.stride, self.padding, self.dilation, groups=channels
        )


def _as_conv(
    op: str, layer: nn.Linear, channels: int | None, window: tuple[int, int], step: int
) -> nn.Conv2d:
    """A linear layer over `window` pixels of `channels` maps as a convolution."""
    count = layer.in_features // math.prod(window)
    if count * math.prod(window) != layer.in_features or channels not in (None, count):
        raise ValueError(
            f"{op}: {layer} does not fit {channels} maps of {window[0]} x {window[1]} pixels: "
            "patch must be the size that the classifier was made for"
        )
    made = nn.Conv2d(count, layer.out_features, window, dilation=step, bias=layer.bias is not None)
    with torch.no_grad():
        made.weight.copy_(layer.weight.reshape(made.weight.shape))
        if made.bias is not None:
            made.bias.copy_(layer.bias)
    return made
