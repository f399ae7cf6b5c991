"""ROI Align: regions of feature maps, pooled to one size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import BFLOAT16, operation
from medseg_fast.nn.functional import _boxes, _features

Size = int | Sequence[int]
_MOST_SAMPLES = 2**20  # along an axis; each of them is listed


def sizes_of(op: str, output_size: Any, axes: int) -> tuple[int, ...]:
    """Bins along each axis."""
    try:
        sizes = tuple(output_size) if np.ndim(output_size) else (output_size,) * axes
    except ValueError:  # a nested sequence of uneven lengths
        sizes = ()
    if len(sizes) == 1:
        sizes *= axes
    if len(sizes) != axes:
        raise ValueError(
            f"{op}: output_size must be an integer or {axes} of them, got {output_size!r}"
        )
    return tuple(_checks.integer(op, "output_size", size, 1) for size in sizes)


def samples_of(op: str, sampling_ratio: Any) -> int:
    """Samples along each axis of a bin; 0: as many as it has pixels."""
    return max(_checks.integer(op, "sampling_ratio", sampling_ratio, high=_MOST_SAMPLES), 0)


def _scale(op: str, value: Any) -> float:
    scale = float(_checks.number(op, "spatial_scale", value))
    if not math.isfinite(scale):
        raise ValueError(f"{op}: spatial_scale must be finite, got {scale}")
    return scale


def feature_map(op: str, value: Any, name: str = "input") -> NDArray[Any]:
    array = _boxes.floats(op, name, value)
    if array.ndim not in (4, 5):
        raise ValueError(
            f"{op}: {name} must have shape (N, C, H, W) or (N, C, D, H, W), got {array.shape}"
        )
    return array


def pool(
    op: str,
    array: NDArray[Any],
    regions: NDArray[Any],
    places: NDArray[np.int64],
    sizes: tuple[int, ...],
    scale: float,
    samples: int,
    aligned: bool,
    out: NDArray[Any],
) -> None:
    """Fill the `places` of `out` with the pooled regions; all in the dtype of `out`.

    `out` is contiguous, or has channels last in memory; if of bfloat16, as `array` then has, too.
    """
    if len(regions) == 0 or array.shape[1] == 0:
        return
    if 0 in array.shape[2:]:
        raise ValueError(f"{op}: input must have pixels, got shape {array.shape}")
    channels_last = _features.channels_last(array)
    native = array.dtype == out.dtype and array.dtype.isnative
    narrow = out.dtype == BFLOAT16
    whole = channels_last.flags.c_contiguous and channels_last.flags.aligned
    last = bool(native and whole and (narrow or not array.flags.c_contiguous))
    given = channels_last if last else np.require(array, out.dtype, ["C", "A"])
    out_last = bool(narrow or not out.flags.c_contiguous)
    to = _features.channels_last(out) if out_last else out
    core.roi_align(given, last, regions, places, sizes, scale, samples, aligned, to, out_last)


def _pooled(
    input: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: Any = 1.0,
    sampling_ratio: Any = -1,
    aligned: Any = False,
) -> tuple[tuple[int, ...], Any]:
    sizes = sizes_of("roi_align", output_size, len(input.shape) - 2)
    dtype = np.dtype(input.dtype)
    return (
        (_boxes.count(boxes), input.shape[1], *sizes),
        np.float32 if dtype.kind in "bui" else dtype,
    )


def _roi_align_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    names = ("boxes", "spatial_scale", "sampling_ratio", "aligned")
    rest = {name: given[name] for name in names if name in given}
    return {
        "input": roi_align_backward(gradients[0], input_size=tuple(given["input"].shape), **rest)
    }


@operation(result=_pooled, gradient=_roi_align_gradient, gpu="roi_align")
def roi_align(
    input: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    output_size: int | Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> NDArray[Any]:
    """Pool boxes of any size to bins of one size, by averages of interpolated samples.

    As torchvision's function of that name, and for volumes as well.

    Parameters
    ----------
    input : array of shape (N, C, H, W) or (N, C, D, H, W)
        Feature maps, float16, float32 or float64; integers become float32. Channels may be last in
        memory (``torch.channels_last``), which is fastest.
    boxes : array of shape (K, 5) or (K, 7), or a sequence with an array (L, 4) or (L, 6) per image
        ``x1, y1, x2, y2``, for volumes ``x1, y1, z1, x2, y2, z2``; x runs along the columns (W), y
        along the rows (H), z along the planes (D). An array has the image's index in front. They
        are rounded to the dtype of `input`.
    output_size : int or one for each axis
        Bins along (D,) H and W.
    spatial_scale : float
        From the boxes' coordinates to pixels of `input`.
    sampling_ratio : int
        Samples along each axis of a bin. Zero or less: as many as the bin has pixels, rounded up.
    aligned : bool
        Whether pixel (i, j) has its centre at (i + 0.5, j + 0.5), as in Detectron2. False: at
        (i, j), and boxes are at least a pixel wide.

    Returns
    -------
    array of shape (K, C, bins...)
        In the dtype of `input`. Samples more than a pixel outside count as zero, and a box without
        any sample (of size zero, with `aligned`) gives zeros.

    Raises
    ------
    AssertionError
        If `boxes` have another shape (as torchvision does).
    ValueError
        If a box is not finite or names an image that is not there, where torchvision reads other
        memory, or if `input` has no pixels.

    See Also
    --------
    multiscale_roi_align : The same over the levels of a feature pyramid.

    Notes
    -----
    Differs from torchvision by rounding alone: the samples of a bin are summed along one axis after
    another. float16 is computed in float32 and rounded once. NaN in `input` reaches the bins whose
    samples touch it. The result does not depend on the number of threads or on the order in memory.
    Differentiable in `input`, by `roi_align_backward`; not in `boxes`.

    O(K C times the pixels that a box covers). Memory beyond the result: the read pixels of one box
    times 128 bytes per thread, or where boxes overlap much, one image of 32 channels (float32) per
    thread; none with channels last.

    On a GPU sums are rounded in another order, input with channels last is copied, and boxes that
    are not finite or name no image give zeros: to refuse them the call would have to wait for the
    device.

    MONAI stores volumes as (x, y, z), and its boxes start with the first axis; nnDetection orders
    boxes ``y1, x1, y2, x2, z1, z2``.

    References
    ----------
    .. [1] He et al., "Mask R-CNN", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.arange(64, dtype=np.float32).reshape(1, 1, 8, 8)
    >>> roi_align(ramp, [[[1, 1, 5, 5]]], 2, sampling_ratio=2)
    array([[[[18., 20.],
             [34., 36.]]]], dtype=float32)
    """
    op = "roi_align"
    array = feature_map(op, input)
    sizes = sizes_of(op, output_size, array.ndim - 2)
    samples = samples_of(op, sampling_ratio)
    dtype = _boxes.arithmetic(array.dtype)
    regions = _boxes.regions(op, boxes, len(sizes), array.shape[0], dtype)
    shape = (len(regions), array.shape[1], *sizes)
    _checks.addressable(op, "output_size", output_size, shape)
    out = _checks.empty(shape, dtype)
    places = np.arange(len(regions))
    pool(op, array, regions, places, sizes, _scale(op, spatial_scale), samples, bool(aligned), out)
    return out.astype(array.dtype.newbyteorder("="), copy=False)


def _gradient_of_input(gradient: Any, boxes: Any, input_size: Any, *_: Any, **__: Any) -> Any:
    return tuple(input_size), gradient.dtype


def _backward_gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    names = ("boxes", "spatial_scale", "sampling_ratio", "aligned")
    rest = {name: given[name] for name in names if name in given}
    bins = tuple(given["gradient"].shape[2:])
    return {"gradient": roi_align(gradients[0], output_size=bins, **rest)}


@operation(result=_gradient_of_input, gradient=_backward_gradient, gpu="roi_align")
def roi_align_backward(
    gradient: ArrayLike,
    boxes: ArrayLike | Sequence[ArrayLike],
    input_size: Sequence[int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> NDArray[Any]:
    """Gradient of what `roi_align` pooled from the gradient of its result.

    Parameters
    ----------
    gradient : array of shape (K, C, bins...)
        Float16, float32 or float64.
    boxes, spatial_scale, sampling_ratio, aligned
        As `roi_align` had them.
    input_size : sequence of int
        Shape of its `input`.

    Returns
    -------
    array of shape `input_size`
        In the dtype of `gradient`.

    Raises
    ------
    AssertionError
        If `boxes` have another shape than `input_size` asks for.
    ValueError
        If `gradient` does not fit `input_size` and `boxes`, or as `roi_align`.

    Notes
    -----
    Boxes are added up in their order, whatever the number of threads: two runs give the same bytes.
    On a GPU too: each pixel gathers from the boxes that reach it. Linear in `gradient`, and
    differentiable by `roi_align` again. Memory beyond the result: one
    image of 32 channels (float32) per thread.

    References
    ----------
    .. [1] He et al., "Mask R-CNN", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> roi_align_backward(np.ones((1, 1, 1, 1)), [[[0, 0, 2, 2]]], (1, 1, 3, 3), sampling_ratio=1)
    array([[[[0., 0., 0.],
             [0., 1., 0.],
             [0., 0., 0.]]]])
    """
    op = "roi_align_backward"
    array = feature_map(op, gradient, "gradient")
    wanted = _checks.sequence(op, "input_size", input_size)
    shape = tuple(_checks.integer(op, "input_size", size, 0) for size in wanted)
    _checks.addressable(op, "input_size", input_size, shape)
    dtype = _boxes.arithmetic(array.dtype)
    sizes = array.shape[2:]
    regions = _boxes.regions(op, boxes, len(sizes), shape[0] if shape else 0, dtype)
    if len(shape) != array.ndim or array.shape[:2] != (len(regions), shape[1]):
        raise ValueError(
            f"{op}: gradient must have a box for each of {len(regions)} boxes and the channels and "
            f"axes of input_size {shape}, got shape {array.shape}"
        )
    samples = samples_of(op, sampling_ratio)
    scale = _scale(op, spatial_scale)
    out = _checks.empty(shape, dtype)
    if len(regions) and 0 in shape[2:]:
        raise ValueError(f"{op}: input_size must have pixels, got {shape}")
    if 0 in sizes:
        out[...] = 0
    elif out.size:
        given = np.require(array, dtype, ["C", "A"])
        places = np.arange(len(regions))
        core.roi_align_backward(given, regions, places, sizes, scale, samples, bool(aligned), out)
    return out.astype(array.dtype.newbyteorder("="), copy=False)
