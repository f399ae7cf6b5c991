"""Euclidean distance transforms."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

_Voxel = tuple[list[float], list[int], float]
_COARSEST = 1000  # largest multiple of the common unit


def _voxel(sizes: tuple[float, ...]) -> _Voxel:
    """Voxel sizes, as whole multiples of a unit where they have one, and that unit."""
    smallest = min(sizes)
    ratios = [Fraction(size / smallest).limit_denominator(_COARSEST) for size in sizes]
    shared = math.lcm(*(ratio.denominator for ratio in ratios))
    multiples = [int(ratio * shared) for ratio in ratios]
    common = math.gcd(*multiples)
    multiples = [multiple // common for multiple in multiples]
    unit = smallest * common / shared
    if max(multiples) > _COARSEST or any(
        abs(multiple * unit - size) > 4 * math.ulp(size)
        for multiple, size in zip(multiples, sizes, strict=True)
    ):
        return list(sizes), [], 1.0
    return list(sizes), multiples, unit


def _exact(voxel: _Voxel) -> _Voxel:
    """Without multiples where a product with the unit rounds, so that ties fall as in float64."""
    sizes, multiples, unit = voxel
    exact = math.frexp(unit)[0] == 0.5 and [m * unit for m in multiples] == sizes
    return voxel if exact else (sizes, [], 1.0)


def _sizes(op: str, name: str, value: Any, ndim: int) -> tuple[float, ...]:
    """Voxel sizes from a number for all axes or one number an axis; None means 1."""
    if value is None:
        return (1.0,) * ndim
    given = [value] * ndim if np.ndim(value) == 0 else list(value)
    if len(given) != ndim:
        raise RuntimeError(
            f"{op}: {name} must be one number or {ndim}, one an axis, got {len(given)}"
        )
    sizes = tuple(float(_checks.number(op, name, v)) for v in given)
    if not all(0 < s < math.inf for s in sizes):
        raise ValueError(f"{op}: {name} must be positive and finite, got {value!r}")
    return sizes


def _inside(op: str, value: Any, name: str) -> NDArray[np.bool_]:
    """A contiguous mask of what is not zero; NaN is not zero."""
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return _checks.contiguous(array)
    array = _checks.image(op, array, name)
    return np.not_equal(array, 0)


def _float(op: str, dtype: Any) -> np.dtype[Any]:
    wanted = np.dtype(dtype)
    if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"{op}: dtype must be float32 or float64, got {wanted}")
    return wanted


def _given(op: str, name: str, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """An output array of the caller's, checked as SciPy does."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{op}: {name} must be a NumPy array, got {type(array).__qualname__}")
    if array.shape != shape or array.dtype.newbyteorder("=") != dtype:
        raise RuntimeError(
            f"{op}: {name} must have shape {shape} and dtype {dtype}, "
            f"got {array.shape} and {array.dtype}"
        )
    return _checks.output(op, array, shape, array.dtype)


def _transform_like(
    input: Any,
    sampling: Any = None,
    return_distances: bool = True,
    return_indices: bool = False,
    distances: Any = None,
    indices: Any = None,
    *,
    dtype: Any = np.float64,
) -> Any:
    shape = tuple(input.shape) or (1,)
    told: list[tuple[tuple[int, ...], Any]] = []
    if return_distances and distances is None:
        told.append((shape, np.dtype(dtype)))
    if return_indices and indices is None:
        told.append(((len(shape), *shape), np.int32))
    return told[0] if len(told) == 1 else tuple(told) if told else None


@operation(result=_transform_like, mutates=("distances", "indices"))
def distance_transform_edt(
    input: ArrayLike,
    sampling: float | ArrayLike | None = None,
    return_distances: bool = True,
    return_indices: bool = False,
    distances: NDArray[Any] | None = None,
    indices: NDArray[np.int32] | None = None,
    *,
    dtype: DTypeLike = np.float64,
) -> Any:
    """Exact Euclidean distance of every foreground voxel to the nearest background voxel.

    The results are those of ``scipy.ndimage.distance_transform_edt``.

    Parameters
    ----------
    input : array_like
        Bool, integer or float, of any rank (a scalar counts as one voxel in 1D). What is not zero,
        NaN included, is foreground.
    sampling : float or sequence of float, optional
        Voxel size in mm, one number or one an axis. Without it 1.
    return_distances : bool, optional
        Whether to compute distances.
    return_indices : bool, optional
        Whether to compute which background voxel is the nearest.
    distances : ndarray, optional
        Array of the shape of `input` and of `dtype` that receives the distances, which are then not
        returned.
    indices : ndarray of int32, optional
        Array of shape ``(ndim, *input.shape)`` that receives the indices, which are then not
        returned.
    dtype : {float64, float32}, optional
        Of the distances. float32 is float64 rounded.

    Returns
    -------
    distances : ndarray of `dtype`
        0 in the background. If nothing is background, +inf everywhere (SciPy's answer depends on
        the voxel's place).
    indices : ndarray of int32
        Coordinates of the nearest background voxel, -1 if there is none. Of several equally near
        ones that with the lowest last coordinate, then the lowest one before it, and so on: SciPy's
        choice.

        Both as a tuple if both are wanted and neither was given; None if nothing is left to return.

    Raises
    ------
    TypeError
        If the dtype of `input` or `dtype` is not supported, or an output is not a NumPy array.
    ValueError
        If `sampling` is not positive and finite, or an output is read-only.
    RuntimeError
        As in SciPy: if nothing is to be computed, an output is given for what is not to be
        computed, an output has another shape or dtype, or `sampling` another length.

    Notes
    -----
    Time O(n ndim) on all threads. Extra memory beside the result: 2 bytes per voxel while distances
    stay below 256 voxels, 4 beyond, 8 where voxel sizes have no common unit; 1 more if `input` is
    not bool. Without `sampling`, or where voxel sizes are multiples of a power of two, distances
    are correctly rounded roots of exact integers and equal SciPy's to the last bit. Otherwise they
    are within 4 units in the last place, and of two voxels whose distances differ by less SciPy may
    choose the other one.

    References
    ----------
    .. [1] P. Felzenszwalb and D. Huttenlocher, "Distance transforms of sampled functions", Theory
       of Computing 8 (2012) 415-428.
    .. [2] A. Meijster, J. Roerdink and W. Hesselink, "A general algorithm for computing distance
       transforms in linear time", Mathematical Morphology and its Applications to Image and Signal
       Processing (2000) 331-340.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.distance_transform_edt([0, 1, 1, 1, 1, 0]).tolist()
    [0.0, 1.0, 2.0, 2.0, 1.0, 0.0]
    >>> ms.distance_transform_edt([[1, 1], [1, 0]], sampling=[3, 4]).tolist()
    [[5.0, 3.0], [4.0, 0.0]]
    """
    op = "distance_transform_edt"
    wrong = []
    if not (return_distances or return_indices):
        wrong.append("at least one of return_distances/return_indices must be True")
    if distances is not None and not return_distances:
        wrong.append("return_distances must be True if distances is supplied")
    if indices is not None and not return_indices:
        wrong.append("return_indices must be True if indices is supplied")
    if wrong:
        raise RuntimeError(f"{op}: {', '.join(wrong)}")
    wanted = _float(op, dtype)
    mask = np.atleast_1d(_inside(op, input, "input"))
    voxel = _voxel(_sizes(op, "sampling", sampling, mask.ndim))
    full = (mask.ndim, *mask.shape)
    far: NDArray[Any] | None = None
    near: NDArray[Any] | None = None
    if return_distances:
        far = np.empty(mask.shape, wanted)
        if distances is not None:
            far = _given(op, "distances", distances, mask.shape, wanted)
    if return_indices:
        near = np.empty(full, np.int32)
        if indices is not None:
            near = _given(op, "indices", indices, full, np.dtype(np.int32))
    _fill(mask, voxel, far, near)
    results = [
        array
        for array, given in ((far, distances), (near, indices))
        if array is not None and given is None
    ]
    return None if not results else results[0] if len(results) == 1 else tuple(results)


def _fill(
    mask: NDArray[np.bool_], voxel: _Voxel, far: NDArray[Any] | None, near: NDArray[Any] | None
) -> None:
    """Write distances to `far` and indices to `near`, where wanted."""
    if mask.all():  # also of no voxels
        if far is not None:
            far[...] = np.inf
        if near is not None:
            near[...] = -1
        return
    written = None if far is None else _checks.scratch(far)
    if near is None:
        core.distance_transform(mask, *voxel, written)
    else:
        rows = _checks.scratch(near)
        core.nearest_background(mask, *_exact(voxel), written, rows)
        _checks.finish(near, rows)
    if far is not None and written is not None:
        _checks.finish(far, written)
