"""Winograd's algorithm in 16-bit integers: its error, no overflow, what is not finite."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from _convolutions import FIXED, FIXED6, assert_near, fixed, layer
from numpy.testing import assert_array_equal

from medseg_fast.nn.functional import conv_pool

BOTH = pytest.mark.parametrize("algorithm", [FIXED, FIXED6])
ALL = pytest.mark.parametrize(("algorithm", "taps"), [(FIXED, 3), (FIXED, 5), (FIXED6, 3)])


@pytest.mark.parametrize(
    ("channels", "size", "algorithm", "taps", "most"),
    [
        ((64, 32), (40, 40), FIXED, 3, 6e-4),
        ((512, 32), (16, 16), FIXED, 3, 8e-4),
        ((32, 32), (6, 12, 12), FIXED, 3, 4e-4),
        ((64, 32), (24, 24), FIXED, 5, 2e-3),
        ((64, 32), (40, 40), FIXED6, 3, 2e-3),
        ((512, 32), (16, 16), FIXED6, 3, 3e-3),
        ((32, 32), (6, 12, 12), FIXED6, 3, 2e-3),
    ],
)
def test_error_of_fixed_point(rng, isa, channels, size, algorithm, taps, most):
    """Of the outputs' deviation: weights and features rounded to bfloat16 have 2e-3."""
    x, weight, bias = layer(rng, channels, size, (taps,) * len(size), batch=1)
    x = np.maximum(x, 0)
    wide = (a.astype(np.float64) for a in (x, weight, bias))
    expected = conv_pool(*wide, padding=taps // 2)
    error = fixed(x, weight, bias, taps, algorithm) - expected
    assert np.sqrt((error**2).mean()) <= most * expected.std()


@pytest.mark.parametrize("channels", [1, 127, 128, 129, 300])
@ALL
def test_fixed_point_never_overflows(rng, isa, channels, algorithm, taps):
    """All values at their largest, of one sign or of those of a place's transforms."""
    shape, kernel = (1, channels, 18, 18), (20, channels, taps, taps)
    signs = rng.choice([-1.0, 1.0], (2, 18, 18)).astype(np.float32)
    stripes = np.where(np.indices((18, 18)).sum(0) // 2 % 2, 1, -1).astype(np.float32)
    for pattern in (np.ones((18, 18), np.float32), stripes, *signs):
        x = np.broadcast_to(pattern, shape).copy()
        for weight in (np.ones(kernel), np.broadcast_to(pattern[:taps, :taps], kernel)):
            weight = np.ascontiguousarray(weight, np.float32)
            bias = np.zeros(20, np.float32)
            wide = (a.astype(np.float64) for a in (x, weight, bias))
            expected = conv_pool(*wide, padding=taps // 2)
            error = np.abs(fixed(x, weight, bias, taps, algorithm) - expected).max()
            assert error <= 1e-2 * channels * taps**2


@pytest.mark.parametrize(
    ("channels", "size", "algorithm", "taps"),
    [
        ((521, 490), (9, 14), FIXED, 3),
        ((256, 330), (3, 6, 5), FIXED, 3),
        ((300, 850), (7, 8), FIXED, 5),
        ((521, 490), (9, 14), FIXED6, 3),
        ((256, 330), (3, 6, 5), FIXED6, 3),
    ],
)
def test_large_layers_give_what_small_ones_give(rng, isa, threads, channels, size, algorithm, taps):
    """Filters of large layers are transformed in each call, those of small ones once."""
    x, weight, bias = layer(rng, channels, size, (taps,) * len(size), batch=2)
    got = fixed(x, weight, bias, taps, algorithm)
    for part in (slice(0, 64), slice(channels[1] - 42, None)):
        few = fixed(x, weight[part], bias[part], taps, algorithm)
        assert_array_equal(got[:, part], few)


@BOTH
def test_fixed_point_of_any_size(rng, isa, algorithm):
    """Tiles have scales of their own, and so have runs of channels and output channels."""
    run = partial(fixed, algorithm=algorithm)
    x, weight, bias = layer(rng, (140, 20), (24, 24), (3, 3), batch=1)
    bias[:] = 0
    expected = run(x, weight, bias)
    for by in (2.0**-60, 2.0**40, 2.0**-35):  # powers of two change nothing else
        assert_array_equal(run(x * np.float32(by), weight, bias), expected * np.float32(by))
        assert_array_equal(run(x, weight * np.float32(by), bias), expected * np.float32(by))
    weight[:10] *= np.float32(1e-6)
    assert_near(run(x, weight, bias)[:, :10], expected[:, :10] * 1e-6, 1e-3)
    rest = (..., slice(16 if algorithm == FIXED else 18, None), slice(None))
    lower = run(x, weight, bias)[rest]
    x[..., :12, :] *= np.float32(1e6)  # tiles that do not meet these stay as they were
    assert_array_equal(run(x, weight, bias)[rest], lower)
    bias[:] = rng.normal(size=20)
    assert_array_equal(
        run(np.zeros_like(x), weight, bias), np.broadcast_to(bias[:, None, None], (1, 20, 24, 24))
    )
    assert_array_equal(
        run(x, np.zeros_like(weight), bias), np.broadcast_to(bias[:, None, None], (1, 20, 24, 24))
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@BOTH
def test_fixed_point_of_nan_and_infinity(rng, isa, algorithm, value):
    """They make the tiles that they meet NaN, and no other."""
    run = partial(fixed, algorithm=algorithm)
    x, weight, bias = layer(rng, (140, 20), (24, 24), (3, 3), batch=1)
    expected = run(x, weight, bias)
    x[0, 130, 10, 13] = value
    tile = (slice(8, 12), slice(12, 16)) if algorithm == FIXED else (slice(6, 12), slice(12, 18))
    got = run(x, weight, bias)
    assert np.isnan(got[..., 9:12, 12:15]).all()
    other = np.ones((24, 24), bool)
    other[tile] = False
    assert_array_equal(got[..., other], expected[..., other])
    weight[7, 3, 1, 1] = value
    assert np.isnan(run(x, weight, bias)[:, 7]).all()
