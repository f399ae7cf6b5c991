"""Weak supervision: dense labels for training from scribbles and boxes, by the classical half.

Neither needs PyTorch. What stays uncertain is left without a label, which the losses of this
package ignore.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast.boundaries import find_boundaries
from medseg_fast.distance import distance_transform_edt
from medseg_fast.grab_cut import grab_cut
from medseg_fast.random_walker import random_walker
from medseg_fast.seeded_cut import graph_cut

Array = NDArray[Any]
METHODS = ("graph_cut", "random_walker")


def pseudo_labels(
    image: ArrayLike,
    scribbles: ArrayLike,
    method: str = "graph_cut",
    *,
    probabilities: ArrayLike | None = None,
    confidence: float | None = None,
    margin: float = 0.0,
    spacing: Sequence[float] | None = None,
    ignore_index: int = -100,
    **options: Any,
) -> NDArray[np.int16]:
    """Spread scribbles over an image, to train on.

    Parameters
    ----------
    image : array_like
        (*spatial) or (C, *spatial), two or three spatial axes, finite.
    scribbles : array_like of int
        (*spatial): classes from 0 (background) on where something was drawn, `ignore_index` else.
    method : {"graph_cut", "random_walker"}, optional
        `medseg_fast.graph_cut` of each class against the others: a voxel that no cut or more than
        one claims gets no label. Or `medseg_fast.random_walker`: the class whose scribbles a
        random walk from the voxel most probably meets first.
    probabilities : array_like, optional
        (K, *spatial), or (1, *spatial) of the inside: what a network says now of each class. The
        graph cut then takes its regions from them instead of from intensities: a network and its
        labels improve in turn, and the cut makes them smooth and keeps the scribbles.
    confidence : float, optional
        For the random walker: voxels whose class is less probable get no label. Default 0.
    margin : float, optional
        Voxels not farther than this, in mm, from a boundary between labels get none, unless they
        are scribbles.
    spacing : sequence of float, optional
        Voxel size in mm; 1 by default.
    ignore_index : int, optional
        Label of what is not known, below 0.
    **options
        Of the method: `lambda_`, `sigma`, `connectivity`; `beta`, `mode`, `tol`.

    Returns
    -------
    labels : ndarray of int16
        (*spatial). Scribbles keep their class.

    Raises
    ------
    TypeError
        If scribbles are not integers.
    ValueError
        If fewer than two classes are drawn, shapes do not fit, or an option is of the other method.

    Notes
    -----
    Time: a cut for each class (one for two classes), or one linear system each. A class without a
    scribble in this image gets no label here.

    References
    ----------
    .. [1] D. Lin et al., "ScribbleSup: scribble-supervised convolutional networks for semantic
       segmentation", CVPR 2016, 3159-3167: training and graph cuts in turn.
    .. [2] L. Grady, "Random walks for image segmentation", IEEE PAMI 28 (2006) 1768-1783.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.array([[0, 1, 0, 9, 8, 9, 1, 0]])
    >>> scribbles = np.full((1, 8), -100)
    >>> scribbles[0, 0], scribbles[0, 4] = 0, 1
    >>> pseudo_labels(image, scribbles, lambda_=1).tolist()
    [[0, 0, 0, 1, 1, 1, 0, 0]]
    """
    op = "pseudo_labels"
    if method not in METHODS:
        raise ValueError(f"{op}: method must be one of {', '.join(METHODS)}, got {method!r}")
    drawn = _checks.image(op, scribbles, "scribbles", ndim=(2, 3))
    if drawn.dtype.kind not in "ui":
        raise TypeError(f"{op}: scribbles must be integers, got {drawn.dtype}")
    pixels, channel_axis = _channels(op, image, drawn.shape)
    unknown = _unknown(op, ignore_index)
    seeds = np.where(drawn == ignore_index, unknown, drawn).astype(np.int64)
    if (seeds < 0).sum() != (drawn == ignore_index).sum() or seeds.max(initial=0) >= 1 << 15:
        raise ValueError(f"{op}: scribbles must be classes from 0 to 32767, or {ignore_index}")
    classes = [int(c) for c in np.unique(seeds) if c >= 0]
    if len(classes) < 2:
        raise ValueError(f"{op}: scribbles must show two classes at least, got {classes}")
    sizes = _checks.spacing(op, spacing, drawn.ndim)
    shared = {"spacing": sizes, "channel_axis": channel_axis, **options}
    if method == "random_walker":
        if probabilities is not None:
            raise ValueError(f"{op}: probabilities are for the graph cut")
        least = 0.0 if confidence is None else float(_checks.number(op, "confidence", confidence))
        labels = _walk(pixels, seeds, classes, least, unknown, shared)
    else:
        if confidence is not None:
            raise ValueError(f"{op}: confidence is for the random walker")
        shares = None
        if probabilities is not None:
            shares = _shares(op, probabilities, drawn.shape, max(classes))
        labels = _cut(pixels, seeds, classes, shares, unknown, shared)
    labels = _with_margin(op, labels, margin, sizes, unknown)
    return np.where(seeds >= 0, seeds, labels).astype(np.int16)


def box_labels(
    image: ArrayLike,
    boxes: Sequence[Sequence[Sequence[int]]],
    classes: Sequence[int] | None = None,
    *,
    surround: float = 0.5,
    margin: float = 0.0,
    spacing: Sequence[float] | None = None,
    ignore_index: int = -100,
    **options: Any,
) -> NDArray[np.int16]:
    """Label the objects in boxes, to train on.

    Parameters
    ----------
    image : array_like
        (*spatial) or (C, *spatial), two or three spatial axes, finite.
    boxes : sequence of boxes
        Around every object, each with (start, stop) for each spatial axis. What is in none of them
        is background, 0.
    classes : sequence of int, optional
        Of each box, from 1 on. Default: 1.
    surround : float, optional
        How much around a box its background is learnt from, as a part of its sides.
    margin, spacing, ignore_index
        As in `pseudo_labels`.
    **options
        Of `medseg_fast.grab_cut`: `lambda_`, `n_iterations`, ...

    Returns
    -------
    labels : ndarray of int16
        (*spatial). Voxels that boxes of different classes claim get no label.

    Raises
    ------
    ValueError
        If a box lies outside the image or is empty, covers it whole, or shapes do not fit.

    References
    ----------
    .. [1] M. Rajchl et al., "DeepCut: object segmentation from bounding box annotations using
       convolutional neural networks", IEEE TMI 36 (2017) 674-683.

    Examples
    --------
    >>> import numpy as np
    >>> image = np.zeros((20, 20))
    >>> image[6:12, 7:13] = 9
    >>> labels = box_labels(image, [((4, 14), (4, 16))])
    >>> bool((labels == (image > 0)).all())
    True
    """
    op = "box_labels"
    whole = np.asarray(image)
    if not len(boxes):
        ndim = whole.ndim - (whole.ndim == 4)
        raise ValueError(f"{op}: boxes must not be empty, got none for {ndim} axes")
    ndim = len(boxes[0])
    pixels, channel_axis = _channels(op, whole, whole.shape[whole.ndim - ndim :])
    spatial = pixels.shape[pixels.ndim - ndim :]
    of = (
        [1] * len(boxes)
        if classes is None
        else [_checks.integer(op, "classes", c, 1, 32767) for c in classes]
    )
    if len(of) != len(boxes):
        raise ValueError(f"{op}: classes must be one for each of {len(boxes)} boxes, got {len(of)}")
    unknown = _unknown(op, ignore_index)
    sizes = _checks.spacing(op, spacing, ndim)
    labels = np.zeros(spatial, np.int64)
    for box, value in zip(boxes, of, strict=True):
        sides = [(int(a), int(b)) for a, b in box]
        if len(sides) != ndim or not all(
            0 <= a < b <= n for (a, b), n in zip(sides, spatial, strict=True)
        ):
            raise ValueError(f"{op}: boxes must lie inside the image of shape {spatial}, got {box}")
        around = [
            (
                max(0, a - math.ceil(surround * (b - a)) - 1),
                min(n, b + math.ceil(surround * (b - a)) + 1),
            )
            for (a, b), n in zip(sides, spatial, strict=True)
        ]
        cut = tuple(slice(a, b) for a, b in around)
        inner = [(a - c, b - c) for (a, b), (c, _) in zip(sides, around, strict=True)]
        lead = (slice(None),) * (pixels.ndim - ndim)
        mask = grab_cut(
            pixels[(*lead, *cut)], inner, spacing=sizes, channel_axis=channel_axis, **options
        )
        part = labels[cut]
        part[mask & (part != 0) & (part != value)] = unknown
        part[mask & (part == 0)] = value
    return _with_margin(op, labels, margin, sizes, unknown).astype(np.int16)


def _channels(op: str, image: ArrayLike, spatial: tuple[int, ...]) -> tuple[Array, int | None]:
    """The image and its axis of channels: grey where it has none, or one."""
    pixels = _checks.image(op, image)
    if pixels.shape == spatial:
        return pixels, None
    if pixels.ndim != len(spatial) + 1 or pixels.shape[1:] != spatial or len(spatial) < 2:
        raise ValueError(
            f"{op}: image must have shape {spatial} or (C, *{spatial}), got {pixels.shape}"
        )
    return (pixels[0], None) if len(pixels) == 1 else (pixels, 0)


def _unknown(op: str, ignore_index: int) -> int:
    return _checks.integer(op, "ignore_index", ignore_index, -(1 << 15), -1)


def _shares(op: str, probabilities: ArrayLike, spatial: tuple[int, ...], last: int) -> Array:
    """(K, *spatial) probabilities, away from 0 and 1."""
    p = _checks.image(op, probabilities, "probabilities")
    if p.ndim != len(spatial) + 1 or p.shape[1:] != spatial:
        raise ValueError(f"{op}: probabilities must be (K, *{spatial}), got shape {p.shape}")
    if len(p) == 1:
        p = np.concatenate([1 - p, p])
    if len(p) <= last:
        raise ValueError(f"{op}: probabilities must be of {last + 1} classes, got {len(p)}")
    if not (np.min(p, initial=0) >= 0 and np.max(p, initial=0) <= 1):
        raise ValueError(f"{op}: probabilities must lie in [0, 1]")
    return np.clip(p.astype(np.float32), 1e-4, 1 - 1e-4)


def _walk(
    pixels: Array,
    seeds: Array,
    classes: list[int],
    least: float,
    unknown: int,
    options: dict[str, Any],
) -> Array:
    numbers = np.zeros(seeds.shape, np.int32)
    for k, value in enumerate(classes):
        numbers[seeds == value] = k + 1
    # Multigrid: few seeds in a large image are what it is for.
    settings = {"mode": "cg_mg", "tol": 1e-5, **options}
    p = random_walker(pixels, numbers, **settings, return_full_prob=True)
    best = p.argmax(0)
    labels: Array = np.array(classes)[best]
    top = np.take_along_axis(p, best[None], 0)[0]
    labels[~(top >= least) | ~(top > 0)] = unknown  # 0: no way to a scribble
    return labels


def _cut(
    pixels: Array,
    seeds: Array,
    classes: list[int],
    shares: Array | None,
    unknown: int,
    options: dict[str, Any],
) -> Array:
    labels = np.full(seeds.shape, unknown)
    claims = np.zeros(seeds.shape, np.uint8)
    two = len(classes) == 2
    for value in classes[1:] if two else classes:
        given = dict(options)
        if shares is not None:
            inside = shares[value]
            costs = (-np.log(inside), -np.log(1 - inside))
            given["region"] = lambda *_, costs=costs: costs
        mask = graph_cut(pixels, seeds == value, (seeds >= 0) & (seeds != value), **given)
        labels[mask] = value
        claims += mask
    if two:
        labels[claims == 0] = classes[0]
    else:
        labels[claims != 1] = unknown
    return labels


def _with_margin(
    op: str, labels: Array, margin: float, sizes: tuple[float, ...], unknown: int
) -> Array:
    """Labels but for what is near a boundary between them."""
    distance = float(_checks.number(op, "margin", margin))
    if not 0 <= distance < math.inf:
        raise ValueError(f"{op}: margin must be finite and not negative, got {margin!r}")
    if distance == 0:
        return labels
    edges = find_boundaries(labels - labels.min(initial=0), mode="thick")
    # The boundary lies between two voxels' centres, at half a voxel from both.
    near = distance_transform_edt(~edges, sizes) + min(sizes) / 2 <= distance
    return np.where(near & edges.any(), unknown, labels)
