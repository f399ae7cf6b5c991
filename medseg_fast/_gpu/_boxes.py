"""Checks of boxes and features that lie on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._gpu import _arrays
from medseg_fast._gpu._device import Device


def floats(device: Device, op: str, name: str, value: Any) -> Any:
    """An array of float16, float32 or float64; integers become float32."""
    array = _arrays.image(device, op, value, name)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def computed(array: Any) -> Any:
    """The array in the dtype it is computed in, float32 or float64."""
    return array.astype(np.float32) if array.dtype.itemsize < 4 else array
