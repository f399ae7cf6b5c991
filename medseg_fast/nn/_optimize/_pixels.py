"""Calls of ATen on single pixels: norms, activations, arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from medseg_fast.nn._optimize._calls import (
    HANDLERS,
    Array,
    Call,
    Handler,
    NotCovered,
    constant,
    handles,
    map_of,
    whole,
)
from medseg_fast.nn._optimize._graph import Value


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


@handles("_native_batch_norm_legit_no_training")
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
    return pointwise(call, map_of(input), scale=scale, shift=shift), None, None


@handles("batch_norm")
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
    return pointwise(call, map_of(input), scale=scale, shift=shift)


def _affine(weight: Any, bias: Any, mean: Any, variance: Any, eps: float) -> tuple[Array, Array]:
    scale = 1 / np.sqrt(constant(variance, "running_var").astype(np.float64) + eps)
    if weight is not None:
        scale = scale * constant(weight, "weight")
    shift = -constant(mean, "running_mean") * scale
    if bias is not None:
        shift = shift + constant(bias, "bias")
    return scale, shift


@handles("instance_norm")
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
    x = map_of(input)
    if not use_input_stats:
        scale, shift = _affine(weight, bias, running_mean, running_var, eps)
        return pointwise(call, x, scale=scale, shift=shift)
    return _normalised(call, x, x.channels, weight, bias, eps)


@handles("group_norm")
def _group_norm(
    call: Call,
    input: Any,
    num_groups: int,
    weight: Any,
    bias: Any,
    eps: float,
    cudnn_enabled: bool,
) -> Value:
    return _normalised(call, map_of(input), num_groups, weight, bias, eps)


@handles("native_group_norm")
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
    return _normalised(call, map_of(input), group, weight, bias, eps), None, None


def _normalised(call: Call, x: Value, groups: int, weight: Any, bias: Any, eps: float) -> Value:
    scale = np.ones(x.channels) if weight is None else constant(weight, "weight")
    shift = np.zeros(x.channels) if bias is None else constant(bias, "bias")
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


def _activation(name: str, **fixed: Any) -> Handler:
    def handler(call: Call, self: Any, **_: Any) -> Value:
        return pointwise(call, map_of(self), activation=name, **fixed)

    return handler


HANDLERS["relu"] = _activation("relu")
HANDLERS["sigmoid"] = _activation("sigmoid")
HANDLERS["silu"] = _activation("silu")
HANDLERS["tanh"] = _activation("tanh", a=1.0, b=1.0)
HANDLERS["relu6"] = _activation("clamp", a=0.0, b=6.0)


@handles("leaky_relu")
def _leaky_relu(call: Call, self: Any, negative_slope: float) -> Value:
    return pointwise(call, map_of(self), activation="leaky_relu", a=float(negative_slope))


@handles("elu")
def _elu(call: Call, self: Any, alpha: float, scale: float, input_scale: float) -> Value:
    if scale != 1 or input_scale != 1:
        raise NotCovered("scaled ELU")
    return pointwise(call, map_of(self), activation="elu", a=float(alpha))


@handles("hardtanh")
def _hardtanh(call: Call, self: Any, min_val: float, max_val: float) -> Value:
    return pointwise(call, map_of(self), activation="clamp", a=float(min_val), b=float(max_val))


@handles("clamp")
def _clamp(call: Call, self: Any, min: Any, max: Any) -> Value:
    if isinstance(min, (Value, Tensor)) or isinstance(max, (Value, Tensor)):
        raise NotCovered("bounds are tensors")
    low = -np.inf if min is None else float(min)
    high = np.inf if max is None else float(max)
    return pointwise(call, map_of(self), activation="clamp", a=low, b=high)


@handles("hardsigmoid")
def _hardsigmoid(call: Call, self: Any) -> Value:
    x = map_of(self)
    scale, shift = np.full(x.channels, 1 / 6), np.full(x.channels, 0.5)
    return pointwise(call, x, scale=scale, shift=shift, activation="clamp", a=0.0, b=1.0)


@handles("hardswish")
def _hardswish(call: Call, self: Any) -> Value:
    gate = _hardsigmoid(call, self)
    return pointwise(call, gate, second=map_of(self), **{"with": "multiply"})


@handles("prelu", "_prelu_kernel")
def _prelu(call: Call, self: Any, weight: Any) -> Value:
    x = map_of(self)
    slopes = np.broadcast_to(constant(weight, "weight").reshape(-1), (x.channels,))
    return pointwise(call, x, activation="prelu", slopes=slopes)


@handles("softmax", "_softmax")
def _softmax(call: Call, self: Any, dim: int, **_: Any) -> Value:
    x = map_of(self)
    if dim % len(x.shape) != 1:
        raise NotCovered("softmax over another axis than channels")
    return call.add("softmax", {"in": x})


@handles("add")
def _add(call: Call, self: Any, other: Any, alpha: float = 1) -> Value:
    return _sum(call, self, other, 1.0, float(alpha))


@handles("sub")
def _sub(call: Call, self: Any, other: Any, alpha: float = 1) -> Value:
    return _sum(call, self, other, 1.0, -float(alpha))


@handles("rsub")
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
    scaled = {} if by_a == 1 else uniform(a, by_a)
    return pointwise(call, a, second=_broadcast(call, a, b), **scaled, **{"with": "add"})


def uniform(x: Value, factor: float) -> dict[str, Any]:
    return {"scale": np.full(x.channels, factor), "shift": np.zeros(x.channels)}


@handles("mul")
def _mul(call: Call, self: Any, other: Any) -> Value:
    a, b = (self, other) if isinstance(self, Value) else (other, self)
    if isinstance(b, Value):
        if a.shape != call.shapes[0]:
            a, b = b, a
        return pointwise(call, a, second=_broadcast(call, a, b), **{"with": "multiply"})
    scale = _per_channel(call, a, b)
    return pointwise(call, a, scale=scale, shift=np.zeros(len(scale)))


@handles("div")
def _div(call: Call, self: Any, other: Any, rounding_mode: Any = None) -> Value:
    if isinstance(other, Value) or rounding_mode is not None:
        raise NotCovered("a quotient of maps")
    x = map_of(self)
    scale = 1 / _per_channel(call, x, other)
    return pointwise(call, x, scale=scale, shift=np.zeros(len(scale)))


def _per_channel(call: Call, x: Value, operand: Any) -> Array:
    """A constant operand as one number a channel."""
    if not x.native or x.shape != call.shapes[0]:
        raise NotCovered("the constant is larger than the map")
    if isinstance(operand, (int, float)):
        return np.full(x.channels, float(operand))
    array = constant(operand, "the operand").astype(np.float64)
    shape = (1,) * (len(x.shape) - array.ndim) + array.shape
    if any(n != 1 for i, n in enumerate(shape) if i != 1):
        raise NotCovered("a constant that differs from pixel to pixel")
    return np.broadcast_to(array.reshape(-1), (x.channels,)).copy()


def _broadcast(call: Call, a: Value, b: Value) -> Value:
    """The second map, which may be one number a channel or one a pixel."""
    whole(a, b)
    fits = len(a.shape) == len(b.shape) and all(
        n in (1, m) for m, n in zip(a.shape, b.shape, strict=True)
    )
    if a.shape != call.shapes[0] or not fits:
        raise NotCovered(f"shapes {a.shape} and {b.shape}")
    return b
