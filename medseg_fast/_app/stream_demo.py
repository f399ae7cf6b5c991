"""`medseg-fast stream demo`: a bone followed through ultrasound frames over OpenIGTLink."""

from __future__ import annotations

import importlib.util
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast import stream
from medseg_fast._app import files
from medseg_fast._app import stream as _stream
from medseg_fast._app.stream_bench import Figures, Load, replay, table

__all__ = ["run", "table"]

# A bright point of the bone's surface in the first frame, and how bright the surface is.
_SEED, _LOWER, _UPPER = (133, 64), 100.0, 255.0


def frames() -> list[Any]:
    """The sequence that comes with the package, there and back, so that it can be repeated."""
    path = Path(str(resources.files("medseg_fast") / "data" / "us_bone_sequence.nii.gz"))
    there = [np.ascontiguousarray(frame.array) for frame in stream.frames_of(path)]
    return there + there[-2:0:-1]


def steps(first: Any) -> list[Any]:
    """Smooth, then cut the surface out within reach of where it was."""
    return [
        stream.SmoothPlan(first.shape, first.dtype, 1.0),
        stream.TrackedCut(first.shape, np.float32, _SEED, _LOWER, _UPPER, reach=6),
    ]


def run(
    folder: Path, fps: float, seconds: float, *, threads: int | None = None, force: bool = False
) -> tuple[dict[str, Figures], list[Path]]:
    """Figures of a pipeline that does nothing and of the tracking one, and the files written."""
    video, log, page = (folder / name for name in ("overlay.mp4", "run.jsonl", "run.html"))
    sinks: list[Any] = []
    wanted = [log, page]
    if importlib.util.find_spec("cv2") is not None:
        wanted.insert(0, video)
    folder.mkdir(parents=True, exist_ok=True)
    files.check_writable(wanted, force=force)
    for path in wanted:
        path.unlink(missing_ok=True)
    given = frames()
    load = Load(given, fps, seconds)
    how: dict[str, Any] = {"policy": "latest", "deadline_ms": 1000 / fps}
    found = {"nothing": replay(load, [lambda image: image], **how)}
    if video in wanted:
        sinks.append(stream.VideoSink(video, fps))
    found["track-cut"] = replay(load, steps(given[0]), threads=threads, sinks=sinks, log=log, **how)
    _stream.report(log, page, force=force)
    return found, wanted
