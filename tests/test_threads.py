"""Threads, processes and Ctrl-C around the kernels."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from _interrupt import DELAY, MOST
from conftest import random_image
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast import _threads
from medseg_fast._cpu import core


def run_python(script, timeout=60, **environment):
    """Run a script in a fresh interpreter; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_setting_and_override():
    before = ms.get_num_threads()
    try:
        ms.set_num_threads(3)
        assert ms.get_num_threads() == 3
        with ms.num_threads(2):
            assert ms.get_num_threads() == 2
            with ms.num_threads(5):
                assert ms.get_num_threads() == 5
            with ThreadPoolExecutor(1) as other:  # an override is the thread's own
                assert other.submit(ms.get_num_threads).result() == 3
            assert ms.get_num_threads() == 2
        with pytest.raises(KeyError), ms.num_threads(2):
            raise KeyError
        assert ms.get_num_threads() == 3
    finally:
        ms.set_num_threads(before)


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1025, ValueError), (2.0, TypeError), (True, TypeError)],
)
def test_bad_number_of_threads(n, error):
    with pytest.raises(error, match="set_num_threads: n must be"):
        ms.set_num_threads(n)
    with pytest.raises(error, match="num_threads: n must be"), ms.num_threads(n):
        pass


def test_environment_variable():
    script = "import medseg_fast as ms; print(ms.get_num_threads())"
    assert run_python(script, MEDSEG_FAST_NUM_THREADS="7") == "7"
    for bad in ("0", "many", "2000", "-3"):
        with pytest.raises(AssertionError, match=f"MEDSEG_FAST_NUM_THREADS='{bad}'"):
            run_python(script, MEDSEG_FAST_NUM_THREADS=bad)


def test_default_is_the_affinity():
    script = """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import medseg_fast as ms
        print(ms.get_num_threads())
    """
    assert run_python(script, MEDSEG_FAST_NUM_THREADS="") == "1"


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_workers_keep_off_the_callers_cpu():
    """But where they were fixed, or the caller may use no other."""
    script = """
        import os
        import numpy as np
        import medseg_fast as ms
        from medseg_fast._cpu import core

        everywhere = os.sched_getaffinity(0)
        one, other = sorted(everywhere)[:2]
        image = np.zeros((4000, 1000), np.float32)

        def places(cpu, wanted=None):
            for _ in range(100 if wanted else 1):  # the system may move the caller meanwhile
                os.sched_setaffinity(0, {cpu})  # moves the caller
                os.sched_setaffinity(0, everywhere)
                with ms.num_threads(2):
                    ms.gaussian(image)  # the first call starts the worker, the second places it
                    ms.gaussian(image)
                found = [os.sched_getaffinity(worker) for worker in core.worker_ids()]
                if found == [wanted]:
                    break
            return found

        os.sched_setaffinity(0, everywhere)
        with ms.num_threads(2):
            ms.gaussian(image)
        assert places(one, everywhere - {one}) == [everywhere - {one}]
        assert places(other, everywhere - {other}) == [everywhere - {other}]
        core.fix_workers(True)
        for worker in core.worker_ids():
            os.sched_setaffinity(worker, {one})
        assert places(one) == [{one}]
        core.fix_workers(False)
        assert places(one, {other}) == [{other}]
    """
    run_python(script)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "damaged"}, None),
        ({}, None),
    ],
)
def test_control_group_quota(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(_threads, "_CGROUP", tmp_path)
    assert _threads._cgroup_quota() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    assert _threads.available_cpus() == (expected or 64)


def test_many_python_threads_at_once(rng):
    images = [random_image(rng, (40, 300, 100), np.int16) for _ in range(4)]
    wait = threading.Barrier(8)

    def work(i):
        wait.wait()
        for _ in range(5):
            with ms.num_threads(1 + i % 4):
                assert_array_equal(ms.threshold(images[i % 4], i), images[i % 4] >= i)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_gil_is_released():
    """A thread that counts in Python gets on while a kernel runs on every other."""
    counted = 0
    stop = threading.Event()

    def count():
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        before = counted
        core.busy_tasks([0.3])
        assert counted - before > 10
    finally:
        stop.set()
        counter.join()


def test_workers_take_part():
    with ms.num_threads(3):
        assert core.busy_tasks(12 * [0.02]) in (2, 3)  # a busy machine may keep one waiting
    with ms.num_threads(1):
        assert core.busy_tasks(4 * [0.001]) == 1


def test_nested_loops_finish():
    with ms.num_threads(4), ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda _: core.busy_tasks(20 * [0.0005], None, True), range(8)))


@pytest.mark.parametrize("threads", [1, 3])
def test_exception_in_a_task_reaches_the_caller(threads):
    with ms.num_threads(threads):
        for at in range(8):
            with pytest.raises(RuntimeError, match="task failed"):
                core.busy_tasks(8 * [0.002], at)
        assert core.busy_tasks(2 * threads * [0.02]) >= min(threads, 2)


FORK = """
    import os, sys, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # forking a process with threads
    import numpy as np, medseg_fast as ms
    from medseg_fast._cpu import core
    image = np.arange(3_000_000)
    with ms.num_threads(3):
        core.busy_tasks(6 * [0.02])
        child = os.fork()
        joined = core.busy_tasks(6 * [0.02])
        assert joined > 1 if child == 0 else joined > 0
        assert ms.threshold(image, 1_000_000).sum() == 2_000_000
    if child == 0:
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_works_after_fork():
    assert run_python(FORK) == "0"


def test_fork_while_another_thread_is_in_a_kernel():
    script = """
        import threading
        from medseg_fast._cpu import core
        core.set_num_threads(3)
        threading.Thread(target=core.busy_tasks, args=(300 * [0.001],)).start()
    """
    assert run_python(textwrap.dedent(script) + textwrap.dedent(FORK)) == "0"


def _count_above(image):
    return int(ms.threshold(image, 10).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    image = np.arange(1_000_000)
    assert _count_above(image) == 999_990
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_count_above, [image, image[:100]]) == [999_990, 90]


@pytest.mark.parametrize(
    ("threads", "seconds"),
    [
        (1, "[20]"),
        (1, "1000 * [0.05]"),
        (3, "[20, 20, 20]"),
        (3, "1000 * [0.05]"),
        (2, "[0.05, 20]"),  # the caller's own task is done: it waits for a worker's
    ],
    ids=str,
)
def test_interrupt_stops_a_kernel(threads, seconds):
    script = f"""
    from medseg_fast._cpu import core
    core.set_num_threads({threads})
    core.busy_tasks({threads} * 2 * [0.005])  # the pool is warm
    late = delay(lambda: core.busy_tasks({seconds}), 0.3)
    assert core.busy_tasks({threads} * 2 * [0.02]) >= min({threads}, 2)  # still usable
    print(late)
    """
    assert float(run_python(DELAY + script)) < MOST


def test_daemon_thread_in_a_kernel_does_not_crash_the_exit():
    script = """
        import threading, time
        from medseg_fast._cpu import core
        call = dict(target=core.busy_tasks, args=(40 * [0.05],), daemon=True)
        threading.Thread(**call).start()
        time.sleep(0.1)
        print("leaving")
    """
    assert run_python(script) == "leaving"


@pytest.mark.skipif(not hasattr(sys, "_is_gil_enabled"), reason="not a free-threaded interpreter")
def test_import_leaves_the_gil_off():
    script = "import sys; before = sys._is_gil_enabled(); import medseg_fast;"
    assert run_python(script + "print(before == sys._is_gil_enabled())") == "True"
