"""However a stream ends, its sinks are closed, its log has a last line, and who waits knows."""

from __future__ import annotations

import errno
import io
import json
import threading
import time

import pytest
from _frames import Endless, frames

from medseg_fast.stream import Pipeline


def same(image):
    return image


class Sink:
    """Keeps the numbers of its frames; does something at one of them."""

    def __init__(self, at=None, act=None):
        self.ids, self.closed = [], 0
        self.at, self.act = at, act

    def __call__(self, result):
        self.ids.append(result.record.id)
        if result.record.id == self.at:
            self.act()

    def close(self):
        self.closed += 1


class FullDisk(io.StringIO):
    """A file with room for five lines."""

    room = 5

    def write(self, text):
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def kinds(log):
    return [json.loads(line)["type"] for line in log.read_text().splitlines()]


def test_a_log_that_cannot_be_written_stops_no_mask(tmp_path, caplog):
    sink = Sink()
    pipeline = Pipeline(frames(20), same, sink, policy="all", log=tmp_path / "log")
    disk = pipeline._log._file = FullDisk()
    with pytest.raises(OSError, match="No space left"):
        pipeline.run()
    assert sink.ids == list(range(20))
    assert sink.closed == 1
    assert pipeline.summary.sent == 20
    assert caplog.text.count("the log ends here: [Errno 28] No space left on device") == 1
    assert disk.closed


def test_a_log_that_cannot_be_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(FullDisk, "room", 0)
    monkeypatch.setattr("builtins.open", lambda *a, **k: FullDisk())
    with pytest.raises(OSError, match="No space left"):
        Pipeline([], same, log=tmp_path / "log")


@pytest.mark.parametrize("caller", ["sink", "step", "source"])
def test_stop_from_within(tmp_path, caller):
    """It asks for the end; who waits outside gets a stream that is closed."""
    log = tmp_path / "log"

    def stop():
        assert pipeline.stop() is pipeline.summary

    def step(image):
        if caller == "step" and image[0, 0] == 2:
            stop()
        return image

    def source():
        for number, frame in enumerate(frames(20)):
            if caller == "source" and number == 2:
                stop()
            yield frame

    sink = Sink(2 if caller == "sink" else None, stop)
    pipeline = Pipeline(source(), step, sink, policy="all", capacity=1, log=log)
    summary = pipeline.run()
    assert max(sink.ids) <= 2
    assert sink.closed == 1
    assert kinds(log) == ["start", *["frame"] * summary.received, "end"]
    assert summary.received == summary.sent + summary.reasons["stopped"]


def test_run_waits_for_the_end_that_another_thread_asked_for():
    closing, let, begun = (threading.Event() for _ in range(3))
    seen = []

    class Slow(Sink):
        def close(self):
            closing.set()
            assert let.wait(30)
            super().close()

    sink = Slow(0, begun.set)
    pipeline = Pipeline(Endless(), same, sink)

    def run():
        pipeline.run()
        seen.append(sink.closed)

    threads = [threading.Thread(target=run), threading.Thread(target=pipeline.stop)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    assert closing.wait(30)
    threads[0].join(0.1)
    let.set()
    for thread in threads:
        thread.join(30)
    assert seen == [1]


def test_control_c_ends_a_run_in_order():
    begun = threading.Event()
    sink = Sink(0, begun.set)
    pipeline = Pipeline(Endless(), same, sink)

    def interrupted(seconds):
        assert begun.wait(30)
        raise KeyboardInterrupt

    pipeline.wait = interrupted
    summary = pipeline.run()
    assert summary.sent == sink.closed == 1


def test_stopped_before_the_start():
    sink = Sink()
    pipeline = Pipeline(frames(3), same, sink)
    pipeline.stop()
    assert pipeline.stop().received == 0
    assert sink.closed == 1
    with pytest.raises(RuntimeError, match="was started before"):
        pipeline.start()


def test_what_comes_after_the_end_does_not_count(tmp_path):
    """A source that nothing ends is left behind; its next frame finds the log closed."""
    waits, log = threading.Event(), tmp_path / "log"

    def source():
        yield frames(1)[0]
        assert waits.wait(30)
        yield frames(1)[0]

    pipeline = Pipeline(source(), same, log=log).start()
    receiver = pipeline._started[-1]
    while pipeline.summary.received < 1:
        time.sleep(0.001)
    summary = pipeline.stop()
    waits.set()
    receiver.join(30)
    assert summary.received == 1
    assert kinds(log) == ["start", "frame", "end"]


@pytest.mark.parametrize(
    ("limits", "error", "message"),
    [
        ({"frames": 0}, ValueError, "frames must be at least 1, got 0"),
        ({"frames": -1}, ValueError, "frames must be"),
        ({"frames": 2.5}, TypeError, "frames must be an integer, got 2.5"),
        ({"seconds": float("nan")}, ValueError, "seconds must be"),
        ({"seconds": -1}, ValueError, "seconds must be positive, got -1"),
        ({"seconds": "1"}, TypeError, "seconds must be a number"),
    ],
)
def test_bad_limits(limits, error, message):
    """Refused before anything starts."""
    pipeline = Pipeline(frames(3), same, policy="all")
    with pytest.raises(error, match=message):
        pipeline.run(**limits)
    assert pipeline.run(frames=2).sent == 2
