"""NRRD, attached (.nrrd) and, for reading, with the data in one file beside the header (.nhdr).

pynrrd interprets the fields; key/value pairs (free text) are dropped before. Axes: the non-spatial
axis may be the fastest (channels) or the slowest (time), as writers use it. Spaces RAS and LAS are
turned into LPS; spaces that name no patient direction are taken as they are. Written files are
gzip-compressed. A header and its data cannot be replaced in one step: .nhdr is not written.
"""

from __future__ import annotations

import bz2
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import Volume, from_affine, in_plane

_MAX_HEADER = 1 << 20
_TYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, "
    "int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPES = {name: dtype for dtype, names in _TYPES.items() for name in names.split(", ")}
_SPACES = {
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "left-posterior-superior": (1, 1, 1),
    "ras": (-1, -1, 1),
    "las": (1, -1, 1),
    "lps": (1, 1, 1),
}
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "um": 0.001, "µm": 0.001}
_SPATIAL_KINDS = ("domain", "space")


def read(path: Path, max_bytes: int) -> Volume:
    with open(path, "rb") as file:
        head = file.read(_MAX_HEADER)
        header, size = _header(head)
        shape = tuple(int(n) for n in header["sizes"][::-1])
        if len(shape) != header["dimension"] or not 2 <= len(shape) <= 5:
            raise ImageFileError(f"NRRD images with sizes {shape[::-1]} are not read")
        name = header.get("data file", header.get("datafile"))
        if name is None:
            if size is None:
                raise ImageFileError("the header does not end")
            file.seek(size)
            array = _samples(file, path.stat().st_size - size, header, shape, max_bytes)
        else:
            beside = _common.beside(path, name)
            with open(beside, "rb") as data:
                array = _samples(data, beside.stat().st_size, header, shape, max_bytes)
    return _volume(header, array)


def _header(head: bytes) -> tuple[dict[str, Any], int | None]:
    """The fields as pynrrd reads them, and the length of the header if it ends."""
    nrrd = _common.need("nrrd")
    if not head.startswith(b"NRRD000"):
        raise ImageFileError("not a NRRD file: it does not start with NRRD000")
    end = re.search(rb"\r?\n\r?\n", head)
    lines = head[: end.start() if end else len(head)].decode("latin-1").splitlines()
    fields = [line for line in lines if ":=" not in line and not line.startswith("#")]
    with np.errstate(invalid="ignore"):
        header: dict[str, Any] = nrrd.read_header(fields)
    missing = {"dimension", "type", "encoding", "sizes"} - set(header)
    if missing:
        raise ImageFileError(f"the header has no field {', '.join(sorted(missing))}")
    return header, end.end() if end else None


def _samples(
    file: BinaryIO, available: int, header: dict[str, Any], shape: tuple[int, ...], max_bytes: int
) -> NDArray[Any]:
    if header["type"] not in _DTYPES:
        raise ImageFileError(f"NRRD samples of type {header['type']!r} are not read")
    order = {"big": ">", "little": "<"}.get(str(header.get("endian")).lower(), "")
    dtype = np.dtype(order + _DTYPES[header["type"]])
    encoding = header["encoding"].lower()
    text = encoding in ("ascii", "text", "txt")
    if dtype.itemsize > 1 and not order and not text:
        raise ImageFileError("the header has no field endian")
    for _ in range(_number(header, "line skip")):
        line = file.readline(_MAX_HEADER)
        available -= len(line)
        if not line:
            raise ImageFileError("the header skips more lines than the file has")
    skip = _number(header, "byte skip", least=-1)
    compressed = encoding in ("gzip", "gz", "bzip2", "bz2")
    if compressed:
        gzip = encoding.startswith("g")
        # bzip2 has no useful bound of its ratio: only max_bytes limits it.
        _common.check_size(
            shape, dtype.itemsize, max_bytes, available if gzip else None, compressed=True
        )
        source: Any = _common.Inflate(file, _common.GZIP) if gzip else bz2.open(file)
        _common.skip(source, max(skip, 0))
        try:
            array = _common.samples(source, shape, dtype)
        except (EOFError, OSError) as error:  # as bz2 reports damage
            raise ImageFileError(f"the compressed data are damaged ({error})") from None
        if gzip:
            source.finish()
        return array
    if text:  # a digit and a blank per sample
        _common.check_size(shape, dtype.itemsize, max_bytes)
        _common.check_size(shape, 2, 2 * max_bytes, available + 1)
        return np.array(file.read().split(), dtype.newbyteorder("=")).reshape(shape)
    if encoding != "raw":
        raise ImageFileError(f"NRRD encoding {encoding!r} is not read")
    wanted = _common.check_size(shape, dtype.itemsize, max_bytes, available - max(skip, 0))
    file.seek(available - wanted if skip == -1 else skip, 1)
    return _common.samples(file, shape, dtype)


def _number(header: dict[str, Any], field: str, least: int = 0) -> int:
    value = int(header.get(field, header.get(field.replace(" ", ""), 0)))
    if not least <= value < 2**53:
        raise ImageFileError(f"the header gives {field} {value}")
    return value


def _volume(header: dict[str, Any], array: NDArray[Any]) -> Volume:
    ndim = array.ndim
    directions = header.get("space directions")
    kinds = [str(kind).lower() for kind in header.get("kinds", ["???"] * ndim)]
    if directions is not None:
        spatial = [not np.isnan(row).any() for row in directions]
    else:
        spatial = [kind in _SPATIAL_KINDS for kind in kinds]
        if not any(spatial):  # no kinds: three axes of space, then time
            spatial = [axis < 3 for axis in range(ndim)]
    if len(spatial) != ndim or len(kinds) != ndim:
        raise ImageFileError("space directions, kinds and sizes differ in number")
    first, count = spatial.index(True), sum(spatial)
    last = first + count
    if count not in (2, 3) or not all(spatial[first:last]) or first > 1 or ndim - last > 1:
        raise ImageFileError(f"NRRD axes of kinds {kinds} are not read")
    axes = ("t" if ndim > last else "") + "zyx"[3 - count :] + ("c" if first else "")

    spacing, origin, direction = None, None, None
    unit = _unit(header)
    if directions is not None:
        rows = directions[first:last]
        start = np.asarray(header.get("space origin", np.zeros(rows.shape[1])), float)
        if rows.shape[1] not in (2, 3) or start.shape != rows.shape[1:]:
            raise ImageFileError(f"a space of {rows.shape[1]} dimensions is not read")
        affine = np.zeros((3, count + 1))
        affine[: rows.shape[1]] = np.column_stack([*rows, start])
        space = str(header.get("space", "")).lower().removesuffix("-time")
        affine *= unit * np.array(_SPACES.get(space, (1, 1, 1)))[:, None]
        spacing, origin, direction = from_affine(affine)
    elif "spacings" in header:
        stated = np.asarray(header["spacings"], float)[first:last][::-1]
        if len(stated) == count and np.isfinite(stated).all():
            spacing = tuple((np.abs(stated) * unit).tolist())
    return Volume(array, spacing, origin, direction, {"format": "NRRD"}, axes=axes)


def _unit(header: dict[str, Any]) -> float:
    units = {str(unit).strip('"') for unit in header.get("space units", [])}
    known = {_MILLIMETRES[unit] for unit in units if unit in _MILLIMETRES}
    if len(known) > 1:
        raise ImageFileError(f"axes with different units ({', '.join(sorted(units))}) are not read")
    return known.pop() if known else 1.0


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    array = _common.storable(volume.array)
    axes = volume.axes
    spatial = len(volume.spacing)
    names = {value: names.split(", ")[-1] for value, names in _TYPES.items()}
    columns = (volume.direction * volume.spacing).T[::-1]  # x first
    color = axes.endswith("c") and array.dtype == np.uint8 and array.shape[-1] == 3
    channels = ["RGB-color" if color else "vector"] if axes.endswith("c") else []
    time = ["list"] if axes.startswith("t") else []
    lines = [
        "NRRD0004",
        f"type: {names[array.dtype.str[1:]]}",
        f"dimension: {array.ndim}",
        f"sizes: {' '.join(str(n) for n in array.shape[::-1])}",
        f"kinds: {' '.join(channels + ['domain'] * spatial + time)}",
        "endian: little",
        "encoding: gzip",
    ]
    if volume.has_geometry:
        flat = spatial == 2 and in_plane(volume)  # as ITK wants it: two axes in two dimensions
        vectors = [_vector(c[:2] if flat else c) for c in columns]
        vectors = ["none"] * len(channels) + vectors + ["none"] * len(time)
        lines[3:3] = ["space dimension: 2" if flat else "space: left-posterior-superior"]
        lines += [
            f"space directions: {' '.join(vectors)}",
            f"space origin: {_vector(volume.origin[:2] if flat else volume.origin)}",
        ]
    head = "\n".join([*lines, "", ""]).encode("ascii")
    with _common.replacing(path, overwrite) as file:
        file.write(head)
        _common.write_samples(file, array, _common.GZIP)


def _vector(values: Any) -> str:
    return f"({','.join(repr(float(v)) for v in values)})"
