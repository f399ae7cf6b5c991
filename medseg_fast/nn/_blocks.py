"""What the networks share: their base class, convolution blocks, crops and checks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import pairwise
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from medseg_fast._checks import choice as choice  # what the networks check as well

P = ParamSpec("P")
N = TypeVar("N", bound="_Remembers")

NORMS = ("none", "batch", "instance", "group")

_CONV: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
_MAX_POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_BATCH_NORM: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


class Architecture(NamedTuple):
    """Which function made a network, and with which arguments: what `save_model` writes."""

    network: str
    arguments: dict[str, Any]


class _Remembers(Protocol):
    architecture: Architecture


class Network(nn.Module):
    """A network from (N, in_channels, [D,] H, W) to logits (N, classes, [D,] H, W).

    Attributes
    ----------
    ndim : int
        Spatial axes, 2 or 3.
    in_channels, classes : int
        Channels of input and output.
    margin : int
        Pixels on each side for which there is no output (convolutions without padding), else 0.
    architecture : Architecture
        The function that made it and its arguments.
    metadata : dict
        What `save_model` writes beside the weights and `predict` reads.
    """

    architecture: Architecture
    margin: int = 0
    metadata: dict[str, Any]

    def __init__(self, name: str, ndim: int, in_channels: int, classes: int) -> None:
        super().__init__()
        if ndim not in (2, 3):
            raise ValueError(f"{name}: ndim must be 2 or 3, got {ndim!r}")
        positive(name, in_channels=in_channels, classes=classes)
        self.name = name
        self.ndim = ndim
        self.in_channels = in_channels
        self.classes = classes
        self.metadata = {}

    def check(self, x: Tensor) -> None:
        """Raise for a tensor that this network does not take."""
        _check_input(x, self.name, self.ndim, self.in_channels)

    def sizes(self, size: int) -> tuple[int, int]:
        """Smallest input of at least `size` pixels along an axis, and the size of its output."""
        return size, size


def network(function: Callable[P, N]) -> Callable[P, N]:
    """Let the network remember how it was made."""
    signature = inspect.signature(function)

    @wraps(function)
    def build(*args: P.args, **kwargs: P.kwargs) -> N:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        model = function(*args, **kwargs)
        arguments = dict(bound.arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                arguments.update(arguments.pop(name))
        model.architecture = Architecture(function.__name__, arguments)
        return model

    return build


# Checks and crops look at sizes, which torch.fx cannot follow: it keeps each as one call.


@torch.fx.wrap
def _check_input(x: Tensor, name: str, ndim: int, channels: int) -> None:
    shape = tuple(x.shape)
    if len(shape) != ndim + 2 or shape[1] != channels:
        axes = "D, H, W" if ndim == 3 else "H, W"
        raise ValueError(f"{name}: input must have shape (N, {channels}, {axes}), got {shape}")
    for size in shape[2:]:
        if size < 1:
            raise ValueError(f"{name}: input must not be empty, got {shape}")


@torch.fx.wrap
def _crop(x: Tensor, like: Tensor, offset: int | None) -> Tensor:
    for axis in range(2, x.ndim):
        size = like.shape[axis]
        start = (x.shape[axis] - size) // 2 if offset is None else offset
        x = x.narrow(axis, start, size)
    return x


@torch.fx.wrap
def _pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    pads = [(-size) % multiple for size in reversed(x.shape[2:])]
    if not any(pads):
        return x
    return nn.functional.pad(x, [n for pad in pads for n in (0, pad)], mode="replicate")


def crop(x: Tensor, like: Tensor, offset: int | None = None) -> Tensor:
    """The part of `x` as large as `like`: from the centre, or from `offset` pixels inside."""
    return _crop(x, like, offset)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last plane, row and column until every size is a multiple of `multiple`."""
    return _pad_to_multiple(x, multiple)


def positive(op: str, **values: Any) -> None:
    """Refuse what is not a positive whole number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{op}: {name} must be at least 1, got {value}")


def fraction(op: str, name: str, value: Any) -> float:
    """Refuse what is no probability of dropping."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{op}: {name} must be in [0, 1), got {value}")
    return float(value)


def width_list(op: str, value: Sequence[int], least: int, most: int | None = None) -> list[int]:
    """Channels per level, checked."""
    widths = list(value)
    positive(op, **{f"widths[{i}]": width for i, width in enumerate(widths)})
    if len(widths) < least or (most is not None and len(widths) > most):
        wanted = f"{least}" if most == least else f"at least {least}"
        raise ValueError(f"{op}: widths must have {wanted} entries, got {widths}")
    return widths


def conv(ndim: int, inputs: int, outputs: int, size: int, **options: Any) -> nn.Module:
    """A convolution, weights after He et al. (2015), bias 0."""
    layer = _CONV[ndim](inputs, outputs, size, **options)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def transposed(ndim: int, inputs: int, outputs: int, size: int = 2, **options: Any) -> nn.Module:
    """A transposed convolution ("deconvolution", "up-convolution") of stride 2."""
    layer = _TRANSPOSED[ndim](inputs, outputs, size, stride=2, **options)
    # As fan-in counts the 2**ndim weights per output pixel only once per input channel.
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def max_pool(ndim: int) -> nn.Module:
    """2 x 2 (x 2) max pooling."""
    return _MAX_POOL[ndim](2)


def normalisation(kind: str, ndim: int, channels: int) -> nn.Module | None:
    """Batch, instance (affine) or group norm (8 groups, fewer if they do not divide), or none."""
    if kind == "batch":
        return _BATCH_NORM[ndim](channels)
    if kind == "instance":
        return _INSTANCE_NORM[ndim](channels, affine=True)
    if kind == "group":
        return nn.GroupNorm(max(g for g in range(1, 9) if channels % g == 0), channels)
    return None


def dropout(rate: float, ndim: int) -> nn.Module:
    """Drops whole channels: neighbouring pixels of one channel say nearly the same."""
    return _DROPOUT[ndim](rate)


class ConvBlock(nn.Sequential):
    """Convolutions of size 3, each followed by a norm, ReLU and dropout as asked.

    Its layers are named conv1, norm1, relu1, dropout1, conv2 and so on; a layer that does nothing
    is left out.
    """

    def __init__(
        self,
        ndim: int,
        channels: Sequence[int],
        *,
        padding: int = 1,
        norm: str = "none",
        rate: float = 0.0,
        slope: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        for i, (inputs, outputs) in enumerate(pairwise(channels), 1):
            layer: nn.Module | None = conv(ndim, inputs, outputs, 3, padding=padding, bias=bias)
            self.add_module(f"conv{i}", layer)
            layer = normalisation(norm, ndim, outputs)
            if layer is not None:
                self.add_module(f"norm{i}", layer)
            self.add_module(f"relu{i}", nn.LeakyReLU(slope) if slope else nn.ReLU())
            if rate:
                self.add_module(f"dropout{i}", dropout(rate, ndim))
