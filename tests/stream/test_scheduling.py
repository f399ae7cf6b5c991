"""CPUs and priorities of a stream's threads."""

from __future__ import annotations

import gc
import os
import threading

import pytest
from _frames import Endless, frames

import medseg_fast as ms
from medseg_fast._cpu import core
from medseg_fast.stream import Pipeline
from medseg_fast.stream.igtl import Client, Server, Status


def test_pinned():
    cpu = min(os.sched_getaffinity(0))
    seen = []

    def step(image):
        seen.append(os.sched_getaffinity(threading.get_native_id()))
        return image

    Pipeline(frames(1), step, cpus=[cpu], policy="all").run()
    assert seen == [{cpu}]


def may_be_real_time():
    """Whether this process has the right to, which containers often lack."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


@pytest.mark.skipif(not may_be_real_time(), reason="no right to real-time priorities")
def test_priority_of_all_threads():
    """Those of the stream and of the kernels; the others, and later ones, have none."""
    seen = {}

    def scheduled(thread):
        return os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority

    def source():
        seen["source"] = scheduled(threading.get_native_id())
        yield from frames(2)

    def step(image):
        core.busy_tasks([0.01] * 4, None, None)
        seen["step"] = scheduled(threading.get_native_id())
        seen["kernels"] = {scheduled(worker) for worker in core.worker_ids()}
        return image

    with ms.num_threads(2):
        core.busy_tasks([0.01] * 4, None, None)  # so that there are workers before
    workers = core.worker_ids()
    assert len(workers)
    with Server(0, priority=4) as server, Client(port=server.port, priority=5) as client:
        assert client.wait_connected(5)
        client.send(Status())
        assert server.receive(5)  # all of its threads have begun
        named = {t.name: scheduled(t.native_id) for t in threading.enumerate() if "igtl" in t.name}
        Pipeline(source(), step, threads=2, priority=3, policy="all").run()
    real_time = (os.SCHED_FIFO, 3)
    assert seen == {"source": real_time, "step": real_time, "kernels": {real_time}}
    expected = {"igtl server": 4, "igtl receive": 4, "igtl send": 4, "igtl client": 5}
    assert named == {name: (os.SCHED_FIFO, level) for name, level in expected.items()}
    assert scheduled(0) == (os.SCHED_OTHER, 0)
    assert {scheduled(worker) for worker in core.worker_ids()} == {(os.SCHED_OTHER, 0)}


def test_no_right_to_a_priority(monkeypatch):
    def refuse(*arguments):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with pytest.raises(PermissionError, match="CAP_SYS_NICE"):
        Pipeline(frames(1), lambda a: a, priority=3).run()
    with pytest.raises(PermissionError, match="CAP_SYS_NICE"):
        Server(0, priority=3)
    with pytest.raises(ValueError, match="priority must be"):
        Server(0, priority=100)


def test_no_garbage_collection_while_any_stream_runs():
    assert gc.isenabled()
    one, other = (Pipeline(Endless(), lambda a: a).start() for _ in range(2))
    assert not gc.isenabled()
    one.stop()
    assert not gc.isenabled()
    other.stop()
    assert gc.isenabled()


def test_threads_of_kernels():
    seen = []

    def step(image):
        seen.append(ms.get_num_threads())
        return image

    before = ms.get_num_threads()
    Pipeline(frames(1), step, threads=3, policy="all").run()
    assert seen == [3]
    assert ms.get_num_threads() == before
