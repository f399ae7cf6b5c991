"""Regional minima and maxima, one plateau after the other."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import Index, neighbours


def plateau(image: NDArray[Any], start: Index, connectivity: int) -> set[Index]:
    """The connected pixels of equal value around `start`."""
    found, stack = {start}, [start]
    while stack:
        for other in neighbours(stack.pop(), image.shape, connectivity):
            if other not in found and image[other] == image[start]:
                found.add(other)
                stack.append(other)
    return found


def local_minima(
    image: NDArray[Any], connectivity: int | None = None, allow_borders: bool = True
) -> NDArray[np.bool_]:
    minima = np.zeros(image.shape, bool)
    nan = image != image
    if image.size == 0 or nan.all():
        return minima
    image = np.where(nan, image[~nan].max(), image)
    if (image == image.flat[0]).all():
        return minima
    seen = np.zeros(image.shape, bool)
    for start in itertools.product(*map(range, image.shape)):
        if seen[start]:
            continue
        pixels = plateau(image, start, connectivity or image.ndim)
        around = {
            other
            for p in pixels
            for other in neighbours(p, image.shape, connectivity or image.ndim)
        }
        lowest = all(image[other] >= image[start] for other in around)
        if not allow_borders:
            lowest &= all(
                0 < i < extent - 1 for p in pixels for i, extent in zip(p, image.shape, strict=True)
            )
        for p in pixels:
            seen[p] = True
            minima[p] = lowest
    minima[nan] = False
    return minima


def local_maxima(
    image: NDArray[Any], connectivity: int | None = None, allow_borders: bool = True
) -> NDArray[np.bool_]:
    reverse = ~image if image.dtype.kind in "bui" else -image
    return local_minima(reverse, connectivity, allow_borders)
