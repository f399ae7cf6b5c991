"""A region whose border evolves from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from medseg_fast import _checks
from medseg_fast._tuples import tuple_of
from medseg_fast.morphological_snakes import morphological_chan_vese
from medseg_fast.stream.tracking import _first, _sizes, _Tracked

__all__ = ["TrackedLevelSet"]


class TrackedLevelSet(_Tracked):
    """Moves a region's border, from frame to frame, to where both sides are most uniform.

    The level set of `morphological_chan_vese`, which starts from the last region and compares its
    mean with that of what lies around it.

    Parameters
    ----------
    shape, dtype, seeds, lower, upper, reach, min_overlap, max_change
        As for `TrackedRegion`; 2D or 3D.
    num_iter : int, optional
        Iterations per frame; each moves the border by a pixel at most. Default: twice `reach`.
    smoothing, lambda1, lambda2
        As for `morphological_chan_vese`.

    Attributes
    ----------
    lost, frames_lost, area
        As for `TrackedRegion`; the region is lost, too, when its mean is not from `lower` to
        `upper`.

    Notes
    -----
    What lies around the region is the smallest box that holds it, grown by `reach` + 1 pixels; the
    border stays within `reach` of the last one. For regions of one intensity on another, whose
    border is too blurred or noisy for growth; 0.3 ms for a box of 100 x 400 pixels. Twelve bytes of
    memory per pixel, and twice the image's own.

    References
    ----------
    P. Marquez-Neila, L. Baumela and L. Alvarez (2014), "A morphological approach to curvature-based
    evolution of curves and surfaces", IEEE PAMI 36(1):2-17.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.stream import TrackedLevelSet
    >>> frames = np.full((3, 40, 60), 30, np.uint8)
    >>> for t, frame in enumerate(frames):
    ...     frame[10:25, 10 + 2 * t : 30 + 2 * t] = 90 + t
    >>> follow = TrackedLevelSet((40, 60), np.uint8, (15, 20), 80, 100)
    >>> [follow(frame)[17].nonzero()[0][[0, -1]].tolist() for frame in frames]
    [[10, 29], [12, 31], [14, 33]]
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
        num_iter: int | None = None,
        smoothing: int = 1,
        lambda1: float = 1.0,
        lambda2: float = 1.0,
        min_overlap: float = 0.5,
        max_change: float = 2.0,
    ) -> None:
        super().__init__(shape, dtype, seeds, lower, upper, reach, min_overlap, max_change)
        iterations = 2 * reach if num_iter is None else num_iter
        self._num_iter = _checks.integer(self._op, "num_iter", iterations, 1)
        self._options: dict[str, Any] = {
            "smoothing": smoothing,
            "lambda1": lambda1,
            "lambda2": lambda2,
        }
        self._box_image = np.zeros(self.shape, self.dtype)
        self._box_before = np.zeros(self.shape, bool)
        self._level_set = np.zeros(self.shape, np.int8)
        # Raises for arguments that never fit.
        morphological_chan_vese(
            self._box_image, 0, self._box_before, **self._options, out=self._level_set
        )

    def _follow(self) -> None:
        box = tuple_of(
            slice(needed.start - window.start, needed.stop - window.start)
            for needed, window in zip(self._needed, self._window, strict=True)
        )
        sizes = _sizes(box)
        image, before, level_set = (
            _first(room, sizes) for room in (self._box_image, self._box_before, self._level_set)
        )
        np.copyto(image, self._image[box])
        np.copyto(before, self._before[box])
        morphological_chan_vese(image, self._num_iter, before, **self._options, out=level_set)
        self._found[...] = False
        np.logical_and(level_set, self._near[box], out=self._found[box])

    def _plausible(self, area: int) -> bool:
        # A level set finds something wherever it looks.
        if not area or not self._lower <= self._image[self._found].mean() <= self._upper:
            return False
        return super()._plausible(area)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "num_iter": self._num_iter, **self._options}
