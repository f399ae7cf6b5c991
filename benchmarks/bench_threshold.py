"""Global thresholds beside scikit-image, OpenCV and mahotas."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152

import medseg_fast as ms


def _compare(dtype):
    def build():
        image = mni152(dtype)
        t = image.max() / 2
        return image, {
            "medseg_fast": lambda: ms.threshold(image, t),
            "numpy": lambda: image >= t,
        }

    return build


CASES = [Case("threshold", f"MNI152 {np.dtype(d)}", _compare(d)) for d in (np.uint8, np.float32)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_threshold(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
