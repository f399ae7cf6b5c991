"""Where kernels run: what a launching function needs of CuPy, or of the shim in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from medseg_fast.kernels.source import Source

Launch = Callable[[tuple[int, ...], tuple[int, ...], Sequence[Any]], None]
BLOCK = 256  # threads, where nothing speaks for another number
MOST_BLOCKS = 4096  # of a kernel whose threads go on with further elements: they fill any GPU


class Device(Protocol):
    """A GPU's arrays and kernels."""

    xp: Any  # CuPy, or NumPy: only what both have is used
    array: Any  # the class of the arrays that it takes

    def kernel(self, source: Source, name: str, *arguments: Any) -> Launch:
        """The instantiation of a kernel as ``f(grid, block, args)``; arguments are arrays and
        NumPy scalars of the very types of the kernel's parameters."""


def ceil_div(count: int, by: int) -> int:
    return -(-count // by)


def blocks(count: int, per_block: int = BLOCK) -> tuple[int]:
    """The grid for `count` elements, one for each thread."""
    return (ceil_div(count, per_block),)


def few_blocks(count: int, per_block: int = BLOCK) -> tuple[int]:
    """The grid for kernels whose threads go on with further elements."""
    return (min(ceil_div(count, per_block), MOST_BLOCKS),)


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
