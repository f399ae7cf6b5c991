"""Percentiles of any number of durations, in memory that does not grow with them."""

from __future__ import annotations

import math
from array import array

PERCENTILES = (50, 95, 99, 99.9)

_PER_OCTAVE = 512  # buckets between a value and its double
_LEAST, _MOST = -10, 24  # exponents of 2: from a microsecond to four hours, in milliseconds


class Latencies:
    """A histogram of milliseconds whose buckets widen with what they hold.

    Buckets are linear between two powers of 2, as in HdrHistogram, and stand for their middle:
    what is read from them is within 0.1 % of the value, or a microsecond, whichever is more.
    Count, sum, minimum and maximum are exact. 140 kB, all of them touched at once.
    """

    __slots__ = ("_buckets", "count", "least", "most", "sum")

    def __init__(self) -> None:
        self._buckets = array("q", [0]) * ((_MOST - _LEAST) * _PER_OCTAVE + 1)
        self.count = 0
        self.sum = 0.0
        self.least, self.most = math.inf, -math.inf

    def add(self, ms: float) -> None:
        """Count one duration."""
        self.count += 1
        self.sum += ms
        if ms < self.least:
            self.least = ms
        if ms > self.most:
            self.most = ms
        self._buckets[_bucket(ms)] += 1

    def percentiles(self) -> dict[str, float]:
        """p50, p95, p99, p99.9 and max; the value that so many do not exceed. Empty for none."""
        if not self.count:
            return {}
        # The nearest value from above, as numpy.percentile's method "higher" has it.
        ranks = [-(-round(10 * p) * (self.count - 1) // 1000) for p in PERCENTILES]
        found: list[float] = []
        below = 0
        for bucket, n in enumerate(self._buckets):
            below += n
            while len(found) < len(ranks) and ranks[len(found)] < below:
                found.append(min(max(_middle(bucket), self.least), self.most))
            if len(found) == len(ranks):
                break
        named = {f"p{p:g}": value for p, value in zip(PERCENTILES, found, strict=True)}
        return {**named, "max": self.most}


def _bucket(ms: float) -> int:
    mantissa, exponent = math.frexp(ms)  # from a half to 1
    if ms <= 0 or exponent <= _LEAST:
        return 0
    if exponent > _MOST:
        return (_MOST - _LEAST) * _PER_OCTAVE
    octave = exponent - _LEAST - 1
    return octave * _PER_OCTAVE + int((2 * mantissa - 1) * _PER_OCTAVE) + 1


def _middle(bucket: int) -> float:
    if bucket == 0:
        return 0.0
    octave, part = divmod(bucket - 1, _PER_OCTAVE)
    return math.ldexp(1 + (part + 0.5) / _PER_OCTAVE, octave + _LEAST)
