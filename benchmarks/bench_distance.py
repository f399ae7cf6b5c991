"""Distance transforms beside DIPlib, imops, edt and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, photograph

import medseg_fast as ms

ANISOTROPIC = (2.5, 0.9, 0.9)
IRREGULAR = (2.5, 0.9123457, 0.9876543)


def head(doubled=False):
    from skimage.filters import threshold_otsu

    volume = mni152_doubled(np.uint8) if doubled else mni152(np.uint8)
    return volume > threshold_otsu(mni152(np.uint8))


def noise(shape, density):
    return np.random.default_rng(0).random(shape) < density


def one_background_voxel(shape):
    mask = np.ones(shape, bool)
    mask[tuple(n // 3 for n in shape)] = False
    return mask


def _same_distances(ours, theirs):
    """Rivals return float32, and DIPlib and edt compute in it."""
    np.testing.assert_allclose(np.asarray(theirs), ours, rtol=2e-6)


def _distances(make, sampling=None):
    def build():
        import diplib
        import imops.morphology
        from scipy import ndimage

        mask = make()
        image = diplib.Image(mask)
        image.SetPixelSize(list(sampling or (1,) * mask.ndim)[::-1])
        calls = {
            "medseg_fast": lambda: ms.distance_transform_edt(mask, sampling),
            "DIPlib": lambda: np.asarray(diplib.EuclideanDistanceTransform(image, border="object")),
            "imops": lambda: imops.morphology.distance_transform_edt(
                mask, sampling=sampling, num_threads=2
            ),
        }
        try:
            import edt

            calls["edt"] = lambda: edt.edt(mask, anisotropy=sampling, parallel=2)
        except ImportError:
            pass
        if mask.size < 20_000_000:
            calls["SciPy"] = lambda: ndimage.distance_transform_edt(mask, sampling)
        return mask, calls

    return build


def _indices():
    from scipy import ndimage

    mask = head()
    call = ndimage.distance_transform_edt
    return mask, {
        "medseg_fast": lambda: ms.distance_transform_edt(mask, return_indices=True)[1],
        "SciPy": lambda: call(mask, return_indices=True)[1],
    }


def _signed():
    import SimpleITK as sitk
    from scipy import ndimage

    mask = head()
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    call = ndimage.distance_transform_edt
    return mask, {
        "medseg_fast": lambda: ms.signed_distance(mask),
        "SciPy": lambda: call(~mask) - call(mask),
        "SimpleITK": lambda: sitk.GetArrayFromImage(
            sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
        ),
    }


def _expand(distance):
    def build():
        from skimage.segmentation import expand_labels

        labels = ms.label(~head(), connectivity=1, dtype=np.int32)
        return labels, {
            "medseg_fast": lambda: ms.expand_labels(labels, distance),
            "scikit-image": lambda: expand_labels(labels, distance),
        }

    return build


def _case(data, make, sampling=None, target=1.5):
    # edt treats a voxel size as float32, so that 0.9 mm is another size.
    build = _distances(make, sampling)
    return Case("distance_transform_edt", data, build, same=_same_distances, target=target)


_SURFACE = "measures to the surface voxels of the mask, which are at 0"
CASES = [
    _case("MNI152 doubled", lambda: head(doubled=True)),
    _case("MNI152 doubled, outside", lambda: ~head(doubled=True)),
    _case("MNI152", head),
    _case("MNI152, outside", lambda: ~head()),
    _case("MNI152, 2.5 x 0.9 x 0.9 mm", head, ANISOTROPIC),
    _case("MNI152, outside, 2.5 x 0.9 x 0.9 mm", lambda: ~head(), ANISOTROPIC),
    _case("MNI152, no common unit", head, IRREGULAR),
    _case("MNI152, outside, no common unit", lambda: ~head(), IRREGULAR),
    _case("photograph 4096x4096", lambda: photograph() > 102),
    _case("noise 256^3 p=0.5", lambda: noise((256,) * 3, 0.5)),
    _case("noise 256^3 p=0.999", lambda: noise((256,) * 3, 0.999)),
    _case("one background voxel of 8.7M", lambda: one_background_voxel((189, 233, 197))),
    _case("one background pixel of 4096^2", lambda: one_background_voxel((4096, 4096))),
    Case("distance_transform_edt indices", "MNI152", _indices, target=8),
    Case(
        "signed_distance",
        "MNI152",
        _signed,
        same=_same_distances,
        differs={"SimpleITK": _SURFACE},
        target=3,
    ),
    Case("expand_labels by 5", "MNI152", _expand(5), target=8),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_distance(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
