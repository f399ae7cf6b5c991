"""Measurements of labels beside scikit-image and SimpleITK."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from _cases import Case
from _data import mni152, photograph

import medseg_fast as ms
from medseg_fast.measure import measure

BASIC = ("label", "area", "bbox", "centroid", "inertia_tensor_eigvals", "euler_number")
PLANE = (*BASIC, "eccentricity", "orientation", "perimeter_crofton", "intensity_mean")


@functools.cache
def _cells():
    """Bright spots of a part of the photograph, some hundred."""
    image = photograph()[:256, :256]
    return image, ms.label(image > ms.gaussian(image, 8, preserve_range=True) + 10)


@functools.cache
def _tissues():
    image = mni152(np.float32)
    return image, np.digitize(image, [30, 80, 120, 170]).astype(np.int32)


def _table(data, properties):
    def build():
        from skimage.measure import regionprops_table

        image, labels = data()
        return labels, {
            "medseg_fast": lambda: ms.regionprops_table(labels, image, properties),
            "scikit-image": lambda: regionprops_table(labels, image, properties),
        }

    return build


def _same(ours, theirs):
    assert list(ours) == list(theirs)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-6)


def _figures():
    """All figures but texture; the peers' share of them."""
    import SimpleITK as sitk
    from skimage import measure as peer

    image, labels = _tissues()
    picture = sitk.GetImageFromArray(labels)
    values = sitk.GetImageFromArray(image)

    def itk():
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.ComputeFeretDiameterOff()
        shapes.Execute(picture)
        statistics = sitk.LabelIntensityStatisticsImageFilter()
        statistics.Execute(picture, values)
        return shapes.GetLabels()

    def meshes():
        for label in range(1, 5):
            mask = np.pad(labels == label, 1).astype(np.float32)
            vertices, faces, _, _ = peer.marching_cubes(mask, 0.5)
            peer.mesh_surface_area(vertices, faces)

    return labels, {
        "medseg_fast": lambda: measure(labels, image, (1, 1, 1)),
        "SimpleITK": itk,
        "scikit-image": meshes,
    }


_FEWER = "only shape and intensity statistics: no mesh, no diameters, no histogram"
_MESH = "only the area of the surface"

CASES = [
    Case("regionprops_table", "photograph spots", _table(_cells, PLANE), same=_same, target=10),
    Case("regionprops_table", "MNI152 5 tissues", _table(_tissues, BASIC), same=_same, target=5),
    Case(
        "measure",
        "MNI152 5 tissues, all figures",
        _figures,
        differs={"SimpleITK": _FEWER, "scikit-image": _MESH},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_measure(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
