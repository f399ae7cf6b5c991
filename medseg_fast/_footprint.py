"""Flat footprints as the programs that the kernels of csrc/morphology.cpp run.

A footprint is checked and trimmed (`read`), then planned once (`plan`, cached): boxes become
windows along each axis, other shapes sets of horizontal runs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._tuples import tuple_of

# Nested tuples as csrc/bindings.cpp reads them: lead, low, span, buffers, steps, rows.
Part = tuple[Any, ...]

_MOST_PLANES = 24  # deeper windows are cheaper in a pass of their own
_MOST_CACHED = 1 << 15  # elements of a footprint
_MOST_LENGTHS = 8  # distinct lengths of run kept per row; more are made of two overlapping ones


class Flat(NamedTuple):
    """A trimmed flat footprint: `members` (None: all, a box) of a box that begins at `low`."""

    low: tuple[int, ...]
    size: tuple[int, ...]
    members: bytes | None  # one byte per place, in raster order

    def mirrored(self) -> Flat:
        """The same footprint with every offset negated."""
        if self is NOTHING:
            return self
        low = tuple_of(1 - first - n for first, n in zip(self.low, self.size, strict=True))
        return Flat(low, self.size, None if self.members is None else self.members[::-1])

    def symmetric_box(self) -> bool:
        return self.members is None and all(
            n == 1 - 2 * first for first, n in zip(self.low, self.size, strict=True)
        )


NOTHING = Flat((), (), b"")  # no member: every pixel is in its erosion, none in its dilation


class Stage(NamedTuple):
    """One pass over the image, as volumes of shape `shape`."""

    shape: tuple[int, ...]
    parts: tuple[Part, ...]


def box(low: Iterable[int], size: Iterable[int]) -> Flat:
    return Flat(tuple(low), tuple(size), None)


def read(op: str, footprint: Any, ndim: int, *, binary: bool = False) -> list[Flat]:
    """Check a `footprint` argument and return the flat footprints to apply one after the other.

    None is the cross of connectivity 1. The centre of an even size n is at ``n // 2 - 1``; of a
    `binary` operation at ``n // 2``, and a footprint without members is allowed.
    """
    if footprint is None:
        return [_cross(ndim)]
    if hasattr(footprint, "__array_interface__"):
        return [_trimmed(op, np.asarray(footprint), ndim, binary)]
    if not isinstance(footprint, Sequence) or not footprint:
        raise ValueError(
            f"{op}: footprint must be an array or a sequence of (array, number of times), "
            f"got {footprint!r}"
        )
    flats: list[Flat] = []
    for item in footprint:
        if not (
            isinstance(item, Sequence)
            and len(item) == 2
            and hasattr(item[0], "__array_interface__")
            and isinstance(item[1], Integral)
        ):
            raise ValueError(
                f"{op}: each element of a footprint sequence must be a tuple (array, number of "
                f"times), got {item!r}"
            )
        times = _checks.integer(op, "number of times of a footprint", item[1], 1)
        flats += [_trimmed(op, np.asarray(item[0]), ndim, binary)] * times
    return flats


def merged(flats: Sequence[Flat]) -> list[Flat]:
    """Join consecutive boxes where their composition is the larger box, whatever the border.

    That holds for boxes along different axes, and for boxes symmetric about their centres.
    """
    result: list[Flat] = []
    for flat in flats:
        last = result[-1] if result else None
        if last is not None and last.members is None and flat.members is None:
            apart = all(m == 1 or n == 1 for m, n in zip(last.size, flat.size, strict=True))
            centred = all(
                f == 0
                for one in (last, flat)
                for f, n in zip(one.low, one.size, strict=True)
                if n == 1
            )
            if (apart and centred) or (last.symmetric_box() and flat.symmetric_box()):
                low = (a + b for a, b in zip(last.low, flat.low, strict=True))
                size = (a + b - 1 for a, b in zip(last.size, flat.size, strict=True))
                result[-1] = box(low, size)
                continue
        result.append(flat)
    return result


@functools.lru_cache(maxsize=256)
def plan(flat: Flat, shape: tuple[int, ...], bits: bool = False) -> tuple[Stage, ...]:
    """The passes that take the extreme over `flat` on an image of this shape.

    With `bits` the rows of the program are aligned: what they need is shifted by a step.
    """
    shape = (1,) * (3 - len(shape)) + shape
    pad = (0,) * (len(shape) - len(flat.low))
    low, size = pad + flat.low, (1,) * len(pad) + flat.size
    if flat.members is not None:
        members = np.frombuffer(flat.members, np.bool_).reshape(size)
        return (Stage(shape, tuple(_run_parts(members, low, bits))),)

    # A box that reaches further than twice the image to a side finds no new pixels there.
    for k, (first, n, m) in enumerate(zip(low, size, shape, strict=True)):
        if first <= 0 <= first + n - 1:
            low = (*low[:k], max(first, -2 * m), *low[k + 1 :])
            size = (*size[:k], min(first + n - 1, 2 * m) - low[k] + 1, *size[k + 1 :])
    tail = range(len(shape) - 3, len(shape))
    alone = [k for k in range(tail[0]) if size[k] > 1 or low[k] != 0]
    alone += [tail[0]] if size[-3] > _MOST_PLANES else []
    stages = []
    if not alone or any(size[k] > 1 or low[k] != 0 for k in tail if k not in alone):
        near = tuple(0 if k in alone else low[k] for k in tail)
        window = tuple(1 if k in alone else size[k] for k in tail)
        stages.append(Stage(shape, (_box_part((0,) * tail[0], near, window),)))
    for k in alone:
        around = (math.prod(shape[:k]), shape[k], math.prod(shape[k + 1 :]))
        part = _box_part((), (0, low[k], 0), (1, size[k], 1))
        stages.append(Stage(around, (part,)))
    return tuple(stages)


@functools.cache
def _cross(ndim: int) -> Flat:
    members = np.zeros((3,) * ndim, np.bool_)
    for axis in range(ndim):
        members[(1,) * axis + (slice(None),) + (1,) * (ndim - 1 - axis)] = True
    if members.all():
        return box((-1,) * ndim, (3,) * ndim)
    return Flat((-1,) * ndim, (3,) * ndim, members.tobytes())


def _trimmed(op: str, footprint: NDArray[Any], ndim: int, binary: bool) -> Flat:
    if footprint.dtype.kind not in "buif":
        raise TypeError(
            f"{op}: footprint must be bool, integer or float, got dtype {footprint.dtype}"
        )
    if footprint.ndim != ndim:
        raise ValueError(
            f"{op}: footprint must have as many axes as image ({ndim}), got shape {footprint.shape}"
        )
    members = footprint.astype(np.bool_)
    # A cache: trimming takes as long as the work on a small image.
    cut = _cut if members.size <= _MOST_CACHED else _cut.__wrapped__
    flat = cut(members.tobytes(), members.shape, binary)
    if flat is NOTHING and not binary:
        raise ValueError(f"{op}: footprint must not be all zero")
    return flat


@functools.lru_cache(maxsize=256)
def _cut(data: bytes, shape: tuple[int, ...], binary: bool) -> Flat:
    """The members of a footprint without the empty planes around them."""
    members = np.frombuffer(data, np.bool_).reshape(shape)
    if not members.any():
        return NOTHING
    ndim = members.ndim
    low = [-(n // 2 if binary else (n - 1) // 2) for n in shape]
    for axis in range(ndim):
        used = np.flatnonzero(members.any(tuple(k for k in range(ndim) if k != axis)))
        low[axis] += int(used[0])
        members = members.take(range(int(used[0]), int(used[-1]) + 1), axis)
    if members.all():
        return box(low, members.shape)
    return Flat(tuple(low), members.shape, members.tobytes())


def _passes(size: int) -> Iterator[tuple[int, ...]]:
    """Shifts of each pass that makes windows of `size` from single pixels, at most 4 a pass."""
    left = max(1, math.ceil(math.log(size, 4) - 1e-9)) if size > 1 else 0
    reached = 1
    while reached < size:
        ratio = math.ceil((size / reached) ** (1 / left) - 1e-9)
        wanted = min(size, reached * ratio)
        yield _cover(reached, wanted)
        reached, left = wanted, left - 1


def _cover(piece: int, size: int) -> tuple[int, ...]:
    """Where windows of `piece` begin that together make one of `size`."""
    return (*range(0, size - piece, piece), size - piece) if size > piece else (0,)


def _box_part(lead: tuple[int, ...], low: tuple[int, ...], size: tuple[int, ...]) -> Part:
    depth, height, width = size
    shifts = [tuple((0, x) for x in xs) for xs in _passes(width)]
    shifts += [tuple((y, 0) for y in ys) for ys in _passes(height)]
    kept = 2 if depth > 1 and len(shifts) > 1 else min(1, len(shifts))
    steps = tuple(
        (min(i, 1), kept if i == len(shifts) - 1 else 1, shift) for i, shift in enumerate(shifts)
    )
    rows = tuple((kept, z, 0, 0) for z in range(depth))
    return (lead, low, size, kept + 1, steps, rows)


def _run_parts(members: NDArray[np.bool_], low: tuple[int, ...], bits: bool) -> Iterator[Part]:
    """One part for each offset along the axes before the last three."""
    for lead in np.ndindex(members.shape[:-3]):
        volume = members[lead]
        if not volume.any():
            continue
        offset = tuple(a + b for a, b in zip(lead, low[:-3], strict=True))
        yield (offset, low[-3:], volume.shape, *_run_program(volume, bits))


def _runs(volume: NDArray[np.bool_]) -> Iterator[tuple[int, int, int, int]]:
    """(z, y, first x, length) of every horizontal run."""
    for z, y in np.ndindex(volume.shape[:2]):
        edges = np.flatnonzero(np.diff(volume[z, y].view(np.int8), prepend=0, append=0))
        for first, end in edges.reshape(-1, 2).tolist():
            yield z, y, first, end - first


def _run_program(volume: NDArray[np.bool_], bits: bool) -> tuple[int, Part, Part]:
    """(buffers, steps, rows) of a union of runs."""
    runs = list(_runs(volume))
    lengths = sorted({length for *_, length in runs})
    if len(lengths) > _MOST_LENGTHS:
        lengths = [1 << k for k in range(lengths[-1].bit_length())]
    steps: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    buffer_of, reached = {1: 0}, 1
    for length in lengths:
        while reached < length:
            wanted = min(length, 4 * reached)
            shifts = tuple((0, x) for x in _cover(reached, wanted))
            steps.append((buffer_of[reached], len(steps) + 1, shifts))
            buffer_of[wanted] = len(steps)
            reached = wanted
    rows = set()
    for z, y, first, length in runs:
        piece = max(n for n in lengths if n <= length)
        for x in _cover(piece, length):
            rows.add((z, y, first + x, piece))
    if not bits:
        program = tuple((buffer_of[n], z, y, x) for z, y, x, n in sorted(rows))
        return len(steps) + 1, tuple(steps), program
    aligned = {}
    for x, length in sorted({(x, n) for *_, x, n in rows}):
        aligned[x, length] = buffer_of[length]
        if x > 0:
            steps.append((buffer_of[length], len(steps) + 1, ((0, x),)))
            aligned[x, length] = len(steps)
    program = tuple((aligned[x, n], z, y, 0) for z, y, x, n in sorted(rows))
    return len(steps) + 1, tuple(steps), program
