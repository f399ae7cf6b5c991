"""Calls of ATen that are convolutions: plain, transposed, linear."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast.nn._optimize._calls import (
    Call,
    NotCovered,
    constant,
    handles,
    map_of,
    optional,
)
from medseg_fast.nn._optimize._graph import Layer, Value, three


@handles("conv1d", "conv2d", "conv3d")
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
    x, kernel = map_of(input), constant(weight, "weight")
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
        bias=optional(bias, "bias"),
        stride=three(stride, rank, 1),
        before=before,
        after=after,
        dilation=spread,
        groups=groups,
        activation="none",
        slope=0.0,
        pool=None,
    )


@handles("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
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
    x, kernel = map_of(input), constant(weight, "weight")
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
        bias=optional(bias, "bias"),
        stride=steps,
        padding=three(padding, rank, 0),
        activation="none",
        slope=0.0,
        pool=None,
        groups=1,
    )


@handles("linear")
def _linear(call: Call, input: Any, weight: Any, bias: Any) -> Value:
    x, matrix = map_of(input), constant(weight, "weight")
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
        "bias": optional(bias, "bias"),
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
