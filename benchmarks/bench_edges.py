"""Gradients, Roberts' cross and Laplacian beside OpenCV, scikit-image and SimpleITK.

OpenCV has no magnitude in 3D: it is composed of separable 2D filters along pairs of axes, as its
user has to. Its border "reflect" is ours.
"""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, photograph

import medseg_fast as ms

# Weights before, at and after the pixel along an axis: smoothing, by filter.
_SMOOTH = {
    "sobel": np.array([1, 2, 1], np.float32) / 4,
    "prewitt": np.ones(3, np.float32) / 3,
    "scharr": np.array([3, 10, 3], np.float32) / 16,
}
_EDGE = np.array([-1, 0, 1], np.float32)


def _close(ours, theirs):
    """float32 sums of values up to 255 with weights of both signs: 30 roundings."""
    limit = 30 * np.finfo(np.float32).eps * max(1.0, float(np.abs(ours).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def _opencv_2d(image, name):
    import cv2

    smooth, border = _SMOOTH[name], cv2.BORDER_REFLECT
    across = cv2.sepFilter2D(image, cv2.CV_32F, _EDGE, smooth, borderType=border)
    down = cv2.sepFilter2D(image, cv2.CV_32F, smooth, _EDGE, borderType=border)
    scale = 1 / np.sqrt(2) / (255 if image.dtype == np.uint8 else 1)
    return cv2.multiply(cv2.magnitude(across, down), scale)


def _opencv_3d(image, name):
    import cv2

    smooth, border = _SMOOTH[name], cv2.BORDER_REFLECT
    one = np.ones(1, np.float32)
    depth, rows, columns = image.shape
    total = None
    for axis in range(3):
        lines = [_EDGE if axis == k else smooth for k in range(3)]
        part = np.empty_like(image)
        for z in range(depth):
            cv2.sepFilter2D(image[z], cv2.CV_32F, lines[2], lines[1], part[z], borderType=border)
        flat = part.reshape(depth, rows * columns)
        flat = cv2.sepFilter2D(flat, cv2.CV_32F, one, lines[0], borderType=border)
        square = cv2.multiply(flat, flat)
        total = square if total is None else cv2.add(total, square, total)
    return cv2.sqrt(cv2.multiply(total, 1 / 3)).reshape(image.shape)


def _gradient(name, make, **keywords):
    def build():
        from skimage import filters

        image = make()
        composed = _opencv_2d if image.ndim == 2 else _opencv_3d
        calls = {
            "medseg_fast": lambda: getattr(ms, name)(image, **keywords),
            "OpenCV composed": lambda: composed(image, name),
        }
        if image.size < 20_000_000:  # seconds beyond
            calls["scikit-image"] = lambda: getattr(filters, name)(image)
        if name == "sobel" and image.ndim == 3 and image.size < 20_000_000:
            calls["SimpleITK"] = lambda: _itk(image)
        return image, calls

    return build


def _itk(image):
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.SobelEdgeDetection(sitk.GetImageFromArray(image)))


def _with_out(name, make):
    def build():
        image = make()
        out = np.zeros(image.shape, np.float32)
        composed = _opencv_2d if image.ndim == 2 else _opencv_3d
        return image, {
            "medseg_fast": lambda: getattr(ms, name)(image, out=out),
            "OpenCV composed": lambda: composed(image, name),
        }

    return build


def _roberts(make, **keywords):
    def build():
        import cv2
        from skimage import filters

        image = make()

        def opencv():
            kernels = [np.array(k, np.float32) for k in ([[-1, 0], [0, 1]], [[0, -1], [1, 0]])]
            # The anchor is the pixel itself; OpenCV's "replicate" is "reflect" for one pixel.
            first, second = (
                cv2.filter2D(image, cv2.CV_32F, k, anchor=(0, 0), borderType=cv2.BORDER_REPLICATE)
                for k in kernels
            )
            scale = 1 / np.sqrt(2) / (255 if image.dtype == np.uint8 else 1)
            return cv2.multiply(cv2.magnitude(first, second), scale)

        return image, {
            "medseg_fast": lambda: ms.roberts(image, **keywords),
            "OpenCV composed": opencv,
            "scikit-image": lambda: filters.roberts(image),
        }

    return build


def _laplace(make):
    def build():
        import cv2
        from skimage import filters

        image = make()
        calls = {
            "medseg_fast": lambda: ms.laplace(image),
            "scikit-image": lambda: filters.laplace(image),
        }
        if image.ndim == 2:
            calls["OpenCV"] = lambda: cv2.Laplacian(
                image, cv2.CV_32F, scale=-1, borderType=cv2.BORDER_REFLECT
            )
        else:
            calls["OpenCV composed"] = lambda: _opencv_laplace_3d(image)
        return image, calls

    return build


def _opencv_laplace_3d(image):
    import cv2

    second, one = np.array([-1, 2, -1], np.float32), np.ones(1, np.float32)
    depth, rows, columns = image.shape
    flat = image.reshape(depth, rows * columns)
    result = cv2.sepFilter2D(flat, cv2.CV_32F, one, second, borderType=cv2.BORDER_REFLECT)
    result = result.reshape(image.shape)
    for z in range(depth):
        plane = cv2.Laplacian(image[z], cv2.CV_32F, scale=-1, borderType=cv2.BORDER_REFLECT)
        cv2.add(result[z], plane, result[z])
    return result


def _zero_crossings():
    import SimpleITK as sitk

    image = ms.gaussian_laplace(mni152(np.float32), 2)
    return image, {
        "medseg_fast": lambda: ms.zero_crossings(image),
        "SimpleITK": lambda: sitk.GetArrayFromImage(
            sitk.ZeroCrossing(sitk.GetImageFromArray(image))
        ),
    }


def _head():
    return mni152(np.float32)


def _large_head():
    return mni152_doubled(np.float32)


def _photo(size="4096x4096", dtype=np.float32):
    return lambda: photograph(size, dtype)


_ITK = {"SimpleITK": "other weights in 3D"}
_SMALL = _photo("1080x1920", np.uint8)
_F32 = {"dtype": np.float32}

CASES = [
    Case("sobel", "MNI152 float32", _gradient("sobel", _head), _close, _ITK, target=5),
    Case("sobel", "MNI152 doubled float32", _gradient("sobel", _large_head), _close, target=5),
    Case("sobel", "MNI152 float32, out=", _with_out("sobel", _head), _close, target=5),
    Case(
        "sobel", "1920x1080 uint8 to float32", _gradient("sobel", _SMALL, **_F32), _close, target=2
    ),
    Case("sobel", "1920x1080 uint8 to float32, out=", _with_out("sobel", _SMALL), _close, target=2),
    Case("sobel", "4096x4096 float32", _gradient("sobel", _photo()), _close, target=2),
    Case("scharr", "4096x4096 float32", _gradient("scharr", _photo()), _close, target=2),
    Case("prewitt", "4096x4096 float32", _gradient("prewitt", _photo()), _close, target=2),
    Case("roberts", "4096x4096 float32", _roberts(_photo()), _close, target=2),
    Case("roberts", "1920x1080 uint8 to float32", _roberts(_SMALL, **_F32), _close, target=2),
    Case("laplace", "4096x4096 float32", _laplace(_photo()), _close, target=1.3),
    Case("laplace", "MNI152 float32", _laplace(_head), _close, target=1.3),
    Case("zero_crossings", "Laplacian of MNI152 float32", _zero_crossings),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_edges(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
