"""Streams over OpenIGTLink, there and back: ``python benchmarks/stream.py [--seconds 60]``.

Each row replays frames from another process, beside a pipeline that does nothing; all rows go to
benchmarks/stream.md with their bars. `--only WORD` runs those whose name has it, writing nothing.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _machine import describe

from medseg_fast import stream
from medseg_fast._app.stream_bench import Load, replay

HERE = Path(__file__).parent
DATA = Path(os.environ.get("MEDSEG_FAST_DATA", HERE.parents[1] / "shared" / "data"))


def resized(frames: list[Any], rows: int, columns: int) -> list[Any]:
    """The same frames by nearest neighbours."""
    shape = frames[0].shape
    y = np.arange(rows) * shape[0] // rows
    x = np.arange(columns) * shape[1] // columns
    return [np.ascontiguousarray(frame[y][:, x]) for frame in frames]


def ultrasound(rows: int, columns: int) -> list[Any]:
    """A bone's surface, 21 frames."""
    (file,) = (DATA / "us_bone_sequence").rglob("*.mha")
    return resized([frame.array for frame in stream.frames_of(file)], rows, columns)


def endoscopy(rows: int, columns: int) -> list[Any]:
    """A larynx, in colours."""
    folder = DATA / "endoscopy_larynx" / "images"
    frames = [frame.array for _, frame in zip(range(8), stream.frames_of(folder), strict=False)]
    return resized(frames, rows, columns)


def canny(frames: list[Any]) -> Any:
    return stream.EdgePlan(frames[0].shape, frames[0].dtype, sigma=1.0)


def largest(frames: list[Any]) -> Any:
    return stream.ThresholdPlan(frames[0].shape, frames[0].dtype, 100, largest=True)


def tracked(frames: list[Any]) -> Any:
    first = frames[0]
    seed = tuple(int(i) for i in np.unravel_index(first.argmax(), first.shape))
    return stream.TrackedRegion(first.shape, first.dtype, seed, 0.5 * first.max(), 255, reach=8)


def cut(frames: list[Any]) -> Any:
    first = frames[0]
    seed = tuple(int(i) for i in np.unravel_index(first.argmax(), first.shape))
    return stream.TrackedCut(first.shape, first.dtype, seed, 0.5 * first.max(), 255, reach=8)


def network(frames: list[Any]) -> Any:
    import torch

    from medseg_fast import nn

    torch.manual_seed(0)
    model = nn.unet(1, 2, widths=(32, 64, 128, 256, 512), padding="same", norm="batch").eval()
    plan = nn.optimize(model, torch.zeros(1, 1, *frames[0].shape))
    return stream.NetworkPlan(frames[0].shape, frames[0].dtype, plan)


def slow(frames: list[Any]) -> Any:
    """Takes twice the time between frames of 30 per second."""

    def step(image: Any) -> Any:
        end = time.perf_counter_ns() + int(2e9 / 30)
        while time.perf_counter_ns() < end:
            pass
        return image

    return step


class Row(NamedTuple):
    name: str
    frames: Callable[[int, int], list[Any]]
    size: tuple[int, int]
    fps: float
    step: Callable[[list[Any]], Any] | None
    bar: str
    busy: bool = False
    deadline: float | None = None


ROWS = [
    Row("1080p grey, Canny", ultrasound, (1080, 1920), 60, canny, "compute p99 8, p99 16.7"),
    Row("1080p grey, threshold + largest", ultrasound, (1080, 1920), 60, largest, "8, 16.7"),
    Row("1080p RGB, transport", endoscopy, (1080, 1920), 30, None, "every frame, p99 33"),
    Row("640x480 grey, transport", ultrasound, (480, 640), 60, None, "p99 3"),
    Row("512x512 ultrasound, tracked region", ultrasound, (512, 512), 30, tracked, "compute 20"),
    Row("512x512 ultrasound, tracked graph cut", ultrasound, (512, 512), 30, cut, "compute 20"),
    Row("256x256 ultrasound, U-Net 32..512", ultrasound, (256, 256), 30, network, "compute 20"),
    Row("1080p Canny, a busy CPU", ultrasound, (1080, 1920), 30, canny, "8, 16.7", True, 16.7),
    Row("512x512 tracked, a busy CPU", ultrasound, (512, 512), 30, tracked, "20", True),
    Row("512x512, steps take 2 frames", ultrasound, (512, 512), 30, slow, "ages <= deadline"),
]


def run(row: Row, seconds: float) -> list[str]:
    frames = row.frames(*row.size)
    load = Load(frames, row.fps, seconds)
    deadline = row.deadline or (1000 / row.fps if row.step is not slow else 4000 / row.fps)
    how: dict[str, Any] = {"deadline_ms": deadline, "busy": row.busy}
    idle = replay(load, [lambda image: image], **how)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = replay(load, row.step(frames), **how) if row.step else idle
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    compute, end = found["compute"], found["end_to_end"]
    return [
        row.name,
        f"{row.fps:g}",
        f"{found['frames']} / {found['back']} / {found['dropped']} / {found['lost']}",
        f"{compute['p50']:.2f} / {compute['p99']:.2f} / {compute['max']:.2f}",
        f"{end['p50']:.2f} / {end['p99']:.2f} / {end['max']:.2f}",
        f"{idle['end_to_end']['p50']:.2f} / {idle['end_to_end']['p99']:.2f}",
        f"{found['misses']} ({100 * found['misses'] / found['frames']:.2f} %)",
        f"{grown / 1024:.1f}",
        row.bar,
    ]


HEADS = [
    "stream",
    "per second",
    "frames / back / dropped / lost",
    "compute p50 / p99 / max",
    "end to end p50 / p99 / max",
    "nothing p50 / p99",
    "misses",
    "MB grown",
    "bar",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    rows = []
    for row in ROWS:
        if given.only in row.name:
            rows.append(run(row, given.seconds))
            print(" | ".join(rows[-1]), flush=True)
    if given.only:
        return
    lines = [
        "# Streams",
        "",
        "Milliseconds. End to end: from sending a frame over OpenIGTLink (loopback) until its mask "
        "has come back to the sender, in another process. Nothing: the same with a pipeline that "
        "passes frames on. A miss: sent more than the time of a frame after its arrival.",
        "",
        f"{describe()}; {given.seconds:g} s each. Made by `python benchmarks/stream.py`.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    (HERE / "stream.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
