"""Boundaries and closed regions by the flow of edges, from intensity, colour and texture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.gabor import gabor_bank
from medseg_fast.gaussian import gaussian

Array = NDArray[Any]

_FEATURES = ("intensity", "texture", "both")
_AHEAD = 4  # the prediction error is taken so many sigma ahead
_ROUNDS = 3  # of closing gaps, as in the paper
_HIGH = 0.45  # cycles per pixel, the highest frequency of the texture
_ORIENTATIONS = 6
_NOISE = 12.0  # times sigma and the median slope: strength that noise does not reach


class EdgeFlow(NamedTuple):
    """What `edge_flow` finds."""

    strength: NDArray[np.float32]
    """Where flows meet, what arrives there from both sides: about the height of the step; else 0.
    The boundary is between the pixel and the next one in its row or column."""
    edges: NDArray[np.bool_]
    """Pixels whose next pixel in the row or column belongs to another region."""
    direction: NDArray[np.float32]
    """Unit vector of the flow, towards the nearest boundary, (2, rows, columns); 0 without flow."""
    labels: NDArray[np.int32]
    """Regions enclosed by boundaries, 1, 2, ... in raster order; every pixel is in one."""


class _Maps:
    """The smoothed maps that the flow is computed from, and their weights."""

    def __init__(self, shape: tuple[int, ...], channels: int, filters: int) -> None:
        self.maps = np.empty((channels + filters, *shape), np.float32)
        self.of_map: list[int] = [*range(channels), *([channels] * filters)]
        self.scale: list[float] = []  # of each map
        self.attributes: list[float] = []

    def for_merging(self) -> list[float]:
        """Weight of each map where regions are compared: squares add up as energies do."""
        shares = (self.attributes[attribute] for attribute in self.of_map)
        return [s * math.sqrt(w) for s, w in zip(self.scale, shares, strict=True)]


@operation(result=None)
def edge_flow(
    image: ArrayLike,
    sigma: float = 2.0,
    *,
    features: str = "intensity",
    channel_axis: int | None = None,
    weights: Sequence[float] | None = None,
    texture_weight: float = 0.4,
    directions: int = 16,
    low: float | None = None,
    high: float | None = None,
    reach: float | None = None,
    min_size: int | None = None,
    n_regions: int | None = None,
    spacing: Sequence[float] | None = None,
) -> EdgeFlow:
    """Find boundaries where edge flow meets, and the regions that they enclose."""
    op = "edge_flow"
    array, channels = _channels(op, image, channel_axis)
    shape = array.shape[1:]
    scale = float(_checks.number(op, "sigma", sigma))
    if not 0 < scale < math.inf:
        raise ValueError(f"{op}: sigma must be positive and finite, got {sigma!r}")
    if features not in _FEATURES:
        raise ValueError(f"{op}: features must be one of {', '.join(_FEATURES)}, got {features!r}")
    half = _checks.integer(op, "directions", directions, 4, 64)
    if half % 2:
        raise ValueError(f"{op}: directions must be even, got {directions!r}")
    sizes = _checks.spacing(op, spacing, 2)
    maps = _maps(op, array, scale, features, weights, texture_weight, sizes)

    angles = np.arange(half // 2) * (2 * math.pi / half)
    ways = np.stack([np.sin(angles), np.cos(angles)], -1)
    offsets = np.rint(_AHEAD * scale * ways / np.array(sizes)).astype(np.int64)
    flow = np.empty((2, *shape), np.float32)
    core.edge_flow_vectors(
        *(maps.maps, maps.of_map, maps.scale, maps.attributes),
        *(offsets.tolist(), ways.tolist(), sizes, flow),
    )
    energy, strength = np.empty_like(flow), np.empty(shape, np.float32)
    core.meet_flows(flow, sizes, 64 + math.ceil(64 * scale / min(sizes)), energy, strength)
    limits = _limits(op, low, high, scale, flow, strength)
    core.unit_flow(flow)
    masks, labels = np.empty(shape, np.uint8), np.empty(shape, np.int32)
    pixel = math.sqrt(sizes[0] * sizes[1])
    gap = _AHEAD * scale if reach is None else _limit(op, "reach", reach)
    fewest = math.ceil(math.pi * (2 * scale / pixel) ** 2)
    if min_size is not None:
        fewest = _checks.integer(op, "min_size", min_size, 0)
    wanted = 0 if n_regions is None else _checks.integer(op, "n_regions", n_regions, 1)
    core.link_boundaries(energy, *limits, gap / pixel, _ROUNDS, masks)
    core.label_enclosed(masks, labels)
    core.merge_enclosed(maps.maps, maps.for_merging(), fewest, wanted, masks, labels)
    return EdgeFlow(strength, masks != 0, flow, labels)


def _channels(op: str, image: Any, channel_axis: Any) -> tuple[Array, int]:
    """The image as (channels, rows, columns)."""
    array = _stencil.image(op, image)
    if channel_axis is not None:
        axis = _checks.integer(op, "channel_axis", channel_axis, -array.ndim, array.ndim - 1)
        array = np.moveaxis(array, axis, 0)
    else:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(
            f"{op}: image must be 2D (the flow is defined in a plane), got {array.ndim - 1} "
            "axes beside the channels"
        )
    if array.shape[0] == 0:
        raise ValueError(f"{op}: image must have at least one channel, got shape {array.shape}")
    if array[0].size > np.iinfo(np.int32).max:
        raise ValueError(f"{op}: image must have fewer than 2**31 pixels, got {array[0].size}")
    return array, array.shape[0]


def _maps(
    op: str,
    image: Array,
    sigma: float,
    features: str,
    weights: Any,
    texture_weight: Any,
    spacing: Sequence[float],
) -> _Maps:
    channels = 0 if features == "texture" else image.shape[0]
    given = [1.0] * image.shape[0] if weights is None else list(weights)
    shares = [float(_checks.number(op, "weights", w)) for w in given]
    if len(shares) != image.shape[0] or not all(0 <= w < math.inf for w in shares):
        raise ValueError(
            f"{op}: weights must be one number for each of {image.shape[0]} channels, at least 0, "
            f"got {weights!r}"
        )
    if sum(shares) == 0:
        raise ValueError(f"{op}: weights must not all be 0")
    part = float(_checks.number(op, "texture_weight", texture_weight))
    if not 0 <= part <= 1:
        raise ValueError(f"{op}: texture_weight must be from 0 to 1, got {texture_weight!r}")
    part = {"intensity": 0.0, "texture": 1.0, "both": part}[features]

    # Frequencies from one period in 4 sigma up, about an octave apart.
    high = _HIGH / max(spacing)
    low = min(1 / (_AHEAD * sigma), high)
    scales = round(math.log2(high / low)) + 1
    filters = scales * _ORIENTATIONS if part else 0
    found = _Maps(image.shape[1:], channels, filters)
    for map, channel in zip(found.maps, image, strict=False):
        gaussian(channel, sigma, mode="reflect", preserve_range=True, spacing=spacing, out=map)
    unit = 1.0
    if channels and filters:  # in units of the whole image's standard deviation
        unit = _inverse(math.sqrt(sum(float(_finite(c).var()) for c in image) / len(image)))
    found.scale += [unit] * channels
    found.attributes += [w / sum(shares) * (1 - part) for w in shares[:channels]]
    if filters:
        grey = image[0] if len(image) == 1 else image.mean(0, dtype=np.float32)
        bank = found.maps[channels:].reshape(scales, _ORIENTATIONS, *image.shape[1:])
        gabor_bank(grey, scales, _ORIENTATIONS, low=low, high=high, spacing=spacing, out=bank)
        for map in found.maps[channels:]:
            found.scale.append(_inverse(math.sqrt(float(np.square(_finite(map)).mean()))))
            gaussian(map, sigma, mode="reflect", spacing=spacing, out=map)
        found.attributes.append(part)
    return found


def _finite(values: Array) -> Array:
    """The finite ones as float64, one 0 if there is none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return finite if finite.size else np.zeros(1)


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else 0.0


def _limits(
    op: str, low: Any, high: Any, sigma: float, flow: Array, strength: Array
) -> tuple[float, float]:
    """The two thresholds of strength; by default what noise like the image's hardly reaches."""
    if high is None:
        # The noise is what half of the image has; of white noise one boundary in 300 is stronger.
        step = max(1, strength.size // 100_000)
        some = flow.reshape(2, -1)[:, ::step]
        noise = float(np.median(np.hypot(some[0], some[1]))) if some.size else 0.0
        most = max(_NOISE * sigma * noise, 1e-4 * float(strength.max(initial=0)))
    else:
        most = _limit(op, "high", high)
    least = most / 2 if low is None else _limit(op, "low", low)
    if least > most:
        raise ValueError(f"{op}: low must not exceed high, got {least:g} > {most:g}")
    return least, most


def _limit(op: str, name: str, value: Any) -> float:
    number = float(_checks.number(op, name, value))
    if number < 0:
        raise ValueError(f"{op}: {name} must not be negative, got {value!r}")
    return number
