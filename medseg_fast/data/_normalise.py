"""Intensities as a network wants them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast.threshold_histogram import threshold_otsu

Array = NDArray[Any]

_OP = "normalise"
MODALITIES = ("ct", "mr", "pet", "us", "rgb", "zscore", "none")
_WINDOWS = {"ct": (-150.0, 250.0), "pet": (0.0, 20.0)}  # soft tissue in HU; SUV


def normalise(
    image: ArrayLike,
    modality: str = "zscore",
    *,
    window: Sequence[float] | None = None,
    weight_kg: float | None = None,
    dose_bq: float | None = None,
) -> NDArray[np.float32]:
    """Bring the intensities of a scan to about the range -1 to 1 (or mean 0, deviation 1).

    Parameters
    ----------
    image : array_like
        (C, *spatial): each channel is taken for itself.
    modality : {"ct", "mr", "pet", "us", "rgb", "zscore", "none"}, optional
        - ct: Hounsfield units, clipped to `window` (default -150 to 250, soft tissue), to [-1, 1].
        - mr: mean 0 and deviation 1 of the body, which is what lies above Otsu's threshold.
        - pet: standardised uptake values, clipped to `window` (default 0 to 20), to [0, 1]. With
          `weight_kg` and `dose_bq` the image is in Bq/ml; without it is SUV already.
        - us: mean 0 and deviation 1 of the beam, which is what is not 0.
        - rgb: integers as parts of their largest value; then 0 to 1 becomes -2 to 2.
        - zscore: mean 0 and deviation 1 of the channel.
        - none: float32.
    window : (float, float), optional
        For ct and pet.
    weight_kg, dose_bq : float, optional
        The patient's weight and the injected activity, decayed to the time of the scan.

    Returns
    -------
    normalised : ndarray of float32
        The image's shape. A region without spread becomes 0; NaN stays NaN.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the modality is not known, or `window`, weight and dose do not fit it.

    Notes
    -----
    NaN and infinite pixels count neither for means nor for Otsu's threshold.

    Examples
    --------
    >>> normalise([[-1000, 50, 250]], "ct").tolist()
    [[-1.0, 0.0, 1.0]]
    """
    array = _checks.image(_OP, image)
    if array.ndim < 2:
        raise ValueError(f"{_OP}: image must be (C, *spatial), got shape {array.shape}")
    if modality not in MODALITIES:
        raise ValueError(
            f"{_OP}: modality must be one of {', '.join(MODALITIES)}, got {modality!r}"
        )
    if window is not None and modality not in _WINDOWS:
        raise ValueError(f"{_OP}: window is for ct and pet, got modality {modality!r}")
    if (weight_kg is None) != (dose_bq is None) or (weight_kg is not None and modality != "pet"):
        raise ValueError(f"{_OP}: weight_kg and dose_bq are both for pet")
    out = np.empty(array.shape, np.float32)
    if modality in _WINDOWS:
        low, high = _limits(window if window is not None else _WINDOWS[modality])
        scale = 1.0
        if weight_kg is not None and dose_bq is not None:
            if not (0 < weight_kg < math.inf and 0 < dose_bq < math.inf):
                raise ValueError(f"{_OP}: weight_kg and dose_bq must be positive")
            scale = 1000 * weight_kg / dose_bq
        first, spread = (-1.0, 2.0) if modality == "ct" else (0.0, 1.0)
        np.multiply(array, np.float32(scale), out=out, casting="unsafe")
        np.clip(out, low, high, out=out)
        out -= np.float32(low)
        out *= np.float32(spread / (high - low))
        out += np.float32(first)
    elif modality == "rgb":
        most = np.iinfo(array.dtype).max if array.dtype.kind in "ui" else 1
        np.multiply(array, np.float32(4 / most), out=out, casting="unsafe")
        out -= np.float32(2)
    elif modality == "none":
        out[...] = array
    else:
        for channel, result in zip(array, out, strict=True):
            _standardise(channel, modality, result)
    return out


def _limits(window: Sequence[float]) -> tuple[float, float]:
    numbers = [float(_checks.number(_OP, "window", w)) for w in window]
    if len(numbers) != 2 or not -math.inf < numbers[0] < numbers[1] < math.inf:
        raise ValueError(f"{_OP}: window must be two ascending numbers, got {window!r}")
    return numbers[0], numbers[1]


def _standardise(channel: Array, modality: str, out: Array) -> None:
    """Mean 0 and deviation 1 of a part of the channel."""
    values = channel[np.isfinite(channel)] if channel.dtype.kind == "f" else channel.ravel()
    if modality == "us":
        values = values[values != 0]
    elif modality == "mr" and values.size and values.min() < values.max():
        inside = values > threshold_otsu(values)
        values = values[inside] if inside.any() else values
    mean = values.mean(dtype=np.float64) if values.size else 0.0
    spread = values.std(dtype=np.float64) if values.size else 0.0
    np.subtract(channel, mean, out=out, casting="unsafe", dtype=np.float64)
    if spread > 0:
        out /= np.float32(spread)
    else:
        out[...] = np.where(np.isnan(out), out, 0)
