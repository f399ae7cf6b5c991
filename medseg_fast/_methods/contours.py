"""Methods that let a surface move from where it starts: to edges, or between two regions."""

from __future__ import annotations

from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast._methods._method import Array, Method, Option, markers_at

_C = "contours"
SEED = Option("seed", "index", "middle of a ball to start from", required=True, several=True)
RADIUS = Option("radius", "float", "its radius in mm", 8.0)
ITERATIONS = Option("iterations", "int", "stop after so many steps", 500)


def _start(image: Array, spacing: Any, seeds: Any, radius: float) -> Array:
    inside: Array = markers_at(image, "--seed", [(1, seed) for seed in seeds]) > 0
    for seed in seeds:
        inside |= ms.disk_level_set(image.shape, center=seed, radius=radius, spacing=spacing) > 0
    return inside


def _report(found: ms.LevelSetResult) -> tuple[Array, dict[str, Any]]:
    return found.mask, {"iterations": found.iterations, "converged": found.converged}


def _chan_vese(
    image: Array,
    *,
    spacing: Any,
    seed: Any,
    radius: float = 8.0,
    lower: float | None = None,
    upper: float | None = None,
    mu: float = 0.1,
    iterations: int = 500,
) -> tuple[Array, dict[str, Any]]:
    clipped = image if lower is None and upper is None else np.clip(image, lower, upper)
    start = _start(image, spacing, seed, radius)
    return _report(
        ms.chan_vese_level_set(clipped, start, mu=mu, max_iterations=iterations, spacing=spacing)
    )


def _geodesic_contour(
    image: Array,
    *,
    spacing: Any,
    seed: Any,
    radius: float = 8.0,
    sigma: float = 1.0,
    alpha: float = 0.1,
    propagation: float = 1.0,
    curvature: float = 0.5,
    advection: float = 1.0,
    iterations: int = 500,
) -> tuple[Array, dict[str, Any]]:
    speed = ms.inverse_gaussian_gradient(image, alpha, sigma, spacing=spacing)
    return _report(
        ms.geodesic_active_contour(
            speed,
            _start(image, spacing, seed, radius),
            propagation_scaling=propagation,
            curvature_scaling=curvature,
            advection_scaling=advection,
            max_iterations=iterations,
            spacing=spacing,
        )
    )


METHODS = (
    Method(
        "chan-vese",
        _C,
        "a surface between two regions of different mean (Chan and Vese 2001)",
        _chan_vese,
        (
            SEED,
            RADIUS,
            Option("lower", "float", "take intensities below this for this"),
            Option("upper", "float", "take intensities above this for this"),
            Option("mu", "float", "weight of the surface's area: the larger, the smoother", 0.1),
            ITERATIONS,
        ),
        in_mm=True,
    ),
    Method(
        "geodesic-contour",
        _C,
        "a surface that grows to the edges (Caselles, Kimmel and Sapiro 1997)",
        _geodesic_contour,
        (
            SEED,
            RADIUS,
            Option("sigma", "float", "standard deviation of the smoothing in mm", 1.0),
            Option("alpha", "float", "how much a gradient (per mm) slows the surface", 0.1),
            Option("propagation", "float", "speed outwards; below 0 it shrinks", 1.0),
            Option("curvature", "float", "tension of the surface", 0.5),
            Option("advection", "float", "pull towards edges", 1.0),
            ITERATIONS,
        ),
        in_mm=True,
    ),
)
