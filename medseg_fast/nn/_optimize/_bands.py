"""Convolutions of single pixels one after another: they run together, band by band of rows.

Such a layer needs no more of the map before it than the rows that it makes. Where that map is
larger than caches, some rows at a time are made and read at once, all in the same memory: the map
is neither written out nor ever held whole. (A layer that sees neighbours before those of single
pixels gained nothing by it: its products take far longer than its map.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg_fast.nn._optimize._graph import Graph, Layer, Value
from medseg_fast.nn._optimize._memory import Placement

_MUCH = 8 << 20  # bytes of a map that caches do not hold, from which on it is worth it
_BAND = 4 << 20  # of its rows that are made at a time: enough for many threads
_ROWS = 8  # of a band at least


def in_bands(graph: Graph, placement: Placement) -> None:
    """Cut the layers of `graph` that are better run so."""
    uses, taken = graph.uses(), placement.fixed()
    readers = {value: layer for layer in graph.layers for value in layer.inputs.values()}
    for first in list(graph.layers):
        if first not in graph.layers or not _by_pixel(first):
            continue  # or of a chain that is cut already
        chain = [first]
        while True:
            between = chain[-1].outputs["out"]
            reader = readers.get(between)
            if uses.get(between) != 1 or between in taken or not (reader and _by_pixel(reader)):
                break
            chain.append(reader)
        counts = [layer.outputs["out"].count for layer in chain[:-1]]
        largest = placement.item * max(counts, default=0)
        if largest < _MUCH:
            continue
        place = graph.layers.index(first)
        for layer in chain[1:]:
            graph.layers.remove(layer)
        graph.layers[place : place + 1] = _parts(chain, largest)


def _by_pixel(layer: Layer) -> bool:
    """Whether this is a convolution of single pixels, all of them and no zeros around."""
    if layer.kind != "conv" or set(layer.inputs) != {"in"} or set(layer.outputs) != {"out"}:
        return False
    single = tuple(layer["weight"].shape[2:]) == layer["stride"] == (1, 1, 1)
    alone = layer["groups"] == 1 and layer.outputs["out"].base is None
    return single and alone and not any((*layer["before"], *layer["after"]))


def _parts(chain: Sequence[Layer], count: int) -> Iterator[Layer]:
    """The chain's layers for one band after another; `count`: bytes of its largest map."""
    size = chain[-1].outputs["out"].size
    axis = 0 if size[0] > 1 else 1
    each = max(_BAND * size[axis] // count, _ROWS)
    if each >= size[axis]:
        yield from chain
        return
    for begin in range(0, size[axis], each):
        rows = range(begin, min(begin + each, size[axis]))
        source = _band(chain[0].inputs["in"], axis, rows)
        for layer in chain:
            target = _band(layer.outputs["out"], axis, rows)
            if layer is not chain[-1]:
                target = Value(target.shape)  # of its own: those of all bands may lie in one place
            yield Layer("conv", layer.name, {"in": source}, {"out": target}, layer.attributes)
            source = target


def _band(value: Value, axis: int, rows: range) -> Value:
    """Rows of a map."""
    shape, start = list(value.shape), [0] * 5
    shape[axis - 3] = len(rows)
    start[2 + axis] = rows.start
    return Value(tuple(shape), base=value, start=tuple(start))
