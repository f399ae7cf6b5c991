"""Patch, width, batch and steps of a U-Net that fit into memory and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Operations of training per second and core of a laptop with AVX2 (measured: 25 to 35).
_SPEED = 25e9
# Of the first level, the widest that time and memory allow; the second list where no patch fits.
_WIDTHS = ((64, 48, 32, 24, 16), (12, 8))
_WIDEST = {2: 64, 3: 32}
_FEW, _MOST = 1500, 20_000  # steps worth having, and after which more help little
_LARGEST = {2: 512, 3: 128}  # pixels of a patch along an axis
_SHRINK, _LEAST = 0.85, (0.4, 0.05)  # of the patch until it fits, for each list of widths


class Choice(NamedTuple):
    """A patch, a network and how long to train it."""

    patch: tuple[int, ...]
    widths: tuple[int, ...]
    batch: int
    steps: int
    bytes: float
    seconds: float  # of a step
    whole: bool  # the patch is an image of median size


def choose(
    size: NDArray[np.float64],
    asked: int | Sequence[int] | None,
    *,
    channels: int,
    classes: int,
    memory: float,
    cores: int,
    seconds: float,
) -> Choice:
    """The largest patch, and for it the widest network, whose steps are enough; then the batch."""
    ndim = len(size)
    sizes = np.minimum(size, _LARGEST[ndim])
    scales = [[_SHRINK**k for k in range(20) if _SHRINK**k >= least] for least in _LEAST]
    if asked is not None:
        given = (asked,) * ndim if isinstance(asked, int) else tuple(asked)
        if len(given) != ndim:
            raise ValueError(f"plan: patch must be one number or {ndim}, got {asked!r}")
        sizes, scales = np.array(given, float), [[1.0], [1.0]]
    batch = 2 if ndim == 3 else 4
    candidates = (
        (scale, first)
        for factors, firsts in zip(scales, _WIDTHS, strict=True)
        for scale in factors
        for first in firsts
    )
    for scale, first in candidates:
        if first > _WIDEST[ndim]:
            continue
        patch, depth = _patch(sizes * scale)
        widths = tuple(min(first << level, 320) for level in range(depth + 1))
        work, room = cost(patch, widths, batch, channels, classes)
        step = work / (_SPEED * cores)
        if room <= memory and seconds / step >= _FEW:
            break
    while batch < 16 and 2 * room <= memory / 2 and seconds / (2 * step) >= 3 * _FEW:
        batch, step, room = 2 * batch, 2 * step, 2 * room
    steps = int(min(max(seconds / step, 100), _MOST))
    return Choice(
        patch,
        widths,
        batch,
        steps - steps % 50,
        room,
        step,
        asked is None and scale == 1 and bool((size <= _LARGEST[ndim]).all()),
    )


def _patch(sizes: NDArray[np.float64]) -> tuple[tuple[int, ...], int]:
    """Sizes that halve evenly, and how often they do: down to 4 to 8 pixels, 5 times at most."""
    depth = int(np.clip(np.floor(np.log2(max(sizes.min(), 8) / 4)), 1, 5))
    unit = 1 << depth
    patch = tuple(max(unit, unit * round(float(n) / unit)) for n in sizes)
    return patch, depth


def cost(
    patch: Sequence[int], widths: Sequence[int], batch: int, channels: int, classes: int
) -> tuple[float, float]:
    """Operations and bytes of a training step of a U-Net."""
    ndim = len(patch)
    taps = 3**ndim
    work, room = 0.0, 0.0
    for level, width in enumerate(widths):
        voxels = batch * math.prod(-(-n >> level) for n in patch)
        before = widths[level - 1] if level else channels
        macs = taps * (before * width + width * width)
        maps = 6 * width  # two convolutions, norms and ReLUs
        if level < len(widths) - 1:
            macs += taps * 3 * width * width + widths[level + 1] * width
            maps += 9 * width
        if level == 0:
            macs += width * classes
            maps += 4 * classes + channels
        work += 6 * macs * voxels  # forward, and backward to maps and to weights
        room += 1.5 * 4 * maps * voxels  # and their gradients, not all at once
        room += 16 * taps * 5 * width * width
    return work, room
