"""Flat morphology beside OpenCV, DIPlib, SimpleITK, scikit-image, SciPy and imops."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms

# OpenCV's functions are 2D: rows and columns per plane, then the planes.


def _opencv_box(image, size, function):
    """Extreme over a box of a volume: per plane, then across planes as an image of long rows."""
    kernel = np.ones((size, size), np.uint8)
    planes = np.empty_like(image)
    for source, target in zip(image, planes, strict=True):
        function(source, kernel, target)
    flat = planes.reshape(len(image), -1)
    return function(flat, np.ones((size, 1), np.uint8)).reshape(image.shape)


def _opencv_gradient(image, size):
    import cv2

    if image.ndim == 2:
        return cv2.morphologyEx(image, cv2.MORPH_GRADIENT, np.ones((size, size), np.uint8))
    dilated = _opencv_box(image, size, cv2.dilate)
    return cv2.subtract(dilated, _opencv_box(image, size, cv2.erode))


def _opencv(image, name, size):
    import cv2

    if name == "morphological_gradient":
        return _opencv_gradient(image, size)
    first = cv2.erode if name in ("erosion", "opening") else cv2.dilate
    steps = [first]
    if name in ("opening", "closing"):
        steps.append(cv2.dilate if first is cv2.erode else cv2.erode)
    for function in steps:
        if image.ndim == 2:
            image = function(image, np.ones((size, size), np.uint8))
        else:
            image = _opencv_box(image, size, function)
    return image


def _diplib(image, name, size, shape="rectangular"):
    import diplib

    function = {
        "erosion": diplib.Erosion,
        "dilation": diplib.Dilation,
        "opening": diplib.Opening,
        "binary_erosion": diplib.Erosion,
    }
    element = diplib.SE(float(size), shape)
    wrapped = diplib.Image(image)
    if name == "morphological_gradient":
        return np.asarray(diplib.Dilation(wrapped, element) - diplib.Erosion(wrapped, element))
    return np.asarray(function[name](wrapped, element))


def _inner_equal(margin):
    """Equal but for a border: the libraries extend images each in its own way."""

    def same(ours, theirs):
        inner = (slice(margin, -margin),) * ours.ndim
        np.testing.assert_array_equal(ours[inner], np.asarray(theirs)[inner])

    return same


def _box(name, make, size, footprint=True):
    def build():
        from skimage import morphology

        image = make()
        ours = getattr(ms, name)
        box = np.ones((size,) * image.ndim, np.uint8) if footprint else size
        calls = {
            "medseg_fast": lambda: ours(image, box),
            "OpenCV": lambda: _opencv(image, name, size),
            "DIPlib": lambda: _diplib(image, name, size),
        }
        if name == "morphological_gradient":
            square = np.ones((size,) * image.ndim)
            calls["scikit-image"] = lambda: (
                morphology.dilation(image, square) - morphology.erosion(image, square)
            )
        else:
            calls["scikit-image"] = lambda: getattr(morphology, name)(image, box)
        return image, calls

    return build


def _ball(name, make, radius):
    def build():
        import SimpleITK as sitk
        from skimage import morphology

        image = make()
        ball = morphology.ball(radius)
        itk = sitk.GetImageFromArray(image.view(np.uint8) if image.dtype == bool else image)
        ours = getattr(ms, name)

        def by_itk():
            function = {
                "erosion": sitk.GrayscaleErode,
                "dilation": sitk.GrayscaleDilate,
                "binary_erosion": sitk.BinaryErode,
            }[name]
            if name == "binary_erosion":
                result = function(itk, [radius] * 3, sitk.sitkBall, 0.0, 1.0)
            else:
                result = function(itk, [radius] * 3, sitk.sitkBall)
            return sitk.GetArrayFromImage(result)

        calls = {
            "medseg_fast": lambda: ours(image, ball),
            "SimpleITK": by_itk,
            "DIPlib": lambda: _diplib(image, name, 2 * radius, "elliptic"),
        }
        if name == "binary_erosion" and find_spec("edt"):
            import edt

            calls["edt >= r"] = lambda: edt.edt(image, black_border=False) > radius
        return image, calls

    return build


_ITK_BALL = "its ball of radius r has radius r + 1/2"
_BOUNDS = {"SimpleITK": _ITK_BALL, "DIPlib": "its ball of diameter 2 r lacks 30 of 515 voxels"}

CASES = [
    Case(
        operation,
        f"MNI152 {dtype} {size}^3",
        _box(operation, lambda dtype=dtype: mni152(np.dtype(dtype).type), size),
        same=_inner_equal(2 * size),
        target=1.5 if dtype == "uint8" else None,
    )
    for dtype in ("uint8", "uint16", "float32")
    for operation in ("morphological_gradient", "erosion", "dilation", "opening")
    for size in (3, 7)
    if dtype == "uint8" or (operation in ("morphological_gradient", "erosion"))
]
CASES += [
    Case(
        operation,
        f"photograph {size} uint8 {window}x{window}",
        _box(operation, lambda size=size: photograph(size), window),
        same=_inner_equal(2 * window),
        target=1.1,
    )
    for operation in ("morphological_gradient", "erosion", "dilation", "opening")
    for size, window in (("4096x4096", 15), ("1080x1920", 3))
]
CASES += [
    Case(
        operation,
        f"MNI152 {dtype}, ball r=5",
        _ball(operation, lambda dtype=dtype: mni152(np.dtype(dtype).type), 5),
        same=_inner_equal(10),
        target=2 if dtype == "uint8" else None,
        differs=_BOUNDS,
    )
    for dtype in ("uint8", "uint16", "float32")
    for operation in ("erosion", "dilation")
]
CASES.append(
    Case(
        "binary_erosion",
        "MNI152 bool, ball r=5",
        _ball("binary_erosion", lambda: mni152(np.uint8) > 60, 5),
        same=_inner_equal(10),
        differs=_BOUNDS,
    )
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_morphology(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
