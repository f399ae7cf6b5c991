"""Properties of regions as columns."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast.measure._former_names import FORMER
from medseg_fast.measure.region_properties import (
    Extra,
    RegionProperties,
    regionprops,
    required_arguments,
)

_OBJECTS = frozenset(
    "coords coords_scaled image image_convex image_filled image_intensity slice".split()
)
_INTEGERS = frozenset("bbox euler_number label num_pixels".split())
_SPLIT = frozenset(  # columns of the table as they are
    "area area_bbox axis_major_length axis_minor_length centroid_local equivalent_diameter_area"
    " euler_number extent inertia_tensor inertia_tensor_eigvals intensity_max intensity_mean"
    " intensity_median intensity_min intensity_std num_pixels".split()
)
_SPLIT_2D = frozenset(["eccentricity", "orientation"])


def regionprops_table(
    label_image: ArrayLike,
    intensity_image: ArrayLike | None = None,
    properties: Sequence[str] = ("label", "bbox"),
    *,
    cache: bool = True,
    separator: str = "-",
    extra_properties: Iterable[Extra] | None = None,
    spacing: float | Sequence[float] | None = None,
) -> dict[str, NDArray[Any]]:
    """Properties of all regions as a dict of columns, as ``pandas.DataFrame`` takes it.

    The result is that of ``skimage.measure.regionprops_table``.

    Parameters
    ----------
    label_image, intensity_image, cache, extra_properties, spacing
        As in `regionprops`.
    properties : sequence of str, optional
        Which, see `regionprops`.
    separator : str, optional
        Between a property's name and the index of an element of it.

    Returns
    -------
    columns : dict of ndarray
        By property, one value per region; properties with several values of a fixed number have a
        column for each (``centroid-0``), others columns of objects.

    Raises
    ------
    TypeError, ValueError
        As `regionprops`.
    AttributeError
        If there is no such property.

    Notes
    -----
    Most properties are columns from the start, so that many regions cost no more than few.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> table = ms.regionprops_table([[1, 1, 0, 7]], properties=["label", "area", "centroid"])
    >>> {name: column.tolist() for name, column in table.items()}
    {'label': [1, 7], 'area': [2.0, 1.0], 'centroid-0': [0.0, 0.0], 'centroid-1': [0.5, 3.0]}
    """
    op = "regionprops_table"
    extra = list(extra_properties or ())
    names = [*properties, *(function.__name__ for function in extra)]
    options = {"cache": cache, "extra_properties": extra, "spacing": spacing}
    regions = regionprops(label_image, intensity_image, **options)  # type: ignore[arg-type]
    count = len(regions)
    if not count:  # the columns of an image with a region, without rows
        labels = _checks.as_array(op, label_image)
        one = np.zeros((3,) * labels.ndim, int)
        one[(1,) * labels.ndim] = 1
        image = None
        if intensity_image is not None:
            image = _checks.as_array(op, intensity_image)
            image = np.zeros(one.shape + image.shape[labels.ndim :], image.dtype)
        regions = regionprops(one, image, **options)  # type: ignore[arg-type]
    columns: dict[str, NDArray[Any]] = {}
    for name in names:
        present = FORMER.get(name, name)
        for column, values in _columns(regions, present, separator).items():
            columns[name + column.removeprefix(present)] = values
    return {name: column[:count] for name, column in columns.items()}


def _columns(regions: list[RegionProperties], name: str, separator: str) -> dict[str, NDArray[Any]]:
    first = regions[0]
    table = first._table
    dtype: Any = int if name in _INTEGERS else object if name in _OBJECTS else float
    if name == "label":
        highest = int(table.labels[-1])
        return {name: table.labels.astype(int if highest <= sys.maxsize else np.uint64)}
    if name == "bbox":
        values = table.boxes.reshape(len(table), -1)
    elif name == "centroid":
        values = table.column(name) + first._offset
    elif name in _SPLIT or (name in _SPLIT_2D and table.ndim == 2):
        first[name]  # raises where the property does not exist
        values = table.column(name)
    else:
        value = first[name]
        if name in first._extra_properties:
            dtype = _extra_dtype(first, name)
        if dtype is object or np.isscalar(value):
            column = np.empty(len(regions), dtype)
            for i, region in enumerate(regions):
                column[i] = region[name]
            return {name: column}
        values = np.array([np.asarray(region[name]) for region in regions], dtype)
    if values.ndim == 1:
        return {name: values.astype(dtype)}
    return {
        separator.join(map(str, (name, *index))): values[(slice(None), *index)].astype(dtype)
        for index in np.ndindex(values.shape[1:])
    }


def _extra_dtype(region: RegionProperties, name: str) -> Any:
    """float, int, ... where a function's result has one shape for every region, else object."""
    function = region._extra_properties[name]
    rng = np.random.default_rng(0)
    results = []
    for size, pad in ((1, (0, 1)), (2, (1, 0))):
        mask = np.pad(np.ones((size,) * region._ndim, bool), pad)
        two = required_arguments(function) == 2
        results.append(function(mask, rng.random(mask.shape)) if two else function(mask))
    first, second = map(np.asarray, results)
    return first.dtype.type if first.shape == second.shape else object
