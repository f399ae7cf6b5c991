"""A cut between regions instead of pixels, then between pixels near its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._cut_costs import (
    CutImage,
    boundary_strength,
    contrast_sigma,
    cut_like,
    metric,
    region_costs,
)
from medseg_fast._dispatch import operation
from medseg_fast._grid_arguments import grid_offsets
from medseg_fast._pixel_cut import Boundary, cut_pixels
from medseg_fast.boundaries import find_boundaries
from medseg_fast.distance import distance_transform_edt
from medseg_fast.morphology import morphological_gradient
from medseg_fast.seeded_cut import Region
from medseg_fast.sparse_graph import Graph
from medseg_fast.watershed import watershed


@operation(result=cut_like)
def graph_cut_regions(
    image: ArrayLike,
    foreground_seeds: ArrayLike,
    background_seeds: ArrayLike,
    *,
    regions: ArrayLike | None = None,
    band: float = 3,
    lambda_: float = 4.0,
    sigma: float | None = None,
    connectivity: int = 1,
    spacing: Sequence[float] | None = None,
    region: Region = "histogram",
    channel_axis: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Segment like `graph_cut`, region by region first, then pixel by pixel in a band.

    A graph of regions is a hundredth of a graph of voxels. It pays where the cut of all voxels is
    hard (without a model of intensities, in noise) or its graph does not fit into memory, and with
    regions that are made once for an image; where `graph_cut` is easy it takes as long as that.

    Parameters
    ----------
    image, foreground_seeds, background_seeds
        As for `graph_cut`.
    regions : array_like of int, optional
        A label for each pixel, not negative; a region is cut off as a whole. Default: the basins of
        the morphological gradient, flooded by `watershed`.
    band : float, optional
        How far from the regions' cut pixels are cut anew, in mm. 0: not at all. Pixels of a region
        with seeds of both kinds always are.
    lambda_, sigma, connectivity, spacing, region, channel_axis, out
        As for `graph_cut`.

    Returns
    -------
    mask : ndarray of bool
        True in the foreground. Its energy is that of `graph_cut`'s mask if that lies inside the
        band, else higher.

    Raises
    ------
    TypeError, ValueError
        As `graph_cut`; also if `regions` does not fit or `band` is negative.

    Notes
    -----
    Time: O(n) for costs, and cuts of as many nodes as there are regions and pixels in the band.
    Memory: 28 bytes per pixel, 64 per pair of neighbouring regions, about 250 per pixel of the
    band.

    References
    ----------
    Y. Li, J. Sun, C.-K. Tang and H.-Y. Shum (2004), "Lazy snapping", ACM SIGGRAPH, 303-308.

    H. Lombaert, Y. Sun, L. Grady and C. Xu (2005), "A multilevel banded graph cuts method for fast
    image segmentation", ICCV, 259-265.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0, 1, 0, 9, 8, 9, 1, 0]])
    >>> inside, outside = np.zeros((2, 1, 8), bool)
    >>> inside[0, 4] = outside[0, 0] = True
    >>> ms.graph_cut_regions(image, inside, outside, lambda_=1).astype(int)
    array([[0, 0, 0, 1, 1, 1, 0, 0]])
    """
    op = "graph_cut_regions"
    given = CutImage(op, image, channel_axis, spacing)
    seeds = []
    for name, value in (
        ("foreground_seeds", foreground_seeds),
        ("background_seeds", background_seeds),
    ):
        mask = given.mask(op, name, value)
        if not mask.any():
            raise ValueError(f"{op}: {name} must have at least one seed")
        seeds.append(mask)
    if (seeds[0] & seeds[1]).any():
        raise ValueError(
            f"{op}: foreground_seeds and background_seeds must have no pixel in common"
        )
    strength = boundary_strength(op, lambda_)
    width = _checks.number(op, "band", band)
    if width < 0:
        raise ValueError(f"{op}: band must not be negative, got {band!r}")
    connectivity = _checks.integer(op, "connectivity", connectivity, 1, len(given.shape))
    offsets = grid_offsets(len(given.shape), connectivity)
    sigma = contrast_sigma(op, sigma, given, offsets)
    out = _checks.output(op, out, given.shape, np.bool_)
    labels = _labels(op, given, regions)
    costs = region_costs(op, given, region, seeds[0], seeds[1], image)
    lengths = metric(tuple(offsets), given.spacing)
    boundary = Boundary(offsets, [strength * length for length in lengths], float(sigma))
    cut = _Cut(given, boundary)
    mask, torn = cut.regions(labels, costs, seeds)
    pixels = torn
    if width > 0 and mask.any() and not mask.all():
        edge = find_boundaries(mask, mode="thick")
        pixels = torn | (distance_transform_edt(~edge, given.spacing) <= width)
    at = np.flatnonzero(pixels)
    cut_pixels(given, cut.boundary, mask, at, [c.ravel()[at] for c in costs], seeds)
    out[...] = mask
    return out


def _labels(op: str, image: CutImage, regions: Any) -> NDArray[np.int32]:
    if regions is None:
        gradient = morphological_gradient(np.ascontiguousarray(image.array[..., 0]), 3)
        for channel in range(1, image.channels):
            one = morphological_gradient(np.ascontiguousarray(image.array[..., channel]), 3)
            np.maximum(gradient, one, out=gradient)
        return np.ascontiguousarray(watershed(gradient), np.int32)
    labels = np.asarray(regions)
    if labels.dtype.kind not in "biu":
        raise TypeError(f"{op}: regions must be integers, got {labels.dtype}")
    if labels.shape != image.shape:
        raise ValueError(f"{op}: regions must have shape {image.shape}, got {labels.shape}")
    if labels.size and (labels.min() < 0 or labels.max() >= 2**31 - 1):
        raise ValueError(f"{op}: regions must be from 0 to 2**31 - 2")
    return np.ascontiguousarray(labels, np.int32)


class _Cut:
    """An image and what its boundaries cost."""

    def __init__(self, image: CutImage, boundary: Boundary) -> None:
        self.image, self.boundary = image, boundary

    def regions(
        self, labels: NDArray[np.int32], costs: Any, seeds: list[NDArray[np.bool_]]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Cut between regions; return the mask, and the pixels of regions with both seeds."""
        n = int(labels.max()) + 1
        flat = labels.ravel()
        graph = Graph(n, np.float64)
        full = [self.image.full(offset) for offset in self.boundary.offsets]
        edges = core.region_edges(
            self.image.volume,
            labels.reshape(self.image.volume.shape[:3]),
            full,
            self.boundary.strengths,
            0.5 / self.boundary.sigma**2,
        )
        graph.add_edge(*edges)
        graph.add_terminal(*(np.bincount(flat, c.ravel(), n) for c in costs))
        foreground, background = (
            np.bincount(flat[s.ravel()], minlength=n).astype(np.bool_) for s in seeds
        )
        both = foreground & background
        graph.add_seeds(background & ~both, foreground & ~both)
        graph.maxflow()
        return graph.segments()[labels], both[labels]
