"""Between messages and medseg_fast.io.Volume: where an image lies.

OpenIGTLink states the centre of the whole image and one step per pixel index, column first, in LPS
or RAS; a Volume states the first pixel, spacing and directions, plane first, in LPS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast.io.volume import LPS_TO_RAS, Volume, to_file_order
from medseg_fast.stream.igtl.messages import Image
from medseg_fast.stream.igtl.polydata import PolyData


def image_from_volume(volume: Volume, coordinates: str = "LPS", **fields: Any) -> Image:
    """The IMAGE message of a volume, without copying its pixels.

    Parameters
    ----------
    volume : Volume
        Axes [z]yx[c]. A 2D image becomes one plane, 1 mm thick.
    coordinates : {"LPS", "RAS"}
    **fields
        What every `Message` has: ``device="Mask"``, ``timestamp_ns=...``
    """
    if "t" in volume.axes:
        raise ValueError(f"image_from_volume: volume must have no time axis, got {volume.axes}")
    pixels = volume.array if "z" in volume.axes else volume.array[None]
    spacing, direction = to_file_order(volume)
    steps = direction * spacing
    matrix = np.empty((3, 4))
    matrix[:, :3] = steps
    matrix[:, 3] = volume.origin + steps @ ((np.array(pixels.shape[2::-1]) - 1) / 2)
    if coordinates == "RAS":
        matrix *= LPS_TO_RAS[:, None]
    return Image(pixels, matrix, coordinates, **fields)


def volume_from_image(image: Image) -> Volume:
    """The volume of an IMAGE message, whose pixels it shares.

    A single plane becomes a 2D image in space. A part of an image lies where the part does.

    Raises
    ------
    ValueError
        If a step of the matrix is 0, so that there is no direction.
    """
    matrix = image.matrix * LPS_TO_RAS[:, None] if image.coordinates == "RAS" else image.matrix
    steps = matrix[:, 2::-1]  # plane, row, column
    spacing = np.linalg.norm(steps, axis=0)
    assert image.size is not None
    first = np.array(image.offset) - (np.array(image.size) - 1) / 2
    origin = matrix[:, 3] + steps @ first
    flat = image.size[0] == 1
    if not (spacing[flat:] > 0).all():
        raise ValueError(f"volume_from_image: matrix must have no step of 0, got {image.matrix}")
    return Volume(
        image.pixels[0] if flat else image.pixels,
        spacing[flat:].tolist(),
        origin.tolist(),
        steps[:, flat:] / spacing[flat:],
        axes="zyx"[flat:] + "c" * (image.pixels.ndim - 3),
    )


def polydata_from_contours(
    contours: Sequence[ArrayLike],
    volume: Volume,
    coordinates: str = "RAS",
    *,
    closed: bool = False,
    **fields: Any,
) -> PolyData:
    """Contours as lines or polygons in the patient.

    Parameters
    ----------
    contours : sequence of array_like
        Each of shape (n, d): indices (row, column), or (plane, row, column), into the volume, as
        ``skimage.measure.find_contours`` gives them.
    volume : Volume
        Tells where the indices lie.
    coordinates : {"RAS", "LPS"}
        Frame of the points. The message does not say; 3D Slicer takes RAS.
    closed : bool, optional
        Polygons instead of lines.
    **fields
        What every `Message` has.
    """
    affine = volume.affine_lps if coordinates == "LPS" else volume.affine_ras
    points, cells, n = [], [], 0
    for contour in contours:
        indices = np.asarray(contour, float)
        if indices.ndim != 2 or indices.shape[1] != affine.shape[1] - 1:
            raise ValueError(
                f"polydata_from_contours: contours must have shape (n, {affine.shape[1] - 1}), "
                f"got {indices.shape}"
            )
        points.append(indices @ affine[:3, :-1].T + affine[:3, -1])
        cells.append(range(n, n + len(indices)))
        n += len(indices)
    joined: NDArray[Any] = np.concatenate(points) if points else np.zeros((0, 3))
    joined = joined.astype(np.float32)
    if closed:
        return PolyData(joined, polygons=cells, **fields)  # type: ignore[arg-type]
    return PolyData(joined, lines=cells, **fields)  # type: ignore[arg-type]
