"""Flat morphology as its definition says: the pixels under the footprint, one offset at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def place_of(at: int, n: int, mode: str) -> int | None:
    """Index of the pixel that stands at position `at` of an axis of n pixels; None: outside."""
    if 0 <= at < n:
        return at
    if mode == "nearest":
        return 0 if at < 0 else n - 1
    if mode == "wrap":
        return at % n
    if mode == "reflect":
        return min(at % (2 * n), 2 * n - 1 - at % (2 * n))
    if mode == "mirror":
        period = max(2 * n - 2, 1)
        return min(at % period, period - at % period)
    return None


def shifted(image: NDArray[Any], offset: tuple[int, ...], mode: str, outside: Any) -> NDArray[Any]:
    """The image's value at x + offset for every pixel x."""
    result = np.full(image.shape, outside, image.dtype)
    for index in np.ndindex(image.shape):
        place = [
            place_of(i + d, n, mode) for i, d, n in zip(index, offset, image.shape, strict=True)
        ]
        if None not in place:
            result[index] = image[tuple(place)]
    return result


def offsets(footprint: NDArray[Any]) -> list[tuple[int, ...]]:
    """Offsets of a footprint's members from its centre, n // 2 - 1 for an even size n."""
    centre = [(n - 1) // 2 for n in footprint.shape]
    return [
        tuple(int(i) - c for i, c in zip(index, centre, strict=True))
        for index in np.argwhere(footprint)
    ]


def extreme(
    image: NDArray[Any],
    offsets: list[tuple[int, ...]],
    function: Any,
    mode: str,
    outside: Any,
) -> NDArray[Any]:
    """`function` (np.minimum or np.maximum: NaN spreads) over the pixels at these offsets."""
    result = shifted(image, offsets[0], mode, outside)
    for offset in offsets[1:]:
        result = function(result, shifted(image, offset, mode, outside))
    return result


def end_of_range(dtype: np.dtype[Any], greatest: bool) -> Any:
    if dtype.kind == "f":
        return np.inf if greatest else -np.inf
    if dtype.kind == "b":
        return greatest
    return np.iinfo(dtype).max if greatest else np.iinfo(dtype).min


def erosion(
    image: NDArray[Any], footprint: NDArray[Any], mode: str = "reflect", cval: Any = 0
) -> NDArray[Any]:
    if mode in ("max", "min", "ignore"):
        cval, mode = end_of_range(image.dtype, mode != "min"), "constant"
    return extreme(image, offsets(footprint), np.minimum, mode, cval)


def dilation(
    image: NDArray[Any], footprint: NDArray[Any], mode: str = "reflect", cval: Any = 0
) -> NDArray[Any]:
    if mode in ("max", "min", "ignore"):
        cval, mode = end_of_range(image.dtype, mode == "max"), "constant"
    return extreme(image, offsets(footprint), np.maximum, mode, cval)


def clipped_difference(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """a - b, clipped to the dtype; of bools the exclusive or."""
    if a.dtype.kind == "b":
        return np.asarray(a ^ b)
    if a.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(a - b)
    low, high = int(np.iinfo(a.dtype).min), int(np.iinfo(a.dtype).max)
    exact = [min(max(int(x) - int(y), low), high) for x, y in zip(a.flat, b.flat, strict=True)]
    return np.array(exact, a.dtype).reshape(a.shape)


def binary_erosion(
    mask: NDArray[Any], footprint: NDArray[Any], mode: str = "ignore"
) -> NDArray[np.bool_]:
    """All pixels under the footprint are true; its centre is n // 2."""
    flipped = footprint[(slice(None, None, -1),) * footprint.ndim]
    there = [tuple(-d for d in offset) for offset in offsets(flipped)]
    result = np.ones(mask.shape, np.bool_)
    for offset in there:
        result &= shifted(mask != 0, offset, "constant", mode != "min")
    return result


def binary_dilation(
    mask: NDArray[Any], footprint: NDArray[Any], mode: str = "ignore"
) -> NDArray[np.bool_]:
    """A pixel under the mirrored footprint is true."""
    flipped = footprint[(slice(None, None, -1),) * footprint.ndim]
    result = np.zeros(mask.shape, np.bool_)
    for offset in offsets(flipped):
        result |= shifted(mask != 0, offset, "constant", mode == "max")
    return result
