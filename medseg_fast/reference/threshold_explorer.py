"""The region of a threshold around a seed, searched anew for every threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import Index, neighbours


def region(
    image: NDArray[Any], seed: Index, t: Any, connectivity: int, brighter: bool = True
) -> NDArray[np.bool_]:
    """The connected component of ``image >= t`` (or ``<= t``) that holds the seed."""
    inside = image >= t if brighter else image <= t
    mask = np.zeros(image.shape, np.bool_)
    waiting = [seed] if inside[seed] else []
    while waiting:
        index = waiting.pop()
        if not mask[index]:
            mask[index] = True
            near = neighbours(index, image.shape, connectivity)
            waiting.extend(n for n in near if inside[n])
    return mask


def volume_curve(
    image: NDArray[Any], seed: Index, connectivity: int, brighter: bool = True
) -> tuple[list[Any], list[int]]:
    """The thresholds at which the region changes, from the seed's value on, and its sizes."""
    values = np.unique(image[~np.isnan(image)])
    values = values[values <= image[seed]][::-1] if brighter else values[values >= image[seed]]
    thresholds: list[Any] = []
    sizes: list[int] = []
    for t in values:
        size = int(region(image, seed, t, connectivity, brighter).sum())
        if not sizes or size > sizes[-1]:
            thresholds.append(t)
            sizes.append(size)
    return thresholds, sizes
