"""The log of a run: JSON lines, one per frame, without anything that names a patient."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from medseg_fast._config import show_config
from medseg_fast.stream._frame import Record, now
from medseg_fast.stream._summary import Summary

FORMAT = 1  # of the lines; readers refuse others


class Log:
    """Writes a run's lines as they happen, so that a crash leaves what came before.

    The first line tells what ran: version, commit, instruction set, settings and a hash of them.
    Every frame's line repeats the hash and the instruction set. The last line is the summary.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        config = show_config("dict") or {}
        text = json.dumps(settings, sort_keys=True, default=repr)
        self._constant = {
            "parameters": hashlib.sha256(text.encode()).hexdigest()[:16],
            "kernels": config["build"]["chosen"],
        }
        self._file = open(path, "x", encoding="utf-8", buffering=1)
        self._line(
            {
                "type": "start",
                "format": FORMAT,
                "unix_time": time.time(),
                "clock_ns": now(),
                **self._constant,
                "settings": json.loads(text),
                "medseg_fast": {k: config["medseg_fast"][k] for k in ("version", "commit")},
                "python": config["python"],
                "system": config["system"],
                "cpu": config["cpu"],
                "threads": config["threads"],
            }
        )

    def frame(self, record: Record) -> None:
        """Write a frame's line."""
        line = {name: getattr(record, name) for name in _FIELDS}
        line["steps"] = [round(ms, 6) for ms in record.steps]
        self._line({"type": "frame", **line, **self._constant})

    def event(self, name: str, text: str) -> None:
        """Write down something that is no frame: a source that failed, a thread's end."""
        self._line({"type": "event", "event": name, "text": text, "clock_ns": now()})

    def end(self, summary: Summary) -> None:
        """Write the last line and close the file."""
        self._line({"type": "end", "clock_ns": now(), "summary": summary.as_dict()})
        self._file.close()

    def _line(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content) + "\n")


_FIELDS = tuple(field.name for field in fields(Record))


def read_log(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Record]]:
    """The first line and the frames of a log; a last line cut short by a crash is left out.

    Raises
    ------
    ValueError
        If the file is no log, or of another format.
    """
    lines = _lines(Path(path))
    start = next(lines, None)
    if not isinstance(start, dict) or start.get("type") != "start":
        raise ValueError(f"{os.fspath(path)}: not the log of a stream")
    if start.get("format") != FORMAT:
        raise ValueError(
            f"{os.fspath(path)}: log format {start.get('format')!r}, this version reads {FORMAT}"
        )
    records = []
    for line in lines:
        if line.get("type") == "frame":
            try:
                records.append(Record(**{name: line[name] for name in _FIELDS}))
            except KeyError as missing:
                raise ValueError(f"{os.fspath(path)}: a frame without {missing}") from None
    return start, records


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", errors="replace") as file:
        waiting: str | None = None
        for number, text in enumerate(file, 1):
            try:
                yield json.loads(text)
            except json.JSONDecodeError:
                waiting = f"{path}: line {number} is no JSON"
                break
        if waiting and file.readline():
            raise ValueError(waiting)


def summarise(start: Mapping[str, Any], records: Sequence[Record]) -> Summary:
    """The figures of a log that was read."""
    settings = start["settings"]
    summary = Summary(tuple(settings["steps"]), settings["deadline_ms"])
    for record in records:
        summary.add(record)
    return summary
