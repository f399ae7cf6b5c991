from __future__ import annotations

import numpy as np
import pytest
from _thresholds import scikit_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import threshold_histogram as reference


@pytest.fixture(scope="module")
def peer():
    return scikit_image()


@settings(deadline=None, max_examples=400)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=11), st.integers(2, 5))
def test_multiotsu_equals_exhaustive_search(counts, classes):
    """Small counts: ties everywhere, also between sums that only rounding makes equal."""
    counts = np.array([1, *counts, 1])
    if np.count_nonzero(counts) <= classes:
        return
    share = (counts / counts.sum()).astype(np.float32)
    found = ms.threshold_multiotsu(hist=share, classes=classes)
    assert tuple(found) == reference.threshold_multiotsu(share, classes)


@pytest.mark.parametrize("classes", [2, 3, 4, 5])
def test_multiotsu_equals_skimage(peer, classes):
    rng = np.random.default_rng(classes)
    for trial in range(300 if classes < 5 else 80):
        bins = int(rng.integers(classes + 1, [0, 0, 120, 90, 45, 26][classes]))
        kind = trial % 4
        counts = rng.integers(1, [2, 3, 1000, 10**7][kind], bins, endpoint=True)
        if kind == 1:  # symmetric
            counts = counts + counts[::-1]
        counts[1:-1] *= rng.random(bins - 2) < rng.choice([0.5, 0.9, 1])
        found = (
            ms.threshold_multiotsu(hist=counts, classes=classes)
            if (np.count_nonzero(counts) >= classes)
            else None
        )
        if found is not None:
            assert_array_equal(found, peer("multiotsu", hist=counts, classes=classes))


@pytest.mark.parametrize("classes", [2, 3])
def test_multiotsu_of_a_sparse_16_bit_range(rng, peer, classes):
    """Empty bins between the values change nothing but the values."""
    image = (rng.integers(0, 14, 4000) ** 2 * 3).astype(np.uint16)
    found = ms.threshold_multiotsu(image, classes)
    assert_array_equal(found, peer("multiotsu", image, classes))
    assert np.isin(found, image).all()


def test_multiotsu_where_an_empty_class_ties(isa):
    """A class more is worth less than rounding: the empty bins have to be looked at."""
    counts = np.zeros(60, np.float32)
    counts[[0, 20, 40, 59]] = 1, 1e-9, 1e-9, 1
    found = ms.threshold_multiotsu(hist=counts, classes=3)
    assert tuple(found) == reference.threshold_multiotsu(counts, 3)


def test_multiotsu_many_classes(isa, threads):
    image = np.arange(200).repeat(3)
    found = ms.threshold_multiotsu(image, 30)
    assert len(found) == 29
    assert (np.diff(found) > 0).all()
    assert_array_equal(ms.threshold_multiotsu(np.array([5, 9, 9, 12, 14]), 4), [5, 9, 12])


@pytest.mark.parametrize("classes", [1, 0, -1, 2.5])
def test_multiotsu_bad_classes(classes):
    with pytest.raises((TypeError, ValueError), match="threshold_multiotsu: classes must be"):
        ms.threshold_multiotsu(np.arange(9), classes)
