"""Logs that are damaged, or made up: an error that names file and line; a page without holes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from medseg_fast._app import stream as app
from medseg_fast.stream import Pipeline, Record, Summary, read_log


@pytest.fixture
def lines(tmp_path):
    """Those of a log of two frames."""
    log = tmp_path / "whole"
    Pipeline(np.zeros((2, 6, 8), np.uint8), lambda a: a, policy="all", log=log).run()
    return [json.loads(line) for line in log.read_text().splitlines()]


def refused(tmp_path, lines):
    """What the report says."""
    log = tmp_path / "damaged"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=re.escape(str(log))) as caught:
        app.report(log, tmp_path / "page.html")
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "line 1: settings can't be None"),
        ({}, "line 1 has no steps"),
        ({"steps": "a", "deadline_ms": None}, "line 1: steps can't be 'a'"),
        ({"steps": [1], "deadline_ms": None}, "line 1: steps can't be [1]"),
        ({"steps": ["a"]}, "line 1 has no deadline_ms"),
        ({"steps": ["a"], "deadline_ms": "5"}, "line 1: deadline_ms can't be '5'"),
        ({"steps": ["a"], "deadline_ms": -1}, "line 1: deadline_ms can't be -1"),
    ],
)
def test_damaged_settings(tmp_path, lines, settings, message):
    lines[0]["settings"] = settings
    assert message in refused(tmp_path, lines)
    del lines[0]["settings"]
    assert "line 1 has no settings" in refused(tmp_path, lines)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "<b>"),
        ("captured", "1"),
        ("received", None),
        ("start", 1.5),
        ("end", 2**63),
        ("sent", []),
        ("steps", 3),
        ("steps", ["1"]),
        ("steps", [float("nan")]),
        ("status", "<script>"),
        ("status", ["ok"]),
        ("reason", {}),
    ],
)
def test_damaged_frames(tmp_path, lines, name, value):
    lines[2][name] = value
    assert f"line 3: {name} can't be {value!r}" in refused(tmp_path, lines)
    del lines[2][name]
    assert f"line 3 has no {name}" in refused(tmp_path, lines)


@pytest.mark.parametrize("line", [[1], 1, "frame", None])
def test_lines_that_are_no_objects(tmp_path, lines, line):
    assert "line 2 is no object" in refused(tmp_path, [lines[0], line, *lines[1:]])


@pytest.mark.parametrize("text", ["[" * 10**5, "9" * 10**4, ""])
def test_lines_that_are_no_json(tmp_path, lines, text):
    log = tmp_path / "damaged"
    log.write_text(f"{json.dumps(lines[0])}\n{text}\n{json.dumps(lines[1])}\n")
    with pytest.raises(ValueError, match="line 2 is no JSON"):
        read_log(log)


def test_the_page_escapes_what_the_log_says():
    bad = "<script>alert(1)</script>"
    record = Record(0, None, 1, 2, 3, 4, [1.0], f'"{bad}', bad)
    record.id = bad
    summary = Summary((bad,), 5.0)
    summary.add(Record(0, None, 1, 2, 3, 4, [1.0], "error", bad))
    page = app._page({"settings": {"steps": [bad]}}, [record], summary)
    assert "<script" not in page
    assert 'class="&quot;&lt;script&gt;' in page
    assert page.count("&lt;script&gt;") >= 6


def test_times_that_run_backwards(tmp_path):
    """A log that someone made up still gives a page."""
    record = Record(0, None, 9, 8, 7, 6)
    summary = Summary()
    summary.add(record)
    assert "<svg" in app._page({}, [record], summary)
