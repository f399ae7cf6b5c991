"""Every region that a threshold can cut out around a seed, ready at the speed of a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

_NAME = "ThresholdExplorer"


class Suggestion(NamedTuple):
    """Thresholds that `ThresholdExplorer.suggest` proposes, in the image's units."""

    before_leak: float
    """The last level before the region gains most voxels at once."""
    stable: float
    """The level around which the region changes least."""


class ThresholdExplorer:
    """The connected region around a seed, for every threshold.

    A user drags a threshold and sees the region follow: the image is searched once, when the
    explorer is made; afterwards every region costs time in proportion to its own size (`mask`,
    `voxels`) or to the change from the last one (`drag`).

    The region of threshold `t` is the connected component of ``image >= t`` that holds the seed.

    Parameters
    ----------
    image : array_like
        At least one dimension; bool, integer or float. It is not kept.
    seed : tuple of int
        Index of a voxel, one number per axis (a plain int for a 1D image).
    connectivity : int, optional
        How many coordinates of neighbours may differ by one: 1 (faces) to ``image.ndim`` (corners
        too), which is the default, as in scikit-image.
    brighter : bool, optional
        False: the region of `t` is the component of ``image <= t``, for dark structures.
    spacing : sequence of float, optional
        Voxel size in mm, one number per axis; volumes are then in mm3 instead of voxels.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image and of every mask.
    levels : ndarray
        The thresholds at which the region changes, from the value of the seed on: falling for
        ``brighter=True``, else rising. In the image's dtype, read-only.
    sizes : ndarray of int64
        Voxels in the region of each level, read-only.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `seed` lies outside the image or on NaN, or another argument is out of range.

    Notes
    -----
    NaN voxels are never inside. Regions are NumPy masks whatever the kind of `image`.

    Building takes O(n) queue operations in one thread and, beside the image, 1.13 bytes per voxel
    (flags and a bitmap) plus the queue: 8 bytes (4 for 8-bit images, 16 for 64-bit) for each voxel
    that waits at the region's front. Kept are 4 bytes for each voxel that the lowest threshold
    reaches (8 from 2**32 voxels on). `drag` keeps one mask more.

    References
    ----------
    P. Salembier, A. Oliveras and L. Garrido (1998), "Antiextensive connected operators for image
    and sequence processing", IEEE Transactions on Image Processing 7(4):555-570.

    R. Barnes, C. Lehman and D. Mulla (2014), "Priority-flood: an optimal depression-filling and
    watershed-labeling algorithm", Computers and Geosciences 62:117-127.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> explorer = ms.ThresholdExplorer([[9, 7, 1, 8]], (0, 0))
    >>> explorer.mask(5).tolist()
    [[True, True, False, False]]
    >>> thresholds, voxels = explorer.volume_curve()
    >>> thresholds.tolist(), voxels.tolist()
    ([9, 7, 1], [1, 2, 4])
    """

    def __init__(
        self,
        image: ArrayLike,
        seed: Sequence[int] | int,
        *,
        connectivity: int | None = None,
        brighter: bool = True,
        spacing: Sequence[float] | None = None,
    ) -> None:
        array = _checks.image(_NAME, image)
        reach = _checks.connectivity(_NAME, connectivity, array.ndim)
        flat = _checks.voxel(_NAME, "seed", seed, array)
        self.brighter = bool(brighter)
        self.shape = array.shape
        self._voxel_mm3 = (
            None if spacing is None else math.prod(_checks.spacing(_NAME, spacing, array.ndim))
        )
        order = np.empty(array.size, np.uint32 if array.size < 2**32 else np.int64)
        voxels, self.sizes = core.threshold_order(array, flat, reach, self.brighter, order)
        self.levels = array.reshape(-1)[voxels]
        # Pages of `order` that the flood did not reach were never touched and take no memory.
        self._order = order[: self.sizes[-1]]
        for kept in (self.levels, self.sizes, self._order):
            kept.flags.writeable = False
        self._live: NDArray[np.bool_] | None = None
        self._live_size = 0

    def __repr__(self) -> str:
        relation = ">=" if self.brighter else "<="
        return (
            f"<{_NAME} of shape {self.shape}, image {relation} t, "
            f"{len(self.levels)} levels from {self.levels[0]} to {self.levels[-1]}>"
        )

    def size(self, t: float) -> int:
        """Return how many voxels the region of threshold `t` has; time O(log levels)."""
        name = f"{_NAME}.size"
        t = _checks.number(name, "t", t)
        low, high = (t, math.inf) if self.brighter else (-math.inf, t)
        bounds = _checks.interval(name, self.levels.dtype, low, high)
        if bounds is None:
            return 0
        if self.brighter:
            level = len(self.levels) - np.searchsorted(self.levels[::-1], bounds[0], "left")
        else:
            level = np.searchsorted(self.levels, bounds[1], "right")
        return int(self.sizes[level - 1]) if level else 0

    def voxels(self, t: float) -> NDArray[Any]:
        """Return the flat indices of the voxels in the region of threshold `t`.

        Parameters
        ----------
        t : float
            Threshold, compared as in `threshold`. Beyond the seed's value the region is empty.

        Returns
        -------
        voxels : ndarray of uint32 (int64 from 2**32 voxels on)
            Read-only view, so it takes no time: in the order in which falling (``brighter=False``:
            rising) thresholds reach them, by position within a level.
        """
        return self._order[: self.size(t)]

    def mask(self, t: float, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return the region of threshold `t`.

        Parameters
        ----------
        t : float
            Threshold, compared as in `threshold`. Beyond the seed's value the region is empty.
        out : ndarray of bool, optional
            Array of the image's shape that receives the mask. Clearing it takes time in proportion
            to the image; without it only the region's pages are touched.

        Returns
        -------
        mask : ndarray of bool
        """
        voxels = self.voxels(t)
        if out is None:
            mask = written = np.zeros(self.shape, np.bool_)
        else:
            mask = _checks.output(f"{_NAME}.mask", out, self.shape, np.bool_)
            written = _checks.scratch(mask)
            written[...] = False
        core.fill_voxels(voxels, True, written)
        return _checks.finish(mask, written)

    def drag(self, t: float) -> NDArray[np.bool_]:
        """Return the region of threshold `t` by changing the mask of the last `drag`.

        Returns
        -------
        mask : ndarray of bool
            Read-only and always the same array: it follows the threshold. Only voxels that enter or
            leave are written. Take a copy to keep one, and let one thread drag at a time.
        """
        size = self.size(t)
        if self._live is None:
            self._live = np.zeros(self.shape, np.bool_)
        if size > self._live_size:
            core.fill_voxels(self._order[self._live_size : size], True, self._live)
        elif size < self._live_size:
            core.fill_voxels(self._order[size : self._live_size], False, self._live)
        self._live_size = size
        view = self._live.view()
        view.flags.writeable = False
        return view

    def volume_curve(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the region's volume as a function of the threshold.

        Returns
        -------
        thresholds : ndarray
            `levels`: the thresholds at which the volume changes, from the seed's value on.
        volumes : ndarray of int64, or float64 with `spacing`
            Volume of the region of each threshold, in voxels or in mm3.
        """
        if self._voxel_mm3 is None:
            return self.levels, self.sizes
        return self.levels, self.sizes * self._voxel_mm3

    def suggest(
        self, *, delta: float | None = None, min_voxels: int = 1, max_voxels: int | None = None
    ) -> Suggestion:
        """Propose thresholds from the volume curve.

        Parameters
        ----------
        delta : float, optional
            How far the threshold is moved to either side to see how stable a region is, in the
            image's units. Default: a twentieth of the distance from the seed's value to the last
            finite level.
        min_voxels, max_voxels : int, optional
            Sizes of the regions to consider; by default up to half of what the last level holds.
            Where no region has such a size, all are considered.

        Returns
        -------
        before_leak : float
            The last level before the region gains most voxels from one level to the next; of equal
            gains, the one nearest to the seed's value.
        stable : float
            The level `t` with the least ``(size(t - delta) - size(t + delta)) / size(t)``, that is
            a maximally stable extremal region; of equal ones the nearest to the seed's value.

        References
        ----------
        J. Matas, O. Chum, M. Urban and T. Pajdla (2002), "Robust wide baseline stereo from
        maximally stable extremal regions", BMVC, 384-393.
        """
        name = f"{_NAME}.suggest"
        smallest = _checks.integer(name, "min_voxels", min_voxels, 1)
        largest = (
            max(int(self.sizes[-1]) // 2, 1)
            if max_voxels is None
            else _checks.integer(name, "max_voxels", max_voxels, 1)
        )
        # Depth below the seed's value (above it for brighter=False): rising along the curve.
        depth = self.levels.astype(np.float64)
        depth = -depth if self.brighter else depth
        if delta is None:
            finite = depth[np.isfinite(depth)]
            delta = (finite[-1] - finite[0]) / 20 if len(finite) else 0.0
        elif (delta := float(_checks.number(name, "delta", delta))) < 0:
            raise ValueError(f"{name}: delta must not be negative, got {delta}")

        chosen = (self.sizes >= smallest) & (self.sizes <= largest)
        if not chosen.any():
            chosen[:] = True
        gains = np.append(np.diff(self.sizes), 0)
        leak = np.argmax(np.where(chosen, gains, -1))

        sizes = np.append(0, self.sizes)
        relaxed = sizes[np.searchsorted(depth, depth + delta, "right")]
        tightened = sizes[np.searchsorted(depth, depth - delta, "right")]
        change = (relaxed - tightened) / self.sizes
        stable = np.argmin(np.where(chosen, change, np.inf))
        return Suggestion(float(self.levels[leak]), float(self.levels[stable]))
