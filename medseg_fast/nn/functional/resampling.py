"""Labels of logits on another grid, without the resampled logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional._layout import memory_order, per_axis, several, space_rank

_ENDLESS = 2.0**60  # more labels than there can be: infinity is no integer


class _Grid(NamedTuple):
    """What a call asks for: the outputs along each axis, and how many inputs one covers."""

    rank: int  # axes in space: 2 or 3
    shape: tuple[int, ...]
    scales: tuple[float, ...]


def _result(
    logits: Any,
    size: Any = None,
    *,
    scale_factor: Any = None,
    spacing: Any = None,
    new_spacing: Any = None,
    order: Any = 1,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: Any = None,
    out: Any = None,
) -> Any:
    """The `result` of `resample_argmax`."""
    grid = _grid("resample_argmax", logits, size, scale_factor, spacing, new_spacing, align_corners)
    classes = logits.shape[logits.ndim - grid.rank - 1]
    found = _label_dtype("resample_argmax", dtype, classes, threshold)
    return (*logits.shape[: logits.ndim - grid.rank - 1], *grid.shape), found


@operation(result=_result, gpu="resampling")
def resample_argmax(
    logits: ArrayLike,
    size: int | Sequence[int] | None = None,
    *,
    scale_factor: float | Sequence[float] | None = None,
    spacing: Sequence[float] | None = None,
    new_spacing: Sequence[float] | None = None,
    order: int | Sequence[int] = 1,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Resample logits to another grid and label each voxel with the class of the largest one.

    The labels of ``torch.nn.functional.interpolate(logits, size, mode="trilinear").argmax(1)``, and
    of nnU-Net's export, without ever holding the resampled logits.

    Parameters
    ----------
    logits : array_like
        Shape (C, H, W) or (C, D, H, W), or with a batch axis before: floats, in any memory order
        (also channels-last). Integers are taken as float32, those of 32 and 64 bits as float64.
    size : int or sequence of int, optional
        Shape of the labels without the batch, one number per axis in space. Say one of `size`,
        `scale_factor` and `spacing`. One number for all axes reads four axes as (N, C, H, W).
    scale_factor : float or sequence of float, optional
        Labels per logit along each axis; the shape is rounded down, as PyTorch does.
    spacing, new_spacing : sequence of float, optional
        Distance in mm between logits and between labels, along each axis; the shape is rounded to
        the nearest, as nnU-Net does.
    order : int or sequence of int, default 1
        1: linear. 0: the nearest voxel. One number or one per axis: ``(0, 1, 1)`` is nnU-Net's
        way for thick slices (its ``force_separate_z``).
    align_corners : bool, default False
        Whether the centres of the corner voxels coincide, instead of their outer corners.
    threshold : float, optional
        For classes that may overlap (sigmoid instead of softmax; nnU-Net's regions): the label is
        1 + the last class whose logit exceeds `threshold`, 0 where none does. A probability of
        one half is a threshold of 0.
    dtype : dtype, optional
        Integer type of the labels. By default the smallest unsigned one.
    out : ndarray, optional
        Array of the result's shape and dtype that receives it.

    Returns
    -------
    labels : ndarray of uint8, uint16 or uint32
        Shape ([N,] [D,] H, W). Of equal logits the first class wins, as in ``torch.argmax``.

    Raises
    ------
    TypeError
        If the logits are not real numbers, or `dtype` is not an integer type.
    ValueError
        If a shape, size, scale or spacing does not fit, `dtype` cannot hold the labels, there are
        no classes, or an axis without logits is to have labels.

    Notes
    -----
    Float32 and float16 logits are interpolated in float32 in PyTorch's order (columns, rows,
    planes) and not rounded to float16 in between; float64 in float64. scikit-image's and SciPy's
    linear resizing (``mode="edge"``, ``grid_mode=True``), which nnU-Net applies class by class,
    is the same function in float64: labels differ only where two classes tie within rounding.

    NaN and +inf count as the largest logit, -inf as the smallest (a quarter of the dtype's largest
    number, 8.5e37 in float32; finite logits beyond it count as it, and tie): a class that is masked
    by -inf never wins beside finite ones, where PyTorch makes NaN of it and labels with it.

    Where one class exceeds all others at all corners of a cell of the input grid it wins
    everywhere in it; only the other cells are interpolated, for the classes left in them. Time
    O(C times the logits' voxels + labels), and O(C) per voxel in cells that no class owns. Extra
    memory per thread: four rows of all classes. Logits whose memory is not contiguous in any order
    of the axes, or not in native byte order, are copied once.

    On a GPU the labels are the same; every class is interpolated for every label. Logits that are
    not C-contiguous are copied, float16 as float32.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import resample_argmax
    >>> logits = np.array([[[2.0, 0.0]], [[0.0, 3.0]]])  # two classes, 1 x 2 pixels
    >>> resample_argmax(logits, (1, 8)).tolist()
    [[0, 0, 0, 0, 1, 1, 1, 1]]
    """
    op = "resample_argmax"
    array = _logits(op, logits)
    grid = _grid(op, array, size, scale_factor, spacing, new_spacing, align_corners)
    return _labels(op, array, grid, order, align_corners, threshold, dtype, out)


def _upsampled(
    logits: Any,
    scale_factor: Any,
    *,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: Any = None,
    out: Any = None,
) -> Any:
    """The `result` of `upsample_argmax`."""
    grid = _grid("upsample_argmax", logits, None, scale_factor, None, None, align_corners)
    classes = logits.shape[logits.ndim - grid.rank - 1]
    found = _label_dtype("upsample_argmax", dtype, classes, threshold)
    return (*logits.shape[: logits.ndim - grid.rank - 1], *grid.shape), found


@operation(result=_upsampled, gpu="resampling")
def upsample_argmax(
    logits: ArrayLike,
    scale_factor: float | Sequence[float],
    *,
    align_corners: bool = False,
    threshold: float | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Labels of a network's low-resolution logits: upsample linearly, then argmax, in one step.

    ``torch.nn.functional.interpolate(logits, scale_factor=8, mode="bilinear").argmax(1)`` without
    the upsampled logits.

    Parameters
    ----------
    logits : array_like
        Shape (C, H, W) or (N, C, H, W), or (N, C, D, H, W); with three scale factors also
        (C, D, H, W). Floats, in any memory order (also channels-last).
    scale_factor : float or sequence of float
        Labels per logit, for all axes or each. The shape is rounded down.
    align_corners, threshold, dtype, out
        As in `resample_argmax`.

    Returns
    -------
    labels : ndarray of uint8, uint16 or uint32
        Shape ([N,] [D,] H, W). Of equal logits the first class wins, as in ``torch.argmax``.

    Raises
    ------
    TypeError, ValueError
        As `resample_argmax`.

    Notes
    -----
    Ties, NaN, time and memory as in `resample_argmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import upsample_argmax
    >>> upsample_argmax(np.array([[[2.0, 0.0]], [[0.0, 3.0]]]), (1, 4)).tolist()
    [[0, 0, 0, 0, 1, 1, 1, 1]]
    """
    op = "upsample_argmax"
    array = _logits(op, logits)
    grid = _grid(op, array, None, scale_factor, None, None, align_corners)
    return _labels(op, array, grid, 1, align_corners, threshold, dtype, out)


def _labels(
    op: str,
    array: NDArray[Any],
    grid: _Grid,
    order: int | Sequence[int],
    align_corners: bool,
    threshold: float | None,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
) -> NDArray[Any]:
    """Both functions, once they know the grid."""
    batch = array.shape[: array.ndim - grid.rank - 1]
    if threshold is not None:
        threshold = float(_checks.number(op, "threshold", threshold))
    kind = _label_dtype(op, dtype, array.shape[len(batch)], threshold)
    labels = _checks.output(op, out, (*batch, *grid.shape), kind)
    linear = _orders(op, order, grid.rank)
    if labels.size and 0 in array.shape:
        raise ValueError(f"{op}: logits must have a value along every axis, got {array.shape}")
    written = _checks.scratch(labels, array)
    stored, strides = memory_order(array)
    flat = 3 - grid.rank  # one plane in 2D
    one_batch, stretch = (1,) * (1 - len(batch)), (0,) * (1 - len(batch))
    core.resample_argmax(
        stored,
        (*one_batch, *array.shape[: -grid.rank], *(1,) * flat, *array.shape[-grid.rank :]),
        (*stretch, *strides[: -grid.rank], *(0,) * flat, *strides[-grid.rank :]),
        (1.0,) * flat + grid.scales,
        (True,) * flat + linear,
        bool(align_corners),
        threshold,
        written.reshape((*one_batch, *batch, *(1,) * flat, *grid.shape)),
    )
    return _checks.finish(labels, written)


def _logits(op: str, value: ArrayLike) -> NDArray[Any]:
    """Floats that the kernel reads: of 16, 32 or 64 bits."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        raise TypeError(f"{op}: logits must be real numbers, got {array.dtype}")
    if array.ndim not in (3, 4, 5):
        raise ValueError(f"{op}: logits must have 3 to 5 dimensions, got shape {array.shape}")
    if array.dtype.kind == "f":
        return array
    return array.astype(np.result_type(array.dtype, np.float32))


def _grid(
    op: str,
    logits: Any,
    size: Any,
    scale_factor: Any,
    spacing: Any,
    new_spacing: Any,
    align_corners: bool,
) -> _Grid:
    """The grid that is asked for by exactly one of the three ways."""
    if sum(way is not None for way in (size, scale_factor, spacing)) != 1:
        raise ValueError(f"{op}: say one of size, scale_factor and spacing")
    if (spacing is None) != (new_spacing is None):
        raise ValueError(f"{op}: spacing and new_spacing go together")
    name, wanted = next(
        (name, way)
        for name, way in (("size", size), ("scale_factor", scale_factor), ("spacing", spacing))
        if way is not None
    )
    rank = space_rank(op, name, wanted, logits)
    inputs = tuple(logits.shape[-rank:])
    given = tuple(wanted) if several(wanted) else (wanted,) * rank
    factors = [1.0] * rank
    if name == "size":
        shape = tuple(_checks.integer(op, "size", n, 0) for n in given)
    elif name == "scale_factor":
        factors = [float(_checks.number(op, "scale_factor", f)) for f in given]
        if not all(0 < f < math.inf for f in factors):
            raise ValueError(f"{op}: scale_factor must be positive, got {wanted!r}")
        shape = tuple(int(min(_ENDLESS, n * f)) for n, f in zip(inputs, factors, strict=True))
    else:
        old = _checks.spacing(op, spacing, rank)
        new = _checks.spacing(op, new_spacing, rank, "new_spacing")
        sizes = (a / b * n for n, a, b in zip(inputs, old, new, strict=True))
        shape = tuple(round(min(_ENDLESS, size)) for size in sizes)
    _checks.addressable(op, name, wanted, shape)
    scales = []
    for inputs_, outputs, factor in zip(inputs, shape, factors, strict=True):
        if outputs == inputs_:
            scales.append(1.0)
        elif align_corners:
            scales.append((inputs_ - 1) / (outputs - 1) if outputs > 1 else 0.0)
        elif name == "scale_factor":
            scales.append(1 / factor)
        else:
            scales.append(inputs_ / outputs if outputs else 1.0)
    return _Grid(rank, shape, tuple(scales))


def _label_dtype(op: str, dtype: Any, classes: int, threshold: float | None) -> np.dtype[Any]:
    """The type asked for, or the smallest unsigned one that holds all labels."""
    if classes < 1:
        raise ValueError(f"{op}: logits must have at least one class, got {classes}")
    most = int(classes) - (threshold is None)
    if dtype is None:
        return np.dtype(np.min_scalar_type(most))
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{op}: dtype must be a NumPy integer type, got {dtype!r}") from None
    if kind.kind not in "ui":
        raise TypeError(f"{op}: dtype must be an integer type, got {kind}")
    if np.iinfo(kind).max < most:
        raise ValueError(f"{op}: dtype must hold labels up to {most}, got {kind}")
    return kind


def _orders(op: str, order: int | Sequence[int], rank: int) -> tuple[bool, ...]:
    """Whether each axis is linear."""
    given = per_axis(op, "order", order, rank, 0)
    return tuple(_checks.integer(op, "order", o, 0, 1) == 1 for o in given)
