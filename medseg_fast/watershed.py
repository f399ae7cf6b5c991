"""Watershed from markers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.components import label
from medseg_fast.minima import local_minima


def _like_markers(
    image: Any, markers: Any = None, *args: Any, **kwargs: Any
) -> tuple[tuple[int, ...], Any]:
    if markers is None:
        return image.shape, np.int32
    if isinstance(markers, (list, tuple)):
        markers = np.asarray(markers)
    return image.shape, getattr(markers, "dtype", np.dtype(np.int64))


@operation(result=_like_markers, gpu="watershed")
def watershed(
    image: ArrayLike,
    markers: int | ArrayLike | None = None,
    connectivity: int | ArrayLike = 1,
    offset: Sequence[int] | None = None,
    mask: ArrayLike | None = None,
    compactness: float = 0,
    watershed_line: bool = False,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Flood an image from markers: each pixel joins the basin of the marker that reaches it first.

    The labels are those of ``skimage.segmentation.watershed``, except that markers of equal value
    start in raster order.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float. Low values are flooded first: usually a gradient
        magnitude, or a negated distance.
    markers : array_like of bool or integers, or int, optional
        Labels of the image's shape; 0 is no marker, negative labels are labels. An integer: about
        that many markers inside the mask, on a regular grid. None: the local minima of `image`
        (connected regions of equal value without a lower neighbour), numbered in raster order.
    connectivity : int or array_like, optional
        How many coordinates of a neighbour may differ by one, 1 to ndim; or a footprint of the
        image's rank whose non-zero elements are the neighbours.
    offset : sequence of int, optional
        Index of the footprint's element that lies on the pixel. Without it the middle, and then
        every axis of the footprint must have odd length.
    mask : array_like, optional
        Of the image's shape. Where it is zero nothing is flooded and markers are ignored.
    compactness : float, optional
        Above 0: compact watershed [2]_. The higher, the rounder the basins. `watershed_line` then
        has no effect (as in scikit-image). Its unit is that of the image per pixel.
    watershed_line : bool, optional
        Leave a line of 0, one pixel wide, where basins meet. Adjacent markers get no line.
    out : ndarray, optional
        Array of the image's shape and of the result's dtype that receives the labels; may be
        `markers` itself.

    Returns
    -------
    labels : ndarray
        Same shape as `image`; the dtype of `markers`, int64 for an integer, int32 for None. 0
        outside the mask, on NaN pixels, on lines, and where no marker gets.

    Raises
    ------
    TypeError
        If a dtype is not supported, or markers are not integers.
    ValueError
        If shapes do not fit, or an argument is out of range.

    Notes
    -----
    Pixels enter a queue when a neighbour's basin reaches them, and leave it by value, of equal
    values **the one that entered first goes first**. A pixel counts with at least the value of the
    neighbour that entered it, so water never falls. Markers enter first, in raster order: then
    integer images give to the bit what ITK's MorphologicalWatershedFromMarkers gives without lines.
    scikit-image starts markers of equal value in its heap's internal order instead, which on
    8-bit images changes some pixels in a thousand. Values are compared in their own dtype; in the
    compact watershed they are float64.

    NaN pixels are outside the mask. Neighbours outside the image do not exist, whatever the
    footprint, and a footprint's own middle plays no part (scikit-image drops a neighbour if the
    middle is zero, and reads across the border if a footprint reaches farther behind its middle
    than before it).

    Time O(n) for 8 and 16 bits and nearly so beyond. One thread floods, since who takes a pixel
    between two basins depends on the order over the whole image (csrc/watershed.cpp says more);
    the others help to set up. Extra memory beside the labels, in bytes per pixel: half a byte, and
    4 for each pixel that ever waits in the queue (8 for 32 bits, 16 for 64; double above 2^32
    pixels), and as much again while the pixels of one of 65536 ranges of values are sorted (32 and
    64 bits); compact, 24 for each entry.

    On a GPU the labels are the same, ties, plateaus and lines included; the host waits for the
    device several times, as it must ask whether the flood goes on, and 20 to 40 bytes per pixel are
    taken beside the labels. Not there: compact (what a pixel costs depends on the marker that
    reaches it, which only the queue's order tells), other footprints than those of a connectivity,
    and more than three axes longer than 1.

    References
    ----------
    .. [1] F. Meyer (1994), "Topographic distance and watershed lines", Signal Processing
       38(1):113-125: the order of flooding.
    .. [2] P. Neubert and P. Protzel (2014), "Compact watershed and preemptive SLIC", International
       Conference on Pattern Recognition, 996-1001.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.watershed([[1, 2, 5, 3, 1]], [[1, 0, 0, 0, 2]]).tolist()
    [[1, 1, 1, 2, 2]]
    >>> ms.watershed([[1, 2, 5, 3, 1]], watershed_line=True).tolist()
    [[1, 1, 0, 2, 2]]
    """
    op = "watershed"
    array = _checks.image(op, image)
    if array.ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    footprint, centre = _footprint(op, connectivity, offset, array.ndim)
    inside = _mask(op, mask, array)
    factor = _compactness(op, compactness)
    seeds = _markers(op, markers, connectivity, array, inside)
    labels = _checks.output(op, out, array.shape, seeds.dtype)
    written = _checks.scratch(labels, array, inside)
    apart = not np.may_share_memory(seeds, written) and seeds.dtype == written.dtype
    if not (apart and seeds.flags.c_contiguous and seeds.flags.aligned):
        if written is not seeds:
            np.copyto(written, seeds)
        seeds = written
    steps = np.argwhere(footprint) - centre
    # The nearest first, as in scikit-image: only the compact watershed depends on their order.
    offsets = steps[np.argsort((steps**2).sum(1), kind="stable")].ravel().tolist()
    if factor > 0:
        core.watershed_compact(array, inside, offsets, factor, seeds, written)
    else:
        core.watershed(array, inside, offsets, bool(watershed_line), False, seeds, written)
    return _checks.finish(labels, written)


def _footprint(
    op: str, connectivity: Any, offset: Any, ndim: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The footprint and the index of its element that lies on the pixel."""
    given = _checks.as_array(op, connectivity, "connectivity")
    if given.ndim == 0:
        reach = 1 if connectivity is None else _checks.connectivity(op, connectivity, ndim)
        footprint = np.abs(np.indices((3,) * ndim) - 1).sum(0) <= reach
    else:
        footprint = given != 0
        if footprint.ndim != ndim:
            raise ValueError(
                f"{op}: connectivity must be an integer or have the image's {ndim} dimensions, "
                f"got shape {footprint.shape}"
            )
    if offset is None:
        if any(extent % 2 == 0 for extent in footprint.shape):
            raise ValueError(
                f"{op}: connectivity must have odd lengths without offset, "
                f"got shape {footprint.shape}"
            )
        return footprint, np.array(footprint.shape, np.int64) // 2
    centre = [_checks.integer(op, "offset", value) for value in np.atleast_1d(offset)]
    if len(centre) != ndim or not all(
        0 <= c < extent for c, extent in zip(centre, footprint.shape, strict=True)
    ):
        raise ValueError(
            f"{op}: offset must be an index into the footprint of shape {footprint.shape}, "
            f"got {offset!r}"
        )
    return footprint, np.array(centre, np.int64)


def _mask(op: str, mask: Any, image: NDArray[Any]) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    inside = _checks.as_array(op, mask, "mask")
    if inside.shape != image.shape:
        raise ValueError(
            f"{op}: mask must have the image's shape {image.shape}, got {inside.shape}"
        )
    return _checks.contiguous(inside.astype(bool, copy=False))


def _compactness(op: str, compactness: Any) -> float:
    factor = float(_checks.number(op, "compactness", compactness))
    if math.isinf(factor):
        raise ValueError(f"{op}: compactness must be finite, got {compactness!r}")
    return factor


def _markers(
    op: str,
    markers: Any,
    connectivity: Any,
    image: NDArray[Any],
    inside: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    """Markers as labels of the image's shape."""
    if markers is None:
        if np.ndim(connectivity):
            raise ValueError(f"{op}: markers must be given where connectivity is a footprint")
        reach = 1 if connectivity is None else operator.index(connectivity)
        minima = local_minima(image, connectivity=reach)
        if inside is not None:
            minima &= inside
        seeds: NDArray[Any] = label(minima, connectivity=reach, dtype=np.int32)
        return seeds
    seeds = _checks.as_array(op, markers, "markers")
    if seeds.ndim == 0:
        count = _checks.integer(op, "markers", seeds.item(), 1)
        return _regular_seeds(count, image.shape, inside)
    if seeds.shape != image.shape:
        raise ValueError(
            f"{op}: markers must have the image's shape {image.shape}, got {seeds.shape}"
        )
    if seeds.dtype.kind not in "bui":
        raise TypeError(f"{op}: markers must be bool or integer, got {seeds.dtype}")
    return seeds


def _regular_seeds(
    count: int, shape: tuple[int, ...], inside: NDArray[np.bool_] | None
) -> NDArray[np.int64]:
    """About `count` markers inside the mask, where ``skimage.util.regular_seeds`` puts them."""
    seeds = np.zeros(shape, np.int64)
    covered = seeds.size if inside is None else int(np.count_nonzero(inside))
    if covered == 0:
        return seeds
    grid = _regular_grid(int(count / (covered / seeds.size)), shape)
    seeds[grid] = np.arange(1, seeds[grid].size + 1).reshape(seeds[grid].shape)
    return seeds


def _regular_grid(points: int, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Slices that take about `points` pixels, evenly along all axes that are long enough."""
    extents = np.sort(shape)
    ndim, space = len(shape), float(math.prod(shape))
    if space <= points:
        return (slice(None),) * ndim
    steps = np.full(ndim, (space / points) ** (1 / ndim))
    for axis in range(ndim):  # a short axis gets one point, the others share the rest
        if (extents >= steps).all():
            break
        steps[axis] = extents[axis]
        space = float(np.prod(extents[axis + 1 :]))
        if axis + 1 < ndim:
            steps[axis + 1 :] = (space / points) ** (1 / (ndim - axis - 1))
    place = np.argsort(np.argsort(shape))
    return tuple(slice(int(steps[p] // 2), None, int(np.round(steps[p]))) for p in place)
