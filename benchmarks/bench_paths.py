"""Paths of least cost beside scikit-image, fronts beside SimpleITK."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_halved, photograph

import medseg_fast as ms


@functools.cache
def _relief(name):
    """What a path pays: little on edges."""
    image = {
        "photograph": lambda: photograph("1024x1024", np.float32),
        "head": lambda: mni152_halved(np.float32),
    }[name]()
    steep = ms.gaussian_gradient_magnitude(image, 1.5)
    return (1.01 - steep / steep.max()).astype(np.float32)


def _middle(image):
    return tuple(n // 2 for n in image.shape)


def _same_maps(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def _costs(make):
    def build():
        from skimage.graph import MCP_Geometric

        costs = make()
        start = _middle(costs)
        return costs, {
            "medseg_fast": lambda: ms.minimum_costs(costs, start),
            "scikit-image": lambda: MCP_Geometric(costs).find_costs([start]),
        }

    return build


def _route():
    from skimage.graph import route_through_array

    costs = _relief("photograph")
    start, end = (100, 100), (900, 700)
    return costs, {
        "medseg_fast": lambda: ms.route_through_array(costs, start, end),
        "scikit-image": lambda: route_through_array(costs, start, end),
    }


def _expand():
    """From a click to the last pixel; scikit-image has no live-wire, its search is the nearest."""
    from skimage.graph import MCP_Geometric

    image = photograph("1024x1024")
    wire, costs = ms.LiveWire(image), _relief("photograph").astype(np.float64)
    rival = MCP_Geometric(costs)

    def expand():
        while wire.anchors:
            wire.undo()
        wire.seed((512, 512))
        wire.expand()

    return image, {"medseg_fast": expand, "scikit-image": lambda: rival.find_costs([(512, 512)])}


def _cursor():
    """The wire to 100 places of the cursor, after the search."""
    image = photograph("1024x1024")
    wire = ms.LiveWire(image)
    wire.seed((512, 512))
    wire.expand()
    places = np.random.default_rng(0).integers(0, 1024, (100, 2)).tolist()

    def move():
        for place in places:
            wire.path(place)

    return image, {"medseg_fast": move}


def _speed(volume):
    steep = ms.gaussian_gradient_magnitude(volume, 1)
    return (1 / (1 + steep / 5)).astype(np.float32)


def _same_times(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def _fast_marching(make, order):
    def build():
        import SimpleITK as sitk

        speed = _speed(make(np.float32))
        start = _middle(speed)
        image = sitk.GetImageFromArray(speed)

        def simple_itk():
            march = sitk.FastMarchingImageFilter()
            march.AddTrialPoint([*start[::-1]])
            march.SetStoppingValue(1e30)
            return sitk.GetArrayFromImage(march.Execute(image))

        return speed, {
            "medseg_fast": lambda: ms.fast_marching(speed, start, order=order),
            "SimpleITK": simple_itk,
        }

    return build


def _geodesic():
    volume = mni152_halved(np.float32)
    markers = np.zeros(volume.shape, np.uint8)
    markers[_middle(volume)], markers[0] = 1, 2
    return volume, {"medseg_fast": lambda: ms.geodesic_segmentation(volume, markers)}


_NO_WIRE = "MCP_Geometric.find_costs over a cost image: it has no live-wire"
_FIRST = "of the first order"

CASES = [
    Case(
        "minimum_costs",
        "photograph 1024x1024 float32",
        _costs(lambda: _relief("photograph")),
        _same_maps,
        target=3,
    ),
    Case(
        "minimum_costs",
        "noise 1024x1024 float64",
        _costs(lambda: np.random.default_rng(0).random((1024, 1024))),
        _same_maps,
        target=3,
    ),
    Case(
        "minimum_costs",
        "noise 1024x1024 uint8",
        _costs(lambda: np.random.default_rng(0).integers(1, 256, (1024, 1024)).astype(np.uint8)),
        _same_maps,
        target=3,
    ),
    Case(
        "minimum_costs",
        "MNI152 halved float32, 26 neighbours",
        _costs(lambda: _relief("head")),
        _same_maps,
        target=3,
    ),
    Case("route_through_array", "photograph 1024x1024 float32", _route, _same_maps, target=3),
    Case(
        "LiveWire.expand",
        "photograph 1024x1024 uint8",
        _expand,
        differs={"scikit-image": _NO_WIRE},
        target=3,
    ),
    Case("LiveWire.path", "photograph 1024x1024, 100 places", _cursor),
    Case(
        "fast_marching",
        "MNI152 halved float32, order 1",
        _fast_marching(mni152_halved, 1),
        _same_times,
        target=5,
    ),
    Case(
        "fast_marching",
        "MNI152 float32, order 1",
        _fast_marching(mni152, 1),
        _same_times,
        target=5,
    ),
    Case(
        "fast_marching",
        "MNI152 float32, order 2",
        _fast_marching(mni152, 2),
        differs={"SimpleITK": _FIRST},
        target=5,
    ),
    Case("geodesic_segmentation", "MNI152 halved float32, 26 neighbours", _geodesic),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_paths(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
