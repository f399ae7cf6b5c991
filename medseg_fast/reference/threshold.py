"""Global thresholds, as their formulas say."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def threshold(image: NDArray[Any], t: float, upper: float | None = None) -> NDArray[np.bool_]:
    mask = np.zeros(image.shape, np.bool_)
    for index in np.ndindex(image.shape):
        value = image[index].item()
        mask[index] = value >= t and (upper is None or value <= upper)
    return mask
