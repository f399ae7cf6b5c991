"""Size, place and brightness of each segmented region, in mm."""

from __future__ import annotations

import math
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
    if labels.dtype == np.bool_:
        found = [1] if labels.any() else []
    else:
        found = [int(value) for value in np.unique(labels) if value != 0]
    return [_region(labels == value, value, spacing, image) for value in found]


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


def _region(
    mask: Array, label: int, spacing: tuple[float, ...], image: Array | None
) -> dict[str, Any]:
    profiles = [_profile(mask, axis) for axis in range(mask.ndim)]
    inside = [np.flatnonzero(profile) for profile in profiles]
    box = [[int(planes[0]), int(planes[-1])] for planes in inside]
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
            round(float(np.average(np.arange(profile.size), weights=profile)), 2)
            for profile in profiles
        ],
    }
    if image is not None:
        region |= _intensities(image[mask])
    return region


def _intensities(values: Array) -> dict[str, float | None]:
    values = values.astype(np.float64)
    values = values[~np.isnan(values)]
    names: dict[str, Any] = {"mean": np.mean, "std": np.std, "min": np.min, "max": np.max}
    if not values.size:
        return dict.fromkeys(names)
    # An infinite intensity has no JSON number and no standard deviation.
    with np.errstate(invalid="ignore"):
        numbers = {name: float(function(values)) for name, function in names.items()}
    return {name: round(n, 4) if math.isfinite(n) else None for name, n in numbers.items()}
