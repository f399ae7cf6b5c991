"""One operation on one input: our call, every rival's, and how their results compare.

A bench file (``bench_<family>.py``) lists its cases; `test_` functions for pytest-benchmark and
the table of README.md both come from that list. A rival's call includes everything its user must
do to get our result (a comparison, a cast).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


def paired(
    calls: dict[str, Call], budget_s: float = 1.0, most: int = 25, floor: str | None = None
) -> dict[str, float]:
    """Median milliseconds of each call; all run in turn, so that drift hits them alike.

    Calls more than five times slower than the fastest are not close: three rounds do for them, and
    where a call takes seconds the first one. `floor` names a call that does less than the others.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}

    def timed(name: str) -> float:
        time.sleep(0.01)  # threads of some peers spin for a while, on the CPUs of who comes next
        call = calls[name]
        around, call = (call.around, call.call) if isinstance(call, Within) else (nullcontext, call)
        with around():
            start = time.perf_counter()
            result = call()
            seconds = time.perf_counter() - start
        del result
        return seconds

    warm = {name: timed(name) for name in calls}  # page faults, thread pools, compiled kernels
    fastest = min((warm[name] for name in calls if name != floor), default=0.0)
    slow = {name for name in calls if warm[name] > 5 * fastest}
    slowest = {name for name in slow if warm[name] > 1.5}
    for name in slowest:
        times[name].append(warm[name])
    start = time.perf_counter()
    budget = budget_s * len(calls)
    for round_ in range(most):
        for name in calls:
            if name not in slowest and (round_ < 3 or name not in slow):
                times[name].append(timed(name))
        spent = time.perf_counter() - start
        if spent > (budget if round_ >= 6 else 2 * budget) and round_ >= 2:
            break
    return {name: 1e3 * statistics.median(t) for name, t in times.items()}


@dataclass(frozen=True)
class Within:
    """A call for which something is set before it is timed, and set back afterwards."""

    around: Callable[[], AbstractContextManager[None]]
    call: Call

    def __call__(self) -> Any:
        with self.around():
            return self.call()


def with_threads(n: int, call: Call) -> Call:
    """The same call limited to `n` of our threads."""
    return Within(lambda: medseg_fast.num_threads(n), call)


@contextmanager
def _one_thread_of_opencv() -> Iterator[None]:
    import cv2

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def on_one_thread(call: Call) -> Call:
    """An OpenCV call limited to one thread."""
    return Within(_one_thread_of_opencv, call)


def measure(case: Case) -> dict[str, Any]:
    """One row: milliseconds of ours (1 and 2 threads), of each rival, of a plain copy.

    `best` is the fastest rival as it comes, `best_1` the fastest with OpenCV held to one thread.
    """
    image, calls = case.build()
    case.check(calls)
    ours = calls.pop("medseg_fast")
    single = {
        f"{name}, 1 thread": on_one_thread(call)
        for name, call in calls.items()
        if name.startswith("OpenCV")
    }
    target = np.empty_like(image)
    timed = {
        "ours_1": with_threads(1, ours),
        "ours_2": with_threads(2, ours),
        "copy": lambda: np.copyto(target, image),
        **calls,
        **single,
    }
    times = paired(timed, floor="copy")
    rivals = {name: times[name] for name in (*calls, *single)}
    best = min(calls, key=rivals.__getitem__, default=None)
    alone = [name for name in rivals if f"{name}, 1 thread" not in rivals]
    best_1 = min(alone, key=rivals.__getitem__, default=None)
    return {
        "case": case,
        "pixels": image.size,
        "times": times,
        "rivals": rivals,
        "best": best,
        "best_1": best_1,
    }
