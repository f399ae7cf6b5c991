"""Launches of `label` and `fill_holes`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import Device
from medseg_fast.components import _background, _default_dtype, _label_dtype, _reach


def label(
    device: Device,
    label_image: Any,
    background: Any = None,
    return_num: bool = False,
    connectivity: Any = None,
    *,
    dtype: Any = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    image = _arrays.image(device, "label", label_image, "label_image")
    reach = _checks.connectivity("label", connectivity, image.ndim - apart)
    keys, zero = _keys(device, image, _background("label", background, image.dtype))
    default = dtype is None and out is None
    wide = np.int64 if image.size >= 2**31 else np.int32
    labels, count = device.xp.zeros(0, np.int32), 0
    counts: Any = device.xp.zeros(len(image), np.int64) if apart else 0
    if image.size:
        sets = Components(device, "label", keys, zero, reach, apart)
        number = sets.labels_apart if apart else sets.labels
        labels, counts = number(_default_dtype(image) if default else wide)
    labels = labels.reshape(image.shape)
    if apart and not default:
        count = int(counts.max()) if image.size else 0
    elif not apart and (not default or return_num):
        counts = count = int(counts)  # waits for the device
    wanted = _default_dtype(image) if default else _label_dtype("label", dtype, out, image, count)
    if out is None:
        labels = labels.astype(wanted, copy=False)
    else:
        target = _arrays.output(device, "label", out, image.shape, wanted)
        target[...] = labels
        labels = target
    return (labels, counts) if return_num else labels


def fill_holes(
    device: Device,
    mask: Any,
    structure: Any = None,
    *,
    connectivity: int | None = None,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op, xp = "fill_holes", device.xp
    array = _arrays.image(device, op, mask, "mask")
    if structure is not None:
        if connectivity is not None:
            raise ValueError(f"{op}: structure and connectivity must not both be given")
        connectivity = _reach(op, _arrays.fetch(structure), array.ndim - apart)
    reach = _checks.connectivity(
        op, 1 if connectivity is None else connectivity, array.ndim - apart
    )
    if array.dtype.kind == "f" and bool(xp.isnan(array).any()):  # waits for the device
        raise ValueError(f"{op}: mask must not contain NaN")
    filled = _arrays.output(device, op, out, array.shape, np.bool_)
    if array.size == 0:
        return filled
    background = (array == 0).view(np.uint8)
    border = xp.zeros(array.shape, np.uint8)
    for axis in range(apart, array.ndim):
        border[(slice(None),) * axis + (0,)] = border[(slice(None),) * axis + (-1,)] = 1
    outside = xp.empty(array.shape, np.uint8)
    Components(device, op, background, 0, reach, apart).holding_any(border, outside)
    filled[...] = outside == 0
    return filled


def _keys(device: Device, image: Any, zero: Any) -> tuple[Any, Any]:
    """Unsigned keys that are equal where pixels count as equal, and the background's (or None)."""
    xp = device.xp
    if image.dtype.kind != "f":
        unsigned = np.dtype(f"u{image.dtype.itemsize}")
        return image.view(unsigned), None if zero is None else zero.view(unsigned)
    # Cut to integers, as scikit-image does; -0.0 becomes 0.0, and NaN belongs to the background.
    cut = xp.trunc(_arrays.pixels(image)) + 0
    outside = np.array(np.nan if zero is None else zero, cut.dtype)
    cut = xp.where(xp.isnan(cut), cut.dtype.type(outside), cut)
    unsigned = np.dtype(f"u{cut.dtype.itemsize}")
    return cut.view(unsigned), outside.view(unsigned)
