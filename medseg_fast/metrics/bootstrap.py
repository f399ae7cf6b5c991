"""How sure a mean over few cases is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks

_PIECE = 1 << 20  # values drawn at a time


class Interval(NamedTuple):
    """A statistic of the values and its confidence interval."""

    estimate: float
    low: float
    high: float


def bootstrap_interval(
    values: ArrayLike,
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Confidence interval of a statistic, from cases drawn again and again with replacement.

    Parameters
    ----------
    values : array_like
        One value per case, such as the Dice of each patient. NaN is left out.
    statistic : callable, optional
        ``statistic(values, axis=-1)``, such as ``np.mean`` or ``np.median``; of values of shape
        (samples, cases) one for each sample.
    level : float, optional
        Confidence, between 0 and 1.
    resamples : int, optional
        How often the cases are drawn.
    seed : int, optional
        The same seed gives the same interval.

    Returns
    -------
    interval : Interval
        ``estimate``, ``low`` and ``high``, the percentile interval [1]_; all NaN without values.

    Raises
    ------
    TypeError
        If `statistic` does not take an array and an axis.
    ValueError
        If `level` or `resamples` is out of range, or `statistic` does not give a number a sample.

    References
    ----------
    .. [1] B. Efron, R. J. Tibshirani, "An introduction to the bootstrap", Chapman and Hall 1993,
       chapter 13.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> interval = ms.metrics.bootstrap_interval([0.8, 0.9, 0.85, 0.7])
    >>> round(interval.estimate, 4), interval.low < 0.8 < interval.high
    (0.8125, True)
    """
    op = "bootstrap_interval"
    cases = np.asarray(values, np.float64).reshape(-1)
    cases = cases[~np.isnan(cases)]
    part = float(_checks.number(op, "level", level))
    if not 0 < part < 1:
        raise ValueError(f"{op}: level must be between 0 and 1, got {level!r}")
    count = _checks.integer(op, "resamples", resamples, 1)
    if not len(cases):
        return Interval(*[float("nan")] * 3)
    rng = np.random.default_rng(seed)
    rows = max(1, _PIECE // len(cases))
    drawn = np.concatenate(
        [
            _of_samples(
                op,
                statistic,
                cases[rng.integers(0, len(cases), (min(rows, count - done), len(cases)))],
            )
            for done in range(0, count, rows)
        ]
    )
    low, high = np.quantile(drawn, [(1 - part) / 2, (1 + part) / 2])
    (estimate,) = _of_samples(op, statistic, cases[None])
    return Interval(float(estimate), float(low), float(high))


def _of_samples(
    op: str, statistic: Callable[..., Any], samples: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The statistic of each row."""
    try:
        found = np.asarray(statistic(samples, axis=-1), np.float64)
    except TypeError as error:
        raise TypeError(
            f"{op}: statistic must take an array and axis=-1, got {statistic!r}: {error}"
        ) from error
    if found.shape != samples.shape[:1]:
        raise ValueError(
            f"{op}: statistic must give shape {samples.shape[:1]} of {samples.shape} and axis=-1,"
            f" got {found.shape}"
        )
    return found
