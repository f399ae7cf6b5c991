"""Where every map lies: concatenations without copies, one block of memory for all.

Convolutions read the maps of a concatenation where they are. For other layers a map is written
where the concatenation wants it, as a slice of channels of its buffer. Buffers that are never
needed at the same time share memory: the largest are placed first, each as low as those allow that
live when it does (greedy by size; Pisarchyk and Lee, "Efficient memory management for deep neural
net inference", 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medseg_fast.nn._optimize._graph import Graph, Layer, Value

_ALIGNMENT = 64
_VECTOR = 16  # channels of the widest vector
_MOST_MAPS = 16  # that a convolution reads: see csrc/plan.cpp
# Who can read and write maps whose channels are not innermost: the caller's arrays.
_READS_ANY = ("conv", "transposed", "gather", "cat")
_WRITES_ANY = ("conv", "transposed", "gather", "resize")


@dataclass(eq=False)
class Buffer:
    """A map's memory: `slot` 0 is the plan's own block, others are arrays of the caller.

    `planar`: float32 in the order of its shape, and not as maps between layers are.
    """

    value: Value
    slot: int = 0
    offset: int = 0
    item: int = 4
    planar: bool = False
    first: int = -1
    last: int = -1

    @property
    def bytes(self) -> int:
        return self.value.count * self.item


class Placement:
    """Decides for each whole value of the graph whose buffer it is in, from which channel on."""

    def __init__(self, graph: Graph, item: int) -> None:
        self.graph, self.item = graph, item
        self.inside: dict[Value, tuple[Value, int]] = {}
        self.buffers: dict[Value, Buffer] = {}
        self._results()
        self._read_apart()
        self._copy_inputs()
        self._concatenations()
        self._in_place()

    def home(self, value: Value) -> tuple[Buffer, int]:
        """The buffer of a whole value, and its first channel there."""
        channel = 0
        while value in self.inside:
            value, first = self.inside[value]
            channel += first
        if value not in self.buffers:
            item = 8 if value.indices else self.item
            self.buffers[value] = Buffer(value, item=item)
        return self.buffers[value], channel

    def fixed(self) -> set[Value]:
        """Whole values that have to be somewhere: the caller's, and parts and wholes of others."""
        wholes = {whole for whole, _ in self.inside.values()}
        return {*self.buffers, *self.inside, *wholes}

    def _results(self) -> None:
        """The caller's arrays; layers write results there if they can, others are copied."""
        graph = self.graph
        uses, producers = graph.uses(), graph.producers()
        for i, value in enumerate(graph.inputs):
            self.buffers[value] = Buffer(value, 1 + i, planar=i not in graph.internal_inputs)
        for i, value in enumerate(graph.outputs):
            slot = 1 + len(graph.inputs) + i
            if not value.root.native:
                continue
            producer = producers.get(value) if value.base is None else None
            internal = i in graph.internal_outputs
            direct = producer is not None and (
                value not in self.buffers
                if internal
                else producer.kind in _WRITES_ANY
                and not (producer.kind == "resize" and self.item != 4)
                and uses[value] == 1
            )
            if not direct:
                source = value.base if value.flat and value.base is not None else value
                whole = Value(source.shape)
                attributes = {"maps": [None] * 3, "fill": 0.0}
                graph.layers.append(
                    Layer("gather", "output", {"in": source}, {"out": whole}, attributes)
                )
                flat = Value(value.shape, base=whole, flat=True)
                graph.outputs[i] = flat if value.flat else whole
                value = whole
            self.buffers[value] = Buffer(value, slot, planar=not internal)

    def _read_apart(self) -> None:
        """No concatenations where convolutions alone read them: they read the maps themselves."""
        graph = self.graph
        readers: dict[Value, list[Layer]] = {}
        for layer in graph.layers:
            for value in layer.inputs.values():
                readers.setdefault(value.root, []).append(layer)
        for layer in [each for each in graph.layers if each.kind == "cat"]:
            whole, parts = layer.outputs["out"], list(layer.inputs.values())
            apart = (
                whole not in graph.outputs
                and 1 < len(parts) <= _MOST_MAPS
                and all(value.channels % _VECTOR == 0 for value in parts)
                and all(_reads_maps(reader, whole) for reader in readers.get(whole, []))
            )
            if not apart:
                continue
            graph.layers.remove(layer)
            for reader in readers.get(whole, []):
                reader.inputs = {f"in{i}" if i else "in": value for i, value in enumerate(parts)}

    def _copy_inputs(self) -> None:
        """Channels innermost, for layers that want them so."""
        graph = self.graph
        copies: dict[Value, Value] = {}
        for layer in list(graph.layers):
            if layer.kind in _READS_ANY or layer.kind == "torch":
                continue
            for role, value in layer.inputs.items():
                root = value.root
                if root not in graph.inputs or not self.buffers[root].planar:
                    continue
                if root not in copies:
                    copies[root] = Value(root.shape)
                    attributes = {"maps": [None] * 3, "fill": 0.0}
                    graph.layers.insert(
                        0, Layer("gather", "input", {"in": root}, {"out": copies[root]}, attributes)
                    )
                layer.inputs[role] = _moved(value, copies[root])

    def _concatenations(self) -> None:
        """Producers write into the concatenated map; who cannot is copied."""
        graph = self.graph
        producers = graph.producers()
        for layer in reversed(list(graph.layers)):
            if layer.kind != "cat":
                continue
            whole, first = layer.outputs["out"], 0
            place = graph.layers.index(layer)
            copies = []
            for i, value in enumerate(layer.inputs.values()):
                free = (
                    value.base is None
                    and value not in self.inside
                    and value not in self.buffers
                    and value in producers
                )
                if free:
                    self.inside[value] = (whole, first)
                else:
                    at = (0, first, 0, 0, 0)
                    part = Value(value.shape, base=whole, start=at)
                    attributes = {"maps": [None] * 3, "fill": 0.0}
                    copies.append(
                        Layer(
                            "gather", f"{layer.name}[{i}]", {"in": value}, {"out": part}, attributes
                        )
                    )
                first += value.channels
            graph.layers[place : place + 1] = copies

    def _in_place(self) -> None:
        """Layers of single pixels write over what nobody needs any more."""
        graph = self.graph
        last = {v.root: i for i, layer in enumerate(graph.layers) for v in layer.inputs.values()}
        last |= {value.root: len(graph.layers) for value in graph.outputs}
        for i, layer in enumerate(graph.layers):
            if layer.kind not in ("pointwise", "norm"):
                continue
            value, out = layer.inputs["in"], layer.outputs["out"]
            second = layer.inputs.get("second")
            fits = (
                # A part of it, as the second operand, would be overwritten before it is read.
                (second is None or second is value or second.root is not value)
                and value.base is None
                and out.base is None
                and value.shape == out.shape
                and last[value] == i
                and not {value, out} & self.fixed()
            )
            if fits:
                self.inside[out] = (value, 0)

    def arrange(self) -> int:
        """Give every buffer its place; returns the bytes of the whole block."""
        for i, layer in enumerate(self.graph.layers):
            for value in (*layer.inputs.values(), *layer.outputs.values()):
                if not (value.root.native or value.root.indices):
                    continue
                buffer, _ = self.home(value.root)
                buffer.first = i if buffer.first < 0 else buffer.first
                buffer.last = i
        own = [b for b in self.buffers.values() if b.slot == 0 and b.first >= 0]
        placed: list[Buffer] = []
        for buffer in sorted(own, key=lambda b: -b.bytes):
            buffer.offset = 0
            beside = [b for b in placed if b.first <= buffer.last and buffer.first <= b.last]
            for other in sorted(beside, key=lambda b: b.offset):
                if buffer.offset + buffer.bytes <= other.offset:
                    break
                end = other.offset + other.bytes
                end = -(-end // _ALIGNMENT) * _ALIGNMENT
                buffer.offset = max(buffer.offset, end)
            placed.append(buffer)
        return max((b.offset + b.bytes for b in placed), default=0)

    def naive_bytes(self) -> int:
        """What all maps would take side by side."""
        return sum(
            value.count * (8 if value.indices else self.item)
            for layer in self.graph.layers
            for value in layer.outputs.values()
            if value.native or value.indices
        )


def _reads_maps(layer: Layer, whole: Value) -> bool:
    """Whether this is a convolution that packs its input, of several maps as well as of one."""
    if layer.kind != "conv" or list(layer.inputs.values()) != [whole] or layer["groups"] > 1:
        return False
    taps = math.prod(layer["weight"].shape[2:])
    return taps > 1 and bool(layer["dilation"] == (1, 1, 1))


def _moved(value: Value, root: Value) -> Value:
    """The same part of another whole."""
    if value.base is None:
        return root
    return Value(value.shape, base=_moved(value.base, root), start=value.start, flat=value.flat)
