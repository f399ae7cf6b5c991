"""What the region growing functions share: indices, growth with a limit, the result."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Seeds = Sequence[int] | Sequence[Sequence[int]] | NDArray[Any] | int


class LeakWarning(UserWarning):
    """Growth was stopped early because the region exceeded a limit, which suggests a leak."""


def array(op: str, image: ArrayLike) -> NDArray[Any]:
    """Return the image with its dtype checked, in its own layout."""
    given = _checks.as_array(op, image)
    _checks.image(op, given[:0] if given.ndim else given)
    if given.ndim == 0:
        raise ValueError(f"{op}: image must have at least 1 dimension, got a scalar")
    return given


def seeds(
    op: str, name: str, value: Any, image: NDArray[Any], *, wrap: bool = False
) -> NDArray[np.int64]:
    """Return one index or a sequence of indices as an array (seeds, axes), within the image.

    Seeds outside the image or on NaN are refused; with `wrap` negative indices count from the end.
    """
    indices = inside(op, name, value, image.shape, wrap=wrap)
    if image.dtype.kind == "f":
        refuse_nan(op, name, indices, image[tuple(indices.T)])
    return indices


def inside(
    op: str, name: str, value: Any, shape: tuple[int, ...], *, wrap: bool = False
) -> NDArray[np.int64]:
    """Return indices as an array (seeds, axes); those outside the shape are refused."""
    given = _checks.as_array(op, value, name)
    ndim = len(shape)
    if given.dtype.kind not in "ui":
        raise TypeError(f"{op}: {name} must hold integers, got {value!r}")
    indices = given.astype(np.int64).reshape(-1, 1) if ndim == 1 else given.astype(np.int64)
    if indices.ndim == 1:
        indices = indices[np.newaxis]
    if indices.ndim != 2 or indices.shape[1] != ndim or given.ndim > 2:
        raise ValueError(
            f"{op}: {name} must have one index per axis of the image ({ndim}), got {value!r}"
        )
    if not len(indices):
        raise ValueError(f"{op}: {name} must hold at least one index")
    found = np.where(indices < 0, indices + shape, indices) if wrap else indices
    outside = ((found < 0) | (found >= shape)).any(axis=1)
    if outside.any():
        bad = tuple(indices[outside][0].tolist())
        raise ValueError(f"{op}: {name} must lie within shape {shape}, got {bad}")
    return found


def refuse_nan(op: str, name: str, indices: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Refuse seeds whose values are NaN."""
    if values.dtype.kind == "f" and np.isnan(values).any():
        bad = tuple(indices[np.isnan(values)][0].tolist())
        raise ValueError(f"{op}: {name} {bad} lies on NaN")


def limit(op: str, max_voxels: Any, image: NDArray[Any]) -> int:
    """Return the largest allowed number of voxels."""
    if max_voxels is None:
        return image.size
    return min(_checks.integer(op, "max_voxels", max_voxels, 1), image.size)


def structure(ndim: int, connectivity: int) -> NDArray[np.int64]:
    """Offsets of the neighbours, in raster order, shape (neighbours, ndim)."""
    steps: NDArray[np.int64] = np.array(list(itertools.product((-1, 0, 1), repeat=ndim)), np.int64)
    along = np.count_nonzero(steps, axis=1)
    return np.asarray(steps[(along > 0) & (along <= connectivity)])


def warn(message: str, category: type[Warning]) -> None:
    """Warn on behalf of the line that called into this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals["__name__"].startswith("medseg_fast."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class Growth:
    """The core's region of one image, in the caller's axes.

    The core wants rows that are contiguous in memory: Fortran-ordered images are seen transposed,
    axes of length 1 are left out, other layouts cost a copy. No axis may have length 0.
    """

    def __init__(
        self, op: str, image: NDArray[Any], *, radius: tuple[int, ...] = (), reach: int = 1
    ) -> None:
        flip = image.ndim > 1 and image.flags.f_contiguous and not image.flags.c_contiguous
        self.op, self.shape = op, image.shape
        order = range(image.ndim)[::-1] if flip else range(image.ndim)
        self._flip = flip
        self._axes = [axis for axis in order if image.shape[axis] > 1] or [0]
        self._short = [image.shape[axis] for axis in self._axes]
        self._image = self._flatten(_checks.contiguous(image.T if flip else image))
        radius = radius or (0,) * image.ndim
        self._region = core.region(self._image, [radius[axis] for axis in self._axes], reach)

    def _flatten(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.reshape(self._short)

    def _pick(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.ascontiguousarray(rows[:, self._axes])

    def grow(
        self,
        bounds: NDArray[Any] | None,
        seeds: NDArray[np.int64],
        connectivity: int,
        limit: int,
        *,
        force: bool = False,
        widen: bool = False,
    ) -> bool:
        """Grow anew within `bounds`, return whether that stayed within the limit.

        No bounds: no value is inside. With `force` the seeds are, whatever their values. Beyond the
        limit the region is what breadth-first growth reaches first, and a warning is given. With
        `widen` the last growth had the same other arguments, bounds within these, and reached its
        end: this one goes on from there.
        """
        if widen:
            self._region.widen(bounds)
        else:
            self._reset(bounds)
        across = min(connectivity, len(self._axes))
        if self._region.grow(self._pick(seeds), force, across, limit) <= limit:
            return True
        offsets = structure(len(self.shape), connectivity)
        return self.grow_breadth_first(bounds, seeds, offsets, limit, force=force)

    def grow_breadth_first(
        self,
        bounds: NDArray[Any] | None,
        seeds: NDArray[np.int64],
        offsets: NDArray[np.int64],
        limit: int,
        *,
        force: bool = False,
    ) -> bool:
        """As `grow`, with any neighbourhood: ``(neighbours, axes)`` offsets."""
        inside = (np.abs(offsets) < self.shape).all(axis=1)  # the others lead out of the image
        steps = self._pick(offsets[inside])
        self._reset(bounds)
        if self._region.grow_breadth_first(self._pick(seeds), force, steps, limit) <= limit:
            return True
        warn(
            f"{self.op}: growth stopped at max_voxels={limit}; the region may have leaked",
            LeakWarning,
        )
        return False

    def _reset(self, bounds: NDArray[Any] | None) -> None:
        nothing = [1, 0]
        self._region.reset(np.array(nothing if bounds is None else bounds, self._image.dtype))

    def holds(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the region holds each of the pixels ``(pixels, axes)``."""
        picked = self._pick(indices)
        return np.array([self._region.holds(picked[i : i + 1]) for i in range(len(picked))])

    def moments(self) -> tuple[int, float, float]:
        """Count, sum and sum of squares of the region's values."""
        count, total, squares = self._region.moments()
        return count, total, squares

    def mask(self, out: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        """Return the region as a mask."""
        if out is None:
            # Fresh zeros cost nothing until touched: a small region leaves them alone.
            shape = self.shape[::-1] if self._flip else self.shape
            mask = np.zeros(shape, np.bool_)
            self._region.write_mask(self._flatten(mask), True)
            return mask.T if self._flip else mask
        target = out.T if self._flip else out
        written = _checks.scratch(target)
        self._region.write_mask(self._flatten(written), False)
        _checks.finish(target, written)
        return out

    def paint(self, target: NDArray[Any], value: NDArray[Any], *, copy: bool) -> bool:
        """Set the region's pixels of `target`; with `copy` the others become the image's.

        Return False where the core cannot write into `target`, which then is as it was.
        """
        seen = target.T if self._flip else target
        if not _checks.usable(seen, self._image if copy else None):
            return False
        self._region.paint(self._flatten(seen), value, copy)
        return True
