"""Live-wire: a contour that snaps to edges between the points a user sets."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_paths, _stencil
from medseg_fast import edges as _edges
from medseg_fast._cpu import core
from medseg_fast.components import fill_holes
from medseg_fast.gaussian import gaussian, gaussian_laplace
from medseg_fast.second_difference import zero_crossings

_NAME = "LiveWire"
_EVERY = np.iinfo(np.int64).max

Array = NDArray[Any]
Point = tuple[int, ...]
Weights = tuple[float, float, float]

WEIGHTS: Weights = (0.43, 0.14, 0.43)
"""Mortensen and Barrett's, of zero crossings, gradient magnitude and gradient direction."""


def edge_costs(
    image: Array, spacing: Sequence[float], sigma: float, weights: Weights = WEIGHTS
) -> tuple[NDArray[np.float32], Array]:
    """Cost of a pixel by zero crossings and gradient magnitude, 0 on a clear edge; the gradient."""
    smooth = gaussian(image, sigma, spacing=spacing, preserve_range=True)
    gradient = _checks.empty((smooth.ndim, *smooth.shape), smooth.dtype)
    for axis in range(smooth.ndim):
        _edges.sobel(smooth, axis=axis, spacing=spacing, out=gradient[axis])
    steep = np.sqrt(np.square(gradient).sum(axis=0, dtype=smooth.dtype))
    finite = steep[np.isfinite(steep)]
    most = float(finite.max()) if finite.size else 0.0
    crossing, magnitude, _ = weights
    costs = np.full(image.shape, crossing + magnitude, np.float32)
    if most > 0:
        costs -= (magnitude / most) * steep
        bends = gaussian_laplace(image, sigma, spacing=spacing, dtype=smooth.dtype)
        # Where the image is flat, rounding crosses zero.
        crossings = zero_crossings(bends) & (steep > most / 1000)
        costs -= np.float32(crossing) * crossings
    np.maximum(costs, 0, out=costs)  # what rounding left
    return costs, gradient


class LiveWire:
    """Intelligent scissors: the path of least cost from an anchor to the cursor, as it moves.

    A click sets an anchor (`seed`); `path` is the wire from there to any pixel, along edges; the
    next click keeps it and goes on from there; `close` leads back to the first anchor and `mask` is
    what the contour encloses. The search spreads from the anchor only as far as `path` asks, or
    `expand` in the time it is given, and is never done twice.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    sigma : float, optional
        Standard deviation in mm of the Gaussian that edges are looked for at.
    weights : sequence of three floats, optional
        What a pixel costs that is no zero crossing of the Laplacian, one without gradient (falling
        to 0 at the steepest), and a step that does not follow the edge at both its ends. The last
        only counts for 2D images.

    Attributes
    ----------
    shape : tuple of int
        Shape of the image.
    anchors : list of tuple of int
        Indices of the anchors set so far.
    closed : bool
        Whether the contour leads back to its first anchor.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If an argument does not fit.

    Notes
    -----
    A step to pixel q costs its length in mm times the sum of its three parts; zero crossings count
    where the gradient is more than a thousandth of the steepest. Paths do not touch
    pixels that NaN reaches by smoothing. Of paths of equal cost it is the one that
    `route_through_array` finds, however the search was cut into pieces.

    Building takes some filters over the image; a full search O(n log n) at most, in one thread;
    `path` after that time in proportion to the path; `seed` to what was searched before. Memory: 19
    bytes per pixel, and 24 for each pixel that waits at the front; while building 34 (58 for
    integer images and float64). Several threads may use one object, one after the other.

    References
    ----------
    .. [1] E. N. Mortensen, W. A. Barrett, "Intelligent scissors for image composition", SIGGRAPH
       1995, 191-198.
    .. [2] E. N. Mortensen, W. A. Barrett, "Interactive segmentation with intelligent scissors",
       Graphical Models and Image Processing 60 (1998) 349-384.
    .. [3] A. X. Falcao et al., "User-steered image segmentation paradigms: live wire and live
       lane", Graphical Models and Image Processing 60 (1998) 233-260.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((30, 30))
    >>> image[8:22, 8:22] = 100
    >>> wire = ms.LiveWire(image)
    >>> for corner in [(8, 8), (8, 21), (21, 21), (21, 8)]:
    ...     wire.seed(corner)
    >>> contour = wire.close()
    >>> bool(wire.mask()[image > 0].all()), len(contour)
    (True, 52)
    """

    def __init__(
        self,
        image: ArrayLike,
        *,
        spacing: Sequence[float] | None = None,
        sigma: float = 1.5,
        weights: Sequence[float] = WEIGHTS,
    ) -> None:
        array = _stencil.image(_NAME, image)
        sizes = _checks.spacing(_NAME, spacing, array.ndim)
        parts = tuple(float(_checks.number(_NAME, "weights", w)) for w in weights)
        if len(parts) != 3 or not all(0 <= w < math.inf for w in parts) or not any(parts):
            raise ValueError(
                f"{_NAME}: weights must be three numbers that are not negative, got {weights!r}"
            )
        wide = float(_checks.number(_NAME, "sigma", sigma))
        if not 0 <= wide < math.inf:
            raise ValueError(f"{_NAME}: sigma must be finite and not negative, got {sigma!r}")
        costs, gradient = edge_costs(array, sizes, wide, (parts[0], parts[1], parts[2]))
        offsets = _grid_paths.steps(array.ndim, array.ndim)
        if array.ndim == 2:
            search = core.search_live_wire(
                costs, gradient, offsets.tolist(), (offsets * sizes).tolist(), parts[2]
            )
        else:
            lengths = _grid_paths.lengths(offsets, sizes)
            search = core.search_costs(costs, offsets.tolist(), lengths, True, math.inf)
        self._begin(array.shape, search)

    @classmethod
    def from_costs(cls, costs: ArrayLike, *, spacing: Sequence[float] | None = None) -> LiveWire:
        """Make one that follows low values of your own costs.

        Parameters
        ----------
        costs : array_like
            At least 1D, of any number of dimensions; bool, integer or float. A step costs the mean
            of its pixels' costs times its length, as for `route_through_array`. Paths do not enter
            pixels of negative, infinite or NaN cost.
        spacing : sequence of float, optional
            Voxel size in mm along each axis; 1 by default.

        Returns
        -------
        wire : LiveWire
        """
        op = f"{_NAME}.from_costs"
        array = _grid_paths.image(op, costs, "costs")
        offsets = _grid_paths.steps(array.ndim, array.ndim)
        lengths = _grid_paths.lengths(offsets, _checks.spacing(op, spacing, array.ndim))
        wire = cls.__new__(cls)
        wire._begin(
            array.shape, core.search_costs(array, offsets.tolist(), lengths, True, math.inf)
        )
        return wire

    def _begin(self, shape: tuple[int, ...], search: Any) -> None:
        self.shape = shape
        self.anchors: list[Point] = []
        self.closed = False
        self._segments: list[NDArray[np.int64]] = []  # from each anchor to the next
        self._search = search
        self._finished = True
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<{_NAME} {self.shape}, {len(self.anchors)} anchors{state}>"

    def seed(self, point: Iterable[int]) -> None:
        """Set an anchor: keep the path to it from the last one, and search from here.

        Parameters
        ----------
        point : sequence of int
            Index of the anchor; negative numbers count from the end.

        Raises
        ------
        ValueError
            If it lies outside, no path leads there, or the contour is closed.
        """
        op = f"{_NAME}.seed"
        anchor = _grid_paths.point(op, "point", point, self.shape)
        with self._lock:
            if self.closed:
                raise ValueError(f"{op}: the contour is closed")
            if self.anchors:
                self._segments.append(self._path(op, anchor))
            self.anchors.append(anchor)
            self._start(anchor)

    def _start(self, anchor: Point) -> None:
        self._search.start(_grid_paths.flat([anchor], self.shape), None)
        self._finished = False

    def path(self, point: Iterable[int]) -> NDArray[np.int64]:
        """Return the wire from the last anchor to a pixel, say that under the cursor.

        Searches on until the pixel is reached, if it was not yet.

        Parameters
        ----------
        point : sequence of int
            Index of the pixel; negative numbers count from the end.

        Returns
        -------
        path : ndarray of int64, shape (pixels, ndim)
            From the last anchor to `point`, both included.

        Raises
        ------
        ValueError
            If it lies outside, no path leads there, or there is no anchor.
        """
        op = f"{_NAME}.path"
        with self._lock:
            return self._path(op, _grid_paths.point(op, "point", point, self.shape))

    def _path(self, op: str, point: Point) -> NDArray[np.int64]:
        if not self.anchors:
            raise ValueError(f"{op}: an anchor must be set first, by seed()")
        end = _grid_paths.flat([point], self.shape)
        target, ndim = int(end[0]), len(self.shape)
        path: NDArray[np.int64] = self._search.path(target).reshape(-1, ndim)
        if not len(path) and not self._finished:
            _, self._finished = self._search.run(end, 1, _EVERY, math.inf, math.inf)
            path = self._search.path(target).reshape(-1, ndim)
        if not len(path):
            raise ValueError(f"{op}: no path leads to point {point}")
        return path

    def cost(self, point: Iterable[int]) -> float:
        """Return the cost of the path to a pixel; infinity where no path leads.

        Parameters
        ----------
        point : sequence of int
            Index of the pixel.
        """
        op = f"{_NAME}.cost"
        end = _grid_paths.point(op, "point", point, self.shape)
        with self._lock:
            try:
                self._path(op, end)
            except ValueError:
                if not self.anchors:
                    raise
                return math.inf
            return float(self._search.cost(int(_grid_paths.flat([end], self.shape)[0])))

    def expand(self, *, max_seconds: float | None = None, max_pixels: int | None = None) -> bool:
        """Search on from the last anchor, so that later paths are there at once.

        Parameters
        ----------
        max_seconds : float, optional
            Stop after this time, to draw the next frame; the next call goes on from there.
        max_pixels : int, optional
            Stop after so many pixels.

        Returns
        -------
        finished : bool
            Whether every pixel that a path leads to is reached.

        Raises
        ------
        ValueError
            If there is no anchor, or a limit is negative.
        """
        op = f"{_NAME}.expand"
        seconds, pixels = math.inf, _EVERY
        if max_seconds is not None:
            seconds = float(_checks.number(op, "max_seconds", max_seconds))
            if seconds < 0:
                raise ValueError(f"{op}: max_seconds must not be negative, got {max_seconds!r}")
        if max_pixels is not None:
            pixels = _checks.integer(op, "max_pixels", max_pixels, 0)
        with self._lock:
            if not self.anchors:
                raise ValueError(f"{op}: an anchor must be set first, by seed()")
            if not self._finished:
                nowhere = np.zeros(0, np.int64)
                _, self._finished = self._search.run(nowhere, -1, pixels, math.inf, seconds)
            return self._finished

    def undo(self) -> Point | None:
        """Open a closed contour again; else take the last anchor back, and what led to it.

        Returns
        -------
        anchor : tuple of int or None
            The anchor that was taken back; None if the contour was closed.

        Raises
        ------
        ValueError
            If there is no anchor.
        """
        with self._lock:
            if not self.anchors:
                raise ValueError(f"{_NAME}.undo: there is no anchor")
            if self.closed:
                self.closed = False
                self._segments.pop()
                return None
            anchor = self.anchors.pop()
            if self.anchors:
                self._segments.pop()
                self._start(self.anchors[-1])
            return anchor

    def close(self) -> NDArray[np.int64]:
        """Lead the wire back to the first anchor, and return the closed contour.

        Returns
        -------
        contour : ndarray of int64, shape (pixels, ndim)
            As for `contour`.

        Raises
        ------
        ValueError
            If there are less than two anchors or the contour is closed.
        """
        op = f"{_NAME}.close"
        with self._lock:
            if self.closed or len(self.anchors) < 2:
                raise ValueError(f"{op}: needs two anchors at least and an open contour")
            self._segments.append(self._path(op, self.anchors[0]))
            self.closed = True
            return self.contour()

    def contour(self) -> NDArray[np.int64]:
        """Return the wire through all anchors.

        Returns
        -------
        contour : ndarray of int64, shape (pixels, ndim)
            Neighbouring pixels, each anchor once; the first pixel of a closed contour is not
            repeated at its end.
        """
        with self._lock:
            if not self.anchors:
                return np.zeros((0, len(self.shape)), np.int64)
            parts = [segment[:-1] for segment in self._segments]
            if not self.closed:
                parts.append(np.array([self.anchors[-1]], np.int64))
            return np.concatenate(parts)

    def mask(self, *, out: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Return what the closed contour encloses, the contour included.

        Parameters
        ----------
        out : ndarray of bool, optional
            Array of the image's shape that receives the mask.

        Returns
        -------
        mask : ndarray of bool
            Everything that no path along pixels' sides connects with the border, but through the
            contour: where it crosses itself, all its loops.

        Raises
        ------
        ValueError
            If the contour is not closed or the image not 2D.
        """
        op = f"{_NAME}.mask"
        if len(self.shape) != 2:
            raise ValueError(f"{op}: the image must be 2D, got shape {self.shape}")
        mask = _checks.output(op, out, self.shape, np.bool_)
        with self._lock:
            if not self.closed:
                raise ValueError(f"{op}: the contour must be closed first, by close()")
            contour = self.contour()
        mask[...] = False
        mask[tuple(contour.T)] = True
        return fill_holes(mask, out=mask)
