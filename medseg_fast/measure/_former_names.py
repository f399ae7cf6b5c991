"""Names of properties that scikit-image has given up, but still answers to."""

from __future__ import annotations

import warnings

_FORMER = """
area: Area
area_bbox: BoundingBoxArea bbox_area
area_convex: ConvexArea convex_area
area_filled: FilledArea filled_area
axis_major_length: MajorAxisLength major_axis_length
axis_minor_length: MinorAxisLength minor_axis_length
bbox: BoundingBox
centroid: Centroid
centroid_local: LocalCentroid local_centroid
centroid_weighted: WeightedCentroid weighted_centroid
centroid_weighted_local: WeightedLocalCentroid weighted_local_centroid
coords: Coordinates
eccentricity: Eccentricity
equivalent_diameter_area: EquivDiameter equivalent_diameter
euler_number: EulerNumber
extent: Extent
feret_diameter_max: FeretDiameter FeretDiameterMax
image: Image
image_convex: ConvexImage convex_image
image_filled: FilledImage filled_image
image_intensity: IntensityImage intensity_image
inertia_tensor: InertiaTensor
inertia_tensor_eigvals: InertiaTensorEigvals
intensity_max: MaxIntensity max_intensity
intensity_mean: MeanIntensity mean_intensity
intensity_min: MinIntensity min_intensity
intensity_std: std_intensity
label: Label
moments: Moments
moments_central: CentralMoments
moments_hu: HuMoments
moments_normalized: NormalizedMoments
moments_weighted: WeightedMoments weighted_moments
moments_weighted_central: WeightedCentralMoments weighted_moments_central
moments_weighted_hu: WeightedHuMoments weighted_moments_hu
moments_weighted_normalized: WeightedNormalizedMoments weighted_moments_normalized
orientation: Orientation
perimeter: Perimeter
perimeter_crofton: CroftonPerimeter
slice: Slice
solidity: Solidity
"""
# Of each name that scikit-image has given up but still answers to: its present one.
FORMER = {
    former: name
    for name, _, formers in (line.partition(":") for line in _FORMER.split("\n"))
    for former in formers.split()
}


def warn_of_former(form: str, name: str) -> None:
    """Tell the caller's caller; `form` says how it was asked for."""
    former, present = (f"`{form.format(each)}`" for each in (name, FORMER[name]))
    warnings.warn(f"{former} is deprecated. Use {present} instead.", FutureWarning, stacklevel=3)
