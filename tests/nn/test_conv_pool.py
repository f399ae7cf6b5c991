"""Convolution with pooling: against the slow twin, every layout, kernel and option."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from conftest import LAYOUTS
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import BFLOAT16
from medseg_fast.nn.functional import conv_pool
from medseg_fast.reference import nn_conv_pool as slow

convolution = import_module("medseg_fast.nn.functional.convolution")

DIRECT, WINOGRAD2, WINOGRAD4, TILED, PAIRS, FIXED, LINES = 1, 2, 3, 4, 5, 6, 7
# Of the output's largest value: the docstring's bound, and what sums of float32 stay within.
BOUND = {DIRECT: 3e-6, WINOGRAD2: 3e-6, WINOGRAD4: 1e-4, FIXED: 1e-2, LINES: 5e-6}


def layer(rng, channels, size, kernel, dtype=np.float32, batch=2):
    """Features and weights that keep the output's scale near one."""
    taps = channels[0] * np.prod(kernel)
    x = rng.standard_normal((batch, channels[0], *size)).astype(dtype)
    weight = rng.standard_normal((channels[1], channels[0], *kernel)) / np.sqrt(taps)
    return x, weight.astype(dtype), rng.standard_normal(channels[1]).astype(dtype)


def channels_last(x):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def assert_near(got, expected, bound):
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= bound * max(np.abs(expected).max(), 1e-30)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    ("size", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 2), (2, 1, 3)]
)
@pytest.mark.parametrize("kind", [None, "max", "avg"])
def test_equals_slow_twin(rng, axes, size, stride, dilation, kind):
    x, weight, bias = layer(rng, (3, 5), (9, 11, 8)[-axes:], (size,) * axes)
    padding = (1,) * axes
    full = slow.convolve(x, weight, bias, (stride,) * axes, padding, padding, (dilation,) * axes)
    full = slow.activate(full, "relu")
    got = conv_pool(
        x,
        weight,
        bias,
        stride=stride,
        padding=1,
        dilation=dilation,
        activation="relu",
        pool=kind,
        return_full=kind is not None,
    )
    if kind is None:
        assert_near(got, full, BOUND[DIRECT])
        return
    assert_near(got[1], full, BOUND[DIRECT])
    assert_near(got[0], slow.pool(full, kind, (2,) * axes)[0], BOUND[DIRECT])


@pytest.mark.parametrize("algorithm", [DIRECT, WINOGRAD2, WINOGRAD4, FIXED])
@pytest.mark.parametrize(
    ("channels", "size", "depth", "taps"),
    [
        ((1, 1), (1, 1), 0, 3),
        ((3, 7), (5, 2), 0, 3),
        ((16, 16), (33, 18), 0, 3),  # a block and one pixel
        ((17, 33), (40, 71), 0, 3),  # off every width
        ((70, 19), (8, 8), 0, 3),
        ((5, 20), (9, 13), 1, 3),  # one plane
        ((20, 34), (12, 17), 5, 3),
        ((150, 33), (37, 50), 0, 3),  # stages of several blocks, shared by threads
        ((300, 18), (9, 10), 0, 3),  # weights in pieces
        ((100, 18), (9, 12), 4, 3),
        ((3, 7), (5, 2), 0, 5),
        ((17, 35), (21, 38), 0, 5),
        ((20, 34), (7, 13), 9, 5),  # blocks of many planes, and one more
        ((130, 18), (6, 9), 3, 5),
        ((500, 401), (5, 7), 0, 3),  # filters transformed when they are used
        ((70, 580), (6, 5), 5, 5),
    ],
)
def test_algorithms_agree_with_sums_in_float64(rng, isa, algorithm, channels, size, depth, taps):
    size, kernel = ((depth, *size), (taps,) * 3) if depth else (size, (taps,) * 2)
    bound = BOUND[algorithm if taps == 3 or algorithm != WINOGRAD2 else WINOGRAD4]
    x, weight, bias = layer(rng, channels, size, kernel)
    wide = [a.astype(np.float64) for a in (x, weight, bias)]
    for pool in (None, "max"):
        if pool and min(size) < 2:
            continue
        sizes = convolution.geometry(kernel, 1, taps // 2, 1, pool, 2)
        expected = conv_pool(*wide, padding=taps // 2, activation="relu", pool=pool)
        for features in (x, channels_last(x)):
            got = convolution._run(
                features, weight, bias, sizes, "relu", 0.0, pool, False, False, algorithm
            )
            assert_near(got, expected, bound)


def test_error_of_winograd_with_many_channels(rng):
    """The bound holds with room where sums are long."""
    x, weight, bias = layer(rng, (512, 32), (16, 16), (3, 3), batch=1)
    expected = conv_pool(*(a.astype(np.float64) for a in (x, weight, bias)), padding=1)
    sizes = convolution.geometry((3, 3), 1, 1, 1, None, 2)
    for algorithm, bound in ((DIRECT, 3e-6), (WINOGRAD2, 3e-6), (WINOGRAD4, 3e-5)):
        got = convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, algorithm)
        assert_near(got, expected, bound)

    x, weight, bias = layer(rng, (128, 32), (8, 8, 8), (5, 5, 5), batch=1)
    expected = conv_pool(*(a.astype(np.float64) for a in (x, weight, bias)), padding=2)
    sizes = convolution.geometry((5, 5, 5), 1, 2, 1, None, 3)
    for algorithm, bound in ((DIRECT, 5e-6), (WINOGRAD2, 3e-5), (WINOGRAD4, 5e-5)):
        got = convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, algorithm)
        assert_near(got, expected, bound)


def fixed(x, weight, bias, taps=3):
    sizes = convolution.geometry((taps,) * (x.ndim - 2), 1, taps // 2, 1, None, 2)
    return convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, FIXED)


@pytest.mark.parametrize(
    ("channels", "size", "taps", "most"),
    [
        ((64, 32), (40, 40), 3, 2e-3),
        ((512, 32), (16, 16), 3, 3e-3),
        ((32, 32), (6, 12, 12), 3, 1e-3),
        ((64, 32), (24, 24), 5, 3e-3),
    ],
)
def test_error_of_fixed_point(rng, isa, channels, size, taps, most):
    """Of the outputs' deviation: weights and features rounded to bfloat16 have 2e-3."""
    x, weight, bias = layer(rng, channels, size, (taps,) * len(size), batch=1)
    x = np.maximum(x, 0)
    wide = (a.astype(np.float64) for a in (x, weight, bias))
    expected = conv_pool(*wide, padding=taps // 2)
    error = fixed(x, weight, bias, taps) - expected
    assert np.sqrt((error**2).mean()) <= most * expected.std()


@pytest.mark.parametrize("channels", [1, 127, 128, 129, 300])
@pytest.mark.parametrize("taps", [3, 5])
def test_fixed_point_never_overflows(rng, isa, channels, taps):
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
            error = np.abs(fixed(x, weight, bias, taps) - expected).max()
            assert error <= 1e-2 * channels * taps**2


def test_fixed_point_of_any_size(rng, isa):
    """Tiles have scales of their own, and so have runs of channels and output channels."""
    x, weight, bias = layer(rng, (140, 20), (24, 24), (3, 3), batch=1)
    bias[:] = 0
    expected = fixed(x, weight, bias)
    for by in (2.0**-60, 2.0**40):  # powers of two change nothing else
        assert_array_equal(fixed(x * np.float32(by), weight, bias), expected * np.float32(by))
        assert_array_equal(fixed(x, weight * np.float32(by), bias), expected * np.float32(by))
    weight[:10] *= np.float32(1e-6)
    assert_near(fixed(x, weight, bias)[:, :10], expected[:, :10] * 1e-6, 1e-3)
    lower = fixed(x, weight, bias)[..., 16:, :]
    x[..., :12, :] *= np.float32(1e6)  # tiles that do not meet these stay as they were
    assert_array_equal(fixed(x, weight, bias)[..., 16:, :], lower)
    bias[:] = rng.normal(size=20)
    assert_array_equal(
        fixed(np.zeros_like(x), weight, bias), np.broadcast_to(bias[:, None, None], (1, 20, 24, 24))
    )
    assert_array_equal(
        fixed(x, np.zeros_like(weight), bias), np.broadcast_to(bias[:, None, None], (1, 20, 24, 24))
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_fixed_point_of_nan_and_infinity(rng, isa, value):
    """They make the tiles that they meet NaN, and no other."""
    x, weight, bias = layer(rng, (140, 20), (24, 24), (3, 3), batch=1)
    expected = fixed(x, weight, bias)
    x[0, 130, 10, 13] = value  # tiles of 4 x 4: the rows 8 to 11, the columns 12 to 15
    got = fixed(x, weight, bias)
    assert np.isnan(got[..., 9:12, 12:15]).all()
    other = np.ones((24, 24), bool)
    other[8:12, 8:16] = False
    assert_array_equal(got[..., other], expected[..., other])
    weight[7, 3, 1, 1] = value
    assert np.isnan(fixed(x, weight, bias)[:, 7]).all()


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


@pytest.mark.parametrize("window", [(2, 2), (3, 2), (1, 4), (5, 5)])
@pytest.mark.parametrize("in_channels", [4, 24])
def test_pooling_windows_and_indices(rng, window, in_channels):
    x, weight, bias = layer(rng, (in_channels, 18), (23, 37), (3, 3))
    pooled, indices, full = conv_pool(
        x,
        weight,
        bias,
        padding=1,
        activation="relu",  # many equal zeros: the first one's index
        pool="max",
        pool_size=window,
        return_indices=True,
        return_full=True,
    )
    expected, places = slow.pool(full, "max", window)
    assert_array_equal(pooled, expected)
    assert_array_equal(indices, places)
    assert indices.dtype == np.int64
    options = {"padding": 1, "activation": "relu", "pool_size": window}
    assert_array_equal(conv_pool(x, weight, bias, pool="max", **options), pooled)
    average = conv_pool(x, weight, bias, pool="avg", **options)
    assert_near(average, slow.pool(full, "avg", window)[0], 1e-6)


def test_indices_in_volumes_and_channels_last(rng):
    x, weight, bias = layer(rng, (6, 9), (6, 10, 12), (3, 3, 3))
    options = {"padding": 1, "pool": "max", "return_indices": True, "return_full": True}
    for features in (x, channels_last(x)):
        pooled, indices, full = conv_pool(features, weight, bias, **options)
        expected, places = slow.pool(full, "max", (2, 2, 2))
        assert_array_equal(pooled, expected)
        assert_array_equal(indices, places)


@pytest.mark.parametrize("activation", [None, "relu", "leaky_relu", "elu", "sigmoid"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_and_batch_norm(rng, activation, dtype):
    x, weight, bias = layer(rng, (3, 4), (12, 9), (3, 3), dtype)
    scale, shift = rng.normal(size=(2, 4)).astype(dtype)
    full = slow.convolve(x, weight, bias)
    full = full * scale.reshape(-1, 1, 1) + shift.reshape(-1, 1, 1)
    got = conv_pool(x, weight, bias, scale=scale, shift=shift, activation=activation, slope=0.2)
    assert_near(got, slow.activate(full, activation, 0.2), 3e-6)
    # A negative slope does not rise: it may not wait for the maximum.
    if activation == "leaky_relu":
        options = {"scale": scale, "shift": shift, "activation": activation, "slope": -0.5}
        pooled = conv_pool(x, weight, bias, pool="max", **options)
        expected = slow.pool(slow.activate(full, activation, -0.5), "max", (2, 2))[0]
        assert_near(pooled, expected, 3e-6)


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("channels", [(3, 5), (20, 20)])
def test_layouts(rng, name, channels):
    x, weight, bias = layer(rng, channels, (13, 18), (3, 3))
    expected = conv_pool(x, weight, bias, padding=1, pool="max")
    given = [LAYOUTS[name](a) for a in (x, weight, bias)]
    assert_array_equal(conv_pool(*given, padding=1, pool="max"), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_channels_last_stays_so(rng, dtype):
    for size in ((13, 18), (3, 9, 10)):
        x, weight, bias = layer(rng, (20, 24), size, (3,) * len(size), dtype)
        expected = conv_pool(x, weight, bias, padding=1, pool="max")
        got = conv_pool(channels_last(x), weight, bias, padding=1, pool="max")
        assert np.moveaxis(got, 1, -1).flags.c_contiguous
        assert expected.flags.c_contiguous
        assert_near(got, expected, 1e-6)


def test_threads_give_the_same_bytes(rng):
    for channels, size in (((3, 40), (33, 65)), ((40, 200), (17, 19)), ((20, 33), (4, 21, 22))):
        x, weight, bias = layer(rng, channels, size, (3,) * len(size))
        results, integers = [], []
        for n in (1, 2, 5):
            with ms.num_threads(n):
                results.append(conv_pool(x, weight, bias, padding=1).tobytes())
                integers.append(fixed(x, weight, bias).tobytes())
        assert len(set(results)) == len(set(integers)) == 1


def bfloat16(x):
    """Rounded to nearest even, and what that is as float32."""
    bits = x.view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return bits.view(BFLOAT16), (bits.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "dilation"),
    [
        ((16, 16), (17, 33), (3, 3), 1, 1),
        ((1, 1), (1, 1), (1, 1), 1, 1),
        ((70, 40), (9, 70), (3, 3), 1, 1),  # off every width of a tile, wider than a block
        ((33, 100), (20, 21), (5, 2), (2, 3), (1, 2)),
        ((17, 20), (5, 6, 18), (3, 3, 3), (2, 1, 1), 1),
    ],
)
@pytest.mark.parametrize("pool", [None, "max"])
@pytest.mark.parametrize("algorithm", [TILED, PAIRS])
def test_bfloat16_products(
    rng, isa, threads, channels, size, kernel, stride, dilation, pool, algorithm
):
    """AMX's instructions, AVX-512's, or their emulation: sums of float32."""
    x, weight, bias = layer(rng, channels, size, kernel)
    window = (1, 3, 2)[-len(size) :] if min(size) > 1 else 1
    sizes = convolution.geometry(kernel, stride, 1, dilation, pool, window)
    (narrow, x), (_, rounded) = bfloat16(x), bfloat16(weight)
    wide = [a.astype(np.float64) for a in (x, rounded, bias)]
    options = {"stride": stride, "padding": 1, "dilation": dilation, "activation": "relu"}
    expected = conv_pool(*wide, **options, pool=pool, pool_size=window)
    args = (rounded, bias, sizes, "relu", 0.0, pool, False, False, algorithm)
    for features in (x, channels_last(x)):
        assert_near(convolution._run(features, *args), expected, BOUND[DIRECT])
    for features in (narrow, channels_last(narrow)):
        got = convolution._run(features, *args)
        assert got.dtype == BFLOAT16
        assert_near(convolution._features.to_float32(got), expected, 2**-8)


@pytest.mark.parametrize("channels", [(3, 5), (20, 20)])
@pytest.mark.parametrize("algorithm", [DIRECT, WINOGRAD4, FIXED])
def test_bfloat16_rounds_once(rng, channels, algorithm):
    x, weight, bias = layer(rng, channels, (13, 18), (3, 3))
    narrow, x = bfloat16(x)
    sizes = convolution.geometry((3, 3), 1, 1, 1, "max", 2)
    options = (weight, bias, sizes, "relu", 0.0, "max", False, True, algorithm)
    expected = convolution._run(x, *options)
    for features in (narrow, channels_last(narrow)):
        got = convolution._run(features, *options)
        for one, other in zip(got, expected, strict=True):
            assert one.dtype == BFLOAT16
            assert_array_equal(one.view(np.uint16), bfloat16(other)[0].view(np.uint16))


def test_nan_and_infinity(rng):
    x, weight, bias = layer(rng, (2, 3), (12, 14), (3, 3))
    x[0, 0, 5, 6] = np.nan
    full = conv_pool(x, weight, bias, padding=1, activation="relu")
    assert_array_equal(
        np.isnan(full[0, 1]), np.isnan(slow.convolve(x, weight, bias, (1, 1), (1, 1), (1, 1))[0, 1])
    )
    for indices in (False, True):
        pooled = conv_pool(
            x, weight, bias, padding=1, activation="relu", pool="max", return_indices=indices
        )
        pooled = pooled[0] if indices else pooled
        assert_array_equal(
            np.isnan(pooled[0, 1]),
            np.isnan(slow.pool(np.where(np.isnan(full), 1e9, full), "max", (2, 2))[0][0, 1] == 1e9)
            | (slow.pool(np.where(np.isnan(full), 1e9, full), "max", (2, 2))[0][0, 1] == 1e9),
        )
    x[0, 0, 5, 6] = np.inf
    with np.errstate(invalid="ignore"):
        assert np.isinf(conv_pool(x, np.abs(weight), bias, padding=1)[0, 1]).sum() == 9


def test_same_padding_of_even_kernels(rng):
    x, weight, bias = layer(rng, (3, 4), (9, 12), (2, 4))
    expected = slow.convolve(x, weight, bias, (1, 1), (0, 1), (1, 2))
    assert_near(conv_pool(x, weight, bias, padding="same"), expected, 3e-6)
    assert_array_equal(
        conv_pool(x, weight, bias, padding="valid"), conv_pool(x, weight, bias, padding=0)
    )


def test_changed_weights_are_seen(rng):
    x, weight, bias = layer(rng, (20, 20), (12, 12), (3, 3))
    first = conv_pool(x, weight, bias)
    assert_array_equal(conv_pool(x, weight, bias), first)
    weight[0] = 0
    bias[1] += 1
    changed = conv_pool(x, weight, bias)
    assert_near(changed[:, 0], np.full_like(first[:, 0], bias[0]), 1e-6)
    assert_near(changed[:, 1], first[:, 1] + 1, 1e-5)
    assert_array_equal(changed[:, 2:], first[:, 2:])


def test_empty_batch(rng):
    x, weight, bias = layer(rng, (3, 4), (8, 8), (3, 3), batch=0)
    assert conv_pool(x, weight, bias, pool="max").shape == (0, 4, 3, 3)


X, W = np.zeros((1, 2, 6, 7), np.float32), np.zeros((3, 2, 3, 3), np.float32)


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((X.astype(int), W), {}, TypeError, "x must be float32, float64 or bfloat16, got int64"),
        ((X.astype(np.float16), W), {}, TypeError, "x must be float32"),
        ((X, W.astype(np.float64)), {}, TypeError, "weight must have the dtype of x"),
        ((X[0], W), {}, ValueError, "x must have 4 or 5 dimensions"),
        ((X, W[0]), {}, ValueError, "weight must have 4 dimensions"),
        ((X, W[:, :1]), {}, ValueError, r"weight must have shape \(K, 2, ...\)"),
        ((X, W, W[:2, 0, 0, 0]), {}, ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((X, W), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ((X, W), {"stride": (1, 1, 1)}, ValueError, "stride must be one integer or 2"),
        ((X, W), {"padding": -1}, ValueError, "padding must be at least 0"),
        ((X, W), {"padding": "full"}, ValueError, "padding must be integers, 'same' or 'valid'"),
        ((X, W), {"padding": "same", "stride": 2}, ValueError, "stride must be 1 for"),
        ((X, W), {"dilation": 1.5}, TypeError, "dilation must be an integer"),
        ((X, W), {"dilation": 9}, ValueError, "x must be as large as the kernel"),
        ((X, W), {"activation": "gelu"}, ValueError, "activation must be one of None, 'relu'"),
        ((X, W), {"pool": "min"}, ValueError, "pool must be one of None, 'max', 'avg'"),
        ((X, W), {"pool": "max", "pool_size": 9}, ValueError, "as large as the kernel and pool"),
        ((X, W), {"return_indices": True}, ValueError, "return_indices needs pool='max'"),
        ((X, W), {"return_full": True}, ValueError, "return_full needs pooling"),
        ((X, W), {"slope": "x"}, TypeError, "slope must be a number"),
        ((X[:, :, :0], W), {}, ValueError, "x must have pixels"),
    ],
)
def test_errors(args, kwargs, error, message):
    with pytest.raises(error, match=f"conv_pool: .*{message}"):
        conv_pool(*args, **kwargs)
