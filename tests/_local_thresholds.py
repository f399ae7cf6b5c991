"""What the tests of local thresholds share."""

from __future__ import annotations

import numpy as np
from conftest import SHAPES, random_image

MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]
SINGLE = (np.float16, np.float32)
ODD_SHAPES = [s for s in SHAPES if 0 not in s]
# One pixel, windows larger than the image, one per axis, many tiles, 1D to 4D.
CASES = [((1,), 3), ((67,), 9), ((1, 1), 5), ((7, 1), 5), ((1, 130), 15), ((33, 65), (3, 15))]
CASES += [((9, 8), 35), ((5, 7, 9), 3), ((2, 33, 31), (1, 5, 9)), ((2, 3, 4, 5), 3)]


def limited(rng, shape, dtype):
    """Random pixels, all finite."""
    image = random_image(rng, shape, dtype)
    return (
        np.where(np.isfinite(image), image, 0).astype(dtype) if image.dtype.kind == "f" else image
    )


def sizes_of(block, ndim):
    return [block] * ndim if np.isscalar(block) else list(block)


def mean_error(image, block, cval=0.0):
    """Bound on the difference between two ways to average.

    Both round every partial sum in float64: relative to the largest magnitude at most once for
    each pixel of the block's sides, the peer's running sums for each pixel of a line that they
    went through, of up to a block's sum each. The peer rounds to the result's type after each
    axis, once for the sum and once for the division; then the offset is subtracted.
    """
    single = image.dtype in SINGLE
    eps = np.finfo(np.float32 if single else np.float64).eps
    largest = max(float(np.abs(image.astype(np.float64)).max(initial=0)), abs(cval))
    drift = np.finfo(np.float64).eps * sum(image.shape) * max(sizes_of(block, image.ndim))
    return largest * (eps * (2 * image.ndim + 2) + drift + 1e-15 * sum(sizes_of(block, image.ndim)))
