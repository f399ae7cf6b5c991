"""Canny's edge detector, pixel by pixel, by the definitions of scikit-image, OpenCV and ITK."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference import edges as _edges

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


def linked(weak: Mask, strong: Mask) -> Mask:
    """Weak pixels that a chain of weak ones, diagonal steps too, joins with a strong one."""
    kept = np.zeros(weak.shape, bool)
    todo = [tuple(p) for p in np.argwhere(weak & strong)]
    while todo:
        pixel = todo.pop()
        if kept[pixel]:
            continue
        kept[pixel] = True
        for step in itertools.product((-1, 0, 1), repeat=weak.ndim):
            other = tuple(p + s for p, s in zip(pixel, step, strict=True))
            if all(0 <= o < n for o, n in zip(other, weak.shape, strict=True)) and weak[other]:
                todo.append(other)
    return kept


def eroded(mask: Mask, outside: bool) -> Mask:
    """Pixels whose 3 x ... x 3 block is inside."""
    around = np.pad(mask, 1, constant_values=outside)
    result = np.ones(mask.shape, bool)
    for step in itertools.product((0, 1, 2), repeat=mask.ndim):
        result &= around[tuple(slice(s, s + n) for s, n in zip(step, mask.shape, strict=True))]
    return result


def smoothed(
    image: Floats, sigmas: Sequence[float], mode: str, cval: float, mask: Mask | None, around: float
) -> Floats:
    """The Gaussian, where the border is constant divided by its share inside (`around` outside)."""
    inside = np.ones(image.shape, bool) if mask is None else mask
    smooth = _edges.gaussian(np.where(inside, image, 0), sigmas, mode, cval)
    if mask is None and mode != "constant":
        return smooth
    return smooth / _edges.gaussian(inside.astype(np.float64), sigmas, mode, around)


def canny_skimage(
    image: NDArray[Any],
    sigma: float,
    low: float,
    high: float,
    mask: Mask | None = None,
    mode: str = "constant",
    cval: float = 0.0,
    spacing: Sequence[float] = (1.0, 1.0),
) -> Mask:
    """`low` and `high` on the scale of the divided integers."""
    smooth = smoothed(_edges.as_float(image), [sigma / s for s in spacing], mode, cval, mask, cval)
    parts = [4 * _edges.gradient("sobel", smooth, [axis]) / spacing[axis] for axis in (0, 1)]
    m = np.hypot(*parts)
    inside = eroded(np.ones(image.shape, bool) if mask is None else mask, False)
    weak = np.zeros(image.shape, bool)
    for y, x in np.argwhere(inside & (m >= low) & (m > 0)):
        down, right = parts[0][y, x] / spacing[0], parts[1][y, x] / spacing[1]
        steep = abs(down) > abs(right) or (down * right < 0 and abs(down) == abs(right))
        turn = -1 if down * right < 0 else 1
        # One step along the axis of the steeper direction, and one along both.
        side, corner = ((turn, 0) if steep else (0, 1)), (turn, 1)
        small, large = sorted((abs(down), abs(right)))
        w = small / large
        weak[y, x] = all(
            w * m[y + s * corner[0], x + s * corner[1]]
            + (1 - w) * m[y + s * side[0], x + s * side[1]]
            <= m[y, x]
            for s in (1, -1)
        )
    return linked(weak, m >= high)


def canny_opencv(image: NDArray[np.uint8], low: float, high: float, squares: bool) -> Mask:
    around = np.pad(image.astype(np.int64), 1, mode="edge")
    rows, columns = image.shape

    def at(dy: int, dx: int) -> NDArray[np.int64]:
        return around[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]

    right, down = np.zeros(image.shape, np.int64), np.zeros(image.shape, np.int64)
    for k, weight in ((-1, 1), (0, 2), (1, 1)):
        right += weight * (at(k, 1) - at(k, -1))
        down += weight * (at(1, k) - at(-1, k))
    m = np.pad(right**2 + down**2 if squares else abs(right) + abs(down), 1)
    if squares:
        low, high = (t * t if t > 0 else t for t in (min(t, 32767) for t in (low, high)))
    weak = np.zeros(image.shape, bool)
    for y, x in np.argwhere(m[1:-1, 1:-1] > math.floor(low)):
        a, b = abs(int(right[y, x])), abs(int(down[y, x])) << 15
        here = m[y + 1, x + 1]
        if b < a * 13573:
            weak[y, x] = here > m[y + 1, x] and here >= m[y + 1, x + 2]
        elif b > a * 13573 + (a << 16):
            weak[y, x] = here > m[y, x + 1] and here >= m[y + 2, x + 1]
        else:
            s = -1 if (right[y, x] < 0) != (down[y, x] < 0) else 1
            weak[y, x] = here > m[y, x + 1 - s] and here > m[y + 2, x + 1 + s]
    return linked(weak, m[1:-1, 1:-1] > math.floor(high))


def _difference(image: Floats, axis: int, spacing: float) -> Floats:
    around = np.pad(image, 1, mode="edge")
    inner = [slice(1, -1)] * image.ndim
    after, before = inner.copy(), inner.copy()
    after[axis], before[axis] = slice(2, None), slice(None, -2)
    return np.asarray((around[tuple(after)] - around[tuple(before)]) / (2 * spacing))


def canny_itk(
    image: NDArray[Any],
    sigma: float,
    low: float,
    high: float,
    mask: Mask | None = None,
    mode: str = "constant",
    spacing: Sequence[float] | None = None,
) -> Mask:
    """In the image's units; only a border of 0."""
    size = [1.0] * image.ndim if spacing is None else list(spacing)
    smooth = smoothed(image.astype(np.float64), [sigma / s for s in size], mode, 0, mask, 0)
    g = [_difference(smooth, k, size[k]) for k in range(image.ndim)]
    norm = 0.0001 + sum(part**2 for part in g)
    total = np.zeros(image.shape)
    for k, a in itertools.product(range(image.ndim), repeat=2):
        if k != a:
            second = _difference(_difference(smooth, k, size[k]), a, size[a])
        else:
            weights = np.array([1, -2, 1]).reshape([-1 if i == k else 1 for i in range(image.ndim)])
            second = _edges.block_sum(smooth, weights / size[k] ** 2, "nearest", 0)
        total += g[k] * g[a] * second
    along = total / norm
    slope = sum(_difference(along, k, size[k]) * g[k] for k in range(image.ndim))
    maximum = _edges.zero_crossings(along, 0) & (slope <= 0)
    if mask is not None:
        maximum &= eroded(mask, True)
    length = np.sqrt(norm)
    return linked(maximum & (length > low), length > high)
