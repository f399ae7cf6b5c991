"""NIfTI against SimpleITK: array, spacing, origin, direction; every affine, dtype and layout."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medseg_fast import io

nib = pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

SHAPE = (3, 4, 5)  # x, y, z in the file
OBLIQUE = np.array(
    [[0.36, 0.48, -0.8, 0], [-0.8, 0.6, 0, 0], [0.48, 0.64, 0.6, 0], [0, 0, 0, 1]]
) @ np.diag([0.7, 1.1, 2.5, 1])
OBLIQUE[:3, 3] = [-91.25, 17.5, 42.125]


def assert_as_sitk(volume: io.Volume, path: Path, *, spacing: bool = True) -> None:
    """Equal to what SimpleITK reads; origin and direction to float32, as NIfTI stores them."""
    image = sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(image)
    assert volume.array.dtype == expected.dtype
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=1e-6)
    np.testing.assert_allclose(volume.origin, image.GetOrigin(), rtol=1e-6, atol=1e-5)
    direction = np.reshape(image.GetDirection(), (3, 3))[:, ::-1]
    np.testing.assert_allclose(volume.direction, direction, atol=1e-6)


def save(
    path: Path,
    array: np.ndarray[Any, Any],
    affine: Any = OBLIQUE,
    codes: tuple[int, int] = (1, 1),
    **fields: Any,
) -> Path:
    """A NIfTI file made by nibabel, with header fields set as given."""
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    for name, value in fields.items():
        image.header[name] = value
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "mr_head_t1/t1.nii.gz",
        "mr_head_t1/tissue.nii.gz",
        "mr_spinal_cord/t1w.nii.gz",
        "mr_spinal_cord/t2.nii.gz",
        "mr_hippocampus/images/hippocampus_008.nii.gz",
        "ct_abdomen_organs/ct.nii.gz",
        "dicom_ct_abdomen/organs.nii.gz",
    ],
)
def test_real_scan(data: Path, name: str) -> None:
    assert_as_sitk(io.read(data / name), data / name)


@pytest.mark.parametrize("name", io.examples())
def test_example(name: str) -> None:
    example = io.example(name)
    scan, truth = io.read(example.image), io.read(example.truth)
    assert_as_sitk(scan, example.image)
    assert scan.array.shape == truth.array.shape
    np.testing.assert_allclose(scan.affine_lps, truth.affine_lps, atol=1e-6)
    assert set(np.unique(truth.array)) == {0, 1}
    assert (example.image.parent / f"LICENSE.{name}.txt").is_file()
    assert example.image.stat().st_size < 2_000_000
    with pytest.raises(ValueError, match="name must be one of"):
        io.example("../secret")


@pytest.mark.parametrize("dtype", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8 >u2 >i4 >f4 >f8".split())
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_dtypes(tmp_path: Path, rng: np.random.Generator, dtype: str, suffix: str) -> None:
    array = rng.integers(0, 100, SHAPE).astype(dtype)
    image = nib.Nifti1Image(array, OBLIQUE, dtype=np.dtype(dtype))
    image.header.set_xyzt_units("mm")
    path = tmp_path / f"a{suffix}"
    header = nib.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    image = nib.Nifti1Image(array, OBLIQUE, header)
    nib.save(image, path)
    volume = io.read(path)
    assert volume.array.dtype.isnative
    assert volume.array.dtype == np.dtype(dtype).newbyteorder("=")
    assert_as_sitk(volume, path)


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (2, 0), (2, 1), (1, 1), (0, 0), (4, 2)])
@pytest.mark.parametrize("unit", [0, 1, 2, 3])
def test_affines(tmp_path: Path, codes: tuple[int, int], unit: int) -> None:
    array = np.arange(60, dtype=np.int16).reshape(SHAPE)
    path = save(tmp_path / "a.nii", array, OBLIQUE, codes, xyzt_units=unit)
    volume = io.read(path)
    assert_as_sitk(volume, path)
    assert volume.metadata["orientation_known"] == (codes != (0, 0))


def test_sform_and_qform_that_differ(tmp_path: Path) -> None:
    other = np.diag([-0.7, -1.1, 2.5, 1.0])
    for code in (1, 2):
        image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), OBLIQUE)
        image.set_sform(OBLIQUE, code)
        image.set_qform(other, 1)
        nib.save(image, tmp_path / f"{code}.nii")
        assert_as_sitk(io.read(tmp_path / f"{code}.nii"), tmp_path / f"{code}.nii")


def test_sheared_sform_is_kept_where_nothing_else_is_known(tmp_path: Path) -> None:
    sheared = OBLIQUE @ np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), sheared)
    image.set_sform(sheared, 1)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(
        io.read(tmp_path / "a.nii").affine_ras, sheared[:, [2, 1, 0, 3]], atol=1e-5
    )


def test_rescaled(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.integers(-1000, 1000, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(array, OBLIQUE)
    nib.save(image, tmp_path / "a.nii")
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([0.1, -7], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(raw)
    volume = io.read(tmp_path / "a.nii")
    assert volume.array.dtype == np.float32
    expected = array.T * float(np.float32(0.1)) - 7.0
    np.testing.assert_array_equal(volume.array, expected.astype(np.float32))
    # ITK computes in float32: one more rounding of each step, of numbers up to 107.
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.nii")))
    np.testing.assert_allclose(volume.array, expected, rtol=0, atol=2 * 107 * 2.0**-24)


def test_time_vectors_and_colours(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.integers(0, 100, (3, 4, 5, 2), dtype=np.int16)
    volume = io.read(save(tmp_path / "t.nii", array))
    assert volume.axes == "tzyx"
    np.testing.assert_array_equal(volume.array, array.T)
    volume = io.read(save(tmp_path / "one.nii", array[..., :1]))
    assert volume.axes == "zyx"
    vectors = rng.normal(size=(3, 4, 5, 1, 3)).astype(np.float32)
    path = save(tmp_path / "v.nii", vectors, intent_code=1007)
    volume = io.read(path)
    assert volume.axes == "zyxc"
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    np.testing.assert_array_equal(volume.array, expected)
    rgb = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["R"], rgb["B"] = 200, np.arange(60).reshape(SHAPE)
    path = save(tmp_path / "rgb.nii", rgb)
    volume = io.read(path)
    assert volume.axes == "zyxc"
    assert volume.array.dtype == np.uint8
    np.testing.assert_array_equal(volume.array[..., 2], rgb["B"].T)


def test_nan_is_kept(tmp_path: Path) -> None:
    array = np.array([[[np.nan, np.inf, -0.0]]], np.float32)
    volume = io.read(save(tmp_path / "a.nii.gz", array))
    np.testing.assert_array_equal(volume.array.ravel(), array.ravel())


def test_nifti2(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti2Image(array, OBLIQUE), tmp_path / "a.nii")
    volume = io.read(tmp_path / "a.nii")  # ITK does not read NIfTI-2
    np.testing.assert_array_equal(volume.array, array.T)
    np.testing.assert_allclose(volume.affine_ras, OBLIQUE[:, [2, 1, 0, 3]], atol=1e-6)


def _edit(source: bytes, offset: int, value: Any, dtype: str) -> bytes:
    raw = np.array(value, dtype).tobytes()
    return source[:offset] + raw + source[offset + len(raw) :]


@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_refused(tmp_path: Path, packed: bool) -> None:
    good = save(tmp_path / "good.nii", np.zeros((30, 40, 50), np.int16)).read_bytes()
    path = tmp_path / ("a.nii.gz" if packed else "a.nii")

    def refused(content: bytes, match: str, **options: Any) -> None:
        path.write_bytes(gzip.compress(content) if packed else content)
        with pytest.raises(io.ImageFileError, match=match):
            io.read(path, **options)

    refused(_edit(good, 42, [32767] * 3, "<i2"), "max_bytes")
    refused(_edit(good, 42, [700] * 3, "<i2"), "the file holds")
    refused(_edit(good, 42, [0, 4, 5], "<i2"), "shape")
    refused(_edit(good, 42, [-3, 4, 5], "<i2"), "shape")
    refused(_edit(good, 70, 9999, "<i2"), "damaged|type")
    refused(_edit(good, 108, np.nan, "<f4"), "data at byte")
    refused(_edit(good, 108, -1e30, "<f4"), "data at byte")
    refused(_edit(good, 344, list(b"ni1\0"), "u1"), "two files")
    refused(_edit(_edit(good, 252, 0, "<i2"), 280, [np.nan] * 12, "<f4"), "singular")
    refused(good[: len(good) // 2], "end after" if packed else "the file holds")
    refused(good[:300], "magic|cut off")
    refused(b"", "magic")
    refused(good, "max_bytes=1,000", max_bytes=1000)


def test_damaged_gzip(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.integers(0, 9, (30, 40, 50)).astype(np.int16)
    good = save(tmp_path / "good.nii.gz", array).read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(io.ImageFileError, match="end"):
        io.read(path)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    path.write_bytes(flipped)
    with pytest.raises(io.ImageFileError):
        io.read(path)
    flipped = bytearray(good)
    flipped[-6] ^= 1  # the checksum itself
    path.write_bytes(flipped)
    with pytest.raises(io.ImageFileError, match="damaged"):
        io.read(path)
    path.write_bytes(good[:-4])
    with pytest.raises(io.ImageFileError, match="too early"):
        io.read(path)


def test_gzip_of_several_members(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.int16).reshape(SHAPE)
    raw = save(tmp_path / "a.nii", array).read_bytes()
    parts = [raw[:100], raw[100:360], raw[360:]]
    (tmp_path / "b.nii.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    np.testing.assert_array_equal(io.read(tmp_path / "b.nii.gz").array, array.T)
