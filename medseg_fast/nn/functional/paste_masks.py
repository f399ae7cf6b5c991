"""Masks of instances, from the size a network gives them to the image's."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional import _boxes
from medseg_fast.nn.functional._layout import several


def _pasted(
    masks: Any, boxes: Any, image_shape: Any, padding: Any = 1, threshold: Any = None
) -> tuple[tuple[int, ...], Any]:
    dtype = np.dtype(masks.dtype)
    given = np.dtype(np.float32) if dtype.kind in "bui" else dtype
    shape = (masks.shape[0], 1, *image_shape)
    return shape, given if threshold is None else np.dtype(np.bool_)


def _arguments(
    op: str, masks: Any, boxes: Any, image_shape: Any, padding: Any, threshold: Any
) -> tuple[Any, tuple[int, int], int, float]:
    """Masks (N, M, M), the image's shape, padding and threshold (0 for None), checked.

    Of arrays of any library: they are asked for their shapes alone.
    """
    given = masks.shape
    if masks.ndim == 4 and given[1] == 1:
        masks = masks[:, 0]
    if masks.ndim != 3 or 0 in masks.shape[1:]:
        raise ValueError(f"{op}: masks must have shape (N, 1, M, M), got {given}")
    if boxes.shape != (len(masks), 4):
        raise ValueError(f"{op}: boxes must have shape ({len(masks)}, 4), got {boxes.shape}")
    if not several(image_shape) or len(image_shape) != 2:
        raise ValueError(f"{op}: image_shape must be (rows, columns), got {image_shape!r}")
    rows, columns = (_checks.integer(op, "image_shape", n, 0) for n in image_shape)
    _checks.addressable(op, "image_shape", image_shape, (len(masks), rows, columns))
    padding = _checks.integer(op, "padding", padding, 0)
    padded = [n + 2 * padding for n in masks.shape[1:]]
    _checks.addressable(op, "padding", padding, padded)
    least = 0.0
    if threshold is not None:
        least = float(_checks.number(op, "threshold", threshold))
        if not 0 < least < math.inf:
            raise ValueError(f"{op}: threshold must be positive and finite, got {threshold!r}")
    return masks, (rows, columns), padding, least


def _pixels(op: str, boxes: NDArray[Any], scale: float) -> NDArray[np.int64]:
    """First and last pixels of the boxes around padded masks, in the boxes' own arithmetic."""
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
    centre = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    corners = np.concatenate([centre - half, centre + half], 1)
    if not np.isfinite(corners).all():
        raise ValueError(f"{op}: boxes must be finite, got NaN, infinity or near it")
    return np.ascontiguousarray(corners.clip(-(2.0**40), 2.0**40), np.int64)


def _untouched_zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros in small pages: NumPy asks for pages of 2 MB, which cost more than all boxes do."""
    size = math.prod(shape) * dtype.itemsize
    if size < 2**22 or not hasattr(mmap, "MAP_PRIVATE"):
        return np.zeros(shape, dtype)
    try:
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"paste_masks: no memory for a result of shape {shape}") from error
    return np.frombuffer(memory, dtype).reshape(shape)


def _gradient(
    given: dict[str, Any], results: tuple[Any, ...], gradients: tuple[Any, ...]
) -> dict[str, Any]:
    from medseg_fast.nn.functional import _torch_layers

    return {"masks": _torch_layers.paste_masks_gradient(given, gradients[0])}


@operation(result=_pasted, gradient=_gradient, gpu="paste_masks")
def paste_masks(
    masks: ArrayLike,
    boxes: ArrayLike,
    image_shape: Sequence[int],
    padding: int = 1,
    threshold: float | None = None,
) -> NDArray[Any]:
    """Resize the masks of instances to their boxes and paste each into an image of its own.

    As torchvision's `paste_masks_in_image`.

    Parameters
    ----------
    masks : array of shape (N, 1, M, M) or (N, M, M)
        What a mask head gives for the box of each instance: float16, float32 or float64; integers
        become float32.
    boxes : array of shape (N, 4)
        ``x1, y1, x2, y2`` in pixels of the image.
    image_shape : (int, int)
        Rows and columns.
    padding : int
        Zeros around each mask before it is resized; its box grows alike. Without them edges are
        cut hard.
    threshold : float or None
        Gives masks of bool, values that are at least this, instead of the values: a quarter of
        the memory and faster. Positive.

    Returns
    -------
    array of shape (N, 1, rows, columns)
        In the dtype of `masks`, or bool. Zero outside the boxes.

    Raises
    ------
    ValueError
        If shapes do not fit, a box is not finite, or `threshold` is not positive.

    Notes
    -----
    Bilinear, pixels' centres at + 0.5, corners of boxes truncated to integers, as torchvision;
    values differ from it by rounding (1e-7). A box outside the image leaves zeros where
    torchvision raises an error, and NaN in a mask reaches the pixels around it. Differentiable in
    `masks` in PyTorch, without a threshold; not in `boxes`. Its gradient takes O(N M rows columns).

    Only the pages of the result under the boxes are written: time and memory grow with the boxes,
    not with N times the image. Without a threshold 4 bytes per pixel and instance (float32).

    On a GPU all of the result is written, and boxes that are not finite leave zeros: to refuse them
    the call would have to wait for the device.

    References
    ----------
    .. [1] He et al., "Mask R-CNN", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> mask = np.ones((1, 1, 4, 4), np.float32)
    >>> paste_masks(mask, np.array([[1, 1, 3, 3]]), (5, 6), threshold=0.5)[0, 0].astype(int)
    array([[0, 0, 0, 0, 0, 0],
           [0, 1, 1, 0, 0, 0],
           [0, 1, 1, 0, 0, 0],
           [0, 0, 0, 0, 0, 0],
           [0, 0, 0, 0, 0, 0]])
    """
    op = "paste_masks"
    array = _boxes.floats(op, "masks", masks)
    corners = _boxes.floats(op, "boxes", boxes)
    array, (rows, columns), padding, least = _arguments(
        op, array, corners, image_shape, padding, threshold
    )
    dtype = _boxes.arithmetic(array.dtype)
    result_dtype = array.dtype.newbyteorder("=")
    if threshold is not None:
        dtype_out = result_dtype = np.dtype(np.bool_)
    else:
        dtype_out = dtype
    side = array.shape[-1]
    with np.errstate(all="ignore"):
        pixels = _pixels(
            op, corners.astype(_boxes.arithmetic(corners.dtype)), float(side + 2 * padding) / side
        )
    out = _untouched_zeros((len(array), rows, columns), dtype_out)
    if out.size:
        core.paste_masks(np.require(array, dtype, ["C", "A"]), pixels, padding, least, out)
    return out.astype(result_dtype, copy=False)[:, None]
