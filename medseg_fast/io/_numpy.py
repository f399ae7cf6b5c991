"""NumPy arrays (.npy) and, with geometry, archives of them (.npz). Pickled objects are refused."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import Volume

_AXES = {2: "yx", 3: "zyx", 4: "tzyx"}
_SMALL = 1 << 12  # spacing, origin, direction, axes


def read(path: Path, max_bytes: int) -> Volume:
    if path.name.lower().endswith(".npz"):
        return _read_npz(path, max_bytes)
    with open(path, "rb") as file:
        array = _array(file, path.stat().st_size, max_bytes)
    if array.ndim not in _AXES:
        raise ImageFileError(f"the array has shape {array.shape}: 2 to 4 dimensions are read")
    return Volume(array, metadata={"format": "NumPy"}, axes=_AXES[array.ndim])


def _array(file: Any, size: int, max_bytes: int, *, compressed: bool = False) -> NDArray[Any]:
    """One array in .npy format; `size`: bytes of the file, or of its compressed form."""
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ImageFileError(f".npy files of version {version} are not read")
    shape, fortran, dtype = readers[version](file)
    if dtype.kind not in "buifU" or dtype.fields or (dtype.kind != "U" and dtype.itemsize > 8):
        raise ImageFileError(f"arrays of type {dtype} are not read")
    available = size if compressed else size - file.tell()
    _common.check_size(
        shape, dtype.itemsize, max_bytes, available, compressed=compressed, empty=True
    )
    stored = _common.samples(file, shape[::-1] if fortran else shape, dtype)
    return np.ascontiguousarray(stored.T) if fortran else stored


def _read_npz(path: Path, max_bytes: int) -> Volume:
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist()]
        image = "array.npy" if "array.npy" in names else names[0] if len(names) == 1 else None
        if image is None:
            raise ImageFileError(
                f"the archive must hold one array, or one named 'array'; it holds {names[:9]}"
            )

        def member(name: str, limit: int) -> Any:
            if name not in names:
                return None
            info = archive.getinfo(name)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ImageFileError("archives with other compression than deflate are not read")
            with archive.open(info) as data:
                array = _array(data, info.compress_size, limit, compressed=True)
                data.read(1)  # at the end zipfile compares the checksum
                return array

        array = member(image, max_bytes)
        if array.dtype.kind == "U" or array.ndim < 2:
            raise ImageFileError(f"no image: {array.dtype} of shape {array.shape}")
        parts = {key: member(f"{key}.npy", _SMALL) for key in ("spacing", "origin", "direction")}
        axes = member("axes.npy", _SMALL)
    axes = _AXES.get(array.ndim) if axes is None else str(axes)
    return Volume(array, **parts, metadata={"format": "NumPy"}, axes=axes)


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """NumPy holds bool and float16 as they are."""
    if array.dtype.kind not in "buif" or array.dtype.itemsize > 8:
        _common.storable(array)
    return np.ascontiguousarray(array).reshape(array.shape)


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    array = _storable(volume.array)
    if not path.name.lower().endswith(".npz"):
        _common.warn_geometry(path, volume)
        with _common.replacing(path, overwrite) as file:
            np.save(file, array, allow_pickle=False)
        return
    parts: dict[str, Any] = {"array": array, "axes": np.array(volume.axes)}
    if volume.has_geometry:
        parts |= {
            "spacing": np.array(volume.spacing),
            "origin": np.array(volume.origin),
            "direction": volume.direction,
        }
    with (
        _common.replacing(path, overwrite) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, part in parts.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as data:
                np.lib.format.write_array(data, part, allow_pickle=False)
