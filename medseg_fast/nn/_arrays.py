"""Arrays that are NumPy's or torch's: logits of a plan, or of a module wherever its weights are.

torch is not imported for NumPy's.
"""

from __future__ import annotations

import itertools
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


def sigmoid(logits: Any) -> Any:
    """Of one class the probability."""
    if is_tensor(logits):
        return logits.sigmoid()
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)))


def votes(logits: Any, size: int) -> Any:
    """(N, 1, ...), the mean of what the patches of this size say of each voxel.

    Of (N, size ** axes, ...), the logits of every voxel of the patch around a voxel.
    """
    reach, spatial = size // 2, logits.shape[2:]
    likely, shape = sigmoid(logits), (len(logits), *(n + 2 * reach for n in spatial))
    total, count = zeros(shape, likely), zeros(shape, likely)
    for k, at in enumerate(itertools.product(range(size), repeat=len(spatial))):
        cut = (slice(None), *(slice(o, o + n) for o, n in zip(at, spatial, strict=True)))
        total[cut] += likely[:, k]
        count[cut] += 1
    inner = (slice(None), *(slice(reach, reach + n) for n in spatial))
    return (total[inner] / count[inner])[:, None]


def merged(logits: Any, size: int) -> Any:
    """The logits of `votes`: of one class, the inside."""
    tiny = 1e-6
    likely = votes(widened(logits), size)
    if is_tensor(likely):
        return likely.logit(tiny)
    likely = likely.clip(tiny, 1 - tiny)
    return np.log(likely / (1 - likely))


def chances(logits: Any) -> NDArray[Any]:
    """Softmax over the first axis; of one class, sigmoid."""
    if len(logits) == 1:
        return to_numpy(sigmoid(logits))
    if is_tensor(logits):
        return to_numpy(logits.softmax(0))
    powers = np.exp(logits - logits.max(0))
    return np.asarray(powers / powers.sum(0))


def classes(logits: Any) -> NDArray[Any]:
    """The class of the largest logit along the first axis; of one class, where it exceeds 0."""
    return to_numpy(logits.argmax(0) if len(logits) > 1 else logits[0] > 0)
