"""The measurements of labels in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast import io
from medseg_fast._app import text
from medseg_fast._app.evaluate import check_geometry, integers
from medseg_fast._app.segment import single
from medseg_fast.measure import Measurements, measure


def run(labels: Path, image: Path | None, **options: Any) -> Measurements:
    """Measure the labels of a file, with the intensities of another."""
    volume = io.read(labels)
    numbers = integers(labels, volume)
    values = None
    if image is not None:
        scan = single(io.read(image))
        check_geometry(labels, volume, image, scan)
        values = np.asarray(scan.array)
    return measure(numbers, values, volume.spacing, **options)


def summary(table: Measurements) -> str:
    """The table's main columns for a person."""
    names = [name for name in _SHOWN if name in table.columns]
    rows = [
        [f"{value:.4g}" for value in line] for line in zip(*(table[n] for n in names), strict=True)
    ]
    if not rows:
        return "no label in the image"
    return text.columns([names, *rows])


_SHOWN = """label voxels volume_mm3 area_mm2 surface_mm2 perimeter_mm sphericity circularity
    long_axis_mm short_axis_mm max_diameter_mm intensity_mean intensity_std""".split()
