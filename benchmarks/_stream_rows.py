"""What benchmarks/stream.py streams: frames, steps, and the bars of each row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from medseg_fast import stream

HERE = Path(__file__).parent
DATA = Path(os.environ.get("MEDSEG_FAST_DATA", HERE.parents[1] / "shared" / "data"))


def resized(frames: list[Any], rows: int, columns: int) -> list[Any]:
    """The same frames by nearest neighbours."""
    shape = frames[0].shape
    y = np.arange(rows) * shape[0] // rows
    x = np.arange(columns) * shape[1] // columns
    return [np.ascontiguousarray(frame[y][:, x]) for frame in frames]


def ultrasound(rows: int, columns: int) -> list[Any]:
    """A bone's surface, 21 frames, there and back."""
    (file,) = (DATA / "us_bone_sequence").rglob("*.mha")
    there = resized([frame.array for frame in stream.frames_of(file)], rows, columns)
    return there + there[-2:0:-1]


def endoscopy(rows: int, columns: int) -> list[Any]:
    """A larynx, in colours."""
    folder = DATA / "endoscopy_larynx" / "images"
    frames = [frame.array for _, frame in zip(range(8), stream.frames_of(folder), strict=False)]
    return resized(frames, rows, columns)


# --- steps


def nothing(frames: list[Any]) -> Any:
    return lambda image: image


def canny(frames: list[Any]) -> Any:
    return stream.EdgePlan(frames[0].shape, frames[0].dtype, sigma=1.0)


def largest(frames: list[Any]) -> Any:
    return stream.ThresholdPlan(frames[0].shape, frames[0].dtype, 100, largest=True)


def _follow(kind: Any, frames: list[Any]) -> Any:
    first = frames[0]
    seed = tuple(int(i) for i in np.unravel_index(first.argmax(), first.shape))
    return kind(first.shape, first.dtype, seed, 0.5 * first.max(), 255, reach=8)


def tracked(frames: list[Any]) -> Any:
    return _follow(stream.TrackedRegion, frames)


def cut(frames: list[Any]) -> Any:
    return _follow(stream.TrackedCut, frames)


def precision() -> str:
    """bfloat16 where the CPU computes with it."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        flags = ""
    return "bfloat16" if "amx_bf16" in flags or "avx512_bf16" in flags else "float32"


def network(frames: list[Any]) -> Any:
    import torch

    from medseg_fast import nn

    torch.manual_seed(0)
    model = nn.unet(1, 2, widths=(32, 64, 128, 256, 512), padding="same", norm="batch").eval()
    plan = nn.optimize(model, torch.zeros(1, 1, *frames[0].shape), precision=precision())
    return stream.NetworkPlan(frames[0].shape, frames[0].dtype, plan)


def slow(frames: list[Any]) -> Any:
    """Takes twice the time between frames of 30 per second."""

    def step(image: Any) -> Any:
        time.sleep(2 / 30)
        return image

    return step


# --- rows


class Row(NamedTuple):
    """What is streamed, what is done to it, and the bars: milliseconds that p99 may reach."""

    name: str
    frames: Callable[[int, int], list[Any]]
    size: tuple[int, int]
    fps: float
    step: Callable[[list[Any]], Any]
    bars: dict[str, float]
    # ms: bar of the greatest age, and the deadline; masks ready later are dropped and counted.
    oldest: float | None = None


_HD, _VGA, _US = (1080, 1920), (480, 640), (512, 512)
ROWS = [
    Row("1080p, Canny", ultrasound, _HD, 60, canny, {"compute": 8, "end_to_end": 16.7}),
    Row(
        "1080p, threshold + largest",
        ultrasound,
        _HD,
        60,
        largest,
        {"compute": 8, "end_to_end": 16.7},
    ),
    Row("1080p RGB, nothing", endoscopy, _HD, 30, nothing, {"end_to_end": 33}),
    Row("640x480, nothing", ultrasound, _VGA, 60, nothing, {"arrival": 3}),
    Row("512x512, tracked region", ultrasound, _US, 30, tracked, {"compute": 20}),
    Row("512x512, tracked graph cut", ultrasound, _US, 30, cut, {"compute": 20}),
    Row(
        f"256x256, U-Net 32..512 in {precision()}",
        ultrasound,
        (256, 256),
        30,
        network,
        {"compute": 20},
    ),
    Row("512x512, 2 frames per step", ultrasound, _US, 30, slow, {}, 125),
]
