"""PSPNet's pyramid pooling: means over grids of several sizes, beside the features they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional._layout import floats

_OP = "pyramid_pool"


def _result(
    x: Any,
    bins: Any = (1, 2, 3, 6),
    weights: Any = None,
    biases: Any = None,
    *,
    activation: Any = None,
    align_corners: bool = False,
) -> Any:
    """The `result` of `pyramid_pool`."""
    channels, *space = x.shape[-3:]
    added = [w.shape[0] for w in weights] if weights is not None else [channels] * len(bins)
    return (*x.shape[:-3], channels + sum(added), *space), x.dtype


def _gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    x, gradient = given["x"], gradients[0]
    bins = given.get("bins", (1, 2, 3, 6))
    weights, biases = given.get("weights"), given.get("biases")
    channels, rows, columns = x.shape[-3:]
    by_x, begin = gradient[..., :channels, :, :], channels
    by_weights, by_biases = [], []
    for i, size in enumerate(bins):
        means_down, means_across, down, across = (
            x.new_tensor(matrix.tolist())
            for matrix in (
                _means(size, rows),
                _means(size, columns),
                _stretch(size, rows, given.get("align_corners", False)),
                _stretch(size, columns, given.get("align_corners", False)),
            )
        )
        added = channels if weights is None else weights[i].shape[0]
        by_map = down.mT @ gradient[..., begin : begin + added, :, :] @ across
        begin += added
        if weights is not None:
            pooled = (means_down @ x @ means_across.mT).flatten(-2)
            weight, by_map = weights[i].reshape(added, channels), by_map.flatten(-2)
            if given.get("activation") == "relu":
                mixed = weight @ pooled
                if biases is not None:
                    mixed = mixed + biases[i][:, None]
                by_map = by_map * (mixed > 0)
            by_weight = (by_map @ pooled.mT).reshape(-1, added, channels).sum(0)
            by_weights.append(by_weight.reshape(weights[i].shape))
            by_biases.append(by_map.sum(-1).reshape(-1, added).sum(0))
            by_map = (weight.mT @ by_map).unflatten(-1, (size, size))
        by_x = by_x + means_down.mT @ by_map @ means_across
    found = {"x": by_x}
    if weights is not None:
        found["weights"] = by_weights
    if biases is not None:
        found["biases"] = by_biases
    return found


def _means(size: int, n: int) -> NDArray[np.float64]:
    """Matrix (size, n) that averages an axis of `n` over the cells of a grid."""
    matrix = np.zeros((size, n))
    for cell in range(size):
        begin, end = cell * n // size, -(-(cell + 1) * n // size)
        matrix[cell, begin:end] = 1 / (end - begin)
    return matrix


def _stretch(size: int, n: int, align_corners: bool) -> NDArray[np.float64]:
    """Matrix (n, size) that interpolates a grid linearly to an axis of `n`."""
    outputs = np.arange(n)
    if align_corners:
        at = outputs * ((size - 1) / max(n - 1, 1))
    else:
        at = np.maximum((outputs + 0.5) * (size / n) - 0.5, 0)
    low = np.minimum(at.astype(np.int64), size - 1)
    far = np.minimum(at - low, 1)
    matrix = np.zeros((n, size))
    np.add.at(matrix, (outputs, low), 1 - far)
    np.add.at(matrix, (outputs, np.minimum(low + 1, size - 1)), far)
    return matrix


@operation(result=_result, gradient=_gradient, gpu="pyramid")
def pyramid_pool(
    x: ArrayLike,
    bins: Sequence[int] = (1, 2, 3, 6),
    weights: Sequence[ArrayLike] | None = None,
    biases: Sequence[ArrayLike] | None = None,
    *,
    activation: str | None = None,
    align_corners: bool = False,
) -> NDArray[Any]:
    """Average features over grids of several sizes, and concatenate the interpolated means to them.

    In PyTorch: ``adaptive_avg_pool2d(x, b)``, a 1x1 convolution, ``relu`` and ``interpolate(...,
    mode="bilinear")`` for every b of `bins`, then ``cat`` with `x` in front. Nothing of that is
    held but the means.

    Parameters
    ----------
    x : array_like
        Features of shape (C, H, W) or (N, C, H, W): float16, float32 or float64.
    bins : sequence of int, default (1, 2, 3, 6)
        Grids of b x b cells, as in adaptive pooling: cells may overlap by a row or column.
    weights : sequence of array_like, optional
        Of the 1x1 convolutions (with the batch norm folded in), one a grid: (O, C) or (O, C, 1, 1).
        Without them the means themselves are interpolated.
    biases : sequence of array_like, optional
        Of the convolutions, (O,) each.
    activation : {None, "relu"}
        After the convolutions.
    align_corners : bool, default False
        How the grids are interpolated, as in `torch.nn.functional.interpolate`.

    Returns
    -------
    features : ndarray
        Shape ([N,] C + all O, H, W), in the dtype of `x`; without weights every O is C.

    Raises
    ------
    TypeError
        If `x` is not of floats, or weights or biases are not of real numbers.
    ValueError
        If a shape or number does not fit.

    Notes
    -----
    Sums of one column's rows are in float32 (float64 for float64), their sums in float64. NaN
    makes its cells NaN, and with convolutions all channels of them. Time O(result). Extra memory:
    the means; input that is not C-contiguous is copied, float16 as float32. Differentiable in
    PyTorch.

    References
    ----------
    .. [1] Zhao, H., Shi, J., Qi, X., Wang, X., Jia, J.: Pyramid Scene Parsing Network. CVPR (2017).

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.nn.functional import pyramid_pool
    >>> pyramid_pool(np.array([[[1.0, 3.0, 5.0, 7.0]]]), bins=(1, 2)).tolist()
    [[[1.0, 3.0, 5.0, 7.0]], [[4.0, 4.0, 4.0, 4.0]], [[2.0, 3.0, 5.0, 6.0]]]
    """
    array = floats(_OP, "x", x)
    if array.ndim not in (3, 4):
        raise ValueError(f"{_OP}: x must have shape ([N,] C, H, W), got {array.shape}")
    sizes = [_checks.integer(_OP, "bins", b, 1) for b in _checks.sequence(_OP, "bins", bins)]
    if activation not in (None, "relu"):
        raise ValueError(f"{_OP}: activation must be None or 'relu', got {activation!r}")
    wide = _checks.contiguous(array.astype(np.float32) if array.itemsize == 2 else array)
    kernels, offsets = _arrays("weights", weights), _arrays("biases", biases)
    mixing = _mixing(wide, sizes, kernels, offsets)
    shape = _result(array, sizes, kernels, None)[0]
    cells = [b * b for b in sizes]
    _checks.addressable(_OP, "bins", bins, (*array.shape[:-2], sum(cells)))
    features = _checks.empty(shape, wide.dtype)
    if not features.size:
        return features.astype(array.dtype.newbyteorder("="))
    batch, channels = int(np.prod(shape[:-3])), shape[-3]
    planes = (batch * array.shape[-3], *array.shape[-2:])
    pooled = np.empty((planes[0], sum(cells)), wide.dtype)
    core.pyramid_means(wide.reshape(planes), sizes, pooled)
    pooled = pooled.reshape(batch, array.shape[-3], sum(cells))
    grids = []
    for i, begin in enumerate(np.cumsum([0, *cells])[:-1].tolist()):
        if weights is None:
            grids.append(np.ascontiguousarray(pooled[..., begin : begin + cells[i]]))
        else:
            weight, bias = mixing[i]
            grids.append(np.empty((batch, len(weight), cells[i]), wide.dtype))
            core.pyramid_mix(pooled, begin, weight, bias, activation == "relu", grids[-1])
    core.pyramid_concat(
        wide.reshape(batch, *array.shape[-3:]),
        grids,
        sizes,
        bool(align_corners),
        features.reshape(batch, channels, *shape[-2:]),
    )
    return features.astype(array.dtype.newbyteorder("="), copy=False)


def _arrays(name: str, given: Any) -> list[NDArray[Any]] | None:
    if given is None:
        return None
    return [_checks.image(_OP, each, name) for each in _checks.sequence(_OP, name, given)]


def _mixing(
    x: NDArray[Any],
    sizes: Sequence[int],
    weights: Sequence[NDArray[Any]] | None,
    biases: Sequence[NDArray[Any]] | None,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Weight (O, C) and bias (O,) of each grid's convolution, in the features' dtype."""
    if weights is None:
        if biases is not None:
            raise ValueError(f"{_OP}: biases need weights")
        return []
    if len(weights) != len(sizes) or (biases is not None and len(biases) != len(sizes)):
        raise ValueError(f"{_OP}: weights and biases must be as many as bins, {len(sizes)}")
    found = []
    for i, given in enumerate(weights):
        weight = given.astype(x.dtype, copy=False)
        if weight.ndim not in (2, 4) or weight.shape[1:] != (x.shape[-3], 1, 1)[: weight.ndim - 1]:
            raise ValueError(
                f"{_OP}: weights must have shape (O, {x.shape[-3]}[, 1, 1]), got {weight.shape}"
            )
        bias = np.zeros(len(weight)) if biases is None else biases[i]
        if bias.shape != weight.shape[:1]:
            raise ValueError(f"{_OP}: biases must have shape {weight.shape[:1]}, got {bias.shape}")
        found.append((weight.reshape(weight.shape[:2]), bias.astype(x.dtype, copy=False)))
    return found
