"""Slow twins of augmentation's kernels: resampling under a map, and intensities."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def places(
    matrix: Array, offset: Array, shape: Sequence[int], control: Array | None = None
) -> Array:
    """Where each voxel of the result lies in the source: (D, *shape)."""
    ndim = len(shape)
    at = np.empty((ndim, *shape))
    for index in np.ndindex(*shape):
        at[(slice(None), *index)] = matrix @ np.array(index) + offset
        if control is not None:
            at[(slice(None), *index)] += _spline(control, index, shape)
    return at


def _spline(control: Array, index: Sequence[int], shape: Sequence[int]) -> Array:
    """The uniform cubic B-spline of `control` at a voxel."""
    total = np.zeros(len(control))
    axes = []
    for i, n, points in zip(index, shape, control.shape[1:], strict=True):
        u = (i + 0.5) * (points - 3) / n
        knot = int(u)
        t = u - knot
        weights = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
        axes.append([(knot + k, w / 6) for k, w in enumerate(weights)])
    for terms in itertools.product(*axes):
        weight = np.prod([w for _, w in terms])
        at: tuple[Any, ...] = (slice(None), *(k for k, _ in terms))
        total += weight * control[at]
    return total


def sample(image: Array, at: Array, order: int, fill: float | None) -> Array:
    """An image (D axes) at places: 0 nearest, 1 linear, 3 cubic (Keys, a = -1/2)."""
    out = np.empty(at.shape[1:])
    reach = {0: (0, 1), 1: (0, 2), 3: (-1, 3)}[order]
    for index in np.ndindex(*out.shape):
        place = at[(slice(None), *index)]
        cell = np.floor(place + 0.5 if order == 0 else place)
        total = 0.0
        for step in itertools.product(range(*reach), repeat=len(place)):
            voxel = [int(c) + s for c, s in zip(cell, step, strict=True)]
            weight = 1.0
            if order:
                for p, v in zip(place, voxel, strict=True):
                    weight *= _weight(order, p - v)
            near = [min(max(v, 0), n - 1) for v, n in zip(voxel, image.shape, strict=True)]
            value = image[tuple(near)] if near == voxel or fill is None else fill
            total += weight * value
        out[index] = total
    return out


def _weight(order: int, distance: float) -> float:
    x = abs(distance)
    if order == 1:
        return max(0.0, 1 - x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def bias_field(bias: Sequence[float], shape: Sequence[int]) -> Array:
    """exp of the polynomial of degree 3 with 20 coefficients, over (z, y, x) from -1 to 1."""
    z, y, x = np.meshgrid(
        *(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij"
    )
    exponents = [e for e in itertools.product(range(4), repeat=3) if sum(e) <= 3]
    total = np.zeros(tuple(shape))
    for (i, j, k), c in zip(exponents, bias, strict=True):
        total += c * z**i * y**j * x**k
    field: Array = np.exp(total)
    return field


def gamma(image: Array, exponent: float) -> Array:
    """Values, as parts of their range, to a power."""
    low, high = np.nanmin(image), np.nanmax(image)
    if not (0 < high - low < np.inf):
        return image
    result: Array = ((image - low) / (high - low)) ** exponent * (high - low) + low
    return result


def philox(counter: Sequence[int], key: Sequence[int]) -> list[int]:
    """Philox 4x32-10: four random words."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k0, q & 0xFFFFFFFF, (p >> 32) ^ d ^ k1, p & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [a, b, c, d]


def normal(size: int, channel: int, seed: int) -> Array:
    """The kernel's normal numbers of a channel: voxel 256 b + 64 k + l is word k of 64 b + l."""
    out = np.empty(-(-size // 256) * 256)
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for counter in range(len(out) // 4):
        words = philox([counter & 0xFFFFFFFF, counter >> 32, channel, 0], key)
        u = [w >> 8 for w in words]
        for k in (0, 2):
            radius = np.sqrt(-2 * np.log((u[k] + 0.5) / 2**24))
            angle = 2 * np.pi * u[k + 1] / 2**24
            voxel = counter // 64 * 256 + counter % 64 + 64 * k
            out[voxel], out[voxel + 64] = radius * np.cos(angle), radius * np.sin(angle)
    return out[:size]
