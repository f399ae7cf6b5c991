"""Segmentations in files against the truth in files."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast import io
from medseg_fast._app import files, text
from medseg_fast.metrics import bootstrap_interval, evaluate

_SUMMARISED = "dice jaccard sensitivity precision hausdorff_95_mm average_surface_distance_mm nsd"
_SIZES = ("volume_mm3", "area_mm2")
_READABLE = tuple(io._READERS)


def pairs(pred: Path, truth: Path) -> list[tuple[str, Path, Path]]:
    """Name, prediction and truth of each case: two files, or two folders matched by name.

    Names are compared without endings. A folder that is one DICOM series is one case.
    """
    for path in (pred, truth):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
    found, true = _cases(pred), _cases(truth)
    if found is None or true is None:
        return [(_plain_name(pred), pred, truth)]
    if not true:
        raise ValueError(f"{truth}: no images that can be read")
    missing = sorted(true.keys() - found.keys())
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{pred}: no prediction for {missing[0]}{more}")
    return [(name, found[name], true[name]) for name in sorted(true)]


def _plain_name(path: Path) -> str:
    return files.beside(path, "").name


def _cases(path: Path) -> dict[str, Path] | None:
    """The images of a folder by name; None where the path itself is one case."""
    if not path.is_dir():
        return None
    images = [p for p in path.iterdir() if p.name.lower().endswith(_READABLE)]
    if not images:
        return None if any(path.iterdir()) else {}
    cases: dict[str, Path] = {}
    for image in sorted(images):
        name = _plain_name(image)
        if name in cases:
            raise ValueError(f"{path}: both {cases[name].name} and {image.name} are {name}")
        cases[name] = image
    return cases


def run(
    pred: Path,
    truth: Path,
    *,
    labels: Sequence[int] | None = None,
    tolerance_mm: float = 1.0,
    surfaces: bool = True,
    step: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Evaluate every case; its rows, and over cases the mean of each figure by label."""
    rows = []
    for name, one, other in pairs(pred, truth):
        step(name)
        found, true = io.read(one), io.read(other)
        check_geometry(one, found, other, true)
        figures = evaluate(
            integers(one, found),
            integers(other, true),
            true.spacing,
            labels=labels,
            tolerance_mm=tolerance_mm,
            surfaces=surfaces,
        )
        rows += [{"case": name, **row} for row in figures]
    _warn_of_absent(rows)
    return {
        "pred": str(pred),
        "truth": str(truth),
        "tolerance_mm": tolerance_mm,
        "rows": rows,
        "summary": _summaries(rows),
    }


def _warn_of_absent(rows: list[dict[str, Any]]) -> None:
    """Of a label that was asked for and is nowhere, as its scores are perfect."""
    absent = {row["label"] for row in rows}
    for row in rows:
        if any(row[name] for name in row if name.endswith(_SIZES)):
            absent.discard(row["label"])
    for label in sorted(absent):
        warnings.warn(f"no image has label {label}: its scores mean nothing", stacklevel=3)


def integers(path: Path, volume: io.Volume) -> Any:
    """Labels; files of floats may hold whole numbers."""
    array = volume.array
    if "t" in volume.axes or "c" in volume.axes:
        raise ValueError(f"{path}: labels must have no time or channels, got axes {volume.axes}")
    if array.dtype.kind != "f":
        return array
    whole = array.astype(np.int64) if np.isfinite(array).all() else None
    if whole is None or not np.array_equal(whole, array):
        raise ValueError(f"{path}: labels must be whole numbers")
    return whole


def check_geometry(one: Path, found: io.Volume, other: Path, true: io.Volume) -> None:
    """Shapes must be equal; places in space, too, where both files know them."""
    if found.array.shape != true.array.shape:
        raise ValueError(f"{one}: shape {found.array.shape}, but {other}: {true.array.shape}")
    if not (found.has_geometry and true.has_geometry):
        return
    if not np.allclose(found.spacing, true.spacing, rtol=1e-3):
        sizes = [tuple(round(mm, 4) for mm in v.spacing) for v in (found, true)]
        raise ValueError(f"{one}: voxels of {sizes[0]} mm, but {other}: {sizes[1]} mm")
    # Far corners within a tenth of a voxel of each other.
    limit = 0.1 * min(true.spacing)
    shape = np.array(true.array.shape) - 1
    for corner in (np.zeros(len(shape)), shape):
        a, b = (v.affine_lps @ [*corner, 1] for v in (found, true))
        if np.abs(a - b).max() > limit:
            raise ValueError(f"{one}: lies elsewhere in space than {other}")


def _summaries(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each label and figure the mean over cases and its 95 percent interval."""
    summaries = []
    for label in sorted({row["label"] for row in rows}):
        chosen = [row for row in rows if row["label"] == label]
        summary: dict[str, Any] = {"label": label, "cases": len(chosen)}
        for figure in _SUMMARISED.split():
            values = [row[figure] for row in chosen if figure in row]
            finite = [value for value in values if math.isfinite(value)]
            if values:
                mean, low, high = bootstrap_interval(finite, resamples=2000)
                summary[figure] = {"mean": mean, "low": low, "high": high, "cases": len(finite)}
        summaries.append(summary)
    return summaries


def as_json(report: dict[str, Any]) -> str:
    """The report as JSON text; what is not finite (a distance to nothing) is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        if isinstance(value, list):
            return [plain(each) for each in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(report), indent=2) + "\n"


def as_csv(report: dict[str, Any]) -> str:
    """The rows of all cases as CSV text."""
    stream = StringIO()
    names = list(report["rows"][0]) if report["rows"] else ["case", "label"]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(report["rows"])
    return stream.getvalue()


def summary(report: dict[str, Any]) -> str:
    """The report for a person: rows of a single case, means of several."""
    if len({row["case"] for row in report["rows"]}) > 1:
        table = [["label", "cases", *_names(report["summary"])]]
        for row in report["summary"]:
            cells = [_mean(row[name], row["cases"]) for name in table[0][2:]]
            table.append([str(row["label"]), str(row["cases"]), *cells])
    else:
        table = [["label", *_names(report["rows"])]]
        for row in report["rows"]:
            table.append([str(row["label"]), *(_short(row[name]) for name in table[0][1:])])
    if len(table) == 1:
        return "no label in either image"
    return text.columns(table)


def _mean(figure: dict[str, Any], cases: int) -> str:
    """A mean, its interval, and of how many cases it is where it is not finite in all."""
    mean, low, high = (_short(figure[name]) for name in ("mean", "low", "high"))
    some = "" if figure["cases"] == cases else f", {figure['cases']} of {cases}"
    return f"{mean} ({low} to {high}){some}"


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return [name for name in _SUMMARISED.split() if rows and name in rows[0]]


def _short(value: float) -> str:
    return f"{value:.4g}"
