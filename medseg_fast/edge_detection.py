"""One call for every way to find edges, and a measure to compare them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast import cross_difference as _cross
from medseg_fast import edges as _edges
from medseg_fast._dispatch import operation
from medseg_fast.boundaries import find_boundaries
from medseg_fast.canny import canny
from medseg_fast.edge_flow import edge_flow
from medseg_fast.gaussian import gaussian, gaussian_laplace
from medseg_fast.initial_shapes import disk_level_set
from medseg_fast.level_set import LevelSetResult, chan_vese_level_set, geodesic_active_contour
from medseg_fast.live_wire import WEIGHTS, LiveWire, edge_costs
from medseg_fast.morphological_snakes import inverse_gaussian_gradient
from medseg_fast.morphology import erosion, morphological_gradient
from medseg_fast.second_difference import zero_crossings
from medseg_fast.threshold_histogram import threshold_otsu
from medseg_fast.watershed import watershed
from medseg_fast.watershed_hierarchy import markers_from_minima

Array = NDArray[Any]


class EdgeResult(NamedTuple):
    """What every method of `detect_edges` finds."""

    strength: Array
    """How steep the image is at each pixel, in the method's units; float32 or float64."""
    edges: NDArray[np.bool_]
    """The edges."""
    direction: Array
    """Unit vector of the steepest rise at each pixel, (ndim, \\*shape); 0 where there is none."""


# ``find(image, spacing, **options) -> strength, edges, smoothed image``, by name.
Find = Callable[..., tuple[Array, NDArray[np.bool_], Array]]
EDGE_METHODS: dict[str, Find] = {}
# The families of Umbaugh's survey, and the methods of each in the order of their registration.
EDGE_FAMILIES: dict[str, list[str]] = {
    "pixel attributes": [],
    "deformable templates": [],
    "mathematical morphology": [],
    "cost functions": [],
    "edge flow": [],
}


def edge_method(*names: str, family: str = "pixel attributes") -> Callable[[Find], Find]:
    """Register a function as a method of `detect_edges`, in one of `EDGE_FAMILIES`."""

    def register(find: Find) -> Find:
        EDGE_METHODS.update(dict.fromkeys(names, find))
        EDGE_FAMILIES[family].extend(names)
        return find

    return register


def needed_options(method: str) -> list[str]:
    """Options that a method of `detect_edges` cannot do without."""
    return [
        name
        for name, option in inspect.signature(EDGE_METHODS[method]).parameters.items()
        if option.kind is option.KEYWORD_ONLY and option.default is option.empty
    ]


def _above(strength: Array, threshold: float | None) -> NDArray[np.bool_]:
    """Where strength exceeds a threshold, by default Otsu's."""
    if threshold is None:
        finite = strength[np.isfinite(strength)]
        if finite.size == 0:
            return np.zeros(strength.shape, np.bool_)
        threshold = float(threshold_otsu(finite))
    return np.asarray(strength > threshold)


def _smooth(image: Array, sigma: float, spacing: Sequence[float]) -> Array:
    """In the image's units."""
    return gaussian(image, sigma, spacing=spacing, preserve_range=True)


def _slope(smooth: Array, spacing: Sequence[float]) -> Array:
    """Length of the gradient per mm."""
    return _edges.sobel(smooth, spacing=spacing) * (math.sqrt(smooth.ndim) / 2)


def _gradient(name: str) -> Find:
    def find(
        image: Array,
        spacing: Sequence[float],
        *,
        sigma: float = 0.0,
        threshold: float | None = None,
    ) -> tuple[Array, NDArray[np.bool_], Array]:
        smooth = _smooth(image, sigma, spacing)
        if name == "roberts":
            strength = _cross.roberts(smooth)
        else:
            strength = getattr(_edges, name)(smooth, spacing=spacing)
        return strength, _above(strength, threshold), smooth

    return find


for _name in ("sobel", "prewitt", "scharr", "farid", "roberts"):
    edge_method(_name)(_gradient(_name))


@edge_method("canny")
def _canny(
    image: Array, spacing: Sequence[float], *, sigma: float = 1.0, **options: Any
) -> tuple[Array, NDArray[np.bool_], Array]:
    smooth = _smooth(image, sigma, spacing)
    if not {"low_threshold", "high_threshold", "convention"} & options.keys():
        options = {**options, "use_quantiles": True, "low_threshold": 0.8, "high_threshold": 0.9}
    edges = canny(image, sigma, spacing=spacing, **options)
    return _slope(smooth, spacing), edges, smooth


@edge_method("zero_crossings")
def _zero_crossings(
    image: Array, spacing: Sequence[float], *, sigma: float = 2.0, threshold: float | None = None
) -> tuple[Array, NDArray[np.bool_], Array]:
    smooth = _smooth(image, sigma, spacing)
    strength = _slope(smooth, spacing)
    precise = np.float64 if strength.dtype == np.float64 else np.float32
    crossings = zero_crossings(gaussian_laplace(image, sigma, spacing=spacing, dtype=precise))
    return strength, crossings & _above(strength, threshold), smooth


@edge_method("morphological", family="mathematical morphology")
def _morphological(
    image: Array, spacing: Sequence[float], *, scales: int = 3, threshold: float | None = None
) -> tuple[Array, NDArray[np.bool_], Array]:
    strength = multiscale_morphological_gradient(image, scales)
    return strength, _above(strength, threshold), _smooth(image, 0.0, spacing)


@edge_method("watershed", family="mathematical morphology")
def _watershed(
    image: Array, spacing: Sequence[float], *, scales: int = 3, h: float | None = None
) -> tuple[Array, NDArray[np.bool_], Array]:
    strength = multiscale_morphological_gradient(image, scales)
    if h is None:
        h = float(np.ptp(strength)) / 10 if strength.size else 0.0
    labels = watershed(strength, markers_from_minima(strength, h=h), watershed_line=True)
    return strength, labels == 0, _smooth(image, 0.0, spacing)


@edge_method("live_wire", family="cost functions")
def _live_wire(
    image: Array,
    spacing: Sequence[float],
    *,
    points: Sequence[Sequence[int]],
    closed: bool = False,
    sigma: float = 1.5,
) -> tuple[Array, NDArray[np.bool_], Array]:
    if len(points) < 2:
        raise ValueError(f"detect_edges: points must be two at least, got {len(points)}")
    wire = LiveWire(image, spacing=spacing, sigma=sigma)
    for point in points:
        wire.seed(point)
    edges = np.zeros(image.shape, np.bool_)
    edges[tuple((wire.close() if closed else wire.contour()).T)] = True
    smooth = _smooth(image, sigma, spacing)
    costs, _ = edge_costs(image, spacing, sigma)
    return (1 - costs / np.float32(sum(WEIGHTS[:2]))).astype(smooth.dtype), edges, smooth


def _contour(
    image: Array,
    spacing: Sequence[float],
    sigma: float,
    init: ArrayLike | None,
    evolve: Callable[[Array, float, ArrayLike], LevelSetResult],
) -> tuple[Array, NDArray[np.bool_], Array]:
    """The outermost pixels of where ``evolve(smooth image, its range, start)`` comes to rest."""
    smooth = _smooth(image, sigma, spacing)
    height = float(np.ptp(smooth)) if smooth.size else 0.0
    edges = np.zeros(image.shape, np.bool_)
    if height > 0:
        start = disk_level_set(image.shape, spacing=spacing) if init is None else init
        mask = evolve(smooth, height, start).mask
        edges = find_boundaries(mask, mode="inner") & mask
    return _slope(smooth, spacing), edges, smooth


@edge_method("chan_vese", family="deformable templates")
def _chan_vese(
    image: Array,
    spacing: Sequence[float],
    *,
    sigma: float = 0.0,
    init: ArrayLike | None = None,
    **options: Any,
) -> tuple[Array, NDArray[np.bool_], Array]:
    def evolve(smooth: Array, height: float, start: ArrayLike) -> LevelSetResult:
        return chan_vese_level_set(smooth, start, spacing=spacing, **options)

    return _contour(image, spacing, sigma, init, evolve)


@edge_method("geodesic_contour", family="deformable templates")
def _geodesic_contour(
    image: Array,
    spacing: Sequence[float],
    *,
    sigma: float = 1.0,
    alpha: float = 300.0,
    init: ArrayLike | None = None,
    **options: Any,
) -> tuple[Array, NDArray[np.bool_], Array]:
    def evolve(smooth: Array, height: float, start: ArrayLike) -> LevelSetResult:
        speed = inverse_gaussian_gradient(image, alpha / height, sigma, spacing=spacing)
        weights = {
            "propagation_scaling": -0.3,
            "curvature_scaling": 0.2,
            "advection_scaling": 1.5,
            **options,
        }
        return geodesic_active_contour(speed, start, spacing=spacing, **weights)

    return _contour(image, spacing, sigma, init, evolve)


@edge_method("edge_flow", family="edge flow")
def _edge_flow(
    image: Array,
    spacing: Sequence[float],
    *,
    scale: float = 2.0,
    closed: bool = False,
    **options: Any,
) -> tuple[Array, NDArray[np.bool_], Array]:
    found = edge_flow(image, scale, closed=closed, spacing=spacing, **options)
    smooth = _smooth(image, scale, spacing)
    return found.strength.astype(smooth.dtype, copy=False), found.edges, smooth


@operation(result=None)
def detect_edges(
    image: ArrayLike,
    method: str = "canny",
    *,
    spacing: Sequence[float] | None = None,
    **options: Any,
) -> EdgeResult:
    """Edges by any method, in one form: how steep, where, which way up.

    Parameters
    ----------
    image : array_like
        At least 1D (2D for "roberts"); bool, integer or float.
    method : str, optional
        "sobel", "prewitt", "scharr", "farid", "roberts": magnitude of differences of the image
        smoothed by ``sigma=0``, where it exceeds ``threshold=``.
        "canny" (``sigma=1`` and other options of `canny`; without thresholds the quantiles 0.8 and
        0.9).
        "zero_crossings" of the Laplacian of a Gaussian, ``sigma=2``, where the gradient exceeds
        ``threshold=``.
        "morphological": `multiscale_morphological_gradient` of ``scales=3``, where it exceeds
        ``threshold=``.
        "watershed": the watershed lines of that gradient, from its minima deeper than ``h=`` (by
        default a tenth of its range).
        "live_wire": the paths of `LiveWire` through ``points=``, indices on the edge in their
        order, and back to the first if ``closed=True``, ``sigma=1.5``; strength is 1 on a clear
        edge and 0 where there is none.
        "chan_vese": the contour of `chan_vese_level_set` (``sigma=0`` and its options) from
        ``init=``, by default a ball of 3/8 of the shortest side.
        "geodesic_contour": that of `geodesic_active_contour`, which shrinks from ``init=`` to the
        edges (its options, by default ``propagation_scaling=-0.3``, ``curvature_scaling=0.2``,
        ``advection_scaling=1.5``) on the `inverse_gaussian_gradient` of ``sigma=1`` and
        ``alpha=300`` over the image's range.
        The last two take images of two and three dimensions without NaN.
        "edge_flow": where edge flow of ``scale=2`` meets, with ``closed=True`` only around regions,
        and other options of `edge_flow`; 2D.
        A threshold of None is Otsu's of the strength.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; sigma is in mm, then. 1 by default.
    **options
        Of the method, see there.

    Returns
    -------
    result : EdgeResult
        ``strength`` (float32 for float16 and float32 images, else float64), ``edges`` (bool) and
        ``direction``, unit vectors of the gradient of the smoothed image, shape
        ``(ndim, *image.shape)``.

    Raises
    ------
    TypeError
        If a dtype is not supported or the method has no such option.
    ValueError
        If the method is unknown, or an argument does not fit.

    Notes
    -----
    Strength and threshold of the methods by differences are on the scale of the image; "sobel" and
    its like keep their own weights, all others measure the gradient per mm, the morphological ones
    the height of a step. Time and memory are those of the method plus one derivative per axis:
    ``ndim + 2`` arrays of the result's dtype.

    References
    ----------
    .. [1] S. E. Umbaugh, Computer Imaging: Digital Image Analysis and Processing, CRC Press, 2005.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((9, 9))
    >>> image[:, 5:] = 1
    >>> found = ms.detect_edges(image, "sobel")
    >>> found.edges[4].nonzero()[0].tolist()
    [4, 5]
    >>> found.direction[:, 4, 5].tolist()
    [0.0, 1.0]
    """
    op = "detect_edges"
    array = _stencil.image(op, image)
    if method not in EDGE_METHODS:
        raise ValueError(
            f"{op}: method must be one of {', '.join(sorted(EDGE_METHODS))}, got {method!r}"
        )
    missing = [name for name in needed_options(method) if name not in options]
    if missing:
        raise ValueError(f"{op}: method {method!r} needs {', '.join(missing)}")
    sizes = _checks.spacing(op, spacing, array.ndim)
    strength, edges, smooth = EDGE_METHODS[method](array, sizes, **options)
    return EdgeResult(strength, edges, _direction(smooth, sizes))


def _direction(smooth: Array, spacing: Sequence[float]) -> Array:
    parts = _checks.empty((smooth.ndim, *smooth.shape), smooth.dtype)
    for axis in range(smooth.ndim):
        _edges.sobel(smooth, axis=axis, spacing=spacing, out=parts[axis])
    length = np.sqrt(np.square(parts).sum(axis=0, dtype=smooth.dtype))
    length[length == 0] = 1
    parts /= length
    return parts


@operation(result=_stencil.filtered_like)
def multiscale_morphological_gradient(
    image: ArrayLike, scales: int = 3, *, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """Mean of morphological gradients of growing boxes, each eroded to the width of the smallest.

    A step keeps its height and a ramp gets that of the step it blurs, while lines stay thin: a
    relief for a watershed that neither noise nor blur breaks up.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    scales : int, optional
        Number of boxes, of 3, 5, ... ``2 * scales + 1`` pixels a side.
    out : ndarray of float32 or float64, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    gradient : ndarray
        Mean over ``i = 1 .. scales`` of the gradient of side ``2 * i + 1``, eroded by a box of side
        ``2 * i - 1``; float32 for float16 and float32 images, else float64. Beyond the border the
        image is mirrored.

    Raises
    ------
    TypeError
        If a dtype is not supported or `scales` is no integer.
    ValueError
        If `scales` is not positive, or `out` does not fit.

    Notes
    -----
    Gradients have the image's dtype and do not wrap, see `morphological_gradient`. NaN spreads as
    far as the boxes reach. Time O(n * scales). Extra memory: two images of the input's dtype.

    References
    ----------
    .. [1] D. Wang, "A multiscale gradient algorithm for image segmentation using watersheds",
       Pattern Recognition 30 (1997) 2043-2052.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.multiscale_morphological_gradient([0, 0, 0, 0, 9, 9, 9, 9]).tolist()
    [0.0, 0.0, 0.0, 9.0, 9.0, 0.0, 0.0, 0.0]
    """
    op = "multiscale_morphological_gradient"
    array = _stencil.image(op, image)
    count = _checks.integer(op, "scales", scales, 1)
    result = _stencil.output(op, array, None, out)
    total = np.zeros(array.shape, result.dtype)
    for i in range(1, count + 1):
        gradient = morphological_gradient(array, 2 * i + 1)
        if i > 1:
            gradient = erosion(gradient, np.ones((2 * i - 1,) * array.ndim, np.bool_))
        total += gradient
    np.divide(total, count, out=result)
    return result
