"""Fused layers on a GPU: the slow twin's and the CPU's features up to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_conv_pool as twin

pytestmark = needs_compiler

TOLERANCE = {np.float16: 4e-3, np.float32: 1e-4, np.float64: 1e-12}  # of the largest, by dtype


def layer(rng, dtype, shape, outputs, kernel):
    x = rng.normal(size=shape).astype(dtype)
    weight = (rng.normal(size=(outputs, shape[1], *kernel)) / shape[1]).astype(dtype)
    return x, weight


def check(got, expected, dtype):
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            check(one, other, dtype)
    elif expected.dtype == np.int64:
        assert_array_equal(got, expected)
    else:
        assert got.dtype == dtype
        largest = np.abs(expected[np.isfinite(expected)]).max(initial=1)
        assert_allclose(got, expected, rtol=0, atol=TOLERANCE[dtype] * largest)


def both(x, weight, *args, schedules=1, **options):
    """The CPU has no float16: the same numbers as float32 there."""
    dtype = x.dtype.type
    got = on_shim("conv_pool", x, weight, *args, schedules=schedules, **options)
    wide = np.float32 if dtype == np.float16 else dtype

    def widened(value):
        return value.astype(wide) if isinstance(value, np.ndarray) else value

    named = {name: widened(value) for name, value in options.items()}
    expected = F.conv_pool(widened(x), widened(weight), *map(widened, args), **named)
    check(got, expected, dtype)
    return got


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=lambda t: t.__name__)
@pytest.mark.parametrize("pool", [None, "max", "avg"])
def test_layers(rng, dtype, pool):
    """Tiles and groups of channels that are full, begun, and several."""
    for shape, outputs, kernel in [
        ((1, 1, 5, 6), 1, (1, 1)),
        ((2, 3, 17, 35), 9, (3, 3)),
        ((1, 12, 18, 66), 8, (3, 5)),
        ((1, 2, 3, 7, 9), 4, (2, 3, 3)),
    ]:
        x, weight = layer(rng, dtype, shape, outputs, kernel)
        bias = rng.normal(size=outputs).astype(dtype)
        options = {"padding": "same", "pool": pool}
        if len(kernel) == 3:
            options["pool_size"] = (1, 2, 2)
        both(x, weight, bias, activation="relu", **options)


def test_schedules_and_the_slow_twin(rng):
    x, weight = layer(rng, np.float32, (1, 5, 9, 34), 9, (3, 3))
    for side in (1, 2):
        got = both(x, weight, padding=1, pool="max" if side == 2 else None, schedules=4)
        full = twin.convolve(x, weight, None, (1, 1), (1, 1), (1, 1))
        expected = twin.pool(full, "max", (2, 2))[0] if side == 2 else full
        assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu", "sigmoid"])
def test_activations(rng, activation):
    x, weight = layer(rng, np.float32, (1, 2, 6, 7), 3, (3, 3))
    for pool in (None, "max", "avg"):
        both(x, weight, activation=activation, slope=0.3, pool=pool)


def test_strides_dilations_padding_and_windows(rng):
    x, weight = layer(rng, np.float64, (2, 3, 19, 21), 5, (3, 2))
    for options in (
        {"stride": 2},
        {"stride": (1, 3), "padding": (2, 0)},
        {"dilation": (2, 3), "padding": 4},
        {"pool": "max", "pool_size": 3},
        {"pool": "avg", "pool_size": (4, 1)},
        {"pool": "max", "stride": 2, "dilation": 2},
    ):
        both(x, weight, **options)
    volume, weight = layer(rng, np.float32, (1, 2, 7, 8, 9), 3, (3, 3, 3))
    for options in ({"pool": "max"}, {"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}):
        both(volume, weight, **options)


def test_indices_full_maps_and_batch_norm(rng):
    x, weight = layer(rng, np.float32, (2, 3, 9, 12), 4, (3, 3))
    bias, scale, shift = rng.normal(size=(3, 4)).astype(np.float32)
    options = {"scale": scale, "shift": shift, "pool": "max", "return_indices": True}
    both(x, weight, bias, **options)
    both(x, weight, bias, return_full=True, **options)
    both(x, weight, return_full=True, pool="avg", scale=scale)
    both(x, weight, shift=shift)
    volume, weight = layer(rng, np.float32, (1, 2, 4, 6, 8), 3, (1, 3, 3))
    both(volume, weight, pool="max", return_indices=True)
    equal = np.ones((1, 1, 4, 6), np.float32)
    both(equal, np.ones((1, 1, 1, 1), np.float32), pool="max", return_indices=True)


def test_many_channels_are_staged_in_parts(rng):
    x, weight = layer(rng, np.float32, (1, 70, 6, 9), 3, (3, 3))
    both(x, weight, pool="max")
    x, weight = layer(rng, np.float64, (1, 2, 70, 140), 1, (7, 7))
    both(x, weight, stride=2)


def test_nan_and_infinity():
    x = np.zeros((1, 1, 6, 8), np.float32)
    x[0, 0, 2, 3], x[0, 0, 5, 0] = np.nan, np.inf
    weight = np.ones((1, 1, 1, 1), np.float32)
    for pool in (None, "max"):
        assert_array_equal(
            on_shim("conv_pool", x, weight, pool=pool, activation="relu"),
            F.conv_pool(x, weight, pool=pool, activation="relu"),
        )


def test_halves_round_as_numpy_does(rng):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    one = np.ones((1, 1, 1, 1), np.float16)
    same = on_shim("conv_pool", every.reshape(1, 1, 256, 256), one, schedules=1).ravel()
    assert_array_equal(same, every)
    rounded = rng.normal(size=(1, 1, 60, 90)).astype(np.float32) * np.float32(2) ** -12
    weight = np.full((1, 1, 1, 1), 0.3, np.float16)
    x = rounded.astype(np.float16)
    expected = (x.astype(np.float32) * np.float32(weight.item())).astype(np.float16)
    assert_array_equal(on_shim("conv_pool", x, weight, schedules=1), expected)


def test_what_is_wrong(rng):
    x, weight = layer(rng, np.float32, (1, 3, 9, 12), 4, (3, 3))
    with pytest.raises(TypeError, match="x must be float16, float32 or float64, got int64"):
        on_shim("conv_pool", np.ones((1, 1, 3, 3), int), weight)
    with pytest.raises(TypeError, match="weight must have the dtype of x, float32, got float64"):
        on_shim("conv_pool", x, weight.astype(float))
    with pytest.raises(ValueError, match="weight must have shape"):
        on_shim("conv_pool", x, weight[:, 1:])
    with pytest.raises(ValueError, match="as large as the kernel"):
        on_shim("conv_pool", x[..., :2], weight)
    with pytest.raises(NotImplementedError, match="too much input for one tile"):
        on_shim("conv_pool", np.ones((1, 1, 200, 900), np.float32), weight[:, :1], stride=20)
