"""DICOM: one file, or a folder with the files of a series, through pydicom.

Planes are sorted by their position along the normal of the image plane, never by file name or
instance number. What would make a stack wrong (several series, sizes or orientations, positions
that repeat, missing planes, uneven distances) is an error; ``strict=False`` makes the best of it
with a warning. Rescale slope and intercept are applied. JPEG 2000 and RLE are decoded with the `io`
extra, baseline JPEG by Pillow; other kinds need a plug-in of pydicom, and the error names them.

DICOM is not written. The preamble of a file, which may hold anything, is neither kept nor used.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io import _common, _jpeg
from medseg_fast.io._common import GeometryWarning, ImageFileError
from medseg_fast.io.volume import Volume

_DICOMDIR = "1.2.840.10008.1.3.10"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_ANGLE = 1e-3  # largest difference of direction cosines between planes of one stack
_UNEVEN = 0.01  # largest deviation of a distance between planes, relative to their median
_SAME_PLACE = 1e-3  # mm
# Largest ratio of run-length coding: 128 equal bytes by two.
_RATIOS = {"1.2.840.10008.1.2.5": 64}


class Series(NamedTuple):
    """One series of a folder, as `dicom_series` lists them."""

    uid: str
    modality: str
    images: int
    shape: tuple[int, int]


@dataclass
class _Frame:
    """One plane: its header, its place, and how its stored values become real ones."""

    path: Path
    header: Any
    index: int
    slope: float
    intercept: float
    spacing: tuple[float, float] | None = None
    placed: bool = False
    position: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    orientation: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 3)))  # x, y

    @property
    def kind(self) -> tuple[Any, ...]:
        """What must agree within a stack, besides the orientation."""
        h = self.header
        stored = (h.get("SamplesPerPixel", 1), h.get("BitsAllocated"), h.get("PixelRepresentation"))
        return (int(h.Rows), int(h.Columns), self.spacing, *stored)


class _Clamped(io.BufferedReader):
    """A file that never allocates more than it holds, whatever length an element claims."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = path.stat().st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self._size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def is_dicom(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _load(path: Path, *, pixels: bool) -> Any:
    pydicom = _common.need("pydicom")
    with _Clamped(path) as file:
        file.seek(132)  # past the preamble and the magic, which is_dicom has seen
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == _DEFLATED:
            raise ImageFileError(f"{path.name}: deflated DICOM, of unbounded size, is not read")
        file.seek(0)
        return pydicom.dcmread(file, stop_before_pixels=not pixels)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Say which file of a folder is damaged."""
    try:
        yield
    except (ImageFileError, ImportError, OSError):
        raise
    except Exception as error:
        raise ImageFileError(f"{path.name} is damaged ({error})") from error


def _scan(folder: Path) -> dict[str, list[tuple[Path, Any]]]:
    """Headers of the image files of a folder by series UID. Other files are passed over."""
    found: dict[str, list[tuple[Path, Any]]] = {}
    for path in sorted(folder.iterdir()):
        if not path.is_file() or not is_dicom(path):
            continue
        with _naming(path):
            header = _load(path, pixels=False)
        kind = header.file_meta.get("MediaStorageSOPClassUID")
        if kind != _DICOMDIR and "Rows" in header and "Columns" in header:
            found.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((path, header))
    return found


def dicom_series(folder: str | Path) -> list[Series]:
    """The series whose images lie in a folder (not in folders below it), most images first.

    Their `uid` is what ``read(folder, series=uid)`` takes.
    """
    listed = [
        Series(
            uid,
            str(items[0][1].get("Modality", "")),
            len(items),
            (int(items[0][1].Rows), int(items[0][1].Columns)),
        )
        for uid, items in _scan(Path(folder)).items()
    ]
    return sorted(listed, key=lambda s: -s.images)


def read(path: Path, max_bytes: int, series: str | None = None, strict: bool = True) -> Volume:
    if path.is_dir():
        items = _choose(path, series)
    else:
        items = [(path, _load(path, pixels=False))]
        if "Rows" not in items[0][1]:
            raise ImageFileError("the file holds no image")
    frames = [frame for item in items for frame in _frames(*item)]
    complain = _complainer(strict)
    flat = len(frames) == 1 and not path.is_dir()
    placed = all(f.placed for f in frames)
    if not placed and len(items) > 1:
        raise ImageFileError("images without position and orientation cannot be stacked")
    spacing: tuple[float, ...] | None = None
    origin: tuple[float, ...] | None = None
    direction: NDArray[np.float64] | None = None
    if placed:
        frames = _alike(frames, complain)
        frames, spacing, origin, direction = _stack(frames, complain)
        if flat:
            spacing, direction = spacing[1:], direction[:, 1:]
    else:
        spacing = frames[0].spacing
    array = _pixels(frames, max_bytes)
    axes = "" if flat else "z" if placed else "t" if len(frames) > 1 else ""
    if not axes:
        array = array[0]
    axes += "yx" + ("c" if array.ndim > len(axes) + 2 else "")
    return Volume(array, spacing, origin, direction, _metadata(frames), axes=axes)


def _choose(folder: Path, series: str | None) -> list[tuple[Path, Any]]:
    found = _scan(folder)
    if not found:
        raise ImageFileError("the folder holds no DICOM images")
    if series is None and len(found) > 1:
        listed = ", ".join(
            f"{uid or '(no UID)'} ({len(items)} {items[0][1].get('Modality', '')} images)"
            for uid, items in sorted(found.items(), key=lambda item: -len(item[1]))[:20]
        )
        raise ImageFileError(f"the folder holds {len(found)} series; pass series=: {listed}")
    if series is not None and series not in found:
        raise ImageFileError(f"the folder holds no series {series!r}")
    return found[next(iter(found)) if series is None else series]


def _complainer(strict: bool) -> Any:
    def complain(message: str) -> None:
        if strict:
            raise ImageFileError(f"{message}; strict=False reads it all the same")
        warnings.warn(message, GeometryWarning, stacklevel=6)

    return complain


def _frames(path: Path, header: Any) -> Iterator[_Frame]:
    """The planes of one file, with the place that the file or its functional groups give."""
    count = int(header.get("NumberOfFrames") or 1)
    if count < 1 or count * 64 > path.stat().st_size * 1032:
        raise ImageFileError(f"the header of {path.name} gives {count} frames")
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    each = header.get("PerFrameFunctionalGroupsSequence") or []
    offsets = header.get("GridFrameOffsetVector")  # radiotherapy dose
    for index in range(count):
        groups = [g for g in (each[index] if index < len(each) else None, shared, header) if g]
        slope = _value(groups, "PixelValueTransformationSequence", "RescaleSlope")
        intercept = _value(groups, "PixelValueTransformationSequence", "RescaleIntercept")
        if slope is None:
            slope = header.get("DoseGridScaling")
        frame = _Frame(
            path,
            header,
            index,
            _number("RescaleSlope", 1.0 if slope is None else slope),
            _number("RescaleIntercept", 0.0 if intercept is None else intercept),
        )
        position = _value(groups, "PlanePositionSequence", "ImagePositionPatient")
        orientation = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing")
        spacing = spacing or header.get("ImagerPixelSpacing")
        if spacing:
            rows, columns = _vector("PixelSpacing", spacing, 2).tolist()
            if not (rows > 0 and columns > 0):
                raise ImageFileError(f"{path.name} gives PixelSpacing {spacing}")
            frame.spacing = (rows, columns)
        if orientation and spacing and position and (count == 1 or each or offsets):
            frame.placed = True
            frame.position = _vector("ImagePositionPatient", position, 3)
            frame.orientation = _directions(_vector("ImageOrientationPatient", orientation, 6))
            if offsets and not each:
                normal = np.cross(*frame.orientation)
                frame.position = frame.position + normal * (
                    _number("GridFrameOffsetVector", offsets[index])
                    - _number("GridFrameOffsetVector", offsets[0])
                )
        yield frame


def _value(groups: Sequence[Any], sequence: str, keyword: str) -> Any:
    """An attribute from the frame's own group, the shared one, or the file itself."""
    for group in groups:
        item = (group.get(sequence) or [None])[0]
        for holder in (item, group):
            if holder is not None and holder.get(keyword) not in (None, ""):
                return holder.get(keyword)
    return None


def _number(name: str, value: Any) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ImageFileError(f"the header gives {name} {value}")
    return number


def _vector(name: str, value: Any, count: int) -> NDArray[np.float64]:
    vector = np.array([_number(name, v) for v in value])
    if vector.shape != (count,):
        raise ImageFileError(f"the header gives {name} {value}")
    return vector


def _directions(cosines: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = cosines.reshape(2, 3)
    norms = np.linalg.norm(rows, axis=1)
    if not np.allclose(norms, 1, atol=0.01) or abs(rows[0] @ rows[1]) > 0.01:
        raise ImageFileError(f"the header gives ImageOrientationPatient {cosines.tolist()}")
    directions: NDArray[np.float64] = rows / norms[:, None]
    return directions


def _alike(frames: list[_Frame], complain: Any) -> list[_Frame]:
    """The planes of one size, spacing, type and orientation; the most frequent ones."""
    groups: list[list[_Frame]] = []
    for frame in frames:
        for group in groups:
            same = np.allclose(group[0].orientation, frame.orientation, atol=_ANGLE)
            if same and group[0].kind == frame.kind:
                group.append(frame)
                break
        else:
            groups.append([frame])
    if len(groups) > 1:
        groups.sort(key=lambda g: -len(g))
        listed = ", ".join(f"{len(g)} of {g[0].kind[0]} x {g[0].kind[1]}" for g in groups[:9])
        complain(f"the series mixes sizes, pixel spacings, types or orientations: {listed}")
    return groups[0]


def _stack(
    frames: list[_Frame], complain: Any
) -> tuple[list[_Frame], tuple[float, ...], tuple[float, ...], NDArray[np.float64]]:
    """Planes in order along their normal, and the geometry of the stack."""
    along_x, along_y = frames[0].orientation
    normal = np.cross(along_x, along_y)
    frames = sorted(frames, key=lambda f: float(f.position @ normal))
    frames = _once(frames, normal, complain)
    positions = np.array([f.position for f in frames])
    step = normal * _thickness(frames[0])
    if len(frames) > 1:
        whole = positions[-1] - positions[0]
        distances = np.diff(positions @ normal)
        median = float(np.median(distances))
        _check_distances(distances, median, complain)
        step = whole / (whole @ normal) * median  # along the stack, also if it is sheared
        tilt = np.degrees(np.arccos(min(1.0, median / float(np.linalg.norm(step)))))
        straight = positions[0] + np.outer((positions - positions[0]) @ normal / median, step)
        if np.abs(straight - positions).max() > _UNEVEN * median:
            complain("the planes' positions are not on one straight line")
        elif tilt > np.degrees(_ANGLE):
            warnings.warn(
                f"the stack is sheared by {tilt:.2f} degrees (a tilted gantry): `direction` says "
                "so, functions that take only a spacing do not know",
                GeometryWarning,
                stacklevel=5,
            )
    length = float(np.linalg.norm(step))
    spacing = (length, *(frames[0].spacing or (1.0, 1.0)))
    direction = np.column_stack([step / length, along_y, along_x])
    return frames, spacing, tuple(positions[0].tolist()), direction


def _thickness(frame: _Frame) -> float:
    """Of a single plane, which has no distance to a neighbour."""
    for keyword in ("SpacingBetweenSlices", "SliceThickness"):
        value = frame.header.get(keyword)
        if value and _number(keyword, value) > 0:
            return float(value)
    return 1.0


def _once(frames: list[_Frame], normal: NDArray[np.float64], complain: Any) -> list[_Frame]:
    """Planes at different places: copies of one instance count once, others are a complaint."""
    kept = [frames[0]]
    copies, repeated = 0, 0
    for frame in frames[1:]:
        if (frame.position - kept[-1].position) @ normal > _SAME_PLACE:
            kept.append(frame)
            continue
        uid = frame.header.get("SOPInstanceUID")
        same = uid and uid == kept[-1].header.get("SOPInstanceUID")
        same = same and frame.index == kept[-1].index
        copies, repeated = copies + bool(same), repeated + (not same)
    if copies:
        warnings.warn(f"{copies} files are copies of others", GeometryWarning, stacklevel=6)
    if repeated:
        complain(
            f"{repeated} images lie at the place of another (several phases, echoes or segments?)"
        )
    return kept


def _check_distances(distances: NDArray[np.float64], median: float, complain: Any) -> None:
    bad = np.abs(distances - median) > _UNEVEN * median
    if not bad.any():
        return
    missing = np.rint(distances[bad] / median) - 1
    if (missing > 0).all() and np.allclose(distances[bad], (missing + 1) * median, rtol=_UNEVEN):
        complain(
            f"{int(missing.sum())} planes are missing, the first after plane "
            f"{int(np.flatnonzero(bad)[0])}"
        )
    else:
        complain(
            f"the distance of planes varies from {distances.min():.4g} to {distances.max():.4g} mm"
        )


def _pixels(frames: list[_Frame], max_bytes: int) -> NDArray[Any]:
    """All planes, decoded and rescaled."""
    first = frames[0].header
    rows, columns = int(first.Rows), int(first.Columns)
    samples = int(first.get("SamplesPerPixel", 1))
    if samples not in (1, 3, 4):
        raise ImageFileError(f"{samples} samples per pixel are not read")
    shape = (len(frames), rows, columns) + ((samples,) if samples > 1 else ())
    dtype = _result_type(frames)
    _common.check_size(shape, dtype.itemsize if dtype else 8, max_bytes)
    result: NDArray[Any] | None = None
    decoded: tuple[Path | None, Any] = (None, None)
    for k, frame in enumerate(frames):
        if decoded[0] != frame.path:
            with _naming(frame.path):
                decoded = (frame.path, _decode(frame.path, shape[1:]))
        stored = decoded[1][frame.index]
        if result is None:
            result = np.empty(shape, stored.dtype if dtype is None else dtype)
        if dtype is None:
            result[k] = stored
        else:
            result[k] = np.multiply(stored, frame.slope, dtype=np.float64) + frame.intercept
    assert result is not None
    return result


def _result_type(frames: list[_Frame]) -> np.dtype[Any] | None:
    """None: as stored. Whole slopes and intercepts: int16 or int32. Others: float32."""
    pairs = {(f.slope, f.intercept) for f in frames}
    if pairs == {(1.0, 0.0)}:
        return None
    if any(value % 1 for pair in pairs for value in pair):
        return np.dtype(np.float32)
    header = frames[0].header
    bits = int(header.get("BitsStored", header.get("BitsAllocated", 16)))
    signed = int(header.get("PixelRepresentation", 0))
    if not 1 <= bits <= 32:
        raise ImageFileError(f"the header gives BitsStored {bits}")
    ends = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = [end * slope + intercept for end in ends for slope, intercept in pairs]
    for dtype in (np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min <= min(values) and max(values) <= info.max:
            return np.dtype(dtype)
    return np.dtype(np.float64)


def _decode(path: Path, shape: tuple[int, ...]) -> NDArray[Any]:
    """Stored values of one file: (frames, *shape)."""
    pixels = _common.need("pydicom.pixels")
    dataset = _load(path, pixels=True)
    count = int(dataset.get("NumberOfFrames") or 1)
    bits = int(dataset.get("BitsAllocated", 0))
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ImageFileError(f"{path.name} does not name its transfer syntax")
    available = path.stat().st_size * (_RATIOS.get(syntax, 1) * 8 if bits == 1 else 1)
    if not syntax.is_compressed or syntax in _RATIOS:
        available *= _RATIOS.get(syntax, 1)
        if dataset.get("PhotometricInterpretation") == "YBR_FULL_422":
            available = available * 3 // 2
        _common.check_size((count, *shape), max(bits // 8, 1), 1 << 62, available)
    else:
        _jpeg.check_frames(dataset.get("PixelData", b""), count, shape)
    try:
        array = np.asarray(pixels.pixel_array(dataset))
    except RuntimeError as error:
        if "missing" in str(error) and "dependencies" in str(error):
            raise ImportError(f"medseg_fast.io: {syntax.name}: {error}") from error
        raise
    array = array.reshape(count, *array.shape[array.ndim - len(shape) :])
    if array.shape[1:] != shape:
        raise ImageFileError(f"{path.name} holds an image of {array.shape[1:]}, not {shape}")
    return _common.native(array)


def _metadata(frames: list[_Frame]) -> dict[str, Any]:
    """Facts of acquisition; nothing that names a patient, a place, a date or a device."""
    header = frames[0].header
    metadata: dict[str, Any] = {
        "format": "DICOM",
        "modality": str(header.get("Modality", "")),
        "photometric": str(header.get("PhotometricInterpretation", "")),
    }
    for name, keyword in (("slice_thickness", "SliceThickness"), ("unit", "RescaleType")):
        value = header.get(keyword)
        if value not in (None, ""):
            metadata[name] = str(value)[:16] if name == "unit" else float(value)
    pairs = Counter((f.slope, f.intercept) for f in frames)
    if len(pairs) == 1:
        metadata["rescale_slope"], metadata["rescale_intercept"] = next(iter(pairs))
    return metadata
