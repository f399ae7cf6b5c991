"""Convolution with bias, batch norm, activation and pooling in one pass."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import ChannelsLast, operation
from medseg_fast.nn.functional import _features, _layers
from medseg_fast.nn.functional._plain_convolution import plain_conv_pool

_ACTIVATIONS = (None, "relu", "leaky_relu", "elu", "sigmoid")  # in the kernel's order
_POOLINGS = (None, "max", "avg")
_LONG = 256  # steps and padding beyond are rare
_AUTOMATIC = 0  # its place in csrc/convolution.hpp's enumeration


class Geometry(NamedTuple):
    """A layer's sizes, one number per spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    dilation: tuple[int, ...]
    pool: tuple[int, ...]

    def full(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size of the convolution's result."""
        return tuple(
            (n + b + a - d * (k - 1) - 1) // s + 1
            for n, k, s, b, a, d in zip(size, *self[:5], strict=True)
        )

    def of_volumes(self) -> tuple[tuple[int, ...], ...]:
        """The same for volumes, as the kernels see images: of one plane."""
        lead = 3 - len(self.kernel)
        neutral = (1, 1, 0, 0, 1, 1)
        return tuple((one,) * lead + axes for one, axes in zip(neutral, self, strict=True))

    def pooled(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size after pooling."""
        return tuple(n // p for n, p in zip(self.full(size), self.pool, strict=True))


def _sizes(name: str, value: Any, axes: int, low: int) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * axes
    if len(values) != axes:
        raise ValueError(f"conv_pool: {name} must be one integer or {axes}, got {value!r}")
    return tuple(_checks.integer("conv_pool", name, v, low) for v in values)


def geometry(
    kernel: tuple[int, ...],
    stride: Any,
    padding: Any,
    dilation: Any,
    pool: str | None,
    pool_size: Any,
) -> Geometry:
    """The sizes of a layer from the arguments of `conv_pool`."""
    axes = len(kernel)
    stride = _sizes("stride", stride, axes, 1)
    dilation = _sizes("dilation", dilation, axes, 1)
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueError(f"conv_pool: stride must be 1 for padding='same', got {stride}")
        total = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        before = tuple(t // 2 for t in total)
        after = tuple(t - b for t, b in zip(total, before, strict=True))
    elif isinstance(padding, str):
        if padding != "valid":
            raise ValueError(
                f"conv_pool: padding must be integers, 'same' or 'valid', got {padding!r}"
            )
        before = after = (0,) * axes
    else:
        before = after = _sizes("padding", padding, axes, 0)
    window = _sizes("pool_size", pool_size, axes, 1) if pool else (1,) * axes
    return Geometry(kernel, stride, before, after, dilation, window)


def _result(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    scale: Any = None,
    shift: Any = None,
    activation: Any = None,
    slope: float = 0.01,
    pool: Any = None,
    pool_size: Any = 2,
    return_indices: bool = False,
    return_full: bool = False,
) -> Any:
    sizes = geometry(tuple(weight.shape[2:]), stride, padding, dilation, pool, pool_size)
    order = ChannelsLast if isinstance(x.shape, ChannelsLast) else tuple
    batch_and_channels = (x.shape[0], weight.shape[0])
    full = order((*batch_and_channels, *sizes.full(tuple(x.shape[2:]))))
    pooled = order((*batch_and_channels, *sizes.pooled(tuple(x.shape[2:]))))
    told = [(pooled, x.dtype)]
    told += [(pooled, np.dtype(np.int64))] if return_indices else []
    told += [(full, x.dtype)] if return_full else []
    return tuple(told) if len(told) > 1 else told[0]


def _gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    """Through the same layer made of torch's functions."""
    from medseg_fast.nn.functional import _torch_layers

    return _torch_layers.conv_pool_gradient(given, gradients)


@operation(result=_result, gradient=_gradient, features=True, gpu="convolution")
def conv_pool(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | Literal["same", "valid"] = 0,
    dilation: int | tuple[int, ...] = 1,
    scale: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    activation: Literal["relu", "leaky_relu", "elu", "sigmoid"] | None = None,
    slope: float = 0.01,
    pool: Literal["max", "avg"] | None = None,
    pool_size: int | tuple[int, ...] = 2,
    return_indices: bool = False,
    return_full: bool = False,
) -> NDArray[Any] | tuple[NDArray[Any], ...]:
    """Convolve features; add bias, normalise, activate and pool them in the same pass.

    The same as ``pool(activation((conv(x, weight) + bias) * scale + shift))`` with the functions
    of torch, without the maps between them. What is not asked for is left out.

    Parameters
    ----------
    x : array_like of shape (N, C, H, W) or (N, C, D, H, W)
        float32, float64 or bfloat16 (a torch tensor, or an array of the type of ml_dtypes).
        Channels-last memory order is taken as it is, and the results then have it as well.
    weight : array_like of shape (K, C, [kd,] kh, kw)
        The dtype of `x`; float32 as well for bfloat16 features.
    bias : array_like of shape (K,), optional
    stride, dilation : int or one per spatial axis
    padding : int or one per spatial axis, or {"same", "valid"}
        Zeros on both sides. "same" keeps the size, as in torch: an odd zero goes to the end.
    scale, shift : array_like of shape (K,), optional
        Batch norm at inference: ``scale = gamma / sqrt(variance + eps)`` and
        ``shift = beta - mean * scale``. They are folded into the weights.
    activation : {"relu", "leaky_relu", "elu", "sigmoid"}, optional
    slope : float
        Of "leaky_relu" below 0; alpha of "elu".
    pool : {"max", "avg"}, optional
        Without padding, windows side by side; what does not fill a window is left out.
    pool_size : int or one per spatial axis
    return_indices : bool
        Also return where each maximum is, as ``torch.nn.functional.max_pool2d``: the flat index in
        the map before pooling, the first one of equals. Of bfloat16 features sums are compared
        before they are rounded: of values that are equal in the map it may be a later one.
    return_full : bool
        Also return the map before pooling, as a skip connection wants it.

    Returns
    -------
    pooled : ndarray of shape (N, K, ...)
        dtype of `x`.
    indices : ndarray of int64, same shape
        With `return_indices`.
    full : ndarray of shape (N, K, ...)
        With `return_full`.

    Raises
    ------
    TypeError
        If a dtype is not supported, or weight's is another one than that of `x`.
    ValueError
        If shapes do not fit, the result would be empty, or an option is unknown.

    Notes
    -----
    float32 and bfloat16 run on our kernels, with float32 sums: Winograd's F(4x4, 3x3) where rows
    and columns have 3 taps and stride 1 and there are at least 16 channels, with an error below
    1e-4 of the largest output (typically 3e-6); F(4, 3) along columns of 3 taps and stride 1 from
    few channels in planes to 12 or more, below 5e-6; and direct sums elsewhere. bfloat16 features
    of at least 16 channels, in and out, go through AMX's tiles where CPU and Linux have them. Where
    not, the direct sums go through AVX-512's products of pairs, and Winograd's algorithm through
    those of 16-bit integers (VNNI), scaled tile by tile: an error below 1e-2 of the largest output
    (typically 1e-3, and 4e-3 on large maps, whose tiles are larger), which is at most about that of
    weights rounded to bfloat16, as the others do.
    float64 is for checks of gradients: it goes through NumPy, one product of matrices per tap.

    NaN spreads to all outputs whose window meets it (of a Winograd tile: to 16 or 36), and is a
    maximum. The result does not depend on the number of threads.

    Packed weights of the layers called last are kept (at most 512 MB, the least recently used go
    first) and used again while the weights are unchanged. Extra memory beside these and the
    results: 1 MB each thread, and up to 10 MB (of 512 channels; more in proportion) for layers of
    more than 128 input channels.

    On a GPU float16, float32 and float64 are summed directly, in float32 (float64 for float64).
    Windows of 2 by 2 are pooled in the same launch where neither indices nor the whole map are
    wanted, others in a second one. Of CuPy arrays results are contiguous. CUDA tensors of at most
    32 bits are multiplied on tensor cores where Triton is installed, float32 as the sum of two
    bfloat16 with an error below 1e-4 of the largest output (typically 5e-6); memory order is kept,
    and channels-last saves a launch. What that kernel does not take PyTorch's functions do, without
    TF32, so that tensors need no CuPy.

    References
    ----------
    .. [1] Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import conv_pool
    >>> x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> weight = np.ones((1, 1, 3, 3), np.float32)
    >>> conv_pool(x, weight, padding=1, pool="max")[0, 0].tolist()
    [[45.0, 54.0], [81.0, 90.0]]
    """
    features = _features.checked("conv_pool", x, "x", (4, 5))
    narrow = _features.is_bfloat16(features.dtype)
    dtype = np.dtype(np.float32) if narrow else features.dtype
    kernel = _parameter("weight", weight, features, dtype)
    _check(features, kernel, activation, pool, return_indices, return_full)
    sizes = geometry(kernel.shape[2:], stride, padding, dilation, pool, pool_size)
    if min(sizes.pooled(features.shape[2:])) < 1:
        raise ValueError(
            f"conv_pool: x must be as large as the kernel and pooling window, got {features.shape}"
        )
    if max(map(max, sizes)) > _LONG:
        sizes = _reached(sizes, features.shape, padding)
    per_channel = {"bias": bias, "scale": scale, "shift": shift}
    given = {
        name: None if value is None else _parameter(name, value, features, dtype, kernel.shape[0])
        for name, value in per_channel.items()
    }
    kernel, offset = _folded(kernel, **given)
    slope = float(_checks.number("conv_pool", "slope", slope))
    if dtype == np.float64:
        return plain_conv_pool(
            features, kernel, offset, sizes, activation, slope, pool, return_indices, return_full
        )
    options = (activation, slope, pool, return_indices, return_full)
    return _run(features, kernel, offset, sizes, *options)


def _reached(sizes: Geometry, shape: tuple[int, ...], padding: Any) -> Geometry:
    """The same without steps that are longer than the padded axes: kernels pack what they span."""
    axes = zip(shape[2:], sizes.before, sizes.after, strict=True)
    padded = [n + before + after for n, before, after in axes]
    _checks.addressable("conv_pool", "padding", padding, (*shape[:2], *padded))
    stride, dilation = (tuple(map(min, s, padded)) for s in (sizes.stride, sizes.dilation))
    return sizes._replace(stride=stride, dilation=dilation)


def _run(
    features: NDArray[Any],
    weight: NDArray[Any],
    bias: NDArray[Any],
    sizes: Geometry,
    activation: str | None,
    slope: float,
    pool: str | None,
    return_indices: bool,
    return_full: bool,
    algorithm: int = _AUTOMATIC,
) -> NDArray[Any] | tuple[NDArray[Any], ...]:
    """On the kernels; `algorithm` by its place in the enumeration of csrc/convolution.hpp."""
    packed, channels_last = _features.ordered(features)
    size, channels = features.shape[2:], (features.shape[1], weight.shape[0])
    padded = sizes.of_volumes()
    if algorithm == _AUTOMATIC:
        narrow = _features.is_bfloat16(packed.dtype)
        planes = (1,) * (3 - len(size)) + size
        algorithm = core.convolution_algorithm(channels, padded, planes, narrow, not channels_last)
    spec = (
        channels,
        padded,
        _ACTIVATIONS.index(activation),
        slope,
        _POOLINGS.index(pool),
        algorithm,
    )
    layer = _layers.convolution(spec, weight, bias)

    def empty(size: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        if channels_last:
            return _checks.empty((features.shape[0], *size, channels[1]), dtype)
        return _checks.empty((features.shape[0], channels[1], *size), dtype)

    full = empty(sizes.full(size), packed.dtype) if return_full or pool is None else None
    pooled = empty(sizes.pooled(size), packed.dtype) if pool else None
    indices = empty(sizes.pooled(size), np.int64) if return_indices else None
    layer.run(packed, channels_last, full, pooled, indices)
    results = (pooled, indices, full) if pool else (full,)
    wanted = [r for r in results if r is not None]
    wanted = list(map(_features.channels_first, wanted)) if channels_last else wanted
    return tuple(wanted) if len(wanted) > 1 else wanted[0]


def _parameter(
    name: str, value: Any, x: NDArray[Any], dtype: np.dtype[Any], length: int | None = None
) -> NDArray[Any]:
    """A weight of the features' dtype; bfloat16 becomes float32."""
    array = _features.checked("conv_pool", value, name, (x.ndim,) if length is None else (1,))
    array = _features.to_float32(array) if dtype == np.float32 else array
    if array.dtype != dtype:
        narrow = " or float32" if _features.is_bfloat16(x.dtype) else ""
        raise TypeError(
            f"conv_pool: {name} must have the dtype of x, {_features.name(x.dtype)}{narrow}, "
            f"got {_features.name(array.dtype)}"
        )
    if length is not None and array.shape != (length,):
        raise ValueError(f"conv_pool: {name} must have shape ({length},), got {array.shape}")
    return _checks.contiguous(array)


def _check(
    x: NDArray[Any],
    weight: NDArray[Any],
    activation: Any,
    pool: Any,
    return_indices: bool,
    return_full: bool,
) -> None:
    if weight.shape[1] != x.shape[1] or 0 in weight.shape:
        raise ValueError(
            f"conv_pool: weight must have shape (K, {x.shape[1]}, ...) without zeros, "
            f"got {weight.shape}"
        )
    for name, value, known in (("activation", activation, _ACTIVATIONS), ("pool", pool, _POOLINGS)):
        if value not in known:
            words = ", ".join(map(repr, known))
            raise ValueError(f"conv_pool: {name} must be one of {words}, got {value!r}")
    if return_indices and pool != "max":
        raise ValueError(f"conv_pool: return_indices needs pool='max', got {pool!r}")
    if return_full and pool is None:
        raise ValueError("conv_pool: return_full needs pooling, got pool=None")
    if math.prod(x.shape[2:]) == 0:
        raise ValueError(f"conv_pool: x must have pixels, got shape {x.shape}")


def _folded(
    weight: NDArray[Any],
    bias: NDArray[Any] | None,
    scale: NDArray[Any] | None,
    shift: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weight and bias that do the work of scale and shift as well."""
    offset = np.zeros(weight.shape[0], weight.dtype) if bias is None else bias
    if scale is not None:
        weight = weight * scale.reshape(-1, *(1,) * (weight.ndim - 1))
        offset = offset * scale
    return weight, offset if shift is None else offset + shift
