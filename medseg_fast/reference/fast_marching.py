"""Fast marching with a dictionary of trial times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, ...]


def fast_marching(
    speed: NDArray[Any],
    seeds: dict[Index, float],
    spacing: Sequence[float],
    order: int,
    stopping_value: float = math.inf,
) -> NDArray[np.float64]:
    """Arrival times; of equal trial times the first pixel in raster order is settled first."""
    times = np.full(speed.shape, np.inf)
    trial = dict(seeds)
    while trial:
        here = min(trial, key=lambda v: (trial[v], v))
        time = trial.pop(here)
        if time > stopping_value:
            break
        times[here] = time
        for axis in range(speed.ndim):
            for step in (-1, 1):
                there = _moved(here, axis, step)
                if _known(times, there) is None or math.isfinite(times[there]):
                    continue
                if speed[there] == 0 or there in seeds:
                    continue
                before = trial.get(there, math.inf)
                new = solve(times, there, 1 / float(speed[there]), spacing, order, before)
                if new < before:
                    trial[there] = new
    return times


def solve(
    times: NDArray[np.float64],
    index: Index,
    slowness: float,
    spacing: Sequence[float],
    order: int,
    before: float,
) -> float:
    """Root of the upwind equation at a pixel; only neighbours earlier than `before` count."""
    terms = []  # time of the neighbour, weight, origin
    for axis, size in enumerate(spacing):
        time, step = math.inf, 0
        for way in (-1, 1):
            known = _known(times, _moved(index, axis, way))
            if known is not None and known < time:
                time, step = known, way
        if not time < before:
            continue
        second = _known(times, _moved(index, axis, 2 * step))
        if order == 2 and second is not None and second <= time:
            terms.append((time, 2.25 / size**2, (4 * time - second) / 3))
        else:
            terms.append((time, 1 / size**2, time))
    found = math.inf
    for n in range(1, len(terms) + 1):
        used = sorted(terms)[:n]
        if used[-1][0] >= found:
            break  # that neighbour is later than the front
        weight = sum(w for _, w, _ in used)
        mean = sum(w * o for _, w, o in used) / weight
        spread = sum(w * (o - mean) ** 2 for _, w, o in used)
        if spread > slowness**2:
            break
        root = mean + math.sqrt((slowness**2 - spread) / weight)
        if root < used[-1][0]:
            break
        found = root
    return found


def _moved(index: Index, axis: int, step: int) -> Index:
    return (*index[:axis], index[axis] + step, *index[axis + 1 :])


def _known(times: NDArray[np.float64], index: Index) -> float | None:
    """The settled time of a pixel, None outside the image."""
    inside = all(0 <= i < n for i, n in zip(index, times.shape, strict=True))
    return float(times[index]) if inside else None
