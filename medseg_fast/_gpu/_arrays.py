"""Checks of a GPU's arrays, in the words of `_checks`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu._device import Device


def image(
    device: Device,
    op: str,
    value: Any,
    name: str = "image",
    *,
    ndim: int | tuple[int, ...] | None = None,
) -> Any:
    """Return `value` as the kernels want it: C-contiguous, its own dtype, still on the device."""
    if not isinstance(value, device.array):
        raise TypeError(
            f"{op}: {name} must lie on the GPU as the other arrays do, got "
            f"{type(value).__module__}.{type(value).__qualname__}"
        )
    _checks.described(op, value, name, ndim=ndim)
    return device.xp.ascontiguousarray(value).reshape(value.shape)


def pixels(array: Any) -> Any:
    """The array in a type that kernels are compiled for: bool as uint8, float16 as float32."""
    if array.dtype.kind == "b":
        return array.view(np.uint8)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def bits(value: Any) -> Any:
    """float16 as the 16 bits that kernels know it by."""
    return value.view(np.uint16) if value.dtype == np.float16 else value


def output(device: Device, op: str, out: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a fresh array, or `out` after checking that the result fits it exactly."""
    if out is None:
        return device.xp.empty(shape, dtype)
    if not isinstance(out, device.array):
        raise TypeError(f"{op}: out must lie on the GPU, got {type(out).__qualname__}")
    if out.shape != shape or out.dtype != np.dtype(dtype):
        raise ValueError(
            f"{op}: out must have shape {shape} and dtype {np.dtype(dtype)}, "
            f"got {out.shape} and {out.dtype}"
        )
    return out


def scratch(device: Device, out: Any) -> Any:
    """What a kernel writes for `out`: itself, or a contiguous, aligned stand-in."""
    aligned = _address(out) % 16 == 0
    return out if out.flags.c_contiguous and aligned else device.xp.empty(out.shape, out.dtype)


def _address(array: Any) -> int:
    where = getattr(array.data, "ptr", None)  # CuPy's; NumPy's way is slower
    return int(array.__array_interface__["data"][0] if where is None else where)


def finish(out: Any, written: Any) -> Any:
    """Copy a stand-in from `scratch` back, and return `out`."""
    if written is not out:
        out[...] = written
    return out


def number(value: Any) -> Any:
    """A number that may lie on the device: fetched, which waits for what computes it."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def fetch(array: Any) -> Any:
    """A copy of a few values in NumPy's hands: it waits for what computes them."""
    return array.get() if hasattr(array, "get") else array
