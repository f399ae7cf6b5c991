"""Percentiles without the values: as exact as they say."""

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg_fast.stream._latency import PERCENTILES, Latencies


def of(values):
    found = Latencies()
    for value in values:
        found.add(value)
    return found


def exact(values):
    # numpy.percentile's method "higher", whose ranks are rounded numbers: 999.0000000000001.
    last, ordered = len(values) - 1, sorted(values)
    ranks = {f"p{p:g}": math.ceil(Fraction(str(p)) * last / 100) for p in PERCENTILES}
    return {**{name: ordered[rank] for name, rank in ranks.items()}, "max": ordered[-1]}


def same(values):
    # Next to the relative error: a microsecond, which is where buckets begin.
    assert of(values).percentiles() == pytest.approx(exact(values), rel=1e-3, abs=1e-3)


@given(st.lists(st.floats(0, 1e7, allow_nan=False), min_size=1, max_size=60))
def test_any_durations(values):
    same(values)


@given(st.floats(2**-10, 2**23))
def test_relative_error(value):
    """Of each bucket: between two other values, so that neither end is known exactly."""
    found = of([value / 2, value, value * 2]).percentiles()["p50"]
    assert found == pytest.approx(value, rel=1 / 1023, abs=0)


def test_exact_is_numpys(rng):
    values = rng.random(1234)
    found = np.percentile(values, PERCENTILES, method="higher")
    assert list(exact(values).values()) == [*found, values.max()]


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000, 1001, 20_000])
def test_many_durations(rng, count):
    same(rng.lognormal(2, 1.5, count).tolist())


def test_what_is_exact():
    values = [0.25, 3.7, 1.1]
    found = of(values)
    assert (found.count, found.least, found.most) == (3, 0.25, 3.7)
    assert found.sum == pytest.approx(sum(values))
    assert of([5.3]).percentiles() == dict.fromkeys(("p50", "p95", "p99", "p99.9", "max"), 5.3)
    assert Latencies().percentiles() == {}


def test_beyond_the_buckets():
    """Clocks that were set back, and hours: counted, and within what was seen."""
    found = of([-5.0, 0.0, 1e-9, 1e12, 1e300])
    assert found.count == 5
    assert found.percentiles()["max"] == 1e300
    assert of([-5.0]).percentiles()["p50"] == -5.0
    assert of([-5.0, 0.0, 1e-5]).percentiles()["p50"] == pytest.approx(0, abs=1e-3)


def test_memory_is_constant():
    found = Latencies()
    before = sys.getsizeof(found._buckets)
    for i in range(20_000):
        found.add(i * 0.1)
    assert sys.getsizeof(found._buckets) == before < 140_000
