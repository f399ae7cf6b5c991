"""Edge filters and Gaussians, as their formulas say: a padded image, shifted and weighted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAD = {"reflect": "symmetric", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}
Floats = NDArray[np.float64]

# Weights before, at and after the pixel: of the difference, of the smoothing.
KERNELS = {
    "sobel": ([-1, 0, 1], [1 / 4, 2 / 4, 1 / 4]),
    "prewitt": ([-1, 0, 1], [1 / 3, 1 / 3, 1 / 3]),
    "scharr": ([-1, 0, 1], [3 / 16, 10 / 16, 3 / 16]),
    "farid": (
        [-0.109603762960254, -0.276690988455557, 0, 0.276690988455557, 0.109603762960254],
        [
            0.0376593171958126,
            0.249153396177344,
            0.426374573253687,
            0.249153396177344,
            0.0376593171958126,
        ],
    ),
}


def as_float(image: NDArray[Any]) -> Floats:
    """float64; integers divided by the largest value of their dtype, -1 at least."""
    values = image.astype(np.float64)
    if image.dtype.kind in "ui":
        values = np.maximum(values / np.iinfo(image.dtype).max, -1)
    return values


def padded(image: Floats, radii: Sequence[int], mode: str, cval: float) -> Floats:
    width = [(r, r) for r in radii]
    if mode == "constant":
        return np.pad(image, width, constant_values=cval)
    if mode == "mirror":  # np.pad's "reflect" does not take an axis of one pixel
        width = [(0, 0) if n == 1 else w for n, w in zip(image.shape, width, strict=True)]
        edge = [(r if n == 1 else 0,) * 2 for n, r in zip(image.shape, radii, strict=True)]
        return np.pad(np.pad(image, width, "reflect"), edge, "edge")
    return np.pad(image, width, _PAD[mode])  # type: ignore[call-overload, no-any-return]


def block_sum(image: Floats, weights: Floats, mode: str, cval: float) -> Floats:
    """Sum of a block of odd sizes around each pixel; pixels of weight 0 are not read."""
    if image.size == 0:
        return np.zeros(image.shape)
    around = padded(image, [n // 2 for n in weights.shape], mode, cval)
    result = np.zeros(image.shape)
    for offset in np.ndindex(weights.shape):
        if weights[offset] != 0:
            window = tuple(slice(o, o + n) for o, n in zip(offset, image.shape, strict=True))
            result += weights[offset] * around[window]
    return result


def gradient(
    name: str,
    image: NDArray[Any],
    axes: Sequence[int] | None = None,
    mode: str = "reflect",
    cval: float = 0,
    spacing: Sequence[float] | None = None,
) -> Floats:
    """One axis: differences along it; several: the magnitude."""
    edge, smooth = KERNELS[name]
    axes = range(image.ndim) if axes is None else axes
    parts = []
    for axis in axes:
        lines = [np.array(edge if k == axis else smooth) for k in range(image.ndim)]
        weights = lines[0]
        for line in lines[1:]:
            weights = np.multiply.outer(weights, line)
        part = block_sum(as_float(image), weights, mode, cval)
        parts.append(part / (1 if spacing is None else spacing[axis]))
    if len(parts) == 1:
        return parts[0]
    return np.sqrt(np.sum(np.square(parts), axis=0) / image.ndim)  # type: ignore[no-any-return]


def laplace(image: NDArray[Any], spacing: Sequence[float] | None = None) -> Floats:
    weights = np.zeros((3,) * image.ndim)
    for axis in range(image.ndim):
        for step, weight in ((0, -1), (1, 2), (2, -1)):
            at = tuple(step if k == axis else 1 for k in range(image.ndim))
            weights[at] += weight / (1 if spacing is None else spacing[axis]) ** 2
    return block_sum(as_float(image), weights, "reflect", 0)


def cross(image: NDArray[Any], corner: Sequence[int]) -> Floats:
    """The opposite corner of the block that begins at the pixel, minus `corner` (0 or 1 each)."""
    values = as_float(image)
    steps = list(zip(image.shape, corner, strict=True))
    far = np.ix_(*(np.minimum(np.arange(n) + 1 - c, n - 1) for n, c in steps))
    near = np.ix_(*(np.minimum(np.arange(n) + c, n - 1) for n, c in steps))
    return values[far] - values[near]


def roberts(image: NDArray[Any]) -> Floats:
    corners = [(0, *rest) for rest in itertools.product((0, 1), repeat=image.ndim - 1)]
    squares = [cross(image, corner) ** 2 for corner in corners]
    return np.sqrt(np.mean(squares, axis=0))  # type: ignore[no-any-return]


def clip_to_mask(result: Floats, mask: NDArray[np.bool_]) -> Floats:
    """0 where the 3 x ... x 3 block around a pixel is not all inside the mask."""
    clipped = result.copy()
    around = np.pad(mask, 1, constant_values=False)
    for pixel in np.ndindex(mask.shape):
        if not around[tuple(slice(p, p + 3) for p in pixel)].all():
            clipped[pixel] = 0
    return clipped


def zero_crossings(image: NDArray[Any], threshold: float = 0) -> NDArray[np.bool_]:
    """Of two neighbours of other sign the one nearer to zero, the first of equals."""
    marked = np.zeros(image.shape, bool)
    values = image.astype(np.float64)
    for pixel in np.ndindex(image.shape):
        for axis, step in itertools.product(range(image.ndim), (-1, 1)):
            other = (*pixel[:axis], pixel[axis] + step, *pixel[axis + 1 :])
            if not 0 <= other[axis] < image.shape[axis]:
                continue
            p, q = values[pixel], values[other]
            if np.sign(p) == np.sign(q) or not abs(p - q) > threshold:
                continue
            if abs(p) < abs(q) or (abs(p) == abs(q) and step == 1):
                marked[pixel] = True
    return marked


def gaussian_line(sigma: float, radius: int, order: int = 0) -> Floats:
    """Weights of the sampled Gaussian, normalised, times the polynomial of its derivative."""
    if sigma == 0:
        return np.ones(1)
    x = np.arange(-radius, radius + 1.0)
    line = np.exp(-(x**2) / (2 * sigma**2))
    line /= line.sum()
    # Weights for a sum over image[i + x]: the derivative's sign is turned.
    polynomial = [np.ones_like(x), x / sigma**2, (x**2 - sigma**2) / sigma**4]
    return np.asarray(line * polynomial[order])


def gaussian(
    image: Floats,
    sigmas: Sequence[float],
    mode: str,
    cval: float = 0,
    truncate: float = 4.0,
    orders: Sequence[int] | None = None,
) -> Floats:
    """Axis after axis; with mode constant each is surrounded by cval."""
    result = image.astype(np.float64)
    for axis, sigma in enumerate(sigmas):
        radius = math.floor(truncate * sigma + 0.5)
        line = gaussian_line(sigma, radius, 0 if orders is None else orders[axis])
        shape = [1] * image.ndim
        shape[axis] = line.size
        result = block_sum(result, line.reshape(shape), mode, cval)
    return result
