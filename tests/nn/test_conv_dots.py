"""Convolutions of single pixels with channels side by side to few outputs: sums along channels."""

from __future__ import annotations

import numpy as np
import pytest
from _convolutions import BOUND, DIRECT, assert_near, bfloat16, channels_last, convolution, layer
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import BFLOAT16
from medseg_fast.nn.functional import conv_pool


def run(x, weight, bias, activation=None, slope=0.0):
    sizes = convolution.geometry((1,) * (x.ndim - 2), 1, 0, 1, None, 2)
    return convolution._run(x, weight, bias, sizes, activation, slope, None, False, False, DIRECT)


@pytest.mark.parametrize(
    ("channels", "size"),
    [
        ((32, 2), (5, 7)),  # fewer pixels than a vector has
        ((33, 1), (1, 1)),
        ((47, 2), (9, 31)),
        ((64, 4), (3, 700)),  # rows in pieces
        ((84, 3), (13, 50)),
        ((100, 2), (4, 5, 19)),
        ((256, 1), (2, 1, 33)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16])
def test_agrees_with_sums_in_float64(rng, isa, threads, channels, size, dtype):
    x, weight, bias = layer(rng, channels, size, (1,) * len(size))
    features = x
    if dtype == BFLOAT16:
        features, x = bfloat16(x)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    for activation in (None, "relu", "leaky_relu", "elu", "sigmoid"):
        got = run(channels_last(features), weight, bias, activation, 0.1)
        expected = conv_pool(*wide, activation=activation, slope=0.1)
        if dtype == BFLOAT16:
            assert got.dtype == BFLOAT16
            assert_near(convolution._features.to_float32(got), expected, 2**-8)
        else:
            assert_near(got, expected, BOUND[DIRECT])


def test_single_pixels_alone_decide(rng, isa):
    """NaN and infinity stay where they are, and channels are not counted twice."""
    x, weight, bias = layer(rng, (40, 2), (6, 37), (1, 1))
    clean = run(channels_last(x), weight, bias)
    x[0, 25, 2, 3], x[0, 39, 5, 36], x[1, 0, 0, 0] = np.nan, np.inf, -np.inf
    weight[:, [0, 39]] = 1.0
    changed = run(channels_last(np.where(np.isfinite(x), x, 0.0).astype(np.float32)), weight, bias)
    got = run(channels_last(x), weight, bias)
    touched = ~np.isfinite(x).all(1)
    assert np.isnan(got[0, :, 2, 3]).all()
    assert_array_equal(got[0, :, 5, 36], np.inf)
    assert_array_equal(got[1, :, 0, 0], -np.inf)
    for o in range(2):
        assert_array_equal(got[:, o][~touched], changed[:, o][~touched])
    assert np.isfinite(clean).all()


def test_threads_give_the_same_bytes(rng):
    x, weight, bias = layer(rng, (64, 2), (50, 601), (1, 1))
    results = []
    for count in (1, 2, 5):
        with ms.num_threads(count):
            results.append(run(channels_last(x), weight, bias, "sigmoid"))
    assert_array_equal(results[0], results[1])
    assert_array_equal(results[0], results[2])
