"""From a `Graph` to the steps of `core.plan`: every layer on views of memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast.nn._optimize._graph import Graph, Layer, Size3, Value
from medseg_fast.nn._optimize._memory import Placement

# In the order of csrc/convolution.hpp and csrc/plan_layers.hpp.
_ACTIVATIONS = (
    "none",
    "relu",
    "leaky_relu",
    "elu",
    "sigmoid",
    "clamp",
    "tanh",
    "prelu",
    "silu",
)
_SECOND = ("none", "add", "multiply")
_POOLINGS = (None, "max", "avg")
ALGORITHMS = ("automatic", "direct", "winograd 2x2", "winograd 4x4", "tiles")
_TILED = ALGORITHMS.index("tiles")
_LEAST_CHANNELS = 16  # for Winograd's algorithm, and AMX's tiles
_GROUP_CHANNELS = 16  # channels of grouped convolutions that are done together

View = tuple[Any, ...]


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


def lower(graph: Graph, narrow: bool) -> Lowered:
    """The steps, in order; `narrow`: maps between layers are bfloat16."""
    placement = Placement(graph, 2 if narrow else 4)
    for layer in graph.layers:
        for value in (*layer.inputs.values(), *layer.outputs.values()):
            if value.root.native or value.root.indices:
                placement.home(value.root)
    arena_bytes = placement.arrange()
    lowering = _Lowering(placement, narrow)
    steps = [step for layer in graph.layers for step in lowering.steps(layer)]
    return Lowered(steps, arena_bytes, placement.naive_bytes(), placement)


def view_of(placement: Placement, value: Value, narrow: bool = False) -> View:
    """Slot, bytes, whether bfloat16, batch, channels, size, batch, channel and pixel strides."""
    buffer, channel = placement.home(value.root)
    whole = buffer.value
    strides = [0, 0, 0]
    if buffer.planar:
        step = 1
        for a in (2, 1, 0):
            strides[a], step = step, step * whole.size[a]
        by_channel, by_batch = step, step * whole.channels
    else:
        step = whole.channels
        for a in (2, 1, 0):
            strides[a], step = step, step * whole.size[a]
        by_channel, by_batch = 1, step
    at = value.offset
    first = at[0] * by_batch + (at[1] + channel) * by_channel
    first += sum(n * s for n, s in zip(at[2:], strides, strict=True))
    narrow = narrow and buffer.slot == 0
    item = 8 if value.indices else 2 if narrow else 4
    return (
        buffer.slot,
        buffer.offset + first * item,
        narrow,
        value.batch,
        value.channels,
        value.size,
        by_batch,
        by_channel,
        tuple(strides),
    )


def _words(view: View) -> View:
    """Indices, as so many words of four bytes."""
    slot, offset, _, batch, channels, size, by_batch, by_channel, strides = view
    doubled = tuple(2 * s for s in strides)
    return (slot, offset, False, batch, 2 * channels, size, 2 * by_batch, by_channel, doubled)


def _part(
    view: View,
    *,
    channels: tuple[int, int] | None = None,
    start: Size3 = (0, 0, 0),
    size: Size3 | None = None,
    step: Size3 = (1, 1, 1),
) -> View:
    """Some channels (first, count) of a view, a box of it, every so many pixels."""
    slot, offset, narrow, batch, count, old, by_batch, by_channel, strides = view
    first, count = channels or (0, count)
    moved = first * by_channel + sum(n * s for n, s in zip(start, strides, strict=True))
    wide = tuple(n * s for n, s in zip(step, strides, strict=True))
    offset += moved * (2 if narrow else 4)
    return (slot, offset, narrow, batch, count, size or old, by_batch, by_channel, wide)


class _Lowering:
    def __init__(self, placement: Placement, narrow: bool) -> None:
        self.placement, self.narrow = placement, narrow
        # Builds without the kernels for AMX's tiles do not have the question either.
        self.tiles = narrow and bool(getattr(core, "have_tiles", bool)())

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
        whole = self.view(layer.inputs["in"])
        full = self.view(outputs["out"]) if "out" in outputs else None
        pooled = self.view(outputs["pooled"]) if "pooled" in outputs else None
        indices = _words(self.view(outputs["indices"])) if "indices" in outputs else None
        groups = layer["groups"]
        weight, bias = _floats(layer["weight"]), _bias(layer)
        if groups == 1 and full is not None and pooled is None:
            whole, full, weight = _batch_as_pixels(layer, whole, full, weight)
        if groups == 1:
            parts: list[tuple[View, View | None, tuple[Size3, Size3, Size3] | None]]
            parts = [(whole, full, None)]
            if full is not None and pooled is None and not self.tiles:
                parts = [*_phases_of(layer, whole, full)] or parts
            for source, output, sizes in parts:
                yield self._one(layer, weight, bias, source, output, pooled, indices, sizes)
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
            source = _part(whole, channels=(g * ins, count * ins))
            target = _part(full, channels=(g * outs, count * outs))
            yield self._one(layer, block, part, source, target, None, None)

    def _one(
        self,
        layer: Layer,
        weight: NDArray[Any],
        bias: NDArray[Any],
        source: View,
        full: View | None,
        pooled: View | None,
        indices: View | None,
        sizes: tuple[Size3, Size3, Size3] | None = None,
    ) -> tuple[str, list[Any], str]:
        """A call of the convolution; `sizes`: stride, zeros before and after if not the layer's."""
        channels = (weight.shape[1], weight.shape[0])
        stride, before, after = sizes or (layer["stride"], layer["before"], layer["after"])
        dilation = layer.attributes.get("dilation", (1, 1, 1))
        if sizes is not None:  # rows and columns of a phase are neighbours
            dilation = (dilation[0], 1, 1)
        pool, window = layer["pool"] or (None, (1, 1, 1))
        kernel = tuple(weight.shape[2:])
        geometry = (kernel, stride, before, after, dilation, window)
        if self.tiles and min(channels) >= _LEAST_CHANNELS:
            algorithm = _TILED
        else:
            algorithm = int(core.convolution_algorithm(channels, geometry, source[5]))
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
        for phase in np.ndindex(*stride):
            axes = [
                _phase(i, k, s, p, n, m)
                for i, k, s, p, n, m in zip(
                    phase, weight.shape[2:], stride, padding, source[5], target[5], strict=True
                )
            ]
            if any(axis.count < 1 for axis in axes):
                continue
            taps = np.ix_(
                range(weight.shape[0]), range(weight.shape[1]), *(axis.taps for axis in axes)
            )
            begins = tuple(axis.begin for axis in axes)
            part = _part(source, start=begins, size=tuple(axis.inputs for axis in axes))  # type: ignore[arg-type]
            places = _part(
                target,
                start=tuple(int(i) for i in phase),  # type: ignore[arg-type]
                size=tuple(axis.count for axis in axes),  # type: ignore[arg-type]
                step=stride,
            )
            before: Size3 = tuple(axis.before for axis in axes)  # type: ignore[assignment]
            after: Size3 = tuple(axis.after for axis in axes)  # type: ignore[assignment]
            call, arguments, text = self._one(
                layer,
                np.ascontiguousarray(weight[taps]),
                bias,
                part,
                places,
                None,
                None,
                ((1, 1, 1), before, after),
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
            second = _stretched(self.view(layer.inputs["second"]), source)
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
        indices = _words(self.view(outputs["indices"])) if "indices" in outputs else None
        views = [self.view(layer.inputs["in"]), self.view(outputs["out"]), indices]
        text = f"{'max' if layer['maximum'] else 'avg'} pool"
        yield "pool", [sizes, layer["maximum"], layer["exclude"], *views], text

    def _unpool(self, layer: Layer) -> Iterator[tuple[str, list[Any], str]]:
        indices = _words(self.view(layer.inputs["indices"]))
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


def _floats(values: Any) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, np.float32)


def _bias(layer: Layer) -> NDArray[np.float32]:
    axis = 0 if layer.kind == "conv" else 1
    bias = layer["bias"]
    return _floats(np.zeros(layer["weight"].shape[axis]) if bias is None else bias)


def _batch_as_pixels(
    layer: Layer, source: View, target: View, weight: NDArray[Any]
) -> tuple[View, View, NDArray[Any]]:
    """A convolution to one pixel of each of a batch, as a linear layer is, as one to an image.

    Its pixels are the batch, its channels all that the kernel covers: so weights are read for many
    pixels, not for each.
    """
    slot, offset, narrow, batch, channels, size, by_batch, by_channel, strides = source
    count = size[0] * size[1] * size[2]
    if batch == 1 or target[5] != (1, 1, 1) or tuple(weight.shape[2:]) != size:
        return source, target, weight
    if any((*layer["before"], *layer["after"])):
        return source, target, weight
    runs = [n * s for n, s in zip(size[1:], strides[1:], strict=True)]  # to the next row, plane
    inner = strides[2]
    joined = (size[1] == 1 or strides[1] == runs[1]) and (size[0] == 1 or strides[0] == runs[0])
    if count == 1:
        flat = weight
    elif joined and inner == 1 and by_channel == count:  # channels outside
        flat = weight.reshape(len(weight), -1)
    elif joined and by_channel == 1 and inner == channels:  # and inside
        flat = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    else:
        return source, target, weight
    by_channel = by_channel if count == 1 else 1
    flat = _floats(flat).reshape(len(weight), -1, 1, 1, 1)
    line = (1, 1, batch)
    seen = (slot, offset, narrow, 1, count * channels, line, 0, by_channel, (0, 0, by_batch))
    slot, offset, narrow, _, channels, _, by_batch, by_channel, _ = target
    made = (slot, offset, narrow, 1, channels, line, 0, by_channel, (0, 0, by_batch))
    return seen, made, flat


def _phases_of(
    layer: Layer, source: View, target: View
) -> list[tuple[View, View, tuple[Size3, Size3, Size3]]]:
    """A convolution by parts that are quicker, if there are such.

    One of a single tap and a stride reads every so many pixels. One that is dilated never brings
    together pixels of different rest of their place by the dilation: each rest is a convolution
    without dilation, for which Winograd's algorithm does.
    """
    kernel, stride, dilation = layer["weight"].shape[2:], layer["stride"], layer["dilation"]
    before, after = layer["before"], layer["after"]
    if kernel == (1, 1, 1) and stride != (1, 1, 1) and not any((*before, *after)):
        part = _part(source, size=target[5], step=stride)
        return [(part, target, ((1, 1, 1), before, after))]
    wide = min(layer["weight"].shape[:2]) >= _LEAST_CHANNELS
    if (
        not wide
        or kernel[1:] not in ((3, 3), (5, 5))
        or stride[1:] != (1, 1)
        or dilation[1:] == (1, 1)
    ):
        return []
    if any(d > 1 and n < 4 * d for n, d in zip(target[5], (1, *dilation[1:]), strict=True)):
        return []  # parts of a tile or less
    found = []
    step: Size3 = (1, *dilation[1:])
    for phase in np.ndindex(*step[1:]):
        begin, size, count, begins, pads = (
            [0],
            [source[5][0]],
            [target[5][0]],
            [0],
            [(before[0], after[0])],
        )
        for a in (1, 2):
            d, i = dilation[a], int(phase[a - 1])
            shift, rest = divmod(i - before[a], d)
            inputs = len(range(rest, source[5][a], d))
            outputs = len(range(i, target[5][a], d))
            cut = max(shift, 0)
            left = max(-shift, 0)
            right = outputs + kernel[a] - 1 - left - (inputs - cut)
            if inputs - cut + min(right, 0) < 1 or outputs < 1:
                return []
            begin.append(rest + cut * d)
            size.append(inputs - cut + min(right, 0))
            begins.append(i)
            count.append(outputs)
            pads.append((left, max(right, 0)))
        part = _part(source, start=_size3(begin), size=_size3(size), step=step)
        places = _part(target, start=_size3(begins), size=_size3(count), step=step)
        zeros = _size3([b for b, _ in pads]), _size3([a for _, a in pads])
        found.append((part, places, ((stride[0], 1, 1), *zeros)))
    return found


def _size3(values: Any) -> Size3:
    first, second, third = values
    return int(first), int(second), int(third)


@dataclass
class _Phase:
    """One axis of one phase of a transposed convolution, as a plain one."""

    taps: list[int]
    before: int
    after: int
    begin: int  # inputs that it reads
    inputs: int
    count: int  # outputs


def _phase(i: int, kernel: int, stride: int, padding: int, inputs: int, outputs: int) -> _Phase:
    """Outputs i, i + stride, ...: output q reads inputs q + b - t by tap r + t stride."""
    r, b = (i + padding) % stride, (i + padding) // stride
    taps = list(range(r, kernel, stride))[::-1]
    count = len(range(i, outputs, stride))
    before = len(taps) - 1 - b
    begin = max(-before, 0)
    after = count + len(taps) - 1 - before - inputs
    end = inputs + min(after, 0)
    return _Phase(taps, max(before, 0), max(after, 0), begin, end - begin, count)


def _stretched(view: View, like: View) -> View:
    """An operand whose axes of one repeat for all of another's."""
    slot, offset, narrow, batch, channels, size, by_batch, by_channel, strides = view
    strides = tuple(0 if n == 1 else s for n, s in zip(size, strides, strict=True))
    by_channel = 0 if channels == 1 else by_channel
    by_batch = 0 if batch == 1 else by_batch
    return (slot, offset, narrow, *like[3:6], by_batch, by_channel, strides)


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
