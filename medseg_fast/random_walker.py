"""Segmentation by random walks to seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.components import label

_SOLVERS = {"cg": 0, "cg_j": 1, None: 1, "cg_mg": 2, "bf": 2}  # WalkSolver


def _result(data: Any, labels: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return labels.shape, labels.dtype


@operation(result=_result, eager=("return_full_prob",))
def random_walker(
    data: ArrayLike,
    labels: ArrayLike,
    beta: float = 130,
    mode: Literal["cg_mg", "cg", "bf", "cg_j"] | None = "cg_j",
    tol: float = 1.0e-3,
    copy: bool = True,
    return_full_prob: bool = False,
    spacing: Sequence[float] | None = None,
    *,
    prob_tol: float = 1e-3,
    channel_axis: int | None = None,
) -> NDArray[Any]:
    """Give each pixel the label whose seeds a random walk from it most probably meets first.

    Same signature and labels as :func:`skimage.segmentation.random_walker`, without its sparse
    matrix.

    Parameters
    ----------
    data : array_like
        Image of two or three dimensions, and channels if `channel_axis` is given. Integers are
        scaled as scikit-image scales them, uint8 by 1/255.
    labels : array_like of int or float
        Seeds, of the image's shape without channels: 0 where a label is wanted, a positive number
        for a seed, a negative one for pixels left out of the walk.
    beta : float, optional
        How much a difference in intensity hinders the walk.
    mode : {"cg_j", "cg", "cg_mg", "bf", None}, optional
        How the linear systems are solved. "cg_j" (and None): conjugate gradients preconditioned by
        the diagonal; "cg": without. Both stop where scikit-image does, at the same approximation.
        "cg_mg": preconditioned by multigrid, several times faster and nearer the exact solution at
        the same `tol`, above all with few seeds; it needs no pyamg. "bf": multigrid to a residual
        of 1e-10, scikit-image by a direct method.
    tol : float, optional
        Residual, relative to the right side, at which the iteration stops.
    copy : bool, optional
        If False, pixels without a way to a seed become -1 in `labels`, as in scikit-image.
    return_full_prob : bool, optional
        Whether to return probabilities instead of labels.
    spacing : sequence of float, optional
        Size of a voxel along each axis, in mm or any unit. Default: 1.
    prob_tol : float, optional
        How far probabilities may leave [0, 1] without a warning.
    channel_axis : int, optional
        Axis of the channels; None for an image of grey values.

    Returns
    -------
    output : ndarray
        Labels of the dtype of `labels`, renumbered without gaps from 1, negative ones from -1;
        0 where an unlabelled pixel has no way to a seed. Or probabilities of all labels, float64,
        label first. Where no label is wanted, `labels` as they are (or a mask of each label, along
        a last axis).

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `mode` is unknown, shapes do not fit, there is no seed, `spacing` is not positive, or
        the image is not finite.

    Warns
    -----
    UserWarning
        If there is nothing to label, or probabilities leave [0, 1] by more than `prob_tol`.

    Notes
    -----
    Edges weigh ``exp(-beta * d**2 / (10 * std)) + 1e-10`` for a difference d of intensities
    divided by the spacing, and the standard deviation of the whole image; with C channels d**2 is
    summed and std times sqrt(C). In a constant image all weigh alike (scikit-image: NaN).

    With "cg_j" and "cg" iterates are scikit-image's up to rounding: labels differ from its where
    two probabilities are equal within `tol`. At the default `tol` they may be far from the solution
    where edges weigh little: in a brain of 64**3 voxels in units of 0 to 255 with four small seeds
    7 % of the labels are others than in the exact solution, and 0.005 % with "cg_mg".

    Iterations of "cg_j" and "cg" grow with the width of the image, those of "cg_mg" hardly; each
    takes time in proportion to pixels and labels. All threads, the same result for any number.
    Memory: 80 bytes per pixel, 64 for a float32 or float16 image, which "cg_j" and "cg" walk in
    float32, as scikit-image does, unless `tol` is below 1e-5; 12 more with more than one label.
    "cg_mg" and "bf": 140 bytes per pixel, and 110 for each of up to four labels but the last.

    References
    ----------
    L. Grady (2006), "Random walks for image segmentation", IEEE PAMI 28(11):1768-1783.

    Y. Notay (2010), "An aggregation-based algebraic multigrid method", ETNA 37:123-146.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0.0, 0.1, 0.0, 0.9, 1.0, 0.9]])
    >>> ms.random_walker(image, np.array([[1, 0, 0, 0, 0, 2]]))
    array([[1, 1, 1, 2, 2, 2]])
    """
    op = "random_walker"
    if mode not in _SOLVERS:
        raise ValueError(f"{op}: mode must be one of {tuple(_SOLVERS)}, got {mode!r}")
    seeds = _checks.as_array(op, labels, "labels")
    if seeds.dtype.kind not in "biuf":
        raise TypeError(f"{op}: labels must be numbers, got {seeds.dtype}")
    _checks.finite(op, "labels", seeds)
    image = _checks.image(op, _channels_last(op, data, channel_axis), "data")
    if image.ndim - (channel_axis is not None) not in (2, 3):
        raise ValueError(
            f"{op}: data must have two or three dimensions besides channels, got {image.shape}"
        )
    shape = image.shape[:-1] if channel_axis is not None else image.shape
    if seeds.shape != shape:
        raise ValueError(f"{op}: labels must have shape {shape}, got {seeds.shape}")
    sizes = _checks.spacing(op, spacing, seeds.ndim)
    beta, tol = _checks.number(op, "beta", beta), _checks.number(op, "tol", tol)
    walk = _Seeds(op, seeds)
    if mode == "cg":
        warnings.warn(
            '"cg" mode may be slow; consider the preconditioned "cg_j" or "cg_mg"', stacklevel=3
        )
    if not copy and walk.isolated is not None and isinstance(labels, np.ndarray):
        labels[walk.isolated] = -1
    if walk.message is not None:
        warnings.warn(walk.message, stacklevel=3)
        return _unchanged(seeds, walk, return_full_prob)
    channels = image.shape[-1] if channel_axis is not None else 1
    probabilities, report = _solve(
        op, image.reshape(*shape, channels), walk, beta, mode, tol, sizes, return_full_prob
    )
    least, most, _, converged = report
    if least < -prob_tol or most > 1 + prob_tol:
        warnings.warn(
            "The probability range is outside [0, 1] given the tolerance `prob_tol`. "
            "Consider decreasing `beta` and/or decreasing `tol`.",
            stacklevel=3,
        )
    if not converged:
        warnings.warn("Conjugate gradient convergence to tolerance not achieved.", stacklevel=3)
    if probabilities is not None:
        for number in range(1, walk.n + 1):
            probabilities[number - 1][walk.seeds == number] = 1
        return probabilities
    return walk.finished(seeds.dtype)


def _channels_last(op: str, data: Any, channel_axis: int | None) -> NDArray[Any]:
    image = _checks.as_array(op, data, "data")
    if channel_axis is None:
        return image
    axis = _checks.integer(op, "channel_axis", channel_axis, -image.ndim, image.ndim - 1)
    return np.moveaxis(image, axis, -1)


class _Seeds:
    """Labels renumbered, and where the walk cannot go.

    `message`: why there is nothing to solve. `isolated`: unlabelled pixels without a way to a seed.
    """

    solved: NDArray[np.int32]  # what the kernel makes of them
    message: str | None = None
    isolated: NDArray[np.bool_] | None = None

    def __init__(self, op: str, labels: NDArray[Any]) -> None:
        values = _values(labels)
        if not values.size or values[-1] <= 0:
            raise ValueError(
                f"{op}: No seeds provided in label image: please ensure it contains at least one "
                "positive value"
            )
        zero = int(np.searchsorted(values, 0))
        if zero == len(values) or values[zero] != 0:
            self.message = (
                "Random walker only segments unlabeled areas, where labels == 0. No zero valued "
                "areas in labels were found. Returning provided labels."
            )
            return
        self.n = len(values) - zero - 1
        self.seeds = _renumbered(labels, values, zero)
        if zero:  # else every pixel has a way to every other
            unknown, positive = self.seeds == 0, self.seeds > 0
            parts = label(self.seeds >= 0, connectivity=1)
            seeded = np.zeros(parts.max() + 1, np.bool_)
            seeded[parts[positive]] = True
            self.isolated = unknown & ~seeded[parts]
            if self.isolated[unknown].all():
                self.message = (
                    "All unlabeled pixels are isolated, they could not be determined by the random "
                    "walker algorithm."
                )

    def given(self) -> NDArray[np.int32]:
        """A copy for the kernel."""
        seeds = self.seeds.copy()
        if self.isolated is not None:
            seeds[self.isolated] = -1
        return seeds

    def finished(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        out = self.solved.reshape(self.seeds.shape)
        if self.isolated is not None:
            out[self.isolated] = 0
        return out.astype(dtype, copy=False)


def _values(labels: NDArray[Any]) -> NDArray[Any]:
    """The sorted values of an array, by counting where integers cannot be many."""
    if labels.size == 0 or labels.dtype.kind in "bf":
        return np.unique(labels)
    least, most = int(labels.min()), int(labels.max())
    if most - least > 1 << 16:
        return np.unique(labels)
    counts = np.zeros(most - least + 1, np.bool_)
    counts[labels.astype(np.int64, copy=False).ravel() - least] = True
    return np.flatnonzero(counts) + least


def _renumbered(labels: NDArray[Any], values: NDArray[Any], zero: int) -> NDArray[np.int32]:
    numbers = np.arange(len(values), dtype=np.int32) - np.int32(zero)
    least, most = int(values[0]), int(values[-1])
    if labels.dtype.kind == "f" or most - least > 1 << 16:
        return numbers[np.searchsorted(values, labels)]
    table = np.zeros(most - least + 1, np.int32)
    table[values.astype(np.int64) - least] = numbers
    return table[labels.astype(np.int64, copy=False) - least]


def _unchanged(labels: NDArray[Any], walk: _Seeds, return_full_prob: bool) -> NDArray[Any]:
    given = labels.copy()
    if walk.isolated is not None:
        given[walk.isolated] = -1
    if return_full_prob:
        values = [v for v in _values(given) if v > 0]
        return np.concatenate([np.atleast_3d(given == v) for v in values], axis=-1)
    return given


def _solve(
    op: str,
    image: NDArray[Any],
    walk: _Seeds,
    beta: float,
    mode: str | None,
    tol: float,
    sizes: tuple[float, ...],
    return_full_prob: bool,
) -> tuple[NDArray[np.float64] | None, Any]:
    scale = _stencil.scale(image.dtype)
    _, deviation = core.mean_and_deviation(image)
    if not math.isfinite(deviation):
        raise ValueError(f"{op}: data must be finite")
    deviation *= scale * math.sqrt(image.shape[-1])
    if image.ndim == 3:  # two dimensions and channels
        image, sizes = image[np.newaxis], (1.0, *sizes)
    factors = [-beta / (10 * deviation) / s**2 if deviation else 0.0 for s in sizes]
    walk.solved = walk.given().reshape(image.shape[:3])
    probabilities = np.zeros((walk.n, *walk.seeds.shape)) if return_full_prob else None
    report = core.random_walker(
        image,
        scale,
        factors,
        1e-10 if mode == "bf" else float(tol),
        10 * walk.seeds.size,
        _SOLVERS[mode],
        walk.solved,
        walk.n,
        probabilities,
    )
    return probabilities, report
