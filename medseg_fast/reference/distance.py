"""Distance transforms by looking at every background voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def nearest(mask: Any, sampling: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Squared distances and indices; of equal ones the lowest last coordinate, and so on."""
    mask = np.asarray(mask) != 0
    steps = np.ones(mask.ndim) if sampling is None else np.broadcast_to(sampling, mask.ndim)
    background = np.argwhere(~mask)
    background = background[np.lexsort(background.T)]  # the last axis is the first key
    squared = np.full(mask.shape, np.inf)
    indices = np.full((mask.ndim, *mask.shape), -1, np.int32)
    if len(background) == 0:
        return squared, indices
    for voxel in np.ndindex(mask.shape):
        distance = np.zeros(len(background))
        for axis in range(mask.ndim):
            distance += ((background[:, axis] - voxel[axis]) * float(steps[axis])) ** 2
        best = int(np.argmin(distance))
        squared[voxel] = distance[best]
        indices[(slice(None), *voxel)] = background[best]
    return squared, indices


def distance_transform_edt(mask: Any, sampling: Any = None) -> tuple[NDArray[Any], NDArray[Any]]:
    squared, indices = nearest(mask, sampling)
    return np.sqrt(squared), indices


def signed_distance(mask: Any, spacing: Any = None) -> NDArray[Any]:
    inside = np.asarray(mask) != 0
    to_outside, to_inside = nearest(inside, spacing)[0], nearest(~inside, spacing)[0]
    signed: NDArray[Any] = np.where(inside, -np.sqrt(to_outside), np.sqrt(to_inside))
    return signed


def expand_labels(label_image: Any, distance: float = 1, spacing: Any = 1) -> NDArray[Any]:
    labels = np.asarray(label_image)
    squared, indices = nearest(labels == 0, spacing)
    expanded = np.zeros_like(labels)
    for voxel in np.ndindex(labels.shape):
        if np.sqrt(squared[voxel]) <= distance and np.isfinite(squared[voxel]):
            expanded[voxel] = labels[tuple(indices[(slice(None), *voxel)])]
    return expanded
