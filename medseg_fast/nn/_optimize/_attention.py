"""Attention of pixels to pixels, and the reshapes around it that name heads and rows of pixels.

A map (N, C, ...) becomes (N, heads, C / heads, pixels), and its transpose rows of pixels: both are
`Rows` here, which cost nothing. Only what leads straight from maps through attention back to a map
is ours; other uses of such shapes are left to torch as a whole.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, fx

from medseg_fast.nn._optimize._calls import Call, NotCovered, handles, whole
from medseg_fast.nn._optimize._graph import Layer, Value
from medseg_fast.nn._optimize._spatial import plain_reshape, same

_RESHAPES = ("reshape", "view", "_unsafe_view")
_COPIES = ("clone", "contiguous")


class Rows:
    """A map's channels in heads; its pixels come last (`turned` False) or before the channels."""

    def __init__(self, values: list[Value], heads: int, turned: bool) -> None:
        self.values, self.heads, self.turned = values, heads, turned

    @property
    def value(self) -> Value:
        return self.values[0]

    def of(self, x: Tensor) -> Tensor:
        """The same of a tensor: for torch, which may be left one operand of an attention."""
        parts = x.reshape(x.shape[0], self.heads, x.shape[1] // self.heads, -1)
        return parts.transpose(2, 3) if self.turned else parts


@handles(*_RESHAPES)
def _reshape(call: Call, self: Any, **arguments: Any) -> Any:
    shape = call.shapes[0]
    if isinstance(self, Rows):  # back to a map, as `_map_after` has made sure
        return self.value
    if isinstance(self, Value) and len(shape) == 4 and _splits(self, shape):
        if all(_attended_by(user) for user in call.node.users):
            whole(self)
            return Rows([self], shape[1], turned=False)
    return plain_reshape(call, self, **arguments)


@handles(*_COPIES)
def _copy(call: Call, self: Any, **arguments: Any) -> Any:
    return self if isinstance(self, Rows) else same(call, self=self, **arguments)


@handles("transpose")
def _transpose(call: Call, self: Any, dim0: int, dim1: int) -> Rows:
    if not isinstance(self, Rows):
        raise NotCovered("a transpose")
    return Rows(self.values, self.heads, not self.turned)


@handles("scaled_dot_product_attention")
def _attention(
    call: Call, query: Any, key: Any, value: Any, scale: float | None = None, **_: Any
) -> Rows:
    rows = (query, key, value)
    if not all(isinstance(each, Rows) and each.turned for each in rows):
        raise NotCovered("attention that is not between pixels")
    shape = _map_after(call.node)
    assert shape is not None  # else there were no rows
    q, k, v = (each.value for each in rows)
    made = Value(shape)
    each = q.channels // query.heads
    attributes = {
        "heads": query.heads,
        "scale": 1 / math.sqrt(each) if scale is None else float(scale),
    }
    inputs = {"in": q, "keys": k, "values": v}
    call.layers.append(Layer("attention", call.name, inputs, {"out": made}, attributes))
    return Rows([made], query.heads, turned=True)


def _splits(x: Value, shape: tuple[int, ...]) -> bool:
    """Whether this shape names a map's heads: (N, heads, channels of each, pixels)."""
    if not 3 <= len(x.shape) <= 5 or x.flat:
        return False
    pixels = math.prod(x.shape[2:])
    return shape[0] == x.batch and shape[1] * shape[2] == x.channels and shape[3] == pixels


def _attended_by(node: fx.Node) -> bool:
    """Whether this transposes heads into rows of pixels that attention alone uses."""
    if _name(node) in _COPIES:
        return bool(node.users) and all(map(_attended_by, node.users))
    return _turns(node) and all(_map_after(user) is not None for user in node.users)


def _map_after(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of the map into which the result of an attention is put together, if it is."""
    if _name(node) != "scaled_dot_product_attention" or not _plain(node):
        return None
    found = set()
    for turned in node.users:
        ends = list(turned.users)
        while ends and all(_name(end) in _COPIES for end in ends):
            ends = [user for end in ends for user in end.users]
        if not _turns(turned) or not ends or any(_name(end) not in _RESHAPES for end in ends):
            return None
        found |= {_shape(end) for end in ends}
    n, heads, pixels, channels = _shape(node)
    if len(found) != 1:
        return None
    (shape,) = found
    fits = 3 <= len(shape) <= 5 and shape[:2] == (n, heads * channels)
    return shape if fits and math.prod(shape[2:]) == pixels else None


def _plain(node: fx.Node) -> bool:
    """Attention of equal channels without mask, dropout or order; its three operands are rows."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    given = {**dict(zip(names, node.args, strict=False)), **node.kwargs}
    operands = [each for name in names[:3] if isinstance(each := given[name], fx.Node)]
    if given.get("attn_mask") is not None or given.get("dropout_p") or given.get("is_causal"):
        return False
    if given.get("enable_gqa") or len(operands) < 3:
        return False
    q, k, v = (_shape(each) for each in operands)
    same = len(q) == len(k) == len(v) == 4 and k == v and (*q[:2], q[3]) == (*k[:2], k[3])
    return same and all(map(_are_rows, operands))


def _are_rows(node: fx.Node) -> bool:
    """Whether a map was split into heads and transposed to make this."""
    while _name(node) in _COPIES:
        node = node.all_input_nodes[0]
    if not _turns(node):
        return False
    heads = node.all_input_nodes[0]
    if _name(heads) not in _RESHAPES:
        return False
    source = heads.all_input_nodes[0].meta.get("val")
    shape = tuple(map(int, getattr(source, "shape", ())))
    return 3 <= len(shape) <= 5 and _splits(Value(shape), _shape(heads))


def _turns(node: fx.Node) -> bool:
    """Whether this transposes the last two of four axes."""
    if _name(node) != "transpose" or len(_shape(node)) != 4:
        return False
    axes: Any = node.args[1:]
    return sorted(axis % 4 for axis in axes) == [2, 3]


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(map(int, getattr(node.meta.get("val"), "shape", ())))


def _name(node: fx.Node) -> str:
    schema = getattr(node.target, "_schema", None)
    return "" if schema is None else str(schema.name).removeprefix("aten::")
