"""Frames in, masks out, every deadline accounted for."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Literal

import numpy as np

from medseg_fast import _checks
from medseg_fast._threads import get_num_threads, num_threads
from medseg_fast.stream._arguments import callables, integers, name_of, positive, unique_names
from medseg_fast.stream._frame import Frame, Record, Result, now
from medseg_fast.stream._log import Log
from medseg_fast.stream._mailbox import Mailbox
from medseg_fast.stream._summary import Summary
from medseg_fast.stream._thread import checked_priority, no_collection, pin, pinned_kernels

_OP = "Pipeline"
_logger = logging.getLogger("medseg_fast.stream")
POLICIES = ("latest", "block", "all")


class Pipeline:
    """Runs steps on the frames of a source and hands the masks to sinks, in order.

    Parameters
    ----------
    source : iterable
        Yields arrays, `medseg_fast.io.Volume` or `Frame`. It is read by a thread of its own. If it
        has a method `close`, that is called to end a wait for the next frame.
    steps : callable or sequence of callables
        Each takes the former's result, the first one the frame's array. Plans (`ThresholdPlan`,
        `CannyPlan`, `NetworkPlan`, ...) allocate nothing per frame. On a GPU, steps recorded by
        `medseg_fast.capture` take the frames from the host; a last step fetches the mask.
    sinks : callable or sequence of callables, optional
        Called with a `Result` for each mask, in the thread that made it. ``close()`` is called at
        the end where a sink has it.
    policy : {"latest", "block", "all"}, optional
        What happens when frames come faster than they are worked on. "latest": the newest frame
        takes the place of the one that waits, which is dropped. "block": the source waits, frames
        older than `max_age_ms` are dropped. "all": the source waits, and every frame is worked on,
        as files want it.
    deadline_ms : float, optional
        How long after its arrival a mask should be sent; later ones count as misses.
    late : {"send", "drop"}, optional
        What to do with a mask that is ready only after the deadline.
    max_age_ms : float, optional
        A frame that has waited longer is dropped before any work.
    watchdog_ms : float, optional
        When for so long no mask was sent, the last one is sent again, marked as stale.
    threads : int, optional
        That kernels may use; default: the setting of the package.
    cpus : collection of int, optional
        Keep the working thread, and those of the kernels, on these CPUs.
    priority : int, optional
        Real-time priority (SCHED_FIFO, 1 to 99) of all threads of the stream, and of the kernels
        meanwhile; needs the right to it. Where other processes compete for the CPUs, nothing helps
        as much: each time a thread has to wake, it waits for milliseconds otherwise. OpenIGTLink's
        endpoints have a `priority` of their own.
    log : str or path-like, optional
        A new file for the log, JSON lines. When it can't be written any more (the disk is full),
        masks are still made and sent, and `stop` raises why at the end.
    warm_up : int, optional
        Runs of the steps on an empty image before the first frame, where the first step has
        `shape` and `dtype`. A plan that fails then fails the start; another step need not take
        empty images.
    capacity : int, optional
        Frames that may wait under "block" and "all".

    Raises
    ------
    TypeError, ValueError
        For arguments out of range.
    FileExistsError
        If the log exists.

    Notes
    -----
    Two threads: one receives, the other runs steps and sinks; a third one watches with
    `watchdog_ms`. Python's garbage collection rests meanwhile. A step or sink that raises makes its
    frame an "error"; the stream goes on. No frame is lost without a record that says why. Records
    and log name an error's type and where it was raised; its text, which may hold a patient's name,
    goes to the logger ``medseg_fast.stream`` alone.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.stream import Pipeline, ThresholdPlan
    >>> frames = np.zeros((5, 60, 80), np.uint8)
    >>> frames[:, 20:30, 30:50] = 200
    >>> found = []
    >>> step = ThresholdPlan((60, 80), np.uint8, 100)
    >>> summary = Pipeline(frames, step, lambda r: found.append(r.mask.sum()), policy="all").run()
    >>> summary.sent, found[0]
    (5, np.int64(200))
    """

    def __init__(
        self,
        source: Iterable[Any],
        steps: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
        sinks: Callable[[Result], Any] | Sequence[Callable[[Result], Any]] = (),
        *,
        policy: Literal["latest", "block", "all"] = "latest",
        deadline_ms: float | None = None,
        late: Literal["send", "drop"] = "send",
        max_age_ms: float | None = None,
        watchdog_ms: float | None = None,
        threads: int | None = None,
        cpus: Collection[int] | None = None,
        priority: int | None = None,
        log: str | os.PathLike[str] | None = None,
        warm_up: int = 3,
        capacity: int = 4,
    ) -> None:
        self._source = source
        self._steps = callables("steps", steps)
        self._sinks = callables("sinks", sinks)
        if not self._steps:
            raise ValueError(f"{_OP}: steps must be at least one callable, got none")
        if policy not in POLICIES:
            raise ValueError(f"{_OP}: policy must be latest, block or all, got {policy!r}")
        if late not in ("send", "drop"):
            raise ValueError(f"{_OP}: late must be send or drop, got {late!r}")
        self._policy, self._drop_late = policy, late == "drop"
        self._deadline = positive("deadline_ms", deadline_ms)
        self._max_age = positive("max_age_ms", max_age_ms)
        self._watchdog = positive("watchdog_ms", watchdog_ms)
        threads = get_num_threads() if threads is None else threads
        self._threads = _checks.integer(_OP, "threads", threads, 1, 1024)
        self._cpus = integers("cpus", cpus)
        self._priority = checked_priority(_OP, priority)
        self._warm_up = _checks.integer(_OP, "warm_up", warm_up, 0)
        room = 1 if policy == "latest" else _checks.integer(_OP, "capacity", capacity, 1)
        self._mailbox: Mailbox[tuple[Frame, Record]] = Mailbox(room, replace=policy == "latest")
        self._names = unique_names(self._steps)
        self.summary = Summary(self._names, self._deadline)
        self._log: Log | None = None
        if log is not None:  # digests of what steps hold take time
            settings = {
                "steps": self._names,
                "plans": [repr(step) for step in self._steps],
                "policy": policy,
                "deadline_ms": self._deadline,
                "late": late,
                "max_age_ms": self._max_age,
                "watchdog_ms": self._watchdog,
                "threads": self._threads,
                "cpus": self._cpus,
                "priority": self._priority,
                "warm_up": self._warm_up,
                "capacity": room,
                # Names of files and addresses might name a patient.
                "source": type(source).__name__,
                "sinks": [name_of(sink) for sink in self._sinks],
            }
            self._log = Log(log, settings)
        self._account = threading.Lock()  # one record at a time
        self._sending = threading.RLock()  # sinks see one mask at a time
        self._ready = threading.Event()  # the steps are warm
        self._stopping = threading.Event()
        self._worked = threading.Event()  # no frame comes any more
        self._ended = threading.Event()  # and sinks and log are closed
        self._started: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._last: tuple[Any, Record] | None = None  # for the watch-dog
        self._last_sent = 0
        self._kept: Any = None

    def run(self, *, frames: int | None = None, seconds: float | None = None) -> Summary:
        """Run until the source ends, or after so many frames or seconds.

        Ctrl-C ends it in order, too. A step is never interrupted: one that takes seconds, or
        hangs, holds the end up for as long.

        Parameters
        ----------
        frames : int, optional
            Frames to take from the source.
        seconds : float, optional
            How long to run.

        Returns
        -------
        summary : Summary

        Raises
        ------
        Exception
            As `stop`.
        """
        seconds = positive("seconds", seconds)
        jobs = self._jobs(frames)
        try:
            self._launch(jobs)
            self.wait(seconds)
        except KeyboardInterrupt:
            pass  # a second one, while it ends, is raised
        finally:
            summary = self.stop()
        return summary

    def start(self, *, frames: int | None = None) -> Pipeline:
        """Start the threads and return when the steps are warm."""
        self._launch(self._jobs(frames))
        return self

    def _jobs(self, frames: int | None) -> dict[str, Callable[[], None]]:
        """What each thread does."""
        most = None if frames is None else _checks.integer(_OP, "frames", frames, 1)
        if self._started or self._stopping.is_set():
            raise RuntimeError(f"{_OP}: was started before: make a new one for another run")
        watch = {} if self._watchdog is None else {"watch": self._watch}
        return {"work": self._work, **watch, "receive": lambda: self._receive(most)}

    def _launch(self, jobs: Mapping[str, Callable[[], None]]) -> None:
        for name, job in jobs.items():
            thread = threading.Thread(target=job, name=f"medseg_fast-{name}", daemon=True)
            self._started.append(thread)
            thread.start()
            if name == "work":
                self._ready.wait()
                if self._failure is not None:
                    self.stop()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until all frames are done, sinks and log closed; whether that is so."""
        return self._ended.wait(seconds)

    def stop(self) -> Summary:
        """Stop receiving, drop what waits, close sinks and log; returns the summary.

        A sink, a step or the source may call it, too: it returns at once then, and the stream ends
        after the frame that is at work. Everybody else waits for that frame, however long its steps
        and sinks take.

        Raises
        ------
        Exception
            What the source, the start or, after all masks were sent, the log failed with.
        """
        first = self._halt()
        if threading.current_thread() in self._started:
            return self.summary
        if self._started:
            self._ended.wait()
        elif first:
            self._close()
        if self._failure is not None:
            raise self._failure
        return self.summary

    def _halt(self) -> bool:
        """Ask the threads to end; whether nobody did before. The working one drops what waits."""
        if self._stopping.is_set():
            return False
        self._stopping.set()
        if not self._worked.is_set() and self._failure is None:
            _quietly("close", "source", getattr(self._source, "close", None))
        self._mailbox.close()
        return True

    def __enter__(self) -> Pipeline:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # --- the receiving thread

    def _receive(self, most: int | None) -> None:
        try:
            pin(None, self._priority)
            for number, given in enumerate(self._source):
                received = now()
                frame = Frame.of(given)
                captured = None if frame.captured is None else float(frame.captured)
                record = Record(number, captured, received)
                lost = self._mailbox.put((frame, record))
                if lost is not None:
                    ended = lost[1] is record
                    self._dropped(*lost, "stopped" if ended else "a newer frame came")
                    if ended:
                        return
                if number + 1 == most or self._stopping.is_set():
                    return
        except BaseException as error:
            if not self._stopping.is_set():  # closing it may be why it fails
                self._failure = error
                self._event("source failed", type(self._source).__name__, error)
        finally:
            self._mailbox.close()

    # --- the working thread

    def _work(self) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(num_threads(self._threads))
                pin(self._cpus, self._priority)
                self._warm()
                stack.enter_context(pinned_kernels(self._cpus, self._priority))
                stack.enter_context(no_collection)
                self._last_sent = now()
                self._ready.set()
                while (item := self._mailbox.get()) is not None:
                    self._process(*item)
        except BaseException as error:
            self._failure = error
        finally:
            self._worked.set()
            self._ready.set()
            self._close()

    def _close(self) -> None:
        """End what is left when no frame comes any more."""
        self._mailbox.close()
        while (left := self._mailbox.get()) is not None:
            self._dropped(*left, "stopped")
        for thread in self._started:
            if thread is not threading.current_thread() and thread.is_alive():
                # A source that sits in a wait which nothing ends is left behind, as a daemon.
                thread.join(1.0 if thread.name.endswith("receive") else None)
        for sink in self._sinks:
            _quietly("close", name_of(sink), getattr(sink, "close", None))
        with self._account:
            if self._log is not None:
                self._log.end(self.summary)
                self._failure = self._failure or self._log.failure
            self._ended.set()

    def _warm(self) -> None:
        shape, dtype = (getattr(self._steps[0], name, None) for name in ("shape", "dtype"))
        if shape is None or dtype is None:
            return
        for _ in range(self._warm_up):
            if not self._warmed(np.zeros(shape, dtype)):
                break
        for step in self._steps:  # what follows a region has seen no frame yet
            restart = getattr(step, "restart", None)
            if callable(restart):
                restart()

    def _warmed(self, value: Any) -> bool:
        """Run the steps on an image that no source gave; whether all of them could.

        A plan takes every image of its shape, so that it fails for a wrong one. Of other steps it
        is not known: their frames will tell.
        """
        for name, step in zip(self._names, self._steps, strict=True):
            try:
                value = step(value)
            except Exception as error:
                if hasattr(step, "shape"):
                    raise
                self._event("warm-up failed", name, error)
                return False
        return True

    def _process(self, frame: Frame, record: Record) -> None:
        record.start = now()
        if self._stopping.is_set():
            return self._dropped(frame, record, "stopped")
        waited = (record.start - record.received) / 1e6
        if self._max_age is not None and waited > self._max_age and self._policy != "all":
            return self._dropped(frame, record, "waited too long")
        value: Any = frame.array
        try:
            before = record.start
            for name, step in zip(self._names, self._steps, strict=True):  # noqa: B007
                value = step(value)
                after = now()
                record.steps.append((after - before) / 1e6)
                before = after
        except BaseException as error:
            record.end = now()
            record.status, record.reason = "error", _failed(f"frame {record.id}", name, error)
            return self._accounted(record, frame)
        record.end = before
        if self._overdue(before, record):
            if self._drop_late:
                return self._dropped(frame, record, "ready after the deadline")
            record.status = "late"
        self._send(Result(value, frame, record))
        if record.status == "ok" and self._overdue(record.sent, record):
            record.status = "late"
        return self._accounted(record, frame)

    def _overdue(self, when: int, record: Record) -> bool:
        return self._deadline is not None and when - record.received > self._deadline * 1e6

    def _send(self, result: Result) -> None:
        record = result.record
        failures = []
        with self._sending:
            for sink in self._sinks:
                try:
                    sink(result)
                except BaseException as error:
                    failures.append(_failed(f"frame {record.id}", name_of(sink), error))
            self._last_sent = now()
            if len(failures) < max(len(self._sinks), 1):  # some sink has it, or none is there
                record.sent = self._last_sent
                if self._watchdog is not None and result.frame is not None:
                    self._keep(result)
        if failures:
            record.status = "stale" if record.status == "stale" else "error"
            record.reason = "; ".join(filter(None, (record.reason, *failures)))

    def _keep(self, result: Result) -> None:
        """A copy of the mask, as the next frame's steps write over it."""
        mask = result.mask
        if isinstance(mask, np.ndarray):
            kept = self._kept
            if kept is None or kept.shape != mask.shape or kept.dtype != mask.dtype:
                kept = self._kept = np.empty_like(mask)
            np.copyto(kept, mask)
            mask = kept
        self._last = mask, result.record

    # --- the watching thread

    def _watch(self) -> None:
        assert self._watchdog is not None
        pin(None, self._priority)
        pause = self._watchdog / 1e3
        while not self._worked.wait(max(pause - (now() - self._last_sent) / 1e9, pause / 20)):
            with self._sending:
                silent = (now() - self._last_sent) / 1e6
                if silent < self._watchdog or self._last is None:
                    continue
                mask, made = self._last
                again = Record(made.id, made.captured, made.received, made.start, made.end)
                again.status, again.reason = "stale", f"no mask for {self._watchdog:g} ms"
                self._send(Result(mask, None, again))
            self._accounted(again)

    # --- accounting

    def _dropped(self, frame: Frame, record: Record, reason: str) -> None:
        record.status, record.reason = "dropped", reason
        self._accounted(record, frame)

    def _accounted(self, record: Record, frame: Frame | None = None) -> None:
        if frame is not None:
            _quietly(f"frame {record.id}", "release", frame.done)
        with self._account:
            if self._ended.is_set():
                return  # what a source gives that was left behind
            self.summary.add(record)
            if self._log is not None:
                self._log.frame(record)

    def _event(self, name: str, where: str, error: BaseException) -> None:
        text = _failed(name, where, error)
        with self._account:
            if self._log is not None:
                self._log.event(name, text)


def _failed(what: str, where: str, error: BaseException) -> str:
    """What records and the log say of an error: not its text, which may name a patient."""
    reason = f"{where}: {type(error).__name__}"
    _logger.warning("%s: %s: %s", what, reason, error)
    return reason


def _quietly(what: str, where: str, end: Callable[[], Any] | None) -> None:
    """Close a source or a sink, give pixels back: failing, it must not hide what came before."""
    if end is not None:
        try:
            end()
        except BaseException as error:
            _failed(what, where, error)
