"""Launches of `laplace`, `roberts` and its parts, and `zero_crossings`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from medseg_fast import _checks, _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._device import BLOCK, Device, run, tiles
from medseg_fast.kernels.source import FLOATS, Source
from medseg_fast.second_difference import contrast_of

SOURCE = Source(
    "differences.cuh",
    laplace=(_filters.LOADED, FLOATS, (1, 2, 3)),
    cross_difference=(_filters.LOADED, FLOATS, (2, 3)),
    cross_zero=(_filters.LOADED, (1, 2, 3)),
)


def laplace(
    device: Device,
    image: Any,
    ksize: int = 3,
    mask: Any = None,
    *,
    spacing: Any = None,
    dtype: Any = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "laplace"
    array = _filters.image(device, op, image, most=3)
    _checks.integer(op, "ksize", ksize, 3)
    rank = array.ndim - apart
    weights = [1 / size**2 for size in _checks.spacing(op, spacing, rank)]

    def numbers(real: Any) -> Sequence[Any]:
        return [*map(real, [0.0] * (3 - rank) + weights)]

    return _sweep(device, op, "laplace", array, apart, mask, dtype, out, numbers)


def _cross(op: str, corner: Callable[[int], int]) -> Callable[..., Any]:
    """`corner` of the block that the difference leads to the opposite of, by the image's rank."""

    def launch(
        device: Device,
        image: Any,
        mask: Any = None,
        *,
        dtype: Any = None,
        out: Any = None,
        apart: int = 0,
    ) -> Any:
        array = _filters.image(device, op, image, most=3)
        rank = array.ndim - apart
        if rank < 2:
            raise ValueError(
                f"{op}: image must have at least 2 dimensions, got shape {array.shape[apart:]}"
            )

        def numbers(real: Any) -> Sequence[Any]:
            return [np.int32(corner(rank))]

        return _sweep(device, op, "cross_difference", array, apart, mask, dtype, out, numbers)

    return launch


roberts = _cross("roberts", lambda rank: -1)
roberts_pos_diag = _cross("roberts_pos_diag", lambda rank: 0)
roberts_neg_diag = _cross("roberts_neg_diag", lambda rank: 1 << (rank - 1))


def zero_crossings(
    device: Device, image: Any, threshold: float = 0.0, *, out: Any = None, apart: int = 0
) -> Any:
    op = "zero_crossings"
    array = _filters.image(device, op, image, most=3)
    contrast = contrast_of(op, _arrays.number(threshold))
    mask = _arrays.output(device, op, out, array.shape, np.bool_)
    written = _filters.scratch(device, array, mask)
    source = _filters.loaded(array, _stencil.float_type(array.dtype))
    real = np.float64 if source.dtype == np.float64 else np.float32
    args = [source, written.view(np.uint8), *_filters.extents(array), real(contrast)]
    launch = device.kernel(SOURCE, "cross_zero", source.dtype, array.ndim - apart)
    run(launch, tiles(*map(int, _filters.extents(array))), (BLOCK,), *args)
    return _arrays.finish(mask, written)


def _sweep(
    device: Device,
    op: str,
    kernel: str,
    array: Any,
    apart: int,
    mask: Any,
    dtype: Any,
    out: Any,
    numbers: Callable[[Any], Sequence[Any]],
) -> Any:
    """Launch a kernel of this source; `numbers` are its own arguments, given the floats' type."""
    inside = _filters.mask(device, op, mask, array)
    result = _filters.output(device, op, array, dtype, out)
    written = _filters.scratch(device, array, result)
    source = _filters.loaded(array, result.dtype)
    real = result.dtype.type
    args = [source, _filters.nullable(device, inside), written, *_filters.extents(array)]
    args += [*map(real, _filters.scaling(array.dtype)), *numbers(real)]
    launch = device.kernel(SOURCE, kernel, source.dtype, result.dtype, array.ndim - apart)
    run(launch, _filters.strips(array), (BLOCK,), *args)
    return _arrays.finish(result, written)
