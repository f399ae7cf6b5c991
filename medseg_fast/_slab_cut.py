"""The cut of an image too large for its graph: slab by slab, then what the slabs leave open.

Cut a slab out of an image and tie the planes at its ends. If they are background, the slab's cut
has no pixel in the foreground that the cut of the whole has not; if they are foreground, it has all
that it has (cuts are monotone in their terminals: Gallo, Grigoriadis and Tarjan 1989). Where the
two agree, which is nearly everywhere that costs of regions or seeds are near, the whole is known;
the rest is cut as a graph of its own. So the result is exact (Shekhovtsov and Hlavac 2013,
"A distributed mincut/maxflow algorithm combining path augmentation and push-relabel", IJCV, use it
to make regions smaller).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cut_costs import Costs, CutImage, Model, add_boundary
from medseg_fast._pixel_cut import Boundary, Mask, bounding_box, cut_pixels
from medseg_fast.grid_graph import GridGraph

# A pixel of a graph of its own takes as many bytes as this many of a grid's.
_SPARSE = 5


def cut_slabs(
    image: CutImage,
    boundary: Boundary,
    connectivity: int,
    model: Model,
    seeds: tuple[Mask, Mask],
    planes: int,
) -> Mask:
    """Foreground of the whole image, from slabs of so many planes of the first axis.

    Each is cut together with a quarter of that on both sides.
    """
    extent = image.shape[0]
    mask = np.zeros(image.shape, np.bool_)
    still_open = np.zeros(image.shape, np.bool_)
    costs: list[tuple[Costs, Costs]] = []
    overlap = max(1, planes // 4)
    for start in range(0, extent, planes):
        stop = min(start + planes, extent)
        slab = slice(max(0, start - overlap), min(extent, stop + overlap))
        inner = slice(start - slab.start, stop - slab.start)
        slab_costs, (least, most) = _bounds(image, boundary, connectivity, model, seeds, slab)
        mask[start:stop] = least[inner]
        differ = most[inner] & ~least[inner]
        still_open[start:stop] = differ
        costs.append((slab_costs[0][inner][differ], slab_costs[1][inner][differ]))
    at = np.flatnonzero(still_open)
    foreground, background = (np.concatenate(c) for c in zip(*costs, strict=True))
    box = bounding_box(still_open)
    if at.size * _SPARSE > still_open[box].size:  # also what is most of an image
        _cut_box(image, boundary, connectivity, mask, still_open, box, (foreground, background))
    else:
        cut_pixels(image, boundary, mask, at, (foreground, background))
    return mask


def _bounds(
    image: CutImage,
    boundary: Boundary,
    connectivity: int,
    model: Model,
    seeds: tuple[Mask, Mask],
    slab: slice,
) -> tuple[tuple[Costs, Costs], tuple[Mask, Mask]]:
    """Costs of a slab; the least and the most foreground it has, whatever lies outside."""
    where = (slab, *(slice(0, n) for n in image.shape[1:]))
    part = image.part(where)
    graph = GridGraph(part.shape, connectivity, np.float32)
    add_boundary(graph, part, boundary.strengths, boundary.sigma)
    costs = model(where)
    tie = _tie(boundary)
    foreground, background = (s[slab] for s in seeds)
    ends = np.zeros(part.shape, np.bool_)
    ends[0] |= slab.start > 0
    ends[-1] |= slab.stop < image.shape[0]
    ends &= ~foreground & ~background
    known = foreground | background | ends
    graph.add_terminal(
        np.where(known, tie * ~foreground, costs[0]),
        np.where(known, tie * foreground, costs[1]),
    )
    graph.maxflow()
    least = graph.segments()
    at = np.nonzero(ends)
    if not at[0].size:
        return costs, (least, least)
    ties = np.full(len(at[0]), tie)
    graph.change_terminal(-ties, ties, at=at)
    graph.maxflow()
    return costs, (least, graph.segments())


def _tie(boundary: Boundary) -> np.float32:
    """More than all edges of a pixel."""
    return np.float32(4 * sum(boundary.strengths) + 1)


def _cut_box(
    image: CutImage,
    boundary: Boundary,
    connectivity: int,
    mask: Mask,
    still_open: Mask,
    box: tuple[slice, ...],
    costs: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Cut the open pixels of a box, the others tied as they are."""
    part = image.part(box)
    graph = GridGraph(part.shape, connectivity, np.float32)
    add_boundary(graph, part, boundary.strengths, boundary.sigma)
    tie, inside = _tie(boundary), still_open[box]
    terminals = [tie * ~mask[box], tie * mask[box]]
    for terminal, cost in zip(terminals, costs, strict=True):
        terminal[inside] = cost
    graph.add_terminal(*terminals)
    graph.maxflow()
    mask[box] = graph.segments()
