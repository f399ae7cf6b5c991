"""The log of a run: JSON lines, one per frame, without anything that names a patient."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from medseg_fast._config import show_config
from medseg_fast.stream._frame import STATUSES, Record, now
from medseg_fast.stream._summary import Summary

_logger = logging.getLogger("medseg_fast.stream")
FORMAT = 1  # of the lines; readers refuse others


class Log:
    """Writes a run's lines as they happen, so that a crash leaves what came before.

    The first line tells what ran: version, commit, instruction set, settings and a hash of them.
    Every frame's line repeats the hash and the instruction set. The last line is the summary.
    When a line can't be written, `failure` says why, and none comes after it.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        config = show_config("dict") or {}
        text = json.dumps(settings, sort_keys=True, default=repr)
        self._constant = {
            "parameters": hashlib.sha256(text.encode()).hexdigest()[:16],
            "kernels": config["build"]["chosen"],
        }
        self.failure: OSError | None = None
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
        if self.failure is not None:
            raise self.failure

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
        self._attempt(self._file.close)

    def _line(self, content: Mapping[str, Any]) -> None:
        if not self._file.closed:
            self._attempt(self._file.write, json.dumps(content) + "\n")

    def _attempt(self, action: Callable[..., Any], *arguments: Any) -> None:
        try:
            action(*arguments)
        except OSError as error:
            _logger.warning("the log ends here: %s", error)
            self.failure = error
            with suppress(OSError):
                self._file.close()


_FIELDS = tuple(field.name for field in fields(Record))


def read_log(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[Record]]:
    """The first line and the frames of a log; a last line cut short by a crash is left out.

    Raises
    ------
    ValueError
        If the file is no log, or of another format, or a line isn't what a log holds.
    """
    lines = _lines(Path(path))
    where, start = next(lines, ("", None))
    if not isinstance(start, dict) or start.get("type") != "start":
        raise ValueError(f"{os.fspath(path)}: not the log of a stream")
    if start.get("format") != FORMAT:
        raise ValueError(
            f"{os.fspath(path)}: log format {start.get('format')!r}, this version reads {FORMAT}"
        )
    _checked(where, start, {"settings": lambda found: isinstance(found, dict)})
    _checked(where, start["settings"], _SETTINGS)
    records = []
    for where, line in lines:
        if not isinstance(line, dict):
            raise ValueError(f"{where} is no object")
        if line.get("type") == "frame":
            records.append(Record(**_checked(where, line, _FRAME)))
    return start, records


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """What each line holds, and how to name it."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, text in enumerate(file, 1):
            where = f"{path}: line {number}"
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):  # also a number of too many digits
                if file.readline():
                    raise ValueError(f"{where} is no JSON") from None
                return
            yield where, found


def _checked(
    where: str, given: Mapping[str, Any], allowed: Mapping[str, Callable[[Any], bool]]
) -> dict[str, Any]:
    """What is allowed of what is given, or an error that names the line."""
    for name, fits in allowed.items():
        if name not in given:
            raise ValueError(f"{where} has no {name}")
        if not fits(given[name]):
            raise ValueError(f"{where}: {name} can't be {given[name]!r:.60}")
    return {name: given[name] for name in allowed}


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**63  # no NaN


def _time(value: Any) -> bool:
    return isinstance(value, int) and _number(value)


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(fits, value))


_SETTINGS = {
    "steps": _list_of(_text),
    "deadline_ms": lambda value: value is None or (_number(value) and value > 0),
}
_FRAME = {
    "id": _time,
    "captured": lambda value: value is None or isinstance(value, int | float),
    **dict.fromkeys(("received", "start", "end", "sent"), _time),
    "steps": _list_of(_number),
    "status": STATUSES.__contains__,
    "reason": _text,
}


def summarise(start: Mapping[str, Any], records: Sequence[Record]) -> Summary:
    """The figures of a log that was read."""
    settings = start["settings"]
    summary = Summary(tuple(settings["steps"]), settings["deadline_ms"])
    for record in records:
        summary.add(record)
    return summary
