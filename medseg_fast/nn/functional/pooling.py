"""Max pooling that remembers positions, its inverse, and pooling into a pyramid of grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional._layout import floats, per_axis, space_rank

_LONG = 256  # numbers of a geometry beyond are rare
_Geometry = list[tuple[int, int, int, int]]


def _pooled(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Any:
    """The `result` of `max_pool_with_indices`."""
    op = "max_pool_with_indices"
    geometry = _geometry(op, input, kernel_size, stride, padding, dilation)
    shape = _pooled_shape(op, input, geometry, ceil_mode)
    return (shape, input.dtype), (shape, np.int64)


def _pool_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    input, indices = given["input"], results[1]
    rank = space_rank("max_pool_with_indices", "kernel_size", given["kernel_size"], input)
    flat = input.new_zeros(input.shape).flatten(-rank)
    spread = flat.scatter_add(-1, indices.flatten(-rank), gradients[0].flatten(-rank))
    return {"input": spread.reshape(input.shape)}


@operation(result=_pooled, gradient=_pool_gradient)
def max_pool_with_indices(
    input: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Max pooling that also tells where each maximum was (SegNet's encoder).

    ``torch.nn.functional.max_pool2d`` and ``max_pool3d`` with ``return_indices=True``: the same
    arguments and results.

    Parameters
    ----------
    input : array_like
        Shape ([N,] C, H, W) or ([N,] C, D, H, W): float16, float32 or float64. Four axes are
        (N, C, H, W) unless `kernel_size` has three numbers.
    kernel_size : int or sequence of int
        Size of the window, for all axes or each.
    stride : int or sequence of int, optional
        Step from window to window; by default `kernel_size`.
    padding : int or sequence of int, default 0
        How far windows reach beyond the input on both sides; at most half of `kernel_size`.
    dilation : int or sequence of int, default 1
        Step between the values of a window.
    ceil_mode : bool, default False
        Round the number of windows up instead of down.

    Returns
    -------
    values : ndarray
        The largest value of each window, in the input's dtype; NaN if one is NaN.
    indices : ndarray of int64
        Its index in the plane or volume of its channel, rows after one another. The first of equal
        values; the last NaN.

    Raises
    ------
    TypeError
        If the input is not of floats, or a size is not an integer.
    ValueError
        If a size does not fit.

    Notes
    -----
    Time O(values times the window's size). Extra memory: none beside the results for C-contiguous
    float32 and float64; other input is copied, float16 as float32. Differentiable in PyTorch.

    References
    ----------
    .. [1] Badrinarayanan, V., Kendall, A., Cipolla, R.: SegNet: A Deep Convolutional
       Encoder-Decoder Architecture for Image Segmentation. IEEE TPAMI 39 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import max_pool_with_indices
    >>> values, indices = max_pool_with_indices(np.array([[[1.0, 5, 2, 2], [3, 4, 0, 1]]]), 2)
    >>> values.tolist(), indices.tolist()
    ([[[5.0, 2.0]]], [[[1, 2]]])
    """
    op = "max_pool_with_indices"
    array = floats(op, "input", input)
    geometry = _geometry(op, array, kernel_size, stride, padding, dilation)
    shape = _pooled_shape(op, array, geometry, ceil_mode)
    rank = len(geometry)
    if max(map(max, geometry)) > _LONG:
        geometry = _reached(op, array, kernel_size, geometry)
    wide = _checks.contiguous(array.astype(np.float32) if array.itemsize == 2 else array)
    values, indices = _checks.empty(shape, wide.dtype), _checks.empty(shape, np.int64)
    flat = (1,) * (3 - rank)
    core.max_pool(
        wide.reshape((-1, *flat, *array.shape[-rank:])) if array.size else wide,
        [(1, 1, 0, 1)] * (3 - rank) + geometry,
        values.reshape((-1, *flat, *shape[-rank:])) if values.size else values,
        indices.reshape((-1, *flat, *shape[-rank:])) if values.size else indices,
    )
    return values.astype(array.dtype.newbyteorder("="), copy=False), indices


def _geometry(
    op: str, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any
) -> _Geometry:
    """Kernel, stride, padding and dilation of each axis."""
    rank = space_rank(op, "kernel_size", kernel_size, input)
    kernels = per_axis(op, "kernel_size", kernel_size, rank, 1)
    strides = kernels if stride is None else per_axis(op, "stride", stride, rank, 1)
    paddings = per_axis(op, "padding", padding, rank, 0)
    dilations = per_axis(op, "dilation", dilation, rank, 1)
    if any(2 * p > k for p, k in zip(paddings, kernels, strict=True)):
        raise ValueError(f"{op}: padding must be at most half of kernel_size, got {padding!r}")
    return list(zip(kernels, strides, paddings, dilations, strict=True))


def _reached(op: str, input: NDArray[Any], kernel_size: Any, geometry: _Geometry) -> _Geometry:
    """The same without steps that are longer than the padded axes; refuses endless windows."""
    _checks.addressable(op, "kernel_size", kernel_size, [kernel for kernel, *_ in geometry])
    longest = [n + 2 * g[2] for n, g in zip(input.shape[-len(geometry) :], geometry, strict=True)]
    return [(k, min(s, n), p, min(d, n)) for n, (k, s, p, d) in zip(longest, geometry, strict=True)]


def _pooled_shape(op: str, input: Any, geometry: _Geometry, ceil_mode: bool) -> tuple[int, ...]:
    rank = len(geometry)
    counts = []
    for n, (kernel, stride, padding, dilation) in zip(input.shape[-rank:], geometry, strict=True):
        room = n + 2 * padding - dilation * (kernel - 1) - 1
        count = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
        if ceil_mode and (count - 1) * stride >= n + padding:
            count = count - 1  # the last window must start inside the input
        if count < 1:
            raise ValueError(f"{op}: input must hold a window, got shape {tuple(input.shape)}")
        counts.append(count)
    return (*input.shape[:-rank], *counts)


def _unpooled(
    input: Any,
    indices: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Any:
    """The `result` of `max_unpool`."""
    return _unpooled_shape(input, kernel_size, stride, padding, output_size), input.dtype


def _unpool_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    input, indices = given["input"], given["indices"]
    rank = space_rank("max_unpool", "kernel_size", given["kernel_size"], input)
    taken = gradients[0].flatten(-rank).gather(-1, indices.flatten(-rank))
    return {"input": taken.reshape(input.shape)}


@operation(result=_unpooled, gradient=_unpool_gradient, gpu="pooling")
def max_unpool(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    output_size: Sequence[int] | None = None,
) -> NDArray[Any]:
    """Put values back where `max_pool_with_indices` found them, zeros elsewhere (SegNet's decoder).

    ``torch.nn.functional.max_unpool2d`` and ``max_unpool3d``: the same arguments and results.

    Parameters
    ----------
    input : array_like
        Shape ([N,] C, H, W) or ([N,] C, D, H, W): float16, float32 or float64. Four axes are
        (N, C, H, W) unless `kernel_size` has three numbers.
    indices : array_like of int
        Where each value goes in the plane or volume of its channel. Same shape as `input`.
    kernel_size, stride, padding : int or sequence of int
        Of the pooling; `stride` is `kernel_size` by default. They tell the result's size, if
        `output_size` does not.
    output_size : sequence of int, optional
        The size in space, or the whole shape, of what was pooled.

    Returns
    -------
    output : ndarray
        The input's dtype.

    Raises
    ------
    TypeError
        If the input is not of floats or the indices are not integers.
    ValueError
        If a shape does not fit, or an index lies outside the plane.

    Notes
    -----
    Where windows overlapped, several values may have one index: the last of them counts. NaN is a
    value as others. Time O(output). Extra memory: none for C-contiguous input and int64 indices.
    Differentiable in PyTorch.

    References
    ----------
    .. [1] Badrinarayanan, V., Kendall, A., Cipolla, R.: SegNet: A Deep Convolutional
       Encoder-Decoder Architecture for Image Segmentation. IEEE TPAMI 39 (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import max_unpool
    >>> max_unpool(np.array([[[5.0, 2.0]]]), [[[1, 2]]], 2).tolist()
    [[[0.0, 5.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0]]]
    """
    op = "max_unpool"
    values, where = floats(op, "input", input), np.asarray(indices)
    if where.dtype.kind not in "ui":
        raise TypeError(f"{op}: indices must be integers, got {where.dtype}")
    if where.shape != values.shape:
        raise ValueError(
            f"{op}: indices must have the input's shape {values.shape}, got {where.shape}"
        )
    if output_size is not None:
        wanted = _checks.sequence(op, "output_size", output_size)
        output_size = [_checks.integer(op, "output_size", n) for n in wanted]
    shape = _unpooled_shape(values, kernel_size, stride, padding, output_size)
    _checks.addressable(op, "kernel_size and stride", (kernel_size, stride), shape)
    rank = space_rank(op, "kernel_size", kernel_size, values)
    output = _checks.empty(shape, values.dtype.newbyteorder("="))
    if not output.size:
        return output
    places = int(np.prod(shape[-rank:]))
    if where.dtype == np.uint64 and where.max(initial=0) >= places:  # may be no int64
        raise ValueError(f"{op}: indices must be from 0 to {places - 1}, got {where.max()}")
    planes, rows = int(np.prod(shape[:-rank])), values.shape[-rank]
    flat = (planes, rows, int(np.prod(values.shape[1 - rank :])))
    core.max_unpool(
        _checks.contiguous(values).reshape(flat),
        _checks.contiguous(where.astype(np.int64, copy=False)).reshape(flat),
        output.reshape(planes, places),
    )
    return output


def _unpooled_shape(
    input: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any
) -> tuple[int, ...]:
    op = "max_unpool"
    rank = space_rank(op, "kernel_size", kernel_size, input)
    kernels = per_axis(op, "kernel_size", kernel_size, rank, 1)
    strides = kernels if stride is None else per_axis(op, "stride", stride, rank, 1)
    paddings = per_axis(op, "padding", padding, rank, 0)
    usual = tuple(
        (n - 1) * s - 2 * p + k
        for n, k, s, p in zip(input.shape[-rank:], kernels, strides, paddings, strict=True)
    )
    if output_size is None:
        sizes = usual
    else:
        wanted = tuple(output_size)
        sizes = wanted[-rank:]
        fits = len(wanted) in (rank, len(input.shape)) and all(
            u - s < w < u + s for w, u, s in zip(sizes, usual, strides, strict=True)
        )
        if not fits:
            raise ValueError(
                f"{op}: output_size must be within a stride of {usual}, got {output_size!r}"
            )
    if min(sizes) < 0:
        raise ValueError(f"{op}: padding must leave a size of at least 0, got {padding!r}: {sizes}")
    return (*input.shape[:-rank], *sizes)
