"""Images and neighbourhoods for tests of region growing."""

from __future__ import annotations

import numpy as np
from conftest import SHAPES

FULL = [shape for shape in SHAPES if 0 not in shape]


def patchy(rng, shape, dtype, values=4):
    """Few values in patches with long winding borders, so that regions are large."""
    image = rng.integers(0, values, shape)
    image = np.where(rng.random(shape) < 0.55, 1, image)
    return (image == 1 if np.dtype(dtype).kind == "b" else image).astype(dtype)


def structure(ndim, connectivity):
    away = np.abs(np.indices((3,) * ndim) - 1).sum(axis=0)
    return away <= connectivity


def index(rng, shape):
    return tuple(int(rng.integers(n)) for n in shape)
