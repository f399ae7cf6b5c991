"""Objects from the probabilities of a network that has learnt insides and rims."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms

_LEAST = 12  # pixels of an object, and of the inside that marks it a third


def objects(
    probabilities: NDArray[Any], *, inside: float = 0.5, least: int = _LEAST
) -> NDArray[np.int32]:
    """Label objects that touch, from (..., 3) probabilities of background, inside and rim.

    Every connected region whose inside is likelier than `inside` marks an object; a watershed of
    the probability of being inside gives the other pixels of the foreground to one of them.
    Foreground without a mark is an object of its own. Objects of fewer than `least` pixels go.
    """
    foreground = probabilities[..., 0] < 0.5
    core = (probabilities[..., 1] > inside) & foreground
    marks, count = ms.label(core, return_num=True, connectivity=1)
    sizes = np.bincount(marks.ravel(), minlength=count + 1)
    marks = np.where(sizes[marks] * 3 >= least, marks, 0)
    rest = ms.label(foreground, connectivity=1)
    marked = np.zeros(int(rest.max(initial=0)) + 1, bool)
    marked[rest[marks > 0]] = True
    marks = np.where(marked[rest] | (rest == 0), marks, rest + count).astype(np.int32)
    found = ms.watershed(-probabilities[..., 1], marks, mask=foreground)
    sizes = np.bincount(found.ravel())
    kept = np.flatnonzero(sizes >= least)
    numbers = np.zeros(len(sizes), np.int32)
    kept = kept[kept > 0]
    numbers[kept] = np.arange(1, len(kept) + 1)
    labels: NDArray[np.int32] = numbers[found]
    return labels
