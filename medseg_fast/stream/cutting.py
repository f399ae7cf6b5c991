"""Minimum cuts for a stream: each goes on from the flow of the frame before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._cut_costs import (
    CutImage,
    Histograms,
    boundary_strength,
    contrast_scale,
    metric,
)
from medseg_fast._grid_arguments import grid_offsets
from medseg_fast.grid_graph import GridGraph
from medseg_fast.stream.plans import _Plan, digest

__all__ = ["GraphCutPlan"]

# Capacities are integers, so that no rounding adds up over hours of frames: this many for a cost
# of 1, which is a factor e of probability.
_UNIT = 1 << 12


class CutModel(NamedTuple):
    """What a cut knows before it sees an image; images of any size may share it.

    Attributes
    ----------
    sigma : float
        Contrast of an edge.
    intensities : Histograms or None
        Of both regions.
    """

    sigma: float
    intensities: Histograms | None

    def settings(self) -> list[Any]:
        """All numbers that it consists of."""
        tables = self.intensities
        return [self.sigma, *(vars(tables).values() if tables is not None else ())]

    @classmethod
    def learn(
        cls,
        op: str,
        image: ArrayLike,
        foreground: ArrayLike,
        background: ArrayLike,
        *,
        sigma: float | None,
        connectivity: int,
        spacing: Sequence[float] | None,
        region: str | None = "histogram",
    ) -> CutModel:
        """From an image and masks of both regions, as `GraphCutPlan.learn`."""
        given = CutImage(op, image, None, spacing)
        scale = sigma or contrast_scale(given, grid_offsets(len(given.shape), connectivity))
        if region is None:
            return cls(scale, None)
        masks = []
        for name, value in (("foreground", foreground), ("background", background)):
            mask = given.mask(op, name, value)
            if not mask.any():
                raise ValueError(f"{op}: {name} must have at least one pixel")
            masks.append(mask)
        return cls(scale, Histograms(given, *masks))


class GraphCutPlan(_Plan):
    """`graph_cut` for a stream: the flow of one frame is where the next begins.

    Parameters
    ----------
    shape, dtype
        Of every image.
    foreground_seeds, background_seeds : array_like of bool
        Masks of pixels that are known, for every frame; `set_seeds` changes them.
    lambda_, connectivity, spacing
        As for `graph_cut`.
    sigma : float, optional
        As for `graph_cut`. Default: measured in the image that intensities are learned from.
    region : {"histogram", None}, optional
        As for `graph_cut`; the intensities are those of the seeds in the first image, until `learn`
        is told others.

    Notes
    -----
    The mask is that of `graph_cut` on each image with this model, but for capacities rounded to
    1 / 4096; it does not depend on the frames before. What capacities lost is taken back from the
    flow (Kohli and Torr 2007). About a third of the time of a cut from scratch where all pixels
    change a little, as in ultrasound. Memory: the `GridGraph`, and 28 + 4 n bytes per pixel for n
    offsets.

    References
    ----------
    P. Kohli and P. Torr (2007), "Dynamic graph cuts for efficient inference in Markov random
    fields", IEEE PAMI 29(12):2079-2088.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.stream import GraphCutPlan
    >>> frames = np.zeros((3, 20, 30), np.uint8)
    >>> for t, frame in enumerate(frames):
    ...     frame[5:15, 5 + 3 * t : 15 + 3 * t] = 90
    >>> inside, outside = np.zeros((2, 20, 30), bool)
    >>> inside[10, 12], outside[:, 0] = True, True
    >>> cut = GraphCutPlan((20, 30), np.uint8, inside, outside)
    >>> [int(cut(frame).sum()) for frame in frames]
    [100, 100, 100]
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike,
        foreground_seeds: ArrayLike,
        background_seeds: ArrayLike,
        *,
        lambda_: float = 4.0,
        sigma: float | None = None,
        connectivity: int = 1,
        spacing: Sequence[float] | None = None,
        region: str | None = "histogram",
    ) -> None:
        super().__init__(shape, dtype)
        op, ndim = self._op, len(self.shape)
        if not 1 <= ndim <= 3:
            raise ValueError(f"{op}: shape must have one to three axes, got {self.shape}")
        if region not in ("histogram", None):
            raise ValueError(f'{op}: region must be "histogram" or None, got {region!r}')
        if sigma is not None and not 0 < sigma < math.inf:
            raise ValueError(f"{op}: sigma must be positive and finite, got {sigma!r}")
        self._connectivity = _checks.integer(op, "connectivity", connectivity, 1, ndim)
        self._spacing = _checks.spacing(op, spacing, ndim)
        self._lambda, self._given_sigma, self._region = lambda_, sigma, region
        strength = boundary_strength(op, lambda_)
        lengths = metric(tuple(grid_offsets(ndim, self._connectivity)), self._spacing)
        self._strengths = [_UNIT * strength * length for length in lengths]
        # More than all edges of a pixel and what it costs in its region.
        seed_cost = math.ceil(4 * sum(self._strengths) + _UNIT * Histograms.MOST) + 1
        if 4 * seed_cost > np.iinfo(np.int32).max:
            raise ValueError(f"{op}: lambda_ must be lower, got {lambda_!r}")
        self._seed_cost = np.int32(seed_cost)

        self.model: CutModel | None = None  # until `learn`
        self._first_frame: CutModel | None = None  # the model, where no one told another
        self._graph = GridGraph(self.shape, self._connectivity, np.int32)
        self._mask = np.zeros(self.shape, bool)
        self._costs = np.zeros((2, *self.shape), np.float32)
        self._weights = self._costs[0]
        self._terminal, self._new, self._change, self._zeros = np.zeros((4, *self.shape), np.int32)
        self._edges = [np.zeros(self.shape, np.int32) for _ in self._graph.offsets]
        self._foreground = self._background = self._mask
        self.set_seeds(foreground_seeds, background_seeds)

    def set_seeds(
        self,
        foreground: ArrayLike | None = None,
        background: ArrayLike | None = None,
    ) -> None:
        """Use other seeds from the next image on; None leaves those of one region as they are.

        The masks are used as they are then, not copied; no pixel may be in both.
        """
        pair = []
        for name, given, now in (
            ("foreground_seeds", foreground, self._foreground),
            ("background_seeds", background, self._background),
        ):
            mask = now if given is None else _checks.mask(self._op, given, name)
            if mask.shape != self.shape:
                raise ValueError(
                    f"{self._op}: {name} must have shape {self.shape}, got {mask.shape}"
                )
            pair.append(mask)
        if np.logical_and(*pair).any():
            raise ValueError(
                f"{self._op}: foreground_seeds and background_seeds must have no pixel in common"
            )
        self._foreground, self._background = pair

    def learn(self, image: ArrayLike, foreground: ArrayLike, background: ArrayLike) -> None:
        """Take the intensities of both regions, and the contrast of an edge, from an image.

        Parameters
        ----------
        image : array_like
        foreground, background : array_like of bool
            Pixels of either region, at least one each; they do not become seeds.
        """
        self.model = CutModel.learn(
            self._op,
            self.checked(image),
            foreground,
            background,
            sigma=self._given_sigma,
            connectivity=self._connectivity,
            spacing=self._spacing,
            region=self._region,
        )

    def restart(self) -> None:
        """Forget what the first image told: the next one is the first again.

        What `learn` was told stays.
        """
        if self.model is self._first_frame:
            self.model = None

    def __call__(self, image: ArrayLike) -> NDArray[np.bool_]:
        """The foreground of one image; the next call overwrites it."""
        array = self.checked(image)
        if self.model is None:
            self.learn(array, self._foreground, self._background)
            self._first_frame = self.model
        assert self.model is not None
        given = CutImage(self._op, array, None, self._spacing)
        self._change_edges(given, self.model.sigma)
        self._change_terminals(given, self.model.intensities)
        self._graph.maxflow()
        return self._graph.segments(out=self._mask)

    def _change_edges(self, given: CutImage, sigma: float) -> None:
        weights = self._weights.reshape(given.volume.shape[:3])
        steps = zip(self._graph.offsets, self._strengths, self._edges, strict=True)
        for offset, strength, edges in steps:
            core.contrast_weights(
                given.volume, given.full(offset), strength, 0.5 / sigma**2, weights
            )
            np.rint(self._weights, out=self._weights)
            np.copyto(self._new, self._weights, casting="unsafe")
            np.subtract(self._new, edges, out=self._change)
            self._graph.change_edges(offset, self._change)
            np.copyto(edges, self._new)

    def _change_terminals(self, given: CutImage, intensities: Histograms | None) -> None:
        """Positive: capacity from the source, which is what a pixel costs in the foreground."""
        if intensities is None:
            self._new[...] = 0
        else:
            intensities.costs(given, out=self._costs)
            inside, outside = self._costs
            np.subtract(inside, outside, out=inside)
            np.multiply(inside, _UNIT, out=inside)
            np.rint(inside, out=inside)
            np.copyto(self._new, inside, casting="unsafe")
        np.copyto(self._new, self._seed_cost, where=self._background)
        np.copyto(self._new, -self._seed_cost, where=self._foreground)
        np.subtract(self._new, self._terminal, out=self._change)
        self._graph.change_terminal(self._change, self._zeros)
        np.copyto(self._terminal, self._new)

    def _settings(self) -> dict[str, Any]:
        told = self.model if self.model is not self._first_frame else None
        return {
            "foreground_seeds": digest(self._foreground),
            "background_seeds": digest(self._background),
            "model": told and digest(told.settings()),
            "lambda_": self._lambda,
            "sigma": self._given_sigma,
            "connectivity": self._connectivity,
            "spacing": self._spacing,
            "region": self._region,
        }
