"""Launches of `resample_argmax` and `upsample_argmax`."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._boxes import computed
from medseg_fast._gpu._device import BLOCK, Device, ceil_div, run, tiles
from medseg_fast.kernels.source import FLOATS, Source
from medseg_fast.nn.functional.resampling import _Grid, _grid, _label_dtype, _orders

_LABELS = tuple(map(np.dtype, (np.uint8, np.uint16, np.int32, np.int64)))
SOURCE = Source("resample_argmax.cuh", resample=(FLOATS, _LABELS))
_ROWS = 4  # of a thread


def resample_argmax(
    device: Device,
    logits: Any,
    size: Any = None,
    *,
    scale_factor: Any = None,
    spacing: Any = None,
    new_spacing: Any = None,
    order: Any = 1,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: Any = None,
    out: Any = None,
) -> Any:
    op = "resample_argmax"
    array = _logits(device, op, logits)
    grid = _grid(op, array, size, scale_factor, spacing, new_spacing, align_corners)
    return _labels(device, op, array, grid, order, align_corners, threshold, dtype, out)


def upsample_argmax(
    device: Device,
    logits: Any,
    scale_factor: Any,
    *,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: Any = None,
    out: Any = None,
) -> Any:
    op = "upsample_argmax"
    array = _logits(device, op, logits)
    grid = _grid(op, array, None, scale_factor, None, None, align_corners)
    return _labels(device, op, array, grid, 1, align_corners, threshold, dtype, out)


def _logits(device: Device, op: str, value: Any) -> Any:
    array = _arrays.image(device, op, value, "logits")
    if array.ndim not in (3, 4, 5):
        raise ValueError(f"{op}: logits must have 3 to 5 dimensions, got shape {array.shape}")
    if array.dtype.kind != "f":
        return array.astype(np.result_type(array.dtype, np.float32))
    return computed(array)


def _labels(
    device: Device,
    op: str,
    array: Any,
    grid: _Grid,
    order: Any,
    align_corners: bool,
    threshold: float | None,
    dtype: Any,
    out: Any,
) -> Any:
    """Both functions, once they know the grid."""
    batch = array.shape[: array.ndim - grid.rank - 1]
    classes = array.shape[len(batch)]
    least = 0.0 if threshold is None else float(_checks.number(op, "threshold", threshold))
    kind = _label_dtype(op, dtype, classes, threshold)
    labels = _arrays.output(device, op, out, (*batch, *grid.shape), kind)
    linear = _orders(op, order, grid.rank)
    if labels.size and 0 in array.shape:
        raise ValueError(f"{op}: logits must have a value along every axis, got {array.shape}")
    made = kind if kind in _LABELS else np.dtype(np.int64)
    fresh = made != kind or _arrays.scratch(device, labels) is not labels
    written = device.xp.empty(labels.shape, made) if fresh else labels
    real, flat = array.dtype.type, 3 - grid.rank  # one plane in 2D
    shape = (1,) * flat + grid.shape
    integers = [classes, *(1,) * flat, *array.shape[-grid.rank :], *shape]
    args = [array, written, *map(np.int32, integers)]
    args += [np.float64(s) for s in (1.0,) * flat + grid.scales]
    args += [np.int32(flag) for flag in (True,) * flat + linear]
    args += [np.int32(align_corners), np.int32(threshold is not None), real(least)]
    args.append(real(np.finfo(real).max / 4))
    launch = device.kernel(SOURCE, "resample", array.dtype, made)
    planes, rows, columns = prod(batch) * shape[0], *shape[1:]
    run(launch, tiles(planes, ceil_div(rows, _ROWS), columns), (BLOCK,), *args)
    return _arrays.finish(labels, written)
