"""The same method from the library people use today, for the demo and `medseg-fast bench`.

Each function takes the options of our method and returns that library's mask or labels. Libraries
are imported when called: none of them is needed to segment.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Peer:
    """A library, the module to look for, and ``run(image, **options) -> mask or labels``."""

    library: str
    module: str
    run: Callable[..., Array]

    def installed(self) -> bool:
        return find_spec(self.module) is not None

    def version(self) -> str:
        return version(self.library)


def _module(name: str) -> Any:
    return import_module(name)


def interval(image: Array, *, lower: float = -math.inf, upper: float = math.inf) -> Array:
    return np.asarray((image >= lower) & (image <= upper))


def threshold(name: str) -> Peer:
    """scikit-image's `threshold_<name>`, one number or one for each pixel, and the comparison."""

    def run(image: Array, *, dark: bool = False, **options: Any) -> Array:
        t = getattr(_module("skimage.filters"), f"threshold_{name}")(image, **options)
        return np.asarray(image <= t if dark else image > t)

    return Peer("scikit-image", "skimage", run)


def local(image: Array, *, average: str = "gaussian", **options: Any) -> Array:
    return threshold("local").run(image, method=average, **options)


def multiotsu(image: Array, **options: Any) -> Array:
    filters = _module("skimage.filters")
    return np.asarray(np.digitize(image, bins=filters.threshold_multiotsu(image, **options)))


def hysteresis(image: Array, *, low: float, high: float) -> Array:
    filters = _module("skimage.filters")
    return np.asarray(filters.apply_hysteresis_threshold(image, low, high))


def flood(image: Array, *, seed: tuple[int, ...], **options: Any) -> Array:
    segmentation = _module("skimage.segmentation")
    return np.asarray(segmentation.flood(image, seed, **options))


def components(
    image: Array, *, lower: float = -math.inf, upper: float = math.inf, **options: Any
) -> Array:
    measure = _module("skimage.measure")
    return np.asarray(measure.label(interval(image, lower=lower, upper=upper), **options))


def connected_threshold(
    image: Array, *, seed: list[tuple[int, ...]], connectivity: int = 1, **options: Any
) -> Array:
    sitk = _module("SimpleITK")
    kind = sitk.ConnectedThresholdImageFilter
    reach = kind.FaceConnectivity if connectivity == 1 else kind.FullConnectivity
    return _simpleitk(
        "ConnectedThreshold", image, seedList=_xyz(seed), connectivity=reach, **options
    )


def confidence_connected(
    image: Array,
    *,
    seed: list[tuple[int, ...]],
    multiplier: float = 4.5,
    iterations: int = 4,
    initial_radius: int = 1,
) -> Array:
    return _simpleitk(
        "ConfidenceConnected",
        image,
        seedList=_xyz(seed),
        multiplier=multiplier,
        numberOfIterations=iterations,
        initialNeighborhoodRadius=initial_radius,
    )


def neighborhood_connected(
    image: Array, *, seed: list[tuple[int, ...]], radius: Any = 1, **options: Any
) -> Array:
    size = (radius,) * image.ndim if isinstance(radius, int) else radius
    return _simpleitk(
        "NeighborhoodConnected", image, seedList=_xyz(seed), radius=size[::-1], **options
    )


def isolated_connected(
    image: Array,
    *,
    seed1: tuple[int, ...],
    seed2: tuple[int, ...],
    move_lower: bool = False,
    tolerance: float = 1.0,
    **options: Any,
) -> Array:
    return _simpleitk(
        "IsolatedConnected",
        image,
        seed1=seed1[::-1],
        seed2=seed2[::-1],
        findUpperThreshold=not move_lower,
        isolatedValueTolerance=tolerance,
        **options,
    )


def _xyz(seeds: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [seed[::-1] for seed in seeds]


def _simpleitk(name: str, image: Array, **options: Any) -> Array:
    """A filter of SimpleITK from array to array."""
    sitk = _module("SimpleITK")
    result = getattr(sitk, name)(sitk.GetImageFromArray(image), **options)
    return np.asarray(sitk.GetArrayFromImage(result) != 0)


def watershed(
    image: Array,
    *,
    marker: list[tuple[int, tuple[int, ...]]],
    relief: str = "gradient",
    width: Any = 3,
    line: bool = False,
    compactness: float = 0,
    connectivity: int = 1,
) -> Array:
    """SimpleITK's watershed of the gradient from given markers; it finds none by itself."""
    if relief != "gradient":
        raise ValueError("only the gradient")
    if compactness:
        raise ValueError("no compact watershed")
    sitk = _module("SimpleITK")
    sides = (width,) * image.ndim if isinstance(width, int) else width
    markers = np.zeros(image.shape, np.int32)
    for label, index in marker:
        markers[index] = label
    gradient = sitk.MorphologicalGradient(
        sitk.GetImageFromArray(image), [side // 2 for side in sides[::-1]], sitk.sitkBox
    )
    labels = sitk.MorphologicalWatershedFromMarkers(
        gradient, sitk.GetImageFromArray(markers), line, connectivity > 1
    )
    return np.asarray(sitk.GetArrayFromImage(labels))


def split_touching(
    image: Array,
    *,
    spacing: tuple[float, ...],
    lower: float | None = None,
    upper: float = math.inf,
    h: float | None = None,
    connectivity: int = 1,
) -> Array:
    """The recipe of scikit-image's gallery: distances, their peaks, watershed."""
    measure, ndimage = _module("skimage.measure"), _module("scipy.ndimage")
    segmentation = _module("skimage.segmentation")
    if lower is None:
        lower = _module("skimage.filters").threshold_otsu(image)
    mask = interval(image, lower=lower, upper=upper)
    regions = measure.label(mask, connectivity=connectivity)
    distance = ndimage.distance_transform_edt(mask, spacing)
    apart = max(1, round((h or 0) / min(spacing)))  # in pixels: it knows no depth of a neck
    peaks = _module("skimage.feature").peak_local_max(
        distance, min_distance=apart, exclude_border=False, labels=regions
    )
    markers = np.zeros(image.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return np.asarray(segmentation.watershed(-distance, markers, connectivity, mask=mask))
