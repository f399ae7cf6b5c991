"""Fewer layers with the same result: what a convolution does along with its sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.nn._optimize._graph import Graph, Layer, Value

# Activations that a convolution's kernel has.
_CONVOLUTION = ("relu", "leaky_relu", "elu", "sigmoid", "tanh")
_LARGEST_WINDOW = 3


def fuse(graph: Graph) -> None:
    """Fold padding and norms into convolutions, activations and poolings into what they follow."""
    _fold_zeros(graph)
    _follow(graph)
    _pool(graph)


class _Followed:
    """The graph's layers by what they make, while some disappear."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.uses = graph.uses()
        self.producers = graph.producers()

    def alone_before(self, value: Value) -> Layer | None:
        """The layer that makes this whole value, if nobody else uses it."""
        if value.base is not None or self.uses[value] != 1:
            return None
        return self.producers.get(value)

    def absorb(self, layer: Layer, into: Layer) -> None:
        """The result of `layer` becomes that of `into`."""
        self.graph.layers.remove(layer)
        into.outputs["out"] = layer.outputs["out"]
        self.producers[layer.outputs["out"]] = into


def _fold_zeros(graph: Graph) -> None:
    """Zeros around a map that only convolutions read: they pad."""
    producers = graph.producers()
    for layer in graph.layers:
        pad = producers.get(layer.inputs["in"]) if layer.kind == "conv" else None
        if pad is None or pad.kind != "gather" or pad.attributes.get("zeros") is None:
            continue
        if any(n < 0 for pair in pad["zeros"] for n in pair):
            continue
        layer.inputs["in"] = pad.inputs["in"]
        for i, key in enumerate(("before", "after")):
            pairs = zip(layer[key], pad["zeros"], strict=True)
            layer.attributes[key] = tuple(n + pair[i] for n, pair in pairs)
    uses = graph.uses()
    graph.layers = [
        layer for layer in graph.layers if layer.kind != "gather" or layer.outputs["out"] in uses
    ]


def _follow(graph: Graph) -> None:
    """Scales, shifts and activations into the layer before."""
    known = _Followed(graph)
    for layer in list(graph.layers):
        if layer.kind != "pointwise":
            continue
        before = known.alone_before(layer.inputs["in"])
        if before is None:
            continue
        if layer["with"] == "none":
            if before.kind in ("conv", "transposed"):
                if before["activation"] == "none" and before["pool"] is None:
                    _fold(layer, before)
                    if _activates(layer, before):
                        known.absorb(layer, before)
                elif _scaled_tanh(layer, before, "slope"):
                    known.absorb(layer, before)
            elif before.kind in ("pointwise", "norm"):
                if _joined(layer, before):
                    known.absorb(layer, before)


def _fold(layer: Layer, conv: Layer) -> None:
    """The scale and shift into the convolution's weight and bias."""
    scale, shift = layer["scale"], layer["shift"]
    if scale is None:
        return
    _scale(conv, np.asarray(scale, np.float64), shift)
    layer.attributes["scale"] = layer.attributes["shift"] = None


def _scale(conv: Layer, scale: NDArray[Any], shift: NDArray[Any]) -> None:
    weight, bias = conv["weight"], conv["bias"]
    shape = [1] * weight.ndim
    shape[0 if conv.kind == "conv" else 1] = -1
    scaled = weight * scale.reshape(shape)
    conv.attributes["weight"] = scaled.astype(np.float32)
    conv.attributes["bias"] = ((0 if bias is None else bias * scale) + shift).astype(np.float32)


def _activates(layer: Layer, conv: Layer) -> bool:
    """Gives the convolution this activation, if it has none and knows it."""
    name = layer["activation"]
    if name == "none":
        return True
    if name == "clamp" and layer["a"] == 0 and layer["b"] == np.inf:
        name = "relu"
    if name not in _CONVOLUTION:
        return False
    conv.attributes["activation"] = name
    conv.attributes["slope"] = layer["a"] if name in ("leaky_relu", "elu") else 0.0
    if name == "tanh":  # of a x, times b
        channels = conv["weight"].shape[0 if conv.kind == "conv" else 1]
        _scale(conv, np.full(channels, layer["a"]), np.zeros(channels))
        conv.attributes["slope"] = layer["b"]
    return True


def _scaled_tanh(layer: Layer, before: Layer, factor: str) -> bool:
    """Gives tanh's factor in `before` a scale that is the same for all channels."""
    scale, shift = layer["scale"], layer["shift"]
    if before["activation"] != "tanh" or layer["activation"] != "none" or scale is None:
        return False
    if before.attributes.get("pool") or shift.any() or (scale != scale[0]).any():
        return False
    before.attributes[factor] *= float(scale[0])
    return True


def _joined(layer: Layer, before: Layer) -> bool:
    """Gives what `layer` does to the one before, if that can do both."""
    scale, shift = layer["scale"], layer["shift"]
    if before["activation"] == "none" and scale is None:
        for key in ("activation", "a", "b", "slopes"):
            before.attributes[key] = layer[key]
        return True
    if scale is None or layer["activation"] != "none":
        if not (scale is not None and before["activation"] == "none" and before["with"] == "none"):
            return False
    if before["activation"] == "none" and before["with"] == "none":
        first: NDArray[Any] | None = before["scale"]
        before.attributes["scale"] = scale if first is None else first * scale
        offset = shift if first is None else before["shift"] * scale + shift
        before.attributes["shift"] = offset
        for key in ("activation", "a", "b", "slopes"):
            before.attributes[key] = layer[key]
        return True
    return _scaled_tanh(layer, before, "b")


def _pool(graph: Graph) -> None:
    """Poolings of windows side by side into the convolution before, which may keep its map, too."""
    uses, producers = graph.uses(), graph.producers()
    for layer in list(graph.layers):
        if layer.kind != "pool" or layer.inputs["in"].base is not None:
            continue
        value = layer.inputs["in"]
        conv = producers.get(value)
        if conv is None or conv.kind != "conv" or conv["pool"] is not None or conv["groups"] > 1:
            continue
        window, out = layer["kernel"], layer.outputs["out"]
        fits = (
            layer["stride"] == window
            and layer["dilation"] == (1, 1, 1)
            and not any(layer["padding"])
            and max(window) <= _LARGEST_WINDOW
            and all(n // k == m for n, k, m in zip(value.size, window, out.size, strict=True))
        )
        if not fits:
            continue
        conv.attributes["pool"] = ("max" if layer["maximum"] else "avg", window)
        conv.outputs["pooled"] = out
        if "indices" in layer.outputs:
            conv.outputs["indices"] = layer.outputs["indices"]
        if uses[value] == 1:
            del conv.outputs["out"]
        graph.layers.remove(layer)
        # It now comes earlier; nothing between can have used its result.
