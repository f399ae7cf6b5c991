"""TIFF and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from _volumes import (
    VALUES,
    Image,
    sitk,
    tifffile,
)

from medseg_fast import io


def test_tiff_of_imagej(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif",
        VALUES.astype(np.uint16),
        imagej=True,
        resolution=(1 / 0.7, 1 / 1.1),
        metadata={"spacing": 2.5, "unit": "mm", "axes": "ZYX"},
    )
    volume = io.read(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.array, VALUES)
    np.testing.assert_allclose(volume.spacing, (2.5, 1.1, 0.7), rtol=1e-5)  # stored as fractions


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", "u1 u2 i2 f4 >u2".split())
def test_tiff_as_sitk(tmp_path: Path, dtype: str, compression: str | None) -> None:
    order = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(
        tmp_path / "a.tif",
        VALUES.astype(dtype),
        compression=compression,
        byteorder=order,
        photometric="minisblack",
    )
    volume = io.read(tmp_path / "a.tif")
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif")))
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == expected.dtype
    assert volume.axes == "zyx"
    assert not volume.has_geometry


def test_tiff_cut_off(tmp_path: Path, rng: np.random.Generator) -> None:
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 255, (5, 64, 64), dtype=np.uint8))
    raw = (tmp_path / "a.tif").read_bytes()
    for size in (0, 3, 8, 100, len(raw) // 2, len(raw) - 500):
        (tmp_path / "b.tif").write_bytes(raw[:size])
        with pytest.raises(io.ImageFileError):
            io.read(tmp_path / "b.tif")


@pytest.mark.parametrize("dtype", ["?", "u1", "u2"])
def test_png_grey(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    array = rng.integers(0, 2, (7, 13)).astype(dtype)
    if dtype == "u2":
        array *= 60000
    io.write(tmp_path / "a.png", array)
    volume = io.read(tmp_path / "a.png")
    assert volume.array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(volume.array, array)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(volume.array != 0, expected != 0)
    assert not volume.has_geometry


@pytest.mark.parametrize("channels", [3, 4])
def test_png_colour(tmp_path: Path, rng: np.random.Generator, channels: int) -> None:
    array = rng.integers(0, 255, (7, 13, channels), dtype=np.uint8)
    io.write(tmp_path / "a.png", io.Volume(array, axes="yxc"))
    volume = io.read(tmp_path / "a.png")
    assert volume.axes == "yxc"
    np.testing.assert_array_equal(volume.array, array)
    np.testing.assert_array_equal(
        volume.array, sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png")))
    )


def test_png_palette_gives_labels(tmp_path: Path) -> None:
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = Image.fromarray(labels)
    image.putpalette(np.arange(18, dtype=np.uint8).tobytes())
    image.save(tmp_path / "a.png")
    volume = io.read(tmp_path / "a.png")
    np.testing.assert_array_equal(volume.array, labels)
    np.testing.assert_array_equal(volume.metadata["palette"][1], [3, 4, 5])


def test_real_pictures(data: Path) -> None:
    for folder in ("retina_chase_db1", "us_carotid"):
        path = next(p for p in sorted((data / folder).rglob("*")) if p.suffix in (".jpg", ".png"))
        volume = io.read(path)
        np.testing.assert_array_equal(volume.array, np.array(Image.open(path)))


def test_pictures_refuse(tmp_path: Path, rng: np.random.Generator) -> None:
    io.write(tmp_path / "a.png", rng.integers(0, 255, (64, 64), dtype=np.uint8))
    raw = (tmp_path / "a.png").read_bytes()

    def refused(content: bytes, match: str, **options: Any) -> None:
        (tmp_path / "b.png").write_bytes(content)
        with pytest.raises(io.ImageFileError, match=match):
            io.read(tmp_path / "b.png", **options)

    refused(raw[: len(raw) // 2], "truncated|damaged")
    refused(raw, "max_bytes", max_bytes=100)
    refused(b"no picture", r"b.png: not a PNG file")
    refused(b"", r"b.png: not a PNG file")
    refused(raw[:24] + b"\x10\x02" + raw[26:], "16 bits")
    jpeg = tmp_path / "really.jpg"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(jpeg)
    refused(jpeg.read_bytes(), "not a PNG file")  # only the parser that the suffix names
