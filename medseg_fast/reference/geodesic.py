"""Geodesic distances by relaxing every step until nothing changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import neighbours


def geodesic_segmentation(
    image: NDArray[Any],
    markers: NDArray[Any],
    spacing: Sequence[float],
    spatial_weight: float,
    intensity_weight: float,
    connectivity: int,
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Labels, of equally near ones the least, and distances."""
    labels = markers.copy()
    distance = np.where(markers != 0, 0.0, np.inf)
    changed = True
    while changed:
        changed = False
        for here in np.ndindex(*image.shape):
            for there in neighbours(here, image.shape, connectivity):
                rise = intensity_weight * (float(image[there]) - float(image[here]))
                square = sum(
                    (s * (i - j)) ** 2 for s, i, j in zip(spacing, here, there, strict=True)
                )
                step = math.sqrt((spatial_weight * math.sqrt(square)) ** 2 + rise**2)
                to = distance[here] + step
                nearer = to < distance[there]
                tied = to == distance[there] < math.inf and labels[here] < labels[there]
                if nearer or tied:
                    distance[there], labels[there] = to, labels[here]
                    changed = True
    return labels, distance
