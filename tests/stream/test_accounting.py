"""Each frame has one record, true in status, reason and counts, whatever fails."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from _frames import frames

from medseg_fast.stream import Frame, Pipeline, read_log, summarise


def same(image):
    return image


def bad(result):
    if result.record.id == 1:
        raise OSError("disk full")


def worse(result):
    if result.record.id == 1:
        raise KeyError("absent")


def logged(log):
    """The summary of what the log says."""
    return summarise(*read_log(log)).as_dict()


def test_a_sink_that_fails_on_a_stale_mask(tmp_path):
    """The repeat is no frame, no mask sent and no miss."""
    repeats, log = [], tmp_path / "log"

    def sink(result):
        if result.frame is None:
            repeats.append(result.record)
        result.frame.array.sum()

    def source():
        yield from frames(4)
        end = time.monotonic() + 30
        while len(repeats) < 3 and time.monotonic() < end:
            time.sleep(0.005)

    summary = Pipeline(source(), same, sink, policy="all", watchdog_ms=20, log=log).run()
    assert (summary.received, summary.sent, summary.misses) == (4, 4, 0)
    assert summary.counts["stale"] == len(repeats) >= 3
    assert summary.reasons == {"no mask for 20 ms; sink: AttributeError": len(repeats)}
    assert logged(log) == summary.as_dict()


def test_masks_dropped_for_being_late_are_misses(tmp_path):
    def slow(image):
        time.sleep(0.02)
        return image

    log = tmp_path / "log"
    options = {"deadline_ms": 5, "late": "drop", "policy": "all", "log": log}
    summary = Pipeline(frames(4), slow, **options).run()
    assert summary.counts["dropped"] == summary.misses == 4
    assert "deadline 5 ms missed 4 times (100.00 %)" in str(summary)
    assert logged(log) == summary.as_dict()


def test_frames_dropped_before_work_are_no_misses():
    pipeline = Pipeline(frames(4), lambda a: pipeline.stop(), deadline_ms=1e6, policy="block")
    summary = pipeline.run()
    assert (summary.counts["ok"], summary.misses) == (1, 0)
    assert summary.reasons["stopped"] == summary.received - 1


@pytest.mark.parametrize("taken", [False, True])
def test_a_mask_that_no_sink_took_was_not_sent(tmp_path, taken):
    sinks, log = [bad, worse, *[same] * taken], tmp_path / "log"
    summary = Pipeline(frames(3), same, sinks, policy="all", log=log).run()
    assert summary.sent == 2 + taken
    assert summary.counts["error"] == summary.misses == 1
    assert summary.reasons == {"bad: OSError; worse: KeyError": 1}  # of both
    assert bool(read_log(log)[1][1].sent) == taken
    assert logged(log) == summary.as_dict()


def test_the_watchdog_repeats_the_last_mask_that_was_sent():
    """One that no sink took is no former mask."""
    seen = []

    def sink(result):
        seen.append((result.record.status, result.record.id))
        bad(result)

    def source():
        yield from frames(2)
        end = time.monotonic() + 30
        while seen[-2:] != [("stale", 0)] * 2 and time.monotonic() < end:
            time.sleep(0.005)

    Pipeline(source(), same, sink, policy="all", watchdog_ms=20).run()
    assert ("ok", 1) in seen
    assert {number for status, number in seen if status == "stale"} == {0}


def test_steps_named_as_the_times_of_the_pipeline():
    def compute(image):
        return image

    def total(image):
        return image

    summary = Pipeline(frames(3), [compute, total, compute], policy="all").run()
    assert summary.steps == ("compute 2", "total 2", "compute 3")
    found = summary.as_dict()["milliseconds"]
    own = [found[name]["max"] for name in summary.steps]
    assert found["compute"]["max"] >= max(own)
    assert list(found) == ["wait", *summary.steps, "compute", "send", "total"]


def test_pixels_that_cannot_be_given_back(caplog):
    def source():
        for array in frames(3):
            yield Frame(array, release=lambda: 1 // 0)

    summary = Pipeline(source(), same, policy="all").run()
    assert summary.counts["ok"] == summary.received == 3
    assert "frame 2: release: ZeroDivisionError" in caplog.text


def test_exits_are_errors_of_their_frame():
    def step(image):
        if image[0, 0] == 1:
            raise SystemExit
        return image

    def sink(result):
        if result.record.id == 2:
            raise SystemExit

    summary = Pipeline(frames(4), step, sink, policy="all").run()
    assert summary.received == 4
    assert summary.counts["ok"] == 2
    assert summary.reasons == {"step: SystemExit": 1, "sink: SystemExit": 1}


def test_a_source_that_exits_is_raised():
    def source():
        yield frames(1)[0]
        raise SystemExit(3)

    pipeline = Pipeline(source(), same, policy="all")
    with pytest.raises(SystemExit, match="3"):
        pipeline.run()
    assert pipeline.summary.sent == 1


def test_numbers_of_numpy(tmp_path):
    """Of senders and of settings: the log has them as numbers."""
    times, log = (np.int64(1), np.float32(2.5), None), tmp_path / "log"
    source = [Frame(array, captured=t) for array, t in zip(frames(3), times, strict=True)]
    options = {
        "deadline_ms": np.float32(1e6),
        "max_age_ms": np.int64(10**6),
        "watchdog_ms": np.int32(10**6),
        "threads": np.int64(1),
        "warm_up": np.int8(1),
    }
    summary = Pipeline(source, same, policy="all", log=log, **options).run()
    start, records = read_log(log)
    assert [record.captured for record in records] == [1.0, 2.5, None]
    assert {name: start["settings"][name] for name in options} == options
    assert json.dumps(summary.as_dict())


def test_the_log_names_no_patient(tmp_path, caplog):
    """Errors' texts may: a path, a header. They go to the logger, not into the log."""
    name, log = "/x/SMITH^JOHN_1950", tmp_path / "log"

    def step(image):
        if image.max() in (0, 1):  # 0: the warm-up
            raise ValueError(f"no such file: {name}/model")
        return image

    def sink(result):
        raise FileExistsError(f"{name}/mask.png")

    class Folder(list):
        def __iter__(self):
            yield from super().__iter__()
            raise OSError(f"{name}/frame.png")

    given = Folder(frames(4)[1:])
    steps = [lambda a: a, step]
    steps[0].shape, steps[0].dtype = (6, 8), np.uint8
    with pytest.raises(OSError, match="SMITH"):
        Pipeline(given, steps, sink, policy="all", log=log).run()
    text = log.read_text()
    assert "SMITH" not in text
    reasons = [record.reason for record in read_log(log)[1]]
    assert reasons == ["step: ValueError", *["sink: FileExistsError"] * 2]
    events = [line for line in map(json.loads, text.splitlines()) if line["type"] == "event"]
    assert {(event["event"], event["text"]) for event in events} == {
        ("warm-up failed", "step: ValueError"),
        ("source failed", "Folder: OSError"),
    }
    for said in ("model", "mask.png", "frame.png"):
        assert f"{name}/{said}" in caplog.text
