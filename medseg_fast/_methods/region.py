"""Methods that grow a region from seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app import rule as rules
from medseg_fast._app.peers import Peer
from medseg_fast._methods._method import CONNECTIVITY, Array, Method, Option, Run, markers_at

_R = "region growing"
SEED = Option("seed", "index", "voxel inside the region", required=True)
SEEDS = Option("seed", "index", "voxel inside the region", required=True, several=True)
LIMITS = (
    Option("lower", "float", "smallest intensity inside", required=True),
    Option("upper", "float", "largest intensity inside", required=True),
)
MAX_VOXELS = Option("max_voxels", "int", "stop a region before it has more voxels than this")


def _grown(grow: Callable[..., Array], seeds: str = "seeds") -> Run:
    """A region from seeds."""

    def run(image: Array, *, seed: Any, **options: Any) -> tuple[Array, dict[str, Any]]:
        return grow(image, **{seeds: seed}, **options), {}

    return run


def _seeded(
    image: Array, *, seed: list[tuple[int, tuple[int, ...]]], **options: Any
) -> tuple[Array, dict[str, Any]]:
    markers = markers_at(image, "--seed", seed)
    return ms.seeded_region_growing(image, markers, **options), {}


def _by_rule(image: Array, *, seed: Any, rule: str, **options: Any) -> Any:
    return ms.region_growing(image, seed, rules.function(rule), **options), {}


def _isolated(
    image: Array, *, move_lower: bool = False, **options: Any
) -> tuple[Array, dict[str, Any]]:
    return ms.isolated_connected(image, **options, find_upper=not move_lower), {}


METHODS = (
    Method(
        "flood",
        _R,
        "connected to the seed, and within --tolerance of its intensity",
        _grown(ms.flood, "seed_point"),
        (
            SEED,
            Option("tolerance", "float", "largest difference from the seed's intensity"),
            CONNECTIVITY,
        ),
        peer=Peer("scikit-image", "skimage", peers.flood),
    ),
    Method(
        "connected-threshold",
        _R,
        "connected to a seed, with intensities from --lower to --upper",
        _grown(ms.connected_threshold),
        (SEEDS, *LIMITS, CONNECTIVITY),
        peer=Peer("SimpleITK", "SimpleITK", peers.connected_threshold),
    ),
    Method(
        "confidence-connected",
        _R,
        "within a multiple of the region's standard deviation around its mean, again and again",
        _grown(ms.confidence_connected),
        (
            SEEDS,
            Option("multiplier", "float", "standard deviations around the mean", 4.5),
            Option("iterations", "int", "how often mean and deviation are taken anew", 4),
            Option("initial_radius", "int", "radius around the seeds for the first mean", 1),
        ),
        peer=Peer("SimpleITK", "SimpleITK", peers.confidence_connected),
    ),
    Method(
        "neighborhood-connected",
        _R,
        "connected to a seed, where a whole neighbourhood lies from --lower to --upper",
        _grown(ms.neighborhood_connected),
        (SEEDS, *LIMITS, Option("radius", "size", "radius of the neighbourhood in pixels", 1)),
        peer=Peer("SimpleITK", "SimpleITK", peers.neighborhood_connected),
    ),
    Method(
        "isolated-connected",
        _R,
        "connected to one seed, up to a limit that keeps another seed out",
        _isolated,
        (
            Option("seed1", "index", "voxel inside the region", required=True),
            Option("seed2", "index", "voxel that must stay outside", required=True),
            *LIMITS,
            Option("move_lower", "flag", "search for the lower limit instead of the upper", False),
            Option("tolerance", "float", "how exactly to find the limit", 1.0),
        ),
        peer=Peer("SimpleITK", "SimpleITK", peers.isolated_connected),
    ),
    Method(
        "seeded-region-growing",
        _R,
        "labelled seeds grow together, each voxel joins the most similar (Adams and Bischof 1994)",
        _seeded,
        (
            Option("seed", "marker", "label and voxel of a seed", required=True, several=True),
            CONNECTIVITY,
            Option("max_distance", "float", "stay within this of the region's mean"),
            MAX_VOXELS,
        ),
    ),
    Method(
        "region-growing",
        _R,
        "connected to a seed, by a rule of your own, compiled (needs the extra jit)",
        _by_rule,
        (
            SEEDS,
            Option(
                "rule",
                "text",
                "when a voxel joins: an expression of value, region_mean, region_std, seed_value",
                required=True,
            ),
            CONNECTIVITY,
            MAX_VOXELS,
            Option("max_growth", "int", "stop before a step that adds more voxels than this"),
        ),
        needs="numba",
    ),
)
