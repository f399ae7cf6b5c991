"""Region growing by interval, pixel by pixel, in breadth-first order."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Index = tuple[int, ...]


def neighbours(ndim: int, connectivity: int) -> list[Index]:
    steps = itertools.product((-1, 0, 1), repeat=ndim)
    return [step for step in steps if 0 < sum(map(abs, step)) <= connectivity]


def grow(
    shape: Index,
    seeds: Iterable[Index],
    inside: Callable[[Index], bool],
    offsets: list[Index],
    max_voxels: float = math.inf,
) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    queue: deque[Index] = deque()
    count = 0

    def reach(at: Index) -> None:
        nonlocal count
        if count < max_voxels and not mask[at] and inside(at):
            mask[at] = True
            count += 1
            queue.append(at)

    for seed in seeds:
        reach(seed)
    while queue:
        at = queue.popleft()
        for offset in offsets:
            to = tuple(a + b for a, b in zip(at, offset, strict=True))
            if all(0 <= x < n for x, n in zip(to, shape, strict=True)):
                reach(to)
    return mask


def flood(
    image: NDArray[Any],
    seed_point: Index,
    *,
    footprint: NDArray[Any] | None = None,
    connectivity: int | None = None,
    tolerance: float | None = None,
    max_voxels: float = math.inf,
) -> NDArray[np.bool_]:
    seed = image[seed_point].item()

    def inside(at: Index) -> bool:
        value = image[at].item()
        if tolerance is None:
            return bool(value == seed)
        low, high = seed - abs(tolerance), seed + abs(tolerance)
        if image.dtype.kind != "f":
            return bool(math.trunc(low) <= value <= math.trunc(high))
        return bool(image.dtype.type(low) <= value <= image.dtype.type(high))

    if footprint is None:
        offsets = neighbours(image.ndim, image.ndim if connectivity is None else connectivity)
    else:
        offsets = [tuple(row) for row in np.argwhere(footprint) - np.array(footprint.shape) // 2]
    return grow(image.shape, [seed_point], inside, offsets, max_voxels)


def connected_threshold(
    image: NDArray[Any],
    seeds: list[Index],
    lower: float,
    upper: float,
    connectivity: int = 1,
    max_voxels: float = math.inf,
) -> NDArray[np.bool_]:
    def inside(at: Index) -> bool:
        return bool(lower <= image[at].item() <= upper)

    return grow(image.shape, seeds, inside, neighbours(image.ndim, connectivity), max_voxels)


def neighborhood_connected(
    image: NDArray[Any],
    seeds: list[Index],
    lower: float,
    upper: float,
    radius: Index,
    max_voxels: float = math.inf,
) -> NDArray[np.bool_]:
    def inside(at: Index) -> bool:
        box = tuple(slice(max(0, x - r), x + r + 1) for x, r in zip(at, radius, strict=True))
        return at in seeds or bool(((image[box] >= lower) & (image[box] <= upper)).all())

    return grow(image.shape, seeds, inside, neighbours(image.ndim, 1), max_voxels)


def confidence_connected(
    image: NDArray[Any],
    seeds: list[Index],
    multiplier: float = 4.5,
    iterations: int = 4,
    initial_radius: int = 1,
) -> NDArray[np.bool_]:
    padded = np.pad(image.astype(np.float64), initial_radius, mode="edge")
    size = 2 * initial_radius + 1
    boxes = [padded[tuple(slice(x, x + size) for x in seed)] for seed in seeds]
    values = np.concatenate([box.ravel() for box in boxes])
    mask = np.zeros(image.shape, np.bool_)
    for _ in range(iterations + 1):
        if values.size < 2:
            break
        width = multiplier * math.sqrt(values.var(ddof=1))
        own = [image[seed].item() for seed in seeds]
        low, high = min(values.mean() - width, *own), max(values.mean() + width, *own)
        if image.dtype.kind != "f":
            low, high = math.trunc(low), math.trunc(high)
        mask = connected_threshold(image, seeds, low, high)
        values = image[mask].astype(np.float64)
        if values.var() == 0:
            break
    return mask


def isolated_connected(
    image: NDArray[Any],
    seed1: Index,
    seed2: Index,
    lower: float,
    upper: float,
    find_upper: bool = True,
    tolerance: float = 1.0,
) -> NDArray[np.bool_]:
    whole = image.dtype.kind != "f"
    apart, joined = (lower, upper) if find_upper else (upper, lower)
    guess = joined

    def region(end: float) -> NDArray[np.bool_]:
        limits = (lower, end) if find_upper else (end, upper)
        return connected_threshold(image, [seed1], *limits)

    while abs(guess - apart) > (math.trunc(tolerance) if whole else tolerance):
        if region(guess)[seed2]:
            joined = guess
        else:
            apart = guess
        guess = math.trunc((apart + joined) / 2) if whole else (apart + joined) / 2
    return region(apart)
