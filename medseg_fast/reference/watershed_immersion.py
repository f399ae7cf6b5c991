"""Watershed by immersion, as its rule says: what a pixel drains to decides its label."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.reference._neighbours import Index, neighbours
from medseg_fast.reference.minima import plateau


def drains(
    image: NDArray[Any], connectivity: int, mask: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], dict[Index, list[Index]]]:
    """Numbered minima, and for every other pixel those that it drains to, in raster order.

    Pixels outside the mask and NaN pixels have number 0 and drain nowhere.
    """
    inside = (image == image) & (True if mask is None else mask)
    near = {
        p: [q for q in neighbours(p, image.shape, connectivity) if inside[q]]
        for p in itertools.product(*map(range, image.shape))
        if inside[p]
    }
    values = np.empty(image.shape, object)
    for p in near:  # None outside: equal to no value
        values[p] = image[p].item()
    down = {p: [q for q in near[p] if values[q] < values[p]] for p in near}
    minima = np.zeros(image.shape, np.int64)
    flat = {p for p in near if not down[p]}
    while flat:  # breadth first: all flat pixels next to a pixel that drains
        step = {p: [q for q in near[p] if values[q] == values[p] and q not in flat] for p in flat}
        reached = {p: lower for p, lower in step.items() if lower}
        if not reached:
            break
        down.update(reached)
        flat -= reached.keys()
    count = 0
    for p in sorted(flat):
        if minima[p] == 0:
            count += 1
            for q in plateau(values, p, connectivity):
                minima[q] = count
            del down[p]
        else:
            del down[p]
    return minima, down


def watershed_immersion(
    image: NDArray[Any],
    connectivity: int = 1,
    mask: NDArray[np.bool_] | None = None,
    watershed_line: bool = False,
) -> NDArray[np.int32]:
    labels, down = drains(image, connectivity, mask)
    decided = set(zip(*map(list, labels.nonzero()), strict=True))
    while down:
        for p, targets in list(down.items()):
            if watershed_line:
                if not all(q in decided for q in targets):
                    continue
                found = {int(labels[q]) for q in targets} - {0}
                labels[p] = found.pop() if len(found) == 1 else 0
            else:
                lowest = min(targets, key=lambda q: image[q])  # the first of several
                if lowest not in decided:
                    continue
                labels[p] = labels[lowest]
            decided.add(p)
            del down[p]
    return labels.astype(np.int32)
