"""A U-Net's way up: doubling by a transposed convolution, and joining the skip connection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional._layout import floats


def _doubled(x: Any, weight: Any, bias: Any = None, *, out: Any = None) -> Any:
    """The `result` of `transposed_conv2x2`."""
    rank = len(weight.shape) - 2
    space = tuple(2 * n for n in x.shape[-rank:])
    return (*x.shape[: -rank - 1], weight.shape[1], *space), x.dtype


def _conv_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    x, weight, gradient = given["x"], given["weight"], gradients[0]
    rank = weight.ndim - 2
    batched = x if x.ndim == rank + 2 else x[None]
    # (N, O, D, 2, H, 2, W, 2) -> the taps of each voxel beside its channel: (N, O * taps, voxels)
    parts = gradient.reshape(
        batched.shape[0], weight.shape[1], *(k for n in x.shape[-rank:] for k in (n, 2))
    )
    axes = range(2, 2 + 2 * rank)
    parts = parts.permute(0, 1, *axes[1::2], *axes[::2]).flatten(1, 1 + rank).flatten(2)
    by_x = weight.reshape(weight.shape[0], -1) @ parts
    by_weight = (batched.flatten(-rank) @ parts.mT).sum(0)
    found = {"x": by_x.reshape(x.shape), "weight": by_weight.reshape(weight.shape)}
    if given.get("bias") is not None:
        found["bias"] = gradient.transpose(0, -rank - 1).flatten(1).sum(1)
        if x.ndim == rank + 1:
            found["bias"] = gradient.flatten(1).sum(1)
    return found


@operation(result=_doubled, gradient=_conv_gradient, gpu="upsampling")
def transposed_conv2x2(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Double an image's size by a transposed convolution of kernel 2 and stride 2.

    ``torch.nn.functional.conv_transpose2d(x, weight, bias, stride=2)``, and ``conv_transpose3d``
    for a kernel of three axes.

    Parameters
    ----------
    x : array_like
        Features of shape ([N,] C, H, W) or ([N,] C, D, H, W): float16, float32 or float64.
    weight : array_like
        Shape (C, O, 2, 2) or (C, O, 2, 2, 2), as in PyTorch.
    bias : array_like, optional
        Shape (O,).
    out : ndarray, optional
        Where the result goes, which is then returned. It may be `x`'s memory.

    Returns
    -------
    doubled : ndarray
        Shape ([N,] O, [2 D,] 2 H, 2 W), in the dtype of `x`.

    Raises
    ------
    TypeError
        If `x` is not of floats, or `weight` or `bias` not of real numbers.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Sums over channels are in float32 (float64 for float64) and in order, rounded after each
    product and sum or once for both, as the CPU can. NaN spreads as in any sum. Time O(result
    times C). Extra memory: for each thread 256 kB, or C by some 256 voxels if those are more, and
    the weights of 8 outputs; input that is not C-contiguous is copied, float16 as float32.
    Differentiable in PyTorch. On a GPU nothing waits, and no memory beside the result is taken.

    References
    ----------
    .. [1] Ronneberger, O., Fischer, P., Brox, T.: U-Net: Convolutional Networks for Biomedical
       Image Segmentation. MICCAI (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import transposed_conv2x2
    >>> transposed_conv2x2([[[1.0, 2.0]]], np.array([[[[1, 2], [3, 4]]]]), [10]).tolist()
    [[[11.0, 12.0, 12.0, 14.0], [13.0, 14.0, 16.0, 18.0]]]
    """
    op = "transposed_conv2x2"
    array, kernel = floats(op, "x", x), _checks.image(op, weight, "weight")
    rank = kernel.ndim - 2
    if rank not in (2, 3) or kernel.shape[2:] != (2,) * rank:
        raise ValueError(f"{op}: weight must have shape (C, O, [2,] 2, 2), got {kernel.shape}")
    if array.ndim not in (rank + 1, rank + 2) or array.shape[-rank - 1] != len(kernel):
        raise ValueError(
            f"{op}: x must have shape ([N,] {len(kernel)}, {'D, ' * (rank - 2)}H, W), "
            f"got {array.shape}"
        )
    wide = _checks.contiguous(array.astype(np.float32) if array.itemsize == 2 else array)
    outputs = kernel.shape[1]
    added = np.zeros(outputs) if bias is None else _checks.image(op, bias, "bias")
    if added.shape != (outputs,):
        raise ValueError(f"{op}: bias must have shape ({outputs},), got {added.shape}")
    kernel = _checks.contiguous(kernel.astype(wide.dtype, copy=False))
    result = _checks.output(op, out, _doubled(array, kernel)[0], array.dtype.newbyteorder("="))
    doubled = _target(result, wide.dtype, array, kernel, added)
    batch, flat = int(np.prod(array.shape[: -rank - 1])), (1,) * (3 - rank)
    core.transposed_conv2x2(
        wide.reshape(batch, len(kernel), *flat, *array.shape[-rank:]),
        kernel.reshape(len(kernel), outputs, *flat, *kernel.shape[2:]),
        _checks.contiguous(added.astype(wide.dtype, copy=False)),
        doubled.reshape(batch, outputs, *flat, *doubled.shape[-rank:]),
    )
    return _checks.finish(result, doubled)


def _target(out: NDArray[Any], dtype: np.dtype[Any], *inputs: NDArray[Any]) -> NDArray[Any]:
    """What a kernel writes for `out`: itself, or a stand-in where dtype or memory forbid that."""
    if out.dtype != dtype or any(np.may_share_memory(out, each) for each in inputs):
        return _checks.empty(out.shape, dtype)
    return _checks.scratch(out)


def _joined(skip: Any, x: Any, *, out: Any = None) -> Any:
    """The `result` of `crop_concat`."""
    rank = _space(skip, x)
    channels = skip.shape[-rank - 1] + x.shape[-rank - 1]
    return (*x.shape[: -rank - 1], channels, *x.shape[-rank:]), x.dtype


def _join_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    skip, x, gradient = given["skip"], given["x"], gradients[0]
    rank = _space(skip, x)
    channels = skip.shape[-rank - 1]
    middle: tuple[Any, ...] = (..., slice(0, channels))
    for begin, n in zip(_crop(skip, x, rank), x.shape[-rank:], strict=True):
        middle += (slice(begin, begin + n),)
    by_skip = gradient.new_zeros(skip.shape)
    by_skip[middle] = gradient.narrow(-rank - 1, 0, channels)
    return {"skip": by_skip, "x": gradient.narrow(-rank - 1, channels, x.shape[-rank - 1])}


@operation(result=_joined, gradient=_join_gradient, gpu="upsampling")
def crop_concat(skip: ArrayLike, x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Cut the middle of the skip connection to the size of `x` and put `x` behind its channels.

    The copy-and-crop arrow of a U-Net with valid convolutions; without a difference in size a
    concatenation.

    Parameters
    ----------
    skip : array_like
        Features of shape ([N,] A, H, W) or (N, A, D, H, W), as large as `x` or larger in space.
    x : array_like
        Features of as many axes: ([N,] B, h, w) or (N, B, d, h, w), of the dtype of `skip`.
    out : ndarray, optional
        Where the result goes, which is then returned: most of the time of a call goes to memory
        that the system hands out for the first time.

    Returns
    -------
    features : ndarray
        Shape ([N,] A + B, [d,] h, w).

    Raises
    ------
    TypeError
        If the dtypes differ.
    ValueError
        If the shapes do not fit.

    Notes
    -----
    Where the difference is odd, one row more is cut off at the end. Values, NaN too, are copied as
    they are. Time and memory: one write of the result; input that is not C-contiguous is copied.
    Differentiable in PyTorch. On a GPU two copies on the stream, and nothing waits.

    References
    ----------
    .. [1] Ronneberger, O., Fischer, P., Brox, T.: U-Net: Convolutional Networks for Biomedical
       Image Segmentation. MICCAI (2015).

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import crop_concat
    >>> crop_concat(np.arange(16.0).reshape(1, 4, 4), np.ones((1, 2, 2))).tolist()
    [[[5.0, 6.0], [9.0, 10.0]], [[1.0, 1.0], [1.0, 1.0]]]
    """
    op = "crop_concat"
    beside, array = _checks.image(op, skip, "skip"), _checks.image(op, x, "x")
    if beside.dtype != array.dtype:
        raise TypeError(f"{op}: skip must have the dtype of x, {array.dtype}, got {beside.dtype}")
    rank = _space(beside, array)
    at = _crop(beside, array, rank)
    result = _checks.output(op, out, _joined(beside, array)[0], array.dtype)
    features = _target(result, array.dtype, beside, array)
    batch, flat = int(np.prod(array.shape[: -rank - 1])), (1,) * (3 - rank)
    core.crop_concat(
        *(
            each.reshape(batch, each.shape[-rank - 1], *flat, *each.shape[-rank:])
            for each in (beside, array)
        ),
        (0,) * (3 - rank) + at,
        features.reshape(batch, features.shape[-rank - 1], *flat, *features.shape[-rank:]),
    )
    return _checks.finish(result, features)


def _space(skip: Any, x: Any) -> int:
    """Axes in space; the shapes fit but for channels and size."""
    rank = 3 if len(x.shape) == 5 else 2
    if len(x.shape) not in (3, 4, 5) or len(skip.shape) != len(x.shape):
        raise ValueError(
            "crop_concat: skip and x must have 3 to 5 axes, as many as each other, "
            f"got shapes {tuple(skip.shape)} and {tuple(x.shape)}"
        )
    larger = all(a >= b for a, b in zip(skip.shape[-rank:], x.shape[-rank:], strict=True))
    if not larger or tuple(skip.shape[: -rank - 1]) != tuple(x.shape[: -rank - 1]):
        raise ValueError(
            f"crop_concat: skip must have x's batch and at least its size, {tuple(x.shape)}, "
            f"got {tuple(skip.shape)}"
        )
    return rank


def _crop(skip: Any, x: Any, rank: int) -> tuple[int, ...]:
    """Where the middle part begins."""
    sizes = zip(skip.shape[-rank:], x.shape[-rank:], strict=True)
    return tuple((a - b) // 2 for a, b in sizes)
