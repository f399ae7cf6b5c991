"""Snakes: polygons that fit themselves to lines and edges of an image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.edges import sobel

_ENDS = {"periodic": 0, "fixed": 1, "free": 2}


def _snake_like(image: Any, snake: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    points = snake.shape[0] if hasattr(snake, "shape") else len(snake)
    return (points, 2), _stencil.float_type(image.dtype)


def _ends(op: str, condition: Any) -> tuple[int, int]:
    """What becomes of the first and the last point."""
    words = condition.split("-") if isinstance(condition, str) else ()
    if condition == "periodic":
        words = [condition] * 2
    elif len(words) == 1:
        words = words * 2
    if len(words) != 2 or any(w not in _ENDS for w in words):
        words = ()
    if not words or ("periodic" in words and condition != "periodic"):
        raise ValueError(
            f"{op}: boundary_condition must be one of periodic, free, fixed, free-fixed, "
            f"fixed-free, fixed-fixed, free-free, got {condition!r}"
        )
    return _ENDS[words[0]], _ENDS[words[1]]


def _potential(image: NDArray[Any], w_line: float, w_edge: float) -> NDArray[np.float64]:
    """Brightness and edges, weighted."""
    colours = image.ndim == 3
    # Floats keep their type until here, as the peer's do; its integers become float64 at once.
    scale = _stencil.scale(image.dtype)
    values = image.astype(_stencil.float_type(image.dtype))
    if scale != 1:
        values *= scale
        np.maximum(values, -1, out=values)
    potential = np.zeros(image.shape[:2])
    if w_line != 0:
        potential += w_line * (values.sum(axis=2) if colours else values)
    if w_edge != 0:
        edges = [values[..., c] for c in range(3)] if colours else [values]
        potential += w_edge * sum(sobel(channel) for channel in edges)
    return potential


@operation(result=_snake_like)
def active_contour(
    image: ArrayLike,
    snake: ArrayLike,
    alpha: float = 0.01,
    beta: float = 0.1,
    w_line: float = 0.0,
    w_edge: float = 1,
    gamma: float = 0.01,
    max_px_move: float = 1.0,
    max_num_iter: int = 2500,
    convergence: float = 0.1,
    *,
    boundary_condition: str = "periodic",
) -> NDArray[Any]:
    """Fit a snake to the lines or edges of an image.

    The result is that of ``skimage.segmentation.active_contour``.

    Parameters
    ----------
    image : array_like
        Shape (M, N), or (M, N, 3) for a colour image, 3 by 3 pixels at least; bool, integer or
        float, finite.
    snake : array_like
        Where to start: (row, column) of K points, shape (K, 2), finite. 4 points at least for free
        ends, 3 for fixed ones. The first point of a closed snake is not repeated at its end.
    alpha : float, optional
        Weight of the snake's length: the larger, the faster it contracts.
    beta : float, optional
        Weight of its bending: the larger, the smoother it is.
    w_line : float, optional
        Pull towards bright pixels, below 0 towards dark ones.
    w_edge : float, optional
        Pull towards edges, below 0 away from them.
    gamma : float, optional
        Inverse of the time step.
    max_px_move : float, optional
        Limit of a point's movement in one iteration, in pixels along each axis.
    max_num_iter : int, optional
        Stop after so many iterations.
    convergence : float, optional
        Stop when no point is farther than this from where it was in one of the ten configurations
        before; tested in every eleventh iteration.
    boundary_condition : str, optional
        "periodic": a closed snake. "fixed": ends stay where they are. "free": ends move freely.
        "fixed-free", "free-fixed": one of each.

    Returns
    -------
    snake : ndarray of float32 or float64
        Shape (K, 2): float32 for float16 and float32 images, else float64.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a shape does not fit, a value is not finite, an option is unknown, or the weights make
        the snake's equations singular.

    Notes
    -----
    The same iterates: within 1e-6 pixels for float64 images, and 5e-2 for float32 ones, for which
    the peer rounds its matrix and coordinates to float32 and ours only the result. Beyond the
    border the image's force is that of the nearest pixel on the border.

    Time O(M N) for the spline through the image and O(K) for each iteration (the peer takes O(K²)
    for each, and O(K³) once). Extra memory: 16 bytes per pixel at most.

    References
    ----------
    .. [1] M. Kass, A. Witkin, D. Terzopoulos, "Snakes: active contour models", International
       Journal of Computer Vision 1 (1988) 321-331.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> y, x = np.indices((100, 100))
    >>> disk = ms.gaussian((np.hypot(y - 50, x - 45) < 25).astype(float), 3)
    >>> angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    >>> start = 50 + 40 * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    >>> snake = ms.active_contour(disk, start, alpha=0.015, beta=10, gamma=0.001)
    >>> radius = np.hypot(snake[:, 0] - 50, snake[:, 1] - 45)
    >>> round(float(radius.mean()))
    25
    """
    op = "active_contour"
    array = _checks.image(op, image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] < 3):
        raise ValueError(f"{op}: image must have shape (M, N) or (M, N, 3), got {array.shape}")
    if min(array.shape[:2]) < 3:
        raise ValueError(f"{op}: image must be 3 by 3 pixels at least, got {array.shape}")
    points = np.asarray(snake)
    if points.dtype.kind not in "buif":
        raise TypeError(f"{op}: snake must be integer or float, got {points.dtype}")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{op}: snake must have shape (K, 2), got {points.shape}")
    count = int(max_num_iter)
    if count <= 0:
        raise ValueError(f"{op}: max_num_iter must be at least 1, got {max_num_iter}")
    start, end = _ends(op, boundary_condition)
    least = {"periodic": 1, "fixed": 3, "free": 4}
    needed = max(n for word, n in least.items() if _ENDS[word] in (start, end))
    if len(points) < needed:
        raise ValueError(f"{op}: snake must have {needed} points at least, got {len(points)}")
    given = {"alpha": alpha, "beta": beta, "gamma": gamma, "max_px_move": max_px_move}
    given |= {"w_line": w_line, "w_edge": w_edge, "convergence": convergence}
    numbers = {name: float(_checks.number(op, name, value)) for name, value in given.items()}
    for name, number in numbers.items():
        if not math.isfinite(number) and name != "convergence":
            raise ValueError(f"{op}: {name} must be finite, got {number}")
    potential = _potential(array, numbers["w_line"], numbers["w_edge"])
    wanted = _stencil.float_type(array.dtype)
    moved = np.ascontiguousarray(points[:, ::-1].T.astype(wanted).astype(np.float64))
    _checks.finite(op, "image", potential)
    _checks.finite(op, "snake", moved)
    core.spline_coefficients(potential)
    weights = [numbers[name] for name in ("alpha", "beta", "gamma", "max_px_move")]
    try:
        core.active_contour(potential, weights, count, numbers["convergence"], (start, end), moved)
    except ValueError:
        raise ValueError(
            f"{op}: alpha, beta and gamma must not make the equations singular, got "
            f"{alpha!r}, {beta!r} and {gamma!r}"
        ) from None
    return np.stack([moved[1], moved[0]], axis=1).astype(wanted)
