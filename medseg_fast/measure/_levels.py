"""Grey levels of regions, and the features that all counts by level have."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks

Array = NDArray[Any]
MOST_LEVELS = 4096  # a matrix of 128 MB a direction


def discretised(
    op: str,
    values: Array,
    bin_width: float | None = None,
    bins: int | None = None,
    low: float | None = None,
) -> NDArray[np.int64]:
    """Grey levels from 1 on: bins of a fixed width from `low` (the minimum), or a fixed number.

    With neither there are 32 bins. NaN gets level 0, as do values below `low`.
    """
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not known.size:
        return np.zeros(values.shape, np.int64)
    if bin_width is None and bins is None:
        bins = 32
    least, most = float(known.min()), float(known.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(f"{op}: image must be finite inside labels, got infinity")
    start = least if low is None else low
    levels = values.astype(np.float64)  # and in place from here on
    levels -= start
    if bin_width is not None:
        with np.errstate(over="ignore"):  # refused below
            levels /= bin_width
    else:
        assert bins is not None
        levels *= bins
        levels /= (most - start) or 1
    np.floor(levels, out=levels)
    levels += 1
    if bins is not None:
        np.minimum(levels, bins, out=levels)
    np.maximum(levels, 0, out=levels)
    np.nan_to_num(levels, copy=False)
    if levels.max() > MOST_LEVELS:
        raise ValueError(
            f"{op}: bin_width must give at most {MOST_LEVELS} grey levels, got {levels.max():.6g}"
        )
    return np.asarray(levels, np.int64)


def directions(ndim: int) -> list[list[int]]:
    """Half of the neighbours at a distance of 1, diagonals included: 4 in 2D, 13 in 3D."""
    every = itertools.product((-1, 0, 1), repeat=ndim)
    return [list(step) for step in every if step > (0,) * ndim]


def levels_of(op: str, levels: Any, number: int | None) -> tuple[NDArray[np.uint16], int]:
    """Grey levels as the kernels want them, and how many there are."""
    image = np.asarray(levels)
    if image.dtype.kind not in "bui":
        raise TypeError(f"{op}: levels must be integers, got {image.dtype}")
    if image.ndim == 0:
        raise ValueError(f"{op}: levels must have at least one axis, got a number")
    highest = int(image.max(initial=0))
    if image.size and int(image.min()) < 0:
        raise ValueError(f"{op}: levels must not be negative, got {int(image.min())}")
    count = _checks.integer(op, "number", max(highest, 1) if number is None else number, 1, 65535)
    if highest > count:
        raise ValueError(f"{op}: levels must be at most {count}, got {highest}")
    return _checks.contiguous(image.astype(np.uint16)), count


def steps_of(op: str, offsets: Any, ndim: int) -> list[list[int]]:
    """Directions as given, `directions` by default."""
    steps = [list(map(int, step)) for step in (directions(ndim) if offsets is None else offsets)]
    if not steps or any(len(step) != ndim for step in steps):
        raise ValueError(f"{op}: offsets must have {ndim} steps each, got {offsets!r}")
    return steps


def entropy(p: Array) -> float:
    """In bits."""
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum()) + 0.0


def emphases(counts: Array, sizes: Array) -> dict[str, float]:
    """Fifteen features of counts by grey level (rows) and some size of things (columns).

    Their names hold "{thing}", "{low}", "{high}" and "{size}" for what a family calls these. NaN
    where there is nothing.
    """
    things = float(counts.sum())
    i = np.arange(1, len(counts) + 1, dtype=np.float64)[:, None]
    j = sizes.astype(np.float64)[None, :]
    p = counts / max(things, 1)
    rows, columns = p.sum(1), p.sum(0)
    level, size = float((p * i).sum()), float((p * j).sum())
    found = {
        "{low}_emphasis": p / j**2,
        "{high}_emphasis": p * j**2,
        "low_grey_level_{thing}_emphasis": p / i**2,
        "high_grey_level_{thing}_emphasis": p * i**2,
        "{low}_low_grey_level_emphasis": p / i**2 / j**2,
        "{low}_high_grey_level_emphasis": p * i**2 / j**2,
        "{high}_low_grey_level_emphasis": p * j**2 / i**2,
        "{high}_high_grey_level_emphasis": p * i**2 * j**2,
        "grey_level_non_uniformity": things * rows**2,
        "normalised_grey_level_non_uniformity": rows**2,
        "{size}_non_uniformity": things * columns**2,
        "normalised_{size}_non_uniformity": columns**2,
        "grey_level_variance": p * (i - level) ** 2,
        "{size}_variance": p * (j - size) ** 2,
        "{size}_entropy": entropy(p),
    }
    return {name: float(np.sum(terms)) if things else math.nan for name, terms in found.items()}


def named(
    features: dict[str, float], thing: str, low: str, high: str, size: str
) -> dict[str, float]:
    """Features of `emphases` by the names of a family."""
    words = {"thing": thing, "low": low, "high": high, "size": size}
    return {name.format(**words): value for name, value in features.items()}
