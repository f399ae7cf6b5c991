"""Watershed by immersion: every regional minimum gets its basin."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation


def _mask(op: str, mask: Any, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """`mask` as a bool array of this shape; non-zero is inside."""
    if mask is None:
        return None
    given = _checks.image(op, mask, "mask")
    if given.shape != shape:
        raise ValueError(f"{op}: mask must have shape {shape}, got {given.shape}")
    return given if given.dtype.kind == "b" else given != 0


def _labels(
    image: Any,
    connectivity: Any = 1,
    *,
    mask: Any = None,
    watershed_line: bool = False,
    return_num: bool = False,
    out: Any = None,
) -> tuple[Any, Any] | None:
    return None if return_num else (image.shape, np.int32)


@operation(result=_labels)
def watershed_immersion(
    image: ArrayLike,
    connectivity: int = 1,
    *,
    mask: ArrayLike | None = None,
    watershed_line: bool = False,
    return_num: bool = False,
    out: NDArray[np.int32] | None = None,
) -> Any:
    """Cut an image into the catchment basins of all its regional minima.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float: usually a gradient magnitude.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one, 1 (faces) to ndim (corners too).
    mask : array_like of bool, optional
        Of the image's shape: pixels where it is False get label 0 and stop the water, as NaN
        pixels do.
    watershed_line : bool, optional
        Separate the basins by lines, on pixels of label 0.
    return_num : bool, optional
        Whether to return the number of basins too.
    out : ndarray of int32, optional
        Array of the image's shape that receives the labels.

    Returns
    -------
    labels : ndarray of int32
        Same shape as `image`. Basins are numbered 1, 2, ... in raster order of the first pixel of
        their minimum: on the minima they are the numbers of ``label(local_minima(image))``. A
        constant image is one basin.
    num : int
        Number of basins, only with `return_num`.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `connectivity` is out of range, `mask` or `out` does not fit, or there are more than
        2147483647 basins.

    See Also
    --------
    watershed_hierarchy : merge the basins, by depth, size or volume.

    Notes
    -----
    Flooding level by level, as the classical definition does, gives a pixel to the basin that it
    is nearest to, within its level, when the water reaches it. The rule is stated without an order
    of events, so that it depends neither on threads nor on how queues are kept. A pixel *drains
    to*

    - its lower neighbours, if it has some;
    - else, unless its plateau is a minimum, its neighbours of equal value that are one step nearer
      to a pixel of the plateau with a lower neighbour.

    Without lines a pixel has the label of the one it drains to: of the lowest neighbour, and of
    several the first in raster order. This is also the watershed by topographic distance (with the
    value of the lowest neighbour for the slope, whatever its direction).

    With lines it has the label that all pixels which it drains to have, lines aside; where these
    differ, or all are lines, it is on a line. Vincent and Soille's queues give a label to some such
    pixels, depending on the order of neighbours. Lines are one pixel thick except on plateaus and
    where lines meet, and need not be closed: a pixel beside a line takes the one label it sees.

    Time O(n k) for k neighbours and all threads, whatever the dtype: no sort. Extra memory beside
    the labels: for integers without a mask none, else a key of the pixel's width; a byte per pixel
    with lines or with NaN; and 16 bytes for each pixel of the longest front on plateaus or the
    largest minimum's stack.

    References
    ----------
    L. Vincent and P. Soille (1991), "Watersheds in digital spaces: an efficient algorithm based on
    immersion simulations", IEEE Transactions on Pattern Analysis and Machine Intelligence
    13(6):583-598.

    J. B. T. M. Roerdink and A. Meijster (2000), "The watershed transform: definitions, algorithms
    and parallelization strategies", Fundamenta Informaticae 41:187-228.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.watershed_immersion([2, 1, 3, 5, 4, 0]).tolist()
    [1, 1, 1, 1, 2, 2]
    >>> ms.watershed_immersion([1, 3, 1, 1, 2], watershed_line=True).tolist()
    [1, 0, 2, 2, 2]
    """
    op = "watershed_immersion"
    array = _checks.image(op, image)
    reach = _checks.connectivity(op, connectivity, array.ndim)
    inside = _mask(op, mask, array.shape)
    labels = _checks.output(op, out, array.shape, np.int32)
    written = _checks.scratch(labels, array, inside)
    num = core.watershed_immersion(array, reach, inside, bool(watershed_line), written)
    labels = _checks.finish(labels, written)
    return (labels, num) if return_num else labels
