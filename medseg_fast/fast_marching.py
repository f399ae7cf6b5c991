"""Arrival times of a front that moves at a given speed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_paths
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation


def _times_like(speed: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return speed.shape, _time_dtype(np.dtype(speed.dtype))


def _time_dtype(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    return np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64


@operation(result=_times_like)
def fast_marching(
    speed: ArrayLike,
    seeds: Any,
    spacing: Sequence[float] | None = None,
    *,
    order: int = 2,
    start_times: ArrayLike = 0.0,
    stopping_value: float = math.inf,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Arrival time of a front that starts at seeds and moves at `speed`: the eikonal equation.

    Parameters
    ----------
    speed : array_like
        At least 1D; bool, integer or float, in mm per unit of time. The front does not enter pixels
        of speed 0, and crosses those of infinite speed in no time.
    seeds : index, sequence of indices or mask
        Where the front starts: one index, several, or a bool array of the shape of `speed`.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    order : {2, 1}, optional
        Of the upwind differences. With 1 the result is that of SimpleITK's ``FastMarching``.
    start_times : float or sequence of float, optional
        When the front starts, at all seeds or at each of them (those of a mask in raster order). A
        seed keeps its time, also where a front from another one passes earlier.
    stopping_value : float, optional
        The front stops at the first pixel of a later time.
    out : ndarray of float32 or float64, optional
        Array of the shape of `speed` that receives the times.

    Returns
    -------
    times : ndarray
        Same shape as `speed`; float32 for float16 and float32 speeds, else float64. Infinity where
        the front does not arrive.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a speed is negative or NaN, a seed lies outside, or an argument does not fit.

    Notes
    -----
    Times are float64 inside. Around a single seed, where the front is more curved than pixels can
    tell, both orders are of the first: for a distance to a point give the times of the pixels
    around it. Time O(n log n) at most, in one thread. Memory: 24 bytes per pixel beside the result,
    and 16 for each pixel that waits at the front.

    References
    ----------
    .. [1] J. A. Sethian, "A fast marching level set method for monotonically advancing fronts",
       PNAS 93 (1996) 1591-1595.
    .. [2] J. A. Sethian, Level Set Methods and Fast Marching Methods, Cambridge University Press,
       1999.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.fast_marching([1, 1, 1, 0, 1], seeds=0, spacing=[2]).tolist()
    [0.0, 2.0, 4.0, inf, inf]
    """
    op = "fast_marching"
    array = _grid_paths.image(op, speed, "speed")
    sizes = _checks.spacing(op, spacing, array.ndim)
    accuracy = _checks.integer(op, "order", order, 1, 2)
    latest = float(_checks.number(op, "stopping_value", stopping_value))
    start = _grid_paths.seeds(op, "seeds", seeds, array)
    when = np.asarray(start_times, np.float64)
    if when.shape not in ((), start.shape):
        raise ValueError(
            f"{op}: start_times must be one number or one for each of {len(start)} seeds, "
            f"got shape {when.shape}"
        )
    if not np.isfinite(when).all():
        raise ValueError(f"{op}: start_times must be finite, got {start_times!r}")
    when = np.ascontiguousarray(np.broadcast_to(when, start.shape))
    dtype = getattr(out, "dtype", None)
    wide = dtype if dtype in (np.float32, np.float64) else _time_dtype(array.dtype)
    times = _checks.output(op, out, array.shape, wide)
    written = _checks.scratch(times)
    bad = core.fast_marching(array, start, when, list(sizes), accuracy, latest, written)
    if bad >= 0:
        raise ValueError(f"{op}: speed must not be negative or NaN, got {array.flat[bad]}")
    return _checks.finish(times, written)
