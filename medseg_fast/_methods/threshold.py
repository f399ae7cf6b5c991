"""Methods that compare every pixel with a threshold, global or local."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast._app import peers
from medseg_fast._app.peers import Peer
from medseg_fast._methods._method import LOWER, UPPER, Array, Method, Option, Run

_T, _L = "one threshold", "local threshold"
DARK = Option("dark", "flag", "the object is darker than its surroundings", False)
BINS = Option("nbins", "int", "bins of the histogram, for images of real numbers", 256)
OFFSET = Option("offset", "float", "subtract this from every local threshold", 0.0)
WINDOW = Option("window_size", "size", "side of the window in pixels, odd", 15)


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


METHODS = (
    Method(
        "threshold",
        _T,
        "intensities from --lower to --upper, both included",
        _interval,
        (LOWER, UPPER),
        peer=Peer("NumPy", "numpy", peers.interval),
    ),
    Method(
        "otsu",
        _T,
        "largest variance between the two classes (Otsu 1979)",
        _global(ms.threshold_otsu),
        (BINS, DARK),
        peer=peers.threshold("otsu"),
    ),
    Method(
        "multiotsu",
        _T,
        "several classes, largest variance between them (Liao, Chen and Chung 2001)",
        _multiotsu,
        (Option("classes", "int", "number of classes", 3), BINS),
        peer=Peer("scikit-image", "skimage", peers.multiotsu),
    ),
    Method(
        "li",
        _T,
        "least cross entropy (Li and Tam 1998)",
        _global(ms.threshold_li),
        (
            Option("tolerance", "float", "stop when the threshold moves less than this"),
            Option("initial_guess", "float", "where to start"),
            DARK,
        ),
        peer=peers.threshold("li"),
    ),
    Method(
        "yen",
        _T,
        "largest correlation between the classes (Yen, Chang and Chang 1995)",
        _global(ms.threshold_yen),
        (BINS, DARK),
        peer=peers.threshold("yen"),
    ),
    Method(
        "isodata",
        _T,
        "half way between the means of the classes (Ridler and Calvard 1978)",
        _global(ms.threshold_isodata),
        (BINS, DARK),
        peer=peers.threshold("isodata"),
    ),
    Method(
        "triangle",
        _T,
        "farthest from the line between the histogram's peak and tail (Zack 1977)",
        _global(ms.threshold_triangle),
        (BINS, DARK),
        peer=peers.threshold("triangle"),
    ),
    Method(
        "mean",
        _T,
        "the mean intensity (Glasbey 1993)",
        _global(ms.threshold_mean),
        (DARK,),
        peer=peers.threshold("mean"),
    ),
    Method(
        "minimum",
        _T,
        "the valley between two peaks of the smoothed histogram (Prewitt and Mendelsohn 1966)",
        _global(ms.threshold_minimum),
        (
            BINS,
            Option("max_num_iter", "int", "smooth the histogram this often at most", 10000),
            DARK,
        ),
        peer=peers.threshold("minimum"),
    ),
    Method(
        "hysteresis",
        _T,
        "above --low, and connected to something above --high (Canny 1986)",
        _hysteresis,
        (
            Option("low", "float", "every pixel inside is above this", required=True),
            Option("high", "float", "every region has a pixel above this", required=True),
        ),
        peer=Peer("scikit-image", "skimage", peers.hysteresis),
    ),
    Method(
        "local",
        _L,
        "each pixel against the mean, median or Gaussian mean around it",
        _local(_local_average),
        (
            Option("block_size", "size", "side of the neighbourhood in pixels, odd", required=True),
            Option("average", ("gaussian", "mean", "median"), "what to compare with", "gaussian"),
            OFFSET,
            DARK,
        ),
        peer=Peer("scikit-image", "skimage", peers.local),
    ),
    Method(
        "niblack",
        _L,
        "local mean less K local standard deviations (Niblack 1986)",
        _local(ms.threshold_niblack),
        (WINDOW, Option("k", "float", "K", 0.2), DARK),
        peer=peers.threshold("niblack"),
    ),
    Method(
        "sauvola",
        _L,
        "local mean times 1 + K (local standard deviation / R - 1) (Sauvola 2000)",
        _local(ms.threshold_sauvola),
        (
            WINDOW,
            Option("k", "float", "K", 0.2),
            Option("r", "float", "R: the range of the standard deviation"),
            DARK,
        ),
        peer=peers.threshold("sauvola"),
    ),
)
