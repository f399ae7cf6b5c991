"""Watershed from all minima beside vigra, SimpleITK, DIPlib and mahotas; hierarchies."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_doubled, photograph

import medseg_fast as ms


@functools.cache
def _gradient(dtype, doubled=False):
    """Gaussian gradient magnitude of the head; integers over their whole range."""
    from scipy import ndimage

    volume = mni152_doubled(np.uint8) if doubled else mni152(np.float32)
    gradient = ndimage.gaussian_gradient_magnitude(volume.astype(np.float32), 1.0)
    if np.dtype(dtype).kind == "f":
        return gradient.astype(dtype)
    return (gradient / gradient.max() * np.iinfo(dtype).max).astype(dtype)


_TIES = "other rule where a pixel touches several basins"


def _immersion(make, connectivity=1, line=False):
    def build():
        import SimpleITK

        image = make()
        calls = {
            "medseg_fast": lambda: ms.watershed_immersion(image, connectivity, watershed_line=line)
        }
        full = connectivity == image.ndim
        try:
            import vigra  # only where a build for this NumPy exists
        except ImportError:
            pass
        else:
            if image.ndim == 3 and not line:
                view, neighbours = vigra.taggedView(image, "zyx"), 26 if full else 6
                calls["vigra"] = lambda: vigra.analysis.watershedsNew(
                    view, neighborhood=neighbours, method="UnionFind"
                )[0]
        if image.size < 20_000_000:
            itk = SimpleITK.GetImageFromArray(image)
            calls["SimpleITK"] = lambda: SimpleITK.GetArrayFromImage(
                SimpleITK.MorphologicalWatershed(itk, 0, line, full)
            )
        return image, calls

    return build


def _hierarchy():
    image = _gradient(np.uint8)
    return image, {"medseg_fast": lambda: ms.watershed_hierarchy(image)}


def _cut():
    image = _gradient(np.uint8)
    tree = ms.watershed_hierarchy(image)
    return image, {"medseg_fast": lambda: tree.cut(n_regions=500)}


def _markers():
    image = _gradient(np.uint8)
    return image, {"medseg_fast": lambda: ms.markers_from_minima(image, h=5, min_size=100)}


def _case(data, make, **options):
    differs = {"vigra": _TIES, "SimpleITK": _TIES}
    build = _immersion(make, **options)
    return Case("watershed_immersion", data, build, differs=differs, target=3.5)


CASES = [
    _case("gradient of MNI152 uint8", lambda: _gradient(np.uint8)),
    _case("gradient of MNI152 float32", lambda: _gradient(np.float32)),
    _case("gradient of MNI152 float32, 26", lambda: _gradient(np.float32), connectivity=3),
    _case("gradient of MNI152 uint8, lines", lambda: _gradient(np.uint8), line=True),
    _case("gradient of MNI152 doubled uint8", lambda: _gradient(np.uint8, True)),
    _case("photograph 4096x4096", photograph),
    Case("watershed_hierarchy", "gradient of MNI152 uint8", _hierarchy),
    Case("watershed_hierarchy.cut", "gradient of MNI152 uint8, 500 regions", _cut),
    Case("markers_from_minima", "gradient of MNI152 uint8", _markers),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_watershed_immersion(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
