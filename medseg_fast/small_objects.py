"""Small objects and holes: removed from a mask, or from labels, by their size."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import like, mask_like, operation


class _Deprecated:
    """Stands for a deprecated argument that was not given."""

    def __repr__(self) -> str:
        return "<not given>"


_DEPRECATED: Any = _Deprecated()


def _size_limit(op: str, old_name: str, old: Any, max_size: Any) -> int:
    """The largest size to remove, from scikit-image's old or new argument."""
    if old is _DEPRECATED:
        return math.floor(min(max(_checks.number(op, "max_size", max_size), 0), 2**62))
    warnings.warn(
        f"Parameter `{old_name}` is deprecated since version 0.26.0 and will be removed in 2.0.0 "
        "(or later). To avoid this warning, please use the parameter `max_size` instead. For more "
        f"details, see the documentation of `{op}`. Note that the new threshold removes objects "
        "smaller than **or equal to** its value, while the previous parameter only removed smaller "
        "ones.",
        FutureWarning,
        stacklevel=4,
    )
    if max_size != 64:
        raise ValueError(
            f"{op}: {old_name} (deprecated) and max_size must not both be given, to "
            f"avoid conflicting values, got {old!r} and {max_size!r}"
        )
    return _size_limit(op, old_name, _DEPRECATED, old)


def _objects(op: str, value: Any, name: str) -> NDArray[Any]:
    array = _checks.image(op, value, name)
    if array.dtype.kind not in "bui":
        raise TypeError(f"{op}: {name} must be bool or integer, got {array.dtype}")
    return array


@operation(result=like)
def remove_small_objects(
    ar: ArrayLike,
    min_size: Any = _DEPRECATED,
    connectivity: int = 1,
    *,
    max_size: float = 64,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Set objects of up to `max_size` pixels to 0.

    The result is that of ``skimage.morphology.remove_small_objects`` (0.26).

    Parameters
    ----------
    ar : array_like of bool or integers
        A mask, whose objects are its connected components; or labels, where all pixels of one
        value are one object, connected or not. At least 1D.
    min_size : int, optional
        Deprecated as in scikit-image, whose release 0.26 takes it as `max_size`.
    connectivity : int, optional
        1 to ndim, for a mask; see `label`.
    max_size : int, optional
        Largest size to remove, in pixels.
    out : ndarray, optional
        Array of the shape of `ar` that receives the result; may be `ar` itself. One of another
        dtype gets `ar` converted, objects of a mask if it is bool, else labels.

    Returns
    -------
    out : ndarray
        Same shape and dtype as `ar` or `out`.

    Warns
    -----
    FutureWarning
        If `min_size` is given.
    UserWarning
        If the only label is 1: a mask was probably meant.

    Raises
    ------
    TypeError
        If `ar` is neither bool nor integer.
    ValueError
        If labels are negative, `connectivity` is out of range, both limits are given, or `out`
        does not fit.

    Notes
    -----
    Time O(n). Extra memory for a mask: one bit per pixel and 4 bytes per run of pixels along a row,
    no image of labels; 8 bytes per component and thread, at most one byte per pixel together. For
    labels: 8 bytes per label number up to the largest (24 per pixel where that exceeds four times
    the pixels).

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.remove_small_objects([[True, False, True, True]], max_size=1).tolist()
    [[False, False, True, True]]
    """
    op = "remove_small_objects"
    array = _objects(op, ar, "ar")
    if isinstance(out, np.ndarray) and out.dtype.kind in "bui":
        array = array.astype(out.dtype.newbyteorder("="), copy=False)
    limit = _size_limit(op, "min_size", min_size, max_size)
    kept = _checks.output(op, out, array.shape, array.dtype)
    written = _checks.scratch(kept, array)
    if array.dtype.kind == "b":
        reach = _checks.connectivity(op, connectivity, array.ndim)
        core.remove_small(array, limit, reach, False, written)
    elif limit < 1 or array.size == 0:
        written[...] = array
    else:
        _remove_small_labels(op, array, limit, written)
    return _checks.finish(kept, written)


def _remove_small_labels(op: str, labels: NDArray[Any], limit: int, out: NDArray[Any]) -> None:
    least, most = int(labels.min()), int(labels.max())
    if least < 0:
        raise ValueError(f"{op}: labels must not be negative, got {least}; use label() first")
    if most == 1:
        warnings.warn(
            f"Only one label was provided to `{op}`. Did you mean to use a boolean array?",
            UserWarning,
            stacklevel=4,
        )
    if most > 4 * labels.size + 65536:  # a table over all numbers would dwarf the image
        _, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        out[...] = np.where((sizes > limit)[index.reshape(labels.shape)], labels, 0)
        return
    sizes = np.empty(most + 1, np.int64)
    core.label_sizes(labels, sizes)
    core.keep_labels(labels, sizes > limit, out)


@operation(result=mask_like)
def remove_small_holes(
    ar: ArrayLike,
    area_threshold: Any = _DEPRECATED,
    connectivity: int = 1,
    *,
    max_size: float = 64,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Fill holes of up to `max_size` pixels, also those at the image's border.

    The result is that of ``skimage.morphology.remove_small_holes`` (0.26).

    Parameters
    ----------
    ar : array_like of bool or integers
        A mask, or labels whose non-zero pixels are the mask. At least 1D.
    area_threshold : int, optional
        Deprecated as in scikit-image, whose release 0.26 takes it as `max_size`.
    connectivity : int, optional
        1 to ndim, of the holes; see `label`.
    max_size : int, optional
        Largest size to fill, in pixels.
    out : ndarray of bool, optional
        Array of the shape of `ar` that receives the result; may be `ar` itself.

    Returns
    -------
    out : ndarray of bool
        Same shape as `ar`.

    Warns
    -----
    FutureWarning
        If `area_threshold` is given.
    UserWarning
        If `ar` is not bool.

    Raises
    ------
    TypeError
        If `ar` is neither bool nor integer, or `out` is not bool.
    ValueError
        If `connectivity` is out of range, both limits are given, or `out` does not fit.

    Notes
    -----
    Time and memory as for a mask in `remove_small_objects`; one byte per pixel more for labels.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.remove_small_holes([True, False, True, False, False], max_size=1).tolist()
    [True, True, True, False, False]
    """
    op = "remove_small_holes"
    array = _objects(op, ar, "ar")
    if array.dtype.kind != "b":
        warnings.warn(
            "Any labeled images will be returned as a boolean array. "
            "Did you mean to use a boolean array?",
            UserWarning,
            stacklevel=3,
        )
    if isinstance(out, np.ndarray) and out.dtype != np.bool_:
        raise TypeError(f"{op}: out must be bool, got {out.dtype}")
    limit = _size_limit(op, "area_threshold", area_threshold, max_size)
    reach = _checks.connectivity(op, connectivity, array.ndim)
    filled = _checks.output(op, out, array.shape, np.bool_)
    written = _checks.scratch(filled)
    core.remove_small(_checks.mask(op, array), limit, reach, True, written)
    return _checks.finish(filled, written)
