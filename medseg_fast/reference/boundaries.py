"""Boundaries of labels, pixel by pixel."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray


def find_boundaries(
    label_img: Any, connectivity: int = 1, mode: str = "thick", background: int = 0
) -> NDArray[np.bool_]:
    labels = np.asarray(label_img)
    if mode == "subpixel":
        return _subpixel(labels)
    found = np.zeros(labels.shape, bool)
    for pixel in np.ndindex(labels.shape):
        label = int(labels[pixel])
        near, around = [], []
        for step in product((-1, 0, 1), repeat=labels.ndim):
            at = tuple(p + s for p, s in zip(pixel, step, strict=True))
            if all(0 <= a < n for a, n in zip(at, labels.shape, strict=True)):
                around.append(int(labels[at]))
                if sum(map(abs, step)) <= connectivity:
                    near.append(int(labels[at]))
        boundary = any(other != label for other in near)
        if mode == "inner":
            boundary &= label != background
        elif mode == "outer" and label != background:
            beside = any(other not in (label, background) for other in around)
            boundary &= beside or (background in around and background > label)
        found[pixel] = boundary
    return found


def _subpixel(labels: NDArray[Any]) -> NDArray[np.bool_]:
    most = 255 if labels.dtype.kind == "b" else np.iinfo(labels.dtype).max
    found = np.zeros([2 * n - 1 for n in labels.shape], bool)
    for place in np.ndindex(found.shape):
        if any(p % 2 for p in place):
            sides = [(p // 2, p // 2 + 1) if p % 2 else (p // 2,) for p in place]
            found[place] = len({int(labels[at]) for at in product(*sides)} - {most}) > 1
    return found
