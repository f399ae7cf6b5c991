"""Convolutions as other ones that are quicker: of pixels for images, of parts, without strides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast.nn._optimize._graph import Layer, Size3
from medseg_fast.nn._optimize._views import View, part_of

LEAST_CHANNELS = 16  # for Winograd's algorithm, and AMX's tiles


def floats(values: Any) -> NDArray[np.float32]:
    """As weights are kept."""
    return np.ascontiguousarray(values, np.float32)


def batch_as_pixels(
    layer: Layer, source: View, target: View, weight: NDArray[Any]
) -> tuple[View, View, NDArray[Any]] | None:
    """A convolution to one pixel of each of a batch, as a linear layer is, as one to an image.

    Its pixels are the batch, its channels all that the kernel covers: so weights are read for many
    pixels, not for each. It has neither stride nor padding; None if there is no such convolution.
    """
    slot, offset, narrow, batch, channels, size, by_batch, by_channel, strides = source
    count = size[0] * size[1] * size[2]
    if batch == 1 or target[5] != (1, 1, 1) or tuple(weight.shape[2:]) != size:
        return None
    if any((*layer["before"], *layer["after"])):
        return None
    runs = [n * s for n, s in zip(size[1:], strides[1:], strict=True)]  # to the next row, plane
    inner = strides[2]
    joined = (size[1] == 1 or strides[1] == runs[1]) and (size[0] == 1 or strides[0] == runs[0])
    if count == 1:
        flat = weight
    elif joined and inner == 1 and by_channel == count:  # channels outside
        flat = weight.reshape(len(weight), -1)
    elif joined and by_channel == 1 and inner == channels:  # and inside
        flat = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    else:
        return None
    by_channel = by_channel if count == 1 else 1
    flat = floats(flat).reshape(len(weight), -1, 1, 1, 1)
    line = (1, 1, batch)
    seen = (slot, offset, narrow, 1, count * channels, line, 0, by_channel, (0, 0, by_batch))
    slot, offset, narrow, _, channels, _, by_batch, by_channel, _ = target
    made = (slot, offset, narrow, 1, channels, line, 0, by_channel, (0, 0, by_batch))
    return seen, made, flat


class Part(NamedTuple):
    """Some pixels of a map: a box of them, every so many."""

    start: Size3
    size: Size3
    step: Size3

    def of(self, view: View) -> View:
        """The same of a view."""
        return part_of(view, start=self.start, size=self.size, step=self.step)


Phase = tuple[Part, Part, tuple[Size3, Size3, Size3]]
"""What is read and what is written; stride, zeros before and after."""


def phases_of(layer: Layer, inputs: Size3, outputs: Size3) -> list[Phase]:
    """A convolution by parts that are quicker, if there are such, of maps of these sizes.

    One of a single tap and a stride reads every so many pixels. One that is dilated never brings
    together pixels of different rest of their place by the dilation: each rest is a convolution
    without dilation, for which Winograd's algorithm does.
    """
    kernel, stride, dilation = layer["weight"].shape[2:], layer["stride"], layer["dilation"]
    before, after = layer["before"], layer["after"]
    if kernel == (1, 1, 1) and stride != (1, 1, 1) and not any((*before, *after)):
        whole = Part((0, 0, 0), outputs, (1, 1, 1))
        return [(Part((0, 0, 0), outputs, stride), whole, ((1, 1, 1), before, after))]
    wide = min(layer["weight"].shape[:2]) >= LEAST_CHANNELS
    if (
        not wide
        or kernel[1:] not in ((3, 3), (5, 5))
        or stride[1:] != (1, 1)
        or dilation[1:] == (1, 1)
    ):
        return []
    if any(d > 1 and n < 4 * d for n, d in zip(outputs, (1, *dilation[1:]), strict=True)):
        return []  # parts of a tile or less
    found = []
    step: Size3 = (1, *dilation[1:])
    for phase in np.ndindex(*step[1:]):
        begin, size, count, begins, pads = (
            [0],
            [inputs[0]],
            [outputs[0]],
            [0],
            [(before[0], after[0])],
        )
        for a in (1, 2):
            d, i = dilation[a], int(phase[a - 1])
            shift, rest = divmod(i - before[a], d)
            read = len(range(rest, inputs[a], d))
            written = len(range(i, outputs[a], d))
            cut = max(shift, 0)
            left = max(-shift, 0)
            right = written + kernel[a] - 1 - left - (read - cut)
            if read - cut + min(right, 0) < 1 or written < 1:
                return []
            begin.append(rest + cut * d)
            size.append(read - cut + min(right, 0))
            begins.append(i)
            count.append(written)
            pads.append((left, max(right, 0)))
        part = Part(size3(begin), size3(size), step)
        places = Part(size3(begins), size3(count), step)
        zeros = size3([b for b, _ in pads]), size3([a for _, a in pads])
        found.append((part, places, ((stride[0], 1, 1), *zeros)))
    return found


def size3(values: Any) -> Size3:
    """Three integers."""
    first, second, third = values
    return int(first), int(second), int(third)


@dataclass
class Axis:
    """One axis of one phase of a transposed convolution, as a plain one."""

    taps: list[int]
    before: int
    after: int
    begin: int  # inputs that it reads
    inputs: int
    count: int  # outputs


def phase_of(i: int, kernel: int, stride: int, padding: int, inputs: int, outputs: int) -> Axis:
    """Outputs i, i + stride, ...: output q reads inputs q + b - t by tap r + t stride."""
    r, b = (i + padding) % stride, (i + padding) // stride
    taps = list(range(r, kernel, stride))[::-1]
    count = len(range(i, outputs, stride))
    before = len(taps) - 1 - b
    begin = max(-before, 0)
    after = count + len(taps) - 1 - before - inputs
    end = inputs + min(after, 0)
    return Axis(taps, max(before, 0), max(after, 0), begin, end - begin, count)
