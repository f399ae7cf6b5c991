"""Texture of labelled regions: grey levels beside their neighbours, as the IBSI defines them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast.measure._levels import emphases, levels_of, named


class ToneDifferences(NamedTuple):
    """A neighbourhood grey tone difference matrix.

    Attributes
    ----------
    voxels : ndarray of int64
        Of each level, those with a neighbour in the region.
    differences : ndarray of float64
        Sum of how far these are from the mean level of their neighbours.
    """

    voxels: NDArray[np.int64]
    differences: NDArray[np.float64]


def ngtdm(levels: ArrayLike, number: int | None = None) -> ToneDifferences:
    """Neighbourhood grey tone difference matrix.

    Parameters
    ----------
    levels : array_like of int
        Grey levels from 1 to 65535; 0 is outside the region.
    number : int, optional
        Number of levels; the highest one by default.

    Returns
    -------
    tones : ToneDifferences
        Neighbours are those by faces, edges and corners, within the region.

    Raises
    ------
    TypeError
        If the levels are not integers.
    ValueError
        If a level is out of range.

    Notes
    -----
    Time O(3^d voxels). Sums are of integers, the same for any number of threads.

    References
    ----------
    .. [1] M. Amadasun and R. King, "Textural features corresponding to textural properties", IEEE
       Trans. Systems, Man and Cybernetics 19 (1989) 1264-1274.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> tones = ms.measure.ngtdm([[1, 3, 1]])
    >>> tones.voxels.tolist(), tones.differences.tolist()
    ([2, 0, 1], [4.0, 0.0, 2.0])
    """
    voxels, differences, _ = _neighbourhoods("ngtdm", levels, number, 0)
    known = np.arange(1, voxels.shape[1])
    return ToneDifferences(voxels[:, 1:].sum(1), (differences[:, 1:] / known).sum(1))


def ngtdm_features(tones: ToneDifferences) -> dict[str, float]:
    """The IBSI's 5 features of a tone difference matrix (its section 3.10).

    NaN where no voxel has a neighbour; a region of one level has a coarseness of 10^6.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.ngtdm_features(ms.measure.ngtdm([[1, 3, 1]]))["strength"]
    1.3333333333333333
    """
    total = int(tones.voxels.sum())
    names = ("coarseness", "contrast", "busyness", "complexity", "strength")
    if not total:
        return dict.fromkeys(names, float("nan"))
    i = np.flatnonzero(tones.voxels).astype(np.float64) + 1
    p = tones.voxels[tones.voxels > 0] / total
    s = tones.differences[tones.voxels > 0]
    apart = i[:, None] - i
    both, spread = p[:, None] + p, float(s.sum())
    weighted = p * s
    steps = float(np.abs((i * p)[:, None] - i * p).sum())
    n = len(i)
    found = (
        1 / float(weighted.sum()) if weighted.any() else 1e6,
        float((np.outer(p, p) * apart**2).sum()) / (n * (n - 1)) * spread / total if n > 1 else 0.0,
        float(weighted.sum()) / steps if n > 1 and steps else 0.0,
        float((np.abs(apart) * (weighted[:, None] + weighted) / both).sum()) / total,
        float((both * apart**2).sum()) / spread if spread else 0.0,
    )
    return dict(zip(names, found, strict=True))


def ngldm(
    levels: ArrayLike, number: int | None = None, *, coarseness: int = 0
) -> NDArray[np.int64]:
    """Neighbouring grey level dependence matrix.

    Parameters
    ----------
    levels, number
        As for `ngtdm`.
    coarseness : int, optional
        By how much the level of a neighbour may differ from a voxel's that depends on it.

    Returns
    -------
    counts : ndarray of int64
        Shape (number, 3^d): how many voxels of level i + 1 have j neighbours of such a level.

    Raises
    ------
    TypeError, ValueError
        As `ngtdm`.

    References
    ----------
    .. [1] C. Sun and W. G. Wee, "Neighboring gray level dependence matrix for texture
       classification", Computer Vision, Graphics, and Image Processing 23 (1983) 341-352.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.ngldm([[1, 1, 2]])[:, :2].tolist()
    [[0, 2], [1, 0]]
    """
    coarseness = _checks.integer("ngldm", "coarseness", coarseness, 0, 65535)
    return _neighbourhoods("ngldm", levels, number, coarseness)[2]


def ngldm_features(counts: ArrayLike) -> dict[str, float]:
    """The IBSI's 17 features of a dependence matrix (its section 3.11); NaN without a voxel.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.measure.ngldm_features(ms.measure.ngldm([[1, 1, 2]]))["high_dependence_emphasis"]
    3.0
    """
    matrix = np.asarray(counts, np.float64)
    # A voxel depends on itself.
    features = emphases(matrix, np.arange(1, matrix.shape[1] + 1))
    found = named(features, "count", "low_dependence", "high_dependence", "dependence_count")
    voxels = matrix.sum()
    found["dependence_count_energy"] = (
        float(((matrix / voxels) ** 2).sum()) if voxels else float("nan")
    )
    found["dependence_count_percentage"] = 1.0 if voxels else float("nan")
    return found


def _neighbourhoods(
    op: str, levels: ArrayLike, number: int | None, coarseness: int
) -> tuple[NDArray[np.int64], ...]:
    image, count = levels_of(op, levels, number)
    tables = tuple(np.zeros((count, 3**image.ndim), np.int64) for _ in range(3))
    if image.size:
        core.neighbourhoods(image, coarseness, *tables)
    return tables
