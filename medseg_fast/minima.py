"""Regional minima and maxima."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation


def _mask_or_indices(
    image: Any,
    footprint: Any = None,
    connectivity: Any = None,
    indices: bool = False,
    allow_borders: bool = True,
    *,
    out: Any = None,
) -> tuple[Any, Any] | None:
    return None if indices else (image.shape, np.bool_)


def _steps(op: str, footprint: Any, connectivity: Any, ndim: int) -> NDArray[np.int8]:
    """Steps to the neighbours, one row each."""
    if footprint is None:
        reach = _checks.nearest_connectivity(op, connectivity, ndim)
        steps = itertools.product((-1, 0, 1), repeat=ndim)
        near = [step for step in steps if 1 <= sum(map(abs, step)) <= reach]
        return np.array(near, np.int8).reshape(-1, ndim)
    given = _checks.as_array(op, footprint, "footprint").astype(np.bool_)
    if given.ndim != ndim:
        raise ValueError(
            f"{op}: footprint must have the image's number of dimensions, {ndim}, got {given.ndim}"
        )
    if given.shape != (3,) * ndim:
        raise ValueError(
            f"{op}: footprint must have the dimension size 3 along each axis, got {given.shape}"
        )
    steps_ = np.argwhere(given).astype(np.int8) - np.int8(1)
    # scikit-image takes the step nearest to the centre for the centre itself: where the centre is
    # not in the footprint, that is a neighbour.
    nearest = np.argsort((steps_**2).sum(1, dtype=np.int64), kind="stable")
    return np.ascontiguousarray(steps_[np.sort(nearest[1:])])


def _extrema(
    op: str,
    image: Any,
    footprint: Any,
    connectivity: Any,
    indices: bool,
    allow_borders: bool,
    out: Any,
) -> Any:
    array = _checks.image(op, image)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    if indices and out is not None:
        raise ValueError(f"{op}: out must be None with indices=True")
    mask = _checks.output(op, out, array.shape, np.bool_)
    written = _checks.scratch(mask, array)
    if array.size == 0:
        pass
    elif not allow_borders and min(array.shape) < 3:
        warnings.warn(
            f"{op.removeprefix('local_')} can't exist for an image with any dimension smaller 3 "
            "if borders aren't allowed",
            UserWarning,
            stacklevel=4,
        )
        written[...] = False
    else:
        steps = _steps(op, footprint, connectivity, array.ndim)
        symmetric = {tuple(step) for step in steps.tolist()} == {
            tuple(step) for step in (-steps).tolist()
        }
        core.local_minima(
            array, op == "local_maxima", steps, symmetric, bool(allow_borders), written
        )
    mask = _checks.finish(mask, written)
    return np.nonzero(mask) if indices else mask


@operation(result=_mask_or_indices, gpu="minima")
def local_minima(
    image: ArrayLike,
    footprint: ArrayLike | None = None,
    connectivity: int | None = None,
    indices: bool = False,
    allow_borders: bool = True,
    *,
    out: NDArray[np.bool_] | None = None,
) -> Any:
    """Find the regional minima: plateaus of equal value all of whose neighbours are higher.

    The result is that of ``skimage.morphology.local_minima``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    footprint : array_like of bool, optional
        Which neighbours count, 3 pixels per axis around the centre.
    connectivity : int, optional
        Without a footprint: how many coordinates of a neighbour may differ by one, 1 to ndim
        (numbers beyond are taken as the nearest of these). Without both, ndim.
    indices : bool, optional
        Return the indices of the pixels instead of a mask.
    allow_borders : bool, optional
        False: plateaus that touch the image's border are no minima.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    minima : ndarray of bool or tuple of ndarrays of int64
        Mask of the image's shape; with `indices` one array of coordinates per axis, in raster
        order. A constant image has no minimum. NaN counts as the image's highest value and is never
        a minimum.

    Warns
    -----
    UserWarning
        If borders are not allowed and an axis has fewer than 3 pixels: nothing is found then.

    Raises
    ------
    TypeError
        If a dtype is not supported. (float16 and bool, which scikit-image refuses, are.)
    ValueError
        If `image` has no dimension, or `footprint` or `out` does not fit.

    See Also
    --------
    local_maxima, h_minima, watershed_immersion

    Notes
    -----
    Time O(n k) for k neighbours, on all threads. Extra memory: none beside the mask for integers,
    one key of the pixel's width for floats, and 8 bytes for each pixel in a plateau that is no
    minimum though none of the pixel's own neighbours is lower. Footprints that are not symmetric
    run on one thread, as the result depends on the order of the search. On a GPU the mask is the
    same; not there: ``allow_borders=False``, other footprints than those of a connectivity, and
    more than three axes longer than 1.

    Where an axis has length 1, scikit-image may find other pixels for a footprint that is not that
    of a connectivity.

    References
    ----------
    L. Vincent (1993), "Morphological grayscale reconstruction in image analysis: applications and
    efficient algorithms", IEEE Transactions on Image Processing 2(2):176-201.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.local_minima([5, 1, 1, 3, 2, 4]).tolist()
    [False, True, True, False, True, False]
    >>> ms.local_minima([5, 1, 1, 3, 2, 4], indices=True)[0].tolist()
    [1, 2, 4]
    """
    return _extrema("local_minima", image, footprint, connectivity, indices, allow_borders, out)


@operation(result=_mask_or_indices, gpu="minima")
def local_maxima(
    image: ArrayLike,
    footprint: ArrayLike | None = None,
    connectivity: int | None = None,
    indices: bool = False,
    allow_borders: bool = True,
    *,
    out: NDArray[np.bool_] | None = None,
) -> Any:
    """Find the regional maxima: plateaus of equal value all of whose neighbours are lower.

    The result is that of ``skimage.morphology.local_maxima``.

    Parameters
    ----------
    image, footprint, connectivity, indices, allow_borders, out
        As in `local_minima`.

    Returns
    -------
    maxima : ndarray of bool or tuple of ndarrays of int64
        As in `local_minima`; NaN counts as the image's lowest value and is never a maximum.

    Warns
    -----
    UserWarning
        If borders are not allowed and an axis has fewer than 3 pixels: nothing is found then.

    Raises
    ------
    TypeError, ValueError
        As in `local_minima`.

    Notes
    -----
    Time and memory as in `local_minima`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.local_maxima([5, 1, 1, 3, 2, 4]).tolist()
    [True, False, False, True, False, True]
    """
    return _extrema("local_maxima", image, footprint, connectivity, indices, allow_borders, out)
