"""Regions that are followed from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast.hysteresis import apply_hysteresis_threshold
from medseg_fast.morphology_binary import binary_dilation, binary_erosion
from medseg_fast.region import connected_threshold
from medseg_fast.stream.cutting import GraphCutPlan
from medseg_fast.stream.plans import _Plan

__all__ = ["TrackedCut", "TrackedRegion"]


class _Tracked(_Plan):
    """Remembers a region, and tells whether the next one may be the same."""

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
        self._mask, self._last, self._near = (np.zeros(self.shape, bool) for _ in range(3))
        self._ball = np.ones((2 * self._reach + 1,) * len(self.shape), bool)
        self._seek(np.zeros(self.shape, self.dtype))  # raises for arguments that never fit
        self.restart()

    def restart(self) -> None:
        """Forget the region: the next frame is the first one again."""
        self.lost, self.frames_lost, self.area = False, 0, 0

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The region in the next frame, empty where it is lost; the next call overwrites it."""
        array = self.checked(image)
        if self.area:
            binary_dilation(self._last, self._ball, out=self._near)
            self._follow(array)
        else:
            self._begin(array)
        area = int(np.count_nonzero(self._mask))
        self.lost = not self._plausible(area)
        if self.lost:
            self.frames_lost += 1
            self._mask[...] = False
        else:
            self.frames_lost, self.area = 0, area
            np.copyto(self._last, self._mask)
        return self._mask

    def _begin(self, array: NDArray[Any]) -> None:
        """Find the region in the first frame."""
        self._seek(array)

    def _follow(self, array: NDArray[Any]) -> None:
        """Find the region in another frame, near the last one."""
        raise NotImplementedError

    def _seek(self, array: NDArray[Any]) -> None:
        connected_threshold(array, self._seeds, self._lower, self._upper, out=self._mask)

    def _plausible(self, area: int) -> bool:
        if not area:
            return False
        if not self.area:
            return True
        if not self.area / self._max_change <= area <= self.area * self._max_change:
            return False
        common = int(np.count_nonzero(self._mask & self._last))
        return 2 * common >= self._min_overlap * (area + self.area)

    def _settings(self) -> dict[str, Any]:
        return {
            "seeds": self._seeds,
            "lower": self._lower,
            "upper": self._upper,
            "reach": self._reach,
            "min_overlap": self._min_overlap,
            "max_change": self._max_change,
        }


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
    they touch its inside. Five bytes of memory per pixel.

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
        self._inside = np.zeros(self.shape, bool)
        self._levels = np.zeros(self.shape, np.uint8)

    def _follow(self, array: NDArray[Any]) -> None:
        binary_erosion(self._last, out=self._inside)
        if not self._inside.any():
            np.copyto(self._inside, self._last)
        low, high = self._lower, self._upper
        if self._multiplier is not None:
            values = array[self._inside]
            mean, spread = float(values.mean()), self._multiplier * float(values.std())
            low, high = mean - spread, mean + spread
        # 0: outside, 1: may belong to it, 2: may, and lies inside the last region.
        np.greater_equal(array, low, out=self._mask)
        self._mask &= array <= high
        self._mask &= self._near
        np.add(self._mask, self._mask & self._inside, out=self._levels, dtype=np.uint8)
        apply_hysteresis_threshold(self._levels, 0, 1, out=self._mask)

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
    Pixels farther than `reach` from the last region are background. Smoother and steadier than
    `TrackedRegion` where the border is weak, and some five times slower.

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
        self._far = np.zeros(self.shape, bool)
        self._cut = GraphCutPlan(
            shape,
            dtype,
            np.zeros(self.shape, bool),
            self._far,
            lambda_=lambda_,
            sigma=sigma,
            connectivity=connectivity,
            spacing=spacing,
        )

    def _begin(self, array: NDArray[Any]) -> None:
        self._seek(array)
        outside = ~self._mask
        if self._mask.any() and outside.any():
            self._cut.learn(array, self._mask, outside)
            binary_dilation(self._mask, self._ball, out=self._near)
            self._follow(array)

    def _follow(self, array: NDArray[Any]) -> None:
        np.logical_not(self._near, out=self._far)
        np.copyto(self._mask, self._cut(array))

    def _settings(self) -> dict[str, Any]:
        cut = {k: v for k, v in self._cut._settings().items() if k != "region"}
        return {**super()._settings(), **cut}
