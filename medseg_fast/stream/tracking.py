"""Regions that are followed from frame to frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._tuples import tuple_of
from medseg_fast.hysteresis import apply_hysteresis_threshold
from medseg_fast.morphology_binary import binary_dilation, binary_erosion
from medseg_fast.region import connected_threshold
from medseg_fast.stream.cutting import CutModel, GraphCutPlan
from medseg_fast.stream.plans import _Plan

__all__ = ["TrackedCut", "TrackedRegion"]


class _Tracked(_Plan):
    """Remembers a region, looks for the next one in a window around it, and tells whether that may
    be the same.

    Only pixels within `reach` of the last region can belong to the next one. The window holds them
    and a margin of one pixel; it stays where it is until the region leaves it.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        seeds: Any,
        lower: float,
        upper: float,
        reach: int,
        min_overlap: float,
        max_change: float,
    ) -> None:
        super().__init__(shape, dtype)
        self._seeds, self._lower, self._upper = seeds, lower, upper
        self._reach = _checks.integer(self._op, "reach", reach, 1)
        if not 0 <= min_overlap <= 1:
            raise ValueError(f"{self._op}: min_overlap must be from 0 to 1, got {min_overlap!r}")
        if not max_change >= 1:
            raise ValueError(f"{self._op}: max_change must be at least 1, got {max_change!r}")
        self._min_overlap, self._max_change = min_overlap, max_change
        self._mask: NDArray[np.bool_] = np.zeros(self.shape, bool)
        self._last: NDArray[np.bool_] = np.zeros(self.shape, bool)
        self._ball = np.ones((2 * self._reach + 1,) * len(self.shape), bool)
        # What lies in the window, in the first pixels of arrays for the whole image.
        self._image_room = np.zeros(self.shape, self.dtype)
        self._mask_room = np.zeros((5, *self.shape), bool)
        self._shown: _Box = tuple(slice(0, 0) for _ in self.shape)
        self._seek(np.zeros(self.shape, self.dtype))  # raises for arguments that never fit
        self.restart()

    def restart(self) -> None:
        """Forget the region: the next frame is the first one again."""
        self.lost, self.frames_lost, self.area = False, 0, 0
        self._needed: _Box = tuple(slice(0, n) for n in self.shape)
        self._place(self._needed)

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The region in the next frame, empty where it is lost; the next call overwrites it."""
        array = self.checked(image)
        self._mask[self._shown] = False
        if self.area or self._begin(array):
            np.copyto(self._image, array[self._window])
            np.copyto(self._before, self._last[self._window])
            binary_dilation(self._before, self._ball, out=self._near)
            self._follow()
            area = int(np.count_nonzero(self._found))
            self.lost = not self._plausible(area)
        else:
            self.lost = True
        if self.lost:
            self.frames_lost += 1
        else:
            self.frames_lost, self.area = 0, area
            self._shown = self._window
            np.copyto(self._mask[self._window], self._found)
            np.copyto(self._last[self._window], self._found)
            self._keep_up()
        return self._mask

    def _begin(self, array: NDArray[Any]) -> bool:
        """Find the region in the first frame; whether it is there."""
        self._seek(array)
        if not self._last.any():
            return False
        self._needed = _grown(_box(self._last), self._reach + 1, self.shape)
        self._place(self._needed)
        return True

    def _seek(self, array: NDArray[Any]) -> None:
        connected_threshold(array, self._seeds, self._lower, self._upper, out=self._last)

    def _follow(self) -> None:
        """Find the region in the window's image: from the one before, near it, into `_found`."""
        raise NotImplementedError

    def _plausible(self, area: int) -> bool:
        if not area:
            return False
        if not self.area:
            return True
        if not self.area / self._max_change <= area <= self.area * self._max_change:
            return False
        common = int(np.count_nonzero(np.logical_and(self._found, self._before, out=self._inside)))
        return 2 * common >= self._min_overlap * (area + self.area)

    def _keep_up(self) -> None:
        """Let the window hold what the next region can be."""
        begin = [part.start for part in self._window]
        self._needed = needed = _grown(_box(self._found, begin), self._reach + 1, self.shape)
        size, room = (_sizes(box) for box in (needed, self._window))
        wide = math.prod(room) > _SPARE * math.prod(size)
        if not wide and all(
            w.start <= n.start and n.stop <= w.stop
            for w, n in zip(self._window, needed, strict=True)
        ):
            return
        if wide or any(r < s for r, s in zip(room, size, strict=True)):
            room = tuple_of(
                min(n, s + max(2 * self._reach, s // 4))
                for n, s in zip(self.shape, size, strict=True)
            )
        starts = [
            min(max(0, part.start - (r - s) // 2), n - r)
            for part, r, s, n in zip(needed, room, size, self.shape, strict=True)
        ]
        self._place(tuple_of(slice(b, b + r) for b, r in zip(starts, room, strict=True)))

    def _place(self, window: _Box) -> None:
        """Put the window there."""
        self._window = window
        sizes = _sizes(window)
        self._image = _first(self._image_room, sizes)
        self._before, self._near, self._inside, self._found, self._far = (
            _first(room, sizes) for room in self._mask_room
        )

    def _settings(self) -> dict[str, Any]:
        return {
            "seeds": self._seeds,
            "lower": self._lower,
            "upper": self._upper,
            "reach": self._reach,
            "min_overlap": self._min_overlap,
            "max_change": self._max_change,
        }


_Box = tuple[slice, ...]
_SPARE = 4.0  # times the pixels needed, at which a window is made smaller


def _box(mask: NDArray[np.bool_], begin: Sequence[int] | None = None) -> _Box:
    """The smallest box that holds a mask, which is not empty and begins there."""
    found = []
    for axis in range(mask.ndim):
        others = tuple_of(a for a in range(mask.ndim) if a != axis)
        there = np.flatnonzero(mask.any(others))
        first = begin[axis] if begin is not None else 0
        found.append(slice(first + int(there[0]), first + int(there[-1]) + 1))
    return tuple(found)


def _grown(box: _Box, by: int, shape: Sequence[int]) -> _Box:
    return tuple_of(
        slice(max(0, part.start - by), min(n, part.stop + by))
        for part, n in zip(box, shape, strict=True)
    )


def _sizes(box: _Box) -> tuple[int, ...]:
    return tuple_of(part.stop - part.start for part in box)


def _first(room: NDArray[Any], sizes: tuple[int, ...]) -> NDArray[Any]:
    """An array of these sizes in the first pixels of a larger one."""
    return room.reshape(-1)[: math.prod(sizes)].reshape(sizes)


class TrackedRegion(_Tracked):
    """Grows a region anew in every frame, from the inside of the last frame's and not far beyond.

    Parameters
    ----------
    shape, dtype
        Of every image.
    seeds : index or sequence of indices
        Where the region is in the first frame.
    lower, upper : number
        Intensities that the region may have in the first frame.
    reach : int, optional
        Pixels that the border may move from one frame to the next.
    multiplier : float, optional
        From the second frame on the interval is mean +- `multiplier` standard deviations of the
        pixels well inside the last region; None keeps `lower` and `upper`.
    min_overlap : float, optional
        The region is lost when its Dice overlap with the last one is lower.
    max_change : float, optional
        The region is lost when its area grows or shrinks by more than this factor in a frame.

    Attributes
    ----------
    lost : bool
        The last frame did not show the region: its mask is empty. The next frames are searched from
        where it was seen last.
    frames_lost : int
        For how many frames.
    area : int
        Pixels of the region when it was seen last.

    Notes
    -----
    Growth is hysteresis: the pixels of the interval within `reach` of the last region, kept where
    they touch its inside, sought in a window that holds them. Eight bytes of memory per pixel, and
    the image's own.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.stream import TrackedRegion
    >>> frames = np.zeros((3, 40, 60), np.uint8)
    >>> for t, frame in enumerate(frames):
    ...     frame[10:25, 10 + 2 * t : 30 + 2 * t] = 90 + t
    >>> follow = TrackedRegion((40, 60), np.uint8, (15, 20), 80, 100)
    >>> [int(follow(frame).sum()) for frame in frames]
    [300, 300, 300]
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        seeds: Any,
        lower: float,
        upper: float,
        *,
        reach: int = 5,
        multiplier: float | None = None,
        min_overlap: float = 0.5,
        max_change: float = 2.0,
    ) -> None:
        super().__init__(shape, dtype, seeds, lower, upper, reach, min_overlap, max_change)
        if multiplier is not None and not multiplier > 0:
            raise ValueError(f"{self._op}: multiplier must be positive, got {multiplier!r}")
        self._multiplier = multiplier
        self._levels_room = np.zeros(self.shape, np.uint8)

    def _follow(self) -> None:
        if not self.area:  # the first frame: what grew from the seeds is the region
            np.copyto(self._found, self._before)
            return
        inside, found = self._inside, self._found
        binary_erosion(self._before, out=inside)
        if not inside.any():
            np.copyto(inside, self._before)
        low, high = self._lower, self._upper
        if self._multiplier is not None:
            values = self._image[inside]
            values = values[~np.isnan(values)]
        if self._multiplier is not None and values.size:
            mean, spread = float(values.mean()), self._multiplier * float(values.std())
            low, high = mean - spread, mean + spread
        # 0: outside, 1: may belong to it, 2: may, and lies inside the last region.
        np.greater_equal(self._image, low, out=found)
        np.less_equal(self._image, high, out=self._far)
        found &= self._far
        found &= self._near
        inside &= found
        levels = _first(self._levels_room, found.shape)
        np.add(found, inside, out=levels, dtype=np.uint8)
        apply_hysteresis_threshold(levels, 0, 1, out=found)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "multiplier": self._multiplier}


class TrackedCut(_Tracked):
    """Cuts a region out of every frame by its border, within reach of the last frame's.

    The first frame's region is grown from seeds; its intensities and those around it are the model
    of `GraphCutPlan`, whose flow goes on from frame to frame.

    Parameters
    ----------
    shape, dtype, seeds, lower, upper, reach, min_overlap, max_change
        As for `TrackedRegion`.
    lambda_, sigma, connectivity, spacing
        As for `GraphCutPlan`.

    Attributes
    ----------
    lost, frames_lost, area
        As for `TrackedRegion`.

    Notes
    -----
    A region that fills the frame has no border: the next one is grown from the seeds again. Pixels
    farther than `reach` from the last region are background. The cut is that of the whole
    frame, but only a window around the region is looked at; its graph is kept from frame to frame,
    and made anew when the region outgrows the window. Smoother and steadier than `TrackedRegion`
    where the border is weak, and some ten times slower: 3 ms for a window of 100 x 400 pixels.
    Memory: as `TrackedRegion`, and for the window as `GraphCutPlan`.

    References
    ----------
    N. Xu, N. Ahuja and R. Bansal (2007), "Object segmentation using graph cuts based active
    contours", Computer Vision and Image Understanding 107(3):210-224.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.stream import TrackedCut
    >>> frames = np.full((3, 40, 60), 30, np.uint8)
    >>> for t, frame in enumerate(frames):
    ...     frame[10:25, 10 + 2 * t : 30 + 2 * t] = 90 + t
    >>> follow = TrackedCut((40, 60), np.uint8, (15, 20), 80, 100)
    >>> [int(follow(frame).sum()) for frame in frames]
    [300, 300, 300]
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        seeds: Any,
        lower: float,
        upper: float,
        *,
        reach: int = 5,
        lambda_: float = 4.0,
        sigma: float | None = None,
        connectivity: int = 1,
        spacing: Sequence[float] | None = None,
        min_overlap: float = 0.5,
        max_change: float = 2.0,
    ) -> None:
        super().__init__(shape, dtype, seeds, lower, upper, reach, min_overlap, max_change)
        self._lambda = lambda_
        self._options: dict[str, Any] = {
            "sigma": sigma,
            "connectivity": connectivity,
            "spacing": spacing,
        }
        self._model: CutModel | None = None
        self._cut = self._plan_for((1,) * len(self.shape))  # raises for options that never fit

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The region in the next frame, empty where it is lost; the next call overwrites it."""
        if self._model is None:  # no border is known
            self.area = 0
        return super().__call__(image)

    def _begin(self, array: NDArray[Any]) -> bool:
        if not super()._begin(array):
            return False
        outside = ~self._last
        self._model = None
        if outside.any():  # there is no border to be cut otherwise
            self._model = CutModel.learn(self._op, array, self._last, outside, **self._options)
        return True

    def _follow(self) -> None:
        if self._model is None:
            np.copyto(self._found, self._before)
            return
        if self._cut.shape != self._found.shape:
            self._cut = self._plan_for(self._found.shape)
        np.logical_not(self._near, out=self._far)
        self._cut.set_seeds(background=self._far)
        self._cut.model = self._model
        np.copyto(self._found, self._cut(self._image))

    def _plan_for(self, shape: tuple[int, ...]) -> GraphCutPlan:
        nowhere = np.zeros(shape, bool)
        return GraphCutPlan(
            shape, self.dtype, nowhere, nowhere, lambda_=self._lambda, **self._options
        )

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "lambda_": self._lambda, **self._options}
