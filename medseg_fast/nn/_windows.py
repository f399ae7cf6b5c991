"""Where windows lie, how they blend, and what becomes of a slab of logits that is complete.

All of this sees an image with one of its axes, the longest, moved to the front: windows proceed
along it, and what they have left behind is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _warp
from medseg_fast.nn import _arrays, functional
from medseg_fast.nn._intensities import Scaling

Array = NDArray[Any]


class Axis(NamedTuple):
    """The windows along one axis."""

    size: int  # of the image
    window: int  # pixels that the network gets
    used: int  # pixels of its answer that lie in the image
    before: int  # pixels that it gets in front of those
    starts: tuple[int, ...]  # where the used pixels begin
    weight: Array  # of each used pixel
    total: Array  # sum of the weights at each pixel of the image


def axis(size: int, window: int, answer: int, before: int, overlap: float, blend: str) -> Axis:
    """Windows at equal distances that cover an axis, overlapping by at least `overlap`."""
    used = min(answer, size)
    count = 1
    if used < size:
        step = max(1, int(used * (1 - overlap)))
        count = -(-(size - used) // step) + 1
    starts = tuple(round(i * (size - used) / max(1, count - 1)) for i in range(count))
    weight = np.ones(used)
    if blend == "gaussian" and count > 1:
        # nnU-Net's and MONAI's: one eighth of the window; 0.0003 at its border.
        position = np.arange(used) - (used - 1) / 2
        weight = np.exp(-0.5 * (position / (used / 8)) ** 2)
    total = np.zeros(size)
    for start in starts:
        total[start : start + used] += weight
    return Axis(size, window, used, before, starts, weight, total)


def outer(vectors: Sequence[Array]) -> Array:
    """The product of one vector per axis."""
    result = vectors[0]
    for vector in vectors[1:]:
        result = result[..., None] * vector
    return result


@dataclass
class Image:
    """Pixels as the network wants them, window by window: the whole is never converted.

    ``array`` has its spatial axes first and its channels last. Outside of it the image is mirrored.
    """

    array: Array
    scaling: Scaling
    dtype: type[np.floating[Any]]

    def read(self, starts: Sequence[int], sizes: Sequence[int]) -> Array:
        """A window, channels first."""
        parts: list[slice | Array] = []
        inside = True
        for start, size, length in zip(starts, sizes, self.array.shape, strict=False):
            if start >= 0 and start + size <= length:
                parts.append(slice(start, start + size))
            else:
                inside = False
                parts.append(_mirrored(start, size, length))
        if inside:
            block = self.array[tuple(parts)]
        else:
            block = self.array
            for number, part in enumerate(parts):
                block = block[(slice(None),) * number + (part,)]
        block = block.astype(self.dtype)
        self.scaling.apply(block)
        return np.moveaxis(block, -1, 0)


def _mirrored(start: int, size: int, length: int) -> Array:
    """Indices that turn back at both ends, which appear once."""
    period = max(1, 2 * (length - 1))
    index = np.arange(start, start + size) % period
    return np.minimum(index, period - index)


def slide(
    image: Image,
    axes: Sequence[Axis],
    run: Callable[[Array], Any],
    take: Callable[[int, Any], None],
    tick: Callable[[int], None],
    batch: int,
) -> None:
    """Run every window; hand over each slab of averaged logits when no window adds to it any more.

    Holds one slab: classes x the window's length x the image's cross-section.
    """
    first, rest = axes[0], axes[1:]
    weight: Any = outer([axis.weight for axis in axes])
    below: Any = outer([axis.total for axis in rest]) if rest else np.ones(())
    slab: Any = None
    for number, begin in enumerate(first.starts):
        for corners in _batches(rest, batch):
            windows = np.stack(
                [
                    image.read(
                        [
                            start - axis.before
                            for start, axis in zip((begin, *c), axes, strict=True)
                        ],
                        [axis.window for axis in axes],
                    )
                    for c in corners
                ]
            )
            logits = _arrays.widened(run(windows))
            if slab is None:
                cross = [axis.size for axis in rest]
                slab = _arrays.zeros((logits.shape[1], first.used, *cross), logits)
                weight, below = _arrays.as_like(weight, slab), _arrays.as_like(below, slab)
            inside = tuple(slice(axis.used) for axis in axes)
            for answer, corner in zip(logits, corners, strict=True):
                place = [slice(s, s + axis.used) for s, axis in zip(corner, rest, strict=True)]
                slab[(slice(None), slice(None), *place)] += answer[(slice(None), *inside)] * weight
            tick(len(corners))
        assert slab is not None
        last = number == len(first.starts) - 1
        done = first.used if last else first.starts[number + 1] - begin
        totals = _arrays.as_like(first.total[begin : begin + done], slab)
        totals = totals.reshape(-1, *(1,) * len(rest)) * below
        take(begin, slab[:, :done] / totals)
        if not last:
            keep = first.used - done
            if keep:
                slab[:, :keep] = _arrays.copied(slab[:, done:])
            slab[:, keep:] = 0


def _batches(axes: Sequence[Axis], batch: int) -> Iterator[list[tuple[int, ...]]]:
    corners: list[tuple[int, ...]] = [()]
    for axis in axes:
        corners = [(*corner, start) for corner in corners for start in axis.starts]
    for index in range(0, len(corners), batch):
        yield corners[index : index + batch]


class Output:
    """Takes slabs of logits from front to back, and fills an array of labels or probabilities.

    Parameters
    ----------
    make : callable
        ``make(classes)`` gives the array, its spatial axes in the order of the slabs, and for
        probabilities the classes in front.
    inputs : sequence of int
        Size of the grid of the logits.
    size : sequence of int
        Size of the grid of the result, to which logits are resampled linearly.
    probabilities : bool
        Whether to keep them, instead of the class of the largest.
    """

    def __init__(
        self,
        make: Callable[[int], Array],
        inputs: Sequence[int],
        size: Sequence[int],
        probabilities: bool,
    ) -> None:
        self.make = make
        self.inputs, self.size = tuple(inputs), tuple(size)
        self.probabilities = probabilities
        self.array: Array | None = None
        self._next = 0  # plane of the result
        self._held: Array | None = None  # the last plane of logits so far

    def take(self, start: int, logits: Any) -> None:
        """(classes, planes, ...), which begin at plane `start`."""
        if self.array is None:
            self.array = self.make(logits.shape[0])
        if self.size == self.inputs:
            self._put(start, logits)
            return
        planes = _arrays.to_numpy(logits)
        if self._held is not None:
            planes, start = np.concatenate([self._held, planes], 1), start - 1
        stop = start + planes.shape[1]
        low, high, part = self._neighbours(stop)
        if len(low):
            share = part.astype(planes.dtype).reshape(-1, *(1,) * (planes.ndim - 2))
            front = planes[:, low - start]
            self._put(self._next, front + share * (planes[:, high - start] - front))
            self._next += len(low)
        self._held = planes[:, -1:].copy()

    def _neighbours(self, stop: int) -> tuple[Array, Array, Array]:
        """For the next planes of the result: those on both sides, where they lie before `stop`."""
        have, want = self.inputs[0], self.size[0]
        position = (np.arange(self._next, want) + 0.5) * (have / want) - 0.5
        position = position.clip(0, have - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, have - 1)
        ready = high < stop
        return low[ready], high[ready], (position - low)[ready]

    def _put(self, start: int, logits: Any) -> None:
        """Planes of the result's grid along the first axis, of the logits' along the others."""
        assert self.array is not None
        planes, size = slice(start, start + logits.shape[1]), self.size[1:]
        resize = size != tuple(logits.shape[2:])
        if self.probabilities:
            self.array[:, planes] = _arrays.chances(_enlarged(logits, size) if resize else logits)
        elif resize:
            self.array[planes] = _label_planes(logits, size)
        else:
            self.array[planes] = _arrays.classes(logits)


def _enlarged(logits: Array, size: tuple[int, ...]) -> Array:
    """(classes, planes, rows[, columns]) to other rows and columns, linearly."""
    return _warp.resize(np.ascontiguousarray(logits, np.float32), (logits.shape[1], *size))[0]


def _label_planes(logits: Array, size: tuple[int, ...]) -> Array:
    """The class of the largest logit after `_enlarged`; of one class, where it exceeds 0."""
    threshold = 0.0 if len(logits) == 1 else None
    if len(size) == 1:  # rows of a 2D image: one plane
        return functional.resample_argmax(logits, (logits.shape[1], *size), threshold=threshold)
    return functional.resample_argmax(logits.swapaxes(0, 1), size, threshold=threshold)
