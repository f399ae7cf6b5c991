"""Morphological snakes as the paper defines their operators, voxel by voxel of shifted arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Offset = tuple[int, ...]


def _shifted(u: Mask, offset: Offset) -> Mask:
    """Value of the neighbour at `offset` of each pixel, False outside."""
    around = np.pad(u, 1)
    return around[tuple(slice(1 + o, 1 + o + n) for o, n in zip(offset, u.shape, strict=True))]


def _segments(ndim: int) -> list[list[Offset]]:
    """The flat pieces through the origin: 4 lines of 3 pixels, or 9 planes of 9 voxels."""
    cube = list(itertools.product((-1, 0, 1), repeat=ndim))
    normals: set[Offset] = {(1, 0), (0, 1), (1, 1), (1, -1)}
    if ndim == 3:
        normals = {(1, 0, 0), (0, 1, 0), (0, 0, 1)}
        normals |= {(1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)}
    return [
        [o for o in cube if sum(a * b for a, b in zip(o, normal, strict=True)) == 0]
        for normal in sorted(normals)
    ]


def inf_sup(u: Mask) -> Mask:
    return np.asarray(
        np.all(
            [np.any([_shifted(u, o) for o in piece], axis=0) for piece in _segments(u.ndim)], axis=0
        )
    )


def sup_inf(u: Mask) -> Mask:
    return np.asarray(
        np.any(
            [np.all([_shifted(u, o) for o in piece], axis=0) for piece in _segments(u.ndim)], axis=0
        )
    )


def _smoother(smoothing: int) -> Callable[[Mask], Mask]:
    orders = itertools.cycle([(inf_sup, sup_inf), (sup_inf, inf_sup)])

    def smooth(u: Mask) -> Mask:
        for _ in range(smoothing):
            for operator in next(orders):
                u = operator(u)
        return u

    return smooth


def _slopes(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Central differences, one-sided at the ends; 0 along an axis of one pixel."""
    return [
        np.gradient(values, axis=axis) if n > 1 else np.zeros_like(values, np.float64)
        for axis, n in enumerate(values.shape)
    ]


def morphological_chan_vese(
    image: NDArray[Any], num_iter: int, init: Mask, smoothing: int, lambda1: float, lambda2: float
) -> Mask:
    u, smooth = init.copy(), _smoother(smoothing)
    # Means and forces as NumPy computes them in the image's own type.
    for _ in range(num_iter):
        c0 = (image * (1 - np.int8(u))).sum() / float((~u).sum() + 1e-8)
        c1 = (image * np.int8(u)).sum() / float(u.sum() + 1e-8)
        edge = np.any([slope != 0 for slope in _slopes(u.astype(float))], axis=0)
        force = lambda1 * (image - c1) ** 2 - lambda2 * (image - c0) ** 2
        u = smooth((u | (edge & (force < 0))) & ~(edge & (force > 0)))
    return u


def morphological_geodesic_active_contour(
    edge_map: NDArray[Any], num_iter: int, init: Mask, smoothing: int, limit: float, balloon: int
) -> Mask:
    """`limit`: the balloon moves where the map is above it."""
    u, smooth = init.copy(), _smoother(smoothing)
    block = list(itertools.product((-1, 0, 1), repeat=u.ndim))
    slopes = _slopes(edge_map)
    for _ in range(num_iter):
        around = [_shifted(u, o) for o in block]
        if balloon > 0:
            u = np.where(edge_map > limit, np.any(around, axis=0), u)
        elif balloon < 0:
            u = np.where(edge_map > limit, np.all(around, axis=0), u)
        force = np.zeros_like(edge_map)
        for slope, rise in zip(slopes, _slopes(u.astype(float)), strict=True):
            force += slope * rise
        u = smooth((u | (force > 0)) & ~(force < 0))
    return u
