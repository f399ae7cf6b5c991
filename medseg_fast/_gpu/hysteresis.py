"""Launches of `apply_hysteresis_threshold`."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast import _checks
from medseg_fast._gpu import _arrays
from medseg_fast._gpu._components import Components
from medseg_fast._gpu._device import Device
from medseg_fast._gpu.threshold import in_range
from medseg_fast.hysteresis import _limits


def apply_hysteresis_threshold(
    device: Device,
    image: Any,
    low: Any,
    high: Any,
    *,
    connectivity: int = 1,
    out: Any = None,
    apart: int = 0,
) -> Any:
    op = "apply_hysteresis_threshold"
    pixels = _arrays.image(device, op, image)
    if pixels.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension")
    reach = _checks.integer(op, "connectivity", connectivity, 1, pixels.ndim - apart)
    low, high = _arrays.number(low), _arrays.number(high)
    if np.ndim(low) or np.ndim(high):
        raise NotImplementedError(f"{op}: no GPU kernel for thresholds that are arrays")
    weak, strong = _limits(op, pixels.dtype, low, high)
    mask = _arrays.output(device, op, out, pixels.shape, np.bool_)
    if strong is None or pixels.size == 0:
        mask[...] = False
        return mask
    most = np.inf if pixels.dtype.kind == "f" else _most(pixels.dtype)
    candidates, chosen = (device.xp.empty(pixels.shape, np.uint8) for _ in range(2))
    in_range(device, pixels, np.array([weak, most], pixels.dtype), candidates)
    in_range(device, pixels, np.array([strong, most], pixels.dtype), chosen)
    sets = Components(device, op, candidates, 0, reach, apart)
    written = _arrays.scratch(device, mask)
    sets.holding_any(chosen, written.view(np.uint8))
    return _arrays.finish(mask, written)


def _most(dtype: np.dtype[Any]) -> int:
    return 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
