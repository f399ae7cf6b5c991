"""The pipeline: order, policies, deadlines, failures, and that every frame is accounted for.

No test asserts how fast anything is: where time matters a step waits for an event or sleeps many
times longer than what it is compared with.
"""

from __future__ import annotations

import gc
import json
import threading
import time
import tracemalloc

import numpy as np
import pytest
from _frames import Endless, frames

from medseg_fast import stream
from medseg_fast.stream import Frame, Paced, Pipeline, ThresholdPlan, TrackedRegion


class Collect:
    """A sink that keeps what it gets."""

    def __init__(self):
        self.results, self.records, self.closed = [], [], 0

    def __call__(self, result):
        assert result.record.status in ("ok", "late", "stale")
        self.records.append(result.record)
        self.results.append((result.record.id, result.record.status, np.array(result.mask)))

    def close(self):
        self.closed += 1

    @property
    def ids(self):
        return [number for number, _, _ in self.results]


class Gate:
    """A step that waits until it is let go."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

    def __call__(self, image):
        self.entered.set()
        assert self.open.wait(30)
        return image


def total(summary):
    return sum(summary.counts.values()) - summary.counts["stale"]


@pytest.mark.parametrize("policy", ["block", "all"])
def test_every_frame_in_order(policy):
    sink = Collect()
    summary = Pipeline(frames(50), lambda a: a * 2, sink, policy=policy).run()
    assert sink.ids == list(range(50))
    assert [int(mask[0, 0]) for _, _, mask in sink.results] == [2 * i for i in range(50)]
    assert (summary.received, summary.sent, summary.counts["ok"]) == (50, 50, 50)
    assert sink.closed == 1


def test_steps_follow_one_another():
    sink = Collect()
    steps = [ThresholdPlan((6, 8), np.uint8, 3), lambda mask: ~mask]
    summary = Pipeline(frames(5), steps, sink, policy="all").run()
    assert [bool(mask.all()) for _, _, mask in sink.results] == [True, True, True, False, False]
    assert summary.steps == ("ThresholdPlan", "<lambda>")
    assert summary.percentiles("ThresholdPlan")["max"] <= summary.percentiles("total")["max"]


def test_latest_keeps_the_newest_and_counts_the_others():
    gate, sink = Gate(), Collect()

    def source():
        yield frames(1)[0]
        assert gate.entered.wait(30)  # frame 0 is being worked on; the others come meanwhile
        yield from frames(10)[1:]
        gate.open.set()

    summary = Pipeline(source(), gate, sink, policy="latest").run()
    assert sink.ids == [0, 9]
    assert summary.counts["dropped"] == 8
    assert summary.reasons == {"a newer frame came": 8}
    assert total(summary) == summary.received == 10


def test_block_makes_the_source_wait():
    gate, given = Gate(), []

    def source():
        for number, frame in enumerate(frames(20)):
            given.append(number)
            yield frame

    pipeline = Pipeline(source(), gate, policy="block", capacity=3).start()
    assert gate.entered.wait(30)
    time.sleep(0.1)
    assert len(given) == 5  # one at work, three waiting, one in the source's hand
    gate.open.set()
    assert pipeline.wait(30)
    assert pipeline.stop().sent == 20


def test_old_frames_are_dropped_before_work():
    gate, sink = Gate(), Collect()

    def source():
        yield frames(1)[0]
        assert gate.entered.wait(30)
        yield frames(2)[1]
        time.sleep(0.3)
        gate.open.set()

    summary = Pipeline(source(), gate, sink, policy="block", max_age_ms=100).run()
    assert sink.ids == [0]
    assert summary.reasons == {"waited too long": 1}


@pytest.mark.parametrize("late", ["send", "drop"])
def test_deadline(late):
    def slow(image):
        time.sleep(0.1 if image[0, 0] == 1 else 0)
        return image

    sink = Collect()
    options = {"deadline_ms": 50, "late": late, "policy": "all", "capacity": 1}
    summary = Pipeline(Paced(frames(3), 5), slow, sink, **options).run()
    if late == "send":
        assert sink.ids == [0, 1, 2]
        assert sink.results[1][1] == "late"
        assert summary.counts["late"] >= 1
        assert summary.misses == summary.counts["late"]
    else:
        assert 1 not in sink.ids
        assert summary.reasons["ready after the deadline"] >= 1


def test_a_step_that_fails_does_not_stop_the_stream(caplog):
    def step(image):
        if image[0, 0] == 2:
            raise ZeroDivisionError("no")
        return image

    sink = Collect()
    summary = Pipeline(frames(5), step, sink, policy="all").run()
    assert sink.ids == [0, 1, 3, 4]
    assert summary.counts["error"] == summary.misses == 1
    assert summary.reasons == {"step: ZeroDivisionError": 1}
    assert "frame 2: step: ZeroDivisionError: no" in caplog.text


def test_a_sink_that_fails_does_not_stop_the_others(caplog):
    def bad(result):
        if result.record.id == 1:
            raise OSError("disk full")

    sink = Collect()
    sink.__call__ = None
    seen = []
    summary = Pipeline(frames(3), lambda a: a, [bad, lambda r: seen.append(r.record.id)]).run()
    assert total(summary) == 3
    summary = Pipeline(
        frames(3), lambda a: a, [bad, lambda r: seen.append(r.record.id)], policy="all"
    ).run()
    assert seen[-3:] == [0, 1, 2]
    assert summary.reasons == {"bad: OSError": 1}
    assert "frame 1: bad: OSError: disk full" in caplog.text


def test_a_source_that_fails_is_raised_after_what_it_gave():
    def source():
        yield from frames(3)
        raise ConnectionError("gone")

    sink = Collect()
    pipeline = Pipeline(source(), lambda a: a, sink, policy="all")
    with pytest.raises(ConnectionError, match="gone"):
        pipeline.run()
    assert sink.ids == [0, 1, 2]
    assert sink.closed == 1


def test_watchdog_sends_the_last_mask_again_and_says_so():
    gate, sink = Gate(), Collect()

    def step(image):
        return gate(image) if image[0, 0] == 1 else image + 7

    pipeline = Pipeline(frames(2), step, sink, policy="all", watchdog_ms=20).start()
    deadline = time.monotonic() + 30
    while len(sink.results) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.open.set()
    assert pipeline.wait(30)
    summary = pipeline.stop()
    assert sink.results[0][:2] == (0, "ok")
    stale = [result for result in sink.results if result[1] == "stale"]
    assert len(stale) >= 2
    for number, _, mask in stale[:2]:
        assert number == 0  # of the frame that it was made of
        assert (mask == 7).all()
    assert sink.results[-1][0] == 1 or sink.results[-2][0] == 1
    assert summary.counts["stale"] == len(stale)
    assert summary.received == 2


def test_no_mask_before_the_first_for_the_watchdog():
    gate, sink = Gate(), Collect()
    pipeline = Pipeline(frames(1), gate, sink, watchdog_ms=5).start()
    assert gate.entered.wait(30)
    time.sleep(0.1)
    assert sink.results == []
    gate.open.set()
    pipeline.wait(30)
    pipeline.stop()


def test_stop_drops_what_waits():
    gate, sink = Gate(), Collect()
    pipeline = Pipeline(frames(9), gate, sink, policy="block", capacity=4).start()
    assert gate.entered.wait(30)
    time.sleep(0.05)
    threading.Timer(0.1, gate.open.set).start()
    summary = pipeline.stop()
    assert sink.ids == [0]
    assert summary.counts["dropped"] == summary.reasons["stopped"] >= 4
    assert total(summary) == summary.received
    assert pipeline.stop() is summary  # again: nothing more happens
    assert sink.closed == 1


def test_stop_closes_a_source_that_waits():
    source = Endless()
    summary = Pipeline(source, lambda a: a).run(seconds=0.2)
    assert source.closed.is_set()
    assert summary.sent == 1


def test_frames_limit_and_context():
    sink = Collect()
    assert Pipeline(iter(frames(9)), lambda a: a, sink, policy="all").run(frames=4).sent == 4
    with Pipeline(frames(3), lambda a: a, sink, policy="all") as pipeline:
        assert pipeline.wait(30)
    assert sink.ids == [0, 1, 2, 3, 0, 1, 2]
    with pytest.raises(RuntimeError, match="was started before"):
        pipeline.start()


def test_buffers_go_back_to_the_source():
    """Each frame's `release` is called once, whatever becomes of it."""
    released = []

    def source():
        for number, array in enumerate(frames(6)):
            yield Frame(array, release=lambda n=number: released.append(n))

    def step(image):
        if image[0, 0] == 2:
            raise ValueError("no")
        return image

    summary = Pipeline(source(), step, policy="latest").run()
    assert sorted(released) == list(range(6))
    assert total(summary) == 6


def test_warm_up_runs_before_the_first_frame():
    class Plan:
        shape, dtype = (3, 4), np.uint16

        def __init__(self):
            self.seen = []

        def __call__(self, image):
            self.seen.append((image.shape, image.dtype, int(image.sum())))
            return image

    plan = Plan()
    Pipeline([np.ones((3, 4), np.uint16)], plan, policy="all", warm_up=2).run()
    assert plan.seen == [((3, 4), np.uint16, 0)] * 2 + [((3, 4), np.uint16, 12)]
    broken = ThresholdPlan((3, 4), np.uint8, 1)
    with pytest.raises(ValueError, match="must have shape"):
        Pipeline([], [ThresholdPlan((3, 5), np.uint8, 1), broken]).run()


def test_a_step_need_not_take_the_empty_image_of_the_warm_up(caplog):
    """Only a plan, which takes all images of its shape, must."""

    def first_row(mask):
        return mask.nonzero()[0].min()

    found = []
    steps = [ThresholdPlan((6, 8), np.uint8, 3), first_row]
    given = np.zeros((6, 8), np.uint8)
    given[4:] = 9
    Pipeline([given], steps, lambda r: found.append(r.mask), policy="all").run()
    assert found == [4]
    assert caplog.text.count("warm-up failed: first_row: ValueError") == 1


def test_log_and_summary_agree(tmp_path):
    path = tmp_path / "run.jsonl"

    def step(image):
        if image[0, 0] == 1:
            raise ValueError("bad\nframe")
        return image

    pipeline = Pipeline(frames(4), step, policy="all", deadline_ms=1e6, log=path)
    summary = pipeline.run()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["start", *["frame"] * 4, "end"]
    assert lines[-1]["summary"] == summary.as_dict()
    first = lines[0]
    assert first["settings"]["policy"] == "all"
    assert first["medseg_fast"]["version"]
    for line in lines[1:-1]:
        assert line["parameters"] == first["parameters"]
        assert line["kernels"] == first["kernels"]
        assert line["received"] <= line["start"] <= line["end"]
    assert lines[2]["status"] == "error"
    assert lines[2]["reason"] == "step: ValueError"
    start, records = stream.read_log(path)
    assert stream.summarise(start, records).as_dict() == summary.as_dict()
    with pytest.raises(FileExistsError):
        Pipeline(frames(1), step, log=path)
    # A crash cuts the last line: what came before counts. Damage elsewhere is an error.
    text = path.read_text()
    path.write_text(text[: text.rindex('"type": "end"') - 30])
    assert len(stream.read_log(path)[1]) in (3, 4)
    path.write_text(text.replace('{"type": "frame"', "{frame", 1))
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        stream.read_log(path)
    for wrong in ("", "[]\n", '{"type": "start", "format": 99}\n'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=r"not the log|log format 99"):
            stream.read_log(path)


def test_settings_change_the_hash(tmp_path):
    hashes = set()
    for number, level in enumerate((10, 10, 11)):
        path = tmp_path / f"{number}.jsonl"
        plan = ThresholdPlan((6, 8), np.uint8, level)
        Pipeline(frames(1), plan, policy="all", log=path).run()
        hashes.add(json.loads(path.read_text().splitlines()[0])["parameters"])
    assert len(hashes) == 2


def test_percentiles_and_worst():
    summary = stream.Summary(("a",), 5.0)
    for i in range(1, 1001):
        end = i * 10**6
        summary.add(stream.Record(i, None, 0, 0, end, end, [float(i)], "ok" if i < 6 else "late"))
    expected = {"p50": 501.0, "p95": 951.0, "p99": 991.0, "p99.9": 1000.0, "max": 1000.0}
    assert summary.percentiles("total") == pytest.approx(expected, rel=1e-3)
    assert summary.percentiles("a")["max"] == 1000.0
    assert [w["id"] for w in summary.worst()] == [1000, 999, 998, 997, 996]
    assert summary.misses == 995
    assert summary.fps == pytest.approx(1000)
    assert "deadline 5 ms missed 995 times (99.50 %)" in str(summary)
    assert stream.Summary().percentiles("total") == {}
    assert "0 frames received, 0 masks sent (none)" in str(stream.Summary())
    with pytest.raises(ValueError, match="no times of 'b'"):
        summary.percentiles("b")


def test_reasons_are_bounded():
    """An error's text may tell of each frame something else, at any length."""
    summary = stream.Summary()
    for i in range(1000):
        reason = f"{i}: {'x' * 10**4}" if i % 10 else "the same"
        summary.add(stream.Record(i, None, 0, 0, 0, 0, [], "error", reason))
    assert len(summary.reasons) == 65
    assert max(map(len, summary.reasons)) == 200
    assert summary.reasons["the same"] == 100
    assert sum(summary.reasons.values()) == summary.counts["error"] == 1000


def test_no_memory_per_frame():
    """What our code holds does not grow with the frames, not even by a number each."""
    plan = ThresholdPlan((8, 8), np.uint8, 100, largest=True)
    image = np.full((8, 8), 200, np.uint8)
    ours = [tracemalloc.Filter(True, "*/medseg_fast/*")]  # the process may have other threads
    held = []

    def source():
        for number in range(21_000):
            if number in (1000, 20_999):
                while pipeline.summary.received < number:  # what waits, and its parts, differ
                    time.sleep(0.001)
                gc.collect()  # empties the interpreter's lists of freed objects, too
                held.append(tracemalloc.take_snapshot().filter_traces(ours))
            yield image

    pipeline = Pipeline(source(), plan, lambda r: None, policy="all")
    tracemalloc.start(1)
    pipeline.run()
    tracemalloc.stop()
    few, many = held
    lines = many.compare_to(few, "lineno")
    grown = sum(line.size_diff for line in lines)
    assert grown < 4000, [str(line) for line in lines[:5]]  # bytes, for 20 000 frames


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"policy": "newest"}, ValueError, "policy must be latest, block or all, got 'newest'"),
        ({"late": "keep"}, ValueError, "late must be send or drop"),
        ({"deadline_ms": 0}, ValueError, "deadline_ms must be positive, got 0"),
        ({"deadline_ms": float("nan")}, ValueError, "deadline_ms"),
        ({"max_age_ms": -1}, ValueError, "max_age_ms must be positive"),
        ({"watchdog_ms": "1"}, TypeError, "watchdog_ms"),
        ({"threads": 0}, ValueError, "threads must be"),
        ({"priority": 100}, ValueError, "priority must be"),
        ({"capacity": 0, "policy": "all"}, ValueError, "capacity must be"),
        ({"warm_up": -1}, ValueError, "warm_up must be"),
        ({"cpus": 0}, TypeError, "cpus must be a collection of integers, got 0"),
        ({"cpus": ["0"]}, TypeError, "cpus must be an integer, got '0'"),
        ({"sinks": None}, TypeError, "sinks must be callables, got NoneType"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Pipeline([], lambda a: a, **options)


def test_bad_steps_and_cpus():
    with pytest.raises(ValueError, match="at least one callable"):
        Pipeline([], [])
    with pytest.raises(TypeError, match="steps must be callables, got int"):
        Pipeline([], [3])
    with pytest.raises(TypeError, match="steps must be callables, got NoneType"):
        Pipeline([], None)
    with pytest.raises(TypeError, match="sinks must be callables, got str"):
        Pipeline([], lambda a: a, ["file.png"])
    with pytest.raises(ValueError, match="cpus must be some of"):
        Pipeline([], lambda a: a, cpus=[10**6]).run()


def test_twice_as_fast_as_the_steps():
    """Every mask sent was ready before its deadline; every frame is sent, or dropped once."""
    given, deadline = 60, 100.0

    def step(image):
        time.sleep(0.02)
        return image

    sent = Collect()
    pipeline = Pipeline(
        Paced(frames(given), fps=100), step, sent, deadline_ms=deadline, late="drop", warm_up=0
    )
    summary = pipeline.run()
    ids = [record.id for record in sent.records]
    assert ids == sorted(set(ids))
    assert all((r.end - r.received) / 1e6 <= deadline for r in sent.records)
    assert summary.received == given
    assert summary.sent == len(ids)
    assert summary.counts["dropped"] == given - len(ids) > 0
    assert sum(summary.reasons.values()) == summary.counts["dropped"]


def test_regions_start_with_the_first_frame():
    """Not with the empty image that steps are warmed with."""
    image = np.zeros((20, 30), np.uint8)
    image[5:10, 5:10] = 80
    follow = TrackedRegion(image.shape, image.dtype, (1, 1), 0, 50)
    sent = Collect()
    Pipeline([image], follow, sent, policy="all").run()
    np.testing.assert_array_equal(sent.results[0][2], image == 0)
