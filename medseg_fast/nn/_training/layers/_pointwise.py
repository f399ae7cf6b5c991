"""Convolutions of single pixels some steps apart: those pixels first, then products without steps.

For few channels alone, as a remedy: on CPUs with AVX2 but not AVX-512, PyTorch's gradient of such
a layer's weights (2.13, oneDNN's ``jit_1x1:avx2``) writes beyond its memory where channels of the
input leave a vector of eight unfilled, and the process ends or hangs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

_VECTOR = 8  # float32 of AVX2


def takes(layer: Any) -> bool:
    """Whether PyTorch's own might write where it must not."""
    return (
        type(layer) in (nn.Conv2d, nn.Conv3d)
        and set(layer.kernel_size) == {1}
        and set(layer.stride) != {1}
        and (layer.padding == "valid" or set(layer.padding) == {0})
        and layer.groups == 1
        and layer.in_channels % _VECTOR != 0
    )


def forward_of(layer: Any) -> Callable[[Tensor], Any]:
    """What runs instead of the layer's own."""
    convolve = nn.functional.conv2d if type(layer) is nn.Conv2d else nn.functional.conv3d
    every: Any = (..., *(slice(None, None, step) for step in layer.stride))

    def forward(x: Tensor) -> Any:
        if x.device.type != "cpu":
            return type(layer).forward(layer, x)
        return convolve(x[every], layer.weight, layer.bias)

    return forward
