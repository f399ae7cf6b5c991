"""`medseg-fast stream-bench`: replay a sequence at a rate over OpenIGTLink, there and back.

A feeder in a process of its own sends frames with their time, and receives the masks; this process
runs the pipeline between. Latency end to end is what the feeder's clock says: from sending a frame
until its mask has arrived. A pipeline that does nothing runs in the same way beside it, and shows
what of the latency is the machine's and the transport's.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from medseg_fast import stream
from medseg_fast._app import text
from medseg_fast.stream._latency import Latencies
from medseg_fast.stream._thread import pin
from medseg_fast.stream.igtl import Client, Image, Server

Step = Callable[[Any], Any]
Figures = dict[str, Any]
_START = 30.0  # s that processes may take to find each other
_DRAIN = 2.0  # s to wait for the last masks


@dataclass(frozen=True)
class Load:
    """What is replayed, and how.

    Attributes
    ----------
    frames : list of ndarray
        Sent in turn, again from the first one after the last.
    fps : float
        Frames per second.
    seconds : float
        How long.
    """

    frames: list[Any]
    fps: float
    seconds: float


def replay(
    load: Load,
    steps: Step | list[Step],
    *,
    policy: str = "latest",
    deadline_ms: float | None = None,
    late: str = "send",
    threads: int | None = None,
    priority: int | None = None,
    busy: bool = False,
    sinks: Sequence[Callable[[stream.Result], None]] = (),
    log: Path | None = None,
) -> Figures:
    """Run a pipeline between a feeder's frames and masks; returns the figures.

    Parameters
    ----------
    load : Load
    steps, policy, deadline_ms, late, threads, log
        As for `stream.Pipeline`.
    priority : int, optional
        Of all threads of the pipeline, the feeder and the viewer.
    sinks : sequence of callable, optional
        Where masks go, too, after the feeder has them.
    busy : bool, optional
        Let another process use a CPU fully meanwhile.

    Returns
    -------
    figures : dict
        ``frames`` sent by the feeder, ``received`` and ``sent`` by the pipeline, ``back`` at the
        feeder, ``lost``: frames that neither came back nor were dropped by the policy; ``arrival``
        (from sending a frame until the pipeline has it), ``compute``, ``age`` (from then until its
        mask was sent) and ``end_to_end``: p50, p95, p99, p99.9 and max in milliseconds; ``misses``.
    """
    arrivals = Latencies()

    def arrived(result: stream.Result) -> None:
        record = result.record
        assert record.captured is not None
        ago = time.perf_counter_ns() - record.received
        arrivals.add((time.time_ns() - ago) / 1e6 - record.captured * 1e3)

    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    feeder = context.Process(target=_feed, args=(theirs, load, priority), daemon=True)
    feeder.start()
    with contextlib.ExitStack() as stack:
        stack.callback(_end, feeder)
        if busy:
            stack.enter_context(_burning(context))
        if not ours.poll(_START):
            raise TimeoutError("stream-bench: the feeder did not start")
        port = ours.recv()
        masks = Server(0, send_queue=64, priority=priority)
        source = stream.IgtlSource(Client(port=port, policy="block", queue=2, priority=priority))
        pipeline = stream.Pipeline(
            source,
            steps,
            [stream.IgtlSink(masks), arrived, *sinks],
            policy=policy,  # type: ignore[arg-type]
            deadline_ms=deadline_ms,
            late=late,  # type: ignore[arg-type]
            threads=threads,
            priority=priority,
            log=log,
        )
        ours.send(masks.port)
        if not masks.wait_clients(1, _START):
            raise TimeoutError("stream-bench: the feeder did not connect")
        pipeline.start()
        ours.send("go")
        if not ours.poll(_START + load.seconds + _DRAIN):
            raise TimeoutError("stream-bench: the feeder did not end")
        sent, latencies = ours.recv()
        summary = pipeline.stop()
    dropped = summary.counts["dropped"]
    return {
        "frames": sent,
        "received": summary.received,
        "sent": summary.sent,
        "dropped": dropped,
        "back": latencies.count,
        "lost": sent - dropped - latencies.count,
        "misses": summary.misses,
        "arrival": arrivals.percentiles(),
        "compute": summary.percentiles("compute"),
        "age": summary.percentiles("total"),
        "end_to_end": latencies.percentiles(),
    }


_COUNTED = ("frames", "back", "dropped", "lost", "misses")


def table(found: dict[str, Figures]) -> str:
    """Figures of several replays, a line each."""
    rows: list[tuple[str, ...]] = [("", *_COUNTED, "compute p99", "end to end p50", "p99", "max")]
    for name, figures in found.items():
        end = figures["end_to_end"]
        times = [figures["compute"].get("p99"), end.get("p50"), end.get("p99"), end.get("max")]
        counts = [str(figures[key]) for key in _COUNTED]
        rows.append((name, *counts, *("-" if ms is None else f"{ms:.2f} ms" for ms in times)))
    return text.columns(rows)


def _end(process: Any) -> None:
    process.join(5)
    if process.is_alive():
        process.terminate()


@contextlib.contextmanager
def _burning(context: Any) -> Iterator[None]:
    process = context.Process(target=_burn, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def _burn() -> None:
    while True:
        sum(range(100_000))


# --- the feeder's process


def _feed(pipe: Connection, load: Load, priority: int | None) -> None:
    """Send frames at their rate and note when each one's mask comes back, by its timestamp."""
    pin(None, priority)  # of this thread and those that it starts
    scanner = Server(0, send_queue=64)
    pipe.send(scanner.port)
    viewer = Client(port=pipe.recv(), queue=1024)
    if not (scanner.wait_clients(1, _START) and viewer.wait_connected(_START)):
        raise TimeoutError("stream-bench: the pipeline did not connect")
    pipe.recv()  # the pipeline is warm
    images = [frame[None] for frame in load.frames]
    latencies = Latencies()
    count = int(load.fps * load.seconds)
    back = threading.Thread(target=_collect, args=(viewer, latencies))
    back.start()
    begin = time.perf_counter()
    for number in range(count):
        left = begin + number / load.fps - time.perf_counter()
        if left > 0:
            time.sleep(left)
        image = Image(images[number % len(images)], timestamp_ns=time.time_ns())
        scanner.send(image, copy=False)
    time.sleep(_DRAIN)
    viewer.close()
    back.join()
    pipe.send((count, latencies))
    scanner.close()


def _collect(viewer: Client, latencies: Latencies) -> None:
    while (message := viewer.receive()) is not None:
        latencies.add((time.time_ns() - message.timestamp_ns) / 1e6)
