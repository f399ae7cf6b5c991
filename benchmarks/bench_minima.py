"""Regional extrema and reconstruction beside scikit-image, DIPlib and SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms


def _minima(make, connectivity):
    def build():
        import diplib
        import SimpleITK
        from skimage import morphology

        image = make()
        full = connectivity == image.ndim
        view, itk = diplib.Image(image), SimpleITK.GetImageFromArray(image)
        return image, {
            "medseg_fast": lambda: ms.local_minima(image, connectivity=connectivity),
            "scikit-image": lambda: morphology.local_minima(image, connectivity=connectivity),
            "DIPlib": lambda: np.asarray(diplib.Minima(view, connectivity=connectivity)),
            "SimpleITK": lambda: SimpleITK.GetArrayFromImage(
                SimpleITK.RegionalMinima(itk, 0, 1, full)
            ).astype(bool),
        }

    return build


def _seed(image, share=0.5):
    return (image * share).astype(image.dtype)


def _reconstruction(make):
    def build():
        import SimpleITK
        from skimage import morphology

        image = make()
        seed = _seed(image)
        itk_seed, itk = (SimpleITK.GetImageFromArray(a) for a in (seed, image))
        return image, {
            "medseg_fast": lambda: ms.reconstruction(seed, image),
            "scikit-image": lambda: morphology.reconstruction(seed, image),
            "SimpleITK": lambda: SimpleITK.GetArrayFromImage(
                SimpleITK.ReconstructionByDilation(itk_seed, itk, True)
            ),
        }

    return build


def _h_minima(make, h):
    def build():
        from skimage import morphology

        image = make()
        return image, {
            "medseg_fast": lambda: ms.h_minima(image, h),
            "scikit-image": lambda: morphology.h_minima(image, h),
        }

    return build


def _head(dtype):
    return lambda: mni152(dtype)


CASES = [
    Case("local_minima", "MNI152 uint8, 26-connected", _minima(_head(np.uint8), 3), target=2),
    Case("local_minima", "MNI152 uint8, 6-connected", _minima(_head(np.uint8), 1), target=2),
    Case("local_minima", "MNI152 float32, 26-connected", _minima(_head(np.float32), 3), target=2),
    Case("local_minima", "photograph 4096x4096", _minima(photograph, 2), target=2),
    Case("reconstruction", "MNI152 uint8", _reconstruction(_head(np.uint8)), target=2),
    Case("reconstruction", "MNI152 float32", _reconstruction(_head(np.float32)), target=2),
    Case("h_minima", "MNI152 uint8, h=10", _h_minima(_head(np.uint8), 10), target=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_minima(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
