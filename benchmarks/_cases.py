"""One operation on one input: our call, every rival's, and how their results compare.

A bench file (``bench_<family>.py``) lists its cases; `test_` functions for pytest-benchmark and
the table of README.md both come from that list. A rival's call includes everything its user must
do to get our result (a comparison, a cast).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import medseg_fast

Call = Callable[[], Any]


@dataclass
class Case:
    """One row of the table.

    `build` makes the input once and returns the calls by implementation; "medseg_fast" is ours.
    `same` compares a rival's result with ours and raises where they differ; a rival of other
    semantics says so in `differs`, and is then timed without being compared. `image` is the array
    whose copy sets the floor.
    """

    operation: str
    data: str
    build: Callable[[], tuple[np.ndarray[Any, Any], dict[str, Call]]]
    same: Callable[[Any, Any], None] = np.testing.assert_array_equal
    differs: dict[str, str] = field(default_factory=dict)
    target: float | None = None  # times the fastest rival, with 2 threads

    def __str__(self) -> str:
        return f"{self.operation} {self.data}"

    def check(self, calls: dict[str, Call]) -> None:
        """A wrong answer has no speed: every rival's result against ours."""
        ours = calls["medseg_fast"]()
        for name, call in calls.items():
            if name != "medseg_fast" and name not in self.differs:
                self.same(ours, call())


def paired(calls: dict[str, Call], budget_s: float = 3.0, most: int = 25) -> dict[str, float]:
    """Median milliseconds of each call; all run in turn, so that drift hits them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # warm-up: page faults, thread pools, compiled kernels
        call()
    end = time.perf_counter() + budget_s * len(calls)
    for round_ in range(most):
        for name, call in calls.items():
            start = time.perf_counter()
            result = call()
            times[name].append(time.perf_counter() - start)
            del result
        if time.perf_counter() > end and round_ >= 4:
            break
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}


def with_threads(n: int, call: Call) -> Call:
    """The same call limited to `n` of our threads."""

    def limited() -> Any:
        with medseg_fast.num_threads(n):
            return call()

    return limited


def measure(case: Case) -> dict[str, Any]:
    """One row: milliseconds of ours (1 and 2 threads), of each rival, of a plain copy."""
    image, calls = case.build()
    case.check(calls)
    ours = calls.pop("medseg_fast")
    target = np.empty_like(image)
    timed = {
        "ours_1": with_threads(1, ours),
        "ours_2": with_threads(2, ours),
        "copy": lambda: np.copyto(target, image),
        **calls,
    }
    times = paired(timed)
    rivals = {name: times[name] for name in calls}
    best = min(rivals, key=rivals.__getitem__) if rivals else None
    return {"case": case, "times": times, "rivals": rivals, "best": best}
