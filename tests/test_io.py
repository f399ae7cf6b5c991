"""Volume, the guarded reader and whole-file writing, for every format alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medseg_fast
from medseg_fast import io
from medseg_fast.io import _common

pytest.importorskip("nibabel")
sitk = pytest.importorskip("SimpleITK")

SUFFIXES = [".nii", ".nii.gz", ".nrrd", ".mha", ".npy", ".npz", ".tif", ".png"]
IMAGE = np.arange(20, dtype=np.uint8).reshape(4, 5)
ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


# Volume


def test_positions_are_those_of_sitk(rng: np.random.Generator) -> None:
    image = sitk.GetImageFromArray(np.zeros((5, 6, 7), np.uint8))
    image.SetSpacing((0.7, 1.1, 2.5))
    image.SetOrigin((-91.25, 17.5, 42.125))
    image.SetDirection(ROTATION.ravel())
    volume = io.Volume(
        sitk.GetArrayFromImage(image),
        image.GetSpacing()[::-1],
        image.GetOrigin(),
        np.reshape(image.GetDirection(), (3, 3))[:, ::-1],
    )
    for z, y, x in rng.integers(0, 5, (10, 3)).tolist():
        point = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose((volume.affine_lps @ [z, y, x, 1])[:3], point)
        right_anterior = np.multiply(point, (-1, -1, 1))
        np.testing.assert_allclose((volume.affine_ras @ [z, y, x, 1])[:3], right_anterior)


def test_default_geometry() -> None:
    volume = io.Volume(np.zeros((2, 3, 4)))
    assert not volume.has_geometry
    assert volume.spacing == (1, 1, 1)
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4)))
    point = image.TransformIndexToPhysicalPoint((3, 2, 1))
    np.testing.assert_array_equal((volume.affine_lps @ [1, 2, 3, 1])[:3], point)
    flat = io.Volume(IMAGE)
    np.testing.assert_array_equal(flat.affine_lps @ [2, 3, 1], [3, 2, 0, 1])
    assert "no geometry" in repr(volume)


def test_a_volume_is_an_array() -> None:
    scan = io.read(io.example("mr_head_t1").image)
    mask = medseg_fast.threshold(scan, 100)
    np.testing.assert_array_equal(mask, scan.array >= 100)
    assert np.asarray(scan) is scan.array
    assert np.array(scan, copy=True) is not scan.array
    assert np.asarray(scan, np.float32).dtype == np.float32


def test_like() -> None:
    scan = io.Volume(np.zeros((2, 3, 4, 5)), (3, 2, 1), (1, 2, 3), ROTATION, axes="tzyx")
    mask = scan.like(np.ones((3, 4, 5), bool))
    assert mask.axes == "zyx"
    np.testing.assert_array_equal(mask.affine_lps, scan.affine_lps)
    assert scan.like(np.ones((2, 3, 4, 5))).axes == "tzyx"
    with pytest.raises(ValueError, match=r"spatial shape \(3, 4, 5\)"):
        scan.like(np.ones((3, 4, 6)))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"spacing": (1, 2)}, "spacing"),
        ({"spacing": (1, 2, 0)}, "spacing"),
        ({"spacing": (1, 2, np.nan)}, "spacing"),
        ({"origin": (1, 2)}, "origin"),
        ({"origin": (1, 2, np.inf)}, "origin"),
        ({"direction": np.eye(2)}, "direction"),
        ({"direction": 2 * np.eye(3)}, "length 1"),
        ({"axes": "xyz"}, "axes"),
        ({"axes": "yx"}, "axes"),
    ],
)
def test_volume_refuses(arguments: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        io.Volume(np.zeros((2, 3, 4)), **arguments)


def test_volume_of_unknown_axes() -> None:
    with pytest.raises(ValueError, match="axes must be given"):
        io.Volume(np.zeros((2, 3, 4, 3)))


# Writing


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_existing_files_stay_unless_overwritten(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    io.write(path, IMAGE)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        io.write(path, IMAGE + 1)
    np.testing.assert_array_equal(io.read(path).array.reshape(4, 5), IMAGE)
    io.write(path, IMAGE + 1, overwrite=True)
    np.testing.assert_array_equal(io.read(path).array.reshape(4, 5), IMAGE + 1)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("old", [False, True])
def test_a_failing_disk_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, old: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    if old:
        io.write(path, IMAGE)
    before = path.read_bytes() if old else None

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        io.write(path, IMAGE + 1, overwrite=True)
    assert (path.read_bytes() if path.exists() else None) == before
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if old else [])


def test_a_killed_writer_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    io.write(path, IMAGE)
    before = path.read_bytes()
    code = """
import os, signal, sys
import numpy as np
from medseg_fast import io
fsync = os.fsync
def die(fd):
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = die
io.write(sys.argv[1], np.ones((50, 50, 50)), overwrite=True)
"""
    result = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert result.returncode == -9
    assert path.read_bytes() == before


def test_a_file_that_appears_meanwhile_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.nii"
    write_samples = _common.write_samples

    def other_process(*arguments: Any) -> None:
        path.write_text("theirs")
        write_samples(*arguments)

    monkeypatch.setattr(_common, "write_samples", other_process)
    with pytest.raises(FileExistsError):
        io.write(path, IMAGE)
    assert path.read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_new_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    io.write(tmp_path / "a.nii", IMAGE)
    assert (tmp_path / "a.nii").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_geometry_given_beside_the_array(tmp_path: Path) -> None:
    io.write(tmp_path / "a.nrrd", np.zeros((2, 3, 4), np.uint8), spacing=(3, 2, 1))
    volume = io.read(tmp_path / "a.nrrd")
    assert volume.spacing == (3, 2, 1)
    io.write(tmp_path / "b.nrrd", volume, origin=(7, 8, 9))
    other = io.read(tmp_path / "b.nrrd")
    assert other.spacing == (3, 2, 1)
    assert other.origin == (7, 8, 9)


@pytest.mark.parametrize("suffix", [".npy", ".png"])
def test_losing_geometry_is_said(tmp_path: Path, suffix: str) -> None:
    with pytest.warns(io.GeometryWarning, match="hold no spacing"):
        io.write(tmp_path / f"a{suffix}", io.Volume(IMAGE, (1, 1)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.complex64, object, "U3", "M8[s]", np.longdouble])
def test_dtypes_refused(tmp_path: Path, suffix: str, dtype: Any) -> None:
    with pytest.raises(TypeError, match="write: "):
        io.write(tmp_path / f"a{suffix}", np.zeros((3, 4)).astype(dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("a.jpg", IMAGE, "only read; JPEG changes"),
        ("a.nhdr", IMAGE, "write .nrrd"),
        ("a.mhd", IMAGE, "write .mha"),
        ("a.xyz", IMAGE, "suffixes"),
        ("a.png", np.zeros((2, 3, 4), np.uint8), "one plane"),
        ("a.nii", np.zeros(3), "axes must be given"),
    ],
)
def test_write_refuses(tmp_path: Path, name: str, array: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        io.write(tmp_path / name, array)
    assert not list(tmp_path.iterdir())


# Reading


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_max_bytes(tmp_path: Path, suffix: str) -> None:
    io.write(tmp_path / f"a{suffix}", np.zeros((40, 50), np.uint8))
    assert io.read(tmp_path / f"a{suffix}", max_bytes=2000).array.size == 2000
    with pytest.raises(io.ImageFileError, match=r"2,000 bytes .* max_bytes=1,999"):
        io.read(tmp_path / f"a{suffix}", max_bytes=1999)
    with pytest.raises(ValueError, match="positive integer"):
        io.read(tmp_path / f"a{suffix}", max_bytes=0)


def test_missing_file() -> None:
    for suffix in (*SUFFIXES, ".dcm", ""):
        with pytest.raises(FileNotFoundError):
            io.read(f"/nowhere/a{suffix}")


def test_unknown_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(bytes(500))
    with pytest.raises(io.ImageFileError, match="none of the known suffixes"):
        io.read(tmp_path / "a.xyz")
    with pytest.raises(io.ImageFileError, match="none of the known suffixes") as caught:
        io.write(tmp_path / "b.xyz", np.zeros((3, 3)))
    assert ".mha" in str(caught.value)
    assert ".mhd" not in str(caught.value)  # only read


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
    with pytest.raises(ImportError, match=r'nibabel is missing: pip install "medseg_fast\[io\]"'):
        io.read(io.example("mr_head_t1").image)


def test_zlib_does_as_well_as_isal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(_common, "zlib", zlib)
    monkeypatch.setattr(_common, "LEVEL", 1)
    scan = io.read(io.example("ct_lung_tumour").image)
    io.write(tmp_path / "a.nii.gz", scan)
    monkeypatch.undo()
    np.testing.assert_array_equal(io.read(tmp_path / "a.nii.gz").array, scan.array)


def test_import_is_lazy_and_light() -> None:
    code = (
        "import sys, medseg_fast; assert 'medseg_fast.io' not in sys.modules; medseg_fast.io.read; "
        "heavy = {'nibabel', 'pydicom', 'nrrd', 'tifffile', 'PIL', 'SimpleITK'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
