"""Flat morphology of masks, 64 pixels at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _footprint
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation
from medseg_fast._footprint import Flat
from medseg_fast._morphology import Footprint, mirrored, targets


def _binary_plan(flat: Flat, shape: tuple[int, ...]) -> tuple[_footprint.Stage | None, ...]:
    """The passes over a mask; None is one by a footprint without members."""
    return (None,) if flat is _footprint.NOTHING else _footprint.plan(flat, shape, bits=True)


def _binary(
    op: str,
    image: Any,
    footprint: Any,
    out: Any,
    mode: str,
    dilate: Sequence[bool],
) -> NDArray[np.bool_]:
    """Erosions and dilations of a mask, in this order."""
    if mode not in ("max", "min", "ignore"):
        raise ValueError(f"{op}: unsupported mode {mode!r}; mode must be 'max', 'min' or 'ignore'")
    mask = _checks.image(op, image)
    if mask.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    mask = mask if mask.dtype.kind == "b" else mask != 0
    flats = _footprint.read(op, footprint, mask.ndim, binary=True)
    dtype = out.dtype if isinstance(out, np.ndarray) else np.dtype(np.bool_)
    result = _checks.output(op, out, mask.shape, dtype)
    if not mask.size:
        return result
    fits = dtype == np.bool_
    written = _checks.scratch(result, mask) if fits else _checks.empty(mask.shape, np.bool_)
    stages = [
        (stage, any_)
        for any_ in dilate
        for flat in _footprint.merged(mirrored(flats) if any_ else flats)
        for stage in _binary_plan(flat, mask.shape)
    ]
    with targets(written, len(stages)) as outputs:
        for (stage, any_), target in zip(stages, outputs, strict=True):
            border = mode == "max" if any_ else mode != "min"
            if stage is None:
                target[...] = not any_
            else:
                core.binary_extremes(mask, stage.shape, stage.parts, any_, border, target)
            mask = target
    return _checks.finish(result, written)


@operation(result=mask_like)
def binary_erosion(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "ignore",
) -> NDArray[np.bool_]:
    """Pixels around which the mask holds the whole footprint.

    The result is that of ``skimage.morphology.binary_erosion``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float. Pixels other than 0 are true, NaN among them.
    footprint : ndarray or sequence of (ndarray, int), optional
        As in `erosion`, but the centre of an even size n is at ``n // 2``.
    out : ndarray, optional
        Array of the image's shape that receives the result; it may be the image. Of any dtype, but
        only one of bool is not copied to.
    mode : {"ignore", "max", "min"}, optional
        What pixels outside the image are: true ("max"), false ("min"), or what leaves the result
        alone, true in erosions and false in dilations ("ignore").

    Returns
    -------
    eroded : ndarray of bool
        Same shape as `image`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    The deprecation warning of scikit-image 0.26 is not given: unlike `erosion` of a bool image,
    this works on 64 pixels at once. Time: that of reading and writing the mask for small
    footprints. Extra memory: none beside the result (blocks of up to 1 MB per thread) for a
    contiguous bool mask; 1 byte per pixel for other dtypes, and for footprints of several passes.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.binary_erosion([0, 1, 1, 1, 1, 0, 1]).astype(int).tolist()
    [0, 0, 1, 1, 0, 0, 0]
    """
    return _binary("binary_erosion", image, footprint, out, mode, [False])


@operation(result=mask_like)
def binary_dilation(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "ignore",
) -> NDArray[np.bool_]:
    """Pixels that the footprint covers when it is put on each pixel of the mask.

    The result is that of ``skimage.morphology.binary_dilation``.

    Parameters
    ----------
    image, footprint, out, mode
        As in `binary_erosion`.

    Returns
    -------
    dilated : ndarray of bool
        Same shape as `image`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    Pixel x is true if the mask is at x - d for an offset d of the footprint from its centre: the
    footprint is mirrored, which `dilation` does not do. Else as `binary_erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.binary_dilation([0, 0, 1, 0, 0, 0]).astype(int).tolist()
    [0, 1, 1, 1, 0, 0]
    """
    return _binary("binary_dilation", image, footprint, out, mode, [True])


@operation(result=mask_like)
def binary_opening(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "ignore",
) -> NDArray[np.bool_]:
    """The part of the mask that the footprint covers while it stays inside.

    The result is that of ``skimage.morphology.binary_opening``.

    Parameters
    ----------
    image, footprint, out, mode
        As in `binary_erosion`.

    Returns
    -------
    opened : ndarray of bool
        Same shape as `image`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    Erosion, then dilation. Extra memory: 1 byte per pixel beside the result, else as
    `binary_erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.binary_opening([0, 1, 1, 1, 0, 1, 0]).astype(int).tolist()
    [0, 1, 1, 1, 0, 0, 0]
    """
    return _binary("binary_opening", image, footprint, out, mode, [False, True])


@operation(result=mask_like)
def binary_closing(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "ignore",
) -> NDArray[np.bool_]:
    """The mask and the gaps in it that the footprint does not fit into.

    The result is that of ``skimage.morphology.binary_closing``.

    Parameters
    ----------
    image, footprint, out, mode
        As in `binary_erosion`.

    Returns
    -------
    closed : ndarray of bool
        Same shape as `image`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    Dilation, then erosion. Extra memory: 1 byte per pixel beside the result, else as
    `binary_erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.binary_closing([0, 0, 1, 0, 1, 0, 0]).astype(int).tolist()
    [0, 0, 1, 1, 1, 0, 0]
    """
    return _binary("binary_closing", image, footprint, out, mode, [True, False])
