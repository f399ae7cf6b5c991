"""What the tests of file formats share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medseg_fast import io

sitk = pytest.importorskip("SimpleITK")
tifffile = pytest.importorskip("tifffile")
Image = pytest.importorskip("PIL.Image")
nrrd = pytest.importorskip("nrrd")
ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])  # orthonormal
SPACING, ORIGIN = (2.5, 1.1, 0.7), (-91.25, 17.5, 42.125)
GEOMETRIC = [".nii", ".nii.gz", ".nrrd", ".mha", ".npz", ".tif"]
ITK_GEOMETRIC = [".nii", ".nii.gz", ".nrrd", ".mha"]


def assert_as_sitk(volume: io.Volume, image: Any, rtol: float = 1e-12) -> None:
    expected = sitk.GetArrayFromImage(image)
    assert volume.array.dtype == expected.dtype
    np.testing.assert_array_equal(volume.array, expected)
    n = image.GetDimension()
    np.testing.assert_allclose(volume.spacing, image.GetSpacing()[::-1], rtol=rtol)
    origin = np.zeros(3)
    origin[:n] = image.GetOrigin()
    np.testing.assert_allclose(volume.origin, origin, rtol=rtol, atol=1e-4 * (rtol > 1e-9))
    direction = np.zeros((3, n))
    direction[:n] = np.reshape(image.GetDirection(), (n, n))[:, ::-1]
    np.testing.assert_allclose(volume.direction, direction, atol=max(rtol, 1e-12))


def assert_same(a: io.Volume, b: io.Volume, rtol: float = 1e-12) -> None:
    assert a.axes == b.axes
    assert a.array.dtype == b.array.dtype
    np.testing.assert_array_equal(a.array, b.array)
    np.testing.assert_allclose(a.spacing, b.spacing, rtol=rtol)
    np.testing.assert_allclose(a.origin, b.origin, rtol=rtol, atol=1e-4 * (rtol > 1e-9))
    np.testing.assert_allclose(a.direction, b.direction, atol=rtol)


def oblique(array: Any, axes: str | None = None) -> io.Volume:
    array = np.asarray(array)
    n = 2 if axes == "yx" or array.ndim == 2 else 3
    return io.Volume(array, SPACING[3 - n :], ORIGIN, ROTATION[:, ::-1][:, 3 - n :], axes=axes)


VALUES = np.arange(60, dtype="<i2").reshape(5, 4, 3)
