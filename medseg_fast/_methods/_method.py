"""What a method of the command line and the demonstration is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medseg_fast._app.peers import Peer

Array = NDArray[Any]
Run = Callable[..., tuple[Array, dict[str, Any]]]


@dataclass(frozen=True)
class Option:
    """One option of a method: a keyword of its `run`, ``--`` and dashes on the command line.

    `kind` is how its text is read, or the words to choose from. An "index" is one voxel, "z,y,x"
    (a tuple); a "marker" is a label and a voxel, "label:z,y,x"; a "size" is one number for all axes
    or one for each. `several` options may be given more than once and arrive as a list. Where there
    is no default (None), the function's own holds.
    """

    name: str
    kind: Literal["int", "float", "flag", "index", "marker", "size", "text"] | tuple[str, ...]
    help: str
    default: Any = None
    required: bool = False
    several: bool = False


@dataclass(frozen=True)
class Method:
    """One way to segment.

    ``run(image, **options)`` returns a mask (bool) or labels (integers), and what the method found
    besides (a threshold) as a dict that can be written as JSON; `peer` takes the same arguments.
    With `in_mm` both also take the voxel size, ``spacing=``. `needs` is a module that it cannot do
    without.
    """

    name: str
    family: str
    summary: str
    run: Run
    options: tuple[Option, ...] = ()
    peer: Peer | None = None
    needs: str | None = None
    in_mm: bool = False

    def arguments(
        self, options: Mapping[str, Any], spacing: tuple[float, ...] | None
    ) -> dict[str, Any]:
        """The keywords of `run` and of the peer: the options, and the voxel size if it counts."""
        return {**options, "spacing": spacing} if self.in_mm else dict(options)


def markers_at(
    image: Array, flag: str, markers: Collection[tuple[int, tuple[int, ...]]]
) -> NDArray[np.unsignedinteger[Any]]:
    """Labels of the image's shape with one voxel for each marker; `flag` is named in errors."""
    placed = np.zeros(image.shape, np.min_scalar_type(max(label for label, _ in markers)))
    for label, index in markers:
        if label < 1:
            raise ValueError(f"{flag}: labels must be at least 1, got {label}")
        if len(index) != image.ndim or not all(
            0 <= i < n for i, n in zip(index, image.shape, strict=True)
        ):
            raise ValueError(f"{flag}: {index} must lie inside the image of shape {image.shape}")
        placed[index] = label
    return placed


# Options that several families share.
LOWER = Option("lower", "float", "smallest intensity inside")
UPPER = Option("upper", "float", "largest intensity inside")
CONNECTIVITY = Option(
    "connectivity", "int", "1: neighbours share a face; up to 2 or 3: also edges and corners"
)
