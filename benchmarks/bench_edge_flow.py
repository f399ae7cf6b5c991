"""Edge flow, which no other library has, and Gabor filters beside OpenCV with the same kernels."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import photograph

import medseg_fast as ms
from medseg_fast import gabor


def _flow(size, features):
    def build():
        from skimage.feature import canny

        image = photograph(size, np.float32)
        return image, {
            "medseg_fast": lambda: ms.edge_flow(image, 2, features=features),
            "scikit-image canny": lambda: canny(image, 2),
        }

    return build


def _bank(scales, orientations):
    def build():
        import cv2

        image = photograph("1080x1920", np.float32)
        kernels = [
            gabor.kernel(scale, turn, scales, orientations, 0.05, 0.45, (1, 1))
            for scale in range(scales)
            for turn in range(orientations)
        ]

        def opencv():
            bank = np.empty((len(kernels), *image.shape), np.float32)
            for k, magnitude in zip(kernels, bank, strict=True):
                parts = [
                    cv2.filter2D(image, cv2.CV_32F, p, borderType=cv2.BORDER_REFLECT)
                    for p in (np.ascontiguousarray(k.real), np.ascontiguousarray(k.imag))
                ]
                cv2.magnitude(*parts, magnitude)
            return bank.reshape(scales, orientations, *image.shape)

        return image, {
            "medseg_fast": lambda: ms.gabor_bank(image, scales, orientations),
            "OpenCV filter2D": opencv,
        }

    return build


def _close(ours, theirs):
    """To what our separable parts leave out of the kernels."""
    np.testing.assert_allclose(ours, theirs, atol=3e-3 * np.abs(theirs).max())


_OTHER = {"scikit-image canny": "open edges, no regions"}

CASES = [
    *(
        Case("edge_flow", f"photograph {size} float32, {features}", build, differs=_OTHER)
        for size, features in (
            ("1080x1920", "intensity"),
            ("1080x1920", "both"),
            ("4096x4096", "intensity"),
        )
        for build in [_flow(size, features)]
    ),
    Case(
        "gabor_bank",
        "photograph 1080x1920 float32, 4 scales x 6",
        _bank(4, 6),
        same=_close,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_edge_flow(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
