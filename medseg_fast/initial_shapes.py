"""Where a deformable contour starts: boards, balls and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks


def _shape(op: str, value: Sequence[int]) -> tuple[int, ...]:
    extents = tuple(_checks.integer(op, "image_shape", n, 0) for n in value)
    if not extents:
        raise ValueError(f"{op}: image_shape must have at least one axis, got ()")
    return extents


def _along(values: NDArray[Any], axis: int, ndim: int) -> NDArray[Any]:
    """A vector laid along one of `ndim` axes."""
    return values.reshape([-1 if a == axis else 1 for a in range(ndim)])


def checkerboard_level_set(image_shape: Sequence[int], square_size: int = 5) -> NDArray[np.int8]:
    """Checkerboard of 0 and 1.

    The result is that of ``skimage.segmentation.checkerboard_level_set``.

    Parameters
    ----------
    image_shape : sequence of int
        Shape of the result.
    square_size : int, optional
        Side of the squares in pixels.

    Returns
    -------
    level_set : ndarray of int8
        0 in the first square.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.checkerboard_level_set((3, 6), 2).tolist()
    [[0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 1, 1]]
    """
    op = "checkerboard_level_set"
    extents = _shape(op, image_shape)
    side = _checks.integer(op, "square_size", square_size, 1)
    board = np.zeros(extents, np.int8)
    for axis, n in enumerate(extents):
        board ^= _along((np.arange(n) // side % 2).astype(np.int8), axis, len(extents))
    return board


def disk_level_set(
    image_shape: Sequence[int],
    *,
    center: Sequence[float] | None = None,
    radius: float | None = None,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int8]:
    """Disk, in 3D a ball, of 1 on 0.

    The result is that of ``skimage.segmentation.disk_level_set``.

    Parameters
    ----------
    image_shape : sequence of int
        Shape of the result.
    center : sequence of float, optional
        Index of the centre; by default that of the middle voxel.
    radius : float, optional
        In voxels, with `spacing` in mm; by default 3/8 of the shortest side. A voxel at exactly
        that distance is outside.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.

    Returns
    -------
    level_set : ndarray of int8
        1 inside.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.disk_level_set((3, 5), radius=1.5).tolist()
    [[0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0]]
    """
    op = "disk_level_set"
    extents = _shape(op, image_shape)
    sizes = _checks.spacing(op, spacing, len(extents))
    middle = [n // 2 for n in extents] if center is None else list(center)
    if len(middle) != len(extents):
        raise ValueError(f"{op}: center must have {len(extents)} numbers, got {center!r}")
    if radius is None:
        reach = min(n * s for n, s in zip(extents, sizes, strict=True)) * 3.0 / 8.0
    else:
        reach = float(_checks.number(op, "radius", radius))
    level_set = np.zeros(extents, np.int8)
    # Only the box around the ball is looked at.
    window: list[slice] = []
    squares: list[NDArray[Any]] = []
    for n, c, s in zip(extents, middle, sizes, strict=True):
        at = float(_checks.number(op, "center", c))
        bound = max(0.0, reach / s) if math.isfinite(reach) else float(n)
        first = min(n, max(0, math.floor(at - bound)))
        last = min(n, max(first, math.ceil(at + bound) + 1))
        window.append(slice(first, last))
        squares.append(((np.arange(first, last) - at) * s) ** 2)
    rest = [_along(s, axis, len(extents) - 1) for axis, s in enumerate(squares[1:])]
    for i, square in zip(range(extents[0])[window[0]], squares[0], strict=True):
        at_plane: tuple[Any, ...] = (i, *window[1:])
        level_set[at_plane] = reach - np.sqrt(sum(rest, square)) > 0
    return level_set


def box_level_set(
    image_shape: Sequence[int],
    *,
    center: Sequence[float] | None = None,
    size: float | Sequence[float] | None = None,
) -> NDArray[np.int8]:
    """Box of 1 on 0.

    Parameters
    ----------
    image_shape : sequence of int
        Shape of the result.
    center : sequence of float, optional
        Index of the centre; by default the middle of the image, ``(n - 1) / 2``.
    size : float or sequence of float, optional
        Side in voxels, one or one an axis; by default 3/4 of the image's.

    Returns
    -------
    level_set : ndarray of int8
        1 where a voxel's centre is less than half of `size` from `center` along every axis.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.box_level_set((3, 6), size=(1, 4)).tolist()
    [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]
    """
    op = "box_level_set"
    extents = _shape(op, image_shape)
    middle = [(n - 1) / 2 for n in extents] if center is None else list(center)
    if size is None:
        sides = [n * 0.75 for n in extents]
    else:
        sides = list(size) if isinstance(size, Sequence) else [size] * len(extents)
    for name, values, given in (("center", middle, center), ("size", sides, size)):
        if len(values) != len(extents):
            raise ValueError(f"{op}: {name} must have {len(extents)} numbers, got {given!r}")
    level_set = np.ones(extents, np.int8)
    for axis, (n, c, side) in enumerate(zip(extents, middle, sides, strict=True)):
        c, side = (
            float(_checks.number(op, name, v)) for name, v in (("center", c), ("size", side))
        )
        level_set &= _along(
            (np.abs(np.arange(n) - c) < side / 2).astype(np.int8), axis, len(extents)
        )
    return level_set
