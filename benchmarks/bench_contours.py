"""Deformable contours beside scikit-image and SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152, mni152_halved, photograph

import medseg_fast as ms

# The peer's smoother goes on from the turn at which the call before it stopped; an even number of
# smoothings leaves it where a process starts.
FIFTY, TWO = 50, 2


def _unit(image):
    return image.astype(np.float32) / 255


def _head_edges():
    return ms.inverse_gaussian_gradient(_unit(mni152(np.float32)), 1000, 1)


def _inverse():
    from skimage import segmentation

    image = _unit(mni152(np.float32))
    return image, {
        "medseg_fast": lambda: ms.inverse_gaussian_gradient(image, 1000, 1),
        "scikit-image": lambda: segmentation.inverse_gaussian_gradient(image, 1000, 1),
    }


def _close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def _morphological(name, make, iterations, **options):
    def build():
        from skimage import segmentation

        image = make()
        theirs = getattr(segmentation, name)
        return image, {
            "medseg_fast": lambda: getattr(ms, name)(image, iterations, **options),
            "scikit-image": lambda: theirs(image, iterations, **options),
        }

    return build


def _snake(points):
    def build():
        from skimage import data, segmentation

        image = ms.gaussian(data.camera() / 255.0, 3)
        angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
        start = np.stack([200 + 150 * np.sin(angle), 250 + 150 * np.cos(angle)], axis=1)
        options = {"alpha": 0.015, "beta": 10, "gamma": 0.001}
        return image, {
            "medseg_fast": lambda: ms.active_contour(image, start, **options),
            "scikit-image": lambda: segmentation.active_contour(image, start, **options),
        }

    return build


def _within_a_millionth(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def _chan_vese(dtype):
    def build():
        from skimage import segmentation

        image = photograph("1080x1920").astype(dtype)
        options = {"max_num_iter": 10, "tol": 1e-9}
        return image, {
            "medseg_fast": lambda: ms.chan_vese(image, **options),
            "scikit-image": lambda: segmentation.chan_vese(image, **options),
        }

    return build


def _itk_geodesic(speed, start, propagation, curvature, advection, iterations):
    import SimpleITK as sitk

    contour = sitk.GeodesicActiveContourLevelSetImageFilter()
    contour.SetPropagationScaling(propagation)
    contour.SetCurvatureScaling(curvature)
    contour.SetAdvectionScaling(advection)
    contour.SetNumberOfIterations(iterations)
    contour.SetMaximumRMSError(0)
    distance = sitk.GetImageFromArray(ms.signed_distance(start))
    return sitk.GetArrayFromImage(contour.Execute(distance, sitk.GetImageFromArray(speed))) < 0


def _level_set(iterations):
    """A ball in the head that grows to the edges of the tissues."""

    def build():
        speed = ms.inverse_gaussian_gradient(_unit(mni152_halved(np.float32)), 1000, 1)
        middle = [n // 2 for n in speed.shape]
        middle[1] += 5
        start = ms.disk_level_set(speed.shape, center=middle, radius=15) > 0
        weights = (1.0, 0.2, 1.0)
        return speed, {
            "medseg_fast": lambda: ms.geodesic_active_contour(
                speed,
                start,
                propagation_scaling=weights[0],
                curvature_scaling=weights[1],
                advection_scaling=weights[2],
                max_iterations=iterations,
                max_rms_error=0,
            ),
            "SimpleITK": lambda: _itk_geodesic(speed, start, *weights, iterations),
        }

    return build


def _region_level_set(iterations):
    """SimpleITK's works on the whole image; as many iterations."""

    def build():
        import SimpleITK as sitk

        image = _unit(mni152_halved(np.float32)[15:79, 26:90, 17:81])
        start = ms.disk_level_set(image.shape) > 0

        def theirs():
            contour = sitk.ScalarChanAndVeseDenseLevelSetImageFilter()
            contour.SetNumberOfIterations(iterations)
            contour.SetMaximumRMSError(0)
            contour.SetCurvatureWeight(0.1)
            level_set = sitk.GetImageFromArray(-ms.signed_distance(start))
            return sitk.GetArrayFromImage(contour.Execute(level_set, sitk.GetImageFromArray(image)))

        return image, {
            "medseg_fast": lambda: ms.chan_vese_level_set(
                image, start, max_iterations=iterations, max_rms_error=0
            ),
            "SimpleITK": theirs,
        }

    return build


_DICE = "other time steps and a smoothed advection: Dice 0.96 after as many iterations"
_DENSE = "evolves a smeared Heaviside function on the whole image"

CASES = [
    Case("inverse_gaussian_gradient", "MNI152 float32", _inverse, same=_close),
    Case(
        "morphological_chan_vese",
        f"MNI152 halved uint8, {FIFTY} iterations",
        _morphological("morphological_chan_vese", lambda: mni152_halved(np.uint8), FIFTY),
        target=10,
    ),
    Case(
        "morphological_chan_vese",
        f"MNI152 float32, {TWO} iterations",
        _morphological("morphological_chan_vese", lambda: mni152(np.float32), TWO),
        target=10,
    ),
    Case(
        "morphological_geodesic_active_contour",
        f"MNI152 float32, {TWO} iterations",
        _morphological("morphological_geodesic_active_contour", _head_edges, TWO, balloon=1),
        target=10,
    ),
    Case(
        "active_contour", "camera 512x512, 100 points", _snake(100), _within_a_millionth, target=3
    ),
    Case(
        "active_contour", "camera 512x512, 400 points", _snake(400), _within_a_millionth, target=3
    ),
    Case("chan_vese", "photograph 1920x1080 uint8, 10 iterations", _chan_vese(np.uint8)),
    Case("chan_vese", "photograph 1920x1080 float32, 10 iterations", _chan_vese(np.float32)),
    Case(
        "geodesic_active_contour",
        "MNI152 halved, 100 iterations",
        _level_set(100),
        differs={"SimpleITK": _DICE},
        target=5,
    ),
    Case(
        "chan_vese_level_set",
        "MNI152 halved, middle 64^3, 10 iterations",
        _region_level_set(10),
        differs={"SimpleITK": _DENSE},
        target=5,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_contours(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
