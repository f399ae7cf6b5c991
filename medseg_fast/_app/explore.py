"""The demo page's slider: a threshold moves, the region follows.

The regions of falling thresholds are nested, so one number per voxel (how many of the slider's
thresholds have the voxel in their region) says all of them, and the page needs only that number
for the three sections drawn, however many steps the slider has. `ThresholdExplorer` gives the
voxels in the order in which falling thresholds reach them.
"""

from __future__ import annotations

import base64
import html
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast._app import render

if TYPE_CHECKING:
    from medseg_fast._app.demo import Scan

Array = NDArray[Any]

STEPS = 240  # below 256: a step is stored in a byte
_PANEL_HEIGHT = 320  # pixels of the tallest panel


@dataclass(frozen=True)
class Steps:
    """The regions of the slider's thresholds, highest threshold first."""

    thresholds: Array
    millilitres: Array
    dice: Array  # with the scan's truth
    reached: Array  # uint8, per voxel: how many of the thresholds have it in their region


def steps(scan: Scan) -> Steps:
    """Grow the region of the recipe's seed over its range of thresholds, within its box."""
    recipe = scan.recipe["explorer"]
    box = _box(recipe)
    seed = tuple(i - part.start for i, part in zip(recipe["seed"], box, strict=True))
    image, truth = scan.image[box], scan.truth[box]
    explorer = ms.ThresholdExplorer(image, seed, connectivity=1)
    thresholds = np.linspace(recipe["to"], recipe["from"], STEPS)
    sizes = np.array([explorer.size(t) for t in thresholds])
    order = explorer.voxels(thresholds[-1])
    # A voxel of rank r is inside from the first step on whose region has more than r voxels.
    first = np.searchsorted(sizes, np.arange(len(order)), "right")
    inside = np.zeros(image.shape, np.uint8)
    inside.reshape(-1)[order] = STEPS - first
    reached = np.zeros(scan.image.shape, np.uint8)
    reached[box] = inside
    hits = np.cumsum(np.append(0, truth.reshape(-1)[order]))[sizes]
    return Steps(
        thresholds,
        sizes * float(np.prod(scan.spacing)) / 1000,
        2 * hits / (sizes + np.count_nonzero(scan.truth)),
        reached,
    )


def _box(recipe: dict[str, Any]) -> tuple[slice, ...]:
    return tuple(slice(first, last) for first, last in recipe["box"])


def section(scan: Scan) -> str:
    """The HTML of the slider, its panels and its curve; page.html has the script."""
    found = steps(scan)
    recipe = scan.recipe["explorer"]
    box = np.zeros(scan.image.shape, bool)
    box[_box(recipe)] = True
    panels, data = [], []
    sections = render.sections_of(scan.volume, tuple(recipe["seed"]))
    scale = _PANEL_HEIGHT / max(s.size(scan.image.shape, scan.spacing)[0] for s in sections)
    for part in sections:
        height, width = (round(mm * scale) for mm in part.size(scan.image.shape, scan.spacing))
        picture = render.grey_panel(part.of(scan.image), scan.recipe["window"], (height, width))
        encoded = base64.b64encode(render.png(picture)).decode()
        panels.append(
            f'<figure style="aspect-ratio:{width}/{height};flex:{width}">'
            f'<img src="data:image/png;base64,{encoded}" alt="{part.name} section">'
            f'<canvas width="{2 * width}" height="{2 * height}"></canvas>'
            f"<figcaption>{html.escape(part.caption())}</figcaption></figure>"
        )
        levels = np.ascontiguousarray(part.of(found.reached))
        corners = np.argwhere(part.of(box))
        data.append(
            {
                "rows": levels.shape[0],
                "columns": levels.shape[1],
                "levels": base64.b64encode(levels.tobytes()).decode(),
                "box": [*corners[0].tolist(), *(corners[-1] + 1).tolist()],
            }
        )
    start = int(np.argmin(np.abs(found.thresholds - recipe["start"])))
    values = {
        "panels": data,
        "thresholds": found.thresholds.round(2).tolist(),
        "millilitres": found.millilitres.round(3).tolist(),
        "dice": found.dice.round(4).tolist(),
        "unit": scan.recipe["unit"],
        "colour": "rgb({},{},{})".format(*render.COLOURS[0]),
    }
    # "</" would end the script element.
    text = json.dumps(values, separators=(",", ":")).replace("</", "<\\/")
    return f"""<div class="explorer"><div class="panes">{"".join(panels)}</div>
<div class="slide"><label>threshold
<input type="range" min="0" max="{STEPS - 1}" value="{start}"></label>
<output></output></div>
{_curve(found, scan)}
<script type="application/json">{text}</script></div>"""


def _curve(found: Steps, scan: Scan) -> str:
    """Volume (logarithmic) and Dice over the thresholds, as one SVG."""
    width, height = 1000, 160
    x = np.linspace(0, width, STEPS)
    logs = np.log(np.maximum(found.millilitres, 0.01))
    low, high = logs.min(), max(logs.max(), logs.min() + 1e-9)
    curves = {
        "volume": height - (logs - low) / (high - low) * height,
        "dice": height - found.dice * height,
    }
    lines = "".join(
        f'<polyline class="{name}" points="'
        + " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        + '"></polyline>'
        for name, y in curves.items()
    )
    unit = html.escape(scan.recipe["unit"])
    volumes = f"volume, {_ml(np.exp(low))} to {_ml(np.exp(high))}, logarithmic"
    return f"""<div class="curve">
<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img"
aria-label="Volume and Dice of the region over the threshold">{lines}
<line x1="0" x2="0" y1="0" y2="{height}"></line></svg>
<div class="ends"><span>{found.thresholds[0]:g} {unit}</span>
<span class="key"><i class="volume"></i>{volumes}
<i class="dice"></i>Dice with the outline, 0 to 1</span>
<span>{found.thresholds[-1]:g} {unit}</span></div></div>"""


def _ml(value: float) -> str:
    return f"{value:.2f} ml" if value < 10 else f"{value:,.0f} ml"
