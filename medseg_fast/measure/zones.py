"""Texture of labelled regions: runs and zones of one grey level, as the IBSI defines them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast.components import label
from medseg_fast.measure._levels import emphases, levels_of, named, steps_of


def glrlm(
    levels: ArrayLike, number: int | None = None, offsets: Sequence[Sequence[int]] | None = None
) -> NDArray[np.int64]:
    """Grey level run length matrices, one for each direction.

    Parameters
    ----------
    levels : array_like of int
        Grey levels from 1 to 65535; 0 is outside the region.
    number : int, optional
        Number of levels; the highest one by default.
    offsets : sequence of index steps, optional
        Directions, steps of -1, 0 and 1; by default 4 in 2D, 13 in 3D.

    Returns
    -------
    counts : ndarray of int64
        Shape (directions, number, longest run): how many runs of j + 1 voxels have level i + 1.

    Raises
    ------
    TypeError
        If the levels are not integers.
    ValueError
        If a level is out of range, or an offset does not fit.

    Notes
    -----
    Time O(directions * voxels).

    References
    ----------
    .. [1] M. M. Galloway, "Texture analysis using gray level run lengths", Computer Graphics and
       Image Processing 4 (1975) 172-179.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.glrlm([[1, 1, 2, 1]], offsets=[(0, 1)]).tolist()
    [[[1, 1], [1, 0]]]
    """
    op = "glrlm"
    image, count = levels_of(op, levels, number)
    steps = steps_of(op, offsets, image.ndim)
    if any(not any(step) or max(map(abs, step)) > 1 for step in steps):
        raise ValueError(
            f"{op}: offsets must have steps of -1, 0 and 1, not all 0, got {offsets!r}"
        )
    counts = np.zeros((len(steps), count, max(1, *image.shape)), np.int64)
    if image.size:
        core.run_lengths(image, steps, counts)
    longest = int(np.flatnonzero(counts.any((0, 1))).max(initial=0)) + 1
    return np.ascontiguousarray(counts[:, :, :longest])


def glrlm_features(counts: ArrayLike, *, merge: bool = True) -> dict[str, float]:
    """The IBSI's 16 features of run length matrices.

    Parameters
    ----------
    counts : array_like
        Shape (directions, levels, lengths), as from `glrlm`.
    merge : bool, optional
        Add the directions' matrices up (the IBSI's IAZD); False: mean of their features (ITBB).

    Returns
    -------
    features : dict of float
        NaN where there is no voxel.

    References
    ----------
    .. [1] A. Zwanenburg et al., "The image biomarker standardization initiative", Radiology 295
       (2020) 328-338, section 3.7.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> counts = ms.measure.glrlm([[1, 1, 2, 1]], offsets=[(0, 1)])
    >>> ms.measure.glrlm_features(counts)["run_percentage"]
    0.75
    """
    every = np.asarray(counts, np.float64)
    lengths = np.arange(1, every.shape[2] + 1)
    rows = []
    for part in [every.sum(0)] if merge else every:
        row = named(emphases(part, lengths), "run", "short_run", "long_run", "run_length")
        row["run_entropy"] = row.pop("run_length_entropy")
        with np.errstate(invalid="ignore"):
            row["run_percentage"] = float(part.sum() / (part @ lengths).sum())
        rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


class Zones(NamedTuple):
    """Counts of zones, of which only sizes that occur have a column.

    Attributes
    ----------
    counts : ndarray of int64
        Shape (levels, sizes).
    sizes : ndarray of int64
        Ascending: voxels of a zone, or its distance from the border.
    voxels : int
        Of the region.
    """

    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    voxels: int


def glszm(levels: ArrayLike, number: int | None = None) -> Zones:
    """Grey level size zone matrix.

    Parameters
    ----------
    levels : array_like of int
        Grey levels from 1 to 65535; 0 is outside the region.
    number : int, optional
        Number of levels; the highest one by default.

    Returns
    -------
    zones : Zones
        How many zones of a size have level i + 1: voxels of one level that hang together by faces,
        edges or corners.

    Raises
    ------
    TypeError
        If the levels are not integers.
    ValueError
        If a level is out of range, or there are more than three axes.

    References
    ----------
    .. [1] G. Thibault et al., "Shape and texture indexes: application to cell nuclei
       classification", Int. J. Pattern Recognition and Artificial Intelligence 27 (2013) 1357002.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> zones = ms.measure.glszm([[1, 1, 2, 1]])
    >>> zones.counts.tolist(), zones.sizes.tolist()
    ([[1, 1], [1, 0]], [1, 2])
    """
    image, count = levels_of("glszm", levels, number)
    zone, of_zone = _zones(image)
    return _counted(of_zone, np.bincount(zone.ravel())[1:], count, int(np.count_nonzero(image)))


def gldzm(levels: ArrayLike, number: int | None = None, *, mask: ArrayLike | None = None) -> Zones:
    """Grey level distance zone matrix.

    Parameters
    ----------
    levels, number
        As for `glszm`.
    mask : array_like of bool, optional
        The region whose border counts; where `levels` is not 0 by default.

    Returns
    -------
    zones : Zones
        As from `glszm`, by a zone's least distance from the border: 1 for voxels at it, one more
        for each step along an axis.

    Raises
    ------
    TypeError, ValueError
        As `glszm`; also if `mask` does not fit.

    References
    ----------
    .. [1] G. Thibault, J. Angulo and F. Meyer, "Advanced statistical matrices for texture
       characterization", IEEE Trans. Biomedical Engineering 61 (2014) 630-637.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> zones = ms.measure.gldzm([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    >>> zones.counts.tolist(), zones.sizes.tolist()
    ([[1, 0], [0, 1]], [1, 2])
    """
    op = "gldzm"
    image, count = levels_of(op, levels, number)
    region = image != 0
    border = region if mask is None else _checks.contiguous(_checks.mask(op, mask))
    if border.shape != image.shape:
        raise ValueError(f"{op}: mask must have shape {image.shape}, got {border.shape}")
    zone, of_zone = _zones(image)
    steps = np.zeros(image.shape, np.int32)
    if image.size:
        core.border_steps(border, steps)
    nearest = np.full(len(of_zone) + 1, np.iinfo(np.int32).max, np.int32)
    np.minimum.at(nearest, zone.ravel(), np.maximum(steps, 1).ravel())
    return _counted(of_zone, nearest[1:], count, int(np.count_nonzero(region)))


def glszm_features(zones: Zones) -> dict[str, float]:
    """The IBSI's 16 features of a size zone matrix (its section 3.8); NaN where there is no zone.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.glszm_features(ms.measure.glszm([[1, 1, 2, 1]]))["zone_percentage"]
    0.75
    """
    return _zone_features(zones, "small_zone", "large_zone", "zone_size")


def gldzm_features(zones: Zones) -> dict[str, float]:
    """The IBSI's 16 features of a distance zone matrix (its section 3.9); NaN without a zone.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.gldzm_features(ms.measure.gldzm([[1, 1, 2, 1]]))["large_distance_emphasis"]
    1.0
    """
    return _zone_features(zones, "small_distance", "large_distance", "zone_distance")


def _zone_features(zones: Zones, low: str, high: str, size: str) -> dict[str, float]:
    features = emphases(np.asarray(zones.counts, np.float64), np.asarray(zones.sizes))
    share = zones.counts.sum() / zones.voxels if zones.voxels else float("nan")
    return {**named(features, "zone", low, high, size), "zone_percentage": float(share)}


def _zones(image: NDArray[np.uint16]) -> tuple[NDArray[Any], NDArray[np.uint16]]:
    """Numbers of zones, and the level of each."""
    zone = label(image, background=0, connectivity=image.ndim)
    level = np.zeros(int(zone.max(initial=0)) + 1, np.uint16)
    level[zone.ravel()] = image.ravel()
    return zone, level[1:]


def _counted(level: Any, size: Any, number: int, voxels: int) -> Zones:
    sizes, column = np.unique(size, return_inverse=True)
    counts = np.zeros((number, len(sizes)), np.int64)
    np.add.at(counts, (level.astype(np.int64) - 1, column), 1)
    return Zones(counts, sizes.astype(np.int64), voxels)
