"""What a cut of an image costs: boundaries by contrast and length, pixels by their intensity."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks, _mixture
from medseg_fast._cpu import core
from medseg_fast.grid_graph import GridGraph

Offset = tuple[int, ...]
Costs = NDArray[np.float32]
_WIDEST = 1e15
Region = str | Callable[..., Any] | None


def cut_like(image: Any, *args: Any, channel_axis: int | None = None, **kw: Any) -> tuple[Any, Any]:
    """Shape and dtype of a cut's mask: a pixel each, whatever the channels."""
    shape = list(image.shape)
    if channel_axis is not None:
        del shape[channel_axis]
    return tuple(shape), np.bool_


class CutImage:
    """An image as the kernels want it: three axes and channels; checked to be finite."""

    def __init__(self, op: str, image: Any, channel_axis: int | None, spacing: Any) -> None:
        array = _checks.as_array(op, image)
        if channel_axis is not None:
            axis = _checks.integer(op, "channel_axis", channel_axis, -array.ndim, array.ndim - 1)
            array = np.moveaxis(array, axis, -1)
        else:
            array = array[..., np.newaxis]
        self.array = _checks.image(op, array)
        self.shape = self.array.shape[:-1]
        if not 1 <= len(self.shape) <= 3:
            raise ValueError(
                f"{op}: image must have one to three dimensions besides channels, got {self.shape}"
            )
        self.channels = self.array.shape[-1]
        self.spacing = _checks.spacing(op, spacing, len(self.shape))
        self.volume = self.array.reshape((1,) * (3 - len(self.shape)) + self.array.shape)
        # Squared differences are float32.
        if self.array.size and not core.mean_and_deviation(self.array)[1] < _WIDEST:
            raise ValueError(
                f"{op}: image must be finite, with a standard deviation below {_WIDEST:g}"
            )

    def part(self, where: tuple[slice, ...]) -> CutImage:
        """A part of it, copied."""
        part = copy.copy(self)
        part.array = np.ascontiguousarray(self.array[where])
        part.shape = part.array.shape[:-1]
        part.volume = part.array.reshape((1,) * (3 - len(part.shape)) + part.array.shape)
        return part

    def mask(self, op: str, name: str, value: Any) -> NDArray[np.bool_]:
        """A mask of its pixels, as given."""
        mask = _checks.mask(op, value, name)
        if mask.shape != self.shape:
            raise ValueError(f"{op}: {name} must have shape {self.shape}, got {mask.shape}")
        return mask

    def full(self, offset: Offset) -> list[int]:
        return [0] * (3 - len(offset)) + list(offset)


def boundary_strength(op: str, value: Any) -> float:
    """`lambda_` as given."""
    strength = float(_checks.number(op, "lambda_", value))
    if not 0 <= strength < math.inf:
        raise ValueError(f"{op}: lambda_ must be finite and not negative, got {value!r}")
    return strength


def contrast_sigma(op: str, value: Any, image: CutImage, offsets: list[Offset]) -> float:
    """`sigma` as given, or that of the image."""
    if value is None:
        return contrast_scale(image, offsets)
    sigma = float(_checks.number(op, "sigma", value))
    if not 0 < sigma < math.inf:
        raise ValueError(f"{op}: sigma must be positive and finite, got {value!r}")
    return sigma


def contrast_scale(image: CutImage, offsets: list[Offset]) -> float:
    """Root mean square of the differences between neighbours; 1 if there are none."""
    total, count = 0.0, 0
    for offset in offsets:
        total += core.squared_differences(image.volume, image.full(offset))
        count += math.prod(max(0, n - abs(o)) for n, o in zip(image.shape, offset, strict=True))
    return math.sqrt(total / count) if total else 1.0


@functools.lru_cache(maxsize=64)
def metric(offsets: tuple[Offset, ...], spacing: tuple[float, ...]) -> tuple[float, ...]:
    """Weights of edges by which a cut costs its length (2D) or area (3D) per pixel or voxel.

    Boykov and Kolmogorov (2003): an edge stands for the directions nearest to its own, a fraction
    f of all; the formula of Cauchy and Crofton gives pi / 2 * f / length in 2D, 2 * f / length in
    3D.
    """
    edges = np.array(offsets) * np.array(spacing)
    lengths = np.linalg.norm(edges, axis=1)
    lines = edges / lengths[:, None]
    if len(spacing) == 1:
        return (1 / spacing[0],)
    if len(spacing) == 2:
        angle = np.arctan2(lines[:, 0], lines[:, 1]) % np.pi
        order = np.argsort(angle)
        ahead = np.diff(angle[order], append=angle[order[0]] + np.pi)
        fractions = np.empty(len(offsets))
        fractions[order] = (ahead + np.roll(ahead, 1)) / (2 * np.pi)
        return tuple((np.pi / 2 * fractions / lengths).tolist())
    k = np.arange(20000) + 0.5  # evenly over a half sphere
    height, turn = k / 20000, np.pi * (1 + math.sqrt(5)) * k
    radius = np.sqrt(1 - height**2)
    directions = np.stack([height, radius * np.cos(turn), radius * np.sin(turn)], 1)
    nearest = np.abs(directions @ lines.T).argmax(1)
    fractions = np.bincount(nearest, minlength=len(offsets)) / len(k)
    return tuple((2 * fractions / lengths).tolist())


def inverse_distances(offsets: tuple[Offset, ...], spacing: tuple[float, ...]) -> tuple[float, ...]:
    """One over the distance of neighbours, in units of the smallest side of a pixel."""
    edges = np.array(offsets) * np.array(spacing) / min(spacing)
    return tuple((1 / np.linalg.norm(edges, axis=1)).tolist())


def add_boundary(graph: GridGraph, image: CutImage, strengths: list[float], sigma: float) -> None:
    """Add edges of ``strength * exp(-|difference|^2 / (2 sigma^2))`` for each offset."""
    weights = np.empty(image.volume.shape[:3], np.float32)
    flat = weights.reshape(image.shape)
    for k, (offset, strength) in enumerate(zip(graph.offsets, strengths, strict=True)):
        core.contrast_weights(image.volume, image.full(offset), strength, 0.5 / sigma**2, weights)
        graph._put_edges("graph_cut", 2 * k, flat, flat, 2 * strength)


Model = Callable[[tuple[slice, ...]], tuple[Costs, Costs]]


def region_model(
    op: str,
    image: CutImage,
    region: Region,
    foreground: NDArray[np.bool_],
    background: NDArray[np.bool_],
    given: Any,
) -> Model:
    """A model of both seeds: costs in the foreground and in the background, for a part."""
    if region is None:
        return lambda where: tuple(np.zeros(image.part(where).shape, np.float32) for _ in "ab")  # type: ignore[return-value]
    if callable(region):
        pair = _called(op, image, region, foreground, background, given)
        return lambda where: (pair[0][where], pair[1][where])
    if region == "histogram":
        model = Histograms(image, foreground, background)
        return lambda where: model.costs(image.part(where))
    if region == "gmm":
        mixtures = [_mixture.fit(image.array[seeds]) for seeds in (foreground, background)]

        def costs(where: tuple[slice, ...]) -> tuple[Costs, Costs]:
            part = image.part(where).array
            return not_negative(*(_mixture.costs(part, m)[0] for m in mixtures))

        return costs
    raise ValueError(f'{op}: region must be "histogram", "gmm", a function or None, got {region!r}')


def region_costs(
    op: str,
    image: CutImage,
    region: Region,
    foreground: NDArray[np.bool_],
    background: NDArray[np.bool_],
    given: Any,
) -> tuple[Costs, Costs]:
    """Costs of every pixel in the foreground and in the background, by a model of both seeds."""
    everything = tuple(slice(0, n) for n in image.shape)
    return region_model(op, image, region, foreground, background, given)(everything)


def _called(
    op: str,
    image: CutImage,
    region: Callable[..., Any],
    foreground: NDArray[np.bool_],
    background: NDArray[np.bool_],
    given: Any,
) -> tuple[Costs, Costs]:
    pair = region(given, foreground, background)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{op}: region must return the costs of foreground and background")
    costs = []
    for array in pair:
        cost = np.asarray(array, np.float32)
        if cost.shape != image.shape or not np.isfinite(cost).all():
            raise ValueError(f"{op}: region must return finite costs of shape {image.shape}")
        costs.append(cost)
    return not_negative(*costs)


def not_negative(foreground: Costs, background: Costs) -> tuple[Costs, Costs]:
    """What counts is the difference, and densities may be above 1."""
    least = np.minimum(foreground, background)
    return foreground - least, background - least


_BINS, _EVEN = 64, 0.01


class Histograms:
    """-log of the frequency of intensities among the seeds of either region, by channel.

    64 bins over the image's range, smoothed by (1, 4, 6, 4, 1) / 16, and a hundredth of the mass
    spread evenly, so that no intensity is impossible.
    """

    MOST = -math.log(_EVEN / _BINS)  # that a pixel costs, for each channel

    def __init__(
        self, image: CutImage, foreground: NDArray[np.bool_], background: NDArray[np.bool_]
    ) -> None:
        flat = image.array.reshape(-1, image.channels)
        self._low, high = flat.min(0).astype(np.float64), flat.max(0).astype(np.float64)
        self._step = np.where(high > self._low, (high - self._low) / _BINS, 1.0)
        self._tables = [self._table(image.array[seeds]) for seeds in (foreground, background)]

    def _table(self, seeds: NDArray[Any]) -> NDArray[np.float32]:
        table = np.empty((len(self._low), _BINS), np.float32)
        at = np.clip((seeds.astype(np.float64) - self._low) / self._step, 0, _BINS - 1)
        for c, bins in enumerate(at.astype(np.int64).T):
            counts = np.bincount(bins, minlength=_BINS)
            smooth = np.convolve(np.pad(counts, 2, "edge"), (1, 4, 6, 4, 1), "valid")
            frequency = (1 - _EVEN) * smooth / max(smooth.sum(), 1) + _EVEN / _BINS
            table[c] = -np.log(frequency)
        return table

    def costs(self, image: CutImage, *, out: Costs | None = None) -> tuple[Costs, Costs]:
        """Of each pixel in the foreground and in the background; `out` has a row for each."""
        pair = np.empty((2, *image.shape), np.float32) if out is None else out
        for table, costs in zip(self._tables, pair, strict=True):
            volume = costs.reshape(image.volume.shape[:3])
            core.table_costs(image.volume, self._low, self._step, table, volume)
        return pair[0], pair[1]
