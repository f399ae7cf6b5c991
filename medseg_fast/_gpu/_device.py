"""Where kernels run: what a launching function needs of CuPy, or of the shim in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import numpy as np

from medseg_fast.kernels.source import Source

Launch = Callable[[tuple[int, ...], tuple[int, ...], Sequence[Any]], None]
BLOCK = 256  # threads, where nothing speaks for another number
MOST_BLOCKS = 4096  # of a kernel whose threads go on with further elements: they fill any GPU
MOST_SECOND = 2**16 - 1  # blocks along a grid's second axis


class Device(Protocol):
    """A GPU's arrays and kernels."""

    xp: Any  # CuPy, or NumPy: only what both have is used
    array: Any  # the class of the arrays that it takes

    def kernel(self, source: Source, name: str, *arguments: Any) -> Launch:
        """The instantiation of a kernel as ``f(grid, block, args)``; arguments are arrays and
        NumPy scalars of the very types of the kernel's parameters."""

    def constant(self, array: np.ndarray[Any, Any]) -> Any:
        """A small array of the host's, on the device: for kernels to read."""


# Of the CUDA graph that is being recorded, or warmed up for it: constants that its kernels read.
_constants: ContextVar[dict[Any, Any] | None] = ContextVar("constants", default=None)


@contextmanager
def constants(held: dict[Any, Any]) -> Iterator[None]:
    """Keep the constants of what is launched inside, and bring none to the device twice.

    A graph would copy one again on every run, from where the host had it when it was recorded.
    """
    token = _constants.set(held)
    try:
        yield
    finally:
        _constants.reset(token)


def recording() -> bool:
    """Whether a CUDA graph is being recorded, or warmed up for it."""
    return _constants.get() is not None


def constant(array: np.ndarray[Any, Any], upload: Callable[[Any], Any]) -> Any:
    """`Device.constant`, by a function that copies to the device."""
    held = _constants.get()
    if held is None:
        return upload(array)
    key = array.dtype.str, array.shape, array.tobytes()
    if key not in held:
        held[key] = upload(array)
    return held[key]


def ceil_div(count: int, by: int) -> int:
    return -(-count // by)


def blocks(count: int, per_block: int = BLOCK) -> tuple[int]:
    """The grid for `count` elements, one for each thread."""
    return (ceil_div(count, per_block),)


def few_blocks(count: int, per_block: int = BLOCK) -> tuple[int]:
    """The grid for kernels whose threads go on with further elements."""
    return (min(ceil_div(count, per_block), MOST_BLOCKS),)


def second_axes(count: int) -> Iterator[slice]:
    """Parts of `count` that the second axis of a grid has numbers for, a launch each."""
    return (slice(i, i + MOST_SECOND) for i in range(0, count, MOST_SECOND))


def tiles(planes: int, rows: int, columns: int) -> tuple[int]:
    """The grid of kernels that work on tiles (kernels/tile.cuh), with blocks of `BLOCK`."""
    return (planes * ceil_div(rows, 8) * ceil_div(columns, 32),)


def run(launch: Launch, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    """Launch a kernel unless there is nothing to do."""
    if 0 not in grid:
        launch(grid, block, args)


def index_type(count: int) -> np.dtype[Any]:
    """The smaller type that numbers `count` pixels."""
    return np.dtype(np.int32 if count < 2**31 else np.int64)
