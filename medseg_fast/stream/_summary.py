"""Figures of a run, from its records: counts, percentiles, misses, worst frames."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from medseg_fast.stream._frame import STATUSES, Record

PERCENTILES = (50, 95, 99, 99.9)
_WORST = 5


def percentiles(values: ArrayLike) -> dict[str, float]:
    """p50, p95, p99, p99.9 and max; the value that so many do not exceed. Empty for none."""
    array = np.asarray(values, np.float64)
    if not array.size:
        return {}
    found = np.percentile(array, PERCENTILES, method="higher")
    named = {f"p{p:g}": float(v) for p, v in zip(PERCENTILES, found, strict=True)}
    return {**named, "max": float(array.max())}


class Summary:
    """What a run of a pipeline did, frame by frame added up.

    Attributes
    ----------
    received : int
        Frames that the source gave.
    counts : dict
        Records by status.
    reasons : dict
        Why frames were dropped, or failed, and how often.
    deadline_ms : float or None
        Of the pipeline.

    Notes
    -----
    Keeps 40 bytes per frame and 8 per step.
    """

    def __init__(self, steps: tuple[str, ...] = (), deadline_ms: float | None = None) -> None:
        self.steps = steps
        self.deadline_ms = deadline_ms
        self.received = 0
        self.counts: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))
        self.reasons: Counter[str] = Counter()
        self._times = {name: array("d") for name in ("wait", "compute", "send", "total")}
        self._steps = [array("d") for _ in steps]
        self._sent = array("q")
        self._worst: list[tuple[float, int, str]] = []

    def add(self, record: Record) -> None:
        """Count one record."""
        self.counts[record.status] += 1
        if record.reason:
            self.reasons[record.reason] += 1
        if record.status == "stale":
            return
        self.received += 1
        if not record.sent:
            return
        self._sent.append(record.sent)
        for name, value in (
            ("wait", (record.start - record.received) / 1e6),
            ("compute", record.compute_ms),
            ("send", (record.sent - record.end) / 1e6),
            ("total", record.total_ms),
        ):
            self._times[name].append(value)
        for kept, value in zip(self._steps, record.steps, strict=False):
            kept.append(value)
        entry = (record.total_ms, -record.id, record.status)
        if len(self._worst) < _WORST:
            heapq.heappush(self._worst, entry)
        else:
            heapq.heappushpop(self._worst, entry)

    @property
    def sent(self) -> int:
        """Masks made of a frame of their own and sent."""
        return len(self._sent)

    @property
    def misses(self) -> int:
        """Frames whose mask came after the deadline or, for a failure, not at all."""
        return self.counts["late"] + self.counts["error"]

    @property
    def fps(self) -> float:
        """Masks per second, from the first one sent to the last."""
        if self.sent < 2 or self._sent[-1] <= self._sent[0]:
            return 0.0
        return (self.sent - 1) / (self._sent[-1] - self._sent[0]) * 1e9

    def times(self, name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Milliseconds of all masks sent: "wait", "compute", "send", "total", or a step's name."""
        kept = dict(zip(self.steps, self._steps, strict=True)).get(name, self._times.get(name))
        if kept is None:
            raise ValueError(f"Summary: no times of {name!r}")
        return np.array(kept, np.float64)

    def percentiles(self, name: str) -> dict[str, float]:
        """Of `times(name)`: p50, p95, p99, p99.9 and max; the value that so many do not exceed."""
        return percentiles(self.times(name))

    def worst(self) -> list[dict[str, Any]]:
        """The slowest frames, the worst first."""
        ordered = sorted(self._worst, reverse=True)
        return [
            {"id": -number, "total_ms": round(total, 3), "status": status}
            for total, number, status in ordered
        ]

    def as_dict(self) -> dict[str, Any]:
        """All figures, as JSON can hold them."""
        names = ("wait", *self.steps, "compute", "send", "total")
        return {
            "received": self.received,
            "sent": self.sent,
            "fps": round(self.fps, 3),
            "counts": dict(self.counts),
            "reasons": dict(self.reasons.most_common()),
            "deadline_ms": self.deadline_ms,
            "misses": self.misses,
            "miss_rate": self.misses / self.received if self.received else 0.0,
            "jitter_ms": round(self._jitter(), 4),
            "milliseconds": {n: _rounded(self.percentiles(n)) for n in dict.fromkeys(names)},
            "worst": self.worst(),
        }

    def _jitter(self) -> float:
        found = self.percentiles("total")
        return found["p99"] - found["p50"] if found else 0.0

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items() if n)
        lines = [f"{self.received} frames received, {self.sent} masks sent ({counts or 'none'})"]
        lines[0] += f", {self.fps:.1f} per second"
        if self.deadline_ms is not None:
            share = 100 * self.misses / max(self.received, 1)
            lines.append(
                f"deadline {self.deadline_ms:g} ms missed {self.misses} times ({share:.2f} %)"
            )
        lines += [f"  {n} x {reason}" for reason, n in self.reasons.most_common(8)]
        rows = {n: self.percentiles(n) for n in dict.fromkeys((*self.steps, "compute", "total"))}
        if any(rows.values()):
            heads = [f"p{p:g}" for p in PERCENTILES] + ["max"]
            width = max(map(len, rows))
            lines.append(f"{'ms':<{width}}" + "".join(f"{head:>9}" for head in heads))
            for name, row in rows.items():
                lines.append(f"{name:<{width}}" + "".join(f"{row[h]:9.2f}" for h in heads))
            lines.append(
                "worst: " + ", ".join(f"{w['id']} ({w['total_ms']} ms)" for w in self.worst())
            )
        return "\n".join(lines)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
