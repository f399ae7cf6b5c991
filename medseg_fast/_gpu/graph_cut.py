"""Launches of `maxflow_grid`."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from medseg_fast import _grid_arguments
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import BLOCK, Device, run, tiles
from medseg_fast._gpu._waves import spread
from medseg_fast._grid_arguments import DTYPES
from medseg_fast.kernels.source import Source

_CAPACITIES = (DTYPES,)
SOURCE = Source(
    "maxflow.cuh",
    spread_heights=_CAPACITIES,
    find_active=_CAPACITIES,
    push=_CAPACITIES,
    receive=_CAPACITIES,
)
PULSES = 64  # between two searches from the sink
_FAR = 1 << 30  # far_away of the kernels


class _DeviceReader(_grid_arguments.Reader):
    """Numbers, and arrays that lie on the device: it waits for it to learn their range."""

    def __init__(self, device: Device) -> None:
        self.device, self.xp = device, device.xp

    def numbers(self, op: str, name: str, value: Any) -> Any:
        if isinstance(value, self.device.array):
            array = _arrays.image(self.device, op, value, name)
            return array.astype(np.uint8) if array.dtype == np.bool_ else array
        return self.xp.asarray(_grid_arguments.numbers(op, name, value))

    def check_range(self, op: str, name: str, array: Any) -> float:
        if array.size == 0:
            return 0.0
        ends = self.xp.stack([array.min(), array.max()])
        return _grid_arguments.check_range(op, name, _arrays.fetch(ends))

    def cast(self, array: Any, dtype: np.dtype[Any]) -> Any:
        return array.astype(dtype, copy=False)


def maxflow_grid(
    device: Device,
    source: Any,
    sink: Any,
    weights: Any,
    structure: Any = None,
    symmetric: bool = True,
    *,
    source_seeds: Any = None,
    sink_seeds: Any = None,
) -> Any:
    op, read = "maxflow_grid", _DeviceReader(device)
    structure = _arrays.fetch(structure)
    grid = _grid_arguments.Grid(op, source, sink, weights, structure, symmetric, read)
    seeds = [
        _seeds(device, op, name, mask, grid.shape)
        for name, mask in (("source_seeds", source_seeds), ("sink_seeds", sink_seeds))
    ]
    edges = [e.most for e in grid.edges]
    dtype, most = grid.dtype, grid.most
    enough = 0.0
    if any(mask is not None for mask in seeds):
        if all(mask is not None for mask in seeds) and bool((seeds[0] & seeds[1]).any()):
            raise ValueError(f"{op}: source and sink must have no pixel in common")
        enough = _grid_arguments.seed_capacity(np.dtype(np.int64), most, edges)
        if dtype.kind == "f":
            enough = _grid_arguments.seed_capacity(dtype, most, edges)
    # What may gather in a pixel: all that comes from its neighbours and the source.
    if dtype.kind == "i":
        bound = most + enough + 2 * sum(edges)
        dtype = np.dtype(np.int32 if bound < 2**31 else np.int64)
        if bound > _grid_arguments.limit(dtype):
            raise ValueError(f"{op}: weights must sum up to numbers of int64, got {bound:.17g}")
    terminals = [
        read.cast(t, dtype) if mask is None else t.astype(dtype) + mask * dtype.type(enough)
        for t, mask in zip((grid.source, grid.sink), seeds, strict=True)
    ]
    return _solve(device, grid, dtype, *terminals)


def _solve(
    device: Device, grid: _grid_arguments.Grid, dtype: np.dtype[Any], source: Any, sink: Any
) -> Any:
    xp, shape = device.xp, (*(1,) * (3 - len(grid.shape)), *grid.shape)
    wide = np.int64 if dtype.kind == "i" else np.float64
    real = int if dtype.kind == "i" else float
    if source.size == 0:
        return real(0), xp.zeros(grid.shape, np.bool_)
    through = xp.minimum(source, sink)  # from the source to the sink by one pixel
    excess, to_sink = (xp.ascontiguousarray(t - through) for t in (source, sink))
    numbers, left = _capacities(device, grid, shape, dtype)
    places, count = device.constant(np.array(numbers, np.int32)), np.int32(len(numbers))
    before = to_sink.sum(dtype=wide)
    heights, lifted = (xp.empty(shape, np.int32) for _ in range(2))
    sent = xp.empty(left.shape, dtype)
    extents, blocks = [*map(np.int32, shape)], tiles(*shape)
    active, pulses = xp.empty(blocks, np.uint8), xp.full(blocks, -1, np.int32)
    search, find, push, receive = (
        device.kernel(SOURCE, name, dtype)
        for name in ("spread_heights", "find_active", "push", "receive")
    )
    for pulse in itertools.count(0, PULSES):
        heights.fill(_FAR)
        spread(device, search, blocks, left, to_sink, places, count, heights, *extents)
        busy = xp.zeros(1, np.int32)
        run(find, blocks, (BLOCK,), excess, heights, *extents[1:], active, busy)
        if not int(busy[0]):
            break
        for k in map(np.int32, range(pulse, pulse + PULSES)):
            args = [heights, places, count, *extents, active, sent, lifted, pulses, k]
            run(push, blocks, (BLOCK,), left, to_sink, excess, *args)
            run(receive, blocks, (BLOCK,), left, excess, *args)
    flow = through.sum(dtype=wide) + before - to_sink.sum(dtype=wide)
    return real(flow), (heights < _FAR).reshape(grid.shape)


def _capacities(
    device: Device, grid: _grid_arguments.Grid, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[list[int], Any]:
    """Numbers of the neighbourhood's directions as the kernels count them, and capacities."""
    lead = (0,) * (3 - len(grid.shape))
    offsets = _grid_arguments.grid_offsets(len(grid.shape), grid.connectivity)
    both = [(*lead, *o) for o in offsets] + [(*lead, *(-i for i in o)) for o in offsets]
    numbers = sorted(_number(o) for o in both)
    left = device.xp.zeros((len(numbers), *shape), dtype)
    for offset, forth, back, _ in grid.edges:
        step = (*lead, *offset)
        here, there = _grid_arguments.pairs(shape, step)
        for at, number, given in (
            (here, _number(step), forth),
            (there, 26 - _number(step), back),
        ):
            given = given.reshape(shape) if given.ndim else given
            # A capacity lies where its edge starts, that of the way back too.
            part = given[here] if given.ndim else given
            left[(numbers.index(number), *at)] += part.astype(dtype)
    return numbers, left


def _number(offset: tuple[int, ...]) -> int:
    return sum((step + 1) * 3**k for k, step in enumerate(reversed(offset)))


def _seeds(device: Device, op: str, name: str, mask: Any, shape: tuple[int, ...]) -> Any:
    if mask is None:
        return None
    array = _arrays.image(device, op, mask, name)
    if array.dtype != np.bool_:
        raise TypeError(f"{op}: {name} must be bool, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{op}: {name} must have shape {shape}, got {array.shape}")
    return array
