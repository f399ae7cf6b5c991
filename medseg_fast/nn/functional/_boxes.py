"""Checks that the operations on boxes share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = ArrayLike | Sequence[ArrayLike]


def floats(op: str, name: str, value: Any) -> NDArray[Any]:
    """An array of float16, float32 or float64; integers become float32."""
    array = np.asarray(value)
    if array.dtype.kind in "bui":
        return array.astype(np.float32)
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        raise TypeError(
            f"{op}: {name} must be float16, float32 or float64, or integer, got {array.dtype}"
        )
    return array


def arithmetic(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that results for `dtype` are computed in."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def is_list(boxes: Any) -> bool:
    """Whether boxes come as one array for each image: torchvision takes lists and tuples."""
    return isinstance(boxes, (list, tuple)) and not hasattr(boxes, "shape")


def count(boxes: Any) -> Any:
    """How many boxes: of arrays, or of what tracing says of them."""
    if is_list(boxes):
        return sum(count(each) for each in boxes)
    return boxes.shape[0] if hasattr(boxes, "shape") else len(boxes)


def regions(op: str, boxes: Any, axes: int, images: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Boxes as one C-contiguous array (K, 1 + 2 axes) of `dtype`, the image's index first.

    Shapes that torchvision refuses raise its AssertionError.
    """
    columns = 2 * axes
    if is_list(boxes):
        parts = [floats(op, "boxes", each) for each in boxes]
        if any(part.ndim != 2 or part.shape[1] != columns for part in parts):
            raise AssertionError(
                "The shape of the tensor in the boxes list is not correct as "
                f"List[Tensor[L, {columns}]]"
            )
        if len(parts) > images:
            raise ValueError(
                f"{op}: boxes must be at most one array for each of {images} images, "
                f"got {len(parts)}"
            )
        array = np.empty((sum(len(part) for part in parts), 1 + columns), dtype)
        row = 0
        for index, part in enumerate(parts):
            array[row : row + len(part), 0] = index
            array[row : row + len(part), 1:] = part
            row += len(part)
    else:
        given = floats(op, "boxes", boxes)
        if given.ndim != 2 or given.shape[1] != 1 + columns:
            raise AssertionError(
                f"The boxes tensor shape is not correct as Tensor[K, {1 + columns}]"
            )
        array = np.require(given, dtype, ["C", "A"])
    if not np.isfinite(array).all():
        raise ValueError(f"{op}: boxes must be finite, got NaN or infinity")
    of = array[:, 0]
    if len(array) and not (0 <= of.min() and of.max() < images):
        wrong = of.min() if of.min() < 0 else of.max()
        raise ValueError(
            f"{op}: boxes must name images from 0 to {images - 1} in their first column, "
            f"got {wrong:g}"
        )
    return array
