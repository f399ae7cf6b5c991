"""Texture of labelled regions: co-occurrence of grey levels, as the IBSI defines it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast._cpu import core
from medseg_fast.measure._levels import entropy, levels_of, steps_of

Array = NDArray[Any]


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
    image, count = levels_of(op, levels, number)
    steps = steps_of(op, offsets, image.ndim)
    counts = np.zeros((len(steps), count, count), np.int64)
    if image.size:
        core.cooccurrence(image, steps, counts)
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
    joint, marginal = entropy(p), entropy(alone)
    cross = float(-(p[product > 0] * np.log2(product[product > 0])).sum())
    independent = entropy(product)
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
        "difference_entropy": entropy(difference),
        "sum_average": sum_mean,
        "sum_variance": float(total @ (both - sum_mean) ** 2),
        "sum_entropy": entropy(total),
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
