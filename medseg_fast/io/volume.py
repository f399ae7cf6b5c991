"""An image with its place in the patient: array, spacing, origin, direction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

_AXES = re.compile(r"t?z?yxc?")
# LPS (DICOM, ITK) and RAS (NIfTI) differ in the sign of the first two coordinates.
LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


class Volume:
    """An image and where its pixels lie in the patient.

    The pixel of spatial index ``i`` (in array order: plane, row, column) lies at
    ``origin + direction @ (spacing * i)``, in millimetres in the LPS frame of DICOM and ITK: x
    grows to the patient's left, y to posterior, z to superior.

    Parameters
    ----------
    array : array_like
        The pixels.
    spacing : sequence of float, optional
        Distance of neighbouring pixels in mm, one per spatial axis in array order, so (plane, row,
        column) in 3D and (row, column) in 2D. Default: 1 mm, and `has_geometry` is False.
    origin : sequence of 3 float, optional
        Position (x, y, z) in LPS mm of the centre of the first pixel. Default: 0.
    direction : array_like, optional
        Shape (3, n) for n spatial axes: column k is the unit vector (x, y, z) in LPS along which
        array axis k grows. Its columns are SimpleITK's ``GetDirection()`` in reverse order. In 2D
        the image is a plane in space. Default: rows grow to posterior, columns to the left, planes
        to superior.
    metadata : dict, optional
        Facts about the acquisition and the file. `read` puts nothing here that names a patient.
    axes : str, optional
        One letter per array axis: an optional "t" (time), then "zyx" or "yx", then an optional "c"
        (channels: RGB, vectors). Default: "yx" or "zyx" by the number of dimensions.

    Attributes
    ----------
    has_geometry : bool
        False where the file (or the caller) gave no spacing, so that 1 mm is only a placeholder.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast.io import Volume
    >>> scan = Volume(np.zeros((4, 5, 6)), spacing=(3.0, 0.5, 0.5), origin=(-10.0, 20.0, 5.0))
    >>> scan.affine_lps @ [1, 0, 2, 1]  # plane 1, row 0, column 2
    array([-9., 20.,  8.,  1.])
    """

    __slots__ = ("array", "axes", "direction", "has_geometry", "metadata", "origin", "spacing")

    array: NDArray[Any]
    spacing: tuple[float, ...]
    origin: tuple[float, float, float]
    direction: NDArray[np.float64]
    metadata: dict[str, Any]
    axes: str
    has_geometry: bool

    def __init__(
        self,
        array: ArrayLike,
        spacing: Sequence[float] | None = None,
        origin: Sequence[float] | None = None,
        direction: ArrayLike | None = None,
        metadata: dict[str, Any] | None = None,
        *,
        axes: str | None = None,
    ) -> None:
        self.array = np.asarray(array)
        self.axes = _axes(self.array, axes)
        n = len(self.axes.strip("tc"))
        self.has_geometry = spacing is not None
        self.spacing = tuple(float(s) for s in (spacing if spacing is not None else (1.0,) * n))
        if len(self.spacing) != n or not all(0 < s < np.inf for s in self.spacing):
            raise ValueError(f"Volume: spacing must be {n} positive numbers (mm), got {spacing!r}")
        point = np.zeros(3) if origin is None else np.asarray(origin, float)
        if point.shape != (3,) or not np.isfinite(point).all():
            raise ValueError(f"Volume: origin must be 3 finite numbers (x, y, z), got {origin!r}")
        self.origin = (float(point[0]), float(point[1]), float(point[2]))
        # Reversed identity: the last array axis is x.
        columns = np.eye(3)[:, 2::-1][:, 3 - n :] if direction is None else direction
        self.direction = np.array(columns, float)
        if self.direction.shape != (3, n) or not np.isfinite(self.direction).all():
            raise ValueError(
                f"Volume: direction must be a finite 3 x {n} matrix, one column per spatial axis, "
                f"got {direction!r}"
            )
        if not np.allclose(np.linalg.norm(self.direction, axis=0), 1, atol=1e-4):
            raise ValueError(f"Volume: direction must have columns of length 1, got {direction!r}")
        self.metadata = dict(metadata or {})

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        """Shape without the time and channel axes."""
        return tuple(
            n for n, axis in zip(self.array.shape, self.axes, strict=True) if axis in "zyx"
        )

    @property
    def affine_lps(self) -> NDArray[np.float64]:
        """Matrix from (plane, row, column, 1) to (x, y, z, 1) in LPS mm: 4 x 4, in 2D 4 x 3."""
        n = len(self.spacing)
        affine = np.zeros((4, n + 1))
        affine[:3, :n] = self.direction * self.spacing
        affine[:3, n] = self.origin
        affine[3, n] = 1
        return affine

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """As `affine_lps`, in the RAS frame of NIfTI: x grows to the right, y to anterior."""
        affine = self.affine_lps
        affine[:3] *= LPS_TO_RAS[:, None]
        return affine

    def like(self, array: ArrayLike, *, axes: str | None = None) -> Volume:
        """A result computed from this volume, such as a mask, at the same place.

        Parameters
        ----------
        array : array_like
            Its spatial shape must be this volume's.
        axes : str, optional
            Its axes; by default this volume's, or only its spatial ones, by number of dimensions.
        """
        array = np.asarray(array)
        spatial = self.axes.strip("tc")
        axes = axes or (self.axes if array.ndim == len(self.axes) else spatial)
        spacing = self.spacing if self.has_geometry else None
        result = Volume(array, spacing, self.origin, self.direction, self.metadata, axes=axes)
        if result.spatial_shape != self.spatial_shape:
            raise ValueError(
                f"Volume.like: array must have spatial shape {self.spatial_shape}, "
                f"got {result.spatial_shape}"
            )
        return result

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Lets every function of medseg_fast and NumPy take the volume as an array."""
        if copy:
            return np.array(self.array, dtype)
        if copy is False and dtype is not None and np.dtype(dtype) != self.array.dtype:
            raise ValueError(f"Volume: {self.array.dtype} as {np.dtype(dtype)} needs a copy")
        return np.asarray(self.array, dtype)

    def __repr__(self) -> str:
        place = (
            f"spacing={tuple(round(s, 4) for s in self.spacing)} mm"
            if self.has_geometry
            else "no geometry"
        )
        return f"Volume({self.axes} {self.array.shape} {self.array.dtype}, {place})"


def _axes(array: NDArray[Any], axes: str | None) -> str:
    if axes is None:
        if array.ndim not in (2, 3):
            raise ValueError(
                f"Volume: axes must be given for arrays of other than 2 or 3 dimensions, "
                f"got shape {array.shape}"
            )
        return "zyx"[3 - array.ndim :]
    if not _AXES.fullmatch(axes) or len(axes) != array.ndim:
        raise ValueError(
            f"Volume: axes must name the {array.ndim} axes as [t][z]yx[c], got {axes!r}"
        )
    return axes


def from_affine(
    affine: NDArray[np.float64], sizes: ArrayLike | None = None
) -> tuple[tuple[float, ...], tuple[float, ...], NDArray[np.float64]]:
    """(spacing, origin, direction) of a 3 x (n + 1) matrix from file indices (x first) to LPS mm.

    `sizes`: the spacing the file states as well, x first. It is taken where it agrees with the
    matrix, whose column lengths carry the rounding of its elements.
    """
    columns = affine[:, -2::-1]  # z, y, x
    norms = np.linalg.norm(columns, axis=0)
    if not np.isfinite(affine).all() or not (norms > 0).all():
        raise ValueError(f"the matrix from pixels to millimetres is singular: {affine.tolist()}")
    spacing = norms
    if sizes is not None:
        stated = np.asarray(sizes, float)[::-1]
        spacing = np.where(np.isclose(norms, stated, rtol=1e-5, atol=0), stated, norms)
    # Adding 0 turns -0.0 into 0.0.
    return tuple(spacing.tolist()), tuple((affine[:, -1] + 0).tolist()), columns / norms + 0


def to_file_order(volume: Volume) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(spacing, direction) with x first and three axes, as every 3D format stores them.

    A 2D image gets a third axis along its normal, 1 mm thick.
    """
    spacing = np.ones(3)
    spacing[: len(volume.spacing)] = volume.spacing[::-1]
    direction = np.empty((3, 3))
    direction[:, : len(volume.spacing)] = volume.direction[:, ::-1]
    if len(volume.spacing) == 2:
        direction[:, 2] = np.cross(direction[:, 0], direction[:, 1])
    return spacing, direction


def in_plane(volume: Volume) -> bool:
    """Whether a 2D image lies in the plane z = 0, so that two coordinates place it."""
    return volume.origin[2] == 0 and not volume.direction[2].any()
