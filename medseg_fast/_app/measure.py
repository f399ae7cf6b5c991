"""Size, place and brightness of each segmented region, in mm."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def measure(labels: Array, spacing: tuple[float, ...], image: Array | None = None) -> list[Any]:
    """Measure every label of a mask or label image.

    Parameters
    ----------
    labels : ndarray of bool or int
        2D or 3D; 0 (False) is outside. A mask has one label, 1.
    spacing : tuple of float
        Pixel size in mm, per axis.
    image : ndarray, optional
        The image that was segmented, for the intensities. NaN pixels are left out of them.

    Returns
    -------
    regions : list of dict
        One per label, in ascending order, of numbers that can be written as JSON: ``label``;
        ``voxels``; ``volume_mm3`` (``area_mm2`` in 2D); ``extent_mm``, the size of the box around
        it per axis; ``box``, first and last index per axis; ``centre``, mean index per axis; and
        with an image ``mean``, ``std``, ``min``, ``max``. Empty without any label.
    """
    regions = []
    for value, box in _boxes(labels):
        inside = None if image is None else image[box]
        start = [part.start for part in box]
        regions.append(_region(labels[box] == value, value, start, spacing, inside))
    return regions


def centre(mask: Array) -> tuple[int, ...]:
    """Per axis the plane with half of the region on each side; the image's middle if it is empty.

    A median, so that a few stray pixels far away do not move it.
    """
    planes = []
    for axis in range(mask.ndim):
        counts = np.cumsum(_profile(mask, axis))
        if not counts.size or counts[-1] == 0:
            return tuple(n // 2 for n in mask.shape)
        planes.append(int(np.searchsorted(counts, counts[-1] / 2)))
    return tuple(planes)


def dice(a: Array, b: Array) -> float:
    """Overlap of two masks, 2 |a and b| / (|a| + |b|); 1 for two empty masks."""
    total = np.count_nonzero(a) + np.count_nonzero(b)
    return 2 * np.count_nonzero((a != 0) & (b != 0)) / total if total else 1.0


def _profile(mask: Array, axis: int) -> Array:
    """Number of pixels of the mask in each plane across `axis`."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    return np.asarray(np.count_nonzero(mask, axis=others))


_FEW = 16  # up to so many labels, searching the whole image for each is quicker than sorting


def _boxes(labels: Array) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Each label with a box that holds it."""
    highest = int(labels.max(initial=0))
    if highest <= _FEW:
        everything = tuple(slice(0, n) for n in labels.shape)
        yield from ((v, everything) for v in range(1, highest + 1) if (labels == v).any())
        return
    places = np.flatnonzero(labels)
    values = labels.reshape(-1)[places]
    order = np.argsort(values, kind="stable")
    found, starts = np.unique(values[order], return_index=True)
    sides = []
    for axis in np.unravel_index(places[order], labels.shape):
        first, last = np.minimum.reduceat(axis, starts), np.maximum.reduceat(axis, starts)
        sides.append([slice(int(a), int(b) + 1) for a, b in zip(first, last, strict=True)])
    for value, *box in zip(found.tolist(), *sides, strict=True):
        yield value, tuple(box)


def _region(
    mask: Array,
    label: int,
    start: list[int],
    spacing: tuple[float, ...],
    image: Array | None,
) -> dict[str, Any]:
    """Measure one label within a part of the image that begins at `start`."""
    profiles = [_profile(mask, axis) for axis in range(mask.ndim)]
    inside = [np.flatnonzero(profile) for profile in profiles]
    box = [
        [int(planes[0]) + first, int(planes[-1]) + first]
        for planes, first in zip(inside, start, strict=True)
    ]
    voxels = int(profiles[0].sum())
    size = voxels * math.prod(spacing)
    region = {
        "label": label,
        "voxels": voxels,
        "area_mm2" if mask.ndim == 2 else "volume_mm3": round(size, 3),
        "extent_mm": [
            round((last - first + 1) * mm, 3)
            for (first, last), mm in zip(box, spacing, strict=True)
        ],
        "box": box,
        "centre": [
            round(first + float(np.average(np.arange(profile.size), weights=profile)), 2)
            for profile, first in zip(profiles, start, strict=True)
        ],
    }
    if image is not None:
        region |= _intensities(image[mask])
    return region


def _intensities(values: Array) -> dict[str, float | None]:
    values = values.astype(np.float64)
    values = values[~np.isnan(values)]
    if not values.size:
        return dict.fromkeys(("mean", "std", "min", "max"))
    # An infinite intensity has no JSON number and no standard deviation.
    with np.errstate(invalid="ignore"):
        numbers = {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return {name: round(n, 4) if math.isfinite(n) else None for name, n in numbers.items()}
