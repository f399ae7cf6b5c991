"""How intensities become what a network sees: the same in training and in `predict`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

WORDS = ("zscore", "robust", "none")
_TAILS = (0.5, 99.5)  # per cent


class Scaling(NamedTuple):
    """(clip(value, low, high) - shift) / scale, of each channel."""

    low: Array | None
    high: Array | None
    shift: Array
    scale: Array

    def apply(self, pixels: Array) -> None:
        """In place, to floats with channels last."""
        if self.low is not None and self.high is not None:
            np.clip(pixels, *(a.astype(pixels.dtype) for a in (self.low, self.high)), out=pixels)
        pixels -= self.shift.astype(pixels.dtype)
        pixels /= self.scale.astype(pixels.dtype)


def scaling(op: str, array: Array, how: Any, name: str = "normalise") -> Scaling:
    """Of an image with channels last, as `predict` says in its parameter `normalise`.

    Errors call `how` by its `name`.
    """
    channels = array.shape[-1]
    shift, scale = np.zeros(channels), np.ones(channels)
    if not isinstance(how, str):
        low, high = (float(value) for value in how)
        if not low < high:
            raise ValueError(f"{op}: {name} must be (low, high) with low < high, got {how!r}")
        limits = np.full(channels, low), np.full(channels, high)
        return Scaling(*limits, limits[0], limits[1] - limits[0])
    if how not in WORDS:
        words = ", ".join(map(repr, WORDS))
        raise ValueError(f"{op}: {name} must be {words} or (low, high), got {how!r}")
    if how == "none":
        return Scaling(None, None, shift, scale)
    low_high = np.zeros((2, channels))
    for c in range(channels):
        values = array[..., c]
        if how == "robust":
            low_high[:, c] = np.percentile(values, _TAILS)
            values = values.clip(*low_high[:, c])
        shift[c] = values.mean(dtype=np.float64)
        spread = np.sqrt(max(0.0, _mean_square(values) - shift[c] ** 2))
        scale[c] = spread if spread > 0 else 1.0
    if how == "zscore":
        return Scaling(None, None, shift, scale)
    return Scaling(low_high[0], low_high[1], shift, scale)


def _mean_square(values: Array) -> float:
    """Plane by plane, so that no second volume is needed."""
    sums = [float(np.square(plane, dtype=np.float64).sum()) for plane in values]
    return sum(sums) / values.size
