"""Convolutions of features in planes: bytes of direct sums, Winograd along columns, indices."""

from __future__ import annotations

import numpy as np
import pytest
from _convolutions import (
    BOUND,
    DIRECT,
    LINES,
    assert_near,
    bfloat16,
    channels_last,
    convolution,
    layer,
)
from numpy.testing import assert_array_equal

from medseg_fast import num_threads
from medseg_fast._dispatch import BFLOAT16
from medseg_fast.nn.functional import conv_pool
from medseg_fast.reference import nn_conv_pool as slow


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "dilation"),
    [
        ((2, 64), (37, 530), (3, 3), 1, 1),  # wider than a block, an odd number of rows
        ((3, 20), (40, 61), (7, 7), 2, 1),  # the columns of two remainders
        ((3, 7), (21, 50), (3, 2), (1, 3), (2, 1)),
        ((2, 4), (30, 19), (3, 3), (3, 2), (1, 3)),
        ((70, 2), (33, 600), (1, 1), 1, 1),  # to few channels
        ((300, 5), (9, 40), (3, 3), 1, 1),
        ((2, 9), (5, 12, 34), (3, 3, 3), (2, 1, 1), 1),
        ((2, 3), (1, 1), (3, 3), 1, 1),
    ],
)
@pytest.mark.parametrize("pool", [None, "max"])
def test_rows_of_planes_give_the_bytes_of_direct_sums(
    rng, threads, channels, size, kernel, stride, dilation, pool
):
    """Few channels are convolved along rows where they are in planes, but not channels-last."""
    if pool and len(size) == 2 and min(size) < 2:
        return
    x, weight, bias = layer(rng, channels, size, kernel)
    sizes = convolution.geometry(kernel, stride, 3, dilation, pool, (1, 2, 2)[-len(size) :])
    for activation, full in (("relu", False), ("leaky_relu", bool(pool))):
        options = (sizes, activation, 0.1, pool, False, full, DIRECT)
        got = convolution._run(x, weight, bias, *options)
        expected = convolution._run(channels_last(x), weight, bias, *options)
        for pair in zip(got, expected, strict=True) if full else [(got, expected)]:
            assert_array_equal(*pair)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "dilation"),
    [
        ((3, 13), (19, 530), (3, 3), 1, 1),  # wider than a block, rows beyond the last four
        ((1, 12), (1, 3), (3, 3), 1, 1),
        ((4, 14), (18, 61), (3, 7), (1, 2), (1, 3)),  # the columns of two remainders
        ((2, 20), (5, 12, 34), (3, 3, 3), (2, 1, 1), 1),
        ((15, 13), (8, 20), (3, 1), 1, 1),
    ],
)
@pytest.mark.parametrize("kind", [None, "max"])
def test_lines(rng, isa, threads, channels, size, kernel, stride, dilation, kind):
    """Winograd's algorithm along columns: the rows that it makes together, and their indices."""
    if kind and min(size) < 2:
        return
    x, weight, bias = layer(rng, channels, size, kernel)
    window = (1, 2, 2)[-len(size) :]
    sizes = convolution.geometry(kernel, stride, 2, dilation, kind, window)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    options = {"stride": stride, "padding": 2, "dilation": dilation, "slope": 0.1}
    expected = conv_pool(*wide, activation="leaky_relu", **options)
    for dtype in (np.float32, BFLOAT16):
        features = x if dtype == np.float32 else bfloat16(x)[0]
        options = (weight, bias, sizes, "leaky_relu", 0.1, kind)
        if kind is None:
            full = convolution._run(features, *options, False, False, LINES)
        else:
            pooled, indices, full = convolution._run(features, *options, True, True, LINES)
            if dtype == np.float32:
                values, places = slow.pool(full, kind, window)
                assert_array_equal(pooled, values)
                assert_array_equal(indices, places)
            alone = convolution._run(features, *options, False, False, LINES)
            assert_array_equal(alone.view(np.uint8), pooled.view(np.uint8))
        assert full.flags.c_contiguous
        bound = BOUND[LINES] if dtype == np.float32 else 2**-6
        assert_near(convolution._features.to_float32(full), expected, bound)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride"),
    [
        ((512, 2), (6, 20), (3, 3), 1),
        ((64, 2), (6, 64), (7, 7), 1),
        ((128, 1), (11, 40), (5, 5), 2),
        ((16, 2), (9, 10, 5), (3, 3, 3), 2),
    ],
)
def test_blocks_of_few_rows(rng, channels, size, kernel, stride):
    """Six rows in several blocks, each of which writes its own alone."""
    x, weight, bias = layer(rng, channels, size, kernel)
    sizes = convolution.geometry(kernel, stride, kernel[0] // 2, 1, None, (1,) * len(size))
    options = (sizes, None, 0, None, False, False, DIRECT)
    expected = convolution._run(channels_last(x), weight, bias, *options)
    with num_threads(4):
        for _ in range(20):
            assert_array_equal(convolution._run(x, weight, bias, *options), expected)


@pytest.mark.parametrize("kernel", [1, 3])
def test_indices_of_planes(rng, kernel):
    """Of equal values and of NaN, by the kernels for planes."""
    x = rng.integers(-1, 3, (2, 3, 23, 37)).astype(np.float32)
    x[rng.random(x.shape) < 0.002] = np.nan
    weight = rng.integers(-1, 2, (20, 3, kernel, kernel)).astype(np.float32)
    options = {"pool": "max", "return_indices": True, "return_full": True}
    pooled, indices, full = conv_pool(x, weight, padding=kernel // 2, **options)
    assert_array_equal(pooled, full[..., :22, :36].reshape(2, 20, 11, 2, 18, 2).max((3, 5)))
    nan = np.isnan(pooled)
    places = slow.pool(full, "max", (2, 2))[1]
    assert 0 < nan.sum() < nan.size / 2
    assert_array_equal(indices[~nan], places[~nan])
    taken = np.take_along_axis(full.reshape(2, 20, -1), indices.reshape(2, 20, -1), -1)
    assert_array_equal(taken.reshape(pooled.shape), pooled)
