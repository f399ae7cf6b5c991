"""From a file to a mask file, its picture and its measurements."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app import files, render
from medseg_fast._app.measure import measure
from medseg_fast._methods import Method

Array = NDArray[Any]


STEPS = 5  # calls of `step` in `run` at most


@dataclass(frozen=True)
class Job:
    """What `medseg-fast segment` was asked to do."""

    input: Path
    output: Path
    method: Method
    options: Mapping[str, Any] = field(default_factory=dict)
    open_radius: float = 0  # mm
    close_radius: float = 0  # mm
    min_voxels: int = 0
    largest: bool = False
    fill_holes: bool = False
    overlay: bool = True
    measurements: bool = True
    window: tuple[float, float] | None = None
    force: bool = False
    frame: int | None = None
    channel: int | None = None


def run(job: Job, step: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Do it, and return the measurements file's content.

    Nothing is written before everything has been computed, and each file appears complete or not
    at all. `step` is called with the name of each step as it begins.
    """
    picture_path = files.beside(job.output, ".overlay.png")
    report_path = files.beside(job.output, ".json")
    wanted = [job.output]
    wanted += [picture_path] if job.overlay else []
    wanted += [report_path] if job.measurements else []
    files.check_writable(wanted, force=job.force, inputs=(job.input,))

    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        step(name)
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 6)

    with timed("read"):
        volume = single(io.read(job.input), job.frame, job.channel)
        image = volume.array
    with timed("segment"):
        labels, found = job.method.run(image, **job.method.arguments(job.options, volume.spacing))
        labels = refined(labels, job, volume.spacing)
    with timed("measure"):
        regions = measure(labels, volume.spacing, image)
    report = {
        "input": str(job.input),
        "output": str(job.output),
        "overlay": str(picture_path) if job.overlay else None,
        "measurements": str(report_path) if job.measurements else None,
        "method": job.method.name,
        "options": dict(job.options),
        "open_radius_mm": job.open_radius,
        "close_radius_mm": job.close_radius,
        "min_voxels": job.min_voxels,
        "largest": job.largest,
        "fill_holes": job.fill_holes,
        "found": found,
        "image": {
            "shape": list(image.shape),
            "dtype": str(image.dtype),
            "spacing_mm": [float(mm) for mm in volume.spacing],
        },
        "regions": regions,
        "seconds": seconds,
        "threads": ms.get_num_threads(),
        "medseg_fast": ms.__version__,
    }
    with ExitStack() as waiting:  # side files take their places together, after the mask
        if job.overlay:
            with timed("draw"):
                picture = render.overlay(volume, labels, window=job.window)
                waiting.enter_context(files.replacing(picture_path)).write_bytes(
                    render.png(picture)
                )
        with timed("write"):
            io.write(job.output, volume.like(stored(labels)), overwrite=job.force)
        if job.measurements:
            text = json.dumps(report, indent=2) + "\n"
            waiting.enter_context(files.replacing(report_path)).write_text(text)
    return report


def single(volume: io.Volume, frame: int | None = None, channel: int | None = None) -> io.Volume:
    """One grey image of a volume with time or channels.

    Colours become their luminance (Rec. 709) unless a channel is chosen; of several frames one
    must be.
    """
    array, axes = volume.array, volume.axes
    if "t" in axes:
        array = array[_chosen("frame", frame, array.shape[0])]
    elif frame is not None:
        raise ValueError("--frame: the image has no time axis")
    if "c" in axes:
        if channel is None and array.shape[-1] in (3, 4) and array.dtype.kind == "u":
            weights = np.array([0.2126, 0.7152, 0.0722], np.float32)
            array = np.rint(array[..., :3] @ weights).astype(array.dtype)
        else:
            array = array[..., _chosen("channel", channel, array.shape[-1])]
    elif channel is not None:
        raise ValueError("--channel: the image has no channels")
    return volume if array is volume.array else volume.like(np.ascontiguousarray(array))


def _chosen(name: str, index: int | None, length: int) -> int:
    if index is None and length == 1:
        return 0
    if index is None or not 0 <= index < length:
        given = "none was chosen" if index is None else f"got {index}"
        raise ValueError(f"--{name} must be 0 to {length - 1} for this image, {given}")
    return index


def refined(labels: Array, job: Job, spacing: tuple[float, ...] | None = None) -> Array:
    """The mask opened, closed, without small parts, all but the largest, holes, as asked."""
    radii = (job.open_radius, job.close_radius)
    if not (any(radii) or job.min_voxels or job.largest or job.fill_holes):
        return labels
    if labels.dtype != np.bool_:
        raise ValueError(
            "--open-radius, --close-radius, --min-voxels, --largest and --fill-holes need a mask, "
            f"{job.method.name} gives labels"
        )
    if job.open_radius:
        labels = _grown(~_grown(~labels, job.open_radius, spacing), job.open_radius, spacing)
    if job.close_radius:
        labels = ~_grown(~_grown(labels, job.close_radius, spacing), job.close_radius, spacing)
    if job.min_voxels:
        labels = ms.remove_small_objects(labels, max_size=job.min_voxels - 1)
    if job.largest:
        labels = ms.largest_component(labels)
    return ms.fill_holes(labels) if job.fill_holes else labels


def _grown(mask: Array, radius: float, spacing: tuple[float, ...] | None) -> Array:
    """All voxels whose centres are within `radius` mm of the mask: its dilation by a ball.

    Distances take the same time for any radius. What lies outside the image is no part of it.
    """
    near: Array = ms.distance_transform_edt(~mask, spacing) <= radius * (1 + 1e-9)
    return near


def stored(labels: Array) -> Array:
    """The labels in the smallest unsigned type that holds them."""
    if labels.dtype == np.bool_:
        return labels.view(np.uint8)
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))


def summary(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    lines = [
        f"{report['method']}: {report['seconds']['segment'] * 1e3:.1f} ms"
        f" on {report['threads']} thread{'s' * (report['threads'] > 1)}"
    ]
    lines += [f"  {name} {value}" for name, value in report["found"].items()]
    for region in report["regions"][:_SHOWN]:
        size = (
            f"{region['area_mm2']:.1f} mm2"
            if "area_mm2" in region
            else f"{region['volume_mm3'] / 1000:.2f} ml"
        )
        extent = " x ".join(f"{mm:.1f}" for mm in region["extent_mm"])
        lines.append(f"  label {region['label']}: {size}, {extent} mm")
    if not report["regions"]:
        lines.append("  nothing found: the mask is empty")
    if len(report["regions"]) > _SHOWN:
        lines.append(f"  and {len(report['regions']) - _SHOWN} more")
    written = (report[key] for key in ("output", "overlay", "measurements"))
    lines += [f"  wrote {path}" for path in written if path]
    return "\n".join(lines)


_SHOWN = 8  # regions listed on a terminal
