"""How far the surfaces of two segmentations are apart, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _cell_surface, _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.distance import distance_transform_edt
from medseg_fast.metrics import _pairs

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]
_NAMES = ("a", "b")
_PREDICTION = ("pred", "truth")


def _box(a: Mask, b: Mask) -> tuple[slice, ...] | None:
    """The smallest box that holds both masks; None where both are empty."""
    parts = []
    for mask in (a, b):
        boxes, sums, moments = (
            np.zeros((2, 2, a.ndim), np.int64),
            np.zeros((2, 1 + a.ndim), np.int64),
            np.zeros((2, a.ndim, a.ndim)),
        )
        core.region_table(mask, boxes, sums, moments)
        if sums[1, 0]:
            parts.append(boxes[1])
    if not parts:
        return None
    low, high = np.minimum.reduce(parts)[0], np.maximum.reduce(parts)[1]
    return tuple(slice(int(i), int(j)) for i, j in zip(low, high, strict=True))


def _prepared(
    op: str, names: tuple[str, str], first: Any, second: Any, spacing: Any
) -> tuple[Mask, Mask, tuple[float, ...]]:
    a, b = _pairs.masks(op, names, first, second)
    if a.ndim == 0:
        raise ValueError(f"{op}: {names[0]} must have at least one dimension, got shape ()")
    return a, b, _checks.spacing(op, spacing, a.ndim)


def _to(mask: Mask, spacing: tuple[float, ...]) -> Distances:
    """Distance of every voxel to the mask, which is not empty."""
    distance: Distances = distance_transform_edt(~mask, spacing)
    return distance


@operation(result=None)
def hausdorff_distance(
    a: ArrayLike,
    b: ArrayLike,
    spacing: Sequence[float] | None = None,
    *,
    method: str = "standard",
) -> float:
    """Largest distance from a voxel of one mask to the other mask.

    The result is that of SimpleITK's ``HausdorffDistanceImageFilter``, and where neither mask is
    empty that of ``skimage.metrics.hausdorff_distance``, in mm.

    Parameters
    ----------
    a, b : array_like
        Masks of one shape; bool, integer or float of any rank. What is not 0 is inside.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    method : {"standard", "modified"}
        "modified": instead of the largest the mean distance from a mask to the other [2]_; of both
        directions the larger.

    Returns
    -------
    distance : float
        In mm.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a mask is empty: then there is no distance. If shapes differ, a mask holds NaN, `spacing`
        does not fit or `method` is another.

    Notes
    -----
    Two exact distance transforms of the box around both masks, on all threads; time O(box). Extra
    memory: 12 bytes per voxel of the box. A voxel inside both masks has distance 0, other than
    between surfaces (`surface_distances`, which takes empty masks). scikit-image gives 0 for two
    empty masks and inf where one of them is.

    References
    ----------
    .. [1] F. Hausdorff, "Grundzüge der Mengenlehre", Veit, Leipzig 1914.
    .. [2] M. P. Dubuisson and A. K. Jain, "A modified Hausdorff distance for object matching",
       ICPR 1994, 566-568.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.hausdorff_distance([1, 1, 0, 0, 0], [0, 1, 0, 0, 1], spacing=[0.5])
    1.5
    """
    op = "hausdorff_distance"
    if method not in ("standard", "modified"):
        raise ValueError(f"{op}: method must be 'standard' or 'modified', got {method!r}")
    first, second, sizes = _prepared(op, _NAMES, a, b, spacing)
    for name, mask in zip(_NAMES, (first, second), strict=True):
        if not mask.any():
            raise ValueError(f"{op}: {name} must not be empty")
    box = _box(first, second)
    assert box is not None
    first, second = _checks.contiguous(first[box]), _checks.contiguous(second[box])
    found = []
    for mask, other in ((first, second), (second, first)):
        beyond = _to(other, sizes)[mask & ~other]  # inside the other all are 0
        if method == "standard":
            found.append(float(beyond.max(initial=0)))
        else:
            found.append(float(beyond.sum()) / np.count_nonzero(mask))
    return max(found)


def _surface(mask: Mask) -> Mask:
    """Voxels of the mask with a face towards the outside; beyond the image is outside."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        along = np.moveaxis(mask, axis, 0)
        kept = np.moveaxis(inner, axis, 0)
        kept[1:] &= along[:-1]
        kept[:-1] &= along[1:]
        kept[0] = False
        kept[-1] = False
    result: Mask = mask & ~inner
    return result


@operation(result=None)
def average_surface_distance(
    a: ArrayLike, b: ArrayLike, spacing: Sequence[float] | None = None
) -> float:
    """Mean distance from the surface voxels of either mask to those of the other.

    Parameters
    ----------
    a, b : array_like
        Masks, as in `hausdorff_distance`.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.

    Returns
    -------
    distance : float
        In mm: the mean over the surface voxels of both masks together. 0 for two empty masks, inf
        where one of them is.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If shapes differ, a mask holds NaN or `spacing` does not fit.

    Notes
    -----
    A surface voxel has a face towards the outside, and so has every voxel of the mask at the
    image's border. `surface_distances` weighs surfaces by their area instead of counting voxels.
    Time and memory as for `hausdorff_distance`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.average_surface_distance([0, 1, 1, 1, 0], [0, 0, 1, 1, 0])
    0.5
    """
    first, second, sizes = _prepared("average_surface_distance", _NAMES, a, b, spacing)
    box = _box(first, second)
    if box is None:
        return 0.0
    # What is outside the box is outside both masks.
    first, second = _surface(first[box]), _surface(second[box])
    if not (first.any() and second.any()):
        return math.inf
    to_second, to_first = _to(second, sizes)[first], _to(first, sizes)[second]
    total = to_second.sum() + to_first.sum()
    return float(total / (len(to_second) + len(to_first)))


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances between two surfaces, element by element, in ascending order.

    ``pred_to_truth`` and ``truth_to_pred`` in mm; ``pred_areas`` and ``truth_areas`` are the sizes
    of the elements they belong to, mm2 (in 2D mm).
    """

    pred_to_truth: Distances
    truth_to_pred: Distances
    pred_areas: Distances
    truth_areas: Distances

    @property
    def empty(self) -> bool:
        """Whether neither mask has a surface."""
        return not (len(self.pred_areas) or len(self.truth_areas))

    def averages(self) -> tuple[float, float]:
        """Mean distance from pred to truth, and from truth to pred.

        NaN from a surface that does not exist, inf to it.
        """
        return (
            _mean(self.pred_to_truth, self.pred_areas),
            _mean(self.truth_to_pred, self.truth_areas),
        )

    def average(self) -> float:
        """Mean distance over both surfaces; 0 where both are empty, inf where one is."""
        if self.empty:
            return 0.0
        return _mean(
            np.concatenate([self.pred_to_truth, self.truth_to_pred]),
            np.concatenate([self.pred_areas, self.truth_areas]),
        )

    def hausdorff(self, percent: float = 95.0) -> float:
        """Distance that so many percent of each surface do not exceed; 100: the largest.

        0 where both surfaces are empty, inf where one is.
        """
        if self.empty:
            return 0.0
        return max(
            _percentile(self.pred_to_truth, self.pred_areas, percent),
            _percentile(self.truth_to_pred, self.truth_areas, percent),
        )

    def overlaps(self, tolerance_mm: float) -> tuple[float, float]:
        """Share of pred's surface, and of truth's, within a distance of the other.

        NaN of a surface that does not exist.
        """
        return (
            _share(self.pred_to_truth, self.pred_areas, tolerance_mm),
            _share(self.truth_to_pred, self.truth_areas, tolerance_mm),
        )

    def dice(self, tolerance_mm: float) -> float:
        """Share of both surfaces within a distance of the other; 1 where both are empty."""
        whole = self.pred_areas.sum() + self.truth_areas.sum()
        if not whole:
            return 1.0
        near = self.pred_areas[self.pred_to_truth <= tolerance_mm].sum()
        near += self.truth_areas[self.truth_to_pred <= tolerance_mm].sum()
        return float(near / whole)


def _mean(distances: Distances, areas: Distances) -> float:
    return float((distances * areas).sum() / areas.sum()) if len(areas) else math.nan


def _share(distances: Distances, areas: Distances, tolerance: float) -> float:
    return float(areas[distances <= tolerance].sum() / areas.sum()) if len(areas) else math.nan


def _percentile(distances: Distances, areas: Distances, percent: float) -> float:
    if not len(areas):
        return math.inf
    place = int(np.searchsorted(np.cumsum(areas) / areas.sum(), percent / 100))
    return float(distances[min(place, len(distances) - 1)])


@operation(result=None)
def surface_distances(
    pred: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None
) -> SurfaceDistances:
    """Distance of every surface element of each mask to the surface of the other.

    The definitions, and the figures of the result's methods, are those of DeepMind's
    ``surface-distance`` [1]_: the surface passes between voxels, an element of it lies in each cube
    between eight voxel centres (2D: square between four) that are not all inside or all outside,
    its area is that of a marching-cubes mesh, and its distance is that of the cube's centre.

    Parameters
    ----------
    pred, truth : array_like
        Masks of one shape; bool, integer or float, 2D or 3D. What is not 0 is inside.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.

    Returns
    -------
    distances : SurfaceDistances
        With methods ``averages``, ``average``, ``hausdorff(percent)``, ``overlaps(tolerance_mm)``
        and ``dice(tolerance_mm)``.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the masks are not 2D or 3D, shapes differ, a mask holds NaN or `spacing` does not fit.

    Notes
    -----
    Two exact distance transforms of the box around both masks. Extra memory: 18 bytes per voxel of
    the box and 32 per surface element.

    References
    ----------
    .. [1] S. Nikolov et al., "Clinically applicable segmentation of head and neck anatomy for
       radiotherapy", J. Med. Internet Res. 23 (2021) e26151.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> distances = ms.metrics.surface_distances([[0, 1, 1, 1]], [[0, 1, 1, 0]])
    >>> distances.hausdorff(100), round(distances.dice(0.5), 3)
    (1.0, 0.879)
    """
    return _between("surface_distances", pred, truth, spacing)


def _between(op: str, pred: Any, truth: Any, spacing: Any) -> SurfaceDistances:
    found, true, sizes = _prepared(op, _PREDICTION, pred, truth, spacing)
    if found.ndim not in (2, 3):
        raise ValueError(f"{op}: pred must have 2 or 3 dimensions, got shape {found.shape}")
    box = _box(found, true)
    if box is None:
        nothing = np.zeros(0)
        return SurfaceDistances(nothing, nothing, nothing, nothing)
    codes = []
    for mask in (found, true):
        part = _checks.contiguous(mask[box])
        cells = np.empty([n + 1 for n in part.shape], np.uint8)
        core.surface_cells(part, cells)
        codes.append(cells)
    full = 2 ** (2**found.ndim) - 1
    areas = _cell_surface.areas(sizes)
    borders = [(cells != 0) & (cells != full) for cells in codes]
    results = []
    for own, other in ((0, 1), (1, 0)):
        size = areas[codes[own][borders[own]]]
        if borders[other].any():
            distance = _to(borders[other], sizes)[borders[own]]
        else:
            distance = np.full(len(size), math.inf)
        order = np.lexsort((size, distance))
        results.append((distance[order], size[order]))
    (to_truth, pred_areas), (to_pred, truth_areas) = results
    return SurfaceDistances(to_truth, to_pred, pred_areas, truth_areas)


@operation(result=None)
def hausdorff_95(
    pred: ArrayLike, truth: ArrayLike, spacing: Sequence[float] | None = None
) -> float:
    """Distance in mm that 95 percent of either surface do not exceed.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `surface_distances`.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.

    Returns
    -------
    distance : float
        Of both directions the larger. 0 for two empty masks, inf where one of them is.

    Notes
    -----
    ``surface_distances(pred, truth, spacing).hausdorff(95)``; errors, time and memory are its. The
    percentile is over area, as in DeepMind's ``compute_robust_hausdorff``.
    """
    return _between("hausdorff_95", pred, truth, spacing).hausdorff(95)


@operation(result=None)
def normalised_surface_distance(
    pred: ArrayLike,
    truth: ArrayLike,
    tolerance_mm: float,
    spacing: Sequence[float] | None = None,
) -> float:
    """Share of both surfaces that lies within a tolerance of the other: surface Dice.

    Parameters
    ----------
    pred, truth : array_like
        Masks, as in `surface_distances`.
    tolerance_mm : float
        Distance in mm up to which surfaces agree.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.

    Returns
    -------
    nsd : float
        From 0 to 1; 1 for two empty masks, 0 where one of them is.

    Notes
    -----
    ``surface_distances(pred, truth, spacing).dice(tolerance_mm)``; errors, time and memory are its.
    Raises ValueError where the tolerance is negative.
    """
    op = "normalised_surface_distance"
    limit = _checks.tolerance(op, tolerance_mm)
    return _between(op, pred, truth, spacing).dice(limit)
