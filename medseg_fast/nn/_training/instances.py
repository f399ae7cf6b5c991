"""Objects from the probabilities of a network that has learnt objects and their seams."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms

_LEAST = 12  # pixels of an object
_PART = 0.1  # of the median object's pixels, below which one is debris
_SURE = 0.75  # mean probability of an object's pixels to be in one
_SHALLOW = 0.05  # no maximum is so low


def objects(
    probabilities: NDArray[Any], *, waist: float = 1.5, least: int = _LEAST
) -> NDArray[np.int32]:
    """Label objects that touch, from (..., 3) probabilities of background, object and seam.

    An object is marked where the distance to the background, lessened where a seam is likely, has a
    maximum that is `waist` times what lies between it and a higher one: objects of any size are
    split alike. A watershed gives every pixel of the foreground to a mark. A network's doubt about
    a seam thus splits what has a waist, and neither alone has to. Objects go that have fewer than
    `least` pixels, that are far smaller than the others, or of which the network is not sure.
    """
    foreground = probabilities[..., 0] < 0.5
    distance = ms.gaussian(ms.distance_transform_edt(foreground).astype(np.float32), 1)
    depth = distance * (0.2 + probabilities[..., 1].astype(np.float32))
    heights = np.log(np.maximum(depth, _SHALLOW))
    marks = ms.label(ms.h_maxima(heights, math.log(waist)).astype(bool) & foreground)
    # What is too small or too flat to have a mark is an object of its own.
    rest = ms.label(foreground, connectivity=1)
    marked = np.zeros(int(rest.max(initial=0)) + 1, bool)
    marked[rest[marks > 0]] = True
    marks = np.where(marked[rest] | (rest == 0), marks, rest + marks.max(initial=0))
    found = ms.watershed(-depth, marks.astype(np.int32), mask=foreground)
    sizes = np.bincount(found.ravel())
    sure = np.bincount(found.ravel(), 1 - probabilities[..., 0].astype(np.float64).ravel())
    sizes[0] = 0
    large = sizes >= least
    usual = np.median(sizes[large]) if large.any() else 0
    kept = np.flatnonzero(large & (sizes >= _PART * usual) & (sure >= _SURE * sizes))
    numbers = np.zeros(len(sizes), np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels: NDArray[np.int32] = numbers[found]
    return labels
