"""From a `Graph` to the steps of `core.plan`: every layer on views of memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast.nn._optimize._bands import in_bands
from medseg_fast.nn._optimize._graph import Graph, Layer, Size3, Value
from medseg_fast.nn._optimize._memory import Placement
from medseg_fast.nn._optimize._rewrite import (
    batch_as_pixels,
    floats,
    phase_of,
    phases_of,
)
from medseg_fast.nn._optimize._views import View, part_of, stretched, view_of

# In the order of csrc/convolution.hpp and csrc/plan_layers.hpp.
_ACTIVATIONS = (
    "none",
    "relu",
    "leaky_relu",
    "elu",
    "sigmoid",
    "tanh",
    "clamp",
    "prelu",
    "silu",
)
_SECOND = ("none", "add", "multiply")
_POOLINGS = (None, "max", "avg")
_PHASE_CHANNELS = 32  # phases go together if they have a multiple: see csrc/convolution.hpp
ALGORITHMS = (
    "automatic",
    "direct",
    "winograd 2x2",
    "winograd 4x4",
    "tiles",
    "pairs",
    "fixed",
    "lines",
    "fixed 6x6",
)
_GROUP_CHANNELS = 16  # channels of grouped convolutions that are done together
_OF_PIXELS = ((1, 1, 1), (0, 0, 0), (0, 0, 0))  # stride, zeros before and after


@dataclass
class Step:
    """One call of `core.plan`; arrays among the arguments are weights.

    Attributes
    ----------
    call : str
        Method of the plan; "torch" for what torch does.
    arguments : list
    name, text : str
        Module, and what is done, for people.
    bytes, shape : int, tuple of int
        Of its results, and of the first one.
    """

    call: str
    arguments: list[Any]
    name: str
    text: str
    bytes: int = 0
    shape: tuple[int, ...] = ()
    layer: Layer | None = field(default=None, compare=False)


@dataclass
class Lowered:
    """All steps and how much memory they need."""

    steps: list[Step]
    arena_bytes: int
    naive_bytes: int
    placement: Placement


def lower(graph: Graph, narrow: bool, *, bands: bool = True) -> Lowered:
    """The steps, in order; `narrow`: maps between layers are bfloat16; `bands`: see `_bands`."""
    placement = Placement(graph, 2 if narrow else 4)
    tiles = narrow and bool(core.have_tiles())
    if bands:
        in_bands(graph, placement, phases=not tiles)
    for layer in graph.layers:
        for value in (*layer.inputs.values(), *layer.outputs.values()):
            if value.root.native or value.root.indices:
                placement.home(value.root)
    arena_bytes = placement.arrange()
    lowering = _Lowering(placement, narrow, tiles)
    steps = [step for layer in graph.layers for step in lowering.steps(layer)]
    return Lowered(steps, arena_bytes, placement.naive_bytes(), placement)


class _Lowering:
    def __init__(self, placement: Placement, narrow: bool, tiles: bool) -> None:
        self.placement, self.narrow, self.tiles = placement, narrow, tiles

    def view(self, value: Value) -> View:
        return view_of(self.placement, value, self.narrow)

    def steps(self, layer: Layer) -> Iterator[Step]:
        """Those of one layer."""
        if layer.kind == "torch":
            text = str(layer.attributes.get("op", ""))
            shape = layer.outputs["out"].shape
            yield Step("torch", [], layer.name, text, self._bytes(layer), shape, layer)
            return
        count, shape = self._bytes(layer), next(iter(layer.outputs.values())).shape
        for call, arguments, text in getattr(self, f"_{layer.kind}")(layer):
            yield Step(call, arguments, layer.name, text, count, shape)
            count = 0

    def _bytes(self, layer: Layer) -> int:
        own = self.placement
        return sum(
            value.count * own.home(value.root)[0].item
            for value in layer.outputs.values()
            if value.root.native or value.indices
        )

    # ---- convolutions --------------------------------------------------------------------------

    def _conv(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        outputs = layer.outputs
        maps = [self.view(value) for value in layer.inputs.values()]
        whole = maps[0]
        full = self.view(outputs["out"]) if "out" in outputs else None
        pooled = self.view(outputs["pooled"]) if "pooled" in outputs else None
        indices = self.view(outputs["indices"]) if "indices" in outputs else None
        groups = layer["groups"]
        weight, bias = floats(layer["weight"]), _bias(layer)
        if len(maps) > 1:
            yield self._one(layer, weight, bias, maps, full, pooled, indices)
            return
        if groups == 1 and full is not None and pooled is None:
            joined = batch_as_pixels(layer, whole, full, weight)
            if joined is not None:
                source, target, flat = joined
                yield self._one(layer, flat, bias, [source], target, None, indices, _OF_PIXELS)
                return
        if groups == 1:
            parts: list[tuple[View, View | None, tuple[Size3, Size3, Size3] | None]]
            parts = [(whole, full, None)]
            if full is not None and pooled is None and not self.tiles:
                phases = phases_of(layer, whole[5], full[5])
                parts = [(read.of(whole), write.of(full), s) for read, write, s in phases] or parts
            for source, output, sizes in parts:
                yield self._one(layer, weight, bias, [source], output, pooled, indices, sizes)
            return
        assert full is not None
        # Some groups together, with zeros for the inputs of the others.
        outs, ins = len(weight) // groups, weight.shape[1]
        together = max(1, min(groups, _GROUP_CHANNELS // ins))
        for g in range(0, groups, together):
            count = min(together, groups - g)
            block = np.zeros((count * outs, count * ins, *weight.shape[2:]), np.float32)
            for i in range(count):
                rows = slice(i * outs, (i + 1) * outs)
                block[rows, i * ins : (i + 1) * ins] = weight[(g + i) * outs : (g + i + 1) * outs]
            part = bias[g * outs : (g + count) * outs]
            source = part_of(whole, channels=(g * ins, count * ins))
            target = part_of(full, channels=(g * outs, count * outs))
            yield self._one(layer, block, part, [source], target, None, None)

    def _one(
        self,
        layer: Layer,
        weight: NDArray[Any],
        bias: NDArray[Any],
        source: list[View],
        full: View | None,
        pooled: View | None,
        indices: View | None,
        sizes: tuple[Size3, Size3, Size3] | None = None,
        phases: Sequence[int] = (),
    ) -> tuple[str, list[Any], str]:
        """A call of the convolution, on the channels of all maps of `source`.

        `sizes`: stride, zeros before and after if not the layer's.
        `phases`: where the channels beyond those of `full` go, as in csrc/convolution.hpp.
        """
        channels = (weight.shape[1], weight.shape[0])
        stride, before, after = sizes or (layer["stride"], layer["before"], layer["after"])
        dilation = layer.attributes.get("dilation", (1, 1, 1))
        if sizes is not None:  # rows and columns of a phase are neighbours
            dilation = (dilation[0], 1, 1)
        pool, window = layer["pool"] or (None, (1, 1, 1))
        kernel = tuple(weight.shape[2:])
        geometry = (kernel, stride, before, after, dilation, window)
        algorithm = int(
            core.convolution_algorithm(channels, geometry, source[0][5], self.narrow, False)
        )
        arguments = [
            channels,
            geometry,
            _ACTIVATIONS.index(layer["activation"]),
            float(layer["slope"]),
            _POOLINGS.index(pool),
            algorithm,
            weight,
            bias,
            source,
            full,
            pooled,
            indices,
            list(phases),
        ]
        text = f"convolution {'x'.join(map(str, kernel if kernel[0] > 1 else kernel[1:]))}"
        text += "" if layer["activation"] == "none" else f" + {layer['activation']}"
        text += f" + {pool} pool" if pool else ""
        text += " with indices" if indices else ""
        return "convolution", arguments, f"{text}, {ALGORITHMS[algorithm]}"

    def _transposed(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        """A convolution for every phase of the stride, which writes every so many pixels."""
        source, target = self.view(layer.inputs["in"]), self.view(layer.outputs["out"])
        weight, bias = layer["weight"].swapaxes(0, 1), _bias(layer)
        stride, padding = layer["stride"], layer["padding"]
        # Of all phases with the same zeros around the same inputs: weights, and where outputs go.
        alike: dict[tuple[Any, ...], tuple[list[NDArray[Any]], list[View]]] = {}
        for phase in np.ndindex(*stride):
            axes = [
                phase_of(i, k, s, p, n, m)
                for i, k, s, p, n, m in zip(
                    phase, weight.shape[2:], stride, padding, source[5], target[5], strict=True
                )
            ]
            if any(axis.count < 1 for axis in axes):
                continue
            taps = np.ix_(
                range(weight.shape[0]), range(weight.shape[1]), *(axis.taps for axis in axes)
            )
            places = part_of(
                target,
                start=tuple(int(i) for i in phase),  # type: ignore[arg-type]
                size=tuple(axis.count for axis in axes),  # type: ignore[arg-type]
                step=stride,
            )
            key = tuple((a.begin, a.inputs, a.before, a.after, len(a.taps)) for a in axes)
            if weight.shape[0] % _PHASE_CHANNELS:  # each on its own
                key = (*key, phase)
            weights, outputs = alike.setdefault(key, ([], []))
            weights.append(weight[taps])
            outputs.append(places)
        for key, (weights, outputs) in alike.items():
            begins, inputs, before, after, _ = zip(*key[:3], strict=True)
            part, first = part_of(source, start=begins, size=inputs), outputs[0]
            item = 2 if first[2] else 4
            call, arguments, text = self._one(
                layer,
                np.concatenate(weights),
                np.tile(bias, len(weights)),
                [part],
                first,
                None,
                None,
                ((1, 1, 1), before, after),
                [(each[1] - first[1]) // item for each in outputs] if len(outputs) > 1 else (),
            )
            yield call, arguments, f"transposed {text}"

    # ---- the others ----------------------------------------------------------------------------

    def _spec(self, layer: Layer) -> tuple[Any, ...]:
        return (
            _listed(layer["scale"]),
            _listed(layer["shift"]),
            _listed(layer["slopes"]),
            _SECOND.index(layer["with"]),
            _ACTIVATIONS.index(layer["activation"]),
            float(layer["a"]),
            float(layer["b"]),
        )

    def _pointwise(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        source = self.view(layer.inputs["in"])
        second = None
        if "second" in layer.inputs:
            second = stretched(self.view(layer.inputs["second"]), source)
        words = [
            "scale" if layer["scale"] is not None else "",
            layer["with"] if layer["with"] != "none" else "",
            layer["activation"] if layer["activation"] != "none" else "",
        ]
        text = " + ".join(word for word in words if word) or "copy"
        target = self.view(layer.outputs["out"])
        yield "pointwise", [self._spec(layer), source, second, target], text

    def _norm(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        after = {**layer.attributes, "with": "none"}
        spec = self._spec(Layer("pointwise", layer.name, {}, {}, after))
        text = "norm" + ("" if layer["activation"] == "none" else f" + {layer['activation']}")
        views = [self.view(layer.inputs["in"]), self.view(layer.outputs["out"])]
        yield "normalise", [layer["groups"], float(layer["eps"]), spec, *views], text

    def _pool(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        sizes = tuple(layer[key] for key in ("kernel", "stride", "padding", "dilation"))
        outputs = layer.outputs
        indices = self.view(outputs["indices"]) if "indices" in outputs else None
        views = [self.view(layer.inputs["in"]), self.view(outputs["out"]), indices]
        text = f"{'max' if layer['maximum'] else 'avg'} pool"
        yield "pool", [sizes, layer["maximum"], layer["exclude"], *views], text

    def _unpool(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        indices = self.view(layer.inputs["indices"])
        views = [self.view(layer.inputs["in"]), indices, self.view(layer.outputs["out"])]
        yield "unpool", [layer["step"], *views], "max unpool"

    def _resize(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        source, target = layer.inputs["in"], layer.outputs["out"]
        axes = [
            _stretch(n, m, scale, layer["align_corners"])
            for n, m, scale in zip(source.size, target.size, layer["scales"], strict=True)
        ]
        yield "resize", [axes, self.view(source), self.view(target)], "linear interpolation"

    def _gather(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        maps = [[] if each is None else list(map(int, each)) for each in layer["maps"]]
        views = [self.view(layer.inputs["in"]), self.view(layer.outputs["out"])]
        text = "copy" if not any(maps) else "gather pixels"
        yield "gather", [maps, float(layer["fill"]), *views], text

    def _means(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        views = [self.view(layer.inputs["in"]), self.view(layer.outputs["out"])]
        yield "adaptive_means", views, "adaptive means"

    def _attention(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        roles = [layer.inputs[role] for role in ("in", "keys", "values")]
        views = [self.view(value) for value in (*roles, layer.outputs["out"])]
        text = f"attention, {layer['heads']} heads"
        yield "attention", [layer["heads"], layer["scale"], *views], text

    def _softmax(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        views = [self.view(layer.inputs["in"]), self.view(layer.outputs["out"])]
        yield "softmax", views, "softmax"


def _bias(layer: Layer) -> NDArray[np.float32]:
    axis = 0 if layer.kind == "conv" else 1
    bias = layer["bias"]
    return floats(np.zeros(layer["weight"].shape[axis]) if bias is None else bias)


def _stretch(
    inputs: int, outputs: int, scale: float | None, align_corners: bool
) -> tuple[list[int], list[int], list[float]]:
    """Between which inputs an output lies, as torch has it, in float32."""
    o = np.arange(outputs, dtype=np.float32)
    if inputs == outputs:
        at = o
    elif align_corners:
        at = o * np.float32((inputs - 1) / (outputs - 1) if outputs > 1 else 0)
    else:
        step = np.float32(1 / scale if scale else inputs / outputs)
        at = np.maximum((o + np.float32(0.5)) * step - np.float32(0.5), np.float32(0))
    low = np.minimum(at.astype(np.int64), inputs - 1)
    far = np.clip(at - low.astype(np.float32), 0, 1)
    high = np.minimum(low + 1, inputs - 1)
    return low.tolist(), high.tolist(), far.tolist()


def _listed(values: Any) -> list[float]:
    return [] if values is None else np.asarray(values, np.float32).tolist()
