"""Every way to find edges on one section of a scan: for the demo's page and `medseg-fast edges`.

What there is to show comes from the registry of `detect_edges`; a method that is added there
appears here in its family.
"""

from __future__ import annotations

import base64
import html
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app import files, render
from medseg_fast._app.compare import interleaved
from medseg_fast._app.edge_pictures import Found, Plane, colour_of, pair, sheet
from medseg_fast._app.segment import single
from medseg_fast.edge_detection import EDGE_FAMILIES, EDGE_METHODS, needed_options

if TYPE_CHECKING:
    from medseg_fast._app.demo import Scan

Array = NDArray[Any]

NEAR = 2.0  # mm: how far from the expert's outline an edge still finds it
_SAYS = {
    "pixel attributes": "Differences of neighbouring pixels, thresholded or followed along "
    "their maxima.",
    "deformable templates": "A curve or front that moves until the image holds it.",
    "mathematical morphology": "The highest minus the lowest value in growing boxes, and the "
    "watershed lines of that.",
    "cost functions": "The cheapest way along an outline, and what it costs to reach each pixel.",
    "edge flow": "Each pixel tells on which side its nearest boundary is; where two disagree, "
    "there it is.",
}


def plane_of(volume: io.Volume, planes: tuple[int, ...] | None = None) -> Plane:
    """The section with the most pixels through a voxel, by default the middle of the volume."""
    array = volume.array
    through = planes or tuple(n // 2 for n in array.shape)
    sections = render.sections_of(volume, through)
    best = max(sections, key=lambda section: section.of(array).size)
    rows, columns = best.axes
    spacing = volume.spacing[rows], volume.spacing[columns]
    image = np.ascontiguousarray(best.of(array))
    return Plane(image, spacing, best.caption(), best, _without_margins(image))


def _without_margins(image: Array) -> tuple[slice, slice]:
    """The box around all that is brighter than the ground, and a little more."""
    values = np.nan_to_num(image.astype(np.float64), posinf=0, neginf=0)
    low = values.min(initial=np.inf)
    bright = values > low + 0.08 * (np.percentile(values, 99) - low) if values.size else values > 0
    sides = []
    for axis in (0, 1):
        places = np.flatnonzero(bright.any(axis=1 - axis))
        n, margin = image.shape[axis], image.shape[axis] // 25
        sides.append(
            slice(max(0, int(places[0]) - margin), min(n, int(places[-1]) + margin + 1))
            if places.size
            else slice(0, n)
        )
    return sides[0], sides[1]


def methods(
    names: Sequence[str] = (), options: Mapping[str, Mapping[str, Any]] | None = None
) -> list[tuple[str, str]]:
    """Family and method of those named, else of all for which the options suffice, by family."""
    able = [
        name
        for name in EDGE_METHODS
        if all(option in (options or {}).get(name, {}) for option in needed_options(name))
    ]
    return [
        (family, name)
        for family, members in EDGE_FAMILIES.items()
        for name in members
        if name in (names or able)
    ]


def find(
    plane: Plane,
    names: Sequence[str] = (),
    options: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    truth: Array | None = None,
    seconds: float = 0.0,
    step: Callable[[str], None] = lambda name: None,
) -> list[Found]:
    """Run methods on a plane, all by default, each with its `options`."""
    found = []
    for family, name in methods(names, options):
        step(name)
        given = dict((options or {}).get(name, {}))

        def call(name: str = name, given: dict[str, Any] = given) -> ms.EdgeResult:
            return ms.detect_edges(plane.image, name, spacing=plane.spacing, **given)

        result = call()
        outline = None
        if truth is not None and truth.any():
            true = ms.find_boundaries(truth, mode="inner")
            outline = ms.boundary_f1(result.edges, true, NEAR, spacing=plane.spacing).recall
        time = interleaved({name: call}, seconds)[name]
        found.append(Found(name, family, given, time, result.strength, result.edges, outline))
    return found


def smoothed(names: Sequence[str], sigma: float | None) -> dict[str, dict[str, Any]]:
    """Options that smooth by `sigma` mm, for the methods that smooth."""
    if sigma is None:
        return {}
    given = {}
    for name in names or EDGE_METHODS:
        known = inspect.signature(EDGE_METHODS[name]).parameters
        given[name] = {word: sigma for word in ("sigma", "scale") if word in known}
    return given


# ----- the demo's page


def section(scan: Scan, seconds: float = 0.0) -> str:
    """The scan's edges by every method, as a part of the page."""
    recipe = scan.recipe["edges"]
    plane = plane_of(scan.volume, tuple(scan.recipe["planes"]))
    truth = np.ascontiguousarray(plane.section.of(scan.truth))
    options = smoothed((), recipe["sigma"])
    for name, given in recipe["options"].items():
        options.setdefault(name, {}).update(given)
    found = find(plane, (), options, truth=truth, seconds=seconds)
    families = [family for family in EDGE_FAMILIES if any(f.family == family for f in found)]
    bands = "\n".join(
        _band(scan, plane, family, [f for f in found if f.family == family]) for family in families
    )
    target = html.escape(scan.recipe["target"])
    return f"""<h3>Edges: {_NUMBERS[len(families)]} families</h3>
<p class="soft">One section, {html.escape(plane.caption)}, smoothed by {recipe["sigma"]:g} mm where
a method smooths. Left how steep, right the edges. No method knows of the {target}; the percentage
says how much of its outline has an edge within {NEAR:g} mm.</p>
<div class="edges">
{bands}
</div>"""


_NUMBERS = ("no", "one family of", "two", "three", "four", "five", "six")


def _band(scan: Scan, plane: Plane, family: str, found: Sequence[Found]) -> str:
    red, green, blue = colour_of(family)
    window = tuple(scan.recipe["window"])
    tiles = "\n".join(_tile(scan, plane, one, window) for one in found)
    return f"""<div class="family" style="--family: rgb({red} {green} {blue})">
<header><h4>{html.escape(family)}</h4>
<p class="soft">{html.escape(_SAYS.get(family, ""))}</p></header>
<div class="tiles">
{tiles}
</div></div>"""


def _tile(scan: Scan, plane: Plane, found: Found, window: Any) -> str:
    picture = pair(plane, found, window)
    data = base64.b64encode(render.png(picture)).decode()
    facts = [f"{found.ms:.1f} ms", f"{100 * found.share:.1f} % edges"]
    if found.outline is not None:
        facts.append(f"outline {int(100 * found.outline)} %")
    given = ", ".join(f"{name}={value}" for name, value in found.options.items())
    call = f'detect_edges(image, "{found.method}"{", " if given else ""}{given})'
    return f"""<div title="{html.escape(call)}">
<img src="data:image/png;base64,{data}" width="{picture.width}" height="{picture.height}"
alt="{found.method}: strength and edges" loading=lazy>
<b>{found.method}</b><span>{" · ".join(facts)}</span></div>"""


# ----- medseg-fast edges


@dataclass(frozen=True)
class Job:
    """What `medseg-fast edges` was asked to do."""

    input: Path
    output: Path
    methods: Sequence[str] = ()
    sigma: float | None = None
    points: Sequence[tuple[int, ...]] = ()
    plane: tuple[int, ...] | None = None
    images: bool = False
    window: tuple[float, float] | None = None
    force: bool = False
    frame: int | None = None
    channel: int | None = None

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """Options of each method."""
        given = smoothed(self.methods, self.sigma)
        if self.points:
            wire = {"points": self.points, "closed": len(self.points) > 2}
            given["live_wire"] = {**given.get("live_wire", {}), **wire}
        return given


def run(job: Job, step: Callable[[str], None] = lambda name: None) -> dict[str, Any]:
    """Do it, and return what the JSON file holds; files appear complete or not at all."""
    names = [name for _, name in methods(job.methods, job.options)]
    if job.points and "live_wire" not in names:
        given = ", ".join(job.methods)
        raise ValueError(f"--point: only the method live_wire follows points, got {given}")
    beside = {"json": files.beside(job.output, ".json")}
    for name in names if job.images else ():
        beside[f"{name} strength"] = files.beside(job.output, f".{name}.strength.tif")
        beside[f"{name} edges"] = files.beside(job.output, f".{name}.edges.png")
    files.check_writable([job.output, *beside.values()], force=job.force, inputs=(job.input,))
    volume = single(io.read(job.input), job.frame, job.channel)
    shape = volume.array.shape
    if job.plane is not None and (
        len(job.plane) != len(shape)
        or not all(0 <= i < n for i, n in zip(job.plane, shape, strict=True))
    ):
        raise ValueError(f"--plane: {job.plane} must lie inside the image of shape {shape}")
    plane = plane_of(volume, job.plane)
    found = find(plane, names, job.options, step=step)
    section = [plane.section]
    window = job.window or render.default_window(volume.array, np.zeros(shape, np.uint8), section)
    report: dict[str, Any] = {
        "input": str(job.input),
        "output": str(job.output),
        "section": plane.caption or "the image",
        "shape": list(plane.image.shape),
        "spacing_mm": [float(mm) for mm in plane.spacing],
        "methods": [],
        "threads": ms.get_num_threads(),
        "medseg_fast": ms.__version__,
    }
    for one in found:
        paths = {
            kind: str(beside[f"{one.method} {kind}"]) if job.images else None
            for kind in ("strength", "edges")
        }
        report["methods"].append({**one.as_json(), **paths})
    with ExitStack() as waiting:
        waiting.enter_context(files.replacing(job.output)).write_bytes(
            render.png(sheet(plane, found, window))
        )
        for one in found if job.images else ():
            strength = waiting.enter_context(files.replacing(beside[f"{one.method} strength"]))
            Image.fromarray(one.strength.astype(np.float32)).save(strength)
            edges = waiting.enter_context(files.replacing(beside[f"{one.method} edges"]))
            Image.fromarray(one.edges.view(np.uint8) * 255).save(edges)
        text = json.dumps(report, indent=2) + "\n"
        waiting.enter_context(files.replacing(beside["json"])).write_text(text)
    return report


def summary(report: Mapping[str, Any]) -> str:
    """The report for a person."""
    lines = [f"{report['section']}, {' x '.join(map(str, report['shape']))} pixels"]
    family = ""
    for row in report["methods"]:
        if row["family"] != family:
            family = row["family"]
            lines.append(family)
        lines.append(
            f"  {row['method']:<16} {row['ms']:8.1f} ms  {100 * row['edge_share']:5.1f} % edges"
        )
    lines.append(f"  wrote {report['output']}")
    return "\n".join(lines)
