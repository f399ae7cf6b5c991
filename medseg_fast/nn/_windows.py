"""Where windows lie, how they blend, and what becomes of a slab of logits that is complete.

All of this sees an image with one of its axes, the longest, moved to the front: windows proceed
along it, and what they have left behind is finished.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg_fast.nn import _seam
from medseg_fast.nn._intensities import Scaling

Array = NDArray[Any]


class Axis(NamedTuple):
    """The windows along one axis."""

    size: int  # of the image
    window: int  # pixels that the network gets
    used: int  # pixels of its answer that lie in the image
    before: int  # pixels that it gets in front of those
    starts: tuple[int, ...]  # where the used pixels begin
    weight: Tensor  # of each used pixel
    total: Tensor  # sum of the weights at each pixel of the image


def axis(size: int, window: int, answer: int, before: int, overlap: float, blend: str) -> Axis:
    """Windows at equal distances that cover an axis, overlapping by at least `overlap`."""
    used = min(answer, size)
    count = 1
    if used < size:
        step = max(1, int(used * (1 - overlap)))
        count = -(-(size - used) // step) + 1
    starts = tuple(round(i * (size - used) / max(1, count - 1)) for i in range(count))
    weight = torch.ones(used, dtype=torch.float64)
    if blend == "gaussian" and count > 1:
        # nnU-Net's and MONAI's: one eighth of the window; 0.0003 at its border.
        position = torch.arange(used, dtype=torch.float64) - (used - 1) / 2
        weight = torch.exp(-0.5 * (position / (used / 8)).square())
    total = torch.zeros(size, dtype=torch.float64)
    for start in starts:
        total[start : start + used] += weight
    return Axis(size, window, used, before, starts, weight, total)


def outer(vectors: Sequence[Tensor]) -> Tensor:
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
    dtype: torch.dtype

    def read(self, starts: Sequence[int], sizes: Sequence[int]) -> Tensor:
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
        block = block.astype(np.float64 if self.dtype == torch.float64 else np.float32)
        self.scaling.apply(block)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(block, -1, 0))).to(self.dtype)


def _mirrored(start: int, size: int, length: int) -> Array:
    """Indices that turn back at both ends, which appear once."""
    period = max(1, 2 * (length - 1))
    index = np.arange(start, start + size) % period
    return np.minimum(index, period - index)


def slide(
    image: Image,
    axes: Sequence[Axis],
    run: Callable[[Tensor], Tensor],
    take: Callable[[int, Tensor], None],
    tick: Callable[[int], None],
    batch: int,
) -> None:
    """Run every window; hand over each slab of averaged logits when no window adds to it any more.

    Holds one slab: classes x the window's length x the image's cross-section.
    """
    first, rest = axes[0], axes[1:]
    weight = outer([axis.weight for axis in axes])
    below = outer([axis.total for axis in rest]) if rest else torch.ones(())
    slab: Tensor | None = None
    for number, begin in enumerate(first.starts):
        for corners in _batches(rest, batch):
            windows = torch.stack(
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
            logits = run(windows)
            if logits.dtype != torch.float64:
                logits = logits.float()
            if slab is None:
                cross = [axis.size for axis in rest]
                slab = logits.new_zeros((logits.shape[1], first.used, *cross))
                weight, below = weight.to(slab), below.to(slab)
            for answer, corner in zip(logits, corners, strict=True):
                for dimension, axis in enumerate(axes, 1):
                    answer = answer.narrow(dimension, 0, axis.used)
                place = [slice(s, s + axis.used) for s, axis in zip(corner, rest, strict=True)]
                slab[(slice(None), slice(None), *place)] += answer * weight
            tick(len(corners))
        assert slab is not None
        last = number == len(first.starts) - 1
        done = first.used if last else first.starts[number + 1] - begin
        totals = first.total[begin : begin + done].to(slab)
        totals = totals.reshape(-1, *(1,) * len(rest)) * below
        take(begin, slab[:, :done] / totals)
        if not last:
            keep = first.used - done
            if keep:
                slab[:, :keep] = slab[:, done:].clone()
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
        self._held: Tensor | None = None  # the last plane of logits so far

    def take(self, start: int, logits: Tensor) -> None:
        """(classes, planes, ...), which begin at plane `start`."""
        if self.array is None:
            self.array = self.make(logits.shape[0])
        if self.size == self.inputs:
            self._put(start, logits)
            return
        logits = logits.cpu()
        if self._held is not None:
            logits, start = torch.cat([self._held, logits], 1), start - 1
        stop = start + logits.shape[1]
        low, high, part = self._neighbours(stop)
        if len(low):
            fraction = torch.from_numpy(part).to(logits).reshape(-1, *(1,) * (logits.ndim - 2))
            front = logits[:, torch.from_numpy(low - start)]
            back = logits[:, torch.from_numpy(high - start)]
            self._put(self._next, torch.lerp(front, back, fraction))
            self._next += len(low)
        self._held = logits[:, -1:].clone()

    def _neighbours(self, stop: int) -> tuple[Array, Array, Array]:
        """For the next planes of the result: those on both sides, where they lie before `stop`."""
        have, want = self.inputs[0], self.size[0]
        position = (np.arange(self._next, want) + 0.5) * (have / want) - 0.5
        position = position.clip(0, have - 1)
        low = np.floor(position).astype(np.int64)
        high = np.minimum(low + 1, have - 1)
        ready = high < stop
        return low[ready], high[ready], (position - low)[ready]

    def _put(self, start: int, logits: Tensor) -> None:
        """Planes of the result's grid along the first axis, of the logits' along the others."""
        assert self.array is not None
        stop = start + logits.shape[1]
        resize = self.size[1:] != tuple(logits.shape[2:])
        if self.probabilities:
            if resize:
                logits = _seam.enlarge(logits, self.size[1:])
            values = logits.softmax(0) if logits.shape[0] > 1 else logits.sigmoid()
            self.array[:, start:stop] = values.cpu().numpy()
            return
        if resize:
            self.array[start:stop] = _seam.label_planes(logits, self.size[1:])
        elif logits.shape[0] == 1:
            self.array[start:stop] = (logits[0] > 0).cpu().numpy()
        else:
            self.array[start:stop] = logits.argmax(0).cpu().numpy()
