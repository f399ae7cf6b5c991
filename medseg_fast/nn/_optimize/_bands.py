"""Convolutions of single pixels one after another: they run together, part by part of the image.

Such a layer needs no more of the map before it than the pixels that it makes. Where that map is
larger than caches, some rows at a time are made and read at once, all in the same memory: the map
is neither written out nor ever held whole. (A layer that sees neighbours before those of single
pixels gained nothing by it: its products take far longer than its map.)

After a dilated convolution, which is done phase by phase, those of single pixels are as well: its
result would be written with gaps, and read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from medseg_fast.nn._optimize._graph import Graph, Layer, Size3, Value
from medseg_fast.nn._optimize._memory import Placement
from medseg_fast.nn._optimize._rewrite import Part, Phase, phases_of, size3

_MUCH = 8 << 20  # bytes of a map that caches do not hold, from which on it is worth it
_BAND = 4 << 20  # of its rows that are made at a time: enough for many threads
_ROWS = 8  # of a band at least


def in_bands(graph: Graph, placement: Placement, *, phases: bool) -> None:
    """Cut the layers of `graph` that are better run so; `phases`: dilated ones, too."""
    uses, taken = graph.uses(), placement.fixed()
    readers = {value: layer for layer in graph.layers for value in layer.inputs.values()}
    for first in list(graph.layers):
        if first not in graph.layers:
            continue  # of a chain that is cut already
        parts = _phases_of(first) if phases else []
        if not (parts or _by_pixel(first)):
            continue
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
        graph.layers[place : place + 1] = (
            _by_phase(chain, parts) if parts else _by_rows(chain, largest)
        )


def _plain(layer: Layer) -> bool:
    """Whether this is a convolution from one map to one map."""
    if layer.kind != "conv" or set(layer.inputs) != {"in"} or set(layer.outputs) != {"out"}:
        return False
    return layer["groups"] == 1 and layer.outputs["out"].base is None


def _by_pixel(layer: Layer) -> bool:
    """Whether this is a convolution of single pixels, all of them and no zeros around."""
    if not _plain(layer):
        return False
    single = tuple(layer["weight"].shape[2:]) == layer["stride"] == (1, 1, 1)
    return single and not any((*layer["before"], *layer["after"]))


def _by_rows(chain: Sequence[Layer], count: int) -> Iterator[Layer]:
    """The chain's layers for one band after another; `count`: bytes of its largest map."""
    size = chain[-1].outputs["out"].size
    axis = 0 if size[0] > 1 else 1
    each = max(_BAND * size[axis] // count, _ROWS)
    if each >= size[axis]:
        yield from chain
        return
    for begin in range(0, size[axis], each):
        start, rows = [0, 0, 0], list(size)
        start[axis], rows[axis] = begin, min(each, size[axis] - begin)
        band = Part(size3(start), size3(rows), (1, 1, 1))
        yield from _for_part(chain, band, band)


def _phases_of(layer: Layer) -> list[Phase]:
    """Of a dilated convolution, if it is done so."""
    if not _plain(layer) or layer["dilation"][1:] == (1, 1):
        return []
    return phases_of(layer, layer.inputs["in"].size, layer.outputs["out"].size)


def _by_phase(chain: Sequence[Layer], phases: Sequence[Phase]) -> Iterator[Layer]:
    """The chain's layers for one phase of the first one's dilation after another."""
    dilation = (chain[0]["dilation"][0], 1, 1)
    for read, written, (stride, before, after) in phases:
        sizes = {"stride": stride, "before": before, "after": after, "dilation": dilation}
        yield from _for_part(chain, read, written, **sizes)


def _for_part(chain: Sequence[Layer], read: Part, written: Part, **sizes: Size3) -> Iterator[Layer]:
    """The chain's layers for some pixels; `sizes`: of the first one, where they change."""
    source = _part(chain[0].inputs["in"], read)
    for layer in chain:
        target = _part(layer.outputs["out"], written)
        if layer is not chain[-1]:
            target = Value(target.shape)  # of its own: those of all parts may lie in one place
        attributes = {**layer.attributes, **sizes} if layer is chain[0] else layer.attributes
        yield Layer("conv", layer.name, {"in": source}, {"out": target}, attributes)
        source = target


def _part(value: Value, part: Part) -> Value:
    """Some pixels of a map."""
    space = len(value.shape) - 2
    shape = (*value.shape[:2], *part.size[3 - space :])
    return Value(shape, base=value, start=(0, 0, *part.start), step=part.step)
