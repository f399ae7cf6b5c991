"""How many threads a kernel may use: one setting, one override for a block of code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg_fast import _checks
from medseg_fast._cpu import core

_VARIABLE = "MEDSEG_FAST_NUM_THREADS"
_MAX_THREADS = 1024
_CGROUP = Path("/sys/fs/cgroup")


def set_num_threads(n: int) -> None:
    """Set how many threads kernels use, for the whole process.

    Parameters
    ----------
    n : int
        1 to 1024. Results do not depend on it.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer in that range.
    """
    core.set_num_threads(_checks.integer("set_num_threads", "n", n, 1, _MAX_THREADS))


def get_num_threads() -> int:
    """Return how many threads a kernel called from here may use."""
    return int(core.num_threads())


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Limit the threads of kernels called from this thread within a ``with`` block.

    Other Python threads keep their setting.

    Parameters
    ----------
    n : int
        1 to 1024.
    """
    before = core.set_thread_override(_checks.integer("num_threads", "n", n, 1, _MAX_THREADS))
    try:
        yield
    finally:
        core.set_thread_override(before)


def available_cpus() -> int:
    """CPUs this process may use: its affinity, cut by its control group's quota (containers)."""
    if hasattr(os, "sched_getaffinity"):
        cpus = len(os.sched_getaffinity(0))
    else:
        cpus = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cpus, quota)) if quota else cpus


def _cgroup_quota() -> int | None:
    """CPU quota of the control group, rounded up, or None without one."""
    try:
        limit, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (_CGROUP / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in ("max", "-1") or int(period) <= 0:
        return None
    return -(-int(limit) // int(period))


def _from_environment() -> int:
    text = os.environ.get(_VARIABLE)
    if not text:
        return min(available_cpus(), _MAX_THREADS)
    try:
        n = int(text)
    except ValueError:
        n = 0
    if not 1 <= n <= _MAX_THREADS:
        raise ImportError(f"{_VARIABLE}={text!r}: expected an integer from 1 to {_MAX_THREADS}")
    return n


core.set_num_threads(_from_environment())
