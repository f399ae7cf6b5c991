"""Arrays that are NumPy's or torch's: logits of a plan, or of a module wherever its weights are.

torch is not imported for NumPy's.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_tensor(x: Any) -> bool:
    """Whether it is torch's."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def to_numpy(x: Any) -> NDArray[Any]:
    """The same values in NumPy's memory; bfloat16, which it lacks, as float32."""
    if not is_tensor(x):
        return np.asarray(x)
    x = x.detach().cpu()
    return np.asarray(x.float() if x.dtype == sys.modules["torch"].bfloat16 else x)


def as_like(array: NDArray[Any], like: Any) -> Any:
    """An array of NumPy's in the library, type and place of another."""
    if is_tensor(like):
        return sys.modules["torch"].from_numpy(array).to(like)
    return array.astype(like.dtype)


def zeros(shape: Sequence[int], like: Any) -> Any:
    """Of the library, type and place of another array."""
    return like.new_zeros(tuple(shape)) if is_tensor(like) else np.zeros(shape, like.dtype)


def widened(x: Any) -> Any:
    """float64 as it is, other types as float32."""
    if is_tensor(x):
        return x if x.dtype == sys.modules["torch"].float64 else x.float()
    return x if x.dtype == np.float64 else x.astype(np.float32, copy=False)


def copied(x: Any) -> Any:
    """In memory of its own."""
    return x.clone() if is_tensor(x) else x.copy()


def moved(x: Any, axis: int, to: int) -> Any:
    """One axis to another place."""
    return x.movedim(axis, to) if is_tensor(x) else np.moveaxis(x, axis, to)


def flipped(x: Any, axes: Sequence[int]) -> Any:
    """Mirrored along some axes."""
    if not axes:
        return x
    return x.flip(tuple(axes)) if is_tensor(x) else np.flip(x, tuple(axes))


def chances(logits: Any) -> NDArray[Any]:
    """Softmax over the first axis; of one class, sigmoid."""
    if is_tensor(logits):
        return to_numpy(logits.softmax(0) if len(logits) > 1 else logits.sigmoid())
    if len(logits) == 1:
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-logits)))
    powers = np.exp(logits - logits.max(0))
    return np.asarray(powers / powers.sum(0))


def classes(logits: Any) -> NDArray[Any]:
    """The class of the largest logit along the first axis; of one class, where it exceeds 0."""
    return to_numpy(logits.argmax(0) if len(logits) > 1 else logits[0] > 0)
