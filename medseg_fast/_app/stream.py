"""`medseg-fast stream`: from words to a pipeline, and from a log to a page."""

from __future__ import annotations

import html
import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from medseg_fast import stream
from medseg_fast._app import files
from medseg_fast.stream import Frame, Pipeline, Record, Summary

_REGION = ("seed", "lower", "upper")
# By method: the options that it needs, and others that it takes.
_OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "threshold": (("lower",), ("upper", "largest")),
    "otsu": ((), ("upper", "largest")),
    "canny": ((), ("sigma",)),
    "region-growing": (_REGION, ()),
    "track": (_REGION, ()),
    "track-cut": (_REGION, ()),
    "track-level-set": (_REGION, ()),
    "network": (("model",), ()),
}
METHODS = tuple(_OPTIONS)
_BINS = 60


@dataclass(frozen=True)
class Job:
    """What `medseg-fast stream` was asked to do."""

    source: str
    method: str
    sinks: Sequence[str] = ()
    fps: float | None = None
    repeat: bool = False
    policy: str | None = None
    deadline: float | None = None
    max_age: float | None = None
    watchdog: float | None = None
    late: str = "send"
    seconds: float | None = None
    frames: int | None = None
    threads: int | None = None
    cpus: Sequence[int] = ()
    priority: int | None = None
    log: Path | None = None
    lower: float | None = None
    upper: float | None = None
    seed: tuple[int, ...] | None = None
    sigma: float = 1.0
    smooth: float | None = None
    largest: bool = False
    model: Path | None = None


def run(job: Job, show: Callable[[Summary], None] | None = None) -> Summary:
    """Stream until the source ends, or Ctrl-C; `show` gets the figures so far twice a second."""
    source, first, rate, live = _source(job)
    with ExitStack() as opened:  # closed whatever fails
        if callable(close := getattr(source, "close", None)):
            opened.callback(close)
        made = steps(job, first.array)
        mask = Frame(_empty_mask(made, first.array))
        sinks = [_sink(word, mask, job.fps or rate or 25.0, job.priority) for word in job.sinks]
        pipeline = Pipeline(
            source,
            made,
            sinks,
            policy=job.policy or ("latest" if live else "all"),  # type: ignore[arg-type]
            late=job.late,  # type: ignore[arg-type]
            deadline_ms=job.deadline,
            max_age_ms=job.max_age,
            watchdog_ms=job.watchdog,
            threads=job.threads,
            cpus=job.cpus or None,
            priority=job.priority,
            log=job.log,
        )
        begin = time.monotonic()
        pipeline.start(frames=job.frames)
        try:
            while not pipeline.wait(0.5):
                if show is not None:
                    show(pipeline.summary)
                if job.seconds is not None and time.monotonic() - begin >= job.seconds:
                    break
        except KeyboardInterrupt:
            pass  # how a live stream ends
        finally:
            summary = pipeline.stop()
    return summary


def _source(job: Job) -> tuple[Any, Frame, float, bool]:
    """Frames, the first of them (plans have its shape), their rate, and whether they come anyway.

    A rate of 0: none is known.
    """
    source: Any
    name = job.source
    if name.startswith("igtl:"):
        endpoint, device = stream.igtl_endpoint(name, policy="block", priority=job.priority)
        source, live = stream.IgtlSource(endpoint, device), True
    elif name.isdigit() or "://" in name:
        source = stream.VideoSource(int(name) if name.isdigit() else name)
        live = not _is_video(name)
    else:
        source, live = _file(name), False
    rate = getattr(source, "fps", 0.0)
    given: Any = _Opened(source, name, job.seconds)
    first = given.first
    if not live and job.repeat:
        given = list(given)
    if not live and (job.fps or job.repeat):
        rate = job.fps or rate or 25.0
        return stream.Paced(given, rate, repeat=job.repeat), first, rate, True
    return given, first, rate, live


class _Opened:
    """A source whose first frame was looked at, and is given all the same.

    A source that can be closed is so when its first frame does not come within `seconds`.
    """

    def __init__(self, source: Any, name: str, seconds: float | None = None) -> None:
        self._source, self._frames = source, iter(source)
        timer = threading.Timer(seconds or 0.0, self.close)
        timer.daemon = True
        if seconds is not None:
            timer.start()
        try:
            self.first: Frame = next(self._frames)
        except StopIteration:
            late = "" if seconds is None else f" within {seconds:g} s"
            raise ValueError(f"{name}: gave no frame{late}") from None
        finally:
            timer.cancel()

    def __iter__(self) -> Iterator[Frame]:
        yield self.first
        yield from self._frames

    def close(self) -> None:
        """End the wait for the next frame, where the source can."""
        close = getattr(self._source, "close", None)
        if close is not None and not isinstance(self._source, Generator):
            close()


def frames(job: Job) -> list[Any]:
    """All frames of a file or folder."""
    if job.source.startswith("igtl:") or job.source.isdigit() or "://" in job.source:
        raise ValueError(f"--source {job.source}: must be a file or a folder, to be replayed")
    given = _Opened(_file(job.source), job.source)
    return [np.ascontiguousarray(frame.array) for frame in given]


def _file(name: str) -> Any:
    """The frames of a video, an image file or a folder."""
    return stream.VideoSource(name) if _is_video(name) else stream.frames_of(name)


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg")


def steps(job: Job, first: Any) -> list[Callable[[Any], Any]]:
    """The job's method for frames like the first one."""
    _check_options(job)
    shape, dtype = first.shape, first.dtype
    grey = "--smooth" if job.smooth is not None else f"--method {job.method}"
    if grey != "--method network" and len(shape) == 3 and shape[-1] in (3, 4):
        raise ValueError(f"{grey}: frames must be grey, got colours of shape {shape}")
    if job.smooth is None:
        return [_step(job, shape, dtype, dtype)]
    smooth = stream.SmoothPlan(shape, dtype, job.smooth)
    return [smooth, _step(job, shape, np.dtype(np.float32), dtype)]


def _check_options(job: Job) -> None:
    needed, others = _OPTIONS[job.method]
    missing = [f"--{name}" for name in needed if getattr(job, name) is None]
    if missing:
        raise ValueError(f"--method {job.method}: needs {', '.join(missing)}")
    for name in ("lower", "upper", "seed", "sigma", "largest", "model"):
        if name not in needed + others and getattr(job, name) != getattr(Job, name):
            raise ValueError(f"--method {job.method}: takes no --{name}")


def _empty_mask(made: Sequence[Callable[[Any], Any]], first: Any) -> Any:
    """What the steps make of an empty frame; the pipeline's warm-up ends what that has begun."""
    value = np.zeros_like(first)
    for step in made:
        value = step(value)
    return value


def _step(
    job: Job, shape: tuple[int, ...], dtype: np.dtype[Any], original: np.dtype[Any]
) -> Callable[[Any], Any]:
    """The method for images of `dtype`, in units of the frames' `original` one."""
    top = float(np.iinfo(original).max) if original.kind in "ui" else 1.0
    if job.method == "canny":
        levels = (
            {} if dtype == original else {"low_threshold": 0.1 * top, "high_threshold": 0.2 * top}
        )
        return stream.EdgePlan(shape, dtype, sigma=job.sigma, **levels)
    if job.method == "network":
        intensities = (0.0, top) if original.kind in "bu" else None
        return stream.NetworkPlan(shape, dtype, job.model, intensities=intensities)
    if job.method in ("threshold", "otsu"):
        level: Any = "otsu" if job.method == "otsu" else job.lower
        return stream.ThresholdPlan(shape, dtype, level, job.upper, largest=job.largest)
    make: Any = {
        "region-growing": stream.RegionGrowPlan,
        "track": stream.TrackedRegion,
        "track-cut": stream.TrackedCut,
        "track-level-set": stream.TrackedLevelSet,
    }[job.method]
    return make(shape, dtype, job.seed, job.lower, job.upper)  # type: ignore[no-any-return]


def _sink(word: str, mask: Frame, fps: float, priority: int | None) -> Callable[[Any], None]:
    """``FOLDER/``, ``FILE.mp4`` or ``FILE.avi``, ``shm:NAME``, ``igtl://[HOST]:PORT/DEVICE``.

    For masks like the one given. The last one also with ``contour:`` or ``transform:`` before it.
    """
    kind, _, rest = word.partition(":")
    what: Any = kind if kind in ("contour", "transform") else "image"
    address = word if what == "image" else rest
    if address.startswith("igtl:"):
        endpoint, device = stream.igtl_endpoint(address, priority=priority)
        return stream.IgtlSink(endpoint, device or "Mask", what=what, version=2)
    if kind == "shm" and rest:
        return stream.SharedRing(rest, mask.array.shape, mask.array.dtype)
    if Path(word).suffix in (".mp4", ".avi"):
        return stream.VideoSink(word, fps)
    if Path(word).suffix or kind in ("shm", "contour", "transform"):
        raise ValueError(
            f"--sink {word}: must be a folder, a .mp4 or .avi file, shm:NAME or igtl://..."
        )
    return stream.FolderSink(word)


# --- report


def report(log: Path, page: Path | None, *, force: bool = False) -> Summary:
    """The figures of a log and, if asked for, a page about it."""
    start, records = stream.read_log(log)
    summary = stream.summarise(start, records)
    if page is not None:
        files.check_writable([page], force=force, inputs=(log,))
        with files.replacing(page) as temporary:
            temporary.write_text(_page(start, records, summary), encoding="utf-8")
    return summary


def _page(start: Mapping[str, Any], records: Sequence[Record], summary: Summary) -> str:
    template = resources.files("medseg_fast._app") / "stream.html"
    figures = summary.as_dict()
    heads = ["p50", "p95", "p99", "p99.9", "max"]
    rows = "".join(
        f"<tr><th>{html.escape(name)}</th>"
        + "".join(f"<td>{values[head]:.2f}</td>" for head in heads)
        + "</tr>"
        for name, values in figures["milliseconds"].items()
        if values
    )
    reasons = "".join(
        f"<li>{count} &times; {html.escape(reason)}</li>"
        for reason, count in figures["reasons"].items()
    )
    worst = ", ".join(f"{w['id']} ({w['total_ms']:.2f} ms)" for w in figures["worst"])
    return Template(template.read_text(encoding="utf-8")).substitute(
        received=figures["received"],
        sent=figures["sent"],
        fps=f"{figures['fps']:.1f}",
        misses=f"{figures['misses']} ({100 * figures['miss_rate']:.2f} %)",
        deadline="none" if summary.deadline_ms is None else f"{summary.deadline_ms:g} ms",
        p99=f"{figures['milliseconds']['total'].get('p99', 0.0):.2f} ms",
        heads="".join(f"<th>{head}</th>" for head in heads),
        rows=rows,
        reasons=reasons or "<li>none</li>",
        worst=html.escape(worst) or "none",
        histogram=_histogram(records, summary.deadline_ms),
        timeline=_timeline(records, summary.deadline_ms),
        settings=html.escape(json.dumps(start, indent=2)),
    )


_WIDTH, _HEIGHT = 900, 180


def _total(records: Sequence[Record]) -> list[float]:
    """Milliseconds until each mask was sent."""
    return [record.total_ms for record in records if record.sent and record.status != "stale"]


def _histogram(records: Sequence[Record], deadline: float | None) -> str:
    """Bars of how many masks took how long, by their logarithm from half a millisecond up."""
    total = _total(records)
    if not total:
        return ""
    low = max(min(total) * 0.9, 1e-3)
    high = max(*total, deadline or 0) * 1.1
    edges = np.geomspace(low, max(high, low * 1.5), _BINS + 1)
    counts, _ = np.histogram(total, edges)
    tall = np.log1p(counts) / np.log1p(max(counts.max(), 1)) * _HEIGHT
    step = _WIDTH / _BINS
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{_HEIGHT - h:.1f}" width="{step - 1:.1f}" height="{h:.1f}">'
        f"<title>{edges[i]:.2f} to {edges[i + 1]:.2f} ms: {n}</title></rect>"
        for i, (h, n) in enumerate(zip(tall, counts, strict=True))
        if n
    )

    def at(ms: float) -> float:
        return float(np.log(ms / edges[0]) / np.log(edges[-1] / edges[0]) * _WIDTH)

    marks = [(ms, f"{ms:g}") for ms in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)]
    ticks = "".join(
        f'<text x="{at(ms):.1f}" y="{_HEIGHT + 16}">{text}</text>'
        for ms, text in marks
        if edges[0] <= ms <= edges[-1]
    )
    limit = ""
    if deadline is not None:
        x = at(deadline)
        limit = f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>'
    return _svg(bars + ticks + limit)


def _timeline(records: Sequence[Record], deadline: float | None) -> str:
    """Each frame at its time of arrival: how long its mask took, or that it was dropped."""
    if not records:
        return ""
    first = min(record.received for record in records)
    span = max(max(record.received for record in records) - first, 1)
    top = max([*_total(records), deadline or 0.0, 1e-6]) * 1.05
    every = -(-len(records) // 4000)  # dots that a browser draws without effort
    dots = []
    for number, record in enumerate(records):
        if record.status == "ok" and number % every:
            continue
        x = (record.received - first) / span * _WIDTH
        y = _HEIGHT - min(record.total_ms / top, 1.0) * _HEIGHT if record.sent else _HEIGHT
        status = html.escape(record.status)
        title = html.escape(f"{record.id}: {record.status} {record.reason}")
        dots.append(
            f'<circle class="{status}" cx="{x:.1f}" cy="{y:.1f}" r="2">'
            f"<title>{title}</title></circle>"
        )
    ticks = f'<text x="0" y="{_HEIGHT + 16}">0 s</text>'
    ticks += f'<text x="{_WIDTH - 40}" y="{_HEIGHT + 16}">{span / 1e9:.1f} s</text>'
    if deadline is not None:
        y = _HEIGHT - deadline / top * _HEIGHT
        ticks += f'<line class="limit" x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
    ticks += f'<text x="4" y="12">{top:.1f} ms</text>'
    return _svg("".join(dots) + ticks)


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 22}" role="img">{content}</svg>'
