"""Size, place and brightness of each segmented region, in mm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.measure._table import LabelTable
from medseg_fast.measure.measurement import place

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
    table = LabelTable(labels, image, spacing)
    columns = {name: column.tolist() for name, column in place(table).items()}
    if image is not None:
        figures = {name: table.statistic(name).tolist() for name in ("mean", "std", "min", "max")}
    size = "area_mm2" if labels.ndim == 2 else "volume_mm3"
    regions = []
    for row in range(len(table)):
        region = {
            "label": columns["label"][row],
            "voxels": columns["voxels"][row],
            size: round(columns[size][row], 3),
            "extent_mm": [round(mm, 3) for mm in columns["extent_mm"][row]],
            "box": [list(ends) for ends in zip(*columns["box"][row], strict=True)],
            "centre": [round(index, 2) for index in columns["centroid_index"][row]],
        }
        if image is not None:
            region |= {name: _number(values[row]) for name, values in figures.items()}
        regions.append(region)
    return regions


def _number(value: float) -> float | None:
    """An infinite intensity has no JSON number and no standard deviation."""
    return round(value, 4) if math.isfinite(value) else None


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


def _profile(mask: Array, axis: int) -> Array:
    """Number of pixels of the mask in each plane across `axis`."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    return np.asarray(np.count_nonzero(mask, axis=others))
