"""What the tests of convolutions share: layers of unit scale, algorithms by number, bounds."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from medseg_fast._dispatch import BFLOAT16

convolution = import_module("medseg_fast.nn.functional.convolution")

DIRECT, WINOGRAD2, WINOGRAD4, TILED, PAIRS, FIXED, LINES, FIXED6 = 1, 2, 3, 4, 5, 6, 7, 8
# Of the output's largest value: the docstring's bound, and what sums of float32 stay within.
BOUND = {DIRECT: 3e-6, WINOGRAD2: 3e-6, WINOGRAD4: 1e-4, FIXED: 1e-2, FIXED6: 1e-2, LINES: 5e-6}


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


def fixed(x, weight, bias, taps=3, algorithm=FIXED):
    sizes = convolution.geometry((taps,) * (x.ndim - 2), 1, taps // 2, 1, None, 2)
    return convolution._run(x, weight, bias, sizes, None, 0.0, None, False, False, algorithm)


def bfloat16(x):
    """Rounded to nearest even, and what that is as float32."""
    bits = x.view(np.uint32).astype(np.uint64)
    bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return bits.view(BFLOAT16), (bits.astype(np.uint32) << 16).view(np.float32)
