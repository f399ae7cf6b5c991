"""Pictures of edges: how steep and where, in the colour of the method's family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_fast._app import render
from medseg_fast.edge_detection import EDGE_FAMILIES

Array = NDArray[Any]

_PANEL = 300  # pixels of a panel's longer side
_GAP = 8
_FULL = 0.6  # of the strongest: drawn in the family's full colour
_GROUND, _INK = (12, 14, 18), (196, 202, 212)


@dataclass(frozen=True)
class Plane:
    """One section of a scan, turned for the eye."""

    image: Array
    spacing: tuple[float, float]
    caption: str
    section: render.Section
    shown: tuple[slice, slice]  # without the empty surroundings


@dataclass(frozen=True)
class Found:
    """What one method found on a plane."""

    method: str
    family: str
    options: dict[str, Any]
    ms: float
    strength: Array = field(repr=False)
    edges: Array = field(repr=False)
    outline: float | None = None  # share of the expert's outline that has an edge near it

    @property
    def share(self) -> float:
        """Part of the pixels that are edges."""
        return float(np.mean(self.edges)) if self.edges.size else 0.0

    def as_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "family": self.family,
            "options": self.options,
            "ms": round(self.ms, 3),
            "edge_pixels": int(np.count_nonzero(self.edges)),
            "edge_share": round(self.share, 6),
        }


def colour_of(family: str) -> tuple[int, int, int]:
    return render.COLOURS[list(EDGE_FAMILIES).index(family) % len(render.COLOURS)]


def _shape(plane: Plane, longest: int) -> tuple[int, int]:
    shape = plane.image[plane.shown].shape
    height, width = (n * mm for n, mm in zip(shape, plane.spacing, strict=True))
    scale = longest / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def strength_panel(plane: Plane, found: Found, longest: int = _PANEL) -> Image.Image:
    """How steep: black, the family's colour, white at the 99.7th percentile."""
    values = np.nan_to_num(found.strength.astype(np.float64), posinf=0, neginf=0)
    some = values[values > 0]
    # Boundaries one pixel wide are few: their brightest are not the image's brightest.
    rank = 99.7 if some.size > values.size / 3 else 90
    high = float(np.percentile(some, rank)) if some.size else 1.0
    rows, columns = _shape(plane, longest)
    small = Image.fromarray((values[plane.shown] / high).clip(0, 1).astype(np.float32))
    level = np.asarray(small.resize((columns, rows), Image.Resampling.BILINEAR))[..., None]
    colour = np.array(colour_of(found.family), np.float64)
    dark, bright = colour * level / _FULL, colour + (255 - colour) * (level - _FULL) / (1 - _FULL)
    painted = np.where(level < _FULL, dark, bright)
    return Image.fromarray(painted.clip(0, 255).round().astype(np.uint8))


def edges_panel(
    plane: Plane, found: Found, window: tuple[float, float], longest: int = _PANEL
) -> Image.Image:
    """The edges in the family's colour over the dimmed image."""
    shape = _shape(plane, longest)
    grey = np.asarray(render.grey_panel(plane.image[plane.shown], window, shape), np.float64)
    painted = np.repeat(grey[..., None], 3, -1) * 0.6
    size = shape[1], shape[0]
    edges = Image.fromarray(found.edges[plane.shown].astype(np.uint8))
    drawn = np.asarray(edges.resize(size, Image.Resampling.NEAREST)) != 0
    painted[drawn] = colour_of(found.family)
    return Image.fromarray(painted.clip(0, 255).round().astype(np.uint8))


def pair(plane: Plane, found: Found, window: tuple[float, float]) -> Image.Image:
    """Strength and edges side by side."""
    left, right = strength_panel(plane, found), edges_panel(plane, found, window)
    both = Image.new("RGB", (left.width + right.width + _GAP // 2, left.height))
    both.paste(left, (0, 0))
    both.paste(right, (left.width + _GAP // 2, 0))
    return both


def sheet(plane: Plane, found: Sequence[Found], window: tuple[float, float]) -> Image.Image:
    """All methods on one picture, a row of pairs for each family, three pairs wide."""
    across, caption, head = 3, 24, 40
    pictures = [(f, pair(plane, f, window)) for f in found]
    wide, high = pictures[0][1].size
    families = [f for f in EDGE_FAMILIES if any(p[0].family == f for p in pictures)]
    groups = [[p for p in pictures if p[0].family == family] for family in families]
    rows = [-(-len(group) // across) for group in groups]
    width = across * (wide + _GAP) + _GAP
    picture = Image.new(
        "RGB", (width, sum(head + r * (high + caption) for r in rows) + _GAP), (12, 14, 18)
    )
    draw, top = ImageDraw.Draw(picture), 0
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    for family, group, count in zip(families, groups, rows, strict=True):
        draw.text((_GAP, top + 12), family, colour_of(family), large)
        for i, (one, both) in enumerate(group):
            left = _GAP + i % across * (wide + _GAP)
            y = top + head + i // across * (high + caption)
            picture.paste(both, (left, y))
            draw.text(
                (left, y + high + 3), f"{one.method}   {one.ms:.1f} ms", (196, 202, 212), small
            )
        top += head + count * (high + caption)
    return picture
