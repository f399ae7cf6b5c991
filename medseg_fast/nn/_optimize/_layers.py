"""Which calls of ATen become layers of a `Graph`, and how.

A handler gets the call's arguments under their names in ATen's schema (tensors that are constant as
tensors, others as values) and returns the resulting value or values, or raises `NotCovered`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from medseg_fast.nn._optimize._graph import Layer, Value, three

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
        _whole(value, *inputs.values())
        self.layers.append(Layer(kind, self.name, inputs, {"out": value}, attributes))
        return value


Handler = Callable[..., Any]
HANDLERS: dict[str, Handler] = {}


def _handles(*names: str) -> Callable[[Handler], Handler]:
    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def _whole(*values: Value) -> None:
    for value in values:
        if value.flat:
            raise NotCovered("its input is a flattened map")
        if not 2 <= len(value.shape) <= 5 or 0 in value.shape:
            raise NotCovered(f"shape {value.shape} is no feature map")


def _map(value: Any, name: str = "input") -> Value:
    if not isinstance(value, Value):
        raise NotCovered(f"{name} is constant")
    return value


def _array(value: Any, name: str) -> Array:
    if not isinstance(value, Tensor):
        raise NotCovered(f"{name} is not constant")
    if not value.is_floating_point():
        raise NotCovered(f"{name} is no float")
    return value.detach().cpu().float().contiguous().numpy()


def _optional(value: Any, name: str) -> Array | None:
    return None if value is None else _array(value, name)


# ---- convolutions ------------------------------------------------------------------------------


@_handles("conv1d", "conv2d", "conv3d")
def _convolution(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> Value:
    x, kernel = _map(input), _array(weight, "weight")
    rank = kernel.ndim - 2
    if len(x.shape) != rank + 2:
        raise NotCovered("its input has no batch axis")
    spread = three(dilation, rank, 1)
    kernel = kernel.reshape(*kernel.shape[:2], *(1,) * (3 - rank), *kernel.shape[2:])
    if isinstance(padding, str):
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(spread, kernel.shape[2:])]  # noqa: B905
        before = tuple(n // 2 for n in total)
        after = tuple(n - b for n, b in zip(total, before, strict=True))
    else:
        before = after = three(padding, rank, 0)
    return call.add(
        "conv",
        {"in": x},
        weight=kernel,
        bias=_optional(bias, "bias"),
        stride=three(stride, rank, 1),
        before=before,
        after=after,
        dilation=spread,
        groups=groups,
        activation="none",
        slope=0.0,
        pool=None,
    )


@_handles("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Value:
    x, kernel = _map(input), _array(weight, "weight")
    rank = kernel.ndim - 2
    if len(x.shape) != rank + 2:
        raise NotCovered("its input has no batch axis")
    if three(dilation, rank, 1) != (1, 1, 1):
        raise NotCovered("dilated transposed convolution")
    kernel = kernel.reshape(*kernel.shape[:2], *(1,) * (3 - rank), *kernel.shape[2:])
    if groups > 1:  # one group, zeros between the others
        inputs, each = kernel.shape[:2]
        if inputs > 64:
            raise NotCovered("transposed convolution of many groups")
        full = np.zeros((inputs, each * groups, *kernel.shape[2:]), np.float32)
        for c in range(inputs):
            group = c // (inputs // groups)
            full[c, group * each : (group + 1) * each] = kernel[c]
        kernel = full
    steps = three(stride, rank, 1)
    if any(k < s for k, s in zip(kernel.shape[2:], steps, strict=True)):
        raise NotCovered("transposed convolution with gaps")
    return call.add(
        "transposed",
        {"in": x},
        weight=kernel,
        bias=_optional(bias, "bias"),
        stride=steps,
        padding=three(padding, rank, 0),
        activation="none",
        slope=0.0,
        pool=None,
        groups=1,
    )


@_handles("linear")
def _linear(call: Call, input: Any, weight: Any, bias: Any) -> Value:
    x, matrix = _map(input), _array(weight, "weight")
    if len(x.shape) != 2:
        raise NotCovered("a linear layer on more than (N, features)")
    if x.flat:
        assert x.base is not None
        x = x.base
        kernel = matrix.reshape(len(matrix), x.channels, *x.size)
    else:
        kernel = matrix.reshape(*matrix.shape, 1, 1, 1)
    value = Value(call.shapes[0])
    attributes = {
        "weight": np.ascontiguousarray(kernel),
        "bias": _optional(bias, "bias"),
        "stride": (1, 1, 1),
        "before": (0, 0, 0),
        "after": (0, 0, 0),
        "dilation": (1, 1, 1),
        "groups": 1,
        "activation": "none",
        "slope": 0.0,
        "pool": None,
    }
    call.layers.append(Layer("conv", call.name, {"in": x}, {"out": value}, attributes))
    return value


# ---- single pixels -----------------------------------------------------------------------------


def pointwise(
    call: Call,
    x: Value,
    *,
    second: Value | None = None,
    **attributes: Any,
) -> Value:
    """The activation of (x * scale + shift), a second map added or multiplied before it."""
    inputs = {"in": x} if second is None else {"in": x, "second": second}
    made = {
        "scale": None,
        "shift": None,
        "slopes": None,
        "with": "none",
        "activation": "none",
        "a": 0.0,
        "b": 0.0,
        **attributes,
    }
    return call.add("pointwise", inputs, **made)


@_handles("_native_batch_norm_legit_no_training")
def _batch_norm(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> tuple[Value, None, None]:
    scale, shift = _affine(weight, bias, running_mean, running_var, eps)
    return pointwise(call, _map(input), scale=scale, shift=shift), None, None


@_handles("batch_norm")
def _plain_batch_norm(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    if training or running_mean is None:
        raise NotCovered("batch norm by the batch's own statistics")
    scale, shift = _affine(weight, bias, running_mean, running_var, eps)
    return pointwise(call, _map(input), scale=scale, shift=shift)


def _affine(weight: Any, bias: Any, mean: Any, variance: Any, eps: float) -> tuple[Array, Array]:
    scale = 1 / np.sqrt(_array(variance, "running_var").astype(np.float64) + eps)
    if weight is not None:
        scale = scale * _array(weight, "weight")
    shift = -_array(mean, "running_mean") * scale
    if bias is not None:
        shift = shift + _array(bias, "bias")
    return scale, shift


@_handles("instance_norm")
def _instance_norm(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    x = _map(input)
    if not use_input_stats:
        scale, shift = _affine(weight, bias, running_mean, running_var, eps)
        return pointwise(call, x, scale=scale, shift=shift)
    return _normalised(call, x, x.channels, weight, bias, eps)


@_handles("group_norm")
def _group_norm(
    call: Call,
    input: Any,
    num_groups: int,
    weight: Any,
    bias: Any,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    return _normalised(call, _map(input), num_groups, weight, bias, eps)


@_handles("native_group_norm")
def _native_group_norm(
    call: Call,
    input: Any,
    weight: Any,
    bias: Any,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[Value, None, None]:
    return _normalised(call, _map(input), group, weight, bias, eps), None, None


def _normalised(
    call: Call, x: Value, groups: int, weight: Any, bias: Any, eps: float
) -> Value:
    scale = np.ones(x.channels) if weight is None else _array(weight, "weight")
    shift = np.zeros(x.channels) if bias is None else _array(bias, "bias")
    return call.add(
        "norm",
        {"in": x},
        groups=groups,
        eps=eps,
        scale=scale,
        shift=shift,
        slopes=None,
        activation="none",
        a=0.0,
        b=0.0,
        **{"with": "none"},
    )


def _activation(name: str, **fixed: float) -> Handler:
    def handler(call: Call, self: Any, **_: Any) -> Value:
        return pointwise(call, _map(self), activation=name, **fixed)

    return handler


HANDLERS["relu"] = _activation("relu")
HANDLERS["sigmoid"] = _activation("sigmoid")
HANDLERS["silu"] = _activation("silu")
HANDLERS["tanh"] = _activation("tanh", a=1.0, b=1.0)
HANDLERS["relu6"] = _activation("clamp", a=0.0, b=6.0)


@_handles("leaky_relu")
def _leaky_relu(call: Call, self: Any, negative_slope: float) -> Value:
    return pointwise(call, _map(self), activation="leaky_relu", a=float(negative_slope))


@_handles("elu")
def _elu(call: Call, self: Any, alpha: float, scale: float, input_scale: float) -> Value:
    if scale != 1 or input_scale != 1:
        raise NotCovered("scaled ELU")
    return pointwise(call, _map(self), activation="elu", a=float(alpha))


@_handles("hardtanh")
def _hardtanh(call: Call, self: Any, min_val: float, max_val: float) -> Value:
    return pointwise(call, _map(self), activation="clamp", a=float(min_val), b=float(max_val))


@_handles("clamp")
def _clamp(call: Call, self: Any, min: Any, max: Any) -> Value:
    if isinstance(min, (Value, Tensor)) or isinstance(max, (Value, Tensor)):
        raise NotCovered("bounds are tensors")
    low = -np.inf if min is None else float(min)
    high = np.inf if max is None else float(max)
    return pointwise(call, _map(self), activation="clamp", a=low, b=high)


@_handles("prelu", "_prelu_kernel")
def _prelu(call: Call, self: Any, weight: Any) -> Value:
    x = _map(self)
    slopes = np.broadcast_to(_array(weight, "weight").reshape(-1), (x.channels,))
    return pointwise(call, x, activation="prelu", slopes=slopes)


@_handles("softmax", "_softmax")
def _softmax(call: Call, self: Any, dim: int, **_: Any) -> Value:
    x = _map(self)
    if dim % len(x.shape) != 1:
        raise NotCovered("softmax over another axis than channels")
    return call.add("softmax", {"in": x})


@_handles("add")
def _add(call: Call, self: Any, other: Any, alpha: float = 1) -> Value:
    return _sum(call, self, other, 1.0, float(alpha))


@_handles("sub")
def _sub(call: Call, self: Any, other: Any, alpha: float = 1) -> Value:
    return _sum(call, self, other, 1.0, -float(alpha))


@_handles("rsub")
def _rsub(call: Call, self: Any, other: Any, alpha: float = 1) -> Value:
    return _sum(call, self, other, -float(alpha), 1.0)


def _sum(call: Call, a: Any, b: Any, by_a: float, by_b: float) -> Value:
    """a * by_a + b * by_b"""
    if not isinstance(a, Value):
        a, b, by_a, by_b = b, a, by_b, by_a
    if not isinstance(b, Value):
        shift = _per_channel(call, a, b) * by_b
        return pointwise(call, a, scale=np.full(len(shift), by_a), shift=shift)
    if by_b != 1 or a.shape != call.shapes[0]:
        a, b, by_a, by_b = b, a, by_b, by_a
    if by_b != 1:
        raise NotCovered("a scaled sum")
    scaled = {} if by_a == 1 else _uniform(a, by_a)
    return pointwise(call, a, second=_broadcast(call, a, b), **scaled, **{"with": "add"})


def _uniform(x: Value, factor: float) -> dict[str, Array]:
    return {"scale": np.full(x.channels, factor), "shift": np.zeros(x.channels)}


@_handles("mul")
def _mul(call: Call, self: Any, other: Any) -> Value:
    a, b = (self, other) if isinstance(self, Value) else (other, self)
    if isinstance(b, Value):
        if a.shape != call.shapes[0]:
            a, b = b, a
        return pointwise(call, a, second=_broadcast(call, a, b), **{"with": "multiply"})
    scale = _per_channel(call, a, b)
    return pointwise(call, a, scale=scale, shift=np.zeros(len(scale)))


@_handles("div")
def _div(call: Call, self: Any, other: Any, rounding_mode: Any = None) -> Value:
    if isinstance(other, Value) or rounding_mode is not None:
        raise NotCovered("a quotient of maps")
    x = _map(self)
    scale = 1 / _per_channel(call, x, other)
    return pointwise(call, x, scale=scale, shift=np.zeros(len(scale)))


def _per_channel(call: Call, x: Value, constant: Any) -> Array:
    """A constant operand as one number a channel."""
    if not x.native or x.shape != call.shapes[0]:
        raise NotCovered("the constant is larger than the map")
    if isinstance(constant, (int, float)):
        return np.full(x.channels, float(constant))
    array = _array(constant, "the operand").astype(np.float64)
    shape = (1,) * (len(x.shape) - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(shape) if i != 1):
        raise NotCovered("a constant that differs from pixel to pixel")
    return np.broadcast_to(array.reshape(-1), (x.channels,)).copy()


def _broadcast(call: Call, a: Value, b: Value) -> Value:
    """The second map, which may be one number a channel or one a pixel."""
    _whole(a, b)
    fits = len(a.shape) == len(b.shape) and all(
        n in (1, m) for m, n in zip(a.shape, b.shape, strict=True)
    )
    if a.shape != call.shapes[0] or not fits:
        raise NotCovered(f"shapes {a.shape} and {b.shape}")
    return b


# ---- several pixels ----------------------------------------------------------------------------


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
        x = _batched(_map(self), rank)
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
        divisor_override: Any,
    ) -> Value:
        x = _batched(_map(self), rank)
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


@_handles("max_unpool2d", "max_unpool3d")
def _max_unpool(call: Call, self: Any, indices: Any, output_size: Any, **_: Any) -> Value:
    x = _map(self)
    if not (isinstance(indices, Value) and indices.indices):
        raise NotCovered("its indices do not come from a pooling")
    source = next(
        layer for layer in call.layers if indices in layer.outputs.values()
    )
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


@_handles(
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d",
    "_adaptive_avg_pool3d",
)
def _adaptive(call: Call, self: Any, output_size: Any) -> Value:
    x = _map(self)
    if len(x.shape) < 3 or len(call.shapes[0]) != len(x.shape):
        raise NotCovered("its input has no batch axis")
    return call.add("means", {"in": x})


@_handles("mean")
def _mean(call: Call, self: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    if isinstance(self, Stack):
        axes = [int(d) for d in dim or ()]
        if axes not in ([0], [-len(self.values[0].shape) - 1]) or keepdim:
            raise NotCovered("a mean of stacked maps")
        total = self.values[0]
        for value in self.values[1:]:
            total = pointwise(call, total, second=value, **{"with": "add"})
        return pointwise(call, total, **_uniform(total, 1 / len(self.values)))
    x = _map(self)
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


@_handles("stack")
def _stack(call: Call, tensors: Any, dim: int = 0) -> Any:
    _whole(*(_map(each) for each in tensors))
    for user in call.node.users:
        if getattr(user.target, "_schema", None) is None or user.target._schema.name != "aten::mean":
            raise NotCovered("stacked maps")
        if [int(d) for d in user.args[1]] != [dim] or len(user.args) > 2 or dim != 0:
            raise NotCovered("stacked maps")
    return Stack(tensors)


@_handles("cat")
def _cat(call: Call, tensors: Any, dim: int = 0) -> Value:
    maps = [_map(each) for each in tensors]
    if dim % len(maps[0].shape) != 1:
        raise NotCovered("a concatenation along another axis than channels")
    return call.add("cat", {str(i): each for i, each in enumerate(maps)})


@_handles("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _linear_resize(
    call: Call, input: Any = None, align_corners: bool = False, **options: Any
) -> Value:
    x = _map(options.get("self", input))
    return call.add(
        "resize", {"in": x}, align_corners=align_corners, scales=_scales(x, options)
    )


def _scales(x: Value, options: dict[str, Any]) -> list[float | None]:
    """Factors that the caller gave, which count more than the sizes; one for each of 3 axes."""
    given = options.get("scale_factors")
    if given is None:
        return [None] * 3
    return [None] * (3 - len(given)) + [float(each) for each in given]


@_handles("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(call: Call, input: Any = None, **options: Any) -> Value:
    x = _map(options.get("self", input))
    size = Value(call.shapes[0]).size
    maps = []
    for inputs, outputs, factor in zip(x.size, size, _scales(x, options), strict=True):
        step = np.float32(1 / factor if factor else inputs / outputs)
        at = np.floor(np.arange(outputs, dtype=np.float32) * step).astype(np.int64)
        maps.append(np.minimum(at, inputs - 1))
    return call.add("gather", {"in": x}, maps=maps, fill=0.0)


@_handles("pad", "constant_pad_nd")
def _pad(call: Call, self: Any, pad: Any, mode: str = "constant", value: Any = None) -> Value:
    x = _map(self)
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


@_handles("slice")
def _slice(call: Call, self: Any, dim: int, start: Any, end: Any, step: int = 1) -> Value:
    x = _map(self)
    _whole(x)
    if call.shapes[0] == x.shape and step > 0:
        return x
    if step != 1:
        raise NotCovered("a slice with steps")
    axis = dim % len(x.shape)
    n = x.shape[axis]
    first = 0 if start is None else min(max(start + n if start < 0 else start, 0), n)
    return _from(call, x, axis, first)


@_handles("narrow")
def _narrow(call: Call, self: Any, dim: int, start: Any, length: int) -> Value:
    x = _map(self)
    _whole(x)
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


@_handles("alias", "clone", "contiguous", "detach", "dropout", "feature_dropout", "lift_fresh_copy")
def _same(call: Call, **arguments: Any) -> Any:
    if arguments.get("train"):
        raise NotCovered("dropout that is active")
    return next(iter(arguments.values()))


@_handles("flatten", "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze")
def _reshape(call: Call, self: Any, **_: Any) -> Value:
    x, shape = _map(self), call.shapes[0]
    _whole(x)
    if shape == x.shape:
        return x
    if len(shape) < 2 or shape[0] != x.batch:
        raise NotCovered("a reshape that is no flattening")
    if shape[1] == x.channels and x.count == x.batch * x.channels:
        return Value(shape, base=x)
    if len(shape) == 2:
        return Value(shape, base=x, flat=True)
    raise NotCovered("a reshape that is no flattening")
