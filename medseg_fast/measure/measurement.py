"""The table of measurements: every label's size, shape, place, intensities and texture, in mm."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _cell_surface, _checks
from medseg_fast._cpu import core
from medseg_fast.measure._levels import MOST_LEVELS, discretised
from medseg_fast.measure._table import STATISTICS, LabelTable
from medseg_fast.measure.neighbourhoods import ngldm, ngldm_features, ngtdm, ngtdm_features
from medseg_fast.measure.texture import glcm, glcm_features
from medseg_fast.measure.zones import (
    gldzm,
    gldzm_features,
    glrlm,
    glrlm_features,
    glszm,
    glszm_features,
)

Array = NDArray[Any]

_TEXTURE_LEVELS = 256  # of integers by default: time and memory grow with their square


class Measurements:
    """A table with a row for each label, by columns: ``table["volume_mm3"]``.

    ``columns`` are arrays whose first axis is the label; those of several values (a place, both
    ends of a diameter) have more axes.
    """

    def __init__(self, columns: dict[str, Array]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["label"])

    def __getitem__(self, name: str) -> Array:
        return self.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __repr__(self) -> str:
        return f"<Measurements: {len(self)} labels, {len(self.columns)} columns>"

    def rows(self) -> list[dict[str, Any]]:
        """A dict for each label of numbers and lists of numbers, None for what is not finite."""
        values = {name: _plain(column) for name, column in self.columns.items()}
        return [{name: column[i] for name, column in values.items()} for i in range(len(self))]

    def to_json(self, path: str | Path | None = None) -> str:
        """The rows as JSON text, also written to a file."""
        import json

        text = json.dumps(self.rows(), indent=2) + "\n"
        return _written(text, path)

    def to_csv(self, path: str | Path | None = None) -> str:
        """The rows as CSV text, also written to a file; several values become several columns."""
        import csv
        from io import StringIO

        flat: dict[str, list[Any]] = {}
        for name, column in self.columns.items():
            for index in np.ndindex(column.shape[1:]):
                title = "-".join(map(str, (name, *index)))
                flat[title] = _plain(column[(slice(None), *index)])
        stream = StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(flat)
        writer.writerows(zip(*flat.values(), strict=True))
        return _written(stream.getvalue(), path)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        Path(path).write_text(text)
    return text


def _plain(column: Array) -> list[Any]:
    """Nested lists of numbers, as JSON has them."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [number(value) for value in column.tolist()]


def label_table(
    op: str, labels: Any, image: Any, spacing: Any
) -> tuple[LabelTable, tuple[float, ...]]:
    """The labels of a 2D or 3D mask or label image, checked."""
    array = _checks.as_array(op, labels, "labels")
    if array.dtype.kind not in "bui":
        raise TypeError(f"{op}: labels must be bool or integer, got {array.dtype}")
    if array.ndim not in (2, 3):
        raise ValueError(f"{op}: labels must have 2 or 3 dimensions, got shape {array.shape}")
    values = None if image is None else _checks.image(op, image)
    if values is not None and values.shape != array.shape:
        raise ValueError(f"{op}: image must have shape {array.shape}, got {values.shape}")
    sizes = _checks.spacing(op, spacing, array.ndim)
    return LabelTable(array, values, sizes), sizes


def measure(
    labels: ArrayLike,
    image: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    *,
    bin_width: float | None = None,
    bins: int | None = None,
    texture: bool = False,
) -> Measurements:
    """Measure every label of a segmentation.

    Parameters
    ----------
    labels : array_like
        2D or 3D label image (integer, 0 and below are outside) or mask (bool, label 1).
    image : array_like, optional
        The segmented image, for intensities; NaN is left out of them.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    bin_width, bins : float and int, optional
        Width of the grey levels of histogram and texture, counted from each label's minimum, or
        their number. Without them floats get 32 levels; integers keep their steps of 1, or those of
        the smallest whole width, the same for all labels, that gives none more than 4096 levels
        (texture: 256). Texture depends on it: state it, such as 25 for CT, where results are to be
        compared.
    texture : bool, optional
        Add the IBSI's 95 features of grey levels: their co-occurrence ``glcm_*``, runs ``glrlm_*``,
        zones ``glszm_*`` and ``gldzm_*``, and neighbourhoods ``ngtdm_*`` and ``ngldm_*``.

    Returns
    -------
    table : Measurements
        A row for each label, ascending: ``table["volume_mm3"]``, ``rows()``, ``to_csv()``,
        ``to_json()``. Places are in mm from the centre of the first voxel, or indices where they
        say so. Columns:

        - ``label``, ``voxels``, ``volume_mm3`` (voxels), ``box`` (first and last index),
          ``extent_mm`` of the box, ``centroid_mm``, ``centroid_index``, ``euler_number``;
        - of a marching-cubes mesh: ``mesh_volume_mm3``, ``surface_mm2``,
          ``surface_to_volume_per_mm``, ``compactness_1``, ``compactness_2``,
          ``spherical_disproportion``, ``sphericity``, ``asphericity``, ``volume_density_box``,
          ``surface_density_box``, ``volume_density_ellipsoid``;
        - of the voxels' covariance: ``major_axis_mm``, ``minor_axis_mm``, ``least_axis_mm``,
          ``elongation``, ``flatness``, ``orientation`` (unit vector of the major axis);
        - between outer faces of voxels: ``max_diameter_mm``; in the plane where it is largest
          ``long_axis_mm`` (RECIST), ``short_axis_mm`` (the longest chord of the outline's convex
          hull across it), ``axes_plane``, ``long_axis_index``, ``short_axis_index`` (both ends,
          row and column);
        - with an image ``intensity_*`` (mean, variance, skewness, kurtosis less 3, median, min,
          p10, p90, max, interquartile_range, range, deviations, energy, ...),
          ``integrated_intensity``, ``centre_of_mass_shift_mm``, ``histogram_entropy``,
          ``histogram_uniformity``, ``histogram_mode`` (a grey level), ``histogram`` (voxels per
          level; all rows as long as the longest).

        In 2D ``area_mm2``, ``contour_area_mm2``, ``perimeter_mm``, ``circularity`` in the place of
        the mesh's, and no ``least_axis_mm``, ``flatness``, ``max_diameter_mm`` and ``axes_plane``.

    Raises
    ------
    TypeError
        If the labels are not bool or integer, or the image's dtype is not supported.
    ValueError
        If they are not 2D or 3D, shapes differ, the image is infinite inside a label, `spacing`,
        `bin_width` or `bins` does not fit, or `bin_width` gives more than 4096 levels.

    Notes
    -----
    Three compiled passes over the volume for all labels at once, on all threads, and one more for
    intensities: moments in integers, cells between voxels (the mesh is never built), rows of the
    labels' convex hulls. Extra memory: 2 kB per label in 3D; with an image about 30 bytes per voxel
    inside labels. The mesh's
    figures, intensity statistics and texture equal the IBSI's reference values of the digital
    phantom [1]_; volume, centroid and box SimpleITK's ``LabelShapeStatisticsImageFilter``.

    References
    ----------
    .. [1] A. Zwanenburg et al., "The image biomarker standardization initiative", Radiology 295
       (2020) 328-338.
    .. [2] E. A. Eisenhauer et al., "New response evaluation criteria in solid tumours: revised
       RECIST guideline (version 1.1)", Eur. J. Cancer 45 (2009) 228-247.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> table = ms.measure.measure([[[0, 1, 1], [0, 1, 1]]], spacing=(5, 0.5, 0.5))
    >>> table["volume_mm3"].tolist(), table["long_axis_mm"].round(3).tolist()
    ([5.0], [1.118])
    """
    op = "measure"
    if bin_width is not None and bins is not None:
        raise ValueError(f"{op}: bin_width and bins exclude each other")
    if bin_width is not None and not float(_checks.number(op, "bin_width", bin_width)) > 0:
        raise ValueError(f"{op}: bin_width must be positive, got {bin_width!r}")
    if bins is not None:
        bins = _checks.integer(op, "bins", bins, 1, MOST_LEVELS)
    table, sizes = label_table(op, labels, image, spacing)
    columns = place(table)
    columns["euler_number"] = table.column("euler_number")
    columns |= (_shape if table.ndim == 3 else _outline)(table)
    columns |= _axes(table)
    columns |= _diameters(table, sizes)
    if table.image is not None:
        columns |= _intensities(table, columns["centroid_mm"], columns.get("mesh_volume_mm3"))
        columns |= _levels(table, bin_width, bins, texture)
    return Measurements(columns)


def place(t: LabelTable) -> dict[str, Array]:
    """What the box and the sums tell."""
    return {
        "label": t.labels,
        "voxels": t.sizes,
        "area_mm2" if t.ndim == 2 else "volume_mm3": t.column("area"),
        "box": np.stack([t.boxes[:, 0], t.boxes[:, 1] - 1], axis=1),
        "extent_mm": (t.boxes[:, 1] - t.boxes[:, 0]) * t.spacing,
        "centroid_mm": t.column("centroid"),
        "centroid_index": t.first / np.maximum(t.sizes, 1)[:, None],
    }


def _shape(t: LabelTable) -> dict[str, Array]:
    """Figures of the mesh of each 3D label."""
    cells = t.cells.copy()
    # Cells wholly inside are not counted one by one: eight corners each, and every voxel has eight.
    corners = np.bitwise_count(np.arange(256, dtype=np.uint16)).astype(np.int64)
    cells[:, 255] = (8 * t.sizes - cells[:, :255] @ corners[:255]) // 8
    volume = cells @ _cell_surface.volumes() * np.prod(t.spacing)
    surface = cells @ _cell_surface.areas(t.spacing.tolist())
    box = (t.boxes[:, 1] - t.boxes[:, 0]) * t.spacing
    sides = 2 * (box[:, 0] * box[:, 1] + box[:, 0] * box[:, 2] + box[:, 1] * box[:, 2])
    compact = 36 * math.pi * volume**2 / surface**3
    ellipsoid = math.pi / 6 * np.prod(4 * np.sqrt(_principal(t)[0]), axis=1)
    return {
        "mesh_volume_mm3": volume,
        "surface_mm2": surface,
        "surface_to_volume_per_mm": surface / volume,
        "compactness_1": volume / (math.sqrt(math.pi) * surface**1.5),
        "compactness_2": compact,
        "spherical_disproportion": compact ** (-1 / 3),
        "sphericity": compact ** (1 / 3),
        "asphericity": compact ** (-1 / 3) - 1,
        "volume_density_box": volume / np.prod(box, axis=1),
        "surface_density_box": surface / sides,
        "volume_density_ellipsoid": _ratio(volume, ellipsoid),
    }


def _outline(t: LabelTable) -> dict[str, Array]:
    """Figures of the outline of each 2D label, which passes between pixels."""
    cells = t.cells
    corners = np.array([0, 1, 1, 4, 1, 4, 4, 7, 1, 4, 4, 7, 4, 7, 7, 8]) / 8  # eighths inside
    corners[[0b0110, 0b1001]] = 2 / 8  # two corners apart
    full = (4 * t.sizes - cells @ [code.bit_count() for code in range(16)]) // 4
    area = (cells @ corners + full) * np.prod(t.spacing)
    length = cells @ _cell_surface.areas(t.spacing.tolist())
    return {
        "contour_area_mm2": area,
        "perimeter_mm": length,
        "circularity": 4 * math.pi * area / length**2,
    }


def _principal(t: LabelTable) -> tuple[Array, Array]:
    """Variances along the principal axes, descending, and the first axis as a unit vector.

    Of a sample, over n - 1 voxels: so are the IBSI's reference values.
    """
    sample = t.sizes / np.maximum(t.sizes - 1, 1)
    values, vectors = np.linalg.eigh(t.column("covariance") * sample[:, None, None])
    first = vectors[:, :, -1]
    # Of two opposite directions the one whose largest part is positive.
    largest = np.take_along_axis(first, np.abs(first).argmax(1)[:, None], axis=1)
    return np.clip(values[:, ::-1], 0, None), first * np.sign(largest)


def _axes(t: LabelTable) -> dict[str, Array]:
    variance, direction = _principal(t)
    lengths = 4 * np.sqrt(variance)
    columns = {"major_axis_mm": lengths[:, 0], "minor_axis_mm": lengths[:, 1]}
    if t.ndim == 3:
        columns["least_axis_mm"] = lengths[:, 2]
    columns["elongation"] = _ratio(lengths[:, 1], lengths[:, 0])
    if t.ndim == 3:
        columns["flatness"] = _ratio(lengths[:, 2], lengths[:, 0])
    return {**columns, "orientation": direction}


def _ratio(part: Array, whole: Array) -> Array:
    """NaN where the whole is 0: of a single voxel or a line."""
    ratio: Array = np.divide(part, whole, out=np.full(len(part), np.nan), where=whole != 0)
    return ratio


def _diameters(t: LabelTable, spacing: tuple[float, ...]) -> dict[str, Array]:
    out = np.zeros((t.count, 12))
    core.diameters(t.numbers, list(spacing), out)
    found = out[t.places]
    solid = t.ndim == 3
    return {
        **({"max_diameter_mm": found[:, 0]} if solid else {}),
        "long_axis_mm": found[:, 1],
        "short_axis_mm": found[:, 2],
        **({"axes_plane": found[:, 3].astype(np.int64)} if solid else {}),
        "long_axis_index": found[:, 4:8].reshape(-1, 2, 2),
        "short_axis_index": found[:, 8:12].reshape(-1, 2, 2),
    }


def _intensities(t: LabelTable, centroid: Array, mesh: Array | None) -> dict[str, Array]:
    image = t.image
    assert image is not None
    columns = {f"intensity_{name}": t.statistic(name) for name in STATISTICS if name != "count"}
    shift = np.linalg.norm(_centre_of_mass(t, image) - centroid, axis=1)
    # The IBSI's: of the mesh's volume, not of the voxels'.
    size = mesh if mesh is not None else t.column("area")
    return {
        **columns,
        "integrated_intensity": size * columns["intensity_mean"],
        "centre_of_mass_shift_mm": shift,
    }


def _centre_of_mass(t: LabelTable, image: Array) -> Array:
    """Mean place of each label's voxels by intensity, in mm; NaN where that is not finite."""
    sums = np.zeros((t.count, 1 + t.ndim))
    core.weighted_sums(t.numbers, image, sums)
    with np.errstate(all="ignore"):
        return np.asarray(sums[t.places, 1:] / sums[t.places, :1] * t.spacing)


def _width(t: LabelTable, width: float | None, bins: int | None, most: int) -> float | None:
    """The width that is given, or for integers one that gives no label more than `most` levels."""
    assert t.image is not None
    if width is not None or bins is not None or t.image.dtype.kind == "f":
        return width
    return int(t.statistic("range").max(initial=0)) // most + 1


def _levels(
    t: LabelTable, bin_width: float | None, bins: int | None, texture: bool
) -> dict[str, Array]:
    counts, rows = [], []
    widths = [_width(t, bin_width, bins, most) for most in (MOST_LEVELS, _TEXTURE_LEVELS)]
    for row in range(len(t)):
        part = t.values[t.starts[row] : t.starts[row + 1]]
        values = discretised("measure", part, widths[0], bins)
        count = np.bincount(values)[1:]
        counts.append(count)
        share = count[count > 0] / max(count.sum(), 1)
        features = {
            "histogram_entropy": float(-(share * np.log2(share)).sum()) + 0.0,
            "histogram_uniformity": float((share**2).sum()),
            "histogram_mode": int(count.argmax()) + 1 if count.size else 0,
        }
        if texture:
            inside = t.numbers[t.slices(row)] == t.places[row]
            levels = np.zeros(inside.shape, np.uint16)
            if widths[0] != widths[1]:
                values = discretised("measure", part, widths[1], bins)
            levels[inside] = values
            for family, found in (
                ("glcm", glcm_features(glcm(levels))),
                ("glrlm", glrlm_features(glrlm(levels))),
                ("glszm", glszm_features(glszm(levels))),
                ("gldzm", gldzm_features(gldzm(levels, mask=inside))),
                ("ngtdm", ngtdm_features(ngtdm(levels))),
                ("ngldm", ngldm_features(ngldm(levels))),
            ):
                features |= {f"{family}_{name}": value for name, value in found.items()}
        rows.append(features)
    longest = max((len(count) for count in counts), default=0)
    names = rows[0] if rows else ()
    return {
        **{name: np.array([features[name] for features in rows]) for name in names},
        "histogram": np.array(
            [np.pad(count, (0, longest - len(count))) for count in counts], np.int64
        ).reshape(len(t), longest),
    }
