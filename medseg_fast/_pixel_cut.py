"""Cuts of some of an image's pixels, the others as they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cut_costs import Costs, CutImage
from medseg_fast.sparse_graph import Graph

Mask = NDArray[np.bool_]


class Boundary(NamedTuple):
    """What parting neighbours costs: ``strength * exp(-|difference|^2 / (2 sigma^2))``."""

    offsets: list[tuple[int, ...]]
    strengths: list[float]
    sigma: float


def cut_pixels(
    image: CutImage,
    boundary: Boundary,
    mask: Mask,
    at: NDArray[np.int64],
    costs: Sequence[Costs],
    seeds: Sequence[Mask] | None = None,
) -> None:
    """Cut `mask` anew in the pixels `at` (flat, sorted), whose costs in either region are given."""
    if not at.size:
        return
    index = np.unravel_index(at, mask.shape)
    terminals = [c.astype(np.float64) for c in costs]
    graph = Graph(len(at), np.float64)
    flat, inside = mask.ravel(), np.zeros(mask.size, np.bool_)
    inside[at] = True
    values = image.array.reshape(-1, image.channels)
    for offset, strength in zip(boundary.offsets, boundary.strengths, strict=True):
        for way in (1, -1):
            step = [way * o for o in offset]
            bounds = zip(index, step, mask.shape, strict=True)
            stays = np.logical_and.reduce([(i + o >= 0) & (i + o < n) for i, o, n in bounds])
            here = np.flatnonzero(stays)
            shift = sum(o * math.prod(mask.shape[axis + 1 :]) for axis, o in enumerate(step))
            there = at[here] + shift
            kept = ~inside[there]
            use = kept if way < 0 else np.ones(len(here), np.bool_)
            here, there, kept = here[use], there[use], kept[use]
            difference = values[at[here]].astype(np.float64) - values[there]
            squares = np.einsum("ij,ij->i", difference, difference)
            weights = strength * np.exp(-squares * (0.5 / boundary.sigma**2))
            number = np.searchsorted(at, there[~kept])
            graph.add_edge(here[~kept], number, weights[~kept])
            # A cut from a kept pixel of the foreground is paid in the background, and so on.
            for side, terminal in ((False, terminals[0]), (True, terminals[1])):
                beside = kept & (flat[there] == side)
                np.add.at(terminal, here[beside], weights[beside])
    graph.add_terminal(*terminals)
    if seeds is not None:
        graph.add_seeds(*(s.ravel()[at] for s in reversed(seeds)))
    graph.maxflow()
    mask.reshape(-1)[at] = graph.segments()


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """The smallest box with all of the mask, and one pixel around it."""
    box = []
    for axis, extent in enumerate(mask.shape):
        at = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        first, last = (int(at[0]), int(at[-1])) if at.size else (0, 0)
        box.append(slice(max(0, first - 1), min(extent, last + 2)))
    return tuple(box)
