"""What a data set is like: sizes, spacing, intensities, classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast.data import Pair
from medseg_fast.nn._training import dataset

_SAMPLE = 40  # cases that are looked at


class Facts(NamedTuple):
    """What a data set is like."""

    cases: int
    channels: int
    shapes: NDArray[np.int64]  # of each case that was looked at
    spacings: NDArray[np.float64] | None
    low: float  # least intensity
    inside: tuple[float, float]  # 0.5 and 99.5 per cent of the intensities of the foreground
    classes: dict[int, float]  # part of the pixels
    target: str
    integer: bool

    @property
    def ndim(self) -> int:
        """Spatial axes."""
        return int(self.shapes.shape[1])


def look(cases: Sequence[Pair]) -> Facts:
    """Read some cases, evenly spread, and say what they are like."""
    chosen = [cases[i] for i in sorted({*np.linspace(0, len(cases) - 1, _SAMPLE).astype(int)})]
    shapes, spacings, inside, values = [], [], [], []
    pixels: dict[int, int] = {}
    channels, low, integer, ids = 1, math.inf, True, 0
    for case in chosen:
        image, label = dataset.read_image(case.images), dataset.read_label(case.mask)
        if image.array.shape[:-1] != label.shape:
            raise ValueError(
                f"{case.mask}: shape {label.shape}, but {case.images[0]}: {image.array.shape[:-1]}"
            )
        shapes.append(label.shape)
        if image.has_geometry:
            spacings.append(image.spacing)
        channels = max(channels, image.array.shape[-1])
        low = min(low, float(image.array.min()))
        integer &= image.array.dtype.kind in "iu"
        found, counts = np.unique(label[label > 0], return_counts=True)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            pixels[value] = pixels.get(value, 0) + count
        ids = max(ids, len(found))
        values.append(len(found))
        if len(found):
            inside.append(np.percentile(image.array[label > 0], (0.5, 99.5)))
    if len({len(shape) for shape in shapes}) > 1:
        raise ValueError(f"{cases[0].mask.parent}: images of 2 and of 3 axes")
    total = sum(math.prod(shape) for shape in shapes)
    # Classes recur from image to image; objects are numbered anew in each.
    target = "classes"
    if ids > 12 and len(pixels) > 1.5 * float(np.median(values)):
        target = "instances"
    elif len(pixels) == 1 and next(iter(pixels)) != 1:
        target = "mask"
    classes = {value: count / total for value, count in sorted(pixels.items())}
    if target != "classes":
        classes = {1: sum(pixels.values()) / total}
    low_in, high_in = np.median(inside, axis=0) if inside else (0.0, 1.0)
    return Facts(
        cases=len(cases),
        channels=channels,
        shapes=np.array(shapes),
        spacings=np.array(spacings) if len(spacings) == len(shapes) else None,
        low=low,
        inside=(float(low_in), float(high_in)),
        classes=classes,
        target=target,
        integer=integer,
    )
