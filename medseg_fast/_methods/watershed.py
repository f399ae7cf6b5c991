"""Methods that flood a relief: from markers, from its minima, over distances."""

from __future__ import annotations

import math
from typing import Any

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app.peers import Peer
from medseg_fast._methods._method import (
    CONNECTIVITY,
    UPPER,
    Array,
    Method,
    Option,
    markers_at,
)

_W = "watershed"
RELIEF = Option(
    "relief",
    ("gradient", "image", "inverted"),
    "what to flood: the morphological gradient, the image (dark basins), the image upside down",
    "gradient",
)
WIDTH = Option("width", "size", "side of the gradient's box in pixels, odd", 3)
LINE = Option("line", "flag", "leave a line of 0 between regions", False)
COMPACTNESS = Option(
    "compactness",
    "float",
    "above 0: rounder regions, by this much relief per pixel from the marker; --line has no effect",
    0,
)
SALIENCY = Option(
    "saliency", ("dynamics", "area", "volume"), "which basins count: deep, large or both", "volume"
)


def _relief(image: Array, kind: str, width: Any) -> Array:
    if kind == "gradient":
        return ms.morphological_gradient(image, width)
    if kind == "image":
        return image
    # The bits of an integer upside down are its mirror image, without overflow.
    return -image if image.dtype.kind == "f" else ~image


def _watershed(
    image: Array,
    *,
    marker: Any = (),
    h: float | None = None,
    relief: str = "gradient",
    width: Any = 3,
    line: bool = False,
    compactness: float = 0,
    connectivity: int = 1,
) -> tuple[Array, dict[str, Any]]:
    surface = _relief(image, relief, width)
    found = {}
    markers: Array
    if marker:
        markers = markers_at(image, "--marker", marker)
    else:
        if h is None:
            h = (float(surface.max()) - float(surface.min())) / 10
            found["h"] = h
        markers = ms.markers_from_minima(surface, h=h, connectivity=connectivity)
    labels = ms.watershed(
        surface, markers, connectivity, compactness=compactness, watershed_line=line
    )
    return labels, {**found, "regions": int(markers.max())}


def _hierarchy(
    image: Array,
    *,
    regions: int = 20,
    saliency: Any = "volume",
    relief: str = "gradient",
    width: Any = 3,
    connectivity: int = 1,
) -> tuple[Array, dict[str, Any]]:
    tree = ms.watershed_hierarchy(_relief(image, relief, width), connectivity, saliency=saliency)
    return tree.cut(n_regions=regions), {"basins": tree.n_basins}


def _split_touching(
    image: Array,
    *,
    spacing: Any,
    lower: float | None = None,
    upper: float = math.inf,
    **options: Any,
) -> tuple[Array, dict[str, Any]]:
    found = {}
    if lower is None:
        lower = ms.threshold_otsu(image).item()
        found["threshold"] = lower
    labels = ms.split_touching(ms.threshold(image, lower, upper), spacing, **options)
    return labels, {**found, "objects": int(labels.max(initial=0))}


METHODS = (
    Method(
        "watershed",
        _W,
        "floods the gradient from markers, or from its deep minima (Meyer and Beucher 1990)",
        _watershed,
        (
            Option("marker", "marker", "label and voxel of a marker", several=True),
            Option(
                "h",
                "float",
                "without markers: least depth of a minimum  [default: a tenth of the range]",
            ),
            RELIEF,
            WIDTH,
            LINE,
            COMPACTNESS,
            CONNECTIVITY,
        ),
        peer=Peer("SimpleITK", "SimpleITK", peers.watershed),
    ),
    Method(
        "watershed-hierarchy",
        _W,
        "the most salient --regions of all basins (Najman and Schmitt 1996)",
        _hierarchy,
        (
            Option("regions", "int", "how many regions to keep", 20),
            SALIENCY,
            RELIEF,
            WIDTH,
            CONNECTIVITY,
        ),
    ),
    Method(
        "split-touching",
        _W,
        "intensities from --lower to --upper, cut where round objects touch",
        _split_touching,
        (
            Option("lower", "float", "smallest intensity inside  [default: Otsu's threshold]"),
            UPPER,
            Option("h", "float", "least depth of a neck, in mm  [default: a voxel's side]"),
            CONNECTIVITY,
        ),
        peer=Peer("scikit-image", "skimage", peers.split_touching),
        in_mm=True,
    ),
)
