"""DICOM: real series and test files against SimpleITK, and series made wrong on purpose."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_fast import io

pydicom = pytest.importorskip("pydicom")
sitk = pytest.importorskip("SimpleITK")

from pydicom.data import get_testdata_file  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid  # noqa: E402

ROW, COLUMN = np.array([0.36, -0.8, 0.48]), np.array([0.48, 0.6, 0.64])
NORMAL = np.cross(ROW, COLUMN)


def plane(k: int, series: str = "1.2.3", **changes: Any) -> Any:
    """A CT image at plane k of an oblique stack; its values are k + 10 * row, slope 1, -1024."""
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.file_meta.MediaStorageSOPClassUID = d.SOPClassUID = CTImageStorage
    d.file_meta.MediaStorageSOPInstanceUID = d.SOPInstanceUID = generate_uid()
    d.SeriesInstanceUID, d.Modality = series, "CT"
    d.PatientName, d.PatientID, d.StudyDate = "Doe^John", "4711", "20240101"
    d.Rows, d.Columns, d.SamplesPerPixel, d.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
    d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 12, 11, 0
    d.PixelSpacing, d.SliceThickness = [1.25, 0.75], 3
    d.ImageOrientationPatient = [*ROW.tolist(), *COLUMN.tolist()]
    d.ImagePositionPatient = np.round([10, 20, 30] + 2.5 * k * NORMAL, 8).tolist()
    d.RescaleSlope, d.RescaleIntercept, d.RescaleType = 1, -1024, "HU"
    d.PixelData = (k + 10 * np.arange(4, dtype="<u2")[:, None] + np.zeros((4, 5), "<u2")).tobytes()
    for name, value in changes.items():
        if value is None:
            delattr(d, name)
        else:
            setattr(d, name, value)
    return d


def save(folder: Path, planes: list[Any]) -> Path:
    """Files named in another order than the planes lie in."""
    folder.mkdir(exist_ok=True)
    for n, d in enumerate(planes):
        d.save_as(folder / f"{(n * 7) % 11:02}.dcm", enforce_file_format=True)
    return folder


def shifted(k: float) -> list[float]:
    return np.round([10, 20, 30] + 2.5 * k * NORMAL, 8).tolist()


def assert_as_sitk(volume: io.Volume, image: Any) -> None:
    expected = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=1e-6)
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), atol=1e-6)
    direction = np.reshape(image.GetDirection(), (3, 3))[:, ::-1]
    np.testing.assert_allclose(volume.direction, direction, atol=1e-6)


def read_sitk(folder: Path) -> Any:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_real_series(data: Path) -> None:
    folder = data / "dicom_ct_abdomen" / "series"
    volume = io.read(folder)
    assert volume.array.dtype == np.int16
    assert_as_sitk(volume, read_sitk(folder))
    assert volume.metadata == {
        "format": "DICOM",
        "modality": "CT",
        "photometric": "MONOCHROME2",
        "slice_thickness": 3.0,
        "unit": "HU",
        "rescale_slope": 1.0,
        "rescale_intercept": -1024.0,
    }
    organs = io.read(folder.parent / "organs.nii.gz")
    # The same voxels in another order of axes: the corners of the grids coincide in space.
    ends = [(a.affine_lps @ [*(np.array(a.array.shape) - 1), 1])[:3] for a in (volume, organs)]
    boxes = [
        np.sort([v.origin, end], axis=0) for v, end in zip((volume, organs), ends, strict=True)
    ]
    np.testing.assert_allclose(boxes[0], boxes[1], atol=1e-3)


def test_oblique_series_in_any_order(tmp_path: Path) -> None:
    folder = save(tmp_path / "s", [plane(k) for k in (3, 0, 4, 1, 2)])
    (folder / "notes.txt").write_text("not an image")
    volume = io.read(folder)
    np.testing.assert_array_equal(volume.array[:, 0, 0], np.arange(5) - 1024)
    assert volume.array.dtype == np.int16
    np.testing.assert_allclose(volume.spacing, (2.5, 1.25, 0.75))
    np.testing.assert_allclose(volume.direction, np.column_stack([NORMAL, COLUMN, ROW]), atol=1e-7)
    (folder / "notes.txt").unlink()
    assert_as_sitk(volume, read_sitk(folder))


def test_privacy(tmp_path: Path) -> None:
    volume = io.read(save(tmp_path / "s", [plane(k) for k in range(3)]))
    for secret in ("Doe", "4711", "2024", "1.2.3"):
        assert secret not in str(volume.metadata)


def test_one_file(tmp_path: Path) -> None:
    folder = save(tmp_path / "s", [plane(2)])
    volume = io.read(folder / "00.dcm")
    assert volume.axes == "yx"
    np.testing.assert_allclose(volume.spacing, (1.25, 0.75))
    np.testing.assert_allclose(volume.origin, shifted(2))
    np.testing.assert_allclose(volume.direction, np.column_stack([COLUMN, ROW]), atol=1e-9)
    shutil.copy(folder / "00.dcm", tmp_path / "IM0001")  # files without a suffix
    np.testing.assert_array_equal(io.read(tmp_path / "IM0001").array, volume.array)
    whole = io.read(folder)
    assert whole.axes == "zyx"
    assert whole.spacing[0] == pytest.approx(3.0)  # the thickness of a single plane


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [
        (1, 0, np.uint16),
        (1, -1024, np.int16),
        (2, 1, np.int16),
        (16, 0, np.int32),
        (0.5, 0, np.float32),
        (1, 0.25, np.float32),
    ],
)
def test_rescale(tmp_path: Path, slope: float, intercept: float, dtype: Any) -> None:
    planes = [plane(k, RescaleSlope=slope, RescaleIntercept=intercept) for k in range(3)]
    folder = save(tmp_path / "s", planes)
    volume = io.read(folder)
    assert volume.array.dtype == dtype
    stored = np.arange(3)[:, None] + 10 * np.arange(4)
    np.testing.assert_array_equal(volume.array[..., 0], stored * slope + intercept)
    np.testing.assert_array_equal(volume.array, sitk.GetArrayFromImage(read_sitk(folder)))


def test_slope_of_each_plane(tmp_path: Path) -> None:
    """As positron emission tomography has it."""
    planes = [plane(k, RescaleSlope=0.5 * (k + 1), RescaleIntercept=0) for k in range(3)]
    volume = io.read(save(tmp_path / "s", planes))
    expected = (np.arange(3)[:, None] + 10 * np.arange(4)) * 0.5 * np.arange(1, 4)[:, None]
    np.testing.assert_array_equal(volume.array[..., 0], expected)
    assert "rescale_slope" not in volume.metadata


def test_several_series(tmp_path: Path) -> None:
    first = [plane(k, "1.2.3") for k in range(4)]
    second = [plane(k, "4.5.6", Modality="MR") for k in range(3)]
    folder = save(tmp_path / "s", first + second)
    with pytest.raises(io.ImageFileError, match=r"2 series; pass series=: 1\.2\.3 \(4 CT images\)"):
        io.read(folder)
    assert io.read(folder, series="4.5.6").array.shape == (3, 4, 5)
    with pytest.raises(io.ImageFileError, match="no series"):
        io.read(folder, series="7")
    listed = io.dicom_series(folder)
    assert [(s.uid, s.modality, s.images) for s in listed] == [
        ("1.2.3", "CT", 4),
        ("4.5.6", "MR", 3),
    ]
    assert listed[0].shape == (4, 5)


def _is_wrong(folder: Path, match: str) -> io.Volume:
    """An error by default, a warning with strict=False."""
    with pytest.raises(io.ImageFileError, match=match):
        io.read(folder)
    with pytest.warns(io.GeometryWarning, match=match):
        return io.read(folder, strict=False)


def test_missing_planes(tmp_path: Path) -> None:
    folder = save(tmp_path / "s", [plane(k) for k in (0, 1, 2, 5, 6)])
    volume = _is_wrong(folder, "2 planes are missing, the first after plane 2")
    np.testing.assert_allclose(volume.spacing[0], 2.5)


def test_uneven_planes(tmp_path: Path) -> None:
    planes = [plane(k) for k in range(5)]
    planes[4].ImagePositionPatient = shifted(4.3)
    _is_wrong(save(tmp_path / "s", planes), "varies from 2.5 to 3.25 mm")


def test_repeated_planes(tmp_path: Path) -> None:
    planes = [plane(k) for k in (0, 1, 2)]
    folder = save(tmp_path / "s", planes)
    shutil.copy(folder / "00.dcm", folder / "copy.dcm")
    with pytest.warns(io.GeometryWarning, match="1 files are copies"):
        assert io.read(folder).array.shape == (3, 4, 5)
    other = save(tmp_path / "t", [*planes, plane(1)])
    assert _is_wrong(other, "1 images lie at the place of another").array.shape == (3, 4, 5)


@pytest.mark.parametrize(
    "change",
    [
        {"Rows": 5, "PixelData": bytes(50)},
        {"PixelSpacing": [1, 1]},
        {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    ],
)
def test_mixed_series(tmp_path: Path, change: dict[str, Any]) -> None:
    planes = [plane(k) for k in range(4)] + [plane(4, **change)]
    volume = _is_wrong(save(tmp_path / "s", planes), "mixes")
    assert volume.array.shape == (4, 4, 5)


def test_tilted_gantry(tmp_path: Path) -> None:
    planes = [plane(k) for k in range(5)]
    for k, d in enumerate(planes):
        d.ImagePositionPatient = np.round([10, 20, 30] + 2.5 * k * NORMAL + k * COLUMN, 8).tolist()
    with pytest.warns(io.GeometryWarning, match="sheared by 21.80 degrees"):
        volume = io.read(save(tmp_path / "s", planes))
    for k in range(5):
        np.testing.assert_allclose(
            (volume.affine_lps @ [k, 0, 0, 1])[:3], planes[k].ImagePositionPatient, atol=1e-6
        )


def test_planes_without_position(tmp_path: Path) -> None:
    planes = [plane(k, ImagePositionPatient=None) for k in range(3)]
    with pytest.raises(io.ImageFileError, match="without position"):
        io.read(save(tmp_path / "s", planes))


def test_enhanced_multiframe(tmp_path: Path) -> None:
    d = plane(0, ImagePositionPatient=None, ImageOrientationPatient=None, PixelSpacing=None)
    order = [2, 0, 1]
    d.NumberOfFrames = 3
    d.PixelData = np.repeat(np.array(order, "<u2"), 20).tobytes()
    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [1.25, 0.75]
    orientation.ImageOrientationPatient = [*ROW.tolist(), *COLUMN.tolist()]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    d.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for k in order:
        group, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = shifted(k)
        values.RescaleSlope, values.RescaleIntercept = 2, 5
        group.PlanePositionSequence = [place]
        group.PixelValueTransformationSequence = [values]
        groups.append(group)
    d.PerFrameFunctionalGroupsSequence = groups
    d.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    volume = io.read(tmp_path / "a.dcm")
    assert volume.axes == "zyx"
    np.testing.assert_array_equal(volume.array[:, 0, 0], [5, 7, 9])
    np.testing.assert_allclose(volume.spacing, (2.5, 1.25, 0.75))
    np.testing.assert_allclose(volume.origin, (10, 20, 30))


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "693_J2KI.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_dcmtk_+eb+cy+s2.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "ExplVR_BigEnd.dcm",
        "examples_overlay.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
    ],
)
def test_kinds_of_files_as_sitk(name: str) -> None:
    path = get_testdata_file(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        volume = io.read(path)
    image = sitk.ReadImage(path)
    expected = sitk.GetArrayFromImage(image)
    np.testing.assert_array_equal(volume.array.squeeze(), expected.squeeze())
    if volume.has_geometry:
        np.testing.assert_allclose(volume.spacing, image.GetSpacing()[1::-1])


def test_dose_planes_and_scaling() -> None:
    path = get_testdata_file("rtdose.dcm")
    volume, image = io.read(path), sitk.ReadImage(path)
    scale = float(pydicom.dcmread(path).DoseGridScaling)
    stored = sitk.GetArrayFromImage(image)  # which ITK leaves unscaled
    np.testing.assert_array_equal(volume.array, (stored * scale).astype(np.float32))
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1])
    np.testing.assert_allclose(volume.origin, image.GetOrigin())


def test_damage_is_refused(tmp_path: Path, data: Path) -> None:
    path = tmp_path / "a.dcm"

    def refused(d: Any, match: str, **options: Any) -> None:
        d.save_as(path, enforce_file_format=True)
        with pytest.raises(io.ImageFileError, match=match):
            io.read(path, **options)

    refused(plane(0, Rows=20000, Columns=20000), "the file holds")
    refused(plane(0, Rows=65535, Columns=65535, NumberOfFrames=60), "max_bytes")
    refused(plane(0, NumberOfFrames=2_000_000_000), "frames")
    refused(plane(0, NumberOfFrames=30), "the file holds")
    refused(plane(0), "max_bytes=20", max_bytes=20)
    refused(plane(0, PixelSpacing=[0, 1]), "PixelSpacing")
    refused(plane(0, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "ImageOrientationPatient")
    refused(plane(0, SamplesPerPixel=2), "samples")
    refused(plane(0, Rows=None), "no image")
    plane(0).save_as(path, enforce_file_format=True)
    whole = path.read_bytes()
    for size in (0, 100, 140, 300, len(whole) - 10):
        path.write_bytes(whole[:size])
        with pytest.raises(io.ImageFileError):
            io.read(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(io.ImageFileError, match=r"a\.dcm"):  # the folder's error names the file
        io.read(tmp_path)
    # A compressed frame that claims another size than the header.
    source = next((data / "dicom_ct_abdomen" / "series").glob("*.dcm")).read_bytes()
    place = source.index(b"\xff\x4f\xff\x51") + 8
    path.write_bytes(source[:place] + b"\x00\x01\x00\x00" + source[place + 4 :])
    with pytest.raises(io.ImageFileError, match=r"\(512, 65536\), not \(512, 512\)"):
        io.read(path)
    with pytest.raises(io.ImageFileError, match="deflated"):
        io.read(get_testdata_file("image_dfl.dcm"))


def test_other_paths(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        io.read(tmp_path / "absent")
    with pytest.raises(io.ImageFileError, match="no DICOM images"):
        io.read(tmp_path)
    (tmp_path / "a.dcm").write_bytes(bytes(200))
    with pytest.raises(io.ImageFileError, match="not a DICOM file"):
        io.read(tmp_path / "a.dcm")
    with pytest.raises(ValueError, match="series is for DICOM"):
        io.read(io.example("mr_head_t1").image, series="1.2.3")
    with pytest.raises(ValueError, match="suffixes"):
        io.write(tmp_path / "b.dcm", np.zeros((3, 4, 5), np.uint8))
