"""Region growing by similarity: to the mean of several regions, or by a rule of one's own."""

from __future__ import annotations

import ctypes
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.region import LeakWarning

Criterion = Callable[[float, float, float, float], Any]


@operation(result=lambda image, markers, **_: (image.shape, markers.dtype))
def seeded_region_growing(
    image: ArrayLike,
    markers: ArrayLike,
    *,
    connectivity: int = 1,
    mask: ArrayLike | None = None,
    max_distance: float | None = None,
    max_voxels: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Grow labelled seeds together, always taking the voxel most like its region.

    Parameters
    ----------
    image : array_like
        At least one dimension; bool, integer or float.
    markers : array_like of int or bool
        Same shape as `image`: 0 where nothing is known, else the label of a seed. A label may have
        any number of seeds, anywhere.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one: 1 (faces) to ``image.ndim``.
    mask : array_like of bool, optional
        Where voxels may be labelled; markers outside it are ignored.
    max_distance : float, optional
        Voxels whose value is further than this from the mean of every region that they touch stay
        0, in the image's units. Without it, whatever is connected to a seed is labelled.
    max_voxels : int, optional
        A region that has this many voxels, its seeds included, takes no more, with a warning; the
        others grow on.
    out : ndarray, optional
        Array of the markers' shape and dtype that receives the labels.

    Returns
    -------
    labels : ndarray
        Same shape and dtype as `markers`.

    Warns
    -----
    LeakWarning
        If `max_voxels` kept a region from a voxel within `max_distance`.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a marker is negative or lies on NaN or infinity, shapes differ, or an argument is out of
        range.

    Notes
    -----
    Unlabelled voxels that touch a region wait in a list, sorted by the distance of their value from
    the region's mean when they entered it; **of equal distances the one that entered first goes
    first**. The first is taken and joins the region with the nearest mean among those it touches
    (of equally near ones the lowest label), which moves that mean; then its free neighbours enter,
    in raster order. At the start the neighbours of all seeds enter, in raster order of the seeds.
    So the result is defined to the last voxel. NaN and infinite voxels stay 0. 64-bit integers are
    compared as float64.

    Time O(n log n) at worst, one thread. Extra memory: 1 byte per voxel, and 24 bytes for each
    voxel in the list (twice that at most while the list grows).

    References
    ----------
    R. Adams and L. Bischof (1994), "Seeded region growing", IEEE Transactions on Pattern Analysis
    and Machine Intelligence 16(6):641-647. Voxels between two regions join one of them by the
    paper's equations 2 and 3; we mark no boundary.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.seeded_region_growing([[1, 2, 7, 9]], [[1, 0, 0, 2]]).tolist()
    [[1, 1, 2, 2]]
    """
    name = "seeded_region_growing"
    array = _checks.image(name, image)
    reach = _checks.connectivity(name, connectivity, array.ndim)
    seeds = _checks.as_array(name, markers, "markers")
    if seeds.dtype.kind not in "bui":
        raise TypeError(f"{name}: markers must be bool or integer, got {seeds.dtype}")
    if seeds.shape != array.shape:
        raise ValueError(
            f"{name}: markers must have the image's shape {array.shape}, got {seeds.shape}"
        )
    if seeds.dtype.kind == "i" and seeds.size and seeds.min() < 0:
        raise ValueError(f"{name}: markers must not be negative, got {seeds.min()}")
    inside = None
    if mask is not None:
        inside = _checks.as_array(name, mask, "mask")
        if inside.shape != array.shape:
            raise ValueError(
                f"{name}: mask must have the image's shape {array.shape}, got {inside.shape}"
            )
        inside = _checks.contiguous(inside.astype(bool, copy=False))
    farthest = math.inf
    if max_distance is not None:
        farthest = float(_checks.number(name, "max_distance", max_distance))
        if farthest < 0:
            raise ValueError(f"{name}: max_distance must not be negative, got {max_distance}")
    largest = _limit(name, "max_voxels", max_voxels)
    labels = _checks.output(name, out, array.shape, seeds.dtype)
    written = _checks.scratch(labels, array, inside)
    np.copyto(written, seeds)
    for label in core.seeded_region_growing(array, written, inside, reach, farthest, largest):
        _warn(f"{name}: label {label} stopped at max_voxels={largest} voxels")
    return _checks.finish(labels, written)


@operation()
def region_growing(
    image: ArrayLike,
    seeds: Any,
    criterion: Criterion,
    *,
    connectivity: int = 1,
    max_voxels: int | None = None,
    max_growth: int | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Grow one or several regions by a rule of your own, at compiled speed.

    Parameters
    ----------
    image : array_like
        At least one dimension; bool, integer or float.
    seeds : index, sequence of indices, or dict of label to either
        One index (a tuple of one int per axis) or several: one region, the result is a mask. A
        dict ``{label: seeds}`` grows several regions in one pass, the result holds their labels.
    criterion : function
        ``criterion(value, region_mean, region_std, seed_value)`` tells whether a voxel may join. A
        plain Python function: Numba compiles it once (extra ``jit``) and the C++ loop calls the
        machine code. Global variables and closures are constants of the compiled code. Also taken
        as they are: ``numba.cfunc`` and ctypes functions, and SciPy's LowLevelCallable without user
        data, of four doubles that return a bool.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one: 1 (faces) to ``image.ndim``.
    max_voxels : int, optional
        A region stops before the step that would take it beyond this many voxels.
    max_growth : int, optional
        A region stops before the step that would add more voxels than this: a leak through a
        narrow neck shows as a front that widens. A ball of radius r adds about 4 r**2 voxels with
        ``connectivity=1``.
    out : ndarray, optional
        Array of the image's shape that receives the result: bool, or int32 for a dict.

    Returns
    -------
    region : ndarray of bool, or of int32 for a dict
        Same shape as `image`; with labels, 0 is outside.

    Warns
    -----
    LeakWarning
        If a limit stopped a region. What it had before that step is returned.

    Raises
    ------
    TypeError
        If a dtype is not supported, or `criterion` cannot be compiled or has another signature.
    ValueError
        If a seed lies outside the image, on NaN, or belongs to two regions, or an argument is out
        of range.
    ImportError
        If a Python function comes without Numba being installed.
    RuntimeError
        If `criterion` raises an exception.

    Notes
    -----
    Regions grow in steps. In each step, the neighbours of the voxels that joined in the last one
    are put to the rule, with the mean and the (population) standard deviation that the region had
    before the step, and the value at the seed (of several seeds: their mean), all as float64. So a
    region does not depend on the order in which a step looks at voxels, and a voxel that was
    refused may be taken in a later step, as a neighbour of another one. Of several regions, the
    first in the dict takes its step first. NaN voxels are never inside. Division by zero in the
    rule gives infinity or NaN, as in C.

    Time: one call of the rule for each free neighbour of each voxel that joined; nothing depends on
    the image's size, except for the zeros of the result. Extra memory: 16 bytes for each voxel of
    two steps' fronts.

    References
    ----------
    B. P. Welford (1962), "Note on a method for calculating corrected sums of squares and products",
    Technometrics 4(3):419-420.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> def near(value, mean, std, seed_value):
    ...     return abs(value - mean) <= max(3 * std, 2)
    >>> ms.region_growing([[5, 6, 7, 30, 6]], (0, 0), near).tolist()
    [[True, True, True, False, False]]
    """
    name = "region_growing"
    array = _checks.image(name, image)
    reach = _checks.connectivity(name, connectivity, array.ndim)
    groups = dict(seeds) if isinstance(seeds, Mapping) else {1: seeds}
    dtype = np.int32 if isinstance(seeds, Mapping) else np.bool_
    values = [_checks.integer(name, "seeds", label, 1, 2**31 - 1) for label in groups]
    flat = [_seeds(name, group, array) for group in groups.values()]
    named = [voxel for group in flat for voxel in set(group)]
    if len(named) != len(set(named)):
        raise ValueError(f"{name}: seeds must not name one voxel for two labels")
    largest = _limit(name, "max_voxels", max_voxels)
    widest = _limit(name, "max_growth", max_growth)
    function, address = _c_function(name, criterion)
    region: NDArray[Any]
    written: NDArray[Any]
    if out is None:  # pages that the region does not reach are never touched
        region = written = np.zeros(array.shape, dtype)
    else:
        region = _checks.output(name, out, array.shape, dtype)
        written = _checks.scratch(region, array)
        written[...] = 0
    leaks = core.region_growing(
        array,
        np.array([voxel for group in flat for voxel in group], np.int64),
        np.cumsum([len(group) for group in flat], dtype=np.int64),
        np.array(values, np.int64),
        reach,
        address,
        largest,
        widest,
        written,
    )
    del function  # kept the C function alive
    for label, step, voxels, by_growth in leaks:
        limit = f"max_growth={widest}" if by_growth else f"max_voxels={largest}"
        of = f"label {label}" if dtype is np.int32 else "the region"
        _warn(f"{name}: {of} stopped with {voxels} voxels before step {step}, beyond {limit}")
    return _checks.finish(region, written)


def _limit(op: str, name: str, value: int | None) -> int:
    """A positive limit; 0 for none."""
    return 0 if value is None else _checks.integer(op, name, value, 1, 2**63 - 1)


def _warn(message: str) -> None:
    # From here up: the public function, its dispatching wrapper, the caller.
    warnings.warn(message, LeakWarning, stacklevel=4)


def _seeds(op: str, seeds: Any, image: NDArray[Any]) -> list[int]:
    """Flat indices of one index or a sequence of indices."""
    one = np.ndim(seeds) == 0 or (image.ndim > 0 and all(np.ndim(i) == 0 for i in seeds))
    several: Sequence[Any] = [seeds] if one else seeds
    if not one and len(several) == 0:
        raise ValueError(f"{op}: seeds must name at least one voxel")
    return [_checks.voxel(op, "seeds", seed, image) for seed in several]


def _c_function(op: str, criterion: Any) -> tuple[Any, int]:
    """The C function of a rule: an object that keeps it alive, and its address."""
    wanted = f"{op}: criterion must be a function of four doubles that returns a bool"
    kind = type(criterion)
    if kind.__name__ == "LowLevelCallable" and kind.__module__.startswith("scipy."):
        if criterion.user_data is not None:
            raise TypeError(f"{wanted}, without user data")
        criterion = criterion.function
    if isinstance(criterion, ctypes._CFuncPtr):  # type: ignore[attr-defined, unused-ignore]
        if list(criterion.argtypes or ()) != [ctypes.c_double] * 4 or (
            criterion.restype is not ctypes.c_bool
        ):
            raise TypeError(
                f"{wanted}, got argtypes {criterion.argtypes}, restype {criterion.restype}"
            )
        return criterion, ctypes.cast(criterion, ctypes.c_void_p).value or 0
    if kind.__module__.startswith("numba.") and hasattr(criterion, "address"):
        signature = str(criterion._sig)
        if signature.replace("boolean", "bool") != "(float64, float64, float64, float64) -> bool":
            raise TypeError(f"{wanted}, got a numba.cfunc of {signature}")
        return criterion, int(criterion.address)
    if not callable(criterion):
        raise TypeError(f"{wanted}, got {criterion!r}")
    try:
        from medseg_fast.kernels.criterion_numba import compile_criterion
    except ImportError as error:
        raise ImportError(
            f"{op}: a criterion in Python needs Numba: pip install 'medseg_fast[jit]'"
        ) from error
    from numba.core.errors import NumbaError

    try:
        compiled = compile_criterion(criterion)
    except (NumbaError, TypeError) as error:
        raise TypeError(f"{op}: criterion cannot be compiled by Numba: {error}") from error
    return compiled, int(compiled.address)
