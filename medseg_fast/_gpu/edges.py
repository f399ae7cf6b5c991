"""Launches of `sobel`, `prewitt`, `scharr`, `farid`, and of those along one axis of a 2D image."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from medseg_fast import _checks, _stencil
from medseg_fast._gpu import _arrays, _filters
from medseg_fast._gpu._device import BLOCK, Device, run
from medseg_fast.edges import _KERNELS
from medseg_fast.kernels.source import FLOATS, Source

SOURCE = Source("edges.cuh", gradient=(_filters.LOADED, FLOATS, (1, 2, 3), (1, 2)))


def _gradient(
    device: Device,
    op: str,
    image: Any,
    mask: Any,
    axis: Any,
    mode: Any = "reflect",
    cval: Any = 0.0,
    spacing: Any = None,
    dtype: Any = None,
    out: Any = None,
    ndim: int | None = None,
    apart: int = 0,
) -> Any:
    array = _filters.image(device, op, image, ndim=None if ndim is None else ndim + apart, most=3)
    rank = array.ndim - apart
    axes = _stencil.axes(op, axis, rank)
    modes = _stencil.modes(op, mode, rank)
    fill = _stencil.cval(op, cval)
    sizes = _checks.spacing(op, spacing, rank)
    inside = _filters.mask(device, op, mask, array)
    result = _filters.output(device, op, array, dtype, out)
    written = _filters.scratch(device, array, result)
    if not axes:
        written[...] = 0
        return _arrays.finish(result, written)
    source = _filters.loaded(array, result.dtype)
    real = result.dtype.type
    edge, smooth = ([*w, 0, 0][:3] for w in _KERNELS[op.removesuffix("_h").removesuffix("_v")])
    # Of a magnitude, an axis that is named twice counts twice.
    per_mm = [math.sqrt(axes.count(axis)) / size for axis, size in enumerate(sizes)]
    lacking = 3 - rank
    borders = [np.int32(m) for m in (*[0] * lacking, *modes)]
    radius = 2 if edge[2] else 1
    args = [source, _filters.nullable(device, inside), written, *_filters.extents(array)]
    args += [*map(real, (*_filters.scaling(array.dtype), fill)), *borders]
    args += [*map(real, (*smooth, *edge[1:], *[0.0] * lacking, *per_mm))]
    args += [np.int32(len(axes) > 1), real(1 / rank)]
    launch = device.kernel(SOURCE, "gradient", source.dtype, result.dtype, rank, radius)
    run(launch, _filters.strips(array), (BLOCK,), *args)
    return _arrays.finish(result, written)


def _magnitude(op: str) -> Callable[..., Any]:
    def launch(
        device: Device,
        image: Any,
        mask: Any = None,
        *,
        axis: Any = None,
        apart: int = 0,
        **options: Any,
    ) -> Any:
        return _gradient(device, op, image, mask, axis, apart=apart, **options)

    return launch


def _directed(op: str, axis: int) -> Callable[..., Any]:
    def launch(
        device: Device, image: Any, mask: Any = None, *, apart: int = 0, **options: Any
    ) -> Any:
        return _gradient(device, op, image, mask, axis, ndim=2, apart=apart, **options)

    return launch


sobel, prewitt, scharr, farid = map(_magnitude, _KERNELS)
sobel_h, prewitt_h, scharr_h, farid_h = (_directed(f"{op}_h", 0) for op in _KERNELS)
sobel_v, prewitt_v, scharr_v, farid_v = (_directed(f"{op}_v", 1) for op in _KERNELS)
