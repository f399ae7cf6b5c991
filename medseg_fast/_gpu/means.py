"""Launches of the thresholds from mean values: `threshold_mean` and `threshold_li`.

Sums are taken on the device and fetched: each is a wait for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays, histogram
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run, second_axes
from medseg_fast.kernels.source import FLOATS, Source
from medseg_fast.threshold_li import (
    Pixels,
    Sums,
    Table,
    Values,
    iterate,
    search_range,
    side_by_side,
)

_BLOCKS = 512  # of an image; each leaves a sum
_PIXELS_OF_BLOCK = 1 << 14
SOURCE = Source("sums.cuh", sum_above=(FLOATS,))


def threshold_mean(device: Device, image: Any, *, apart: int = 0) -> Any:
    array = _arrays.image(device, "threshold_mean", image)
    rows = array.reshape(len(array) if apart else 1, -1)
    kind = array.dtype.kind
    if rows.shape[1] == 0:
        means = [np.mean(np.empty(0, array.dtype))] * len(rows)
    elif kind == "f":
        sums = _arrays.fetch(rows.sum(1, dtype=np.float64))
        means = [array.dtype.type(total / rows.shape[1]) for total in sums]
    else:  # exact: halves of 64 bits
        halves = [(rows >> 32, 32), (rows & 0xFFFFFFFF, 0)] if array.itemsize == 8 else [(rows, 0)]
        wide = np.uint64 if kind == "u" else np.int64
        parts = [(_arrays.fetch(half.sum(1, dtype=wide)), bits) for half, bits in halves]
        exact = (sum(int(sums[i]) << bits for sums, bits in parts) for i in range(len(rows)))
        means = [np.float64(total / rows.shape[1]) for total in exact]
    return device.xp.asarray(np.stack(means) if apart else means[0])


def threshold_li(
    device: Device,
    image: Any,
    *,
    tolerance: float | None = None,
    initial_guess: Any = None,
    iter_callback: Callable[[Any], Any] | None = None,
    apart: int = 0,
) -> Any:
    op = "threshold_li"
    array = _arrays.image(device, op, image)
    rows = array.reshape(len(array) if apart else 1, -1)
    options = tolerance, initial_guess, iter_callback

    def ends(row: Any) -> Any:
        return histogram.ends(device, row.reshape(1, -1))[:, 0]

    def range_of(i: int) -> tuple[Any, Any, Any]:
        row = rows[i]
        return search_range(op, row, lambda pixels: known[:, i] if pixels is row else ends(pixels))

    known: Any = histogram.ends(device, rows) if rows.size else None
    found: dict[int, Any] = {}
    whole = []  # images all of whose pixels count: they are searched side by side
    for i in range(len(rows)):
        pixels, low, high = range_of(i)
        if pixels is None:
            found[i] = low
        elif len(pixels) == rows.shape[1]:
            whole.append(i)
        else:
            (found[i],) = _searched(device, op, pixels[None], [low], [high], options)
    if whole:
        chosen = rows if len(whole) == len(rows) else rows[device.xp.asarray(whole)]
        lows, highs = known[:, whole]
        found |= zip(whole, _searched(device, op, chosen, lows, highs, options), strict=True)
    levels = [np.asarray(found[i]) for i in range(len(rows))]
    return device.xp.asarray(np.stack(levels) if apart else levels[0])


def _searched(
    device: Device, op: str, rows: Any, lows: Any, highs: Any, options: tuple[Any, Any, Any]
) -> list[Any]:
    """The thresholds of each row's finite pixels."""
    if table := rows.dtype.kind in "iu" or rows.dtype.itemsize == 2:
        pairs = zip(histogram.occupied(device, op, rows), lows, strict=True)
        values: list[Values] = [Table(*pair, low, rows.dtype) for pair, low in pairs]
    else:
        values = [_DevicePixels(row, low) for row, low in zip(rows, lows, strict=True)]
    several = zip(rows, lows, highs, values, strict=True)
    searches = [iterate(op, *each, *options) for each in several]

    def above(asked: dict[int, Any]) -> dict[int, Sums]:
        if table:
            return {i: values[i].above(t) for i, t in asked.items()}
        return _sums(device, rows, lows, asked)

    return side_by_side(searches, above)


class _DevicePixels(Pixels):
    """Their smallest difference is found where they lie."""

    def _smallest_gap(self, pixels: Any) -> Any:
        return self._image.dtype.type(_arrays.number(super()._smallest_gap(pixels)))


def _sums(device: Device, rows: Any, lows: Any, asked: dict[int, Any]) -> dict[int, Sums]:
    """Sums and numbers of the pixels above the thresholds asked for, by rows' numbers."""
    real = rows.dtype.type
    blocks = min(ceil_div(rows.shape[1], _PIXELS_OF_BLOCK), _BLOCKS)
    sums = device.xp.empty((len(asked), blocks), np.float64)
    numbers = device.xp.empty((len(asked), blocks), np.int64)
    search = [(i, lows[i], t) for i, t in asked.items()]
    which, origins, levels = (
        device.xp.asarray(np.array(column, dtype))
        for column, dtype in zip(zip(*search, strict=True), (np.int64, real, real), strict=True)
    )
    launch = device.kernel(SOURCE, "sum_above", rows.dtype)
    for some in second_axes(len(asked)):
        args = which[some], origins[some], levels[some], sums[some], numbers[some]
        grid = blocks, len(args[0])
        run(launch, grid, (BLOCK,), rows, np.int64(rows.shape[1]), *args)
    totals, counts = _arrays.fetch(sums.sum(1)), _arrays.fetch(numbers.sum(1))
    return {i: (float(totals[k]), int(counts[k])) for k, i in enumerate(asked)}
