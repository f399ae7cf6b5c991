"""Boundaries and closed regions by the flow of edges, from intensity, colour and texture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.gabor import envelope, gabor_bank
from medseg_fast.gaussian import gaussian

Array = NDArray[Any]

_FEATURES = ("intensity", "texture", "both")
_AHEAD = 4  # the prediction error is taken so many sigma ahead
_ROUNDS = 3  # of closing gaps, as in the paper
_HIGH = 0.45  # cycles per pixel, the highest frequency of the texture
_LOW = 0.25  # of the high threshold: the low one
_REACH = 4  # sigma: gaps that are closed
_ORIENTATIONS = 6
_NOISE = 6.0  # times sigma and the median slope: strength of a boundary
_LEAST_BAND = 0.25  # of the strongest: what filters with less response count for


class EdgeFlow(NamedTuple):
    """What `edge_flow` finds."""

    strength: NDArray[np.float32]
    """Where flows meet, what arrives there from both sides: about the height of the step; else 0.
    The boundary is between the pixel and the next one in its row or column."""
    edges: NDArray[np.bool_]
    """Pixels with a boundary between them and the next one in the row or column."""
    direction: NDArray[np.float32]
    """Unit vector of the flow, towards the nearest boundary, (2, rows, columns); 0 without flow."""
    labels: NDArray[np.int32]
    """Regions enclosed by boundaries, 1, 2, ... in raster order; every pixel is in one."""


class _Maps:
    """The smoothed maps that the flow is computed from, and their weights."""

    def __init__(self, shape: tuple[int, ...], channels: int, filters: int) -> None:
        self.maps = _checks.empty((channels + filters, *shape), np.float32)
        self.of_map: list[int] = [*range(channels), *([channels] * filters)]
        self.scale: list[float] = []  # of each map
        self.attributes: list[float] = []

    def for_merging(self) -> list[float]:
        """Weight of each map where regions are compared: squares add up as energies do."""
        shares = (self.attributes[attribute] for attribute in self.of_map)
        return [s * math.sqrt(w) for s, w in zip(self.scale, shares, strict=True)]


@operation(result=None)
def edge_flow(
    image: ArrayLike,
    sigma: float = 2.0,
    *,
    features: str = "intensity",
    channel_axis: int | None = None,
    weights: Sequence[float] | None = None,
    texture_weight: float = 0.4,
    directions: int = 16,
    low: float | None = None,
    high: float | None = None,
    reach: float | None = None,
    min_size: int | None = None,
    n_regions: int | None = None,
    closed: bool = True,
    spacing: Sequence[float] | None = None,
) -> EdgeFlow:
    """Find boundaries where edge flow meets, and the regions that they enclose.

    At every pixel the image is predicted from either side; flow goes to the side where prediction
    fails, from pixel to pixel, until it meets flow from the other side: there is a boundary.

    Parameters
    ----------
    image : array_like
        2D, with `channel_axis` one axis more; bool, integer or float.
    sigma : float, optional
        Scale in mm (pixels without `spacing`): standard deviation of the smoothing. Boundaries
        closer than about 4 sigma to each other merge.
    features : {"intensity", "texture", "both"}, optional
        What changes at a boundary: the channels; the magnitudes of a bank of Gabor filters of their
        mean; or either.
    channel_axis : int, optional
        Axis of channels, for example colours.
    weights : sequence of float, optional
        How much each channel counts; equally much by default. Their sum does not matter.
    texture_weight : float, optional
        Share of the texture in "both", from 0 to 1; the channels have the rest.
    directions : int, optional
        Directions around the circle in which flow is looked for; even, 4 to 64.
    low, high : float, optional
        Boundaries of a strength above `low` that hang together with one above `high` are kept. By
        default `high` is 6 sigma times the median length of the flow, at least 1/100 of the
        greatest strength, and `low` a quarter of `high`.
    reach : float, optional
        Longest gap, in mm, that the end of an open boundary is joined over. 4 sigma by default.
    min_size : int, optional
        Regions of fewer pixels are merged with a neighbour. By default those smaller than a disc
        of radius 2 sigma.
    n_regions : int, optional
        Then the most similar neighbours are merged until so many regions are left.
    closed : bool, optional
        Whether `edges` are only the boundaries between the final regions; else all that were found
        and joined, also what encloses nothing.
    spacing : sequence of float, optional
        Pixel size in mm along both axes; 1 by default.

    Returns
    -------
    result : EdgeFlow
        ``strength`` (float32), where flows meet: what arrives there from both sides, for intensity
        about the height of the step (the boundary is between the pixel and the next one in its row
        or column); ``edges`` (bool), the pixels before a boundary;
        ``direction`` (float32), unit vectors of the flow, shape ``(2, rows, columns)``; ``labels``
        (int32), the regions, numbered from 1 in raster order of their first pixels. Every pixel is
        in one.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        If the image is not 2D (the flow's half circles are those of a plane), or a number is out of
        range.

    Notes
    -----
    Steps, all in float32, with what we add to the paper [1]_ (the heads of ``csrc/edge_flow*.cpp``
    say it in full):

    1. Energies and prediction errors, 4 sigma ahead, of each smoothed channel; for texture of the
       smoothed magnitudes of `gabor_bank`, 6 orientations, from ``1 / (4 sigma)`` to 0.45 cycles
       per pixel about an octave apart, each divided by its root mean square (the paper's energy of
       the subband), or by a quarter of the largest one's if that is more: a filter that the image
       does not excite would count as much as one that it does, and its faint response moves
       boundaries. Magnitudes are continued from inside the image to its border, where the filters
       see a mirrored texture. In "both", channels are divided by the image's standard deviation.
    2. Energies and probabilities of channels and texture are added by weight. The flow goes into
       the half circle of the largest probability.
    3. Flow moves until it stands, at most ``64 + 64 sigma`` steps; some 10 sigma do.
    4. Boundaries are chosen by `low` and `high` (the paper has no threshold) and their gaps closed.
    5. What they enclose is merged by difference of means (texture too), size and share of found
       boundary.

    Where a filter reads NaN or infinity there is no flow. An image without any boundary is one
    region, an empty one none.

    Time O(n * (directions * maps + sigma)), merging O(m log m) for m pieces of boundary. Results do
    not depend on the number of threads; steps 4 and 5 run on one. Extra memory per pixel with the
    result: 37 bytes and 4 for every map, one a channel and 12 to 30 for texture.

    Boundary F-measure of regions and of all edges (``closed=False``) at the best sigma of 1, 1.5,
    2, 3, 4, 6, against `canny` at its best of those and of four pairs of quantiles; drawn scenes
    and, against what experts drew, real images (``python benchmarks/boundary_scores.py``):

    ======================================  =========  =======  =====  =====
    images                                  features   regions  all    Canny
    ======================================  =========  =======  =====  =====
    step; discs; discs with noise 5         intensity  1.000    1.000  1.000
    discs of contrast 30 to 100, noise 20   intensity  0.998    0.991  1.000
    discs, blurred by 3, noise 5            intensity  0.998    0.998  1.000
    gratings at 90 degrees to each other    texture    1.000    1.000  0.661
    the same with noise 20                  texture    1.000    0.855  0.547
    gratings of 0.1 and 0.2 cycles          texture    1.000    1.000  0.311
    nuclei, fluorescence (8 images)         intensity  0.793    0.697  0.800
    skin lesions, colour (8)                both       0.249    0.117  0.151
    heart on MR (6)                         intensity  0.189    0.239  0.312
    carotid artery on ultrasound (5)        intensity  0.048    0.031  0.103
    ======================================  =========  =======  =====  =====

    So it separates textures, which Canny cannot, and keeps few false boundaries; in images full of
    edges, where the target's outline has gaps, Canny finds more of it.

    References
    ----------
    .. [1] W.-Y. Ma, B. S. Manjunath, "EdgeFlow: a technique for boundary detection and image
       segmentation", IEEE Trans. Image Processing 9 (2000) 1375-1388.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((40, 40))
    >>> image[10:30, 12:28] = 1
    >>> found = ms.edge_flow(image, 1.5)
    >>> np.unique(found.labels, return_counts=True)[1].tolist()
    [1284, 316]
    """
    op = "edge_flow"
    array = _channels(op, image, channel_axis)
    shape = array.shape[1:]
    scale = float(_checks.number(op, "sigma", sigma))
    if not 0 < scale < math.inf:
        raise ValueError(f"{op}: sigma must be positive and finite, got {sigma!r}")
    if features not in _FEATURES:
        raise ValueError(f"{op}: features must be one of {', '.join(_FEATURES)}, got {features!r}")
    half = _checks.integer(op, "directions", directions, 4, 64)
    if half % 2:
        raise ValueError(f"{op}: directions must be even, got {directions!r}")
    sizes = _checks.spacing(op, spacing, 2)
    maps = _maps(op, array, scale, features, weights, texture_weight, sizes)

    angles = np.arange(half // 2) * (2 * math.pi / half)
    ways = np.stack([np.sin(angles), np.cos(angles)], -1)
    offsets = np.rint(_AHEAD * scale * ways / np.array(sizes)).astype(np.int64)
    flow = _checks.empty((2, *shape), np.float32)
    core.edge_flow_vectors(
        *(maps.maps, maps.of_map, maps.scale, maps.attributes),
        *(offsets.tolist(), ways.tolist(), sizes, flow),
    )
    energy, strength = np.empty_like(flow), np.empty(shape, np.float32)
    core.meet_flows(flow, sizes, 64 + math.ceil(64 * scale / min(sizes)), energy, strength)
    limits = _limits(op, low, high, scale, flow, strength)
    core.unit_flow(flow)
    masks, labels = _checks.empty(shape, np.uint8), _checks.empty(shape, np.int32)
    pixel = math.sqrt(sizes[0] * sizes[1])
    gap = _REACH * scale if reach is None else _limit(op, "reach", reach)
    fewest = math.ceil(math.pi * (2 * scale / pixel) ** 2)
    if min_size is not None:
        fewest = _checks.integer(op, "min_size", min_size, 0)
    wanted = 0 if n_regions is None else _checks.integer(op, "n_regions", n_regions, 1)
    core.link_boundaries(energy, *limits, gap / pixel, _ROUNDS, masks)
    edges = masks != 0
    core.label_enclosed(masks, labels)
    core.merge_enclosed(maps.maps, maps.for_merging(), fewest, wanted, masks, labels)
    return EdgeFlow(strength, masks != 0 if closed else edges, flow, labels)


def _channels(op: str, image: Any, channel_axis: Any) -> Array:
    """The image as (channels, rows, columns)."""
    array = _stencil.image(op, image)
    if channel_axis is not None:
        axis = _checks.integer(op, "channel_axis", channel_axis, -array.ndim, array.ndim - 1)
        array = np.moveaxis(array, axis, 0)
    else:
        array = array[None]
    if array.ndim != 3:
        raise ValueError(
            f"{op}: image must be 2D (the flow is defined in a plane), got {array.ndim - 1} "
            "axes beside the channels"
        )
    if array.shape[0] == 0:
        raise ValueError(f"{op}: image must have at least one channel, got shape {array.shape}")
    if array[0].size > np.iinfo(np.int32).max:
        raise ValueError(f"{op}: image must have fewer than 2**31 pixels, got {array[0].size}")
    return array


def _maps(
    op: str,
    image: Array,
    sigma: float,
    features: str,
    weights: Any,
    texture_weight: Any,
    spacing: Sequence[float],
) -> _Maps:
    channels = 0 if features == "texture" else image.shape[0]
    given = [1.0] * image.shape[0] if weights is None else list(weights)
    shares = [float(_checks.number(op, "weights", w)) for w in given]
    if len(shares) != image.shape[0] or not all(0 <= w < math.inf for w in shares):
        raise ValueError(
            f"{op}: weights must be one number for each of {image.shape[0]} channels, at least 0, "
            f"got {weights!r}"
        )
    if sum(shares) == 0:
        raise ValueError(f"{op}: weights must not all be 0")
    part = float(_checks.number(op, "texture_weight", texture_weight))
    if not 0 <= part <= 1:
        raise ValueError(f"{op}: texture_weight must be from 0 to 1, got {texture_weight!r}")
    part = {"intensity": 0.0, "texture": 1.0, "both": part}[features]

    # Frequencies from one period in 4 sigma up, about an octave apart.
    high = _HIGH / max(spacing)
    low = min(1 / (_AHEAD * sigma), high)
    scales = round(math.log2(high / low)) + 1
    filters = scales * _ORIENTATIONS if part else 0
    found = _Maps(image.shape[1:], channels, filters)
    for map, channel in zip(found.maps, image, strict=False):
        gaussian(channel, sigma, mode="reflect", preserve_range=True, spacing=spacing, out=map)
    unit = 1.0
    if channels and filters:  # in units of the whole image's standard deviation
        unit = _inverse(math.sqrt(sum(float(_finite(c).var()) for c in image) / len(image)))
    found.scale += [unit] * channels
    found.attributes += [w / sum(shares) * (1 - part) for w in shares[:channels]]
    if filters:
        grey = image[0] if len(image) == 1 else image.mean(0, dtype=np.float32)
        bank = found.maps[channels:].reshape(scales, _ORIENTATIONS, *image.shape[1:])
        gabor_bank(grey, scales, _ORIENTATIONS, low=low, high=high, spacing=spacing, out=bank)
        for scale in range(scales):
            wide = max(envelope(scale, scales, _ORIENTATIONS, low, high)[:2])
            _extend_inside(bank[scale], [1.5 * wide / size for size in spacing])
        power = []
        for map in found.maps[channels:]:
            power.append(math.sqrt(float(np.square(_finite(map)).mean())))
            gaussian(map, sigma, mode="reflect", spacing=spacing, out=map)
        found.scale += [_inverse(max(p, _LEAST_BAND * max(power))) for p in power]
        found.attributes.append(part)
    return found


def _extend_inside(maps: Array, width: Sequence[float]) -> None:
    """Continue what is `width` pixels inside up to the border, where a mirrored texture differs."""
    rows, columns = (
        min(round(w), (n - 1) // 2) for w, n in zip(width, maps.shape[1:], strict=True)
    )
    if rows > 0:
        maps[:, :rows] = maps[:, rows : rows + 1]
        maps[:, -rows:] = maps[:, -rows - 1 : -rows]
    if columns > 0:
        maps[..., :columns] = maps[..., columns : columns + 1]
        maps[..., -columns:] = maps[..., -columns - 1 : -columns]


def _finite(values: Array) -> Array:
    """The finite ones as float64, one 0 if there is none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return finite if finite.size else np.zeros(1)


def _inverse(value: float) -> float:
    return 1 / value if value > 0 else 0.0


def _limits(
    op: str, low: Any, high: Any, sigma: float, flow: Array, strength: Array
) -> tuple[float, float]:
    """The two thresholds of strength; by default what little noise like the image's reaches."""
    if high is None:
        # What half of the image has: of white noise 5 boundaries in 100 are stronger.
        step = max(1, strength.size // 100_000)
        some = flow.reshape(2, -1)[:, ::step]
        noise = float(np.median(np.hypot(some[0], some[1]))) if some.size else 0.0
        most = _NOISE * sigma * noise
        most = max(most, 0.01 * float(strength.max(initial=0)))
    else:
        most = _limit(op, "high", high)
    least = most * _LOW if low is None else _limit(op, "low", low)
    if least > most:
        raise ValueError(f"{op}: low must not exceed high, got {least:g} > {most:g}")
    return least, most


def _limit(op: str, name: str, value: Any) -> float:
    number = float(_checks.number(op, name, value))
    if number < 0:
        raise ValueError(f"{op}: {name} must not be negative, got {value!r}")
    return number
