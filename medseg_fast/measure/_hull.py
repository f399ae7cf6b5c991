"""The pixels of a region's convex hull."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Mask = NDArray[np.bool_]


def convex_image(mask: Mask) -> Mask:
    """Pixels whose centres lie in the convex hull of the middles of the region's faces.

    In 2D in integers; in 3D by SciPy's Qhull, where a flat region has no hull: a warning and no
    pixel, as in scikit-image.
    """
    if mask.ndim == 2:
        out = np.empty(mask.shape, np.bool_)
        core.convex_image(_checks.contiguous(mask), out)
        return out
    try:
        spatial = import_module("scipy.spatial")
    except ImportError as error:
        raise ImportError("regionprops: the convex hull of a 3D region needs SciPy") from error

    steps = np.concatenate([np.eye(3), -np.eye(3)]) / 2
    try:
        # Only ends of rows can be corners.
        ends = np.argwhere(mask & ~(_shifted(mask, 1) & _shifted(mask, -1)))
        corners = ends[spatial.ConvexHull(ends).vertices]
        hull: Any = spatial.ConvexHull((corners[:, None] + steps).reshape(-1, 3))
    except spatial.QhullError:
        warnings.warn("regionprops: a flat region in 3D has no convex hull", stacklevel=5)
        return np.zeros(mask.shape, bool)
    planes = np.unique(hull.equations.round(12), axis=0)
    at_z, at_y, at_x = np.ogrid[tuple(map(slice, mask.shape))]
    inside = np.ones(mask.shape, bool)
    for z, y, x, shift in planes:
        inside &= z * at_z + y * at_y + x * at_x + shift < 1e-10
    return inside


def _shifted(mask: Mask, step: int) -> Mask:
    """The mask moved along the last axis; nothing comes in at the border."""
    result = np.zeros_like(mask)
    if step > 0:
        result[..., 1:] = mask[..., :-1]
    else:
        result[..., :-1] = mask[..., 1:]
    return result
