"""Foreground and background from seeds, by one minimum cut; and brush stroke by brush stroke."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cut_costs import (
    CutImage,
    add_boundary,
    boundary_strength,
    contrast_sigma,
    cut_like,
    metric,
    region_costs,
    region_model,
)
from medseg_fast._dispatch import operation
from medseg_fast._grid_arguments import grid_offsets
from medseg_fast._pixel_cut import Boundary, Mask
from medseg_fast._slab_cut import cut_slabs
from medseg_fast.grid_graph import GridGraph

Region = Literal["histogram", "gmm"] | Callable[..., Any] | None


@operation(result=cut_like)
def graph_cut(
    image: ArrayLike,
    foreground_seeds: ArrayLike,
    background_seeds: ArrayLike,
    *,
    lambda_: float = 4.0,
    sigma: float | None = None,
    connectivity: int = 1,
    spacing: Sequence[float] | None = None,
    region: Region = "histogram",
    channel_axis: int | None = None,
    slab: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Segment an object from seeds inside and outside, by the minimum cut.

    Boykov and Jolly's energy: of all masks that hold the foreground's seeds and none of the
    background's, the one of the least sum of what its pixels cost in their region and what its
    boundary costs.

    Parameters
    ----------
    image : array_like
        One to three dimensions, any dtype, and channels if `channel_axis` is given. Finite.
    foreground_seeds, background_seeds : array_like
        Masks of the image's shape without channels: pixels that are known.
    lambda_ : float, optional
        What a boundary without contrast costs, per mm (any unit of `spacing`) and pixel, against
        the region's costs, which are negative logarithms of probabilities.
    sigma : float, optional
        Difference in intensity that counts as an edge: the boundary costs ``lambda_ *
        exp(-d**2 / (2 * sigma**2))`` there. Default: the root mean square of the differences
        between all neighbours.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one; more make boundaries smoother, cost
        more time and memory.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in mm. Default: 1. The boundary is measured in mm
        (Boykov and Kolmogorov 2003), so voxels may be of any shape.
    region : {"histogram", "gmm", None} or callable, optional
        How a pixel's costs follow from the intensities of the seeds: 64 bins over the image's
        range, smoothed; a mixture of five normal distributions (for channels); not at all; or
        ``region(image, foreground, background)``, which returns two arrays, the costs of every
        pixel in the foreground and in the background.
    channel_axis : int, optional
        Axis of the channels; None for an image of grey values.
    slab : int, optional
        For volumes whose graph does not fit into memory: cut so many planes of the first axis at a
        time, then what they leave open. The mask is the same (but for what rounding decides).
    out : ndarray of bool, optional
        Array that receives the mask.

    Returns
    -------
    mask : ndarray of bool
        True in the foreground. Where both cost the same, background.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the image is not finite, a seed is missing or in both masks, shapes do not fit, a
        parameter is out of range, or `region` returns no such costs.

    Notes
    -----
    Capacities are float32, contrast is computed to 1e-6 of its value. Time and memory are those of
    `GridGraph`, and 13 bytes per pixel. All threads.

    With `slab`: memory for a graph of one and a half times as many planes, 3 bytes per pixel of the
    image and about 250 per pixel that its slab leaves open. On scans with a model of intensities
    hardly any is open and the time is that of one cut; without one (`region` None) most may be,
    then a graph of their bounding box is cut, and nothing is gained. A volume of 512 x 512 x 256
    bytes takes 3.1 GiB at once, 0.9 GiB by 32 planes.

    References
    ----------
    Y. Boykov and M.-P. Jolly (2001), "Interactive graph cuts for optimal boundary & region
    segmentation of objects in N-D images", ICCV, 105-112.

    Y. Boykov and V. Kolmogorov (2003), "Computing geodesics and minimal surfaces via graph cuts",
    ICCV, 26-33.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0, 1, 0, 9, 8, 9, 1, 0]])
    >>> inside, outside = np.zeros((2, 1, 8), bool)
    >>> inside[0, 4] = outside[0, 0] = True
    >>> ms.graph_cut(image, inside, outside, lambda_=1).astype(int)
    array([[0, 0, 0, 1, 1, 1, 0, 0]])
    """
    op = "graph_cut"
    if slab is None:
        session = GraphCutSession(
            image,
            lambda_=lambda_,
            sigma=sigma,
            connectivity=connectivity,
            spacing=spacing,
            region=region,
            channel_axis=channel_axis,
            _op=op,
        )
        session.add_seeds(foreground_seeds, background_seeds)
        return session.mask(out=out)
    planes = _checks.integer(op, "slab", slab, 1)
    problem = _problem(op, image, lambda_, sigma, connectivity, spacing, region, channel_axis)
    foreground = problem.image.mask(op, "foreground_seeds", foreground_seeds)
    background = problem.image.mask(op, "background_seeds", background_seeds)
    _check_seeds(op, foreground, background)
    out = _checks.output(op, out, problem.image.shape, np.bool_)
    _check_modelled(op, region, foreground, background)
    model = region_model(op, problem.image, region, foreground, background, image)
    out[...] = cut_slabs(
        problem.image,
        problem.boundary,
        problem.connectivity,
        model,
        (foreground, background),
        planes,
    )
    return out


class _Problem(NamedTuple):
    """Arguments that a cut from seeds has, checked."""

    image: CutImage
    connectivity: int
    boundary: Boundary


def _problem(
    op: str,
    image: Any,
    lambda_: float,
    sigma: float | None,
    connectivity: int,
    spacing: Any,
    region: Region,
    channel_axis: int | None,
) -> _Problem:
    given = CutImage(op, image, channel_axis, spacing)
    if not (callable(region) or region in ("histogram", "gmm", None)):
        raise ValueError(
            f'{op}: region must be "histogram", "gmm", a function or None, got {region!r}'
        )
    strength = boundary_strength(op, lambda_)
    connectivity = _checks.integer(op, "connectivity", connectivity, 1, len(given.shape))
    offsets = grid_offsets(len(given.shape), connectivity)
    sigma = contrast_sigma(op, sigma, given, offsets)
    lengths = metric(tuple(offsets), given.spacing)
    return _Problem(given, connectivity, Boundary(offsets, [strength * d for d in lengths], sigma))


def _check_seeds(op: str, foreground: Mask | None, background: Mask | None) -> None:
    if foreground is not None and background is not None and (foreground & background).any():
        raise ValueError(f"{op}: foreground and background must have no pixel in common")


def _check_modelled(op: str, region: Region, foreground: Mask, background: Mask) -> None:
    for name, seeds in (("foreground", foreground), ("background", background)):
        if region in ("histogram", "gmm") and not seeds.any():
            raise ValueError(f"{op}: {name} must have at least one seed")


_NONE, _FOREGROUND, _BACKGROUND = 0, 1, 2


class GraphCutSession:
    """An image being segmented by one brush stroke after the other.

    `mask` solves from scratch once; after more seeds it goes on from the flow and the search trees
    it has, which takes a fraction.

    Parameters
    ----------
    image, lambda_, sigma, connectivity, spacing, region, channel_axis
        As for `graph_cut`. Where `region` is a model of the seeds' intensities it is made at the
        first `mask` and then kept; `update_region` makes it anew.

    Attributes
    ----------
    shape : tuple of int
        Of the mask.
    sigma : float
        As given, or as measured.

    Raises
    ------
    TypeError, ValueError
        As `graph_cut`.

    Notes
    -----
    Memory: the image, its `GridGraph`, and 9 bytes per pixel. Not for two threads at once.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> session = ms.GraphCutSession(np.array([[0, 1, 0, 9, 8, 9, 1, 0]]), lambda_=1)
    >>> session.add_seeds(foreground=np.array([[0, 0, 0, 0, 1, 0, 0, 0]]))
    >>> session.add_seeds(background=np.array([[1, 0, 0, 0, 0, 0, 0, 0]]))
    >>> session.mask().astype(int)
    array([[0, 0, 0, 1, 1, 1, 0, 0]])
    >>> session.add_seeds(background=np.array([[0, 0, 0, 1, 0, 0, 0, 0]]))
    >>> session.mask().astype(int)
    array([[0, 0, 0, 0, 1, 1, 0, 0]])
    """

    def __init__(
        self,
        image: ArrayLike,
        *,
        lambda_: float = 4.0,
        sigma: float | None = None,
        connectivity: int = 1,
        spacing: Sequence[float] | None = None,
        region: Region = "histogram",
        channel_axis: int | None = None,
        _op: str = "GraphCutSession",
    ) -> None:
        self._op = _op
        self._given = image
        problem = _problem(_op, image, lambda_, sigma, connectivity, spacing, region, channel_axis)
        self._image, self._region = problem.image, region
        self.shape = self._image.shape
        self.sigma = problem.boundary.sigma
        self._graph = GridGraph(self.shape, problem.connectivity, np.float32)
        strengths = problem.boundary.strengths
        add_boundary(self._graph, self._image, strengths, self.sigma)
        self._seed_cost = 4 * sum(strengths) + 1  # more than all edges of a pixel
        self._state = np.zeros(self.shape, np.uint8)
        self._costs: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def add_seeds(
        self, foreground: ArrayLike | None = None, background: ArrayLike | None = None
    ) -> None:
        """Add pixels that are known; where they were in the other region, the new word counts.

        Parameters
        ----------
        foreground, background : array_like, optional
            Masks of the image's shape without channels.

        Raises
        ------
        ValueError
            If a pixel is in both, or a mask does not fit.
        """
        op = f"{self._op}.add_seeds" if self._op == "GraphCutSession" else self._op
        suffix = "" if self._op == "GraphCutSession" else "_seeds"
        masks = [
            self._mask(op, name + suffix, value)
            for name, value in (("foreground", foreground), ("background", background))
        ]
        _check_seeds(op, *masks)
        for mask, state in zip(masks, (_FOREGROUND, _BACKGROUND), strict=True):
            if mask is not None:
                self._set(mask, state)

    def remove_seeds(self, pixels: ArrayLike) -> None:
        """Make pixels unknown again."""
        mask = self._mask(f"{self._op}.remove_seeds", "pixels", pixels)
        if mask is not None:
            self._set(mask, _NONE)

    def _mask(self, op: str, name: str, value: Any) -> NDArray[np.bool_] | None:
        return None if value is None else self._image.mask(op, name, value)

    def _set(self, mask: NDArray[np.bool_], state: int) -> None:
        at = np.flatnonzero(mask)
        at = at[self._state.reshape(-1)[at] != state]
        if self._costs is not None and at.size:
            before = self._terminals(at)
            self._state.reshape(-1)[at] = state
            change = [new - old for new, old in zip(self._terminals(at), before, strict=True)]
            self._graph.change_terminal(*change, at=np.unravel_index(at, self.shape))
        self._state.reshape(-1)[at] = state

    def _terminals(self, at: Any) -> list[NDArray[np.float32]]:
        """Capacities from the source and to the sink; the sink's side is the foreground."""
        assert self._costs is not None
        state = self._state.reshape(-1)[at]
        return [
            np.where(state == _NONE, cost.reshape(-1)[at], np.float32(self._seed_cost))
            * (state != seed)
            for cost, seed in zip(self._costs, (_FOREGROUND, _BACKGROUND), strict=True)
        ]

    def update_region(self) -> None:
        """Make the model of intensities from all seeds so far; the next `mask` uses it."""
        op, foreground = self._op, self._state == _FOREGROUND
        background = self._state == _BACKGROUND
        _check_modelled(op, self._region, foreground, background)
        every = slice(None)
        before = None if self._costs is None else self._terminals(every)
        self._costs = region_costs(
            op, self._image, self._region, foreground, background, self._given
        )
        source, sink = (a.reshape(self.shape) for a in self._terminals(every))
        if before is None:
            self._graph.add_terminal(source, sink)
        else:
            source, sink = (
                source - before[0].reshape(self.shape),
                sink - before[1].reshape(self.shape),
            )
            self._graph.change_terminal(source, sink)

    def mask(self, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return the foreground: the mask of least energy that holds all seeds."""
        op = f"{self._op}.mask" if self._op == "GraphCutSession" else self._op
        out = _checks.output(op, out, self.shape, np.bool_)
        if self._costs is None:
            self.update_region()
        self._graph.maxflow()
        return self._graph.segments(out=out)
