"""Gaussians beside OpenCV, DIPlib, SciPy and scikit-image.

Rivals with the same kernel (cut off at 4 sigma) and border only; OpenCV is composed of 2D filters
in 3D.
"""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, photograph

import medseg_fast as ms


def _close(ours, theirs):
    """float32: up to 33 products an axis, of values up to the largest."""
    limit = 3 * 40 * np.finfo(np.float32).eps * max(1.0, float(np.abs(ours).max()))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=limit)


def _kernel(sigma):
    x = np.arange(-int(4 * sigma + 0.5), int(4 * sigma + 0.5) + 1)
    line = np.exp(-(x**2) / (2 * sigma**2))
    return (line / line.sum()).astype(np.float32)


def _opencv(image, sigma):
    import cv2

    line, one = _kernel(sigma), np.ones(1, np.float32)
    if image.ndim == 2:
        scale = 1 / 255 if image.dtype == np.uint8 else 1
        border = cv2.BORDER_REPLICATE
        return cv2.sepFilter2D(image, cv2.CV_32F, line, line * scale, borderType=border)
    depth, rows, columns = image.shape
    part = np.empty_like(image)
    for z in range(depth):
        cv2.sepFilter2D(image[z], -1, line, line, part[z], borderType=cv2.BORDER_REPLICATE)
    flat = part.reshape(depth, rows * columns)
    flat = cv2.sepFilter2D(flat, -1, one, line, borderType=cv2.BORDER_REPLICATE)
    return flat.reshape(image.shape)


def _diplib(image, sigma):
    import diplib

    border = ["zero order"]
    return np.asarray(diplib.GaussFIR(diplib.Image(image), [sigma], [0], border, 4.0))


def _gaussian(make, sigma, **keywords):
    def build():
        from skimage import filters

        image = make()
        calls = {
            "medseg_fast": lambda: ms.gaussian(image, sigma, **keywords),
            "OpenCV composed" if image.ndim == 3 else "OpenCV": lambda: _opencv(image, sigma),
        }
        if image.dtype == np.float32 and image.size < 20_000_000:
            calls["DIPlib"] = lambda: _diplib(image, sigma)
            calls["scikit-image"] = lambda: filters.gaussian(image, sigma)
        return image, calls

    return build


def _derivative(name, sigma):
    def build():
        from scipy import ndimage

        image = mni152(np.float32)
        return image, {
            "medseg_fast": lambda: getattr(ms, name)(image, sigma),
            "SciPy": lambda: getattr(ndimage, name)(image, sigma),
        }

    return build


def _difference():
    from skimage import filters

    image = mni152(np.float32)
    return image, {
        "medseg_fast": lambda: ms.difference_of_gaussians(image, 1),
        "scikit-image": lambda: filters.difference_of_gaussians(image, 1),
    }


def _head():
    return mni152(np.float32)


def _photo(size="4096x4096", dtype=np.float32):
    return lambda: photograph(size, dtype)


_SMALL = _photo("1080x1920", np.uint8)
_DIPLIB = {"DIPlib": "normalises its kernel otherwise"}

CASES = [
    Case("gaussian", "MNI152 float32, sigma 1", _gaussian(_head, 1), _close, _DIPLIB, 1.5),
    Case("gaussian", "MNI152 float32, sigma 2", _gaussian(_head, 2), _close, _DIPLIB, 1.5),
    Case("gaussian", "MNI152 float32, sigma 4", _gaussian(_head, 4), _close, _DIPLIB, 1.5),
    Case(
        "gaussian",
        "MNI152 doubled float32, sigma 2",
        _gaussian(lambda: mni152_doubled(np.float32), 2),
        _close,
        target=1.5,
    ),
    Case("gaussian", "4096x4096 float32, sigma 4", _gaussian(_photo(), 4), _close, _DIPLIB, 1.2),
    Case(
        "gaussian",
        "1920x1080 uint8 to float32, sigma 1",
        _gaussian(_SMALL, 1, dtype=np.float32),
        _close,
        target=1.2,
    ),
    Case(
        "gaussian_gradient_magnitude",
        "MNI152 float32, sigma 2",
        _derivative("gaussian_gradient_magnitude", 2),
        _close,
    ),
    Case("gaussian_laplace", "MNI152 float32, sigma 2", _derivative("gaussian_laplace", 2), _close),
    Case("difference_of_gaussians", "MNI152 float32, sigma 1", _difference, _close),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gaussian(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
