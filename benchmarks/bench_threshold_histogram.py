"""Histogram thresholds beside scikit-image, OpenCV, mahotas, SimpleITK, DIPlib and PyTorch."""

from __future__ import annotations

import cv2
import diplib
import mahotas
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from _cases import Case
from _data import mni152, photograph
from skimage import filters

import medseg_fast as ms

cv2.setNumThreads(2)
torch.set_num_threads(2)

# How the rivals that compute something else differ.
OTHER_BINS = "its own binning or rounding of the threshold"
DIFFERS = {
    "OpenCV": "also writes the mask",
    "OpenCV histogram + NumPy": "bins of float32 without the look at the edges",
    "SimpleITK": OTHER_BINS,
    "DIPlib": OTHER_BINS,
    "torch.histc + NumPy": "bins in float32 without the look at the edges",
}


def otsu_of(counts):
    """What a careful user writes after a fast histogram."""
    counts = counts.astype(np.float64).ravel()
    number = counts.cumsum()[:-1]
    total = (counts * np.arange(counts.size)).cumsum()
    gap = total[-1] * number - total[:-1] * counts.sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return int(np.nanargmax(gap**2 / (number * (counts.sum() - number))))


def _opencv_histogram(image, bins, low, high):
    flat = image.reshape(1, -1)
    return cv2.calcHist([flat], [0], None, [bins], [low, high])


def _otsu(image):
    two_d = image.reshape(image.shape[0], -1)
    itk, dip = sitk.GetImageFromArray(image), diplib.Image(image)
    calls = {
        "medseg_fast": lambda: ms.threshold_otsu(image),
        "scikit-image": lambda: filters.threshold_otsu(image),
        "SimpleITK": lambda: _itk(sitk.OtsuThresholdImageFilter(), itk),
        "DIPlib": lambda: diplib.OtsuThreshold(diplib.Histogram(dip)),
    }
    if image.dtype == np.float32:
        tensor = torch.from_numpy(image)

        def histc():
            low, high = torch.aminmax(tensor)
            return otsu_of(torch.histc(tensor, 256, low.item(), high.item()).numpy())

        def opencv():
            low, high, _, _ = cv2.minMaxLoc(two_d)
            return otsu_of(_opencv_histogram(image, 256, low, np.nextafter(high, np.inf)))

        calls |= {"torch.histc + NumPy": histc, "OpenCV histogram + NumPy": opencv}
    else:
        top = int(np.iinfo(image.dtype).max) + 1
        calls["mahotas"] = lambda: mahotas.thresholding.otsu(image)
        calls["OpenCV histogram + NumPy"] = lambda: otsu_of(_opencv_histogram(image, top, 0, top))
        calls["OpenCV"] = lambda: int(cv2.threshold(two_d, 0, 1, cv2.THRESH_OTSU)[0])
    return calls


def _itk(method, image):
    method.SetNumberOfThreads(2)
    method.Execute(image)
    return method.GetThreshold()


def _itk_multi(image, classes):
    method = sitk.OtsuMultipleThresholdsImageFilter()
    method.SetNumberOfThreads(2)
    method.SetNumberOfThresholds(classes - 1)
    method.SetNumberOfHistogramBins(256)
    method.Execute(image)
    return method.GetThresholds()


def otsu_case(data, make, target=None):
    return Case(
        "threshold_otsu",
        data,
        lambda: (make(), _otsu(make())),
        differs=DIFFERS,
        target=target,
    )


def multiotsu_case(classes, target):
    def build():
        image = mni152(np.uint8)
        itk = sitk.GetImageFromArray(image)
        return image, {
            "medseg_fast": lambda: ms.threshold_multiotsu(image, classes),
            "scikit-image": lambda: filters.threshold_multiotsu(image, classes),
            "SimpleITK": lambda: _itk_multi(itk, classes),
        }

    return Case(
        f"threshold_multiotsu {classes}", "MNI152 uint8", build, differs=DIFFERS, target=target
    )


def other_case(method, dtype, rival=None, same=np.testing.assert_array_equal):
    """A method that scikit-image has, and SimpleITK's filter of that name where there is one."""

    def build():
        image = mni152(dtype)
        itk = sitk.GetImageFromArray(image)
        calls = {
            "medseg_fast": lambda: getattr(ms, f"threshold_{method}")(image),
            "scikit-image": lambda: getattr(filters, f"threshold_{method}")(image),
        }
        if rival is not None:
            calls["SimpleITK"] = lambda: _itk(rival(), itk)
        if method == "mean":
            two_d = image.reshape(image.shape[0], -1)
            calls["OpenCV"] = lambda: cv2.mean(two_d)[0]
            calls["torch"] = lambda: torch.from_numpy(image).mean(dtype=torch.float64).item()
        return image, calls

    differs = {} if method == "mean" else DIFFERS
    return Case(f"threshold_{method}", f"MNI152 {np.dtype(dtype)}", build, same, differs)


def close(ours, theirs):
    """Peers sum float32 in float32, or multiply by a rounded 1 / n."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


CASES = [
    otsu_case("MNI152 uint8", lambda: mni152(np.uint8), 3),
    otsu_case("MNI152 uint16", lambda: mni152(np.uint16), 1.3),
    otsu_case("MNI152 float32", lambda: mni152(np.float32), 5),
    otsu_case("512x512 uint8", lambda: photograph("512x512")),
    otsu_case("1080x1920 uint8", lambda: photograph("1080x1920")),
    otsu_case("4096x4096 uint8", lambda: photograph("4096x4096")),
    multiotsu_case(3, 10),
    multiotsu_case(4, 15),
    multiotsu_case(5, 300),
    other_case("yen", np.uint8, sitk.YenThresholdImageFilter),
    other_case("isodata", np.uint8, sitk.IsoDataThresholdImageFilter),
    other_case("triangle", np.uint8, sitk.TriangleThresholdImageFilter),
    other_case("minimum", np.uint8),
    other_case("li", np.uint8, sitk.LiThresholdImageFilter),
    other_case("li", np.float32, sitk.LiThresholdImageFilter, close),
    other_case("mean", np.uint8, same=close),
    other_case("mean", np.float32, same=close),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_threshold(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
