"""Images and labels at another voxel size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._warp import labels_of, resize, source
from medseg_fast.gaussian import gaussian

_OP = "resample"


def resample(
    image: ArrayLike,
    label: ArrayLike | None,
    spacing: Sequence[float],
    new_spacing: Sequence[float],
    *,
    order: int = 1,
) -> tuple[NDArray[np.float32], Any]:
    """Resample an image and its label to another voxel size.

    Parameters
    ----------
    image : array_like
        (C, rows, columns) or (C, planes, rows, columns).
    label : array_like or None
        The image's spatial shape, any dtype.
    spacing, new_spacing : sequence of float
        Voxel size in mm along each spatial axis, before and after.
    order : {1, 3}, optional
        Linear interpolation, or cubic.

    Returns
    -------
    image : ndarray of float32
        ``round(n * spacing / new_spacing)`` voxels along an axis, at least one, that share the
        given ones' extent: their size is `new_spacing` but for that rounding.
    label : ndarray or None
        Nearest voxels, in the label's dtype.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If shapes do not fit, a spacing is not positive or `order` is another.

    Notes
    -----
    Along axes that get coarser by a factor f a Gaussian of ``sqrt(f^2 - 1) / 2`` voxels comes
    first, so that detail finer than the new voxels does not alias. Beyond the image its nearest
    voxels count. An image at the wanted spacing comes back as it is (float32).

    Examples
    --------
    >>> image, label = resample(np.zeros((1, 4, 6)), None, (2, 1), (1, 1))
    >>> image.shape
    (1, 8, 6)
    """
    array = source(_OP, image)
    spatial = array.shape[1:]
    labels = None if label is None else labels_of(_OP, label, spatial)
    sizes = _checks.spacing(_OP, spacing, len(spatial))
    wanted = _checks.spacing(_OP, new_spacing, len(spatial))
    if order not in (1, 3):
        raise ValueError(f"{_OP}: order must be 1 or 3, got {order!r}")
    ratios = [new / old for old, new in zip(sizes, wanted, strict=True)]
    shape = tuple(
        max(1, math.floor(n / ratio + 0.5)) if n else 0
        for n, ratio in zip(spatial, ratios, strict=True)
    )
    if shape == spatial:
        return array.astype(np.float32), None if labels is None else labels.copy()
    sigmas = [math.sqrt(ratio * ratio - 1) / 2 if ratio > 1 else 0.0 for ratio in ratios]
    if any(sigmas) and array.size:
        smooth = gaussian(array.astype(np.float32, copy=False), sigmas, channel_axis=0)
        array = np.asarray(smooth, np.float32)
    return resize(array, shape, order=order, label=labels)
