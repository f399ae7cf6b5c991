"""NIfTI-1 and NIfTI-2 in one file (.nii, .nii.gz).

nibabel interprets the header; samples go through `_common`, which checks sizes first. The affine is
chosen as ITK does: the sform if its code is 1 (scanner) or there is no qform, else the qform, and
the qform also where only the sform is sheared. Without either, axes are taken as LPS. Where ITK
keeps pixdim although the sform has another scale, the sform's scale counts here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import LPS_TO_RAS, Volume, from_affine, to_file_order

_MILLIMETRES = {1: 1000.0, 2: 1.0, 3: 0.001}  # metre, millimetre, micrometre
_VECTOR = 1007  # NIFTI_INTENT_VECTOR


def read(path: Path, max_bytes: int) -> Volume:
    nifti1, nifti2 = _common.need("nibabel.nifti1"), _common.need("nibabel.nifti2")
    size = path.stat().st_size
    with open(path, "rb") as file:
        compressed = file.read(2) == _common.GZIP_MAGIC
        file.seek(0)
        source: Any = _common.Inflate(file, _common.GZIP) if compressed else file
        start = source.read(348)
        kind = next(
            (k for k in (b"n+1", b"n+2", b"ni1", b"ni2") if k in (start[344:347], start[4:7])), b""
        )
        if kind in (b"ni1", b"ni2"):
            raise ImageFileError(
                "NIfTI in two files (.hdr and .img) is not read: convert it to .nii"
            )
        if not kind:
            raise ImageFileError("not a NIfTI file: its header has no magic number")
        cls = nifti1.Nifti1Header if kind == b"n+1" else nifti2.Nifti2Header
        start += source.read(cls.template_dtype.itemsize - len(start))
        if len(start) < cls.template_dtype.itemsize:
            raise ImageFileError("the header is cut off")
        header = cls(start, check=False)
        shape, dtype, channels = _layout(header)
        offset = float(header["vox_offset"]) or len(start) + 4.0
        if not len(start) <= offset < 2**53 or offset % 1:
            raise ImageFileError(f"the header puts the data at byte {offset}")
        _common.check_size(
            shape,
            dtype.itemsize,
            max_bytes,
            size - (0 if compressed else int(offset)),
            compressed=compressed,
        )
        if compressed:
            _common.skip(source, int(offset) - len(start))
        else:
            file.seek(int(offset))
        array = _common.samples(source, shape, dtype)
        if compressed:
            source.finish()
    return _volume(header, array, channels)


def _layout(header: Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape as stored, slowest axis first; dtype of a sample; interleaved samples a pixel or 0."""
    ndim = int(header["dim"][0])
    if not 2 <= ndim <= 7:
        raise ImageFileError(f"NIfTI images of {ndim} dimensions are not read")
    shape = tuple(int(n) for n in header["dim"][1 : ndim + 1])
    if any(n != 1 for n in shape[5:]):
        raise ImageFileError(f"NIfTI images of more than 5 dimensions are not read: {shape}")
    dtype = header.get_data_dtype()
    channels = 0
    if dtype.fields:  # RGB, RGBA
        channels = len(dtype.fields)
        dtype = np.dtype((np.uint8, ()))
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        raise ImageFileError(f"NIfTI samples of type {dtype} are not read")
    stored = shape[4::-1] + ((channels,) if channels else ())
    return stored, dtype, channels


def _volume(header: Any, array: NDArray[Any], channels: int) -> Volume:
    spatial = min(int(header["dim"][0]), 3)
    axes = "zyx"[3 - spatial :] + ("c" if channels else "")
    extra = array.ndim - len(axes)  # (v, t) in front of the spatial axes, or (t)
    if extra == 2:
        if channels and array.shape[0] > 1:
            raise ImageFileError("NIfTI vectors of colours are not read")
        array = array[0] if channels else np.moveaxis(array, 0, -1)
        axes += "" if channels else "c"
        if axes.endswith("c") and array.shape[-1] == 1 and int(header["intent_code"]) != _VECTOR:
            array, axes = array[..., 0], axes[:-1]
    if extra:
        array, axes = (array[0], axes) if array.shape[0] == 1 else (array, "t" + axes)
    array = np.ascontiguousarray(array)

    slope, intercept = header.get_slope_inter()
    rescaled = slope is not None and (slope, intercept) != (1, 0) and not channels
    stored = array.dtype
    if rescaled:
        array = _common.rescale(array, slope, intercept)
    affine, sizes, known = _affine(header)
    spacing, origin, direction = from_affine(affine[:, [*range(spatial), 3]], sizes[:spatial])
    metadata = {"format": "NIfTI", "stored_dtype": str(stored), "orientation_known": known}
    if rescaled:
        metadata |= {"rescale_slope": float(slope), "rescale_intercept": float(intercept)}
    if axes[0] == "t":
        metadata["time_step"] = float(header["pixdim"][4])
    return Volume(array, spacing, origin, direction, metadata, axes=axes)


def _affine(header: Any) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """(3 x 4 matrix from file indices to LPS mm, pixdim in mm, whether the file orients itself)."""
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    sizes = np.abs(np.asarray(header["pixdim"][1:4], float))
    s_code, q_code = int(header["sform_code"]), int(header["qform_code"])
    affine = None
    if s_code > 0:
        affine = np.vstack([header["srow_x"], header["srow_y"], header["srow_z"]]).astype(float)
    if q_code > 0 and (affine is None or s_code != 1 or not _orthogonal(affine)):
        affine = np.asarray(header.get_qform(), float)[:3]
    if affine is not None:
        affine *= LPS_TO_RAS[:, None]
        return affine * unit, sizes * unit, True
    spatial = min(int(header["dim"][0]), 3)
    good = (sizes > 0) & np.isfinite(sizes)
    if not good[:spatial].all():
        warnings.warn(
            f"no pixel size for axes {good.tolist()}: taken as 1 mm",
            _common.GeometryWarning,
            stacklevel=5,
        )
    sizes = np.where(good, sizes, 1.0)
    return np.hstack([np.diag(sizes), np.zeros((3, 1))]) * unit, sizes * unit, False


def _orthogonal(affine: NDArray[np.float64]) -> bool:
    columns = affine[:, :3]
    norms = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or not (norms > 0).all():
        return False
    unit = columns / norms
    return bool(np.allclose(unit.T @ unit, np.eye(3), atol=1e-3))


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    array = _common.storable(volume.array)
    axes = volume.axes
    if axes.endswith("c"):  # NIfTI keeps vectors in dim[5], slowest of all
        array = np.ascontiguousarray(np.moveaxis(array, -1, 0))
        if "t" not in axes:
            array = array[:, None]
    shape = array.shape[::-1]
    if axes.endswith("c") and "z" not in axes:
        raise ValueError("write: NIfTI takes channels only with 3D images; use .nrrd, .mha or .png")
    if axes.startswith("t") and "z" not in axes:
        array = array[:, None]  # dim[3] is space, dim[4] time
        shape = array.shape[::-1]
    two = max(shape) > 32767  # int16 in NIfTI-1
    module = _common.need("nibabel.nifti2" if two else "nibabel.nifti1")
    header = (module.Nifti2Header if two else module.Nifti1Header)(endianness="<")
    header.set_data_dtype(array.dtype.newbyteorder("="))
    header.set_data_shape(shape)
    spacing, direction = to_file_order(volume)
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing * LPS_TO_RAS[:, None]
    affine[:3, 3] = volume.origin * LPS_TO_RAS
    code = 1 if volume.has_geometry else 0
    header.set_sform(affine, code)
    if _orthogonal(affine[:3]):
        header.set_qform(affine, code)
    header["pixdim"][1:4] = spacing
    if axes.startswith("t"):
        header["pixdim"][4] = float(volume.metadata.get("time_step", 1.0))
    if axes.endswith("c"):
        header["intent_code"] = _VECTOR
    header.set_xyzt_units("mm", "sec")
    header["magic"] = b"n+2" if two else b"n+1"
    if two:
        header["magic"] = b"n+2\0\r\n\x1a\n"
    header["vox_offset"] = header.template_dtype.itemsize + 4
    head = header.binaryblock + bytes(4)  # no extensions
    wbits = _common.GZIP if path.name.lower().endswith(".gz") else None
    with _common.replacing(path, overwrite) as file:
        _common.write_samples(file, array, wbits, head)
