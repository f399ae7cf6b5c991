"""Of each region the mask of its class: one output channel of a 1 x 1 convolution, and sigmoid."""

from __future__ import annotations

import numpy as np
import pytest
from _convolutions import bfloat16
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast.nn._optimize import _detector  # for `isa`, which changes every module's core


def masks(features, labels, weight, bias):
    out = np.full(features.shape[:3], np.nan, np.float32)
    _detector.core.class_masks(features, labels, weight, bias, out)
    return out


def example(rng, regions, size, channels, classes):
    features = rng.standard_normal((regions, *size, channels)).astype(np.float32)
    weight = rng.standard_normal((classes, channels)).astype(np.float32)
    bias = rng.standard_normal(classes).astype(np.float32)
    return features, rng.integers(0, classes, regions), weight, bias


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(
    ("regions", "size", "channels", "classes"),
    [
        (5, (28, 28), 256, 91),
        (3, (7, 9), 40, 2),
        (1, (1, 1), 5, 4),
        (4, (3, 5), 17, 3),
        (0, (4, 4), 8, 2),
    ],
)
def test_agrees_with_the_formula(rng, isa, threads, regions, size, channels, classes, narrow):
    features, labels, weight, bias = example(rng, regions, size, channels, classes)
    given = features
    if narrow:
        given, features = bfloat16(features)
    logits = np.einsum("nyxc,nc->nyx", features.astype(np.float64), weight[labels])
    expected = 1 / (1 + np.exp(-(logits + bias[labels, None, None])))
    assert_allclose(masks(given, labels, weight, bias), expected, rtol=2e-5, atol=1e-6)


def test_nan_stays_in_its_pixel(rng):
    features, labels, weight, bias = example(rng, 2, (5, 6), 33, 3)
    clean = masks(features, labels, weight, bias)
    features[0, 1, 2, 32] = np.nan
    features[1, 4, 5, 0] = np.nan
    found = masks(features, labels, weight, bias)
    assert_array_equal(np.argwhere(np.isnan(found)), [[0, 1, 2], [1, 4, 5]])
    assert_array_equal(found[~np.isnan(found)], clean[~np.isnan(found)])


def test_threads_give_the_same_bytes(rng):
    given = example(rng, 9, (14, 14), 64, 7)
    results = []
    for count in (1, 2, 5):
        with ms.num_threads(count):
            results.append(masks(*given))
    assert_array_equal(results[0], results[1])
    assert_array_equal(results[0], results[2])


def test_labels_choose_the_weights(rng):
    """A region's mask does not depend on the other classes."""
    features, labels, weight, bias = example(rng, 6, (4, 4), 16, 5)
    before = masks(features, labels, weight, bias)
    weight[2], bias[2] = 0, 0
    after = masks(features, labels, weight, bias)
    assert_array_equal(after[labels != 2], before[labels != 2])
    assert_array_equal(after[labels == 2], np.float32(0.5))
