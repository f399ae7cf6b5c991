"""A network's layers as a step of training runs them on the CPU: by our kernels, channels last.

Convolutions of 3 and of 5 taps go by Winograd's algorithm forward and back, where that is quicker
than PyTorch's; norms take the rectifier after them along; pooling keeps a byte of each window.
Everything else is PyTorch's, on features that are channels-last in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from medseg_fast.nn._training.layers import _convolution, _norm, _pointwise, _pooling
from medseg_fast.nn._training.layers._crew import one_crew

Forward = Callable[[Tensor], Any]


@contextmanager
def quick_layers(network: nn.Module) -> Iterator[None]:
    """Run a network's layers by our kernels within this block, where its tensors are on a CPU.

    Parameters and state stay where they are; layers with hooks run as they are. For one step: a
    copy made within the block would run the layers of the network it is a copy of.
    """
    own = {layer: forward for layer in network.modules() if (forward := _forward_of(layer))}
    with ExitStack() as stack:
        for layer, forward in own.items():
            stack.enter_context(_replaced(layer, forward))
        stack.enter_context(one_crew())
        yield


def _forward_of(layer: nn.Module) -> Forward | None:
    """What runs instead of a layer's own."""
    if _watched(layer):
        return None
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        return _sequence(layer)
    for kind in (_convolution, _pointwise, _pooling, _norm):
        if kind.takes(layer):
            forward: Forward = kind.forward_of(layer)
            return forward
    return None


def _watched(layer: Any) -> bool:
    hooks = (layer._forward_hooks, layer._forward_pre_hooks)
    more = (layer._backward_hooks, layer._backward_pre_hooks)
    return any(hooks) or any(more) or "forward" in vars(layer)


def _sequence(layers: nn.Sequential) -> Forward | None:
    """One layer after another, norms together with the rectifiers after them; None without such."""
    steps: list[Forward] = []
    found = list(layers._modules.values())
    while found:
        layer = found.pop(0)
        after = found[0] if found else None
        pair = _norm.takes(layer) and _norm.slope_of(after) is not None
        if pair and not _watched(layer) and not _watched(after):
            steps.append(_norm.forward_of(layer, found.pop(0)))
        else:
            steps.append(layer)
    if all(isinstance(step, nn.Module) for step in steps):
        return None

    def forward(x: Tensor) -> Any:
        for step in steps:
            x = step(x)
        return x

    return forward


@contextmanager
def _replaced(layer: Any, forward: Forward) -> Iterator[None]:
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
