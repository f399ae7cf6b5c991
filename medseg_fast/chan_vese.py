"""Active contours without edges, on the whole image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

Result = tuple[NDArray[np.bool_], NDArray[Any], list[float]]


def _checkerboard(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    factor = np.pi / 5
    rows, columns = (np.sin(np.arange(n, dtype=dtype) * factor) for n in shape)
    return np.asarray(rows[:, None] * columns)


def _disk(shape: tuple[int, ...], share: float) -> NDArray[np.float64]:
    """1 in the middle, 0 on a circle: of half the shorter side, or of half of that."""
    middle = [(n - 1) // 2 for n in shape]
    radius = float(min(middle)) / share
    rows, columns = (np.arange(n, dtype=np.float64) - m for n, m in zip(shape, middle, strict=True))
    distance = np.sqrt(rows[:, None] ** 2 + columns**2)
    return np.asarray((radius - distance) / (radius if share == 1 else radius * 3))


def _start(op: str, init: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    if isinstance(init, str):
        if init == "checkerboard":
            return _checkerboard(shape, dtype).astype(dtype)
        if init not in ("disk", "small disk"):
            raise ValueError(
                f"{op}: init_level_set must be 'checkerboard', 'disk', 'small disk' or an array, "
                f"got {init!r}"
            )
        if min(shape) < 3:
            raise ValueError(f"{op}: image must be 3 by 3 pixels for a disk, got shape {shape}")
        return _disk(shape, 1 if init == "disk" else 2).astype(dtype)
    array = np.asarray(init)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{op}: init_level_set must be bool, integer or float, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{op}: init_level_set must have shape {shape}, got {array.shape}")
    level_set = np.array(array, dtype, order="C")
    _checks.finite(op, "init_level_set", level_set)
    return level_set


@operation(result=None)
def chan_vese(
    image: ArrayLike,
    mu: float = 0.25,
    lambda1: float = 1.0,
    lambda2: float = 1.0,
    tol: float = 1e-3,
    max_num_iter: int = 500,
    dt: float = 0.5,
    init_level_set: str | ArrayLike = "checkerboard",
    extended_output: bool = False,
) -> NDArray[np.bool_] | Result:
    """Split an image into two regions of different mean (active contours without edges).

    The result is that of ``skimage.segmentation.chan_vese``. For volumes see `chan_vese_level_set`
    and `morphological_chan_vese`.

    Parameters
    ----------
    image : array_like
        2D; bool, integer or float, finite. Values are scaled to the range from 0 to 1.
    mu : float, optional
        Weight of the contour's length.
    lambda1, lambda2 : float, optional
        Weights of the squared differences from the mean where the result is True and where it is
        False.
    tol : float, optional
        Stop when an iteration changes the level set by at most this (root mean square).
    max_num_iter : int, optional
        Stop after so many iterations.
    dt : float, optional
        Time step.
    init_level_set : {'checkerboard', 'disk', 'small disk'} or array_like, optional
        Where to start: a product of sines of period 10, a cone whose 0 is a circle as wide as the
        shorter side, one of half that radius, or a level set of the image's shape.
    extended_output : bool, optional
        Return the level set and the energies, too.

    Returns
    -------
    segmentation : ndarray of bool
        Where the level set is above 0.
    phi : ndarray of float32 or float64
        The level set, float32 for float16 and float32 images, else float64; with
        `extended_output`.
    energies : list of np.float32 or np.float64
        Before each iteration; with `extended_output`.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the image is not 2D, is empty or not finite, or an argument does not fit.

    Notes
    -----
    The same iterates within 1e-9 of the level set's range in float64; in float32 the peer's sums
    round, so that phi agrees within 1e-3 and pixels within that of 0 may change sides.

    Time: one pass over the image for each iteration, two with `extended_output`, on all threads;
    the same bytes on any number of threads. Extra memory: the image and two level sets in floats.

    References
    ----------
    .. [1] T. F. Chan, L. A. Vese, "Active contours without edges", IEEE Trans. Image Processing 10
       (2001) 266-277.
    .. [2] P. Getreuer, "Chan-Vese segmentation", Image Processing On Line 2 (2012) 214-224.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((20, 20))
    >>> image[5:15, 5:15] = 1
    >>> ms.chan_vese(image)[3:7, 10].tolist()
    [False, False, True, True]
    """
    op = "chan_vese"
    array = _checks.image(op, image, ndim=2)
    if array.size == 0:
        raise ValueError(f"{op}: image must not be empty, got shape {array.shape}")
    given = {"mu": mu, "lambda1": lambda1, "lambda2": lambda2, "dt": dt, "tol": tol}
    weights = [float(_checks.number(op, name, value)) for name, value in given.items()]
    if not all(map(math.isfinite, weights)):
        raise ValueError(f"{op}: mu, lambda1, lambda2, dt and tol must be finite, got {weights}")
    if weights[4] < 0 or weights[0] < 0:
        raise ValueError(f"{op}: tol and mu must not be negative, got {tol!r} and {mu!r}")
    count = _checks.integer(op, "max_num_iter", max_num_iter, 0)
    dtype = _stencil.float_type(array.dtype)
    phi = _start(op, init_level_set, array.shape, dtype)
    values = array.astype(dtype)
    values -= values.min()
    if (top := values.max()) != 0:
        values /= top
    _checks.finite(op, "image", values)
    energies = core.chan_vese(values, weights, count, bool(extended_output), phi)
    segmentation = phi > 0
    if not extended_output:
        return segmentation
    return segmentation, phi, list(energies.astype(dtype))
