"""Boundaries of labels beside scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms


def _tissues():
    """Air, fluid, grey and white matter, fat: quantised by fixed grey values."""
    return np.digitize(mni152(np.uint8), [30, 80, 120, 170]).astype(np.int32)


def _find(make, mode, connectivity=1):
    def build():
        from skimage.segmentation import find_boundaries

        labels = make()
        return labels, {
            "medseg_fast": lambda: ms.find_boundaries(labels, connectivity, mode),
            "scikit-image": lambda: find_boundaries(labels, connectivity, mode),
        }

    return build


def _mark():
    from skimage.segmentation import mark_boundaries

    image = photograph("1080x1920")
    labels = (image // 64).astype(np.int32)
    return image, {
        "medseg_fast": lambda: ms.mark_boundaries(image, labels),
        "scikit-image": lambda: mark_boundaries(image, labels),
    }


CASES = [
    *(
        Case("find_boundaries", f"MNI152 5 tissues int32, {mode}", _find(_tissues, mode), target=8)
        for mode in ("thick", "inner", "outer")
    ),
    Case(
        "find_boundaries",
        "MNI152 5 tissues int32, thick, 26-connected",
        _find(_tissues, "thick", 3),
        target=8,
    ),
    Case(
        "find_boundaries",
        "photograph 4096x4096 uint8, thick",
        _find(lambda: photograph() // 64, "thick"),
        target=8,
    ),
    Case(
        "find_boundaries",
        "photograph 128x128 uint8, subpixel",
        _find(lambda: photograph("128x128") // 64, "subpixel"),
        target=8,
    ),
    Case("mark_boundaries", "photograph 1920x1080", _mark, target=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_boundaries(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
