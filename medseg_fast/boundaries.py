"""Boundaries between labelled regions."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

_MODES = ("thick", "inner", "outer", "subpixel")


def _labels(op: str, value: Any) -> NDArray[Any]:
    array = _checks.as_array(op, value, "label_img")
    if array.dtype.kind not in "bui":
        raise TypeError(f"{op}: label_img must be bool or integer, got {array.dtype}")
    if array.ndim == 0:
        raise ValueError(f"{op}: label_img must have at least one dimension, got shape ()")
    return _checks.contiguous(array)


def _background(op: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any] | None:
    """`value` as one element of `dtype`; None if no label can equal it."""
    number = _checks.number(op, "background", value)
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not low <= number <= high or int(number) != number:
        return None
    return np.array(int(number)).astype(dtype)


def _boundaries_like(
    label_img: Any,
    connectivity: int = 1,
    mode: str = "thick",
    background: int = 0,
    *,
    out: Any = None,
) -> tuple[Any, Any]:
    shape = tuple(label_img.shape)
    return tuple(2 * n - 1 for n in shape) if mode == "subpixel" else shape, np.bool_


@operation(result=_boundaries_like)
def find_boundaries(
    label_img: ArrayLike,
    connectivity: int = 1,
    mode: str = "thick",
    background: int = 0,
    *,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Mark the pixels at boundaries between labelled regions.

    The result is that of ``skimage.segmentation.find_boundaries``.

    Parameters
    ----------
    label_img : array_like
        Labels, bool or integer, at least 1D.
    connectivity : int, optional
        1 to ndim: along how many axes at once a neighbour may differ.
    mode : {"thick", "inner", "outer", "subpixel"}, optional
        Which pixels: "thick" all with a neighbour of another label; "inner" those of them that are
        not background; "outer" those that are background, and those beside another object (in any
        direction, whatever `connectivity`); "subpixel" the places between pixels of different
        labels, in an image with such places inserted.
    background : int, optional
        Label of the background, for "inner" and "outer".
    out : ndarray of bool, optional
        Array of the result's shape that receives it.

    Returns
    -------
    boundaries : ndarray of bool
        Same shape as `label_img`; for "subpixel" 2 n - 1 along an axis of n. As in scikit-image,
        "subpixel" ignores pixels of the dtype's largest value, and "outer" takes background for
        another object beside labels below `background`. 64-bit labels are compared exactly;
        scikit-image filters them as float64: it differs for labels of 2**53 and beyond, and in
        "outer" mode, where it marks the background with the largest value and that overflows.

    Raises
    ------
    TypeError
        If `label_img` is neither bool nor integer.
    ValueError
        If `connectivity` is out of range, `mode` is unknown, `label_img` is a scalar, or has an
        axis of length 0 in "subpixel" mode, or `out` does not fit.

    Notes
    -----
    Time O(n) times ndim, "outer" times the number of neighbours, on all threads. Extra memory: 100
    KB a thread.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.find_boundaries([0, 0, 5, 5, 5]).astype(int).tolist()
    [0, 1, 1, 0, 0]
    >>> ms.find_boundaries([0, 0, 5, 5, 5], mode="subpixel").astype(int).tolist()
    [0, 0, 0, 1, 0, 0, 0, 0, 0]
    """
    op = "find_boundaries"
    labels = _labels(op, label_img)
    reach = _checks.connectivity(op, connectivity, labels.ndim)
    if mode not in _MODES:
        raise ValueError(f"{op}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    shape = labels.shape
    if mode == "subpixel":
        if 0 in shape:
            raise ValueError(f"{op}: label_img must not be empty in mode subpixel, got {shape}")
        shape = tuple(2 * n - 1 for n in shape)
    key = _background(op, background, labels.dtype)
    boundaries = _checks.output(op, out, shape, np.bool_)
    if labels.size == 0:
        return boundaries
    written = _checks.scratch(boundaries, labels)
    if mode == "subpixel":
        plain = labels.view(np.uint8) if labels.dtype.kind == "b" else labels
        none = np.array(np.iinfo(plain.dtype).max, plain.dtype)
        core.find_subpixel_boundaries(plain, none, written)
    else:
        core.find_boundaries(labels, reach, _MODES.index(mode), key, written)
    return _checks.finish(boundaries, written)


def _as_float(op: str, image: Any) -> NDArray[Any]:
    """A new array in scikit-image's range: integers divided by their largest value."""
    array = _checks.image(op, image)
    if array.dtype.kind in "ui":
        scaled: NDArray[Any] = np.multiply(array, 1.0 / np.iinfo(array.dtype).max, dtype=np.float64)
        if array.dtype.kind == "i":
            np.maximum(scaled, -1.0, out=scaled)
        return scaled
    if array.dtype.kind == "b":
        return array.astype(np.float64)
    floats: NDArray[Any] = array.astype(np.float32 if array.dtype.itemsize < 8 else np.float64)
    return floats


@operation()
def mark_boundaries(
    image: ArrayLike,
    label_img: ArrayLike,
    color: ArrayLike = (1, 1, 0),
    outline_color: ArrayLike | None = None,
    mode: str = "outer",
    background_label: int = 0,
) -> NDArray[Any]:
    """Draw the boundaries between labelled regions into an image.

    The result is that of ``skimage.segmentation.mark_boundaries``.

    Parameters
    ----------
    image : array_like
        Shape (M, N) or (M, N, 3); bool, integer or float.
    label_img : array_like
        Labels of shape (M, N), bool or integer.
    color : sequence of 3 floats, optional
        RGB of the boundaries, 0 to 1.
    outline_color : sequence of 3 floats, optional
        RGB of the pixels around the boundaries; without it they are left as they are.
    mode : {"thick", "inner", "outer", "subpixel"}, optional
        As in `find_boundaries`. "subpixel" interpolates the image (cubic splines) and needs SciPy.
    background_label : int, optional
        Label of the background, for "inner" and "outer".

    Returns
    -------
    marked : ndarray of float64 or float32
        Shape (M, N, 3), for "subpixel" (2 M - 1, 2 N - 1, 3). float32 for float16 and float32
        images. Integer images are divided by the largest value of their dtype, floats are kept.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `label_img` does not have the image's shape, a colour is not three numbers or `mode` is
        unknown.
    ImportError
        If SciPy is missing in "subpixel" mode.

    Notes
    -----
    Time O(n). Extra memory: 1 byte per pixel, 2 with an outline.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.mark_boundaries([[0.5, 0.5]], [[0, 1]]).tolist()
    [[[1.0, 1.0, 0.0], [0.5, 0.5, 0.5]]]
    """
    op = "mark_boundaries"
    marked = _as_float(op, image)
    labels = _labels(op, label_img)
    if marked.ndim not in (2, 3) or marked.shape[2:] not in ((), (3,)):
        raise ValueError(f"{op}: image must have shape (M, N) or (M, N, 3), got {marked.shape}")
    if labels.shape != marked.shape[:2]:
        raise ValueError(
            f"{op}: label_img must have the image's shape {marked.shape[:2]}, got {labels.shape}"
        )
    colors = [_color(op, "color", color)]
    if outline_color is not None:
        colors.append(_color(op, "outline_color", outline_color))
    if marked.ndim == 2:
        grey, marked = marked, np.empty((*marked.shape, 3), marked.dtype)
        for channel in range(3):  # faster than to broadcast along so short an axis
            marked[..., channel] = grey
    if mode == "subpixel":
        try:
            ndimage = import_module("scipy.ndimage")
        except ImportError:
            raise ImportError(f"{op}: mode subpixel needs SciPy") from None
        marked = ndimage.zoom(marked, [2 - 1 / n for n in marked.shape[:2]] + [1], mode="mirror")
    boundaries = find_boundaries(labels, mode=mode, background=background_label)
    pixels = marked.reshape(-1, 3)
    if outline_color is not None:
        around = boundaries | find_boundaries(boundaries, connectivity=2)
        pixels[np.flatnonzero(around)] = colors[1]
    pixels[np.flatnonzero(boundaries)] = colors[0]
    return marked


def _color(op: str, name: str, value: Any) -> NDArray[np.float64]:
    color = np.asarray(value, np.float64)
    if color.shape != (3,):
        raise ValueError(f"{op}: {name} must be three numbers, got {value!r}")
    return color
