"""What keeps the working thread to itself: CPUs, priority, no garbage collection meanwhile."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager


def pin(cpus: Collection[int] | None, priority: int | None) -> None:
    """Keep the calling thread on some CPUs and raise its priority.

    Raises
    ------
    ValueError
        If this process may not use one of the CPUs.
    PermissionError
        If it may not raise its priority.
    """
    if cpus is not None:
        allowed = os.sched_getaffinity(0)
        if not cpus or not set(cpus) <= allowed:
            raise ValueError(
                f"Pipeline: cpus must be some of {sorted(allowed)}, got {sorted(cpus)}"
            )
        os.sched_setaffinity(threading.get_native_id(), cpus)
    if priority is not None:
        try:
            parameters = os.sched_param(priority)
            os.sched_setscheduler(threading.get_native_id(), os.SCHED_FIFO, parameters)
        except PermissionError:
            raise PermissionError(
                "Pipeline: priority needs the right to real-time scheduling "
                "(CAP_SYS_NICE, or an rtprio limit in /etc/security/limits.conf)"
            ) from None


@contextmanager
def no_collection() -> Iterator[None]:
    """No pauses for garbage: frames leave no cycles behind, and reference counts free the rest."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
