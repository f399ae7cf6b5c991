"""Connected components beside cc3d, OpenCV, SciPy, scikit-image, DIPlib, mahotas and imops."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, photograph

import medseg_fast as ms

SIX, ALL = (1, 6), (None, 26)


def _same_regions(ours, theirs):
    """Equal but for the numbers: each number of one image always meets the same of the other."""
    theirs = np.asarray(theirs[1] if isinstance(theirs, tuple) else theirs)
    for a, b in ((ours, theirs), (theirs, ours)):
        partner = np.zeros(int(a.max()) + 1, b.dtype)
        partner[a] = b
        np.testing.assert_array_equal(partner[a], b)


def _head(doubled=False):
    from skimage.filters import threshold_otsu

    volume = mni152_doubled(np.uint8) if doubled else mni152(np.uint8)
    return volume > threshold_otsu(mni152(np.uint8))


def _tissues():
    """Air, fluid, grey and white matter, fat: quantised by fixed grey values."""
    return np.digitize(mni152(np.uint8), [30, 80, 120, 170]).astype(np.uint8)


def _noise(shape, density):
    return np.random.default_rng(0).random(shape) < density


def _label(make, connectivity, dtype=None):
    """`connectivity`: ours and cc3d's number for it."""
    steps, neighbours = connectivity

    def build():
        import cc3d
        import cv2
        import imops
        import mahotas
        from scipy import ndimage
        from skimage import measure

        image = make()
        binary = image.dtype == bool
        structure = ndimage.generate_binary_structure(image.ndim, steps or image.ndim)
        calls = {
            "medseg_fast": lambda: ms.label(image, connectivity=steps, dtype=dtype),
            "cc3d": lambda: cc3d.connected_components(
                image, connectivity=neighbours, binary_image=binary
            ),
        }
        if image.size < 20_000_000:  # these take seconds beyond
            calls["scikit-image"] = lambda: measure.label(image, connectivity=steps)
        calls["imops"] = lambda: imops.label(image, connectivity=steps or image.ndim)
        if binary and image.size < 20_000_000:
            calls["mahotas"] = lambda: mahotas.label(image, structure)[0]
            calls["DIPlib"] = lambda: _diplib(image, steps or image.ndim)
        if binary and image.ndim == 2:
            bytes_ = image.view(np.uint8)
            calls["OpenCV"] = lambda: cv2.connectedComponents(bytes_, connectivity=neighbours)
        return image, calls

    return build


def _diplib(image, connectivity):
    import diplib

    return np.asarray(diplib.Label(diplib.Image(image), connectivity=connectivity))


def _objects(name, **arguments):
    def build():
        from scipy import ndimage
        from skimage import morphology, segmentation

        mask = _head()
        rivals = {
            "fill_holes": ("SciPy", ndimage.binary_fill_holes),
            "clear_border": ("scikit-image", segmentation.clear_border),
        }
        rival, call = rivals.get(name) or ("scikit-image", getattr(morphology, name))
        ours = getattr(ms, name)
        return mask, {
            "medseg_fast": lambda: ours(mask, **arguments),
            rival: lambda: call(mask, **arguments),
        }

    return build


def _largest():
    import cc3d

    mask = _head()
    return mask, {
        "medseg_fast": lambda: ms.largest_component(mask),
        "cc3d": lambda: cc3d.largest_k(mask, k=1, connectivity=26, binary_image=True) > 0,
    }


def _hysteresis():
    from skimage import filters

    image = mni152(np.float32)
    return image, {
        "medseg_fast": lambda: ms.apply_hysteresis_threshold(image, 80, 160),
        "scikit-image": lambda: filters.apply_hysteresis_threshold(image, 80, 160),
    }


def _labels(data, make, connectivity, dtype=None, **differs):
    name = f"{data}, {connectivity[1]}-connected"
    name += f", {np.dtype(dtype)} labels" if dtype else ""
    build = _label(make, connectivity, dtype)
    return Case("label", name, build, same=_same_regions, differs=differs, target=2)


# 230183 regions where we, cc3d, scikit-image, imops and mahotas find the same ones.
_DIPLIB = "splits some of the regions that all other libraries agree on (26-connected noise)"


CASES = [
    _labels("MNI152 doubled bool", lambda: _head(doubled=True), SIX),
    _labels("MNI152 doubled bool", lambda: _head(doubled=True), ALL),
    _labels("MNI152 bool", _head, SIX),
    _labels("MNI152 bool", _head, ALL),
    _labels("MNI152 5 tissues", _tissues, SIX),
    _labels("MNI152 5 tissues", _tissues, ALL),
    _labels("MNI152 5 tissues", _tissues, SIX, np.int32),
    _labels("MNI152 5 tissues", _tissues, ALL, np.int32),
    _labels("photograph 4096x4096", lambda: photograph() > 102, (None, 8)),
    _labels("noise 4096x4096 p=0.593", lambda: _noise((4096, 4096), 0.593), (1, 4)),
    _labels("noise 4096x4096 p=0.407", lambda: _noise((4096, 4096), 0.407), (None, 8)),
    _labels("noise 256^3 p=0.3116", lambda: _noise((256,) * 3, 0.3116), SIX),
    _labels("noise 256^3 p=0.0976", lambda: _noise((256,) * 3, 0.0976), ALL, DIPlib=_DIPLIB),
    Case("remove_small_objects", "MNI152 bool", _objects("remove_small_objects")),
    Case("remove_small_holes", "MNI152 bool", _objects("remove_small_holes")),
    Case("fill_holes", "MNI152 bool", _objects("fill_holes")),
    Case("clear_border", "MNI152 bool", _objects("clear_border")),
    Case("largest_component", "MNI152 bool, 26-connected", _largest),
    Case("apply_hysteresis_threshold", "MNI152 float32", _hysteresis),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_components(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
