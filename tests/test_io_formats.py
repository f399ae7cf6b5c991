"""NRRD, MetaImage, TIFF, PNG, NumPy: against SimpleITK, and written and read back."""

from __future__ import annotations

import bz2
import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _volumes import (
    GEOMETRIC,
    ITK_GEOMETRIC,
    ORIGIN,
    ROTATION,
    SPACING,
    VALUES,
    assert_as_sitk,
    assert_same,
    oblique,
    sitk,
)

from medseg_fast import io


@pytest.mark.parametrize(
    "name",
    [
        "ct_lung_tumour/lung2_image.nrrd",
        "ct_lung_tumour/lung2_tumour.nrrd",
        "mr_brain_tumour/brain1_image.nrrd",
        "us_bone_sequence/BoneUltrasound_L14_cropped.mha",
    ],
)
def test_real_scan_survives_every_format(data: Path, tmp_path: Path, name: str) -> None:
    volume = io.read(data / name)
    assert_as_sitk(volume, sitk.ReadImage(str(data / name)))
    for suffix in GEOMETRIC:
        rtol = 1e-6 if suffix.startswith(".nii") else 1e-12  # NIfTI holds float32
        path = tmp_path / f"a{suffix}"
        io.write(path, volume)
        back = io.read(path)
        assert_same(back, volume, rtol)
        if suffix in ITK_GEOMETRIC:
            assert_as_sitk(back, sitk.ReadImage(str(path)), rtol)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", "u1 i1 u2 i2 u4 i4 u8 i8 f4 f8".split())
def test_files_written_by_sitk(
    tmp_path: Path, rng: np.random.Generator, suffix: str, compressed: bool, dtype: str
) -> None:
    image = sitk.GetImageFromArray(rng.integers(0, 100, (5, 4, 3)).astype(dtype))
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    image.SetDirection(ROTATION.ravel())
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), compressed)
    assert_as_sitk(io.read(path), image, 1e-5 if suffix == ".nii.gz" else 1e-12)


@pytest.mark.parametrize("suffix", GEOMETRIC)
@pytest.mark.parametrize("dtype", "? u1 i1 u2 i2 u4 i4 u8 i8 f2 f4 f8 >i2 >f4 >u8".split())
def test_round_trip_of_dtypes(
    tmp_path: Path, rng: np.random.Generator, suffix: str, dtype: str
) -> None:
    volume = oblique(rng.integers(0, 2, (5, 4, 3)).astype(dtype))
    path = tmp_path / f"a{suffix}"
    io.write(path, volume)
    back = io.read(path)
    wide = {"?": "u1", "f2": "f4"}.get(dtype, dtype) if suffix != ".npz" else dtype
    assert back.array.dtype == np.dtype(wide).newbyteorder("=")
    rtol = 1e-6 if ".nii" in suffix else 1e-12
    assert_same(back, volume.like(volume.array.astype(back.array.dtype)), rtol)
    if suffix in ITK_GEOMETRIC:
        assert_as_sitk(back, sitk.ReadImage(str(path)), 1e-6 if ".nii" in suffix else 1e-12)


@pytest.mark.parametrize("suffix", [*GEOMETRIC, ".npy"])
def test_layouts(tmp_path: Path, rng: np.random.Generator, suffix: str, layout: Any) -> None:
    array = rng.integers(-300, 300, (5, 4, 3)).astype(np.int16)
    io.write(tmp_path / f"a{suffix}", layout(array))
    np.testing.assert_array_equal(io.read(tmp_path / f"a{suffix}").array, array)


@pytest.mark.parametrize("suffix", GEOMETRIC)
def test_round_trip_of_axes(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    shapes = {"zyx": (5, 4, 6), "tzyx": (2, 5, 4, 6), "zyxc": (5, 4, 6, 3)}
    if suffix == ".nrrd" or suffix == ".npz" or suffix == ".tif":
        shapes |= {"yx": (4, 6), "yxc": (4, 6, 3), "tzyxc": (2, 5, 4, 6, 3)}
    for axes, shape in shapes.items():
        for dtype in (np.uint8, np.float32):
            array = rng.integers(0, 200, shape).astype(dtype)
            n = len(axes.strip("tc"))
            direction = ROTATION[:, ::-1][:, 3 - n :]
            volume = io.Volume(array, SPACING[3 - n :], ORIGIN, direction, axes=axes)
            path = tmp_path / f"{axes}{suffix}"
            io.write(path, volume, overwrite=True)
            assert_same(io.read(path), volume, 1e-6 if ".nii" in suffix else 1e-12)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_channels_as_sitk(tmp_path: Path, rng: np.random.Generator, suffix: str) -> None:
    array = rng.integers(0, 200, (5, 4, 6, 3)).astype(np.float32)
    io.write(tmp_path / f"a{suffix}", io.Volume(array, SPACING, axes="zyxc"))
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    assert image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii"])
def test_plane_in_the_axial_direction_as_sitk(tmp_path: Path, suffix: str) -> None:
    array = np.arange(20, dtype=np.int16).reshape(4, 5)
    volume = io.Volume(array, (0.5, 0.25), (7.0, -3.0, 0.0))
    io.write(tmp_path / f"a{suffix}", volume)
    assert_same(io.read(tmp_path / f"a{suffix}"), volume, 1e-6)
    image = sitk.ReadImage(str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).reshape(4, 5), array)
    assert image.GetSpacing()[:2] == (0.25, 0.5)
    np.testing.assert_allclose(image.GetOrigin()[:2], (7.0, -3.0))


def test_oblique_plane(tmp_path: Path) -> None:
    volume = oblique(np.arange(20, dtype=np.int16).reshape(4, 5))
    for suffix in (".nii", ".nrrd", ".npz", ".tif"):
        io.write(tmp_path / f"a{suffix}", volume)
        assert_same(io.read(tmp_path / f"a{suffix}"), volume, 1e-6)
    io.write(tmp_path / "a.mha", volume)  # has no plane in space: one plane in 3D
    back = io.read(tmp_path / "a.mha")
    assert back.array.shape == (1, 4, 5)
    np.testing.assert_allclose(back.affine_lps[:, 1:], volume.affine_lps, atol=1e-12)


def test_without_geometry(tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.integers(0, 200, (3, 4, 5), dtype=np.uint8)
    for suffix in (".nrrd", ".mha", ".npz", ".npy", ".tif"):
        io.write(tmp_path / f"a{suffix}", array)
        back = io.read(tmp_path / f"a{suffix}")
        assert not back.has_geometry, suffix
        assert back.spacing == (1, 1, 1)
        np.testing.assert_array_equal(back.array, array)
    assert io.read(io.example("mr_head_t1").image).has_geometry


# NRRD


def _nrrd(path: Path, fields: dict[str, str], data: bytes) -> Path:
    head = "NRRD0005\n" + "".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n"
    path.write_bytes(head.encode() + data)
    return path


NRRD_FIELDS = {
    "type": "short",
    "dimension": "3",
    "sizes": "3 4 5",
    "encoding": "raw",
    "endian": "little",
}


@pytest.mark.parametrize(
    ("space", "signs"),
    [
        ("right-anterior-superior", (-1, -1, 1)),
        ("RAS", (-1, -1, 1)),
        ("left-anterior-superior", (1, -1, 1)),
        ("left-posterior-superior", (1, 1, 1)),
        ("LPS", (1, 1, 1)),
    ],
)
def test_nrrd_spaces(tmp_path: Path, space: str, signs: tuple[int, int, int]) -> None:
    directions = " ".join(
        f"({','.join(repr(float(v)) for v in ROTATION[:, k] * SPACING[2 - k])})" for k in range(3)
    )
    fields = NRRD_FIELDS | {
        "space": space,
        "space directions": directions,
        "space origin": f"({','.join(map(str, ORIGIN))})",
    }
    volume = io.read(_nrrd(tmp_path / "a.nrrd", fields, VALUES.tobytes()))
    assert_as_sitk(volume, sitk.ReadImage(str(tmp_path / "a.nrrd")))
    np.testing.assert_allclose(volume.origin, np.multiply(ORIGIN, signs))


def test_nrrd_without_space(tmp_path: Path) -> None:
    fields = NRRD_FIELDS | {"spacings": "0.7 1.1 2.5"}
    volume = io.read(_nrrd(tmp_path / "a.nrrd", fields, VALUES.tobytes()))
    assert volume.spacing == (2.5, 1.1, 0.7)
    assert not io.read(_nrrd(tmp_path / "b.nrrd", NRRD_FIELDS, VALUES.tobytes())).has_geometry
    metres = fields | {"space dimension": "3", "space units": '"m" "m" "m"'}
    volume = io.read(_nrrd(tmp_path / "c.nrrd", metres, VALUES.tobytes()))
    assert volume.spacing == (2500, 1100, 700)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("raw", bytes),
        ("gzip", gzip.compress),
        ("gz", gzip.compress),
        ("bzip2", bz2.compress),
        ("ascii", lambda raw: " ".join(map(str, np.frombuffer(raw, "<i2"))).encode()),
    ],
)
def test_nrrd_encodings_attached_and_detached(tmp_path: Path, encoding: str, pack: Any) -> None:
    fields = NRRD_FIELDS | {"encoding": encoding}
    data = pack(VALUES.tobytes())
    for volume in (
        io.read(_nrrd(tmp_path / "a.nrrd", fields, data)),
        io.read(_nrrd(tmp_path / "b.nhdr", fields | {"data file": "b.data"}, b""))
        if (tmp_path / "b.data").write_bytes(data)
        else None,
        io.read(_nrrd(tmp_path / "c.nrrd", fields | {"line skip": "1"}, b"a line\n" + data)),
    ):
        assert volume is not None
        np.testing.assert_array_equal(volume.array, VALUES)
    big = NRRD_FIELDS | {"endian": "big", "byte skip": "-1"}
    volume = io.read(_nrrd(tmp_path / "d.nrrd", big, b"xyz" + VALUES.astype(">i2").tobytes()))
    np.testing.assert_array_equal(volume.array, VALUES)


def test_nrrd_free_text_is_neither_read_nor_kept(tmp_path: Path) -> None:
    path = _nrrd(tmp_path / "a.nrrd", NRRD_FIELDS, VALUES.tobytes())
    raw = path.read_bytes().replace(b"type:", b"patient:=John Doe\n# a remark\ntype:", 1)
    path.write_bytes(raw)
    assert "John" not in repr(io.read(path).metadata)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"sizes": "2000 2000 2000"}, "max_bytes"),
        ({"sizes": "300 400 500"}, "the file holds"),
        ({"sizes": "300 400 500", "encoding": "gzip"}, "the file holds"),
        ({"sizes": "300 400 500", "encoding": "ascii"}, "the file holds"),
        ({"sizes": "1e30 4 5"}, "sizes|shape|damaged"),
        ({"sizes": "-3 4 5"}, "shape"),
        ({"sizes": "3 20"}, "sizes"),
        ({"dimension": "9"}, "sizes"),
        ({"type": "block"}, "type"),
        ({"encoding": "hex"}, "encoding"),
        ({"encoding": "gzip"}, "damaged|end"),
        ({"encoding": "bzip2"}, "damaged"),
        ({"encoding": "ascii"}, "damaged"),
        ({"byte skip": "7"}, "the file holds"),
        ({"byte skip": "-9"}, "byte skip"),
        ({"line skip": "99"}, "skips more lines"),
        ({"data file": "/etc/passwd"}, "own folder"),
        ({"data file": "../a.raw"}, "own folder"),
        ({"data file": "..\\a.raw"}, "own folder"),
        ({"data file": "slice%03d.raw 1 5 1"}, "own folder"),
        ({"data file": "absent.raw"}, "missing"),
        ({"space": "RAS", "space directions": "(1,0,0) (1,0,0) (0,0,0)"}, "singular"),
        ({"space": "RAS", "space directions": "(1,0) (0,1) (0,0)"}, "."),
        ({"kinds": "vector domain vector"}, "kinds"),
    ],
)
def test_nrrd_refuses(tmp_path: Path, change: dict[str, str], match: str) -> None:
    path = _nrrd(tmp_path / "a.nrrd", NRRD_FIELDS | change, VALUES.tobytes())
    with pytest.raises(io.ImageFileError, match=match):
        io.read(path)


# MetaImage


def _mha(path: Path, fields: dict[str, str], data: bytes) -> Path:
    fields = dict(fields)
    where = fields.pop("ElementDataFile", "LOCAL")
    head = "".join(f"{key} = {value}\n" for key, value in fields.items())
    path.write_bytes(f"{head}ElementDataFile = {where}\n".encode() + data)
    return path


MHA_FIELDS = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "DimSize": "3 4 5",
    "ElementType": "MET_SHORT",
    "ElementSpacing": "0.7 1.1 2.5",
}


@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({}, VALUES.tobytes()),
        ({"BinaryDataByteOrderMSB": "True"}, VALUES.astype(">i2").tobytes()),
        ({"HeaderSize": "-1"}, b"junk" + VALUES.tobytes()),
        ({"BinaryData": "False"}, " ".join(map(str, VALUES.ravel())).encode()),
        ({"Position": "1 2 3", "Orientation": "0 1 0 -1 0 0 0 0 1"}, VALUES.tobytes()),
    ],
)
def test_metaimage_variants(tmp_path: Path, change: dict[str, str], data: bytes) -> None:
    path = _mha(tmp_path / "a.mha", MHA_FIELDS | change, data)
    if {"HeaderSize", "BinaryData"} & set(change):  # ITK refuses both in attached files
        np.testing.assert_array_equal(io.read(path).array, VALUES)
    else:
        assert_as_sitk(io.read(path), sitk.ReadImage(str(path)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"DimSize": "2000 2000 2000"}, "max_bytes"),
        ({"DimSize": "300 400 500"}, "the file holds"),
        ({"DimSize": "300 400 500", "CompressedData": "True"}, "the file holds"),
        ({"DimSize": "300 400 500", "BinaryData": "False"}, "the file holds"),
        ({"DimSize": "3 4"}, "DimSize"),
        ({"DimSize": "0 4 5"}, "shape"),
        ({"DimSize": "3 4 x"}, "damaged"),
        ({"NDims": "-1"}, "DimSize"),
        ({"ElementNumberOfChannels": "1000000000000"}, "max_bytes"),
        ({"ElementNumberOfChannels": "0"}, "shape"),
        ({"ElementType": "MET_STRING"}, "type"),
        ({"ObjectType": "Mesh"}, "Mesh"),
        ({"CompressedData": "True"}, "damaged"),
        ({"HeaderSize": "7"}, "the file holds"),
        ({"ElementSpacing": "nan 1 1"}, "ElementSpacing"),
        ({"ElementSpacing": "0 1 1"}, "singular"),
        ({"TransformMatrix": "1 0 0 1 0 0 1 0"}, "TransformMatrix"),
        ({"ElementDataFile": "/etc/passwd"}, "own folder"),
        ({"ElementDataFile": "../a.raw"}, "own folder"),
        ({"ElementDataFile": "LIST"}, "missing"),
    ],
)
def test_metaimage_refuses(tmp_path: Path, change: dict[str, str], match: str) -> None:
    path = _mha(tmp_path / "a.mha", MHA_FIELDS | change, VALUES.tobytes())
    with pytest.raises(io.ImageFileError, match=match):
        io.read(path)


def test_metaimage_cut_off(tmp_path: Path) -> None:
    io.write(tmp_path / "a.mha", VALUES)
    raw = (tmp_path / "a.mha").read_bytes()
    for size in (0, 10, raw.index(b"LOCAL"), len(raw) - 20):
        (tmp_path / "b.mha").write_bytes(raw[:size])
        with pytest.raises(io.ImageFileError):
            io.read(tmp_path / "b.mha")


# NumPy


def test_numpy_orders_and_versions(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(VALUES))
    np.testing.assert_array_equal(io.read(tmp_path / "a.npy").array, VALUES)
    np.savez(tmp_path / "a.npz", VALUES)
    np.testing.assert_array_equal(io.read(tmp_path / "a.npz").array, VALUES)
    np.save(tmp_path / "empty.npy", np.zeros((0, 4, 5)))
    assert io.read(tmp_path / "empty.npy").array.shape == (0, 4, 5)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickles_are_never_loaded(tmp_path: Path, suffix: str) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    path = tmp_path / f"a{suffix}"
    save = np.save if suffix == ".npy" else np.savez
    save(path, np.array([[Bomb()]], dtype=object), allow_pickle=True)
    with pytest.raises(io.ImageFileError, match="type object"):
        io.read(path)
    if suffix == ".npz":  # also beside a good array
        np.savez(path, array=VALUES, spacing=np.array([Bomb()], dtype=object), allow_pickle=True)
        with pytest.raises(io.ImageFileError, match="type object"):
            io.read(path)
    assert not (tmp_path / "executed").exists()


def test_numpy_refuses(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", VALUES)
    raw = (tmp_path / "a.npy").read_bytes()

    def refused(name: str, content: bytes, match: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(io.ImageFileError, match=match):
            io.read(tmp_path / name)

    refused("b.npy", raw.replace(b"(5, 4, 3)", b"(9999999, 4, 999)"), "max_bytes|damaged")
    refused("b.npy", raw.replace(b"(5, 4, 3), }  ", b"(50, 4, 3), } "), "the file holds")
    refused("b.npy", raw[:-1], "the file holds")
    refused("b.npy", raw[:20], "damaged")
    np.save(tmp_path / "c.npy", np.zeros(5))
    refused("c.npy", (tmp_path / "c.npy").read_bytes(), "shape")
    np.savez(tmp_path / "d.npz", a=VALUES, b=VALUES)
    refused("d.npz", (tmp_path / "d.npz").read_bytes(), "one array")
    with zipfile.ZipFile(tmp_path / "e.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        head = raw[:-120].replace(b"(5, 4, 3), }        ", b"(500, 400, 300), }  ")
        archive.writestr("array.npy", head + raw[-120:])
    refused("e.npz", (tmp_path / "e.npz").read_bytes(), "the file holds")
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("array.npy", raw)
    refused("f.npz", (tmp_path / "f.npz").read_bytes(), "deflate")
