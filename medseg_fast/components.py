"""Connected components: labels, and what is kept or removed by component."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import like, mask_like, operation


def _background(op: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """`value` as one element of `dtype`; None if no pixel can equal it."""
    number = _checks.number(op, "background", 0 if value is None else value)
    if math.isinf(number):
        raise ValueError(f"{op}: background must be finite, got {value!r}")
    number = int(number)
    if dtype.kind == "b":
        return np.array(number == 1)
    if dtype.kind == "f":
        element = np.array(number).astype(dtype)
        return element if int(element) == number else None
    limits = np.iinfo(dtype)
    return np.array(number, dtype) if limits.min <= number <= limits.max else None


def _default_dtype(image: Any) -> type[np.signedinteger[Any]]:
    """scikit-image's: int32 for bool as long as any count fits, else int64."""
    if np.dtype(image.dtype) == np.bool_ and image.size < np.iinfo(np.int32).max:
        return np.int32
    return np.int64


def _label_dtype(op: str, dtype: Any, out: Any, image: NDArray[Any], count: int) -> np.dtype[Any]:
    if dtype is None:
        given = getattr(out, "dtype", None)
        dtype = given if given is not None and given.kind in "ui" else _default_dtype(image)
    wanted = np.min_scalar_type(count) if isinstance(dtype, str) and dtype == "smallest" else dtype
    wanted = _checks.dtype_of(op, wanted)
    if wanted.kind not in "ui":
        raise TypeError(f'{op}: dtype must be an integer dtype or "smallest", got {wanted}')
    if count > np.iinfo(wanted).max:
        raise ValueError(f"{op}: dtype {wanted} cannot hold {count} labels")
    return wanted


def _labels_like(
    label_image: Any,
    background: Any = None,
    return_num: bool = False,
    connectivity: Any = None,
    *,
    dtype: Any = None,
    out: Any = None,
) -> tuple[Any, Any] | None:
    if return_num or dtype == "smallest":
        return None
    return label_image.shape, _default_dtype(label_image) if dtype is None else dtype


@operation(result=_labels_like, gpu="components")
def label(
    label_image: ArrayLike,
    background: int | None = None,
    return_num: bool = False,
    connectivity: int | None = None,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> Any:
    """Number the connected regions of equal value, 1, 2, ... in raster order of their first pixel.

    The result is that of ``skimage.measure.label``, in any number of dimensions.

    Parameters
    ----------
    label_image : array_like
        At least 1D; bool, integer or float. Floats are cut to integers, as scikit-image does.
    background : int, optional
        Pixels of this value get label 0; without it, pixels of value 0. A background that no pixel
        can have makes every pixel part of a region (integer and float images).
    return_num : bool, optional
        Whether to return the number of labels too.
    connectivity : int, optional
        1 to ndim: along how many axes at once a neighbour may differ. In 2D 1 and 2 are 4- and
        8-connected, in 3D 1, 2 and 3 are 6-, 18- and 26-connected. Without it, ndim.
    dtype : dtype or "smallest", optional
        Integer type of the labels. Without it int32 for bool images and int64 for others, as in
        scikit-image; "smallest" is the smallest unsigned type that holds all labels.
    out : ndarray of integers, optional
        Array of the image's shape that receives the labels, of type `dtype` if that is given.

    Returns
    -------
    labels : ndarray of integers
        Same shape as `label_image`. NaN pixels get label 0.
    num : int
        Number of labels, only if `return_num`.

    Raises
    ------
    TypeError
        If a dtype is not supported or `dtype` is no integer type.
    ValueError
        If `connectivity` is out of range, or `dtype` or `out` cannot hold the result.

    Notes
    -----
    Time O(n), nearly independent of the shapes of the regions. Extra memory per pixel: one bit for
    a bool image and two for others, and 4 bytes for every run of equal pixels along a row (8 from
    two thousand million runs on): 0.2 bytes in a segmentation, at most 2.2 in a noisy mask and 4.3
    where every pixel differs from the next. Labels written to fresh memory cost mostly what the
    operating system takes to hand it out: `out`, memory that earlier results left
    (`set_kept_memory`) or a smaller `dtype` save more than any algorithm.

    Volumes whose last axis has length 1 scikit-image numbers in another than raster order: the
    same regions with other labels.

    On a GPU the labels are the same. Images of up to 3 axes longer than 1; 4 bytes per pixel more
    (8 from 2**31 pixels on), and a copy of a float image. `return_num`, `dtype` and `out` wait for
    the number of labels.

    References
    ----------
    .. [1] L. He, Y. Chao, K. Suzuki, "A run-based two-scan labeling algorithm", IEEE Trans. Image
       Process. 17 (2008) 749-756. Here runs are bits in words, see csrc/components.hpp.
    .. [2] M. Patwary, J. Blair, F. Manne, "Experiments on union-find algorithms for the
       disjoint-set data structure", SEA 2010.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.label([[1, 0, 2], [1, 0, 1]]).tolist()
    [[1, 0, 2], [1, 0, 3]]
    """
    image = _checks.image("label", label_image, "label_image")
    reach = _checks.connectivity("label", connectivity, image.ndim)
    zero = _background("label", background, image.dtype)
    runs = core.label_components(image, zero, reach, False)
    wanted = _label_dtype("label", dtype, out, image, runs.count())
    if out is None:
        labels, zeros = _checks.blank(image.shape, wanted)
        runs.write(labels, zeros)
    else:
        labels = _checks.output("label", out, image.shape, wanted)
        written = _checks.scratch(labels)
        runs.write(written, False)
        _checks.finish(labels, written)
    return (labels, runs.count()) if return_num else labels


@operation(result=mask_like)
def largest_component(
    mask: ArrayLike, connectivity: int | None = None, *, out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Keep the largest connected component of a mask.

    Parameters
    ----------
    mask : array_like
        At least 1D; non-zero pixels are inside.
    connectivity : int, optional
        1 to ndim, see `label`. Without it, ndim.
    out : ndarray of bool, optional
        Array of the mask's shape that receives the result; may be `mask` itself.

    Returns
    -------
    component : ndarray of bool
        Same shape as `mask`. Of several largest the one whose first pixel comes first in raster
        order; all False if the mask is empty.

    Raises
    ------
    TypeError
        If the dtype is not supported.
    ValueError
        If `mask` holds NaN, `connectivity` is out of range or `out` does not fit.

    Notes
    -----
    Time and memory as for a mask in `remove_small_objects`; one byte per pixel more if `mask` is
    not bool.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.largest_component([True, False, True, True]).tolist()
    [False, False, True, True]
    """
    inside = _checks.mask("largest_component", mask)
    reach = _checks.connectivity("largest_component", connectivity, inside.ndim)
    component = _checks.output("largest_component", out, inside.shape, np.bool_)
    written = _checks.scratch(component)
    core.largest_component(inside, reach, written)
    return _checks.finish(component, written)


@operation(result=mask_like, gpu="components")
def fill_holes(
    mask: ArrayLike,
    structure: ArrayLike | None = None,
    *,
    connectivity: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Fill the holes of a mask: background that no path connects with the image's border.

    The result is that of ``scipy.ndimage.binary_fill_holes``.

    Parameters
    ----------
    mask : array_like
        At least 1D; non-zero pixels are inside.
    structure : array_like of bool, optional
        How background pixels are connected, as made by
        ``scipy.ndimage.generate_binary_structure(ndim, connectivity)``; no other is supported.
    connectivity : int, optional
        The same as a number from 1 to ndim; without both 1, so that in 2D a diagonal chain of
        pixels already encloses a hole.
    out : ndarray of bool, optional
        Array of the mask's shape that receives the result; may be `mask` itself.

    Returns
    -------
    filled : ndarray of bool
        Same shape as `mask`.

    Raises
    ------
    TypeError
        If the dtype is not supported.
    ValueError
        If `mask` holds NaN, `structure` or `connectivity` cannot be used or `out` does not fit.

    Notes
    -----
    Time O(n), where SciPy repeats dilations until nothing changes. Extra memory: one bit per pixel
    and 4 bytes per run of background along a row; one byte per pixel more if `mask` is not bool.

    On a GPU 8 bytes per pixel more, 12 from 2**31 pixels on; for masks of floats the look for NaN
    waits for the device. Up to 3 axes longer than 1.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.fill_holes([[1, 1, 1], [1, 0, 1], [1, 1, 1]]).all()
    np.True_
    """
    inside = _checks.mask("fill_holes", mask)
    if structure is not None:
        if connectivity is not None:
            raise ValueError("fill_holes: structure and connectivity must not both be given")
        connectivity = _reach("fill_holes", structure, inside.ndim)
    reach = _checks.connectivity(
        "fill_holes", 1 if connectivity is None else connectivity, inside.ndim
    )
    filled = _checks.output("fill_holes", out, inside.shape, np.bool_)
    written = _checks.scratch(filled)
    core.fill_holes(inside, reach, written)
    return _checks.finish(filled, written)


def _reach(op: str, structure: ArrayLike, ndim: int) -> int:
    """The connectivity that a structuring element of 3 pixels per axis stands for."""
    given = _checks.as_array(op, structure, "structure") != 0
    if given.shape == (3,) * ndim:
        hops = np.abs(np.indices(given.shape) - 1).sum(0)
        for connectivity in range(1, ndim + 1):
            if np.array_equal(given, hops <= connectivity):
                return connectivity
    raise ValueError(
        f"{op}: structure must be that of a connectivity from 1 to {ndim} "
        f"(generate_binary_structure), got {given.astype(int).tolist()}"
    )


@operation(result=like)
def clear_border(
    labels: ArrayLike,
    buffer_size: int = 0,
    bgval: float = 0,
    mask: NDArray[np.bool_] | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Remove objects that touch the image's border, or leave a mask.

    The result is that of ``skimage.segmentation.clear_border``.

    Parameters
    ----------
    labels : array_like
        Mask or labels, at least 1D. An object is a connected region of equal non-zero value,
        diagonal neighbours included.
    buffer_size : int, optional
        Width in pixels of the margin beside the outermost pixels that counts as border too.
    bgval : scalar, optional
        Value of what is removed. Where a background pixel lies in the border, which is the rule,
        all background pixels get this value too, as in scikit-image.
    mask : ndarray of bool, optional
        Of the shape of `labels`: objects with a pixel where it is False are removed; `buffer_size`
        is then ignored.
    out : ndarray, optional
        Array of the shape and dtype of `labels` that receives the result; may be `labels` itself.
        (scikit-image 0.26 takes its input from `out` and ignores `labels`.)

    Returns
    -------
    out : ndarray
        Same shape and dtype as `labels`.

    Raises
    ------
    TypeError
        If a dtype is not supported or `mask` is not bool.
    ValueError
        If `buffer_size` is negative or reaches through the image, or `mask` or `out` does not fit.

    Notes
    -----
    Time O(n). Extra memory: one bit per pixel for bool and two for others, and 4 bytes per run of
    equal pixels along a row; a copy of `labels` if `out` is `labels` itself.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.clear_border([1, 0, 2, 2, 0, 3]).tolist()
    [0, 0, 2, 2, 0, 0]
    """
    op = "clear_border"
    array = _checks.image(op, labels, "labels")
    _checks.connectivity(op, None, array.ndim)
    width = _checks.integer(op, "buffer_size", buffer_size, 0) + 1
    if mask is None and any(width > n for n in array.shape):
        raise ValueError(
            f"{op}: buffer_size must be less than every axis, got {buffer_size} for {array.shape}"
        )
    if mask is not None:
        mask = _checks.image(op, mask, "mask")
        if mask.dtype.kind != "b":
            raise TypeError(f"{op}: mask must be bool, got {mask.dtype}")
        if mask.shape != array.shape:
            raise ValueError(
                f"{op}: mask must have the shape of labels, got {mask.shape} and {array.shape}"
            )
    value = _checks.element(op, "bgval", bgval, array.dtype)
    cleared = _checks.output(op, out, array.shape, array.dtype)
    written = _checks.scratch(cleared, array, mask)
    core.clear_border(array, width, mask, value, written)
    return _checks.finish(cleared, written)
