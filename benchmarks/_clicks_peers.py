"""What other libraries make of the same three clicks (_clicks.py).

scikit-image's watershed, random walker and Chan-Vese, and SimpleITK's region growing give the same
masks as ours from the same input, so they are not here a second time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from _clicks import Array, Scene, _scaled, _smooth

SIGN = -1.0  # ITK's level sets are negative inside


def _itk(s: Scene, array: Array) -> Any:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.asarray(array, np.float32))
    image.SetSpacing([float(mm) for mm in reversed(s.spacing)])
    return image


def _signed(s: Scene, mask: Array) -> Any:
    import SimpleITK as sitk

    given = sitk.Cast(_itk(s, mask), sitk.sitkUInt8)
    return sitk.SignedMaurerDistanceMap(given, squaredDistance=False, useImageSpacing=True)


def _inside(level: Any) -> Array:
    import SimpleITK as sitk

    return np.asarray(SIGN * sitk.GetArrayFromImage(level) > 0)


def geodesic_contour(s: Scene) -> Array:
    """From the ellipsoid that fills the box to the edges."""
    import SimpleITK as sitk

    edges = sitk.GradientMagnitudeRecursiveGaussian(_itk(s, 255 * _scaled(s)), sigma=min(s.spacing))
    strength = float(np.percentile(sitk.GetArrayViewFromImage(edges), 90))
    speed = sitk.Sigmoid(edges, alpha=-strength / 6, beta=strength / 2, outputMaximum=1.0)
    speed = sitk.Cast(speed, sitk.sitkFloat32)
    level = sitk.GeodesicActiveContourLevelSet(
        _signed(s, s.ball),
        speed,
        maximumRMSError=0.01,
        propagationScaling=0.0,
        curvatureScaling=1.0,
        advectionScaling=2.0,
        numberOfIterations=300,
    )
    return _inside(level)


def threshold_level_set(s: Scene) -> Array:
    """From the core through intensities nearer to the core's than to those around."""
    import SimpleITK as sitk

    image = _smooth(s)
    core, around = np.median(image[s.seeds]), np.median(image[s.outside])
    half = abs(core - around) / 2
    level = sitk.ThresholdSegmentationLevelSet(
        _signed(s, s.core),
        _itk(s, image),
        lowerThreshold=float(core - half),
        upperThreshold=float(core + half),
        maximumRMSError=0.01,
        propagationScaling=1.0,
        curvatureScaling=0.5,
        numberOfIterations=300,
    )
    return _inside(level)


def opencv_grab_cut(s: Scene) -> Array:
    """Plane by plane where there are several; its own defaults."""
    import cv2

    planes = (255 * _scaled(s)).astype(np.uint8).reshape(-1, *s.image.shape[-2:])
    outside, core = (m.reshape(planes.shape) for m in (s.outside, s.seeds))
    found = np.zeros(planes.shape, bool)
    cv2.setRNGSeed(0)
    for plane, out, sure, mask in zip(planes, outside, core, found, strict=True):
        if out.all():
            continue
        given = np.where(out, cv2.GC_BGD, np.where(sure, cv2.GC_FGD, cv2.GC_PR_FGD))
        given = given.astype(np.uint8)
        models = np.zeros((1, 65)), np.zeros((1, 65))
        colour = np.repeat(plane[..., None], 3, -1)
        cv2.grabCut(colour, given, None, *models, 5, cv2.GC_INIT_WITH_MASK)
        mask[...] = (given == cv2.GC_FGD) | (given == cv2.GC_PR_FGD)
    return found.reshape(s.image.shape)


PEERS = {
    "SimpleITK GeodesicActiveContourLevelSet": geodesic_contour,
    "SimpleITK ThresholdSegmentationLevelSet": threshold_level_set,
    "OpenCV grabCut": opencv_grab_cut,
}
