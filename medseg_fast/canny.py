"""Canny's edge detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation
from medseg_fast.gaussian import _per_axis, _reach, _taps


def _largest(dtype: np.dtype[Any]) -> int:
    """What scikit-image divides thresholds by: the largest value of integers, else 1."""
    return int(np.iinfo(dtype).max) if dtype.kind in "ui" else 1


def _threshold(op: str, name: str, value: Any, default: float, limit: int, quantile: bool) -> Any:
    """A threshold on the scale of the gradient of the divided image, or a quantile."""
    if value is None:
        return default
    number = _checks.number(op, name, value)
    if not quantile:
        return value / limit  # in the arithmetic of its own type, as the peer's
    if not 0 <= number <= 1:
        raise ValueError(f"{op}: {name} must be a quantile from 0 to 1, got {value!r}")
    return value


def _thresholds(
    op: str, low: Any, high: Any, dtype: np.dtype[Any], quantiles: bool = False
) -> tuple[Any, Any]:
    limit = _largest(dtype)
    low = _threshold(op, "low_threshold", low, 0.1, limit, quantiles)
    high = _threshold(op, "high_threshold", high, 0.2, limit, quantiles)
    if high < low:
        raise ValueError(f"{op}: high_threshold must not be below low_threshold")
    return low, high


def _compared(low: Any, high: Any, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The thresholds as scikit-image compares them with magnitudes of `dtype`.

    It passes the lower one as a float32, and 1e-14 for 0; NumPy rounds a Python number to `dtype`.
    """
    with np.errstate(over="ignore", under="ignore"):
        lower = np.float32(low)
        if type(high) in (int, float):
            high = dtype.type(high)
    return float(lower if lower != 0 else np.float32(1e-14)), float(high)


class _Frame:
    """The smoothing and differences of one shape and dtype, ready to run."""

    def __init__(
        self, op: str, shape: Any, dtype: Any, sigma: Any, mode: Any, cval: Any, spacing: Any
    ) -> None:
        self.op, self.shape, self.dtype = op, tuple(shape), np.dtype(dtype)
        sizes = _checks.spacing(op, spacing, 2)
        sigmas = [s / size for s, size in zip(_per_axis(op, "sigma", sigma, 2), sizes, strict=True)]
        taps = [_taps(s, r)[0] for s, r in zip(sigmas, _reach(op, sigmas, 4.0), strict=True)]
        borders = _stencil.modes(op, mode, 2)
        if borders[0] != borders[1]:
            raise ValueError(f"{op}: mode must be the same for both axes, got {mode!r}")
        self.float_type = _stencil.float_type(self.dtype)
        self.core = core.CannyPlan(
            *self.shape,
            self.float_type == np.float32,
            _stencil.scale(self.dtype),
            *taps,
            borders[0],
            _stencil.cval(op, cval),
            [1 / size for size in sizes],
        )

    def quantiles(
        self, image: NDArray[Any], mask: NDArray[np.bool_] | None, low: Any, high: Any
    ) -> tuple[Any, Any]:
        if image.size == 0:
            return low, high
        magnitude = np.empty(self.shape, self.float_type)
        self.core.magnitude(image, mask, magnitude)
        low, high = np.percentile(magnitude, [100.0 * low, 100.0 * high])
        return low, high


@operation(result=mask_like)
@_stencil.shared_text
def canny(
    image: ArrayLike,
    sigma: float | Sequence[float] = 1.0,
    low_threshold: float | None = None,
    high_threshold: float | None = None,
    mask: ArrayLike | None = None,
    use_quantiles: bool = False,
    *,
    mode: str = "constant",
    cval: float = 0.0,
    spacing: Sequence[float] | None = None,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Thin edges: ridges of the gradient of the smoothed image, linked by two thresholds."""
    op = "canny"
    array = _checks.image(op, image, ndim=2)
    low, high = _thresholds(op, low_threshold, high_threshold, array.dtype, use_quantiles)
    frame = _Frame(op, array.shape, array.dtype, sigma, mode, cval, spacing)
    inside = _stencil.mask(op, mask, array)
    edges = _checks.output(op, out, array.shape, np.bool_)
    if use_quantiles:
        low, high = frame.quantiles(array, inside, low, high)
    written = _checks.scratch(edges)
    frame.core.edges(array, inside, *_compared(low, high, frame.float_type), written)
    return _checks.finish(edges, written)
