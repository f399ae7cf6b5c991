"""A network as layers on feature maps: what tracing makes and a plan is built from. Needs no torch.

A map has the shape that torch knows; in memory its channels are the innermost axis. A value may be
a part of another one (a crop, a slice of channels, a flattened view), which costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Size3 = tuple[int, int, int]


@dataclass(eq=False)
class Value:
    """A feature map, or anything else (`native` False) that only torch's layers touch.

    Attributes
    ----------
    shape : tuple of int
        (N, C), (N, C, L), (N, C, H, W) or (N, C, D, H, W) if native.
    base, start : Value, tuple of 5 int
        What it is a part of, from which batch, channel, plane, row and column on.
    step : tuple of 3 int
        Every so many planes, rows and columns of its base; parts of it have none.
    flat : bool
        It has shape (N, pixels * C), torch's order, of a base that has it in its own.
    indices : bool
        int64, of maxima.
    """

    shape: tuple[int, ...]
    native: bool = True
    base: Value | None = None
    start: tuple[int, ...] = (0,) * 5
    step: Size3 = (1, 1, 1)
    flat: bool = False
    indices: bool = False

    @property
    def batch(self) -> int:
        return self.shape[0]

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def size(self) -> Size3:
        """Planes, rows and columns."""
        space = self.shape[2:]
        return (*(1,) * (3 - len(space)), *space)  # type: ignore[return-value]

    @property
    def root(self) -> Value:
        """The whole that it is a part of."""
        return self if self.base is None else self.base.root

    @property
    def offset(self) -> tuple[int, ...]:
        """Where it begins in its root."""
        if self.base is None:
            return self.start
        return tuple(a + b for a, b in zip(self.start, self.base.offset, strict=True))

    @property
    def count(self) -> int:
        return math.prod(self.shape)


@dataclass(eq=False)
class Layer:
    """What computes values from values; `attributes` by kind, see `_lower`.

    Attributes
    ----------
    kind : str
        conv, transposed, pointwise, pool, unpool, resize, gather, means, norm, softmax,
        attention, cat; or torch, which torch does.
    name : str
        Of the module it comes from.
    inputs, outputs : dict
        By role.
    """

    kind: str
    name: str
    inputs: dict[str, Value]
    outputs: dict[str, Value]
    attributes: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]


@dataclass
class Graph:
    """Layers in an order in which they can run."""

    layers: list[Layer]
    inputs: list[Value]
    outputs: list[Value]
    structure: Any  # of the result: see `_plan.rebuilt`
    reasons: dict[str, str] = field(default_factory=dict)  # why a layer is left to torch
    # Inputs and results that are not the caller's but other plans': as maps between layers lie.
    internal_inputs: frozenset[int] = frozenset()
    internal_outputs: frozenset[int] = frozenset()

    def producers(self) -> dict[Value, Layer]:
        """Who makes a whole value."""
        return {value: layer for layer in self.layers for value in layer.outputs.values()}

    def uses(self) -> dict[Value, int]:
        """How often a whole value, or a part of it, is used; results count."""
        count: dict[Value, int] = {}
        for value in self._used():
            count[value.root] = count.get(value.root, 0) + 1
        return count

    def _used(self) -> Iterator[Value]:
        for layer in self.layers:
            yield from layer.inputs.values()
        yield from self.outputs


def three(values: Iterable[int] | int, rank: int, neutral: int) -> Size3:
    """A number per spatial axis for all three axes; missing leading ones are neutral."""
    given = (values,) * rank if isinstance(values, int) else tuple(values)
    if len(given) == 1:
        given *= rank
    return (*(neutral,) * (3 - rank), *given)  # type: ignore[return-value]
