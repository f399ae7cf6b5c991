"""Objects of a mask that touch, told apart by their shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._dispatch import operation
from medseg_fast.distance import distance_transform_edt
from medseg_fast.watershed import watershed
from medseg_fast.watershed_hierarchy import markers_from_minima


def _labels_like(mask: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return mask.shape, np.int32


@operation(result=_labels_like)
def split_touching(
    mask: ArrayLike,
    spacing: Sequence[float] | None = None,
    *,
    h: float | None = None,
    connectivity: int = 1,
    watershed_line: bool = False,
    out: NDArray[np.int32] | None = None,
) -> NDArray[np.int32]:
    """Label the objects of a mask, cutting where round objects touch or overlap.

    The distance to the background has a peak inside each object, and the mask is divided along the
    valleys between the peaks. One call for the usual recipe of distance transform, h-maxima and
    watershed of the inverted distance.

    Parameters
    ----------
    mask : array_like
        At least 1D; non-zero pixels are inside.
    spacing : sequence of float, optional
        Voxel size in mm, one number per axis; without it 1 mm.
    h : float, optional
        How much deeper than the neck towards a larger object a part must be to count as an object
        of its own, in mm: half the difference of widths. Larger values split less. Without it, the
        smallest voxel side.
    connectivity : int, optional
        1 to ndim: how many coordinates of neighbours may differ by one.
    watershed_line : bool, optional
        Leave a line of 0 one pixel wide between objects.
    out : ndarray of int32, optional
        Array of the mask's shape that receives the labels.

    Returns
    -------
    labels : ndarray of int32
        Same shape as `mask`: 0 outside, 1.. inside, numbered in raster order of the objects' peaks.
        Every connected region of the mask gets at least one label, however thin.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `mask` holds NaN, `spacing` or `h` is not positive, `connectivity` is out of range or
        `out` does not fit.

    Notes
    -----
    Time O(n) but for the sorting of the few peaks. Distances are float32: no float64 volume at any
    time. What lies outside the image counts as neither object nor background.

    References
    ----------
    .. [1] F. Meyer and S. Beucher (1990), "Morphological segmentation", Journal of Visual
       Communication and Image Representation 1(1):21-46.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.split_touching([0, 1, 1, 1, 1, 1, 0]).tolist()
    [0, 1, 1, 1, 1, 1, 0]
    """
    op = "split_touching"
    inside = _checks.mask(op, mask)
    sides = _checks.spacing(op, spacing, inside.ndim)
    reach = _checks.connectivity(op, connectivity, inside.ndim)
    depth = min(sides, default=1.0) if h is None else float(_checks.number(op, "h", h))
    if not depth > 0:
        raise ValueError(f"{op}: h must be positive, got {h!r}")
    labels = _checks.output(op, out, inside.shape, np.int32)
    relief = distance_transform_edt(inside, sides, dtype=np.float32)
    np.negative(relief, out=relief)
    # NaN is no ground at all: no way leads from one region to another, so each keeps a minimum.
    relief[~inside] = np.nan
    markers = markers_from_minima(relief, h=depth, connectivity=reach)
    return watershed(relief, markers, reach, watershed_line=watershed_line, out=labels)
