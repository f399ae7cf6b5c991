"""Region growing by interval, as ITK has it: from seeds to all connected values in a range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _region
from medseg_fast._dispatch import mask_like, operation
from medseg_fast._region import Growth, LeakWarning, Seeds

__all__ = [
    "LeakWarning",
    "confidence_connected",
    "connected_threshold",
    "isolated_connected",
    "neighborhood_connected",
]


@operation(result=mask_like, gpu="region")
def connected_threshold(
    image: ArrayLike,
    seeds: Seeds,
    lower: float,
    upper: float,
    connectivity: int = 1,
    *,
    max_voxels: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Mask of the voxels connected to a seed whose values are within [lower, upper].

    Parameters
    ----------
    image : array_like
        Any number of dimensions; bool, integer or float.
    seeds : index or sequence of indices
        Each has one number per axis, in the image's axis order: (z, y, x) for a volume.
    lower, upper : float
        Smallest and largest value inside. A float image is compared with them rounded to its dtype,
        an integer image with the real numbers.
    connectivity : int, optional
        Neighbours differ by at most 1 along each axis and along at most this many axes: 1 to the
        number of axes; 1, 2, 3 are 6, 18, 26 neighbours in 3D.
    max_voxels : int, optional
        Stop when the region has more voxels than this, warn, and return the first `max_voxels`
        voxels of breadth-first growth from the seeds.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. Seeds whose value is outside the interval start nothing. NaN voxels
        are outside.

    Warns
    -----
    LeakWarning
        If the region exceeds `max_voxels`.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a seed is outside the image or on NaN, a limit is NaN, ``lower > upper``, or another
        argument does not fit.

    Notes
    -----
    Voxel by voxel SimpleITK's ``ConnectedThreshold``, except: it truncates limits to the pixel type
    (99.5 becomes 99 for integers; beyond the type's range anything may happen), ignores seeds
    outside the image and returns an empty mask for inverted limits. An empty image gives an empty
    mask.

    Time O(voxels in and around the region), at most O(n). Extra memory: 2 bits per voxel, in rows
    (the last axis) rounded up to 64 voxels, and 33 bytes per row; at `max_voxels` 16 bytes per
    voxel of the growing front more. Input that is neither C- nor Fortran-contiguous is copied once
    in its own dtype.

    On a GPU (up to 3 axes longer than 1) time is O(n) whatever the region, as all components of the
    range are found; extra memory is 6 bytes per voxel (10 from 2**31 voxels on). The seeds' values
    are fetched, and a region beyond `max_voxels` raises NotImplementedError.

    References
    ----------
    A. R. Smith, "Tint fill", Proc. SIGGRAPH 1979, 276-283.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.connected_threshold([[5, 6, 0], [0, 0, 7]], (0, 0), 4, 8).astype(int).tolist()
    [[1, 1, 0], [0, 0, 0]]
    """
    op = "connected_threshold"
    array = _region.array(op, image)
    _checks.integer(op, "connectivity", connectivity, 1, array.ndim)
    bounds = _checks.interval(op, array.dtype, lower, upper)
    if out is not None:
        out = _checks.output(op, out, array.shape, np.bool_)
    if array.size == 0:
        return np.zeros(array.shape, np.bool_) if out is None else out
    indices = _region.seeds(op, "seeds", seeds, array)
    growth = Growth(op, array)
    growth.grow(bounds, indices, connectivity, _region.limit(op, max_voxels, array))
    return growth.mask(out)


@operation(result=mask_like)
def neighborhood_connected(
    image: ArrayLike,
    seeds: Seeds,
    lower: float,
    upper: float,
    radius: int | Sequence[int] = 1,
    *,
    max_voxels: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Mask of the voxels connected to a seed whose whole neighbourhood is within [lower, upper].

    Parameters
    ----------
    image, seeds, lower, upper, max_voxels, out
        As in `connected_threshold`.
    radius : int or sequence of int, optional
        The neighbourhood reaches this many voxels to each side, one number for all axes or one per
        axis. It ends at the image's border.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. Face neighbours are connected. Seeds are always inside, as in
        SimpleITK, whatever their neighbourhoods.

    Warns
    -----
    LeakWarning
        If the region exceeds `max_voxels`.

    Raises
    ------
    TypeError, ValueError
        As `connected_threshold`, and if `radius` is negative.

    Notes
    -----
    Voxel by voxel SimpleITK's ``NeighborhoodConnected``, with the exceptions that
    `connected_threshold` lists. The interval's bits are eroded by shifting whole rows, so the time
    grows with the rows of the neighbourhood, not with its voxels. Extra memory: as
    `connected_threshold`, with 3 bits per voxel instead of 2.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.neighborhood_connected([5, 5, 5, 5, 9], (0,), 4, 6).astype(int).tolist()
    [1, 1, 1, 0, 0]
    """
    op = "neighborhood_connected"
    array = _region.array(op, image)
    reach = (radius,) * array.ndim if np.ndim(radius) == 0 else tuple(radius)  # type: ignore[arg-type]
    if len(reach) != array.ndim:
        raise ValueError(f"{op}: radius must be one number or {array.ndim}, got {radius!r}")
    reach = tuple(_checks.integer(op, "radius", r, 0) for r in reach)
    bounds = _checks.interval(op, array.dtype, lower, upper)
    if out is not None:
        out = _checks.output(op, out, array.shape, np.bool_)
    if array.size == 0:
        return np.zeros(array.shape, np.bool_) if out is None else out
    indices = _region.seeds(op, "seeds", seeds, array)
    growth = Growth(op, array, radius=tuple(map(min, reach, array.shape)))
    limit = _region.limit(op, max_voxels, array)
    growth.grow(bounds, indices, 1, limit, force=True)
    return growth.mask(out)


@operation(result=mask_like)
def confidence_connected(
    image: ArrayLike,
    seeds: Seeds,
    multiplier: float = 4.5,
    iterations: int = 4,
    initial_radius: int = 1,
    *,
    max_voxels: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Region growing whose interval follows the region's own mean and standard deviation.

    The first interval is mean +- `multiplier` standard deviations of the seeds' neighbourhoods; it
    is widened so that it holds all seeds. Then `iterations` times the statistics of the region
    give a new interval and growth starts again from the seeds.

    Parameters
    ----------
    image, seeds, max_voxels, out
        As in `connected_threshold`. With `max_voxels` the iterations end with the first region
        that exceeds it.
    multiplier : float, optional
        Half width of the interval in standard deviations.
    iterations : int, optional
        How often to grow again. Stops early when the interval no longer changes.
    initial_radius : int, optional
        The neighbourhood of a seed reaches this many voxels to each side; beyond the image's
        border the border's voxels repeat. 0: the seeds themselves, at least two.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. Face neighbours are connected.

    Warns
    -----
    LeakWarning
        If a region exceeds `max_voxels`.

    Raises
    ------
    TypeError, ValueError
        As `connected_threshold`, and if `multiplier` is negative, or a single seed with
        `initial_radius` 0 leaves no variance to start from.

    Notes
    -----
    Voxel by voxel SimpleITK's ``ConfidenceConnected``: unbiased variances, limits truncated towards
    zero to the dtype of an integer image and rounded to that of a float image. Sums are float64;
    their order differs from ITK's, so on float images a voxel within rounding error of a limit
    (1 part in 1e12) may differ; results do not depend on the number of threads. Also different:
    outside and NaN seeds are refused; voxels that are not finite do not count in the first
    neighbourhood (ITK then returns an empty mask); a region that shrinks to one voxel stays it
    (ITK divides by zero and returns an empty mask); rounding never makes a variance negative.

    Time O(voxels in and around the region) per iteration. Extra memory as `connected_threshold`.

    References
    ----------
    L. Ibanez, W. Schroeder, L. Ng, J. Cates, "The ITK Software Guide", 2nd ed., section 9.1.3.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> image = [10, 11, 10, 12, 11, 10, 90, 11]
    >>> ms.confidence_connected(image, (1,)).astype(int).tolist()
    [1, 1, 1, 1, 1, 1, 0, 0]
    """
    op = "confidence_connected"
    array = _region.array(op, image)
    multiplier = _checks.number(op, "multiplier", multiplier)
    if not 0 <= multiplier < math.inf:
        raise ValueError(f"{op}: multiplier must be finite and not negative, got {multiplier}")
    iterations = _checks.integer(op, "iterations", iterations, 0)
    radius = _checks.integer(op, "initial_radius", initial_radius, 0)
    if out is not None:
        out = _checks.output(op, out, array.shape, np.bool_)
    if array.size == 0:
        return np.zeros(array.shape, np.bool_) if out is None else out
    indices = _region.seeds(op, "seeds", seeds, array)
    limit = _region.limit(op, max_voxels, array)
    if radius == 0 and len(indices) == 1:
        raise ValueError(f"{op}: initial_radius must be at least 1 with a single seed, got 0")
    inside = [value.item() for value in array[tuple(indices.T)]]
    mean, variance = _seed_statistics(array, indices, radius)
    growth = Growth(op, array)
    bounds: NDArray[Any] | None = None
    for iteration in range(iterations + 1):
        width = multiplier * math.sqrt(max(variance, 0.0))
        ends = min(mean - width, *inside), max(mean + width, *inside)
        before, bounds = bounds, _truncated(array.dtype, *ends)
        if before is not None and np.array_equal(before, bounds):
            break
        wider = before is not None and bounds[0] <= before[0] and before[1] <= bounds[1]
        if not growth.grow(bounds, indices, 1, limit, widen=wider) or iteration == iterations:
            break
        count, total, squares = growth.moments()
        if count < 2:
            break
        mean = total / count
        variance = (squares - total * total / count) / (count - 1.0)
        if variance == 0:
            break
    return growth.mask(out)


def _seed_statistics(
    array: NDArray[Any], seeds: NDArray[np.int64], radius: int
) -> tuple[float, float]:
    """Mean and unbiased variance of the seeds' neighbourhoods, pooled as ITK does."""
    means, squares, count = [], 0.0, 0
    for seed in seeds.tolist():
        lines = [
            np.clip(np.arange(x - radius, x + radius + 1), 0, n - 1)
            for x, n in zip(seed, array.shape, strict=True)
        ]
        values = array[np.ix_(*lines)].astype(np.float64)
        values = values[np.isfinite(values)]
        if values.size:
            means.append(math.fsum(values) / values.size)
            squares += math.fsum(values * values)
            count += values.size
    mean = sum(means) / max(len(means), 1)
    return mean, (squares - mean * mean * count) / (count - 1.0) if count > 1 else 0.0


def _truncated(dtype: np.dtype[Any], low: float, high: float) -> NDArray[Any]:
    """Cut real limits to what the dtype holds: integers towards zero, floats to the nearest."""
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        ends = max(low, float(limits.min)), min(high, float(limits.max))
        return np.array(ends).astype(dtype.newbyteorder("="))
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    ends = math.trunc(max(low, least)), math.trunc(min(high, most))
    return np.array(ends, dtype.newbyteorder("="))


@operation(result=mask_like)
def isolated_connected(
    image: ArrayLike,
    seed1: Seeds,
    seed2: Seeds,
    lower: float,
    upper: float,
    find_upper: bool = True,
    tolerance: float = 1.0,
    *,
    max_voxels: int | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Grow from one seed, with the widest interval that keeps a second seed out.

    Parameters
    ----------
    image : array_like
        Any number of dimensions; bool, integer or float.
    seed1, seed2 : index or sequence of indices
        Seeds of the region, and seeds that it must not reach.
    lower, upper : float
        The interval to start from; see `connected_threshold`.
    find_upper : bool, optional
        Lower the upper end until the seeds separate; otherwise raise the lower end.
    tolerance : float, optional
        Stop the binary search at this width; rounded towards zero for integer images.
    max_voxels : int, optional
        Stop the last growth when it has more voxels than this; see `connected_threshold`.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. Face neighbours are connected.

    Warns
    -----
    UserWarning
        If no such interval was found: the mask then misses a seed of `seed1` or holds one of
        `seed2`, and is what the search ended with.
    LeakWarning
        If the region exceeds `max_voxels`.

    Raises
    ------
    TypeError, ValueError
        As `connected_threshold`, and if `tolerance` is negative.

    Notes
    -----
    Voxel by voxel SimpleITK's ``IsolatedConnected``, with the exceptions that `connected_threshold`
    lists, and the search ends where it cannot go on (ITK loops for ever with a tolerance of 0, for
    integers below 1). Time: one growth per step of the search. Memory as `connected_threshold`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.isolated_connected([10, 20, 50, 20, 10], (0,), (4,), 0, 100).astype(int).tolist()
    [1, 1, 0, 0, 0]
    """
    op = "isolated_connected"
    array = _region.array(op, image)
    bounds = _checks.interval(op, array.dtype, lower, upper)
    step = _checks.number(op, "tolerance", tolerance)
    if not 0 <= step < math.inf:
        raise ValueError(f"{op}: tolerance must be finite and not negative, got {tolerance!r}")
    if out is not None:
        out = _checks.output(op, out, array.shape, np.bool_)
    if array.size == 0:
        return np.zeros(array.shape, np.bool_) if out is None else out
    inside = _region.seeds(op, "seed1", seed1, array)
    outside = _region.seeds(op, "seed2", seed2, array)
    limit = _region.limit(op, max_voxels, array)
    growth = Growth(op, array)
    if bounds is not None:
        if array.dtype.kind != "f":
            step = math.trunc(step)
        _separate(growth, bounds, inside, outside, find_upper, step, array.size)
    complete = growth.grow(bounds, inside, 1, limit)
    if complete and (not growth.holds(inside).all() or growth.holds(outside).any()):
        _region.warn(f"{op}: no interval separates seed1 from seed2", UserWarning)
    return growth.mask(out)


def _separate(
    growth: Growth,
    bounds: NDArray[Any],
    inside: NDArray[np.int64],
    outside: NDArray[np.int64],
    find_upper: bool,
    tolerance: float,
    limit: int,
) -> None:
    """Narrow `bounds` at one end by bisection until growth from `inside` avoids `outside`."""
    end = 1 if find_upper else 0
    # One limit is known to separate (or is the search's far end), the other one not to.
    apart, joined = bounds[1 - end].item(), bounds[end].item()
    guess, before = joined, None
    while abs(guess - apart) > tolerance and guess != before:
        bounds[end] = guess
        growth.grow(bounds, inside, 1, limit)
        if growth.holds(outside).any():
            joined = guess
        else:
            apart = guess
        before = guess
        total = apart + joined
        guess = total / 2 if isinstance(total, float) else math.trunc(Fraction(total, 2))
    bounds[end] = apart
