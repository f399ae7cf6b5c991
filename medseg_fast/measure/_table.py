"""What one pass over a label image says of every label: the columns of all tables."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _cell_surface, _checks
from medseg_fast._cpu import core

Array = NDArray[Any]
Column = Callable[["LabelTable"], Array]

STATISTICS = (
    "count mean variance skewness kurtosis median min p10 p90 max interquartile_range range"
    " mean_absolute_deviation robust_mean_absolute_deviation median_absolute_deviation"
    " coefficient_of_variation quartile_coefficient_of_dispersion energy root_mean_square std"
).split()
"""Columns of the kernel `first_order`."""


class LabelTable:
    """Every label of an image with what can be told of all of them at once.

    Columns are arrays with a row for each label, in the order of `labels` (ascending), computed
    when first asked for.
    """

    def __init__(
        self, labels: Array, image: Array | None = None, spacing: tuple[float, ...] | None = None
    ) -> None:
        self.image, self.ndim = image, labels.ndim
        self.spacing = np.array(spacing or (1.0,) * labels.ndim)
        self.numbers, values = _dense(_checks.contiguous(labels))  # what the kernels see
        self.count = int(self.numbers.max(initial=0)) + 1
        boxes = np.zeros((self.count, 2, self.ndim), np.int64)
        sums = np.zeros((self.count, 1 + self.ndim), np.int64)
        moments = np.zeros((self.count, self.ndim, self.ndim))
        core.region_table(self.numbers, boxes, sums, moments)
        self.places = np.flatnonzero(sums[:, 0])  # in the kernels' tables
        self.labels = self.places if values is None else values[self.places]
        self.boxes, self.sizes = boxes[self.places], sums[self.places, 0]
        self.first, self.second = sums[self.places, 1:], moments[self.places]
        self._columns: dict[str, Array] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def slices(self, row: int) -> tuple[slice, ...]:
        """The label's box in the image."""
        return tuple(slice(int(a), int(b)) for a, b in self.boxes[row].T)

    def column(self, name: str) -> Array:
        """A column of `COLUMNS`."""
        if name not in self._columns:
            self._columns[name] = COLUMNS[name](self)
        return self._columns[name]

    @functools.cached_property
    def cells(self) -> NDArray[np.int64]:
        """Cells of each code of every label, see `_cell_surface`."""
        counts = np.zeros((self.count, 2**2**self.ndim), np.int64)
        core.label_cells(self.numbers, counts)
        return counts[self.places]

    @functools.cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each label's values begin in `values_of`, and where the last one's end."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    def values_of(self, image: Array) -> Array:
        """The image's values, label after label, in raster order within each."""
        starts = np.zeros(self.count + 1, np.int64)
        starts[self.places + 1] = self.sizes
        starts = np.cumsum(starts)
        values = np.empty(starts[-1], image.dtype)
        core.gather_values(self.numbers, image, starts, values)
        return values

    def statistics(self, image: Array) -> NDArray[np.float64]:
        """First-order statistics of each label's values, in the columns of `STATISTICS`."""
        return self._statistics_of(self.values_of(_checks.contiguous(image)))

    def _statistics_of(self, values: Array) -> NDArray[np.float64]:
        out = np.empty((len(self), len(STATISTICS)))
        core.first_order(values, self.starts, out)
        return out

    @functools.cached_property
    def values(self) -> Array:
        """`values_of` the table's image, which has no channels."""
        assert self.image is not None
        return self.values_of(_checks.contiguous(self.image))

    @functools.cached_property
    def channels(self) -> NDArray[np.float64]:
        """`statistics` of the image; one more axis at the end where it has channels."""
        assert self.image is not None
        if self.image.ndim == self.ndim:
            return self._statistics_of(self.values)
        parts = [self.statistics(self.image[..., c]) for c in range(self.image.shape[-1])]
        return np.stack(parts, axis=-1)

    def statistic(self, name: str) -> Array:
        """One column of `STATISTICS` of the image."""
        return self.channels[:, STATISTICS.index(name)]


def _dense(labels: Array) -> tuple[Array, Array | None]:
    """Labels that fill their range, as tables have a row for each, and what they stand for.

    The second is None where the labels are left as they are: up to 1024, or half of them in use.
    """
    highest = int(labels.max(initial=0))
    if highest <= 1024:
        return labels, None
    known = labels
    if labels.dtype.kind == "i" and int(labels.min()) < 0:
        known = np.maximum(labels, 0)
    if highest > 4 * labels.size + 65_536:
        values, places = np.unique(known, return_inverse=True)
        if values[0] != 0:
            values, places = np.insert(values, 0, 0), places + 1
        return places.reshape(labels.shape).astype(np.int32), values
    sizes = np.zeros(highest + 1, np.int64)
    core.label_sizes(known, sizes)
    sizes[0] = 1
    values = np.flatnonzero(sizes)
    if 2 * len(values) > highest:
        return labels, None
    lookup = np.zeros(highest + 1, np.int32)
    lookup[values] = np.arange(len(values))
    return lookup[known], values


COLUMNS: dict[str, Column] = {}


def _column(function: Column) -> Column:
    COLUMNS[function.__name__] = function
    return function


@_column
def num_pixels(t: LabelTable) -> Array:
    return np.asarray(t.sizes)


@_column
def area(t: LabelTable) -> Array:
    return np.asarray(t.sizes * np.prod(t.spacing))


@_column
def area_bbox(t: LabelTable) -> Array:
    return np.asarray(np.prod(t.boxes[:, 1] - t.boxes[:, 0], axis=1) * np.prod(t.spacing))


@_column
def extent(t: LabelTable) -> Array:
    return np.asarray(t.column("area") / t.column("area_bbox"))


@_column
def centroid(t: LabelTable) -> Array:
    """In mm from the first voxel's centre."""
    return np.asarray(t.first / t.sizes[:, None] * t.spacing)


@_column
def centroid_local(t: LabelTable) -> Array:
    return np.asarray((t.first / t.sizes[:, None] - t.boxes[:, 0]) * t.spacing)


@_column
def covariance(t: LabelTable) -> Array:
    """Of the voxels' places in mm."""
    return np.asarray(t.second / t.sizes[:, None, None] * np.outer(t.spacing, t.spacing))


@_column
def inertia_tensor(t: LabelTable) -> Array:
    spread = t.column("covariance")
    tensor = -spread  # a zero with a minus, which tells the orientation of upright regions
    axes = np.arange(t.ndim)
    tensor[:, axes, axes] += np.trace(spread, axis1=1, axis2=2)[:, None]
    return np.asarray(tensor)


@_column
def inertia_tensor_eigvals(t: LabelTable) -> Array:
    """Descending."""
    return np.clip(np.linalg.eigvalsh(t.column("inertia_tensor"))[:, ::-1], 0, None)


@_column
def axis_major_length(t: LabelTable) -> Array:
    values = t.column("inertia_tensor_eigvals")
    if t.ndim == 2:
        return np.asarray(4 * np.sqrt(values[:, 0]))
    return np.asarray(np.sqrt(np.maximum(0, 10 * (values[:, 0] + values[:, 1] - values[:, 2]))))


@_column
def axis_minor_length(t: LabelTable) -> Array:
    values = t.column("inertia_tensor_eigvals")
    if t.ndim == 2:
        return np.asarray(4 * np.sqrt(values[:, -1]))
    return np.asarray(np.sqrt(np.maximum(0, 10 * (-values[:, 0] + values[:, 1] + values[:, 2]))))


@_column
def eccentricity(t: LabelTable) -> Array:
    large, small = t.column("inertia_tensor_eigvals").T
    ratio = np.divide(small, large, out=np.ones(len(t)), where=large != 0)
    return np.asarray(np.sqrt(1 - ratio))


@_column
def orientation(t: LabelTable) -> Array:
    """Angle of the major axis with the rows' direction, from -pi / 2 to pi / 2."""
    tensor = t.column("inertia_tensor")
    a, b, c = tensor[:, 0, 0], tensor[:, 0, 1], tensor[:, 1, 1]
    angle = 0.5 * np.arctan2(-2 * b, c - a)
    return np.where(a - c == 0, np.where(b < 0, math.pi / 4, -math.pi / 4), angle)


@_column
def equivalent_diameter_area(t: LabelTable) -> Array:
    return np.asarray((2 * t.ndim * t.column("area") / math.pi) ** (1 / t.ndim))


@_column
def euler_number(t: LabelTable) -> Array:
    return np.rint(t.cells @ _cell_surface.euler(t.ndim)).astype(np.int64)


@_column
def perimeter_crofton(t: LabelTable) -> Array:
    return np.asarray(t.cells @ _cell_surface.crofton() * t.spacing[0])


@_column
def intensity_max(t: LabelTable) -> Array:
    return t.statistic("max")


@_column
def intensity_mean(t: LabelTable) -> Array:
    return t.statistic("mean")


@_column
def intensity_median(t: LabelTable) -> Array:
    return t.statistic("median")


@_column
def intensity_min(t: LabelTable) -> Array:
    return t.statistic("min")


@_column
def intensity_std(t: LabelTable) -> Array:
    return t.statistic("std")
