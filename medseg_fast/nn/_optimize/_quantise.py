"""A plan's convolutions in 8-bit integers: by what an example makes of their inputs.

B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", CVPR 2018: weights in 127 steps of each output channel's largest, inputs in steps of one
size for a layer, found here by running the plan once. Maps between layers stay as they are, so
where a layer is better left as it was nothing has to be converted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast.nn._optimize._lower import ALGORITHMS
from medseg_fast.nn._optimize._plan import Plan

Array = NDArray[Any]

_DIRECT = ALGORITHMS.index("direct")
_FASTER = tuple(ALGORITHMS.index(name) for name in ("tiles", "fixed", "fixed 6x6"))  # than fours
_LEAST_CHANNELS = 16  # with fewer the first layer's rounding costs more than it saves
_PART = 1e-4  # of the values that may lie beyond the largest step
_SEEN = 1 << 20  # values of a map that are looked at


def quantised(plan: Plan, examples: Sequence[Array]) -> list[dict[str, Any]]:
    """The steps of a plan, convolutions of many channels by integers where that is faster.

    Raises ValueError if the examples tell nothing: all of them are zeros.
    """
    if not any(each.any() for each in examples):
        raise ValueError(
            "optimize: example must be images like those to come for precision 'int8', got zeros"
        )
    seen: dict[int, tuple[float, float, float]] = {}
    slower = _slower()

    def look(index: int, step: dict[str, Any], slots: Sequence[Any]) -> None:
        arguments = step["arguments"]
        if step["call"] != "convolution" or min(arguments[0]) < _LEAST_CHANNELS:
            return
        if arguments[5] in slower:
            maps = [_values(view, slots) for view in arguments[8]]
            seen[index] = _steps_of(np.concatenate(maps))

    plan.watch(examples, look)
    return [
        _by_integers(step, seen[i]) if i in seen else step
        for i, step in enumerate(plan.parts()["steps"])
    ]


def _slower() -> set[int]:
    """Algorithms that products of bytes outrun here.

    Tiles of bytes are faster than anything. Four bytes in one instruction are faster than
    Winograd's algorithm in floats, pairs are not.
    """
    every = set(range(len(ALGORITHMS)))
    if core.have_byte_tiles():
        return every
    return every.difference(_FASTER) if core.have_byte_products() else {_DIRECT}


def _by_integers(step: dict[str, Any], steps: tuple[float, float, float]) -> dict[str, Any]:
    arguments = list(step["arguments"])
    arguments[5] = list(steps)
    text = step["text"].rpartition(", ")[0]
    return {**step, "call": "convolution8", "arguments": arguments, "text": f"{text}, 8 bits"}


def _values(view: Sequence[Any], slots: Sequence[Array]) -> Array:
    """What lies in a view of the plan's memory."""
    slot, offset, narrow, batch, channels, size, by_batch, by_channel, strides = view
    item = 2 if narrow else 4
    memory = slots[slot].reshape(-1).view(np.uint8)[offset:]
    memory = memory[: len(memory) // item * item].view(np.uint16 if narrow else np.float32)
    values = np.lib.stride_tricks.as_strided(
        memory,
        (batch, channels, *size),
        tuple(item * n for n in (by_batch, by_channel, *strides)),
        writeable=False,
    )
    every = max(1, values.size // _SEEN)
    flat = values.reshape(-1)[::every]
    return (flat.astype(np.uint32) << 16).view(np.float32) if narrow else flat


def _steps_of(values: Array) -> tuple[float, float, float]:
    """Size of a step, and the lowest and highest multiple of it."""
    size = np.abs(values)
    place = len(size) - 1 - int(_PART * len(size))
    largest = float(np.partition(size, place)[place]) or float(size.max()) or 1.0
    if values.min() >= 0:
        return largest / 255, 0.0, 255.0
    return largest / 127, -127.0, 127.0
