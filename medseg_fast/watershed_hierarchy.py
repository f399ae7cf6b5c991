"""Watershed basins merged by how much they matter: a hierarchy to cut, and markers from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.watershed_immersion import _mask, watershed_immersion

_NAME = "WatershedHierarchy"
_ATTRIBUTES = ("dynamics", "area", "volume")


class _Basins:
    """The basins of an image, what they hold, and their merges in order of pass height."""

    def __init__(self, image: NDArray[Any], connectivity: int, mask: Any) -> None:
        self.labels, self.count = watershed_immersion(
            image, connectivity, mask=mask, return_num=True
        )
        self.first, self.second, self.height = core.merge_basins(
            image, self.labels, self.count, connectivity
        )
        self.lowest = np.empty(self.count, np.int64)
        self.sizes = np.empty(self.count, np.int64)
        core.measure_basins(image, self.labels, self.lowest, self.sizes)
        self.depths = image.reshape(-1)[self.lowest].astype(np.float64)

    def saliency(self, attribute: str) -> NDArray[np.float64]:
        """How much each merge matters; infinity where infinite pixels leave it undefined."""
        saliency = np.empty(len(self.first), np.float64)
        core.extinguish(
            self.first,
            self.second,
            self.height,
            _ATTRIBUTES.index(attribute),
            self.depths,
            self.sizes.astype(np.float64),
            saliency,
            np.empty(self.count, np.float64),
        )
        saliency[np.isnan(saliency)] = math.inf
        return saliency


class WatershedHierarchy:
    """Partitions of an image from all its watershed basins to one region, ready to be cut.

    Made by `watershed_hierarchy`; can be pickled. A user moves one slider: every cut takes the time
    of writing its labels.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image and of every cut.
    saliency : {"dynamics", "area", "volume"}
        What the basins are compared by.
    n_basins : int
        Number of basins: regions of the finest cut.
    saliencies : ndarray of float64
        Saliency of each merge, rising, read-only: ``n_basins - 1`` of them, fewer where the mask
        falls into separate parts.
    levels : ndarray of float64
        The distinct saliencies, rising, read-only: where the cut changes.
    n_regions : ndarray of int64
        Regions of ``cut(level)`` for each of `levels`, read-only.

    Notes
    -----
    Kept are the labels of the basins, 4 bytes per pixel, and 16 bytes per basin.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> tree = ms.watershed_hierarchy([0, 5, 3, 9, 1, 4, 2])
    >>> tree.levels.tolist(), tree.n_regions.tolist()
    ([2.0, 8.0], [4, 2])
    """

    def __init__(
        self,
        labels: NDArray[np.int32],
        n_basins: int,
        saliency: str,
        first: NDArray[np.int32],
        second: NDArray[np.int32],
        saliencies: NDArray[np.float64],
    ) -> None:
        order = np.argsort(saliencies, kind="stable")
        self.shape = labels.shape
        self.saliency = saliency
        self.n_basins = n_basins
        self.saliencies = saliencies[order]
        self._labels, self._first, self._second = labels, first[order], second[order]
        self.levels, starts = np.unique(self.saliencies, return_index=True)
        self.n_regions = n_basins - starts.astype(np.int64)
        self._freeze()

    def _freeze(self) -> None:
        for kept in (self.saliencies, self.levels, self.n_regions, self._labels):
            kept.flags.writeable = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._freeze()

    def __repr__(self) -> str:
        fewest = self.n_basins - len(self.saliencies)
        return (
            f"<{_NAME} of shape {self.shape} by {self.saliency}, {self.n_basins} basins, "
            f"{fewest} at the top>"
        )

    def cut(
        self,
        level: float | None = None,
        *,
        n_regions: int | None = None,
        out: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """Return the labels of one partition.

        Parameters
        ----------
        level : float, optional
            Least saliency of what stays apart: all merges below it are made. In the image's units
            for dynamics, pixels for area, their product for volume. 0 leaves all basins.
        n_regions : int, optional
            Number of regions instead, at least 1: the merges of least saliency are made, of equal
            ones those over lower passes first. As near to it as there are basins, or parts of the
            mask.
        out : ndarray of int32, optional
            Array of the image's shape that receives the labels.

        Returns
        -------
        labels : ndarray of int32
            1, 2, ... in raster order of the first minimum of each region; 0 outside the mask.

        Raises
        ------
        ValueError
            Unless exactly one of `level` and `n_regions` is given, and `out` fits.
        """
        name = f"{_NAME}.cut"
        if (level is None) == (n_regions is None):
            raise ValueError(f"{name}: give level or n_regions")
        if n_regions is None:
            least = _checks.number(name, "level", level)
            made = int(np.searchsorted(self.saliencies, least, "left"))
        else:
            wanted = _checks.integer(name, "n_regions", n_regions, 1)
            made = min(max(self.n_basins - wanted, 0), len(self.saliencies))
        table = np.empty(self.n_basins + 1, np.int32)
        core.merge_labels(self._first[:made], self._second[:made], table)
        labels = _checks.output(name, out, self.shape, np.int32)
        written = _checks.scratch(labels)
        core.map_labels(self._labels, table, written)
        return _checks.finish(labels, written)


@operation()
def watershed_hierarchy(
    image: ArrayLike,
    connectivity: int = 1,
    *,
    mask: ArrayLike | None = None,
    saliency: str = "dynamics",
) -> WatershedHierarchy:
    """Build the hierarchy of an image's watershed basins, to be cut at any level.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float: usually a gradient magnitude.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one, 1 (faces) to ndim (corners too).
    mask : array_like of bool, optional
        Of the image's shape: pixels where it is False belong to no region, as NaN pixels do.
    saliency : {"dynamics", "area", "volume"}, optional
        What two regions are compared by when the water meets: its depth above the lowest minimum of
        each, the pixels of their basins, or the volume of water: for each unit that the water rises
        it grows by the pixels of the basins that have merged. The lesser amount is the saliency of
        their merge.

    Returns
    -------
    tree : WatershedHierarchy
        ``tree.cut(level)`` and ``tree.cut(n_regions=...)`` are label images.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `connectivity` is out of range, `saliency` is another word, or `mask` does not fit.

    See Also
    --------
    watershed_immersion : the basins, without a hierarchy.
    markers_from_minima : markers for `watershed` by the same criteria.

    Notes
    -----
    The basins are those of `watershed_immersion` without lines. The height of a pass between two
    basins is the least, over pairs of neighbouring pixels on either side, of the higher pixel of
    the pair. Passes are flooded in order of height, equally high ones in order of basin numbers.
    Heights, depths and volumes are float64: exact for integers of up to 53 bits.

    Time O(n k) for k neighbours, and O(m log m) for m pairs of touching basins. Extra memory: 4
    bytes per pixel for the labels, what `watershed_immersion` takes, 12 to 16 bytes per pair of
    touching basins (some pairs are held more than once), and 100 bytes per basin.

    References
    ----------
    L. Najman and M. Schmitt (1996), "Geodesic saliency of watershed contours and hierarchical
    segmentation", IEEE Transactions on Pattern Analysis and Machine Intelligence 18(12):1163-1173.

    C. Vachier and F. Meyer (1995), "Extinction value: a new measurement of persistence", IEEE
    Workshop on Nonlinear Signal and Image Processing, 254-257.

    J. Cousty, G. Bertrand, L. Najman and M. Couprie (2009), "Watershed cuts: minimum spanning
    forests and the drop of water principle", IEEE Transactions on Pattern Analysis and Machine
    Intelligence 31(8):1362-1374.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> tree = ms.watershed_hierarchy([0, 5, 3, 9, 1, 4, 2])
    >>> tree.cut(3).tolist()
    [1, 1, 1, 2, 2, 2, 2]
    """
    op = "watershed_hierarchy"
    if saliency not in _ATTRIBUTES:
        words = ", ".join(f'"{a}"' for a in _ATTRIBUTES)
        raise ValueError(f"{op}: saliency must be one of {words}, got {saliency!r}")
    array = _checks.image(op, image)
    reach = _checks.connectivity(op, connectivity, array.ndim)
    basins = _Basins(array, reach, _mask(op, mask, array.shape))
    return WatershedHierarchy(
        basins.labels,
        basins.count,
        saliency,
        basins.first,
        basins.second,
        basins.saliency(saliency),
    )


def _marker_labels(image: Any, **kwargs: Any) -> tuple[Any, Any]:
    return image.shape, np.int32


@operation(result=_marker_labels)
def markers_from_minima(
    image: ArrayLike,
    *,
    h: float = 0,
    min_size: float = 0,
    spacing: Sequence[float] | None = None,
    connectivity: int = 1,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Choose the regional minima that matter, as markers against over-segmentation.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float: usually a gradient magnitude.
    h : float, optional
        Least dynamics, in the image's units: how high one must climb from the minimum to get to a
        deeper one.
    min_size : float, optional
        Least size of a marker's catchment, in pixels or, with `spacing`, in mm to the power of the
        number of axes: the basins that have merged with it for want of dynamics, and what has
        joined it by the time it meets a larger catchment.
    spacing : sequence of float, optional
        Pixel size in mm, one number per axis.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one, 1 (faces) to ndim (corners too).
    out : ndarray of int32, optional
        Array of the image's shape that receives the markers.

    Returns
    -------
    markers : ndarray of int32
        Same shape as `image`: the pixels of each chosen minimum have its number, 1, 2, ... in
        raster order of their first pixels; all others, and NaN pixels, 0.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `h` or `min_size` is negative, or another argument does not fit.

    Notes
    -----
    First all merges of `watershed_hierarchy` by dynamics with a saliency below `h` are made; the
    deepest minimum of each region stands for it, of equal ones the first in raster order. The
    regions are then flooded by size in the same order of passes: where two meet, the smaller one
    (of equal ones the later) ends, and its minimum is chosen if the size has reached `min_size`.
    What never meets a larger one is always chosen, so every connected part has a marker. Without
    `h` and `min_size` all regional minima are chosen.

    Time and memory as in `watershed_hierarchy`.

    References
    ----------
    M. Grimaud (1992), "A new measure of contrast: the dynamics", Proceedings of SPIE 1769:292-305.

    C. Vachier and F. Meyer (1995), "Extinction value: a new measurement of persistence", IEEE
    Workshop on Nonlinear Signal and Image Processing, 254-257.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.markers_from_minima([0, 5, 3, 9, 1, 4, 2], h=3).tolist()
    [1, 0, 0, 0, 2, 0, 0]
    """
    op = "markers_from_minima"
    array = _checks.image(op, image)
    reach = _checks.connectivity(op, connectivity, array.ndim)
    least, size = _checks.number(op, "h", h), _checks.number(op, "min_size", min_size)
    for name, value in (("h", least), ("min_size", size)):
        if value < 0:
            raise ValueError(f"{op}: {name} must not be negative, got {value}")
    pixel = math.prod(_checks.spacing(op, spacing, array.ndim))
    markers = _checks.output(op, out, array.shape, np.int32)
    written = _checks.scratch(markers, array)

    basins = _Basins(array, reach, None)
    table = np.arange(basins.count + 1, dtype=np.int32)
    if least > 0 or size > 0:
        table = _chosen(basins, float(least), float(size), pixel)
    core.map_minima(array, basins.labels, basins.lowest, table, written)
    return _checks.finish(markers, written)


def _chosen(basins: _Basins, h: float, min_size: float, pixel: float) -> NDArray[np.int32]:
    """The marker of each basin's minimum, 0 for those not chosen."""
    low = basins.saliency("dynamics") < h
    region = np.empty(basins.count + 1, np.int32)
    count = core.merge_labels(basins.first[low], basins.second[low], region)
    of_basin = region[1:] - 1

    # The deepest basin of each region, the first of equal ones.
    order = np.lexsort((basins.depths, of_basin))
    starts = np.searchsorted(of_basin[order], np.arange(count))
    deepest = order[starts]

    areas = np.bincount(of_basin, basins.sizes, count) * pixel
    extinction = np.empty(count, np.float64)
    rest = ~low
    core.extinguish(
        region[basins.first[rest]],
        region[basins.second[rest]],
        basins.height[rest],
        _ATTRIBUTES.index("area"),
        np.zeros(count),
        areas,
        np.empty(int(rest.sum()), np.float64),
        extinction,
    )
    table = np.zeros(basins.count + 1, np.int32)
    kept = np.sort(deepest[extinction >= min_size])
    table[kept + 1] = np.arange(1, len(kept) + 1, dtype=np.int32)
    return table
