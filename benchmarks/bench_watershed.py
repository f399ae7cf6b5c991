"""Marker watershed beside SimpleITK, SciPy, scikit-image, OpenCV, DIPlib and vigra.

vigra is timed where it can be imported: Debian's python3-vigra wants NumPy 1.x.

scikit-image with watershed_line takes tens of seconds for a head, because a pixel of a line lets
its neighbours enter again each time that it leaves the queue.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, mni152_halved, photograph

import medseg_fast as ms

CROP = (slice(40, 140), slice(60, 160), slice(50, 150))  # a million voxels inside the head


@functools.cache
def _scene(name):
    """Gradient magnitude in float32, and markers: minima of the smoothed gradient, labelled.

    At half and double size all widths are halved and doubled too, so that the same scene is
    flooded at 1.1, 8.7 and 69 million voxels.
    """
    from scipy import ndimage

    make = {
        "MNI152": lambda: mni152(np.float32),
        "MNI152 crop": lambda: mni152(np.float32)[CROP],
        "MNI152 halved": lambda: mni152_halved(np.float32),
        "MNI152 doubled": lambda: mni152_doubled(np.float32),
        "photograph 1920x1080": lambda: photograph("1080x1920", np.float32),
        "photograph 4096x4096": lambda: photograph("4096x4096", np.float32),
    }
    image, width = make[name](), {"halved": 0.5, "doubled": 2}.get(name.split()[-1], 1)
    gradient = ndimage.gaussian_gradient_magnitude(image, width)
    smooth = ndimage.gaussian_filter(gradient, 2 * width)
    lowest = smooth == ndimage.minimum_filter(smooth, int(8 * width) + 1)
    markers = ndimage.label(lowest, np.ones((3,) * image.ndim))[0].astype(np.int32)
    return gradient, markers


def _flood(name, dtype, connectivity=1, line=False):
    def build():
        gradient, markers = _scene(name)
        image = gradient
        if np.dtype(dtype).kind == "u":
            image = (gradient * (np.iinfo(dtype).max / gradient.max())).astype(dtype)
        calls = {
            "medseg_fast": lambda: ms.watershed(image, markers, connectivity, watershed_line=line)
        }
        if image.size < 20_000_000:  # rivals would take minutes
            for add in (_skimage, _sitk, _ift, _opencv, _diplib, _vigra):
                add(calls, image, markers, connectivity, line)
        return image, calls

    return build


def _skimage(calls, image, markers, connectivity, line):
    from skimage.segmentation import watershed

    calls["scikit-image"] = lambda: watershed(image, markers, connectivity, watershed_line=line)


def _sitk(calls, image, markers, connectivity, line):
    import SimpleITK as sitk

    if image.dtype.kind == "f" or line or connectivity not in (1, image.ndim):
        return  # 15 s in float32
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    full = connectivity == image.ndim

    def call():
        return sitk.GetArrayFromImage(
            sitk.MorphologicalWatershedFromMarkers(
                sitk.GetImageFromArray(image), sitk.GetImageFromArray(markers), False, full
            )
        )

    calls["SimpleITK"] = call


def _ift(calls, image, markers, connectivity, line):
    from scipy import ndimage

    if image.dtype.itemsize > 2 or image.dtype.kind == "f" or line:
        return
    structure = ndimage.generate_binary_structure(image.ndim, connectivity)
    calls["SciPy IFT"] = lambda: ndimage.watershed_ift(image, markers, structure)


def _opencv(calls, image, markers, connectivity, line):
    import cv2

    if image.ndim == 2 and image.dtype == np.uint8:
        colour = np.repeat(image[..., None], 3, axis=2)  # not timed
        calls["OpenCV"] = lambda: cv2.watershed(colour, markers.copy())


def _diplib(calls, image, markers, connectivity, line):
    import diplib

    view, seeds = diplib.Image(image), diplib.Image(markers.astype(np.uint32))
    flags = set() if line else {"no gaps"}
    calls["DIPlib"] = lambda: diplib.SeededWatershed(
        view, seeds, connectivity=connectivity, flags=flags
    )


def _vigra(calls, image, markers, connectivity, line):
    if find_spec("vigra") is None or image.dtype == np.uint16 or line:
        return
    from vigra.analysis import watershedsNew

    neighbourhood = (3**image.ndim - 1) if connectivity == image.ndim else 2 * image.ndim
    seeds = markers.astype(np.uint32)
    calls["vigra"] = lambda: watershedsNew(image, neighbourhood, seeds)[0]


_TIES = "pops markers of equal value in its heap's order"
_OTHER = {
    "SciPy IFT": "an image foresting transform: levels may fall",
    "OpenCV": "floods by colour difference",
    "DIPlib": "another order among equal values",
    "scikit-image": _TIES,
    "vigra": "another order among equal values",
}


def _case(data, dtype, neighbours, target, connectivity=1, line=False):
    name = f"{data} {np.dtype(dtype)}, {neighbours}-connected" + (", lines" if line else "")
    build = _flood(data, dtype, connectivity, line)
    return Case("watershed", name, build, differs=_OTHER, target=target)


def _split():
    """The mask's objects told apart: beside the recipe typed by hand, from the same mask."""
    from scipy import ndimage
    from skimage import measure, morphology
    from skimage.segmentation import watershed

    mask = photograph("1080x1920", np.uint8) < 100

    def by_hand():
        distance = ndimage.distance_transform_edt(mask)
        markers = measure.label(morphology.h_maxima(distance, 1), connectivity=1)
        return watershed(-distance, markers, mask=mask)

    return mask, {"medseg_fast": lambda: ms.split_touching(mask), "SciPy + scikit-image": by_hand}


_MARKERS = {"SciPy + scikit-image": "whole h-maxima as markers, not their peaks"}

CASES = [
    _case("MNI152 crop", np.uint8, 6, 3),
    _case("MNI152 halved", np.uint8, 6, 3),
    _case("MNI152", np.uint8, 6, 3),
    _case("MNI152 doubled", np.uint8, 6, None),
    _case("MNI152", np.uint8, 26, 3, 3),
    _case("MNI152", np.uint16, 6, 3),
    _case("MNI152 crop", np.float32, 6, 3),
    _case("MNI152 halved", np.float32, 6, 3),
    _case("MNI152", np.float32, 6, 3),
    _case("MNI152", np.float32, 26, 3, 3),
    _case("MNI152", np.float32, 6, 3, line=True),
    _case("photograph 1920x1080", np.uint8, 4, 3),
    _case("photograph 4096x4096", np.uint8, 4, 3),
    Case("split_touching", "photograph 1920x1080 mask", _split, differs=_MARKERS),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_watershed(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
