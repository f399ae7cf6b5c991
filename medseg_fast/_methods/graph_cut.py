"""Methods that cut a graph of the voxels."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._methods._method import CONNECTIVITY, Array, Method, Option, markers_at

_G = "graph cut"
INSIDE = Option("inside", "index", "voxel inside the object", several=True)
OUTSIDE = Option("outside", "index", "voxel outside the object", several=True)
SEEDS = Option("seeds", "text", "file of labels with the image's shape: 1 inside, 2 outside")
RADIUS = Option("radius", "size", "how far around such a voxel others are known too", 1)
BOX = Option(
    "box", "text", 'all voxels outside this box are outside: "z:z,y:y,x:x", stops excluded'
)
SMOOTHNESS = Option("smoothness", "float", "cost of a boundary without contrast", 4.0)
SLAB = Option(
    "slab", "int", "cut so many planes at a time: for volumes whose graph does not fit into memory"
)
SIGMA = Option(
    "sigma", "float", "difference that counts as an edge  [default: that of all neighbours]"
)


def _box(image: Array, text: str) -> list[tuple[int, int]]:
    pairs = [re.fullmatch(r"\s*(\d+):(\d+)\s*", part) for part in text.split(",")]
    box = [(int(p[1]), int(p[2])) for p in pairs if p]
    fits = len(box) == len(pairs) == image.ndim
    if not fits or any(not 0 <= a < b <= n for (a, b), n in zip(box, image.shape, strict=True)):
        raise ValueError(
            f"--box: must be start:stop for each axis of an image of shape {image.shape}, "
            f"got {text}"
        )
    return box


def _known(
    image: Array,
    inside: Any = (),
    outside: Any = (),
    seeds: str | None = None,
    radius: Any = 1,
    box: str | None = None,
) -> tuple[Array, Array]:
    """Masks of what is known to be inside and outside."""
    masks = []
    for number, flag, voxels in ((1, "--inside", inside), (2, "--outside", outside)):
        mask = np.zeros(image.shape, np.bool_)
        markers = [(1, voxel) for voxel in voxels]
        if markers:
            markers_at(image, flag, markers)  # inside the image
        reach = np.broadcast_to(radius, image.ndim)
        for _, voxel in markers:
            mask[
                tuple(slice(max(0, i - r), i + r + 1) for i, r in zip(voxel, reach, strict=True))
            ] = True
        if seeds is not None:
            labels = io.read(seeds).array
            if labels.shape != image.shape:
                raise ValueError(
                    f"--seeds: labels must have the image's shape {image.shape}, got {labels.shape}"
                )
            mask |= labels == number
        masks.append(mask)
    if box is not None:
        beyond = np.ones(image.shape, np.bool_)
        beyond[tuple(slice(*pair) for pair in _box(image, box))] = False
        masks[1] |= beyond & ~masks[0]
    return masks[0], masks[1] & ~masks[0]


def _graph_cut(
    image: Array,
    *,
    spacing: Any,
    smoothness: float = 4.0,
    sigma: float | None = None,
    region: str = "histogram",
    connectivity: int = 1,
    slab: int | None = None,
    **known: Any,
) -> tuple[Array, dict[str, Any]]:
    foreground, background = _known(image, **known)
    if not foreground.any():
        raise ValueError("--inside: must be given, or --seeds with voxels labelled 1")
    if not background.any():
        raise ValueError("--outside: must be given, or --box, or --seeds with voxels labelled 2")
    model: dict[str, Any] = {
        "lambda_": smoothness,
        "sigma": sigma,
        "connectivity": connectivity,
        "spacing": spacing,
        "region": None if region == "none" else region,
    }
    if slab is not None:
        mask = ms.graph_cut(image, foreground, background, slab=slab, **model)
        return mask, {} if sigma is None else {"sigma": sigma}
    session = ms.GraphCutSession(image, **model)
    session.add_seeds(foreground, background)
    return session.mask(), {"sigma": float(session.sigma)}


METHODS = (
    Method(
        "graph-cut",
        _G,
        "the least cut between voxels known to be inside and outside (Boykov and Jolly 2001)",
        _graph_cut,
        (
            INSIDE,
            OUTSIDE,
            RADIUS,
            SEEDS,
            BOX,
            SMOOTHNESS,
            SIGMA,
            Option(
                "region",
                ("histogram", "gmm", "none"),
                "model of the intensities inside and outside",
                "histogram",
            ),
            CONNECTIVITY,
            SLAB,
        ),
        in_mm=True,
    ),
)
