"""Calls of ATen on several pixels, and those that only name a part of a map anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medseg_fast.nn._optimize._calls import (
    HANDLERS,
    Call,
    Handler,
    NotCovered,
    handles,
    map_of,
    whole,
)
from medseg_fast.nn._optimize._graph import Value, three
from medseg_fast.nn._optimize._pixels import pointwise, uniform


def _windows(x: Value, kernel: Any, stride: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    rank = len(x.shape) - 2
    return {
        "kernel": three(kernel, rank, 1),
        "stride": three(stride if stride else kernel, rank, 1),
        "padding": three(padding, rank, 0),
        "dilation": three(dilation, rank, 1),
    }


def _batched(x: Value, rank: int) -> Value:
    if len(x.shape) != rank + 2:
        raise NotCovered("its input has no batch axis")
    return x


def _max_pool(rank: int) -> Handler:
    def handler(
        call: Call,
        self: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: bool,
    ) -> Value:
        x = _batched(map_of(self), rank)
        windows = _windows(x, kernel_size, stride, padding, dilation)
        return call.add("pool", {"in": x}, maximum=True, exclude=False, **windows)

    return handler


def _max_pool_with_indices(rank: int) -> Handler:
    plain = _max_pool(rank)

    def handler(call: Call, **arguments: Any) -> tuple[Value, Value]:
        value = plain(call, **arguments)
        indices = Value(value.shape, native=False, indices=True)
        call.layers[-1].outputs["indices"] = indices
        return value, indices

    return handler


def _avg_pool(rank: int) -> Handler:
    def handler(
        call: Call,
        self: Any,
        kernel_size: Any,
        stride: Any,
        padding: Any,
        ceil_mode: bool,
        count_include_pad: bool,
        divisor_override: Any = None,  # not in 1D
    ) -> Value:
        x = _batched(map_of(self), rank)
        windows = _windows(x, kernel_size, stride, padding, 1)
        padded = any(windows["padding"])
        if divisor_override is not None or (ceil_mode and padded):
            raise NotCovered("average pooling with a divisor of its own")
        exclude = ceil_mode or (padded and not count_include_pad)
        return call.add("pool", {"in": x}, maximum=False, exclude=exclude, **windows)

    return handler


for _rank in (1, 2, 3):
    HANDLERS[f"max_pool{_rank}d"] = _max_pool(_rank)
    HANDLERS[f"max_pool{_rank}d_with_indices"] = _max_pool_with_indices(_rank)
    HANDLERS[f"avg_pool{_rank}d"] = _avg_pool(_rank)


@handles("max_unpool2d", "max_unpool3d")
def _max_unpool(call: Call, self: Any, indices: Any, output_size: Any, **_: Any) -> Value:
    x = map_of(self)
    if not (isinstance(indices, Value) and indices.indices):
        raise NotCovered("its indices do not come from a pooling")
    source = next(layer for layer in call.layers if indices in layer.outputs.values())
    side_by_side = (
        source["kernel"] == source["stride"]
        and source["dilation"] == (1, 1, 1)
        and not any(source["padding"])
        and indices.shape == x.shape
        and source.inputs["in"].size == Value(call.shapes[0]).size
    )
    if not side_by_side:
        raise NotCovered("its indices come from windows that overlap, or of another map")
    return call.add("unpool", {"in": x, "indices": indices}, step=source["stride"])


@handles(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
)
def _adaptive(call: Call, self: Any, output_size: Any) -> Value:
    x = map_of(self)
    if len(x.shape) < 3 or len(call.shapes[0]) != len(x.shape):
        raise NotCovered("its input has no batch axis")
    return call.add("means", {"in": x})


@handles("mean")
def _mean(call: Call, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if isinstance(self, Stack):
        axes = [int(d) for d in dim or ()]
        if axes not in ([0], [-len(self.values[0].shape) - 1]) or keepdim:
            raise NotCovered("a mean of stacked maps")
        total = self.values[0]
        for value in self.values[1:]:
            total = pointwise(call, total, second=value, **{"with": "add"})
        return pointwise(call, total, **uniform(total, 1 / len(self.values)))
    x = map_of(self)
    space = list(range(2, len(x.shape)))
    if dim is None or dtype is not None or sorted(d % len(x.shape) for d in dim) != space:
        raise NotCovered("a mean over other axes than those of space")
    means = call.add("means", {"in": x})
    means.shape = (*x.shape[:2], *(1,) * len(space))
    return means if keepdim else Value(x.shape[:2], base=means)


class Stack:
    """Maps in a new first axis, of which only the mean is wanted."""

    def __init__(self, values: Sequence[Value]) -> None:
        self.values = list(values)


@handles("stack")
def _stack(call: Call, tensors: Any, dim: int = 0) -> Any:
    whole(*(map_of(each) for each in tensors))
    for user in call.node.users:
        schema: Any = getattr(user.target, "_schema", None)
        axes: Any = user.args[1:]
        if schema is None or schema.name != "aten::mean" or dim != 0 or axes != ([0],):
            raise NotCovered("stacked maps")
    return Stack(tensors)


@handles("cat")
def _cat(call: Call, tensors: Any, dim: int = 0) -> Value:
    maps = [map_of(each) for each in tensors]
    if dim % len(maps[0].shape) != 1:
        raise NotCovered("a concatenation along another axis than channels")
    return call.add("cat", {str(i): each for i, each in enumerate(maps)})


@handles("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _linear_resize(
    call: Call, input: Any = None, align_corners: bool = False, **options: Any
) -> Value:
    x = map_of(options.get("self", input))
    return call.add("resize", {"in": x}, align_corners=align_corners, scales=_scales(x, options))


def _scales(x: Value, options: dict[str, Any]) -> list[float | None]:
    """Factors that the caller gave, which count more than the sizes; one for each of 3 axes."""
    given = options.get("scale_factors")
    if given is None:
        return [None] * 3
    return [None] * (3 - len(given)) + [float(each) for each in given]


@handles("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(call: Call, input: Any = None, **options: Any) -> Value:
    x = map_of(options.get("self", input))
    size = Value(call.shapes[0]).size
    maps = []
    for inputs, outputs, factor in zip(x.size, size, _scales(x, options), strict=True):
        # In two dimensions torch looks at the sizes first.
        exact = len(x.shape) == 4 and outputs in (inputs, 2 * inputs)
        step = np.float32(1 / factor if factor and not exact else inputs / outputs)
        at = np.floor(np.arange(outputs, dtype=np.float32) * step).astype(np.int64)
        maps.append(np.minimum(at, inputs - 1))
    return call.add("gather", {"in": x}, maps=maps, fill=0.0)


@handles("pad", "constant_pad_nd")
def _pad(call: Call, self: Any, pad: Any, mode: str = "constant", value: Any = None) -> Value:
    x = map_of(self)
    rank = len(x.shape) - 2
    if len(pad) > 2 * rank:
        raise NotCovered("padding of channels")
    maps = []
    pairs = [(int(pad[2 * i]), int(pad[2 * i + 1])) for i in range(len(pad) // 2)]
    pairs = [*[(0, 0)] * (3 - len(pairs)), *reversed(pairs)]
    for n, (before, after) in zip(x.size, pairs, strict=True):
        at = np.arange(-before, n + after)
        if mode == "constant":
            at[(at < 0) | (at >= n)] = -1
        elif mode == "replicate":
            at = at.clip(0, n - 1)
        elif mode == "reflect":
            at = n - 1 - np.abs(n - 1 - np.abs(at))
        else:
            at %= n
        maps.append(at)
    fill = float(value or 0)
    zeros = pairs if mode == "constant" and fill == 0 else None
    return call.add("gather", {"in": x}, maps=maps, fill=fill, zeros=zeros)


@handles("slice")
def _slice(call: Call, self: Any, dim: int, start: Any, end: Any, step: int = 1) -> Value:
    x = map_of(self)
    whole(x)
    if call.shapes[0] == x.shape and step > 0:
        return x
    if step != 1:
        raise NotCovered("a slice with steps")
    axis = dim % len(x.shape)
    n = x.shape[axis]
    first = 0 if start is None else min(max(start + n if start < 0 else start, 0), n)
    return _from(call, x, axis, first)


@handles("narrow")
def _narrow(call: Call, self: Any, dim: int, start: Any, length: int) -> Value:
    x = map_of(self)
    whole(x)
    if call.shapes[0] == x.shape:
        return x
    axis = dim % len(x.shape)
    if not isinstance(start, int):
        raise NotCovered("its start is no number")
    return _from(call, x, axis, start % x.shape[axis])


def _from(call: Call, x: Value, axis: int, first: int) -> Value:
    """The part of `x` from `first` on."""
    place = axis if axis < 2 else axis + 5 - len(x.shape)
    at = tuple(first if i == place else 0 for i in range(5))
    return Value(call.shapes[0], base=x, start=at)


@handles("alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "lift_fresh_copy")
def same(call: Call, **arguments: Any) -> Any:
    if arguments.get("train"):
        raise NotCovered("dropout that is active")
    return next(iter(arguments.values()))


@handles("flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze")
def plain_reshape(call: Call, self: Any, **_: Any) -> Value:
    x, shape = map_of(self), call.shapes[0]
    whole(x)
    if shape == x.shape:
        return x
    if len(shape) < 2 or shape[0] != x.batch:
        raise NotCovered("a reshape that is no flattening")
    if shape[1] == x.channels and x.count == x.batch * x.channels:
        return Value(shape, base=x)
    if len(shape) == 2:
        return Value(shape, base=x, flat=True)
    raise NotCovered("a reshape that is no flattening")
