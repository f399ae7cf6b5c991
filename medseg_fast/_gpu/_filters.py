"""What the launches of filters share: the types of images and results, scaling, masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _stencil
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import Device, ceil_div, tiles

# Other integers are converted before: 64 bits would gain nothing from kernels of their own.
LOADED = tuple(map(np.dtype, (np.uint8, np.uint16, np.int16, np.float32, np.float64)))
_ROWS = 4  # of a thread


def image(
    device: Device, op: str, value: Any, *, ndim: int | None = None, most: int | None = None
) -> Any:
    """`_arrays.image` with at least one axis, and at `most` as many as there are kernels for."""
    array = _arrays.image(device, op, value, ndim=ndim)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    if most is not None and array.ndim > most:
        raise NotImplementedError(
            f"{op}: no GPU kernel for more than {most} axes, got shape {array.shape}"
        )
    return array


def output(device: Device, op: str, given: Any, dtype: Any, out: Any) -> Any:
    """`out`, or a fresh array of the wanted dtype, float32 or float64."""
    wanted = _stencil.float_type(given.dtype) if dtype is None else np.dtype(dtype)
    if dtype is None and out is not None and out.dtype in _stencil._FLOATS:
        wanted = np.dtype(out.dtype)
    if wanted not in _stencil._FLOATS:
        raise TypeError(f"{op}: dtype must be float32 or float64, got {wanted}")
    return _arrays.output(device, op, out, given.shape, wanted)


def scratch(device: Device, given: Any, out: Any) -> Any:
    """What a kernel writes for `out`: not the image that it still reads."""
    usable = _arrays.scratch(device, out)
    return device.xp.empty_like(usable) if device.xp.may_share_memory(given, usable) else usable


def loaded(array: Any, dtype: Any) -> Any:
    """The image in a type that kernels load, exact or rounded to `dtype` as they would."""
    pixels = _arrays.pixels(array)
    return pixels if pixels.dtype in LOADED else pixels.astype(dtype)


def scaling(dtype: np.dtype[Any], preserve_range: bool = False) -> tuple[float, float]:
    """What to multiply by, and the least value: scikit-image's rule for integers."""
    if preserve_range or dtype.kind not in "ui":
        return 1.0, -np.inf
    return _stencil.scale(dtype), -1.0


def mask(device: Device, op: str, value: Any, given: Any) -> Any:
    """A mask of the image's shape as uint8: what is not 0 is inside. None stays None."""
    if value is None:
        return None
    array = _arrays.image(device, op, value, "mask")
    if array.shape != given.shape:
        raise ValueError(f"{op}: mask must have shape {given.shape}, got {array.shape}")
    return (array if array.dtype == np.bool_ else array != 0).view(np.uint8)


def nullable(device: Device, array: Any) -> Any:
    """The array, or what reaches a kernel as a null pointer."""
    return device.xp.empty(0, np.uint8) if array is None else array


def extents(array: Any) -> list[Any]:
    """Planes, rows, columns of an array of up to three axes, as kernels take them."""
    return [np.int32(n) for n in (*[1] * (3 - array.ndim), *array.shape)]


def strips(array: Any) -> tuple[int]:
    """The grid of kernels whose threads make `_ROWS` rows of a column (`rows_of_thread`)."""
    planes, rows, columns = map(int, extents(array))
    return tiles(planes, ceil_div(rows, _ROWS), columns)
