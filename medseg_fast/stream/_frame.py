"""A frame on its way through a pipeline, and what is written down about it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io.volume import Volume

STATUSES = ("ok", "late", "dropped", "stale", "error")

# Times are nanoseconds of this clock; a log's first line says what Unix time it showed then.
now = time.perf_counter_ns


@dataclass(slots=True)
class Frame:
    """An image from a source.

    Attributes
    ----------
    array : ndarray
        The pixels. The pipeline reads them until it calls `release`.
    captured : float, optional
        Unix time in seconds at which the sender says it took the image.
    geometry : Volume, optional
        Where the image lies in the patient; its array does not count.
    release : callable, optional
        Called once, without arguments, when the pipeline needs the pixels no longer: a source that
        reuses its buffers may write to this one again.
    """

    array: NDArray[Any]
    captured: float | None = None
    geometry: Volume | None = None
    release: Callable[[], None] | None = None

    @classmethod
    def of(cls, given: Any) -> Frame:
        """A frame from what a source yields: a Frame, a Volume or an array."""
        if isinstance(given, Frame):
            return given
        if isinstance(given, Volume):
            return cls(given.array, geometry=given)
        return cls(np.asarray(given))

    def done(self) -> None:
        """Give the pixels back to the source."""
        if self.release is not None:
            release, self.release = self.release, None
            release()


@dataclass(slots=True)
class Record:
    """What happened to one frame: a line of the log.

    Attributes
    ----------
    id : int
        Frames of the source, counted from 0. A mask that the watch-dog sends again has the id of
        the frame that it was made of.
    status : {"ok", "late", "dropped", "stale", "error"}
        "late": sent after its deadline. "stale": a former mask, sent again.
    captured : float or None
        Unix time in seconds, as the sender says.
    received, start, end, sent : int
        Nanoseconds of `time.perf_counter_ns`; 0 where the frame did not come so far. A mask that
        all sinks failed on was not sent.
    steps : list of float
        Milliseconds in each step.
    reason : str
        Why it was dropped, is stale, or failed: where, and the error's type, not its text.
    """

    id: int
    captured: float | None
    received: int
    start: int = 0
    end: int = 0
    sent: int = 0
    steps: list[float] = field(default_factory=list)
    status: str = "ok"
    reason: str = ""

    @property
    def compute_ms(self) -> float:
        """Milliseconds from the first step's start to the last one's end."""
        return (self.end - self.start) / 1e6

    @property
    def total_ms(self) -> float:
        """Milliseconds from the frame's arrival until its mask was sent."""
        return (self.sent - self.received) / 1e6


@dataclass(slots=True)
class Result:
    """What a sink gets.

    Attributes
    ----------
    mask : ndarray
        The last step's output. Valid during the call alone: the next frame overwrites it.
    frame : Frame or None
        What it was made of; None for a mask that the watch-dog sends again.
    record : Record
        Its times so far; ``record.status`` is "stale" for a mask that was sent before.
    """

    mask: Any
    frame: Frame | None
    record: Record
