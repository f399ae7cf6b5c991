"""Flood fill: the pixels connected to a seed whose values equal the seed's, or nearly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _region
from medseg_fast._dispatch import mask_like, operation
from medseg_fast._region import Growth, Seeds


def _image_like(image: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return image.shape, image.dtype


@operation(result=mask_like, gpu="region")
def flood(
    image: ArrayLike,
    seed_point: Seeds,
    *,
    footprint: ArrayLike | None = None,
    connectivity: int | None = None,
    tolerance: float | None = None,
    max_voxels: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Mask of the pixels connected to a seed whose values equal the seed's, or nearly.

    Parameters
    ----------
    image : array_like
        Any number of dimensions; bool, integer, float32 or float64.
    seed_point : tuple of int or int
        Index of the seed, one number per axis; an int for 1D images. Negative ones count from the
        end.
    footprint : array_like, optional
        Neighbourhood: non-zero elements are neighbours of the central one. One axis per image axis,
        each of odd length. The centre itself does not matter.
    connectivity : int, optional
        Without `footprint`: neighbours differ by at most 1 along each axis and along at most this
        many axes. Default: all of them.
    tolerance : float, optional
        Values from ``seed - tolerance`` to ``seed + tolerance`` are inside, both ends included.
        Default: only the seed's value.
    max_voxels : int, optional
        Stop when the region has more pixels than this, warn, and return the first `max_voxels`
        pixels of breadth-first growth.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. NaN pixels are outside. An empty image gives an empty mask.

    Warns
    -----
    LeakWarning
        If the region exceeds `max_voxels`.

    Raises
    ------
    TypeError
        If a dtype is not supported (float16 neither, as in scikit-image).
    ValueError
        If the seed is outside the image or lies on NaN, or another argument does not fit.

    Notes
    -----
    Results are scikit-image's, fractional tolerances on integer images included: the ends of the
    range are rounded towards zero, so ``tolerance=0.5`` lets 3 join a seed of 4 but not 5. Except:
    NaN and outside seeds are refused, and a footprint without its central element keeps all its
    neighbours (scikit-image loses one). As there, an infinite seed with a tolerance stays alone.

    Time O(pixels in and around the region), at most O(n); an arbitrary footprint costs several
    times more. Extra memory: 2 bits per pixel, in rows (the last axis) rounded up to 64 pixels,
    and 33 bytes per row; with an arbitrary footprint or at `max_voxels` 16 bytes per pixel of the
    growing front more. Input that is neither C- nor Fortran-contiguous is copied once in its own
    dtype.

    On a GPU as `connected_threshold`; footprints that are no connectivity raise
    NotImplementedError.

    References
    ----------
    A. R. Smith, "Tint fill", Proc. SIGGRAPH 1979, 276-283.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.flood([[1, 1, 9], [9, 2, 9]], (0, 0), tolerance=1).astype(int).tolist()
    [[1, 1, 0], [0, 1, 0]]
    """
    array = _region.array("flood", image)
    if out is not None:
        out = _checks.output("flood", out, array.shape, np.bool_)
    if array.size == 0:
        return np.zeros(array.shape, np.bool_) if out is None else out
    growth = _flood("flood", array, seed_point, footprint, connectivity, tolerance, max_voxels)
    return growth.mask(out)


@operation(result=_image_like, gpu="region")
def flood_fill(
    image: ArrayLike,
    seed_point: Seeds,
    new_value: Any,
    *,
    footprint: ArrayLike | None = None,
    connectivity: int | None = None,
    tolerance: float | None = None,
    in_place: bool = False,
    max_voxels: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Give a new value to the pixels that `flood` finds.

    Parameters
    ----------
    image : array_like
        Any number of dimensions; bool, integer, float32 or float64.
    seed_point : tuple of int or int
        Index of the seed, one number per axis; an int for 1D images. Negative ones count from the
        end.
    new_value : scalar
        New value, converted to the image's dtype as by assignment.
    footprint, connectivity, tolerance, max_voxels
        As in `flood`.
    in_place : bool, optional
        Change `image` itself, which must then be a writable array; any strides will do.
    out : ndarray, optional
        Array of the image's shape and dtype that receives the result; not with `in_place`.

    Returns
    -------
    filled : ndarray
        `image` itself with `in_place`, otherwise a new array of its shape and dtype.

    Warns
    -----
    LeakWarning
        If the region exceeds `max_voxels`; only the pixels found until then are changed.

    Raises
    ------
    TypeError, ValueError
        As `flood`, and if `new_value` does not fit the dtype (an OverflowError, as from NumPy) or
        `image` is not writable. `image` is then unchanged.

    Notes
    -----
    Time and memory as `flood`; without `in_place` one copy of the image more, which is the result.
    On a GPU `new_value` is a number.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.flood_fill([[1, 1, 9], [9, 2, 9]], (0, 0), 5, tolerance=1).tolist()
    [[5, 5, 9], [9, 5, 9]]
    """
    op = "flood_fill"
    if in_place:
        if not isinstance(image, np.ndarray):
            kind = type(image).__qualname__
            raise TypeError(f"{op}: image must be a NumPy array to be changed in place, got {kind}")
        if out is not None:
            raise ValueError(f"{op}: out cannot be given with in_place=True")
        if not image.flags.writeable:
            raise ValueError(f"{op}: image must be writable to be changed in place")
    array = _region.array(op, image)
    result = array if in_place else _checks.output(op, out, array.shape, array.dtype)
    if array.size == 0:
        return result
    growth = _flood(op, array, seed_point, footprint, connectivity, tolerance, max_voxels)
    if np.ndim(new_value) == 0:
        value = _checks.element(op, "new_value", new_value, array.dtype).reshape(1)
        if growth.paint(result, value.astype(array.dtype.newbyteorder("=")), copy=not in_place):
            return result
    mask = growth.mask(None)
    if not in_place:
        result[...] = array
    result[mask] = new_value
    return result


def _flood(
    op: str,
    array: NDArray[Any],
    seed_point: Seeds,
    footprint: ArrayLike | None,
    connectivity: int | None,
    tolerance: float | None,
    max_voxels: int | None,
) -> Growth:
    if array.dtype == np.float16:
        raise TypeError(f"{op}: dtype of `image` is float16, which is not supported; use float32")
    seed = _region.seeds(op, "seed_point", seed_point, array, wrap=True)
    if len(seed) != 1:
        raise ValueError(f"{op}: seed_point must be one index, got {seed_point!r}")
    limit = _region.limit(op, max_voxels, array)
    offsets, connectivity = _neighbours(op, array.ndim, footprint, connectivity)
    bounds = _around(op, array[tuple(seed[0])], tolerance)
    if offsets is None:
        growth = Growth(op, array)
        growth.grow(bounds, seed, connectivity, limit, force=True)
    else:
        reach = np.abs(offsets[(np.abs(offsets) < array.shape).all(axis=1)]).max(initial=1)
        growth = Growth(op, array, reach=int(reach))
        growth.grow_breadth_first(bounds, seed, offsets, limit, force=True)
    return growth


def _neighbours(
    op: str, ndim: int, footprint: ArrayLike | None, connectivity: int | None
) -> tuple[NDArray[np.int64] | None, int]:
    """Return offsets and a connectivity; no offsets where the connectivity says it all."""
    if footprint is None:
        return None, _checks.nearest_connectivity(op, connectivity, ndim)
    shape = _checks.as_array(op, footprint, "footprint").astype(np.bool_)
    if shape.ndim != ndim:
        raise ValueError(
            f"{op}: footprint must have {ndim} dimensions as the image, got shape {shape.shape}"
        )
    if any(n % 2 != 1 for n in shape.shape):
        raise ValueError(f"{op}: footprint must be odd along all axes, got shape {shape.shape}")
    offsets = np.argwhere(shape) - np.array(shape.shape) // 2
    offsets = offsets[offsets.any(axis=1)]
    for connectivity in range(1, ndim + 1):
        if np.array_equal(offsets, _region.structure(ndim, connectivity)):
            return None, connectivity
    return offsets, ndim


def _around(op: str, value: Any, tolerance: float | None) -> NDArray[Any] | None:
    """Return the range of a flood from a pixel of this value; None for an empty one."""
    dtype = value.dtype.newbyteorder("=")
    if tolerance is None:
        return np.array([value, value], dtype)
    reach = abs(_checks.number(op, "tolerance", tolerance))
    seed = value.item()
    if dtype.kind == "f":
        if math.isinf(seed):
            return None  # no value is near, not even its own: inf - inf is NaN
        limits = np.finfo(dtype)
        least, most = float(limits.min), float(limits.max)
        return np.array([max(least, seed - reach), min(most, seed + reach)]).astype(dtype)
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if math.isinf(reach):
        return np.array([least, most], dtype)
    if reach == int(reach):
        reach = int(reach)
    ends = max(least, seed - reach), min(most, seed + reach)
    return np.array([math.trunc(end) for end in ends], dtype)
