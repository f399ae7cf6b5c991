"""Texture of labelled regions: co-occurrence of grey levels, as the IBSI defines it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

Array = NDArray[Any]
_MOST_LEVELS = 4096  # a matrix of 128 MB a direction


def discretised(
    op: str,
    values: Array,
    bin_width: float | None = None,
    bins: int | None = None,
    low: float | None = None,
) -> NDArray[np.int64]:
    """Grey levels from 1 on: bins of a fixed width from `low` (the minimum), or a fixed number.

    With neither integers keep their steps of 1, floats get 32 bins. NaN gets level 0, as do values
    below `low`.
    """
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if not known.size:
        return np.zeros(values.shape, np.int64)
    if bin_width is None and bins is None:
        bin_width, bins = (1.0, None) if values.dtype.kind in "bui" else (None, 32)
    least, most = float(known.min()), float(known.max())
    if not (np.isfinite(least) and np.isfinite(most)):
        raise ValueError(f"{op}: image must be finite inside labels, got infinity")
    start = least if low is None else low
    levels = values.astype(np.float64)  # and in place from here on
    levels -= start
    if bin_width is not None:
        levels /= bin_width
    else:
        assert bins is not None
        levels *= bins
        levels /= (most - start) or 1
    np.floor(levels, out=levels)
    levels += 1
    if bins is not None:
        np.minimum(levels, bins, out=levels)
    np.maximum(levels, 0, out=levels)
    np.nan_to_num(levels, copy=False)
    if levels.max() > _MOST_LEVELS:
        raise ValueError(
            f"{op}: bin_width must give at most {_MOST_LEVELS} grey levels, got {int(levels.max())}"
        )
    return np.asarray(levels, np.int64)


def directions(ndim: int) -> list[list[int]]:
    """Half of the neighbours at a distance of 1, diagonals included: 4 in 2D, 13 in 3D."""
    every = itertools.product((-1, 0, 1), repeat=ndim)
    return [list(step) for step in every if step > (0,) * ndim]


def glcm(
    levels: ArrayLike, number: int | None = None, offsets: Sequence[Sequence[int]] | None = None
) -> NDArray[np.int64]:
    """Grey level co-occurrence matrices, symmetric, one for each direction.

    Parameters
    ----------
    levels : array_like of int
        Grey levels from 1 to 65535; 0 is outside the region.
    number : int, optional
        Number of levels; the highest one by default.
    offsets : sequence of index steps, optional
        Directions, `directions` by default.

    Returns
    -------
    counts : ndarray of int64
        Shape (directions, number, number): how often level i + 1 has level j + 1 beside it, in the
        direction or against it.

    Raises
    ------
    TypeError
        If the levels are not integers.
    ValueError
        If a level is out of range, or an offset does not fit.

    References
    ----------
    .. [1] R. M. Haralick, K. Shanmugam, I. Dinstein, "Textural features for image classification",
       IEEE Trans. Systems Man Cybernetics 3 (1973) 610-621.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.glcm([[1, 1, 2]], offsets=[(0, 1)]).tolist()
    [[[2, 1], [1, 0]]]
    """
    op = "glcm"
    image = np.asarray(levels)
    if image.dtype.kind not in "bui":
        raise TypeError(f"{op}: levels must be integers, got {image.dtype}")
    highest = int(image.max(initial=0))
    if image.size and int(image.min()) < 0:
        raise ValueError(f"{op}: levels must not be negative, got {int(image.min())}")
    count = _checks.integer(op, "number", max(highest, 1) if number is None else number, 1, 65535)
    if highest > count:
        raise ValueError(f"{op}: levels must be at most {count}, got {highest}")
    steps = [list(map(int, step)) for step in (offsets or directions(image.ndim))]
    if any(len(step) != image.ndim for step in steps):
        raise ValueError(f"{op}: offsets must have {image.ndim} steps each, got {offsets!r}")
    counts = np.zeros((len(steps), count, count), np.int64)
    if image.size:
        core.cooccurrence(_checks.contiguous(image.astype(np.uint16)), steps, counts)
    result: NDArray[np.int64] = counts + counts.transpose(0, 2, 1)
    return result


def glcm_features(counts: ArrayLike, *, merge: bool = True) -> dict[str, float]:
    """The IBSI's 25 features of co-occurrence matrices.

    Parameters
    ----------
    counts : array_like
        Shape (directions, levels, levels), as from `glcm`.
    merge : bool, optional
        Add the directions' matrices up (the IBSI's IAZD); False: mean of their features (ITBB).

    Returns
    -------
    features : dict of float
        NaN where there is no pair of neighbours.

    References
    ----------
    .. [1] A. Zwanenburg et al., "The image biomarker standardization initiative", Radiology 295
       (2020) 328-338, section 3.6.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> counts = ms.measure.glcm([[1, 1, 2]], offsets=[(0, 1)])
    >>> ms.measure.glcm_features(counts)["contrast"]
    0.5
    """
    every = np.asarray(counts, np.float64)
    parts = [every.sum(0)] if merge else [part for part in every if part.sum()]
    rows = [_features(part) for part in parts if part.sum()] or [_features(every.sum(0))]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _entropy(p: Array) -> float:
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def _features(counts: Array) -> dict[str, float]:
    number = len(counts)
    with np.errstate(invalid="ignore"):
        p = counts / counts.sum()
    level = np.arange(1, number + 1, dtype=np.float64)
    i, j = level[:, None], level[None, :]
    apart = np.abs(i - j)
    alone = p.sum(1)  # of one voxel of the pair; the same for the other
    difference = np.bincount(apart.astype(int).ravel(), p.ravel(), number)
    total = np.bincount((i + j).astype(int).ravel(), p.ravel(), 2 * number + 1)
    step, both = np.arange(number), np.arange(2 * number + 1)
    mean = float((alone * level).sum())
    variance = float((alone * (level - mean) ** 2).sum())
    difference_mean, sum_mean = float(difference @ step), float(total @ both)
    product = np.outer(alone, alone)
    joint, marginal = _entropy(p), _entropy(alone)
    cross = float(-(p[product > 0] * np.log2(product[product > 0])).sum())
    independent = _entropy(product)
    off = apart > 0
    around = i + j - 2 * mean
    known = bool(counts.sum())
    features = {
        "joint_maximum": float(p.max()),
        "joint_average": mean,
        "joint_variance": variance,
        "joint_entropy": joint,
        "difference_average": difference_mean,
        "difference_variance": float(difference @ (step - difference_mean) ** 2),
        "difference_entropy": _entropy(difference),
        "sum_average": sum_mean,
        "sum_variance": float(total @ (both - sum_mean) ** 2),
        "sum_entropy": _entropy(total),
        "angular_second_moment": float((p * p).sum()),
        "contrast": float((apart**2 * p).sum()),
        "dissimilarity": float((apart * p).sum()),
        "inverse_difference": float((p / (1 + apart)).sum()),
        "normalised_inverse_difference": float((p / (1 + apart / number)).sum()),
        "inverse_difference_moment": float((p / (1 + apart**2)).sum()),
        "normalised_inverse_difference_moment": float((p / (1 + (apart / number) ** 2)).sum()),
        "inverse_variance": float((p[off] / apart[off] ** 2).sum()),
        # A region of one level correlates with itself.
        "correlation": (float((i * j * p).sum()) - mean**2) / variance if variance else 1.0,
        "autocorrelation": float((i * j * p).sum()),
        "cluster_tendency": float((around**2 * p).sum()),
        "cluster_shade": float((around**3 * p).sum()),
        "cluster_prominence": float((around**4 * p).sum()),
        "information_correlation_1": (joint - cross) / marginal if marginal else 0.0,
        "information_correlation_2": float(
            np.sqrt(max(0.0, 1 - np.exp(-2 * (independent - joint))))
        ),
    }
    return features if known else dict.fromkeys(features, float("nan"))
