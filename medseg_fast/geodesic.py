"""Distances along the image seen as a landscape, and the segmentation they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_paths
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

_EVERY = np.iinfo(np.int64).max


def _search(
    op: str,
    image: NDArray[Any],
    spacing: Any,
    spatial_weight: Any,
    intensity_weight: Any,
    connectivity: Any,
    labelled: bool,
) -> Any:
    offsets = _grid_paths.steps(image.ndim, _checks.connectivity(op, connectivity, image.ndim))
    lengths = _grid_paths.lengths(offsets, _checks.spacing(op, spacing, image.ndim))
    weights = []
    for name, value in (("spatial_weight", spatial_weight), ("intensity_weight", intensity_weight)):
        weight = float(_checks.number(op, name, value))
        if not 0 <= weight < math.inf:
            raise ValueError(f"{op}: {name} must be finite and not negative, got {value!r}")
        weights.append(weight)
    return core.search_geodesic(image, offsets.tolist(), lengths, *weights, labelled)


def _farthest(op: str, max_distance: Any) -> float:
    if max_distance is None:
        return math.inf
    return float(_checks.number(op, "max_distance", max_distance))


def _distance_like(image: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return image.shape, np.float64


@operation(result=_distance_like)
def geodesic_distance(
    image: ArrayLike,
    seeds: Any,
    *,
    spacing: Sequence[float] | None = None,
    spatial_weight: float = 1.0,
    intensity_weight: float = 1.0,
    connectivity: int | None = None,
    max_distance: float | None = None,
    out: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Length of the shortest path to the nearest seed, over the image seen as a landscape.

    A step between neighbours has the length ``sqrt((spatial_weight * d)**2 + (intensity_weight *
    i)**2)``, `d` their distance in mm and `i` their difference in intensity.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    seeds : index, sequence of indices or mask
        One index, several, or a bool array of the image's shape.
    spacing : sequence of float, optional
        Voxel size in mm along each axis; 1 by default.
    spatial_weight, intensity_weight : float, optional
        What a mm and what a unit of intensity count. With a spatial weight of 0, distances are sums
        of differences in intensity.
    connectivity : int, optional
        1 to ndim: along how many axes at once a neighbour may differ. Without it, ndim.
    max_distance : float, optional
        Pixels that are farther get infinity.
    out : ndarray of float64, optional
        Array of the image's shape that receives the distances.

    Returns
    -------
    distance : ndarray of float64
        Same shape as `image`. Infinity where no path leads: no path enters or leaves a NaN or
        infinite pixel.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If a seed lies outside or on NaN, there is none, or an argument does not fit.

    Notes
    -----
    Exact on the graph of the pixels, where raster scans [1]_ [2]_ approximate. Time O(n log n) at
    most, in one thread; with `max_distance` only for the pixels within. Memory: 18 bytes per pixel
    (26 if the image has integers of more than 16 bits or float64) beside the result, and 24 for
    each pixel that waits at the front.

    References
    ----------
    .. [1] P. J. Toivanen, "New geodesic distance transforms for gray-scale images", Pattern
       Recognition Letters 17 (1996) 437-450.
    .. [2] A. Criminisi, T. Sharp, A. Blake, "GeoS: geodesic image segmentation", ECCV 2008, 99-112.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.geodesic_distance([0, 0, 3, 3], seeds=0, spatial_weight=4).tolist()
    [0.0, 4.0, 9.0, 13.0]
    """
    op = "geodesic_distance"
    array = _grid_paths.image(op, image, "image")
    start = _grid_paths.seeds(op, "seeds", seeds, array)
    most = _farthest(op, max_distance)
    distance = _checks.output(op, out, array.shape, np.float64)
    search = _search(op, array, spacing, spatial_weight, intensity_weight, connectivity, False)
    search.start(start, None)
    search.run(None, 0, _EVERY, most, math.inf)
    written = _checks.scratch(distance)
    search.copy_costs(written)
    return _checks.finish(distance, written)


def _labels_like(image: Any, markers: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any] | None:
    if len(args) > 5 or kwargs.get("return_distance"):
        return (image.shape, np.dtype(markers.dtype)), (image.shape, np.float64)
    return image.shape, markers.dtype


@operation(result=_labels_like)
def geodesic_segmentation(
    image: ArrayLike,
    markers: ArrayLike,
    *,
    spacing: Sequence[float] | None = None,
    spatial_weight: float = 1.0,
    intensity_weight: float = 1.0,
    connectivity: int | None = None,
    max_distance: float | None = None,
    return_distance: bool = False,
    out: NDArray[Any] | None = None,
) -> Any:
    """Give every pixel the label of its nearest marker, by geodesic distance.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    markers : array_like of integers or bool
        Of the image's shape: the labels of the seeds, 0 elsewhere.
    spacing, spatial_weight, intensity_weight, connectivity
        As for `geodesic_distance`.
    max_distance : float, optional
        Pixels that are farther from all markers get label 0.
    return_distance : bool, optional
        Whether to return the distance to the nearest marker too.
    out : ndarray, optional
        Array of the shape and dtype of `markers` that receives the labels.

    Returns
    -------
    labels : ndarray
        Same shape and dtype as `markers`. Of equally near markers the least label. 0 where no path
        leads, so on NaN and infinite pixels.
    distance : ndarray of float64
        Only if `return_distance`; that of `geodesic_distance`.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If there is no marker or one on NaN, shapes differ, or an argument does not fit.

    Notes
    -----
    All labels in one pass. Time O(n log n) at most, in one thread. Memory: 20 bytes per pixel (28
    if the image has integers of more than 16 bits or float64) beside the results, 24 for each pixel
    that waits at the front and up to 80 for each marker.

    References
    ----------
    .. [1] X. Bai, G. Sapiro, "A geodesic framework for fast interactive image and video
       segmentation and matting", ICCV 2007.
    .. [2] A. Criminisi, T. Sharp, A. Blake, "GeoS: geodesic image segmentation", ECCV 2008, 99-112.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.geodesic_segmentation([0, 1, 0, 9, 8, 9], [1, 0, 0, 0, 0, 2]).tolist()
    [1, 1, 1, 2, 2, 2]
    """
    op = "geodesic_segmentation"
    array = _grid_paths.image(op, image, "image")
    given = _checks.image(op, markers, "markers")
    if given.dtype.kind not in "bui":
        raise TypeError(f"{op}: markers must be integers or bool, got {given.dtype}")
    if given.shape != array.shape:
        raise ValueError(f"{op}: markers must have shape {array.shape}, got {given.shape}")
    start = np.flatnonzero(given).astype(np.int64)
    if not start.size:
        raise ValueError(f"{op}: markers must hold at least one label that is not 0")
    if array.dtype.kind == "f" and np.isnan(array.reshape(-1)[start]).any():
        raise ValueError(f"{op}: markers must not lie on NaN")
    most = _farthest(op, max_distance)
    labels = _checks.output(op, out, array.shape, given.dtype)
    table, rank = np.unique(given.reshape(-1)[start], return_inverse=True)
    search = _search(op, array, spacing, spatial_weight, intensity_weight, connectivity, True)
    search.start(start, rank.astype(np.int32))
    search.run(None, 0, _EVERY, most, math.inf)
    written = _checks.scratch(labels)
    search.copy_labels(np.ascontiguousarray(table), written)
    _checks.finish(labels, written)
    if not return_distance:
        return labels
    distance = _checks.empty(array.shape, np.float64)
    search.copy_costs(distance)
    return labels, distance
