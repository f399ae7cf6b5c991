"""What the handlers of calls share; `_layers` lists them.

A handler gets the call's arguments under their names in ATen's schema (tensors that are constant as
tensors, others as values) and returns the resulting value or values, or raises `NotCovered`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, fx

from medseg_fast.nn._optimize._graph import Layer, Value

Array = NDArray[Any]


class NotCovered(Exception):
    """This call is left to torch, for this reason."""


class Call:
    """The call being handled."""

    def __init__(
        self, node: fx.Node, name: str, layers: list[Layer], known: dict[fx.Node, Any]
    ) -> None:
        self.node, self.name, self.layers, self.known = node, name, layers, known

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the results."""
        meta = self.node.meta["val"]
        results = meta if isinstance(meta, (tuple, list)) else (meta,)
        return [tuple(map(int, each.shape)) for each in results]

    def add(self, kind: str, inputs: dict[str, Value], **attributes: Any) -> Value:
        """A layer with one result."""
        value = Value(self.shapes[0])
        whole(value, *inputs.values())
        self.layers.append(Layer(kind, self.name, inputs, {"out": value}, attributes))
        return value


Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}


def handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def whole(*values: Value) -> None:
    for value in values:
        if value.flat:
            raise NotCovered("its input is a flattened map")
        if not 2 <= len(value.shape) <= 5 or 0 in value.shape:
            raise NotCovered(f"shape {value.shape} is no feature map")


def map_of(value: Any, name: str = "input") -> Value:
    if not isinstance(value, Value):
        raise NotCovered(f"{name} is constant")
    return value


def constant(value: Any, name: str) -> Array:
    if not isinstance(value, Tensor):
        raise NotCovered(f"{name} is not constant")
    if not value.is_floating_point():
        raise NotCovered(f"{name} is no float")
    return value.detach().cpu().float().contiguous().numpy()


def optional(value: Any, name: str) -> Array | None:
    return None if value is None else constant(value, name)
