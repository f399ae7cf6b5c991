"""What the tests of thresholds from histograms share."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from conftest import DTYPES

import medseg_fast as ms

METHODS = ["otsu", "yen", "isodata", "triangle", "minimum", "li", "mean", "multiotsu"]
FLOATS = [np.dtype(t) for t in ("float16", "float32", "float64")]
INTEGERS = [d for d in DTYPES if d.kind in "iu"]


def ours(method):
    return getattr(ms, f"threshold_{method}")


def scikit_image():
    """scikit-image's functions, without NumPy's warnings about what happens inside them."""
    filters = pytest.importorskip("skimage.filters")

    def call(method, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return getattr(filters, f"threshold_{method}")(*args, **kwargs)

    return call


def scan(rng, shape, dtype):
    """Two populations and a background, within the range of every dtype."""
    image = rng.normal(60, 9, shape)
    image[rng.random(shape) < 0.4] = 5
    image = np.clip(image + 40 * (rng.random(shape) < 0.3), 0, 127)
    return (image > 50) if np.dtype(dtype) == bool else image.astype(dtype)


def finite(image):
    return np.nan_to_num(image, posinf=7, neginf=-7) if image.dtype.kind == "f" else image
