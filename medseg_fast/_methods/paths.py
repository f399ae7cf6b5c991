"""Methods that follow paths of least cost."""

from __future__ import annotations

from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast._methods._method import Array, Method, Option, markers_at


def _geodesic(
    image: Array,
    *,
    spacing: Any,
    marker: list[tuple[int, tuple[int, ...]]],
    radius: Any = 0,
    sigma: float = 1.0,
    intensity_weight: float = 1.0,
    max_distance: float | None = None,
) -> tuple[Array, dict[str, Any]]:
    markers = markers_at(image, "--marker", marker)
    reach = np.broadcast_to(radius, image.ndim)
    for label, voxel in marker:
        around = tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(voxel, reach, strict=True))
        markers[around] = label
    smooth = ms.gaussian(image, sigma, spacing=spacing, preserve_range=True) if sigma else image
    labels, distance = ms.geodesic_segmentation(
        smooth,
        markers,
        spacing=spacing,
        intensity_weight=intensity_weight,
        max_distance=max_distance,
        return_distance=True,
    )
    farthest = distance[np.isfinite(distance)].max()
    return labels, {"farthest": float(farthest)}


METHODS = (
    Method(
        "geodesic",
        "paths",
        "labelled seeds; each voxel joins the one with the flattest way (Bai and Sapiro 2007)",
        _geodesic,
        (
            Option("marker", "marker", "label and voxel of a seed", required=True, several=True),
            Option("radius", "size", "how far around such a voxel others are seeds too", 0),
            Option("sigma", "float", "standard deviation of the smoothing before, in mm", 1.0),
            Option("intensity_weight", "float", "what a unit of intensity counts, in mm", 1.0),
            Option("max_distance", "float", "leave voxels unlabelled that are farther, in mm"),
        ),
        in_mm=True,
    ),
)
