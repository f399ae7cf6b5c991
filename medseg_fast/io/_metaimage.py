"""MetaImage, attached (.mha) and, for reading, with the data in one file beside the header (.mhd).

The header is lines of ``Key = Value``; no kept library reads it without a C++ core, so it is read
here. Positions are LPS as ITK writes them, whatever AnatomicalOrientation says, as ITK does too.
Written files are zlib-compressed. A 2D image whose plane is not z = 0 becomes one plane in 3D.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import Volume, from_affine, in_plane, to_file_order

_MAX_HEADER = 1 << 16
_DTYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",  # 32 bits in files, as MetaIO has it
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items() if name not in ("MET_LONG", "MET_ULONG")}


def read(path: Path, max_bytes: int) -> Volume:
    with open(path, "rb") as file:
        header = _header(file)
        if header["ElementDataFile"].upper() == "LOCAL":
            available = path.stat().st_size - file.tell()
            array = _samples(file, available, header, max_bytes)
        else:
            beside = _common.beside(path, header["ElementDataFile"])
            with open(beside, "rb") as data:
                array = _samples(data, beside.stat().st_size, header, max_bytes)
    return _volume(header, array)


def _header(file: BinaryIO) -> dict[str, str]:
    """The fields up to ElementDataFile, the last one; the file is left behind it."""
    header: dict[str, str] = {}
    left = _MAX_HEADER
    while "ElementDataFile" not in header:
        line = file.readline(left)
        left -= len(line)
        key, equals, value = line.decode("latin-1").partition("=")
        if not equals or left <= 0:
            raise ImageFileError("not a MetaImage: a header line is not 'Key = Value'")
        header[key.strip()] = value.strip()
    missing = {"NDims", "DimSize", "ElementType"} - set(header)
    if missing:
        raise ImageFileError(f"the header has no field {', '.join(sorted(missing))}")
    if header.get("ObjectType", "Image") != "Image":
        raise ImageFileError(f"MetaIO objects of type {header['ObjectType']!r} are not images")
    return header


def _true(header: dict[str, str], *keys: str) -> bool:
    return any(header.get(key, "False")[:1] in "Tt1" for key in keys)


def _samples(
    file: BinaryIO, available: int, header: dict[str, str], max_bytes: int
) -> NDArray[Any]:
    ndim = int(header["NDims"])
    shape = tuple(int(n) for n in header["DimSize"].split()[::-1])
    if len(shape) != ndim or not 2 <= ndim <= 4:
        raise ImageFileError(f"MetaImages with DimSize {header['DimSize']} are not read")
    channels = int(header.get("ElementNumberOfChannels", 1))
    if channels != 1:
        shape += (channels,)
    if header["ElementType"].removesuffix("_ARRAY") not in _DTYPES:
        raise ImageFileError(f"MetaImage samples of type {header['ElementType']} are not read")
    msb = _true(header, "BinaryDataByteOrderMSB", "ElementByteOrderMSB")
    dtype = np.dtype(_DTYPES[header["ElementType"].removesuffix("_ARRAY")])
    dtype = dtype.newbyteorder(">" if msb else "<")
    if "BinaryData" in header and not _true(header, "BinaryData"):  # text, one number a sample
        _common.check_size(shape, dtype.itemsize, max_bytes)
        _common.check_size(shape, 2, 2 * max_bytes, available + 1)
        return np.array(file.read().split(), dtype.newbyteorder("=")).reshape(shape)
    skip = int(header.get("HeaderSize", 0))
    if not -1 <= skip < 2**53:
        raise ImageFileError(f"the header gives HeaderSize {skip}")
    if _true(header, "CompressedData"):
        _common.check_size(shape, dtype.itemsize, max_bytes, available, compressed=True)
        start = file.tell()
        magic = file.read(2)
        file.seek(start)
        wbits = _common.GZIP if magic == _common.GZIP_MAGIC else _common.ZLIB
        source = _common.Inflate(file, wbits)
        array = _common.samples(source, shape, dtype)
        source.finish()
        return array
    wanted = _common.check_size(shape, dtype.itemsize, max_bytes, available - max(skip, 0))
    file.seek(available - wanted if skip == -1 else skip, 1)
    return _common.samples(file, shape, dtype)


def _numbers(header: dict[str, str], *keys: str, count: int) -> NDArray[np.float64] | None:
    """The first of the synonymous fields that is there."""
    for key in keys:
        if key in header:
            values = np.array([float(v) for v in header[key].split()])
            if values.shape != (count,) or not np.isfinite(values).all():
                raise ImageFileError(f"the header gives {key} {header[key]}")
            return values
    return None


def _volume(header: dict[str, str], array: NDArray[Any]) -> Volume:
    ndim = int(header["NDims"])
    channels = array.ndim > ndim
    spatial = min(ndim, 3)
    spacing = _numbers(header, "ElementSpacing", "ElementSize", count=ndim)
    offset = _numbers(header, "Offset", "Position", "Origin", count=ndim)
    matrix = _numbers(header, "TransformMatrix", "Orientation", "Rotation", count=ndim * ndim)
    axes = ("t" if ndim == 4 else "") + "zyx"[3 - spatial :] + ("c" if channels else "")
    if spacing is None:
        return Volume(array, metadata={"format": "MetaImage"}, axes=axes)
    # A row of the matrix is the direction of one file axis.
    columns = np.eye(ndim) if matrix is None else matrix.reshape(ndim, ndim).T
    affine = np.zeros((3, spatial + 1))
    affine[:spatial, :spatial] = (columns * np.abs(spacing))[:spatial, :spatial]
    affine[:spatial, spatial] = 0.0 if offset is None else offset[:spatial]
    sizes, origin, direction = from_affine(affine, np.abs(spacing)[:spatial])
    metadata: dict[str, Any] = {"format": "MetaImage"}
    if ndim == 4:
        metadata["time_step"] = float(spacing[3])
    return Volume(array, sizes, origin, direction, metadata, axes=axes)


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    array = _common.storable(volume.array)
    spacing, direction = to_file_order(volume)
    flat = "z" not in volume.axes
    if flat and "t" not in volume.axes and in_plane(volume):
        spatial = 2
    else:
        spatial = 3
        if flat:
            array = np.expand_dims(array, volume.axes.index("y"))
    ndim = spatial + volume.axes.startswith("t")
    matrix = np.eye(ndim)
    matrix[:spatial, :spatial] = direction[:spatial, :spatial]
    shape = array.shape[:-1] if volume.axes.endswith("c") else array.shape
    step = [float(volume.metadata.get("time_step", 1.0))] if ndim > spatial else []
    fields = {
        "ObjectType": "Image",
        "NDims": ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "TransformMatrix": _text(matrix.T.ravel()),
        "Offset": _text([*volume.origin[:spatial], *[0.0] * len(step)]),
        "ElementSpacing": _text([*spacing[:spatial], *step]),
        "DimSize": " ".join(str(n) for n in shape[::-1]),
        "ElementNumberOfChannels": array.shape[-1] if volume.axes.endswith("c") else 1,
        "ElementType": _NAMES[array.dtype.str[1:]],
    }
    if not volume.has_geometry:
        del fields["TransformMatrix"], fields["Offset"], fields["ElementSpacing"]
    head = "".join(f"{key} = {value}\n" for key, value in fields.items())
    with _common.replacing(path, overwrite) as file:
        file.write(head.encode("ascii"))
        place = file.tell()
        line = "CompressedDataSize = {:<20}\nElementDataFile = LOCAL\n"
        file.write(line.format(0).encode("ascii"))
        start = file.tell()
        _common.write_samples(file, array, _common.ZLIB)
        size = file.tell() - start
        file.seek(place)
        file.write(line.format(size).encode("ascii"))


def _text(values: Any) -> str:
    return " ".join(repr(float(v)) for v in values)
