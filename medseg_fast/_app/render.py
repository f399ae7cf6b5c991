"""Pictures of a segmentation: orthogonal planes in mm, the region filled lightly and outlined.

Pillow resizes and encodes, NumPy does the rest. A voxel is drawn as the rectangle that it is (the
mask is never smoothed), so that thick slices look thick.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medseg_fast._app.measure import centre
from medseg_fast.io import Volume

Array = NDArray[Any]

# Told apart with the usual colour-vision deficiencies, and visible on black, grey and white
# (after Okabe and Ito, "Color Universal Design", 2008, lightened for dark ground).
COLOURS = (
    (255, 176, 0),
    (64, 196, 255),
    (255, 96, 144),
    (64, 216, 144),
    (200, 144, 255),
    (240, 228, 66),
)
TRUTH = (255, 255, 255)
_GROUND = (12, 14, 18)
_INK = (196, 202, 212)
_GAP = 10  # pixels between panels and around them
_CAPTION = 22  # pixels below each panel
_FILL = 0.22  # opacity of the fill; the outline is opaque
# Hounsfield windows (lower, upper) of a radiologist's desk, by the region's mean.
_LUNG, _SOFT, _BONE = (-1350, 150), (-160, 240), (-500, 1300)


def overlay(
    volume: Volume,
    labels: Array,
    *,
    truth: Array | None = None,
    window: tuple[float, float] | None = None,
    planes: tuple[int, ...] | None = None,
    width: int = 1080,
    height: int = 560,
) -> Image.Image:
    """Draw the image with the outlines of its regions.

    A 3D image gives an axial, a coronal and a sagittal section of the patient, whatever the order
    and sense of the array's axes: as radiologists look at them, the patient's right and front at
    the left, front and head at the top. The caption of a section is its index into the array.

    Parameters
    ----------
    volume : Volume
        2D (one panel, as it is stored) or 3D (three panels).
    labels : ndarray
        Of the array's shape. Each label other than 0 has its colour.
    truth : ndarray, optional
        A mask whose outline is drawn thin and white.
    window : (float, float), optional
        Intensities drawn black and white. Default: see `default_window`.
    planes : tuple of int, optional
        Index of the section across each axis. Default: through the regions' centre.
    width, height : int
        Limits of the panels together, in pixels. All have the same scale in mm.

    Returns
    -------
    picture : PIL.Image.Image
        RGB.
    """
    image, spacing = volume.array, volume.spacing
    sections = sections_of(volume, planes or centre(labels != 0))
    shown = window or default_window(image, labels, sections)
    sizes = [section.size(image.shape, spacing) for section in sections]
    scale = min(
        (width - _GAP * (len(sizes) + 1)) / sum(w for _, w in sizes),
        (height - _CAPTION - 2 * _GAP) / max(h for h, _ in sizes),
    )
    sheet = _Sheet(sizes, scale)
    for section, (rows, columns) in zip(sections, sizes, strict=True):
        shape = max(1, round(rows * scale)), max(1, round(columns * scale))
        grey = np.asarray(grey_panel(section.of(image), shown, shape))
        panel = _paint(grey, _resized_labels(section.of(labels), shape))
        if truth is not None:
            panel[_outline(_resized_labels(section.of(truth), shape), 1)] = TRUTH
        sheet.add(panel, section)
    if volume.has_geometry:
        sheet.scale_bar(scale)
    return sheet.picture


@dataclass(frozen=True)
class Section:
    """One panel: how to cut it from the array and turn it for the eye."""

    name: str
    index: tuple[int | slice, ...]
    axes: tuple[int, int]  # array axes of the panel's rows and columns
    flipped: tuple[bool, bool]  # whether rows and columns run against the array
    letters: str = ""  # the patient's side at the panel's left and at its top

    def of(self, array: Array) -> Array:
        """Cut the section out of the volume."""
        plane = array[self.index]
        plane = plane.T if self.axes[0] > self.axes[1] else plane
        return plane[tuple(slice(None, None, -1 if f else 1) for f in self.flipped)]

    def size(self, shape: tuple[int, ...], spacing: tuple[float, ...]) -> tuple[float, float]:
        """Height and width in mm."""
        rows, columns = self.axes
        return shape[rows] * spacing[rows], shape[columns] * spacing[columns]

    def caption(self) -> str:
        if len(self.index) == 2:
            return ""
        index = ", ".join(":" if isinstance(i, slice) else str(i) for i in self.index)
        return f"{self.name}  [{index}]"


def sections_of(volume: Volume, planes: tuple[int, ...]) -> list[Section]:
    """The sections of a volume through one voxel."""
    everything = slice(None)
    if len(planes) == 2:
        return [Section("", (everything, everything), (0, 1), (False, False))]
    # Array axis along x (to the left), y (to the back) and z (to the head) of the patient: the
    # assignment with the largest direction cosines, right also for oblique scans.
    cosines = volume.direction
    left, back, head = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(cosines[i, axis]) for i, axis in enumerate(axes)),
    )
    against = {axis: bool(cosines[i, axis] < 0) for i, axis in enumerate((left, back, head))}
    known = volume.metadata.get("orientation_known", volume.has_geometry)

    def section(name: str, across: int, rows: int, columns: int, letters: str) -> Section:
        index = tuple(planes[a] if a == across else everything for a in range(3))
        # The head is drawn at the top, although z grows towards it.
        flipped = against[rows] != (rows == head), against[columns]
        return Section(name, index, (rows, columns), flipped, letters if known else "")

    return [
        section("axial", head, back, left, "RA"),
        section("coronal", back, head, left, "RS"),
        section("sagittal", left, head, back, "AS"),
    ]


def default_window(image: Array, labels: Array, sections: list[Section]) -> tuple[float, float]:
    """Lower and upper intensity to show.

    CT (values that reach from air, below -500, to tissue): a lung, soft-tissue or bone window after
    the regions' mean. Other images: from the 1st to the 99.5th percentile of the sections drawn,
    without the constant background.
    """
    values = np.concatenate([section.of(image).ravel() for section in sections])
    inside = np.concatenate([section.of(labels).ravel() for section in sections]) != 0
    values, inside = values[np.isfinite(values)].astype(np.float64), inside[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    if values.min() < -500 and -200 < np.percentile(values, 99) < 5000:
        mean = float(np.mean(values[inside])) if inside.any() else 0.0
        return _LUNG if mean < -300 else _BONE if mean > 250 else _SOFT
    ground = values.min()
    body = values[values > ground]
    low, high = np.percentile(body, [1, 99.5]) if body.size else (ground, ground + 1)
    low = min(low, ground + (high - ground) / 10)
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1)


def png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def grey_panel(plane: Array, window: tuple[float, float], shape: tuple[int, int]) -> Image.Image:
    """A section as 8-bit grey of `shape` pixels: `window` stretched over 0 to 255, NaN black."""
    low, high = window
    with np.errstate(invalid="ignore"):
        scaled = (plane.astype(np.float64) - low) * (255 / (high - low))
        small = np.nan_to_num(scaled).clip(0, 255).astype(np.uint8)
    rows, columns = shape
    return Image.fromarray(small).resize((columns, rows), Image.Resampling.BILINEAR)


def _resized_labels(plane: Array, shape: tuple[int, int]) -> Array:
    """Palette index + 1 of each pixel of the panel, 0 outside."""
    colours = np.where(plane != 0, (plane.astype(np.int64) - 1) % len(COLOURS) + 1, 0)
    rows, columns = shape
    small = Image.fromarray(colours.astype(np.uint8))
    return np.asarray(small.resize((columns, rows), Image.Resampling.NEAREST))


def _outline(colours: Array, width: int) -> Array:
    """Pixels of a region that have another label within `width` rows or columns."""
    edge = np.zeros(colours.shape, bool)
    padded = np.pad(colours, width, mode="edge")
    rows, columns = colours.shape
    for step in range(1, width + 1):
        for down, right in ((step, 0), (-step, 0), (0, step), (0, -step)):
            top, left = width + down, width + right
            edge |= colours != padded[top : top + rows, left : left + columns]
    return np.asarray(edge & (colours != 0))


def _paint(grey: Array, colours: Array) -> Array:
    palette = np.array([(0, 0, 0), *COLOURS], np.float64)
    inside = colours != 0
    painted = np.repeat(grey[..., None], 3, -1).astype(np.float64)
    painted[inside] = (1 - _FILL) * painted[inside] + _FILL * palette[colours[inside]]
    edge = _outline(colours, 2)
    painted[edge] = palette[colours[edge]]
    return painted.round().astype(np.uint8)


class _Sheet:
    """The panels side by side with captions, and a scale bar."""

    def __init__(self, sizes: list[tuple[float, float]], scale: float) -> None:
        self.tallest = max(max(1, round(h * scale)) for h, _ in sizes)
        width = sum(max(1, round(w * scale)) for _, w in sizes) + _GAP * (len(sizes) + 1)
        self.picture = Image.new("RGB", (width, self.tallest + _CAPTION + 2 * _GAP), _GROUND)
        self.draw = ImageDraw.Draw(self.picture)
        self.font = ImageFont.load_default(13)
        self.left = _GAP

    def add(self, panel: Array, section: Section) -> None:
        rows, columns = panel.shape[:2]
        top = _GAP + (self.tallest - rows) // 2
        self.picture.paste(Image.fromarray(panel), (self.left, top))
        self.draw.text((self.left, top + rows + 5), section.caption(), _INK, self.font)
        if section.letters:
            at_left, at_top = section.letters[0], section.letters[1]
            halo: dict[str, Any] = {
                "fill": _INK,
                "font": self.font,
                "stroke_width": 2,
                "stroke_fill": _GROUND,
            }
            self.draw.text((self.left + 6, top + rows // 2), at_left, anchor="lm", **halo)
            self.draw.text((self.left + columns // 2, top + 5), at_top, anchor="mt", **halo)
        self.left += columns + _GAP

    def scale_bar(self, scale: float) -> None:
        """A bar of 1, 2 or 5 times a power of ten mm, about a tenth of the sheet, bottom right."""
        target = self.picture.width / 10 / scale
        power = 10.0 ** math.floor(math.log10(target))
        length = max(step * power for step in (1, 2, 5) if step * power <= target)
        right, bottom = self.picture.width - _GAP, self.picture.height - _GAP
        left = right - round(length * scale)
        self.draw.line((left, bottom, right, bottom), _INK, 2)
        text = f"{length:g} mm"
        self.draw.text((left - 6, bottom + 3), text, _INK, self.font, anchor="rs")
