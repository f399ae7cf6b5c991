"""Methods that find edges; the mask is the edges themselves.

They measure the gradient per mm. The peers know only voxels, so on the demo's scans, whose slices
are thicker than their pixels, there is nothing to compare.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast._methods._method import Array, Method, Option


def _canny(
    image: Array, *, spacing: Any, sigma: float = 1.0, low: float, high: float
) -> tuple[Array, dict[str, Any]]:
    edges = ms.canny(image, sigma, low, high, mode="nearest", spacing=spacing, convention="itk")
    return edges, {"voxels": int(np.count_nonzero(edges))}


METHODS = (
    Method(
        "canny",
        "edges",
        "thin edges where the gradient has a maximum along itself (Canny 1986, as in ITK)",
        _canny,
        (
            Option("sigma", "float", "standard deviation of the smoothing in mm", 1.0),
            Option("low", "float", "least gradient of an edge, per mm", required=True),
            Option("high", "float", "gradient that every edge reaches somewhere", required=True),
        ),
        in_mm=True,
    ),
)
