"""What keeps a stream's threads running: CPUs, priority, no garbage collection meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from medseg_fast import _checks
from medseg_fast._cpu import core


def checked_priority(op: str, priority: int | None) -> int | None:
    """A real-time priority as given, or none."""
    return None if priority is None else _checks.integer(op, "priority", priority, 1, 99)


def pin(
    cpus: Collection[int] | None, priority: int | None, threads: Collection[int] | None = None
) -> None:
    """Keep threads, by default the calling one, on some CPUs and raise their priority.

    Raises
    ------
    ValueError
        If this process may not use one of the CPUs.
    PermissionError
        If it may not raise a priority.
    """
    threads = (threading.get_native_id(),) if threads is None else threads
    if cpus is not None:
        allowed = os.sched_getaffinity(os.getpid())
        if not cpus or not set(cpus) <= allowed:
            raise ValueError(
                f"Pipeline: cpus must be some of {sorted(allowed)}, got {sorted(cpus)}"
            )
        for thread in threads:
            os.sched_setaffinity(thread, cpus)
    if priority is not None:
        try:
            for thread in threads:
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(priority))
        except PermissionError:
            raise PermissionError(
                "priority needs the right to real-time scheduling "
                "(CAP_SYS_NICE, or an rtprio limit in /etc/security/limits.conf)"
            ) from None


@contextmanager
def pinned_kernels(cpus: Collection[int] | None, priority: int | None) -> Iterator[None]:
    """The threads of the kernels like the calling one: it waits for them at the end of each loop.

    All of the process share them, so that they get back what they had before.
    """
    if cpus is None and priority is None:
        yield
        return
    everywhere = os.sched_getaffinity(os.getpid())
    pin(cpus, priority, core.worker_ids())
    core.fix_workers(cpus is not None)
    try:
        yield
    finally:
        core.fix_workers(False)
        # A worker that has begun meanwhile is like the thread that began it.
        for worker in core.worker_ids():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(worker, everywhere)
                os.sched_setscheduler(worker, os.SCHED_OTHER, os.sched_param(0))


def start_thread(name: str, job: Callable[[], None], priority: int | None) -> threading.Thread:
    """Start a daemon thread of that priority; threads that it starts have it, too.

    Raises
    ------
    PermissionError
        If this process may not raise it.
    """
    ready, failures = threading.Event(), []

    def run() -> None:
        try:
            pin(None, priority)
        except Exception as error:
            failures.append(error)
            return
        finally:
            ready.set()
        job()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    ready.wait()
    if failures:
        raise failures[0]
    return thread


class _NoCollection:
    """No pauses for garbage: frames leave no cycles behind, and reference counts free the rest.

    The collector is the process's: the last of several streams gives it back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._enabled = False

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._enabled = gc.isenabled()
                gc.collect()
                gc.disable()

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users and self._enabled:
                gc.enable()


no_collection = _NoCollection()
