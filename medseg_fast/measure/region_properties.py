"""Properties of labelled regions, with scikit-image's names and results."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast.components import fill_holes
from medseg_fast.measure import _moments
from medseg_fast.measure._former_names import FORMER, warn_of_former
from medseg_fast.measure._hull import convex_image
from medseg_fast.measure._table import LabelTable

Array = NDArray[Any]
Extra = Callable[..., Any]

_INTENSITY = frozenset(
    "centroid_weighted centroid_weighted_local image_intensity intensity_max intensity_mean"
    " intensity_median intensity_min intensity_std moments_weighted moments_weighted_central"
    " moments_weighted_hu moments_weighted_normalized".split()
)
# What iterating gives, as in scikit-image: without coords_scaled, intensity_median, num_pixels.
PROPERTIES = (_INTENSITY - {"intensity_median"}) | frozenset(
    "area area_bbox area_convex area_filled axis_major_length axis_minor_length bbox centroid"
    " centroid_local coords eccentricity equivalent_diameter_area euler_number extent"
    " feret_diameter_max image image_convex image_filled inertia_tensor inertia_tensor_eigvals"
    " label moments moments_central moments_hu moments_normalized orientation perimeter"
    " perimeter_crofton slice solidity".split()
)


def _from_table(name: str, doc: str, *, flat: bool = False, channels: bool = False) -> Any:
    """A property that is a column of the table; `flat`: of 2D regions only."""

    def get(self: RegionProperties) -> Any:
        if flat and self._ndim > 2:
            raise NotImplementedError(f"Property {name} is not implemented for 3D images")
        self._need_image(name)
        value = self._table.column(name)[self._row]
        return value if isinstance(value, np.ndarray) else value[()]

    return property(get, doc=doc)


def _flat(method: Callable[[RegionProperties], Any]) -> Callable[[RegionProperties], Any]:
    """Of 2D regions only."""

    @functools.wraps(method)
    def checked(self: RegionProperties) -> Any:
        if self._ndim > 2:
            raise NotImplementedError(
                f"Property {method.__name__} is not implemented for 3D images"
            )
        return method(self)

    return checked


class RegionProperties:
    """One region of a label image; attributes and items by name, computed when asked for.

    Made by `regionprops`, which lists the properties.
    """

    def __init__(
        self,
        table: LabelTable,
        row: int,
        label_image: Array,
        intensity_image: Array | None,
        cache: bool,
        offset: Array,
        extra_properties: Iterable[Extra],
    ) -> None:
        self._table, self._row, self._cache_active = table, row, cache
        self._label_image, self._intensity_image = label_image, intensity_image
        self._ndim, self._spacing, self._offset = table.ndim, table.spacing, offset
        self._extra_properties = {function.__name__: function for function in extra_properties}
        self._cache: dict[str, Any] = {}
        self.label = int(table.labels[row])
        self.slice = table.slices(row)

    # ---- what is the same for all --------------------------------------------------------------

    def _kept(self, name: str, make: Callable[[], Any]) -> Any:
        if not self._cache_active:
            return make()
        if name not in self._cache:
            self._cache[name] = make()
        return self._cache[name]

    def _need_image(self, name: str) -> Array | None:
        if name in _INTENSITY and self._intensity_image is None:
            raise AttributeError(
                f"Attribute '{name}' unavailable when `intensity_image` has not been specified."
            )
        return self._intensity_image

    def __getattr__(self, name: str) -> Any:
        extra = self.__dict__.get("_extra_properties", {})
        if name not in extra:
            if name in FORMER and name.islower():  # the older ones are items only
                self._need_image(FORMER[name])
                warn_of_former("RegionProperties.{}", name)
                return getattr(self, FORMER[name])
            if name in _INTENSITY:  # its property found no image
                self._need_image(name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        function = extra[name]
        count = required_arguments(function)
        if count == 1:
            return function(self.image)
        if count != 2:
            raise AttributeError(
                f"extra property {name} must take 1 or 2 arguments, it takes {count}"
            )
        if self._intensity_image is None:
            raise AttributeError(f"intensity image required to calculate {name}")
        return self._per_channel(lambda part: function(self.image, part), self.image_intensity)

    def __getitem__(self, name: str) -> Any:
        if name in FORMER:
            warn_of_former("RegionProperties[{!r}]", name)
            name = FORMER[name]
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        names = PROPERTIES if self._intensity_image is not None else PROPERTIES - _INTENSITY
        return iter(sorted(names))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegionProperties):
            return False
        for name in PROPERTIES:
            try:
                np.testing.assert_equal(_get(self, name), _get(other, name))
            except AssertionError:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{type(self).__qualname__}: label={self.label!r}, bbox={self.bbox}>"

    def _per_channel(self, function: Callable[[Array], Any], image: Array) -> Any:
        """The function of an image, or of each channel, these along a new last axis."""
        if image.ndim == self._ndim:
            return function(image)
        parts = [function(image[..., channel]) for channel in range(image.shape[-1])]
        return np.stack(parts, axis=-1)

    # ---- columns of the table ------------------------------------------------------------------

    num_pixels = _from_table("num_pixels", "Number of pixels.")
    area = _from_table("area", "Pixels times the area (3D: volume) of one.")
    area_bbox = _from_table("area_bbox", "Area of the bounding box.")
    extent = _from_table("extent", "Area over the bounding box's.")
    axis_major_length = _from_table("axis_major_length", "Of the ellipse with the same moments.")
    axis_minor_length = _from_table("axis_minor_length", "Of the ellipse with the same moments.")
    eccentricity = _from_table("eccentricity", "Of the ellipse; 0 for a circle.", flat=True)
    orientation = _from_table("orientation", "Angle of the major axis with the rows.", flat=True)
    equivalent_diameter_area = _from_table("equivalent_diameter_area", "Of a disk of equal area.")
    euler_number = _from_table("euler_number", "Parts plus cavities less tunnels (2D: holes).")
    inertia_tensor = _from_table("inertia_tensor", "Of the region about its centroid.")
    centroid_local = _from_table("centroid_local", "Relative to the bounding box.")
    intensity_max = _from_table("intensity_max", "Greatest intensity.")
    intensity_mean = _from_table("intensity_mean", "Mean intensity.")
    intensity_median = _from_table("intensity_median", "Median intensity.")
    intensity_min = _from_table("intensity_min", "Least intensity.")
    intensity_std = _from_table("intensity_std", "Standard deviation of intensity.")

    @property
    def inertia_tensor_eigvals(self) -> list[float]:
        """Eigenvalues of the inertia tensor, descending."""
        return list(self._table.column("inertia_tensor_eigvals")[self._row])

    @property
    def centroid(self) -> tuple[float, ...]:
        """Mean place of the pixels."""
        return tuple(self._table.column("centroid")[self._row] + self._offset)

    @property
    def bbox(self) -> tuple[int, ...]:
        """First index along each axis, then the index behind the last."""
        return tuple(part.start for part in self.slice) + tuple(part.stop for part in self.slice)

    # ---- the region's pixels -------------------------------------------------------------------

    @property
    def image(self) -> NDArray[np.bool_]:
        """Mask of the region in its bounding box."""
        return self._kept("image", lambda: self._label_image[self.slice] == self.label)  # type: ignore[no-any-return]

    @property
    def image_filled(self) -> NDArray[np.bool_]:
        """The same without holes."""
        return self._kept("image_filled", lambda: fill_holes(self.image, connectivity=self._ndim))  # type: ignore[no-any-return]

    @property
    def image_convex(self) -> NDArray[np.bool_]:
        """Pixels in the convex hull of the region, in its bounding box."""
        return self._kept("image_convex", lambda: convex_image(self.image))  # type: ignore[no-any-return]

    @property
    def image_intensity(self) -> Array:
        """The intensity image in the bounding box, 0 outside the region."""
        image = self._need_image("image_intensity")
        assert image is not None
        inside = self.image if image.ndim == self._ndim else self.image[..., None]
        return self._kept("image_intensity", lambda: image[self.slice] * inside)  # type: ignore[no-any-return]

    @property
    def coords(self) -> NDArray[np.int64]:
        """Indices of the pixels, a row each."""
        index = np.argwhere(self.image) + [part.start for part in self.slice]
        return np.asarray(index + self._offset)

    @property
    def coords_scaled(self) -> NDArray[np.float64]:
        """Places of the pixels, a row each."""
        index = np.argwhere(self.image) + [part.start for part in self.slice]
        return np.asarray(index * self._spacing + self._offset)

    @property
    def area_filled(self) -> float:
        """Area without holes."""
        return np.count_nonzero(self.image_filled) * float(np.prod(self._spacing))

    @property
    def area_convex(self) -> float:
        """Area of the convex hull's pixels."""
        return np.count_nonzero(self.image_convex) * float(np.prod(self._spacing))

    @property
    def solidity(self) -> float:
        """Area over that of the convex hull."""
        with np.errstate(divide="ignore"):  # a flat region in 3D
            return self.area / np.float64(self.area_convex)  # type: ignore[no-any-return]

    @property
    def feret_diameter_max(self) -> float:
        """Largest distance between two places on the outline of the convex hull's pixels."""

        def diameter() -> float:
            image = _checks.contiguous(self.image_convex)
            if not image.any():  # a flat region has no hull in 3D
                image = _checks.contiguous(self.image)
            out = np.zeros((2, 12))
            core.diameters(image, list(self._spacing), out)
            return float(out[1, 0])

        return self._kept("feret_diameter_max", diameter)  # type: ignore[no-any-return]

    @property
    @_flat
    def perimeter(self) -> float:
        """Length of the line through the border pixels' centres."""
        self._need_isotropic()
        return _moments.perimeter(self.image) * float(self._spacing[0])

    @property
    @_flat
    def perimeter_crofton(self) -> float:
        """Length of the border by Crofton's formula in four directions."""
        self._need_isotropic()
        return self._table.column("perimeter_crofton")[self._row]  # type: ignore[no-any-return]

    def _need_isotropic(self) -> None:
        if len(np.unique(self._spacing)) != 1:
            raise NotImplementedError("`perimeter` supports isotropic spacings only")

    # ---- moments -------------------------------------------------------------------------------

    @property
    def moments(self) -> Array:
        """Raw moments up to the third power of each axis, in the bounding box."""
        zero = [0.0] * self._ndim
        return self._kept("moments", lambda: _moments.moments(self.image, zero, self._spacing))  # type: ignore[no-any-return]

    @property
    def moments_central(self) -> Array:
        """About the centroid."""
        return self._kept(  # type: ignore[no-any-return]
            "moments_central",
            lambda: _moments.moments(self.image, self.centroid_local, self._spacing),
        )

    @property
    def moments_normalized(self) -> Array:
        """Central, and the same for every scale."""
        return _moments.normalized(self.moments_central, self._spacing)

    @property
    @_flat
    def moments_hu(self) -> Array:
        """Hu's moments, the same for every rotation too."""
        return self._hu("moments_normalized")

    def _hu(self, name: str) -> Array:
        if (self._spacing != 1).any():
            raise NotImplementedError("`moments_hu` supports spacing = (1, 1) only")
        return self._per_channel(_moments.hu, getattr(self, name))  # type: ignore[no-any-return]

    @property
    def moments_weighted(self) -> Array:
        """`moments`, each pixel weighted with its intensity."""
        self._need_image("moments_weighted")
        zero = [0.0] * self._ndim
        return self._kept(  # type: ignore[no-any-return]
            "moments_weighted",
            lambda: self._per_channel(
                lambda part: _moments.moments(part, zero, self._spacing), self.image_intensity
            ),
        )

    @property
    def centroid_weighted_local(self) -> Array:
        """Relative to the bounding box, by intensity."""
        self._need_image("centroid_weighted_local")
        moments = self.moments_weighted
        ones = np.eye(self._ndim, dtype=int)
        with np.errstate(invalid="ignore", divide="ignore"):  # intensities may sum to 0
            return np.asarray([moments[tuple(one)] / moments[(0,) * self._ndim] for one in ones])

    @property
    def centroid_weighted(self) -> tuple[Any, ...]:
        """Mean place of the pixels by intensity."""
        self._need_image("centroid_weighted")
        return tuple(
            place + part.start * size
            for place, part, size in zip(
                self.centroid_weighted_local, self.slice, self._spacing, strict=True
            )
        )

    @property
    def moments_weighted_central(self) -> Array:
        """`moments_weighted` about the weighted centroid."""
        self._need_image("moments_weighted_central")
        image, center = self.image_intensity, self.centroid_weighted_local
        if image.ndim == self._ndim:
            return _moments.moments(image, center, self._spacing)
        parts = [
            _moments.moments(image[..., channel], center[..., channel], self._spacing)
            for channel in range(image.shape[-1])
        ]
        return np.stack(parts, axis=-1)

    @property
    def moments_weighted_normalized(self) -> Array:
        """`moments_normalized`, by intensity."""
        self._need_image("moments_weighted_normalized")
        return self._per_channel(  # type: ignore[no-any-return]
            lambda mu: _moments.normalized(mu, self._spacing), self.moments_weighted_central
        )

    @property
    @_flat
    def moments_weighted_hu(self) -> Array:
        """`moments_hu`, by intensity."""
        return self._hu("moments_weighted_normalized")


def _get(region: RegionProperties, name: str) -> Any:
    try:
        return getattr(region, name)
    except (AttributeError, NotImplementedError):
        return None


def required_arguments(function: Extra) -> int:
    """How many positional arguments a function needs."""
    import inspect

    parameters = inspect.signature(function).parameters.values()
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


def regionprops(
    label_image: ArrayLike,
    intensity_image: ArrayLike | None = None,
    cache: bool = True,
    *,
    extra_properties: Iterable[Extra] | None = None,
    spacing: float | Sequence[float] | None = None,
    offset: ArrayLike | None = None,
) -> list[RegionProperties]:
    """Measure properties of labelled regions.

    The results are those of ``skimage.measure.regionprops``.

    Parameters
    ----------
    label_image : array_like of int
        2D or 3D; labels of 0 and below are background.
    intensity_image : array_like, optional
        Of the same shape, or with channels along one more axis at the end.
    cache : bool, optional
        Keep what was computed. The columns of all labels (see Notes) are kept in any case.
    extra_properties : iterable of callable, optional
        Functions of a region's mask, or of mask and intensities in its box; each becomes a property
        of its name.
    spacing : float or sequence of float, optional
        Pixel size in mm along each axis; 1 by default.
    offset : array_like of int, optional
        Added to places of pixels.

    Returns
    -------
    regions : list of RegionProperties
        In ascending order of labels. Properties, as attributes or items: ``area``, ``area_bbox``,
        ``area_convex``, ``area_filled``, ``axis_major_length``, ``axis_minor_length``, ``bbox``,
        ``centroid``, ``centroid_local``, ``centroid_weighted``, ``centroid_weighted_local``,
        ``coords``, ``coords_scaled``, ``eccentricity`` (2D), ``equivalent_diameter_area``,
        ``euler_number``, ``extent``, ``feret_diameter_max``, ``image``, ``image_convex``,
        ``image_filled``, ``image_intensity``, ``inertia_tensor``, ``inertia_tensor_eigvals``,
        ``intensity_max``, ``intensity_mean``, ``intensity_median``, ``intensity_min``,
        ``intensity_std``, ``label``, ``moments``, ``moments_central``, ``moments_hu`` (2D),
        ``moments_normalized``, the same with ``moments_weighted``, ``num_pixels``, ``orientation``
        (2D), ``perimeter`` (2D), ``perimeter_crofton`` (2D), ``slice``, ``solidity``.

    Raises
    ------
    TypeError
        If the labels are bool or float, or not 2D or 3D.
    ValueError
        If shapes differ, or `spacing` or `offset` does not fit.

    Notes
    -----
    One compiled pass on all threads finds boxes, sizes and second moments of all labels, in
    integers; Euler numbers and Crofton perimeters take a second one when first asked for,
    intensities a third, each for all labels at once. Other properties work on the region's box.
    Regions pickle, and compare equal where all properties are. Names that scikit-image has given up
    (``bbox_area``, ``["MeanIntensity"]``) answer with a FutureWarning, as there. Statistics of
    intensities leave NaN out (scikit-image's are NaN then); the image of a convex hull in 3D needs
    SciPy.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> first, second = ms.regionprops([[1, 1, 0, 0], [1, 0, 0, 7]])
    >>> second, float(first.area), float(first.solidity)
    (<RegionProperties: label=7, bbox=(1, 3, 2, 4)>, 3.0, 1.0)
    """
    op = "regionprops"
    labels = _checks.as_array(op, label_image, "label_image")
    if labels.ndim not in (2, 3):
        raise TypeError(f"{op}: label_image must have 2 or 3 dimensions, got shape {labels.shape}")
    if labels.dtype.kind not in "ui":
        hint = " (label its components, or view it as uint8)" if labels.dtype.kind == "b" else ""
        raise TypeError(f"{op}: label_image must be of integers, got {labels.dtype}{hint}")
    image = None
    if intensity_image is not None:
        image = _checks.as_array(op, intensity_image, "intensity_image")
        _checks.described(op, image, "intensity_image")
    if image is not None and not (
        image.shape[: labels.ndim] == labels.shape and image.ndim - labels.ndim in (0, 1)
    ):
        raise ValueError(
            f"{op}: intensity_image must have shape {labels.shape}, and channels at the end if"
            f" any, got {image.shape}"
        )
    sizes = _sizes(op, spacing, labels.ndim)
    shift = np.zeros(labels.ndim, int) if offset is None else np.asarray(offset)
    if shift.shape != (labels.ndim,):
        raise ValueError(f"{op}: offset must be {labels.ndim} integers, got {offset!r}")
    extra = list(extra_properties or ())
    for function in extra:
        if hasattr(RegionProperties, function.__name__):
            warnings.warn(
                f"Extra property '{function.__name__}' is shadowed by existing property and will "
                "be inaccessible. Consider renaming it.",
                stacklevel=2,
            )
    table = LabelTable(labels, image, sizes)
    return [
        RegionProperties(table, row, labels, image, cache, shift, extra)
        for row in range(len(table))
    ]


def _sizes(op: str, spacing: Any, ndim: int) -> tuple[float, ...]:
    """Voxel size along each axis, of one number or of each; refused in scikit-image's words."""
    if spacing is None or isinstance(spacing, (str, bytes)):
        return _checks.spacing(op, spacing, ndim)
    sizes = _checks.sequence(op, "spacing", spacing) if np.ndim(spacing) else [spacing] * ndim
    if len(sizes) != ndim:
        raise ValueError(
            f"{op}: spacing isn't a scalar nor a sequence of {ndim} numbers, got {spacing!r}"
        )
    if any(np.iscomplexobj(size) for size in sizes):
        raise TypeError(f"{op}: Element of spacing isn't float or integer type, got {spacing!r}")
    return _checks.spacing(op, sizes, ndim)
