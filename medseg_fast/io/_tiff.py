"""TIFF images and stacks through tifffile.

A stack's pages are planes, or time where the file says so; channels come last. Spacing is read from
ImageJ's fields and from files written here, which keep the whole geometry in their description
(JSON) and the size of a pixel in the resolution tags. Other resolution tags mean print, not space,
and are ignored. Written files are not compressed: every reader takes them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import Volume

# Largest ratio of deflate (both tags) and of LZW (4096 bytes by a 12-bit code).
_RATIOS = {1: 1, 8: 1032, 32946: 1032, 5: 2731}
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "micron": 0.001, "um": 0.001, "µm": 0.001, "\\u00B5m": 0.001}
_UNCOMPRESSED = 1
_KEY = "medseg_fast"


def read(path: Path, max_bytes: int) -> Volume:
    tifffile = _common.need("tifffile")
    size = path.stat().st_size
    with open(path, "rb") as file, _complaints(), tifffile.TiffFile(file) as tiff:
        if len(tiff.series) != 1:
            raise ImageFileError(f"the file holds {len(tiff.series)} images of different kinds")
        series = tiff.series[0]
        if series.dtype is None or series.dtype.kind not in "buif" or series.dtype.itemsize > 8:
            raise ImageFileError(f"TIFF samples of type {series.dtype} are not read")
        wanted = _common.check_size(series.shape, series.dtype.itemsize, max_bytes)
        _check_pages(series, size, wanted)
        array = _common.native(np.asarray(series.asarray()))
        array, axes = _standard(array, series.axes)
        spacing, origin, direction = _geometry(tiff, axes.strip("tc"))
    return Volume(array, spacing, origin, direction, {"format": "TIFF"}, axes=axes)


@contextmanager
def _complaints() -> Iterator[None]:
    """Damage that tifffile only logs, such as a broken chain of pages, is an error here."""
    thread, damage = threading.get_ident(), list[str]()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread and record.levelno >= logging.ERROR:
                damage.append(record.getMessage())

    handler, logger = Handler(), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if damage:
        raise ImageFileError(damage[0])


def _check_pages(series: Any, size: int, wanted: int) -> None:
    """Refuse pages whose data lie outside the file or are fewer than their shape needs."""
    stored = 0
    bits = 0
    ratio: int | None = 1
    for page in series.pages:
        if page is None:
            raise ImageFileError("a page is missing")
        page = page.keyframe if not hasattr(page, "databytecounts") else page
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset < 0 or count < 0 or offset + count > size:
                raise ImageFileError("a page's data lie outside the file")
            stored += count
        compression = int(series.keyframe.compression)
        limit = _RATIOS.get(compression)
        ratio = None if limit is None or ratio is None else max(ratio, limit)
        bits = series.keyframe.bitspersample
    exact = wanted * bits // (8 * series.dtype.itemsize) if bits else wanted
    truncated = series.pages and len(series.pages) < series.size // series.keyframe.size
    if ratio is not None and not truncated and exact > stored * ratio:
        raise ImageFileError(f"the header asks for {exact:,} bytes, the file holds {stored:,}")
    if truncated and wanted > size:  # ImageJ keeps one directory for all planes
        raise ImageFileError(f"the header asks for {wanted:,} bytes, the file holds {size:,}")


def _standard(array: NDArray[Any], axes: str) -> tuple[NDArray[Any], str]:
    """Axes in our order: [t][z]yx[c]; axes of length 1 other than rows and columns are dropped."""
    keep = [k for k, name in enumerate(axes) if name in "YX" or array.shape[k] > 1]
    array = array.reshape([array.shape[k] for k in keep])
    names = "".join(axes[k] for k in keep)
    for letter in "QIR":  # pages of unknown meaning
        if "Z" not in names:
            names = names.replace(letter, "Z", 1)
    names = names.replace("S", "C").lower()
    order = sorted(range(len(names)), key=lambda k: "tzyxc".find(names[k]))
    ordered = "".join(names[k] for k in order)
    if set(ordered) - set("tzyxc") or len(set(ordered)) != len(ordered):
        raise ImageFileError(f"TIFF axes {axes} are not read")
    return np.ascontiguousarray(array.transpose(order)), ordered


def _geometry(tiff: Any, axes: str) -> tuple[Any, Any, Any]:
    for entry in tiff.shaped_metadata or ():
        if isinstance(entry.get(_KEY), dict):
            ours = entry[_KEY]
            return ours.get("spacing"), ours.get("origin"), ours.get("direction")
    fields = tiff.imagej_metadata or {}
    unit = _MILLIMETRES.get(str(fields.get("unit", "")))
    tags = tiff.pages[0].tags
    if unit is None or "XResolution" not in tags or "YResolution" not in tags:
        return None, None, None
    sizes = {"z": float(fields.get("spacing", 0)) * unit}
    for axis, tag in (("y", "YResolution"), ("x", "XResolution")):
        pixels, per = tags[tag].value
        sizes[axis] = unit * per / pixels if pixels else 0.0
    spacing = [sizes[axis] for axis in axes]
    return (spacing if all(0 < s < np.inf for s in spacing) else None), None, None


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    tifffile = _common.need("tifffile")
    array = _common.storable(volume.array)
    color = volume.axes.endswith("c") and array.dtype == np.uint8 and array.shape[-1] in (3, 4)
    axes = volume.axes.upper().replace("C", "S" if color else "C")
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {}
    if volume.has_geometry:
        metadata[_KEY] = {
            "spacing": list(volume.spacing),
            "origin": list(volume.origin),
            "direction": volume.direction.tolist(),
            "unit": "mm",
            "space": "LPS",
        }
        options["resolution"] = (10 / volume.spacing[-1], 10 / volume.spacing[-2])
        options["resolutionunit"] = "CENTIMETER"
    with _common.replacing(path, overwrite) as file:
        tifffile.imwrite(
            file,
            array,
            photometric="rgb" if color else "minisblack",
            planarconfig="contig" if color else None,
            metadata=metadata,
            **options,
        )
