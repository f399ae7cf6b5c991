"""Morphological snakes: binary level sets moved by morphological operators, in 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.gaussian import gaussian_gradient_magnitude
from medseg_fast.initial_shapes import checkerboard_level_set, disk_level_set

Callback = Callable[[NDArray[np.int8]], object]


@operation(result=_stencil.filtered_like)
def inverse_gaussian_gradient(
    image: ArrayLike,
    alpha: float = 100.0,
    sigma: float | Sequence[float] = 5.0,
    *,
    spacing: Sequence[float] | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Edge map between 0 and 1: near 1 where the image is flat, near 0 on its edges.

    The result is that of ``skimage.segmentation.inverse_gaussian_gradient``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    alpha : float, optional
        How steeply the map falls with the gradient; not negative.
    sigma : float or sequence of float, optional
        Standard deviation of the Gaussian in voxels, with `spacing` in mm; for all axes or one for
        each.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; the gradient is per mm, then. 1 by default.
    out : ndarray of float32 or float64, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    gimage : ndarray
        ``1 / sqrt(1 + alpha * g)`` with g the length of the gradient of the smoothed image, beyond
        whose border the nearest pixel counts; float32 for float16 and float32 images, else float64.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `alpha` or `sigma` is negative or not finite, or `spacing` or `out` does not fit.

    Notes
    -----
    Of integers the gradient is taken in float64; scikit-image rounds it to the image's dtype at
    each step, which wraps: give it floats to compare. NaN spreads as far as the Gaussian reaches.
    Time and memory are those of `gaussian_gradient_magnitude`.

    References
    ----------
    .. [1] V. Caselles, R. Kimmel, G. Sapiro, "Geodesic active contours", International Journal of
       Computer Vision 22 (1997) 61-79.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.inverse_gaussian_gradient([0.0] * 9 + [1.0] * 9, 100, 1).round(1).tolist()[4:14]
    [1.0, 1.0, 0.6, 0.3, 0.2, 0.2, 0.3, 0.6, 1.0, 1.0]
    """
    op = "inverse_gaussian_gradient"
    array = _stencil.image(op, image)
    steepness = float(_checks.number(op, "alpha", alpha))
    if not 0 <= steepness < math.inf:
        raise ValueError(f"{op}: alpha must be finite and not negative, got {alpha!r}")
    result = _stencil.output(op, array, None, out)
    written = _checks.scratch(result, array)
    gaussian_gradient_magnitude(array, sigma, written, "nearest", spacing=spacing)
    pixels = written.reshape(-1)
    for begin in range(0, pixels.size, _BLOCK):  # stays in cache
        part = pixels[begin : begin + _BLOCK]
        part *= steepness
        part += 1
        np.sqrt(part, out=part)
        np.reciprocal(part, out=part)
    return _stencil.finish(result, written)


_BLOCK = 1 << 15


def _snake_like(image: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return image.shape, np.int8


def _image(op: str, value: Any, name: str) -> NDArray[Any]:
    array = _checks.image(op, value, name, ndim=(2, 3))
    _checks.finite(op, name, array)
    return array


def _start(
    op: str, init: Any, image: NDArray[Any], out: Any
) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
    """The result array with the initial level set, 0 and 1, and the contiguous one to work on."""
    shape = image.shape
    result = _checks.output(op, out, shape, np.int8)
    if isinstance(init, str):
        shapes: dict[str, Callable[..., Any]] = {
            "checkerboard": checkerboard_level_set,
            "disk": disk_level_set,
        }
        if init not in shapes:
            raise ValueError(
                f"{op}: init_level_set must be 'checkerboard', 'disk' or an array, got {init!r}"
            )
        inside: Any = shapes[init](shape)
    else:
        inside = np.asarray(init)
        if inside.dtype.kind not in "buif":
            raise TypeError(
                f"{op}: init_level_set must be bool, integer or float, got {inside.dtype}"
            )
        if inside.shape != shape:
            raise ValueError(f"{op}: init_level_set must have shape {shape}, got {inside.shape}")
    written = _checks.scratch(result, image, inside)
    np.greater(inside, 0, out=written.view(np.bool_))
    return result, written


def _evolve(
    snake: Any, level_set: NDArray[np.int8], num_iter: int, iter_callback: Callback | None
) -> None:
    if iter_callback is None:
        snake.iterate(num_iter)
        return
    iter_callback(level_set.copy())
    for _ in range(num_iter):
        snake.iterate(1)
        iter_callback(level_set.copy())


@operation(result=_snake_like)
def morphological_chan_vese(
    image: ArrayLike,
    num_iter: int,
    init_level_set: str | ArrayLike = "checkerboard",
    smoothing: int = 1,
    lambda1: float = 1,
    lambda2: float = 1,
    iter_callback: Callback | None = None,
    *,
    out: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Split an image into two regions of different mean (morphological active contours).

    The result is that of ``skimage.segmentation.morphological_chan_vese``.

    Parameters
    ----------
    image : array_like
        2D or 3D; bool, integer or float, finite.
    num_iter : int
        Number of iterations.
    init_level_set : {'checkerboard', 'disk'} or array_like, optional
        Where to start: `checkerboard_level_set`, `disk_level_set`, or an array of the image's
        shape that is above 0 inside.
    smoothing : int, optional
        How often each iteration smooths; 1 to 4 are sensible.
    lambda1, lambda2 : float, optional
        Weights of the inside and the outside. The region of the lower weight is allowed the larger
        range of values.
    iter_callback : callable, optional
        Called with a copy of the level set at the start and after each iteration.
    out : ndarray of int8, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    level_set : ndarray of int8
        1 inside, 0 outside.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the image is not 2D or 3D or not finite, or an argument does not fit.

    Notes
    -----
    Each iteration moves pixels beside the contour to the region whose mean is nearer, then smooths.
    The two orders of the smoother's halves alternate. scikit-image keeps their turn in a variable
    of the module, so that an odd number of smoothings there changes the result of the next call in
    the process; ours starts afresh in every call, as the first call in a process does there.

    The same level set to the last pixel, for C-ordered images (the peer's means of floats depend on
    the memory order in the last bit). float16 is computed in float32 (the peer's sums overflow). An
    axis of one pixel has no contour across it (the peer raises).

    Time: a pass over one bit per pixel, and the pixels beside the contour, for each iteration, on
    all threads. Extra memory beside the result: 1 byte per pixel.

    References
    ----------
    .. [1] P. Marquez-Neila, L. Baumela, L. Alvarez, "A morphological approach to curvature-based
       evolution of curves and surfaces", IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 2-17.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((20, 20))
    >>> image[5:15, 5:15] = 1
    >>> ms.morphological_chan_vese(image, 10, "disk")[3:7, 10].tolist()
    [0, 0, 1, 1]
    """
    op = "morphological_chan_vese"
    array = _image(op, image, "image")
    count = _checks.integer(op, "num_iter", num_iter, 0)
    passes = _checks.integer(op, "smoothing", smoothing, 0, 10**6)
    weights = [
        float(_checks.number(op, name, value))
        for name, value in (("lambda1", lambda1), ("lambda2", lambda2))
    ]
    result, level_set = _start(op, init_level_set, array, out)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.size:
        snake = core.chan_vese_snake(array, level_set, passes, *weights)
        _evolve(snake, level_set, count, iter_callback)
    _checks.finish(result, level_set)
    return result


@operation(result=_snake_like)
def morphological_geodesic_active_contour(
    gimage: ArrayLike,
    num_iter: int,
    init_level_set: str | ArrayLike = "disk",
    smoothing: int = 1,
    threshold: float | str = "auto",
    balloon: float = 0,
    iter_callback: Callback | None = None,
    *,
    out: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Fit a contour to edges (morphological geodesic active contours).

    The result is that of ``skimage.segmentation.morphological_geodesic_active_contour``.

    Parameters
    ----------
    gimage : array_like
        Edge map, 2D or 3D and finite, small where the contour is to stop: for example
        `inverse_gaussian_gradient` of an image.
    num_iter : int
        Number of iterations.
    init_level_set : {'checkerboard', 'disk'} or array_like, optional
        Where to start: `checkerboard_level_set`, `disk_level_set`, or an array of the image's
        shape that is above 0 inside.
    smoothing : int, optional
        How often each iteration smooths; 1 to 4 are sensible.
    threshold : float or 'auto', optional
        Edge map at and below which the balloon stops, if `balloon` is 1 or -1 (in general
        ``threshold / abs(balloon)``); 'auto' is its 40th percentile.
    balloon : float, optional
        Above 0 the contour grows where the image is flat, below 0 it shrinks.
    iter_callback : callable, optional
        Called with a copy of the level set at the start and after each iteration.
    out : ndarray of int8, optional
        Array of the image's shape that receives the result.

    Returns
    -------
    level_set : ndarray of int8
        1 inside, 0 outside.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the edge map is not 2D or 3D or not finite, or an argument does not fit.

    Notes
    -----
    The same level set to the last pixel, but for what `morphological_chan_vese` says of the
    smoother's turn, which both functions share in scikit-image. Integers are taken as floats (the
    peer raises). An axis of one pixel has no slope (the peer raises).

    Time: a pass over one bit per pixel, and the pixels beside the contour, for each iteration, on
    all threads. Extra memory beside the result: 1 byte per pixel, 2 with a balloon, and a copy of
    the edge map for ``threshold="auto"``.

    References
    ----------
    .. [1] P. Marquez-Neila, L. Baumela, L. Alvarez, "A morphological approach to curvature-based
       evolution of curves and surfaces", IEEE Trans. Pattern Anal. Mach. Intell. 36 (2014) 2-17.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((40, 40))
    >>> image[10:30, 10:30] = 1
    >>> edges = ms.inverse_gaussian_gradient(image, sigma=1)
    >>> inside = ms.morphological_geodesic_active_contour(edges, 30, balloon=-1, threshold=0.5)
    >>> inside[20].nonzero()[0][[0, -1]].tolist()
    [10, 29]
    """
    op = "morphological_geodesic_active_contour"
    array = _image(op, gimage, "gimage")
    count = _checks.integer(op, "num_iter", num_iter, 0)
    passes = _checks.integer(op, "smoothing", smoothing, 0, 10**6)
    force = _checks.number(op, "balloon", balloon)
    if isinstance(threshold, str):
        if threshold != "auto":
            raise ValueError(f"{op}: threshold must be a number or 'auto', got {threshold!r}")
        limit: Any = np.percentile(array, 40) if force and array.size else 0.0
    else:
        limit = _checks.number(op, "threshold", threshold)
    result, level_set = _start(op, init_level_set, array, out)
    if array.size == 0:
        return result
    # The peer's types: a float32 percentile over an integer is compared in float64.
    open_ = np.asarray(array > limit / np.abs(force)) if force else None
    if array.dtype.kind != "f":
        array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    sign = int(np.sign(force))
    snake = core.geodesic_snake(array, open_, level_set, passes, sign)
    _evolve(snake, level_set, count, iter_callback)
    _checks.finish(result, level_set)
    return result
