"""Local thresholds beside OpenCV, SciPy, scikit-image, DIPlib and ITK (torch takes seconds)."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms

BLOCK = 35
_OPENCV = "OpenCV rounds the threshold to 8 bits and repeats the edge pixel (nearest)"
_KERNEL = "; its Gaussian has block_size taps, without the tails beyond 3 sigma"
_BINARY = "DIPlib's filters extend the border in another way"


def _mask_2d(method: str):
    """The mask of a photograph: every rival gives the pixels above their local level."""

    def build():
        import cv2
        import diplib as dip
        from scipy import ndimage
        from skimage.filters import threshold_local

        image = photograph()
        calls = {
            "medseg_fast": lambda: ms.threshold_local(image, BLOCK, method, binary=True),
            "scikit-image": lambda: image > threshold_local(image, BLOCK, method),
        }
        if method == "median":
            del calls["scikit-image"]  # minutes
            calls["OpenCV"] = lambda: image > cv2.medianBlur(image, BLOCK)
            return image, calls
        kind = {"mean": cv2.ADAPTIVE_THRESH_MEAN_C, "gaussian": cv2.ADAPTIVE_THRESH_GAUSSIAN_C}
        calls["OpenCV"] = lambda: cv2.adaptiveThreshold(
            image, 1, kind[method], cv2.THRESH_BINARY, BLOCK, 0
        )
        if method == "mean":
            calls["DIPlib"] = lambda: (
                image > np.asarray(dip.Uniform(image, dip.Kernel(BLOCK, "rectangular")))
            )
            calls["SciPy"] = lambda: image > ndimage.uniform_filter(image, BLOCK, np.float64)
        else:
            sigma = (BLOCK - 1) / 6
            calls["DIPlib"] = lambda: image > np.asarray(dip.Gauss(image, [sigma]))
        return image, calls

    return build


def _few_ties(ours, theirs):
    """Masks whose peers round sums: pixels equal to their level may fall on either side."""
    assert np.count_nonzero(ours != theirs) <= 0.03 * ours.size


def _levels(method: str, image_of):
    """The float image of thresholds, as scikit-image returns it."""

    def build():
        from skimage.filters import threshold_local

        image = image_of()
        return image, {
            "medseg_fast": lambda: ms.threshold_local(image, BLOCK, method),
            "scikit-image": lambda: threshold_local(image, BLOCK, method),
        }

    return build


def _medians(image_of, size: int):
    def build():
        import diplib as dip
        import SimpleITK as sitk
        from scipy import ndimage

        image = image_of()
        itk = sitk.GetImageFromArray(image)
        radius = [size // 2] * image.ndim
        return image, {
            "medseg_fast": lambda: ms.threshold_local(image, size, "median"),
            "SciPy": lambda: ndimage.median_filter(image, size),
            "SimpleITK": lambda: sitk.GetArrayFromImage(sitk.Median(itk, radius)),
            "DIPlib": lambda: np.asarray(dip.MedianFilter(image, dip.Kernel(size, "rectangular"))),
        }

    return build


def _mean_std(name: str, image_of):
    def build():
        from skimage import filters

        image = image_of()
        ours, theirs = getattr(ms, name), getattr(filters, name)
        return image, {
            "medseg_fast": lambda: ours(image, 15),
            "scikit-image": lambda: theirs(image, 15),
        }

    return build


def _close(ours, theirs):
    # Single precision squares of up to 4095 in the peer; its float64 integral images else.
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2 if ours.dtype == np.float32 else 1e-3)


def _photograph(dtype=np.uint8):
    return lambda: photograph(dtype=dtype)


def _head(dtype):
    return lambda: mni152(dtype)


_PHOTO, _HEAD = "photograph 4096x4096 uint8", "MNI152"
_border = {"DIPlib": _BINARY}
_itk = {"SimpleITK": "repeats the edge pixel (nearest)", "DIPlib": "mirrors at the edge pixel"}

CASES = [
    Case(
        "threshold_local mean 35, mask",
        _PHOTO,
        _mask_2d("mean"),
        _few_ties,
        {"OpenCV": _OPENCV, "SciPy": "ties fall as its running sums round", **_border},
        target=2,
    ),
    Case(
        "threshold_local gaussian 35, mask",
        _PHOTO,
        _mask_2d("gaussian"),
        differs={"OpenCV": _OPENCV + _KERNEL, **_border},
        target=2,
    ),
    Case(
        "threshold_local median 35, mask",
        _PHOTO,
        _mask_2d("median"),
        differs={"OpenCV": "repeats the edge pixel (nearest)"},
        target=1.5,
    ),
    Case(
        "threshold_local mean 35, thresholds",
        _PHOTO,
        _levels("mean", _photograph()),
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-9),
    ),
    Case("threshold_local gaussian 35, thresholds", _PHOTO, _levels("gaussian", _photograph())),
    Case(
        "threshold_local mean 35, thresholds",
        f"{_HEAD} float32",
        _levels("mean", _head(np.float32)),
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-3),
    ),
    Case(
        "threshold_local gaussian 35, thresholds",
        f"{_HEAD} float32",
        _levels("gaussian", _head(np.float32)),
    ),
    Case(
        "threshold_local median 5, thresholds",
        "photograph 1080x1920 uint16",
        _medians(lambda: photograph("1080x1920", np.uint16), 5),
        differs=_itk,
    ),
    Case(
        "threshold_local median 3, thresholds",
        f"{_HEAD} uint16",
        _medians(_head(np.uint16), 3),
        differs=_itk,
    ),
]
for _name in ("threshold_niblack", "threshold_sauvola"):
    CASES += [
        Case(_name, _PHOTO, _mean_std(_name, _photograph()), _close),
        Case(_name, f"{_HEAD} uint16", _mean_std(_name, _head(np.uint16)), _close),
        Case(_name, f"{_HEAD} float32", _mean_std(_name, _head(np.float32)), _close),
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_threshold_local(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
