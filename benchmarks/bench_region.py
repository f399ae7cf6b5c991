"""Region growing by interval beside cc3d, scikit-image, SimpleITK, SciPy, imops, DIPlib, OpenCV."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms

SEED = (100, 120, 70)  # white matter of the MNI152 head
SKY = (0, 0)
FACES, FULL = 1, 3


def _interval(image, seed, part):
    """The seed's value plus and minus a part of the image's range."""
    value, reach = float(image[seed]), part * float(image.max())
    return np.array([max(value - reach, 0), min(value + reach, image.max())]).astype(image.dtype)


def _threshold(dtype, connectivity, part):
    def build():
        import cc3d
        import SimpleITK as sitk
        from imops.measure import label as imops_label
        from scipy import ndimage
        from skimage.segmentation import flood

        image = mni152(dtype)
        low, high = _interval(image, SEED, part)
        point = [[int(x) for x in SEED[::-1]]]
        itk = sitk.GetImageFromArray(image)
        shape = ndimage.generate_binary_structure(3, connectivity)

        def inside():
            return (image >= low) & (image <= high)

        def by_cc3d():
            labels = cc3d.connected_components(
                inside(), connectivity={FACES: 6, FULL: 26}[connectivity]
            )
            return labels == labels[SEED]

        def by_scipy():
            labels, _ = ndimage.label(inside(), shape)
            return labels == labels[SEED]

        def by_imops():
            labels = imops_label(inside(), connectivity=connectivity)
            return labels == labels[SEED]

        def by_skimage():
            half = (float(high) - float(low)) / 2
            return flood(image, SEED, connectivity=connectivity, tolerance=half)

        def by_itk():
            neighbours = (
                sitk.ConnectedThresholdImageFilter.FullConnectivity
                if connectivity == FULL
                else sitk.ConnectedThresholdImageFilter.FaceConnectivity
            )
            grown = sitk.ConnectedThreshold(itk, point, float(low), float(high), 1, neighbours)
            return sitk.GetArrayViewFromImage(grown) != 0

        return image, {
            "medseg_fast": lambda: ms.connected_threshold(
                image, SEED, float(low), float(high), connectivity
            ),
            "cc3d": by_cc3d,
            "scipy": by_scipy,
            "imops": by_imops,
            "scikit-image flood": by_skimage,
            "SimpleITK": by_itk,
            **_diplib(inside, connectivity),
        }

    return build


def _diplib(inside, connectivity):
    import diplib

    def grow():
        labels = np.asarray(diplib.Label(diplib.Image(inside()), connectivity=connectivity))
        return labels == labels[SEED]

    return {"DIPlib": grow}


def _photo(tolerance):
    def build():
        import cv2
        from skimage.segmentation import flood

        image = photograph("4096x4096", np.uint8)
        rows, columns = image.shape

        def by_opencv():
            mask = np.zeros((rows + 2, columns + 2), np.uint8)
            flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
            cv2.floodFill(image, mask, SKY[::-1], 0, tolerance, tolerance, flags)
            return mask[1:-1, 1:-1].view(bool)

        return image, {
            "medseg_fast": lambda: ms.flood(image, SKY, connectivity=1, tolerance=tolerance),
            "OpenCV": by_opencv,
            "scikit-image": lambda: flood(image, SKY, connectivity=1, tolerance=tolerance),
        }

    return build


def _confidence():
    import cc3d
    import SimpleITK as sitk

    image = mni152(np.float32)
    point = [[int(x) for x in SEED[::-1]]]
    itk = sitk.GetImageFromArray(image)
    multiplier, iterations = 2.5, 4

    def by_numpy():
        box = image[tuple(slice(x - 1, x + 2) for x in SEED)].astype(np.float64)
        mean, deviation = box.mean(), box.std(ddof=1)
        for iteration in range(iterations + 1):
            low, high = mean - multiplier * deviation, mean + multiplier * deviation
            low, high = min(low, float(image[SEED])), max(high, float(image[SEED]))
            inside = (image >= np.float32(low)) & (image <= np.float32(high))
            labels = cc3d.connected_components(inside, connectivity=6)
            mask = labels == labels[SEED]
            if iteration < iterations:
                values = image[mask].astype(np.float64)
                mean, deviation = values.mean(), values.std(ddof=1)
        return mask

    def by_itk():
        grown = sitk.ConfidenceConnected(itk, point, iterations, multiplier, 1)
        return sitk.GetArrayViewFromImage(grown) != 0  # a view does not keep its image alive

    return image, {
        "medseg_fast": lambda: ms.confidence_connected(image, SEED, multiplier, iterations),
        "numpy + cc3d": by_numpy,
        "SimpleITK": by_itk,
    }


def _few_differ(ours, theirs):
    """Sums in another order: the limits may differ in the last place, and a voxel with them."""
    assert (ours != theirs).sum() <= 1e-6 * ours.size


CASES = [
    Case(
        "connected_threshold",
        f"MNI152 {np.dtype(dtype)} {neighbours} neighbours, +-{100 * part:g} %",
        _threshold(dtype, connectivity, part),
        target=2.5,
        differs={"scikit-image flood": "takes its limits around the seed's value"},
    )
    for dtype in (np.float32, np.uint16)
    for connectivity, neighbours in ((FACES, 6), (FULL, 26))
    for part in (0.1, 0.3)
]
CASES += [
    Case("flood", f"4096^2 uint8, tolerance {tolerance}", _photo(tolerance), target=1.2)
    for tolerance in (20, 60)
]
CASES.append(
    Case("confidence_connected", "MNI152 float32", _confidence, same=_few_differ, target=8)
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_region(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
