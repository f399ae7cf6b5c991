"""Parts of maps in memory: as the steps of `core.plan` take them."""

from __future__ import annotations

from typing import Any

from medseg_fast.nn._optimize._graph import Size3, Value
from medseg_fast.nn._optimize._memory import Placement

View = tuple[Any, ...]
"""Slot, bytes, whether bfloat16, batch, channels, size, batch, channel and pixel strides."""


def view_of(placement: Placement, value: Value, narrow: bool = False) -> View:
    """Where a value lies; `narrow`: in a block of bfloat16."""
    buffer, channel = placement.home(value.root)
    whole = buffer.value
    strides = [0, 0, 0]
    if buffer.planar:
        step = 1
        for a in (2, 1, 0):
            strides[a], step = step, step * whole.size[a]
        by_channel, by_batch = step, step * whole.channels
    else:
        step = whole.channels
        for a in (2, 1, 0):
            strides[a], step = step, step * whole.size[a]
        by_channel, by_batch = 1, step
    at = value.offset
    first = at[0] * by_batch + (at[1] + channel) * by_channel
    first += sum(n * s for n, s in zip(at[2:], strides, strict=True))
    narrow = narrow and not buffer.planar
    item = 8 if value.indices else 2 if narrow else 4
    return (
        buffer.slot,
        buffer.offset + first * item,
        narrow,
        value.batch,
        value.channels,
        value.size,
        by_batch,
        by_channel,
        tuple(n * s for n, s in zip(value.step, strides, strict=True)),
    )


def part_of(
    view: View,
    *,
    channels: tuple[int, int] | None = None,
    start: Size3 = (0, 0, 0),
    size: Size3 | None = None,
    step: Size3 = (1, 1, 1),
) -> View:
    """Some channels (first, count) of a view, a box of it, every so many pixels."""
    slot, offset, narrow, batch, count, old, by_batch, by_channel, strides = view
    first, count = channels or (0, count)
    moved = first * by_channel + sum(n * s for n, s in zip(start, strides, strict=True))
    wide = tuple(n * s for n, s in zip(step, strides, strict=True))
    offset += moved * (2 if narrow else 4)
    return (slot, offset, narrow, batch, count, size or old, by_batch, by_channel, wide)


def stretched(view: View, like: View) -> View:
    """An operand whose axes of one repeat for all of another's."""
    slot, offset, narrow, batch, channels, size, by_batch, by_channel, strides = view
    strides = tuple(0 if n == 1 else s for n, s in zip(size, strides, strict=True))
    by_channel = 0 if channels == 1 else by_channel
    by_batch = 0 if batch == 1 else by_batch
    return (slot, offset, narrow, *like[3:6], by_batch, by_channel, strides)
