"""The methods of the command line and the demonstration, one entry each.

An entry names the method, its options and how to call it; the command line, its help, the demo
and the benchmark are made from this list. To add a method, add an entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app import rule as rules
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
    besides (a threshold) as a dict that can be written as JSON. `needs` is a module that it cannot
    do without.
    """

    name: str
    family: str
    summary: str
    run: Run
    options: tuple[Option, ...] = ()
    peer: Peer | None = None
    needs: str | None = None


def split(image: Array, t: float, *, dark: bool = False) -> Array:
    """Mask of the pixels above `t` (``image > t``), or with `dark` of those at or below it."""
    if dark:
        return ms.threshold(image, -math.inf, t)
    if image.dtype.kind == "f":
        at = np.asarray(t, image.dtype)
        return ms.threshold(image, np.nextafter(at, np.inf, dtype=image.dtype))
    return ms.threshold(image, math.floor(t) + 1)


def _interval(image: Array, *, lower: float = -math.inf, upper: float = math.inf) -> Any:
    return ms.threshold(image, lower, upper), {}


def _global(find: Callable[..., Any]) -> Run:
    """One threshold for the whole image, then the comparison."""

    def run(image: Array, *, dark: bool = False, **options: Any) -> tuple[Array, dict[str, Any]]:
        t = find(image, **options).item()
        return split(image, t, dark=dark), {"threshold": t}

    return run


def _multiotsu(image: Array, **options: Any) -> tuple[Array, dict[str, Any]]:
    thresholds = ms.threshold_multiotsu(image, **options)
    labels = np.zeros(image.shape, np.uint8)
    for t in thresholds:  # as numpy.digitize: a pixel at a threshold is above it
        labels += ms.threshold(image, t).view(np.uint8)
    return labels, {"thresholds": thresholds.tolist()}


def _hysteresis(image: Array, *, low: float, high: float) -> tuple[Array, dict[str, Any]]:
    return ms.apply_hysteresis_threshold(image, low, high), {}


def _local(find: Callable[..., Any]) -> Run:
    """A threshold for every pixel, compared with it in the same pass."""

    def run(image: Array, *, dark: bool = False, **options: Any) -> tuple[Array, dict[str, Any]]:
        mask = find(image, **options, binary=True)
        return (~mask if dark else mask), {}

    return run


def _local_average(image: Array, *, average: Any = "gaussian", **options: Any) -> Any:
    return ms.threshold_local(image, method=average, **options)


def _grown(grow: Callable[..., Array], seeds: str = "seeds") -> Run:
    """A region from seeds."""

    def run(image: Array, *, seed: Any, **options: Any) -> tuple[Array, dict[str, Any]]:
        return grow(image, **{seeds: seed}, **options), {}

    return run


def _seeded(
    image: Array, *, seed: list[tuple[int, tuple[int, ...]]], **options: Any
) -> tuple[Array, dict[str, Any]]:
    highest = max(label for label, _ in seed)
    markers = np.zeros(image.shape, np.min_scalar_type(highest))
    for label, index in seed:
        if label < 1:
            raise ValueError(f"--seed: labels must be at least 1, got {label}")
        if len(index) != image.ndim or not all(
            0 <= i < n for i, n in zip(index, image.shape, strict=True)
        ):
            raise ValueError(f"--seed: {index} must lie inside the image of shape {image.shape}")
        markers[index] = label
    return ms.seeded_region_growing(image, markers, **options), {}


def _by_rule(image: Array, *, seed: Any, rule: str, **options: Any) -> Any:
    return ms.region_growing(image, seed, rules.function(rule), **options), {}


def _components(
    image: Array, *, lower: float = -math.inf, upper: float = math.inf, **options: Any
) -> tuple[Array, dict[str, Any]]:
    labels, count = ms.label(ms.threshold(image, lower, upper), return_num=True, **options)
    return labels, {"components": int(count)}


def _isolated(
    image: Array, *, move_lower: bool = False, **options: Any
) -> tuple[Array, dict[str, Any]]:
    return ms.isolated_connected(image, **options, find_upper=not move_lower), {}


LOWER = Option("lower", "float", "smallest intensity inside")
UPPER = Option("upper", "float", "largest intensity inside")
DARK = Option("dark", "flag", "the object is darker than its surroundings", False)
BINS = Option("nbins", "int", "bins of the histogram, for images of real numbers", 256)
OFFSET = Option("offset", "float", "subtract this from every local threshold", 0.0)
WINDOW = Option("window_size", "size", "side of the window in pixels, odd", 15)
SEED = Option("seed", "index", "voxel inside the region", required=True)
SEEDS = Option("seed", "index", "voxel inside the region", required=True, several=True)
LIMITS = (
    Option("lower", "float", "smallest intensity inside", required=True),
    Option("upper", "float", "largest intensity inside", required=True),
)
CONNECTIVITY = Option(
    "connectivity", "int", "1: neighbours share a face; up to 2 or 3: also edges and corners"
)

MAX_VOXELS = Option("max_voxels", "int", "stop a region before it has more voxels than this")

METHODS: dict[str, Method] = {}


def _add(
    name: str,
    family: str,
    summary: str,
    run: Run,
    *options: Option,
    peer: Peer | None = None,
    needs: str | None = None,
) -> None:
    METHODS[name] = Method(name, family, summary, run, options, peer, needs)


_T, _L, _R, _C = "one threshold", "local threshold", "region growing", "components"

_add(
    "threshold",
    _T,
    "intensities from --lower to --upper, both included",
    _interval,
    LOWER,
    UPPER,
    peer=Peer("NumPy", "numpy", peers.interval),
)
_add(
    "otsu",
    _T,
    "largest variance between the two classes (Otsu 1979)",
    _global(ms.threshold_otsu),
    BINS,
    DARK,
    peer=peers.threshold("otsu"),
)
_add(
    "multiotsu",
    _T,
    "several classes, largest variance between them (Liao, Chen and Chung 2001)",
    _multiotsu,
    Option("classes", "int", "number of classes", 3),
    BINS,
    peer=Peer("scikit-image", "skimage", peers.multiotsu),
)
_add(
    "li",
    _T,
    "least cross entropy (Li and Tam 1998)",
    _global(ms.threshold_li),
    Option("tolerance", "float", "stop when the threshold moves less than this"),
    Option("initial_guess", "float", "where to start"),
    DARK,
    peer=peers.threshold("li"),
)
_add(
    "yen",
    _T,
    "largest correlation between the classes (Yen, Chang and Chang 1995)",
    _global(ms.threshold_yen),
    BINS,
    DARK,
    peer=peers.threshold("yen"),
)
_add(
    "isodata",
    _T,
    "half way between the means of the classes (Ridler and Calvard 1978)",
    _global(ms.threshold_isodata),
    BINS,
    DARK,
    peer=peers.threshold("isodata"),
)
_add(
    "triangle",
    _T,
    "farthest from the line between the histogram's peak and tail (Zack 1977)",
    _global(ms.threshold_triangle),
    BINS,
    DARK,
    peer=peers.threshold("triangle"),
)
_add(
    "mean",
    _T,
    "the mean intensity (Glasbey 1993)",
    _global(ms.threshold_mean),
    DARK,
    peer=peers.threshold("mean"),
)
_add(
    "minimum",
    _T,
    "the valley between two peaks of the smoothed histogram (Prewitt and Mendelsohn 1966)",
    _global(ms.threshold_minimum),
    BINS,
    Option("max_num_iter", "int", "smooth the histogram this often at most", 10000),
    DARK,
    peer=peers.threshold("minimum"),
)
_add(
    "hysteresis",
    _T,
    "above --low, and connected to something above --high (Canny 1986)",
    _hysteresis,
    Option("low", "float", "every pixel inside is above this", required=True),
    Option("high", "float", "every region has a pixel above this", required=True),
    peer=Peer("scikit-image", "skimage", peers.hysteresis),
)
_add(
    "local",
    _L,
    "each pixel against the mean, median or Gaussian mean around it",
    _local(_local_average),
    Option("block_size", "size", "side of the neighbourhood in pixels, odd", required=True),
    Option("average", ("gaussian", "mean", "median"), "what to compare with", "gaussian"),
    OFFSET,
    DARK,
    peer=Peer("scikit-image", "skimage", peers.local),
)
_add(
    "niblack",
    _L,
    "local mean less K local standard deviations (Niblack 1986)",
    _local(ms.threshold_niblack),
    WINDOW,
    Option("k", "float", "K", 0.2),
    DARK,
    peer=peers.threshold("niblack"),
)
_add(
    "sauvola",
    _L,
    "local mean times 1 + K (local standard deviation / R - 1) (Sauvola 2000)",
    _local(ms.threshold_sauvola),
    WINDOW,
    Option("k", "float", "K", 0.2),
    Option("r", "float", "R: the range of the standard deviation"),
    DARK,
    peer=peers.threshold("sauvola"),
)
_add(
    "flood",
    _R,
    "connected to the seed, and within --tolerance of its intensity",
    _grown(ms.flood, "seed_point"),
    SEED,
    Option("tolerance", "float", "largest difference from the seed's intensity"),
    CONNECTIVITY,
    peer=Peer("scikit-image", "skimage", peers.flood),
)
_add(
    "connected-threshold",
    _R,
    "connected to a seed, with intensities from --lower to --upper",
    _grown(ms.connected_threshold),
    SEEDS,
    *LIMITS,
    CONNECTIVITY,
    peer=Peer("SimpleITK", "SimpleITK", peers.connected_threshold),
)
_add(
    "confidence-connected",
    _R,
    "within a multiple of the region's standard deviation around its mean, again and again",
    _grown(ms.confidence_connected),
    SEEDS,
    Option("multiplier", "float", "standard deviations around the mean", 4.5),
    Option("iterations", "int", "how often mean and deviation are taken anew", 4),
    Option("initial_radius", "int", "radius around the seeds for the first mean", 1),
    peer=Peer("SimpleITK", "SimpleITK", peers.confidence_connected),
)
_add(
    "neighborhood-connected",
    _R,
    "connected to a seed, where a whole neighbourhood lies from --lower to --upper",
    _grown(ms.neighborhood_connected),
    SEEDS,
    *LIMITS,
    Option("radius", "size", "radius of the neighbourhood in pixels", 1),
    peer=Peer("SimpleITK", "SimpleITK", peers.neighborhood_connected),
)
_add(
    "isolated-connected",
    _R,
    "connected to one seed, up to a limit that keeps another seed out",
    _isolated,
    Option("seed1", "index", "voxel inside the region", required=True),
    Option("seed2", "index", "voxel that must stay outside", required=True),
    *LIMITS,
    Option("move_lower", "flag", "search for the lower limit instead of the upper", False),
    Option("tolerance", "float", "how exactly to find the limit", 1.0),
    peer=Peer("SimpleITK", "SimpleITK", peers.isolated_connected),
)
_add(
    "seeded-region-growing",
    _R,
    "labelled seeds grow together, each voxel joins the most similar (Adams and Bischof 1994)",
    _seeded,
    Option("seed", "marker", "label and voxel of a seed", required=True, several=True),
    CONNECTIVITY,
    Option("max_distance", "float", "stay within this of the region's mean"),
    MAX_VOXELS,
)
_add(
    "region-growing",
    _R,
    "connected to a seed, by a rule of your own, compiled (needs the extra jit)",
    _by_rule,
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
    needs="numba",
)
_add(
    "components",
    _C,
    "a number for each connected region with intensities from --lower to --upper",
    _components,
    LOWER,
    UPPER,
    CONNECTIVITY,
    peer=Peer("scikit-image", "skimage", peers.components),
)
