"""Launches of `maxflow_grid`."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

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
LOOK = 16  # pulses after which the host asks whether any excess is left to push
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


class _Problem(NamedTuple):
    """The cut of one image: what it is given in numbers that can hold its flow."""

    grid: _grid_arguments.Grid
    dtype: np.dtype[Any]
    seeds: list[Any]
    enough: float  # what ties a seed to its terminal


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
    apart: int = 0,
) -> Any:
    structure = _arrays.fetch(structure)
    if not apart:
        problem = _problem(
            device, source, sink, weights, structure, symmetric, source_seeds, sink_seeds
        )
        flows, segments = _solve(device, [problem])
        return flows[0], segments.reshape(problem.grid.shape)

    def of(value: Any, i: int) -> Any:
        whole = isinstance(value, device.array) and value.shape == source.shape
        return value[i] if whole else value

    problems = [
        _problem(
            device,
            source[i],
            of(sink, i),
            of(weights, i),
            structure,
            symmetric,
            of(source_seeds, i),
            of(sink_seeds, i),
        )
        for i in range(len(source))
    ]
    flows, segments = _solve(device, problems)
    return device.xp.asarray(np.array(flows)), segments.reshape(source.shape)


def _problem(
    device: Device,
    source: Any,
    sink: Any,
    weights: Any,
    structure: Any,
    symmetric: bool,
    source_seeds: Any,
    sink_seeds: Any,
) -> _Problem:
    op, read = "maxflow_grid", _DeviceReader(device)
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
    return _Problem(grid, dtype, seeds, enough)


def _terminals(problem: _Problem, dtype: np.dtype[Any]) -> list[Any]:
    """Capacities from the source and to the sink, with those of seeds."""
    ends = zip((problem.grid.source, problem.grid.sink), problem.seeds, strict=True)
    return [
        t.astype(dtype, copy=False)
        if mask is None
        else t.astype(dtype) + mask * dtype.type(problem.enough)
        for t, mask in ends
    ]


def _solve(device: Device, problems: list[_Problem]) -> tuple[list[Any], Any]:
    """The flow of each image, and segments of all of them as planes of one volume.

    Images go through the launches together: no direction leads from one to the next. A single
    problem may be a volume.
    """
    xp, alone = device.xp, problems[0].grid.shape
    dtype = np.result_type(*(p.dtype for p in problems))
    shape = (*(1,) * (3 - len(alone)), *alone)
    wide = np.int64 if dtype.kind == "i" else np.float64
    real = int if dtype.kind == "i" else float
    found = [_capacities(device, p.grid, shape, dtype) for p in problems]
    numbers, left = found[0][0], xp.ascontiguousarray(xp.concatenate([f[1] for f in found], 1))
    ends = [[t.reshape(shape) for t in _terminals(p, dtype)] for p in problems]
    source, sink = (xp.concatenate(each) for each in zip(*ends, strict=True))
    shape = source.shape
    if source.size == 0:
        return [real(0)] * len(problems), xp.zeros(shape, np.bool_)
    through = xp.minimum(source, sink)  # from the source to the sink by one pixel
    excess, to_sink = (xp.ascontiguousarray(t - through) for t in (source, sink))
    places, count = device.constant(np.array(numbers, np.int32)), np.int32(len(numbers))

    def sums(values: Any) -> Any:  # one by one: CuPy is slow along an axis of few, long rows
        each = values.reshape(len(problems), -1)
        return xp.stack([one.sum(dtype=wide) for one in each])

    before = sums(to_sink)
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
        for k in range(pulse, pulse + PULSES):
            if k % LOOK == 0 and k > pulse and not bool(active.any()):
                break
            args = [heights, places, count, *extents, active, sent, lifted, pulses, np.int32(k)]
            run(push, blocks, (BLOCK,), left, to_sink, excess, *args)
            run(receive, blocks, (BLOCK,), left, excess, *args)
    flows = _arrays.fetch(sums(through) + before - sums(to_sink))
    return [real(flow) for flow in flows], heights < _FAR


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
