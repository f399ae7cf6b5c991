"""Ours against the library people use today: agreement first, then time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast._methods import Method
from medseg_fast.metrics import dice, rand_index

Array = NDArray[Any]


@dataclass
class Row:
    """One method on one image. Times are medians in ms, by number of our threads."""

    method: str
    options: dict[str, Any]
    found: dict[str, Any]
    ms: dict[int, float]
    peer: str | None = None  # library and version, None where it is not installed or there is none
    peer_ms: float | None = None
    peer_error: str | None = None
    identical: bool | None = None  # same label at every pixel
    dice: float | None = None  # of our mask with the peer's
    differing: int | None = None  # pixels
    rand_index: float | None = None  # of several labels with the peer's, whatever their numbers
    labels: Array = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def times_faster(self) -> float | None:
        """The peer's time over ours with the most threads."""
        return self.peer_ms / self.ms[max(self.ms)] if self.peer_ms else None

    def as_json(self) -> dict[str, Any]:
        """Everything but the labels, for --json."""
        values = asdict(self)
        del values["labels"]
        return {**values, "times_faster": self.times_faster}


def compare(
    method: Method,
    image: Array,
    options: Mapping[str, Any],
    *,
    spacing: tuple[float, ...] | None = None,
    threads: tuple[int, ...],
    seconds: float,
    peers: bool = True,
) -> Row:
    """Run a method and its peer on an image.

    Parameters
    ----------
    method : Method
    image : ndarray
    options : mapping
        Those of the method.
    spacing : tuple of float, optional
        Voxel size in mm, for methods that measure.
    threads : tuple of int
        Our numbers of threads to time; peers use their own default.
    seconds : float
        About how long to measure each call, at least three times after a warm-up; 0: just once.
    peers : bool
        False leaves the peer out.
    """

    given = method.arguments(options, spacing)

    def ours(n: int) -> Callable[[], Any]:
        def call() -> Any:
            with ms.num_threads(n):
                return method.run(image, **given)

        return call

    calls = {str(n): ours(n) for n in threads}
    for call in calls.values():
        labels, found = call()
    row = Row(method.name, dict(options), found, {}, labels=labels)
    if peers and method.peer is not None and method.peer.installed():
        row.peer = f"{method.peer.library} {method.peer.version()}"
        run = method.peer.run
        try:
            theirs = run(image, **given)
        except Exception as error:  # a rival that cannot do it must not end the table
            row.peer_error = f"{type(error).__name__}: {error}"
        else:
            row.identical = bool(np.array_equal(labels, theirs))
            row.differing = int(np.count_nonzero(labels != theirs))
            row.dice = dice(labels, theirs)
            if labels.dtype != bool and labels.max(initial=0) > 1:
                row.rand_index = rand_index(labels, theirs)
            calls["peer"] = lambda: run(image, **given)
    times = interleaved(calls, seconds)
    row.peer_ms = times.pop("peer", None)
    row.ms = {int(n): t for n, t in times.items()}
    return row


def interleaved(
    calls: Mapping[str, Callable[[], Any]], seconds: float, most: int = 25
) -> dict[str, float]:
    """Median milliseconds of each call, all run in turn so that drift hits them alike.

    Parameters
    ----------
    calls : mapping
        By name. Each has run before: imports are done, thread pools and pages are there.
    seconds : float
        Time to spend per call, about; there are three rounds at least, with 0 just one.
    most : int
        Rounds at most.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    least = 3 if seconds else 1
    end = time.perf_counter() + seconds * len(calls)
    for done in range(1, most + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            result = call()
            times[name].append(time.perf_counter() - start)
            del result  # freed outside the measured time
        if done >= least and time.perf_counter() > end:
            break
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def text_table(rows: list[Row]) -> str:
    """The rows as text in columns, for a terminal."""
    counts = sorted({n for row in rows for n in row.ms})
    head = ["method", *(f"{n} thread{'s' * (n > 1)}, ms" for n in counts)]
    head += ["peer", "peer, ms", "faster", "agreement"]
    lines = [head]
    for row in rows:
        lines.append(
            [
                row.method,
                *(f"{row.ms[n]:.2f}" if n in row.ms else "" for n in counts),
                row.peer or "",
                f"{row.peer_ms:.1f}" if row.peer_ms is not None else "",
                faster(row),
                agreement(row),
            ]
        )
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {i for i, name in enumerate(head) if name.endswith("ms") or name == "faster"}
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(
            cell.rjust(widths[i]) if i in right else cell.ljust(widths[i])
            for i, cell in enumerate(line)
        ).rstrip()
        for line in (lines[0], rule, *lines[1:])
    )


def faster(row: Row) -> str:
    """Ratio of times to two figures, cut and never rounded up: "9.9x"."""
    ratio = row.times_faster
    if ratio is None:
        return ""
    if ratio >= 10:
        return f"{int(ratio)}x"
    return f"{int(ratio * 10) / 10}x"


def agreement(row: Row) -> str:
    """How our result compares with the peer's, in words."""
    if row.peer_error is not None:
        return row.peer_error
    if row.identical is None:
        return ""
    if row.identical:
        return "identical"
    assert row.dice is not None
    if row.dice == 1 and row.rand_index is not None:
        return f"same mask, Rand index of its parts {int(row.rand_index * 1e5) / 1e5:.5f}"
    return f"Dice {int(row.dice * 1e5) / 1e5:.5f}, {row.differing} pixels differ"
