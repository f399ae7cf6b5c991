"""`medseg-fast predict`: from image and model files to a label file, picture and measurements."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app import files, render
from medseg_fast._app.measure import measure
from medseg_fast._app.segment import single, stored

if TYPE_CHECKING:
    from medseg_fast.nn._blocks import Network
    from medseg_fast.nn._optimize._detector import DetectorPlan
    from medseg_fast.nn._optimize._plan import Plan
    from medseg_fast.nn.mask_rcnn import MaskRCNN

STEPS = 100  # calls of `step` in `run` at most: per cent of the windows


@dataclass(frozen=True)
class Job:
    """What `medseg-fast predict` was asked to do: by a model's file, or by that of a plan."""

    inputs: Sequence[Path]
    output: Path
    model: Path | None = None
    plan: Path | None = None
    window: int | tuple[int, ...] | None = None
    overlap: float = 0.5
    mirror: bool = False
    spacing: tuple[float, ...] | None = None
    normalise: str | tuple[float, ...] | None = None
    score: float | None = None
    probabilities: bool = False
    overlay: bool = True
    measurements: bool = True
    contrast: tuple[float, float] | None = None
    force: bool = False
    frame: int | None = None
    channel: int | None = None

    @property
    def file(self) -> Path:
        """Of the model or the plan."""
        path = self.model or self.plan
        assert path is not None
        return path


class _Network(NamedTuple):
    """What was in the file."""

    model: Network | MaskRCNN | Plan | DetectorPlan
    name: str
    channels: int
    ndim: int
    finds_objects: bool = False


def run(job: Job, step: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Do it, and return the measurements file's content.

    Nothing is written before everything has been computed, and each file appears complete or not
    at all. `step` is called at each per cent of the windows.
    """
    likely_path = files.beside(job.output, ".probabilities" + _ending(job.output))
    picture_path = files.beside(job.output, ".overlay.png")
    report_path = files.beside(job.output, ".json")
    wanted = {
        likely_path: job.probabilities,
        picture_path: job.overlay,
        report_path: job.measurements,
    }
    paths = [job.output, *(path for path, chosen in wanted.items() if chosen)]
    files.check_writable(paths, force=job.force, inputs=(*job.inputs, job.file))

    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        seconds[name] = round(time.perf_counter() - start, 6)

    with timed("load model"):
        network = _loaded(job)
    with timed("read"):
        volume = _channels(job, network.channels)
    with timed("predict"):
        if network.finds_objects:
            found = _objects(job, network.model, volume)
        else:
            found = _classes(job, network, volume, _percent(step))
    image = volume if "c" not in volume.axes else volume.like(volume.array[..., 0])
    labelled = image.like(stored(found.labels))
    with timed("measure"):
        regions = measure(labelled.array, image.spacing, image.array)
    report = {
        "inputs": [str(path) for path in job.inputs],
        "output": str(job.output),
        **{
            name: str(path) if chosen else None
            for name, (path, chosen) in zip(
                ("probabilities", "overlay", "measurements"), wanted.items(), strict=True
            )
        },
        "model": str(job.file),
        "network": network.name,
        "classes": found.classes,
        "image": {
            "shape": list(image.array.shape),
            "dtype": str(image.array.dtype),
            "spacing_mm": [float(mm) for mm in image.spacing],
        },
        "regions": regions,
        **({} if found.objects is None else {"objects": found.objects}),
        "seconds": seconds,
        "medseg_fast": ms.__version__,
    }
    with ExitStack() as waiting:  # side files take their places together, after the labels
        if job.overlay:
            with timed("draw"):
                picture = render.overlay(image, labelled.array, window=job.contrast)
                waiting.enter_context(files.replacing(picture_path)).write_bytes(
                    render.png(picture)
                )
        with timed("write"):
            io.write(job.output, labelled, overwrite=job.force)
            if found.likely is not None:
                io.write(likely_path, found.likely, overwrite=job.force)
        if job.measurements:
            text = json.dumps(report, indent=2) + "\n"
            waiting.enter_context(files.replacing(report_path)).write_text(text)
    return report


def _loaded(job: Job) -> _Network:
    """The network; a plan without importing torch."""
    from medseg_fast import nn

    if job.plan is not None:
        plan = nn.load_plan(job.plan)
        shape, name = plan.input_shapes[0], plan.network or "plan"
        if isinstance(plan, nn.DetectorPlan):
            return _Network(plan, name, shape[0], 2, finds_objects=True)
        return _Network(plan, name, shape[1], len(shape) - 2)
    model = nn.load_model(job.file)
    name, channels = model.architecture.network, model.in_channels
    if isinstance(model, nn.mask_rcnn.MaskRCNN):
        return _Network(model, name, channels, 2, finds_objects=True)
    return _Network(model, name, channels, model.ndim)


class _Found(NamedTuple):
    labels: Any
    classes: int
    likely: io.Volume | None = None
    objects: list[dict[str, Any]] | None = None


def _classes(
    job: Job, network: _Network, volume: io.Volume, progress: Callable[[int, int], None]
) -> _Found:
    """What each pixel is, by a network that labels pixels."""
    from medseg_fast import nn

    if job.score is not None:
        raise ValueError(f"{job.file}: finds no objects, so there is no score to ask for")
    model: Any = network.model
    found = nn.predict(
        model,
        volume,
        window=job.window,
        overlap=job.overlap,
        mirror=range(network.ndim) if job.mirror else (),
        spacing=job.spacing,
        normalise=job.normalise,
        output="probabilities" if job.probabilities else "labels",
        progress=progress,
    )
    count = model.classes if job.plan is None else model.output_shapes[0][1]
    if model.metadata.get("structured"):  # patches of a mask
        count = 1
    if job.probabilities:
        return _Found(_most_likely(found.array), count, found)
    return _Found(found.array, count)


def _objects(job: Job, model: Any, volume: io.Volume) -> _Found:
    """A label for each object, and what it is, by a network that finds objects."""
    from medseg_fast import nn

    asked = {
        "a window": job.window,
        "mirroring": job.mirror,
        "a spacing": job.spacing,
        "probabilities": job.probabilities,
    }
    if unknown := [name for name, given in asked.items() if given]:
        raise ValueError(f"{job.file}: finds objects, which knows no {' or '.join(unknown)}")
    intensities: Any = job.normalise
    score = 0.5 if job.score is None else job.score
    found = nn.instances(model, volume, score=score, intensities=intensities)
    objects = [
        {
            "label": label,
            "class": int(kind),
            "score": round(float(score), 4),
            "box_xyxy": [round(float(edge), 2) for edge in box],
        }
        for label, (kind, score, box) in enumerate(
            zip(found.classes, found.scores, found.boxes, strict=True), 1
        )
    ]
    return _Found(found.labels.array, model.classes, objects=objects)


def _ending(path: Path) -> str:
    """Of two parts where the format's ending has two."""
    return path.name[len(files.beside(path, "").name) :]


def _channels(job: Job, channels: int) -> io.Volume:
    """The image as the network wants it: one channel, or several from one file or from several."""
    volumes = [io.read(path) for path in job.inputs]
    if len(volumes) > 1 or channels == 1:
        volumes = [single(volume, job.frame, job.channel) for volume in volumes]
    first = volumes[0]
    if len(volumes) > 1:
        for path, other in zip(job.inputs, volumes, strict=True):
            same = other.spatial_shape == first.spatial_shape
            if not same or not np.allclose(other.affine_lps, first.affine_lps, atol=1e-3):
                raise ValueError(f"{path}: must lie where {job.inputs[0]} lies, pixel by pixel")
        stacked = np.stack([volume.array for volume in volumes], -1)
        first = first.like(stacked, axes=first.axes + "c")
    count = first.array.shape[-1] if "c" in first.axes else 1
    if count != channels:
        raise ValueError(
            f"{job.file}: needs {channels} channels, the image has {count}"
            + (": give one INPUT for each" if count == 1 else "")
        )
    if count == 1 and "c" in first.axes:
        first = first.like(first.array[..., 0])
    return first


def _most_likely(likely: Any) -> Any:
    if likely.shape[-1] == 1:
        return (likely[..., 0] > 0.5).astype(np.uint8)
    return likely.argmax(-1).astype(np.min_scalar_type(likely.shape[-1] - 1))


def _percent(step: Callable[[str], None]) -> Callable[[int, int], None]:
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        while shown < STEPS * done // total:
            shown += 1
            step(f"{done} of {total}")

    return report


def summary(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    took = report["seconds"]["predict"]
    lines = [f"{report['network']}, {report['classes']} classes: {took:.2f} s"]
    for region in report["regions"]:
        size = (
            f"{region['area_mm2']:.1f} mm2"
            if "area_mm2" in region
            else f"{region['volume_mm3'] / 1000:.2f} ml"
        )
        lines.append(f"  label {region['label']}: {size}")
    if not report["regions"]:
        lines.append("  nothing found: all pixels have label 0")
    written = (report[key] for key in ("output", "probabilities", "overlay", "measurements"))
    lines += [f"  wrote {path}" for path in written if path]
    return "\n".join(lines)
