"""Convolution with pooling: against the slow twin, every layout, kernel and option."""

from __future__ import annotations

import numpy as np
import pytest
from _convolutions import (
    BOUND,
    DIRECT,
    FIXED,
    FIXED6,
    PAIRS,
    TILED,
    WINOGRAD2,
    WINOGRAD4,
    assert_near,
    bfloat16,
    channels_last,
    convolution,
    fixed,
    layer,
)
from conftest import LAYOUTS
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import BFLOAT16
from medseg_fast.nn.functional import conv_pool
from medseg_fast.reference import nn_conv_pool as slow


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


@pytest.mark.parametrize("algorithm", [DIRECT, WINOGRAD2, WINOGRAD4, FIXED, FIXED6])
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
    if algorithm == FIXED6 and taps != 3:
        pytest.skip("tiles of 6 x 6 are of 3 taps")
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
    for algorithm, bound in ((DIRECT, 3e-6), (WINOGRAD2, 3e-6), (WINOGRAD4, 1e-5)):
        got = convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, algorithm)
        assert_near(got, expected, bound)

    x, weight, bias = layer(rng, (128, 32), (8, 8, 8), (5, 5, 5), batch=1)
    expected = conv_pool(*(a.astype(np.float64) for a in (x, weight, bias)), padding=2)
    sizes = convolution.geometry((5, 5, 5), 1, 2, 1, None, 3)
    for algorithm, bound in ((DIRECT, 5e-6), (WINOGRAD2, 3e-5), (WINOGRAD4, 5e-5)):
        got = convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, algorithm)
        assert_near(got, expected, bound)


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


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "dilation"),
    [
        ((16, 16), (17, 33), (3, 3), 1, 1),
        ((1, 1), (1, 1), (1, 1), 1, 1),
        ((70, 40), (9, 70), (3, 3), 1, 1),  # off every width of a tile, wider than a block
        ((33, 100), (20, 21), (5, 2), (2, 3), (1, 2)),
        ((17, 20), (5, 6, 18), (3, 3, 3), (2, 1, 1), 1),
        ((3, 33), (30, 41), (7, 7), 2, 1),  # fewer channels than a vector has
        ((6, 16), (19, 70), (5, 5), 1, 2),
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


@pytest.mark.parametrize(
    ("channels", "size", "kernel", "stride", "dilation"),
    [
        ((16, 16), (17, 33), (3, 3), 1, 1),
        ((70, 40), (9, 70), (3, 3), 1, 1),  # off every width of a tile, wider than a block
        ((100, 33), (20, 21), (5, 2), (2, 3), (1, 2)),
        ((17, 20), (5, 6, 18), (3, 3, 3), (2, 1, 1), 1),
        ((300, 64), (16, 16), (1, 1), 1, 1),
        ((3, 5), (9, 9), (3, 3), 1, 1),
    ],
)
@pytest.mark.parametrize("positive", [False, True])
def test_integers_on_tiles(rng, isa, threads, channels, size, kernel, stride, dilation, positive):
    """AMX's instructions, or their emulation: the sums of pairs and fours, to the bit."""
    x, weight, bias = layer(rng, channels, size, kernel)
    x = np.abs(x) if positive else x
    x[0, 0, ..., 0], x[0, 0, ..., 1] = np.nan, 1e30
    steps = (4 / 255, 0.0, 255.0) if positive else (4 / 127, -127.0, 127.0)
    sizes = convolution.geometry(kernel, stride, 1, dilation, None, 1)

    def run(tiled, features, dtype):
        spec = (channels, sizes.of_volumes(), 1, 0.0, 0, tiled)
        packed, last = convolution._features.ordered(features)
        full = sizes.full(size)
        shape = (2, *full, channels[1]) if last else (2, channels[1], *full)
        out = np.empty(shape, dtype)
        convolution.core.convolution8(*spec, weight, bias, steps).run(packed, last, out, None, None)
        return out

    for features, dtype in ((x, np.float32), (bfloat16(x)[0], BFLOAT16)):
        for given in (features, channels_last(features)):
            plain, tiled = (run(tiled, given, dtype) for tiled in (False, True))
            assert_array_equal(plain.view(np.uint8), tiled.view(np.uint8))


def test_few_channels_in_pairs_where_sums_are_long():
    def chosen(channels, kernel, narrow=True):
        sizes = convolution.geometry(kernel, 1, 1, 1, None, 2).of_volumes()
        return convolution.core.convolution_algorithm(channels, sizes, (1, 64, 64), narrow, False)

    assert chosen((6, 16), (5, 5)) in (PAIRS, DIRECT)  # by what the CPU has
    assert chosen((6, 16), (5, 5), narrow=False) == DIRECT
    for channels, kernel in (((3, 64), (3, 3)), ((2, 64), (9, 9)), ((3, 8), (7, 7))):
        assert chosen(channels, kernel) == DIRECT


@pytest.mark.parametrize("channels", [(3, 5), (20, 20)])
@pytest.mark.parametrize("algorithm", [DIRECT, WINOGRAD4, FIXED, FIXED6])
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


@pytest.mark.parametrize("far", [1000, 2**31, 10**19])
@pytest.mark.parametrize("axes", [2, 3])
def test_steps_beyond_the_features(rng, far, axes):
    """Blocks of outputs that lay so far apart overflowed, and a stride of 2**31 crashed."""
    x, weight, bias = layer(rng, (2, 3), (7,) * axes, (3, 1, 1)[:axes])
    assert_array_equal(
        conv_pool(x, weight, bias, stride=far, padding=1, dilation=(1, *(far,) * (axes - 1))),
        conv_pool(x, weight, bias, stride=9, padding=1),
    )


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
        (
            (bfloat16(X)[0], W.astype(np.float64)),
            {},
            TypeError,
            "weight must have the dtype of x, bfloat16 or float32, got float64",
        ),
        ((X[0], W), {}, ValueError, "x must have 4 or 5 dimensions"),
        ((X, W[0]), {}, ValueError, "weight must have 4 dimensions"),
        ((X, W[:, :1]), {}, ValueError, r"weight must have shape \(K, 2, ...\)"),
        ((X, W, W[:2, 0, 0, 0]), {}, ValueError, r"bias must have shape \(3,\), got \(2,\)"),
        ((X, W), {"stride": 0}, ValueError, "stride must be at least 1, got 0"),
        ((X, W), {"stride": (1, 1, 1)}, ValueError, "stride must be one integer or 2"),
        ((X, W), {"padding": -1}, ValueError, "padding must be at least 0"),
        ((X, W), {"padding": 10**10}, ValueError, r"padding must ask for fewer than 2\*\*48"),
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
