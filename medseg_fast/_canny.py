"""What `canny` and `CannyPlan` share: thresholds, and one frame of each convention."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast.gaussian import _per_axis, _reach, _taps
from medseg_fast.morphology_binary import binary_erosion

_CONVENTIONS = ("skimage", "opencv", "itk")


def convention_of(op: str, value: Any, ndim: int) -> str:
    """`value`, by default scikit-image's in 2D and ITK's for other ranks."""
    if value is None:
        return "skimage" if ndim == 2 else "itk"
    if value not in _CONVENTIONS:
        raise ValueError(
            f"{op}: convention must be one of {', '.join(_CONVENTIONS)}, got {value!r}"
        )
    if value != "itk" and ndim != 2:
        raise ValueError(f"{op}: image must have 2 dimensions for {value!r}, got {ndim}")
    return str(value)


def largest(dtype: np.dtype[Any]) -> int:
    """What scikit-image divides integers by: the largest value of their dtype."""
    return int(np.iinfo(dtype).max) if dtype.kind in "ui" else 1


def skimage_unit(op: str, dtype: np.dtype[Any]) -> int:
    """What scikit-image divides thresholds by; of the dtypes that it takes."""
    if dtype.kind in "ui" and dtype.itemsize == 8:
        raise ValueError(f"{op}: 64-bit integer images are not supported, got {dtype}")
    return largest(dtype)


def thresholds(
    op: str, low: Any, high: Any, unit: float, quantiles: bool = False, limit: float = 1
) -> tuple[Any, Any]:
    """Both thresholds, divided by `limit`; 0.1 and 0.2 times `unit` where not given."""
    found = []
    for name, value, default in (("low_threshold", low, 0.1), ("high_threshold", high, 0.2)):
        if value is None:
            found.append(default if quantiles else default * unit)
            continue
        number = _checks.number(op, name, value)
        if quantiles and not 0 <= number <= 1:
            raise ValueError(f"{op}: {name} must be a quantile from 0 to 1, got {value!r}")
        # In the arithmetic of its own type, as the peer's.
        found.append(value if quantiles else value / limit)
    if found[1] < found[0]:
        raise ValueError(
            f"{op}: high_threshold must not be below low_threshold, got {high!r} and {low!r}"
        )
    return found[0], found[1]


def smoothing(op: str, sigma: Any, spacing: tuple[float, ...]) -> list[list[float]]:
    """Halves of the Gaussians along the axes, as scikit-image makes them."""
    sigmas = _per_axis(op, "sigma", sigma, len(spacing))
    sigmas = [s / size for s, size in zip(sigmas, spacing, strict=True)]
    return [_taps(s, r)[0] for s, r in zip(sigmas, _reach(op, sigmas, 4.0), strict=True)]


def percentiles(magnitude: NDArray[Any], low: Any, high: Any) -> tuple[Any, Any]:
    """The values of two quantiles, as scikit-image takes them."""
    lower, upper = np.percentile(magnitude, [100.0 * low, 100.0 * high])
    return lower, upper


def one_mode(op: str, mode: Any) -> int:
    """The border mode of both axes."""
    borders = _stencil.modes(op, mode, 2)
    if borders[0] != borders[1]:
        raise ValueError(f"{op}: mode must be the same for all axes, got {mode!r}")
    return borders[0]


def compared(float_type: np.dtype[Any], low: Any, high: Any) -> tuple[float, float]:
    """The thresholds as scikit-image compares them with magnitudes.

    It passes the lower one as a float32, and 1e-14 for 0; NumPy rounds a Python number to the
    magnitudes' dtype.
    """
    with np.errstate(over="ignore", under="ignore"):
        lower = np.float32(low)
        if type(high) in (int, float):
            high = float_type.type(high)
    return float(lower if lower != 0 else np.float32(1e-14)), float(high)


class SkimageFrame:
    """Canny by scikit-image's definition for one shape and dtype."""

    def __init__(
        self, op: str, shape: Any, dtype: Any, sigma: Any, mode: Any, cval: Any, spacing: Any
    ) -> None:
        self.shape, self.float_type = shape, _stencil.float_type(dtype)
        sizes = _checks.spacing(op, spacing, 2)
        border = one_mode(op, mode)
        self.plan = core.canny_plan(
            *shape,
            self.float_type == np.float32,
            _stencil.scale(dtype),
            *smoothing(op, sigma, sizes),
            border,
            _stencil.cval(op, cval),
            [1 / size for size in sizes],
        )

    def compared(self, low: Any, high: Any) -> tuple[float, float]:
        return compared(self.float_type, low, high)

    def quantiles(
        self, image: NDArray[Any], mask: NDArray[np.bool_] | None, low: Any, high: Any
    ) -> tuple[Any, Any]:
        magnitude = _checks.empty(self.shape, self.float_type)
        self.plan.magnitude(image, mask, magnitude)
        return percentiles(magnitude, low, high) if magnitude.size else (low, high)


def opencv_thresholds(op: str, low: Any, high: Any) -> tuple[float, float]:
    """In OpenCV's units: of differences of values from 0 to 255; it puts them in order."""
    named = (("low_threshold", low, 25.5), ("high_threshold", high, 51.0))
    one, other = (
        default if value is None else float(_checks.number(op, name, value))
        for name, value, default in named
    )
    return min(one, other), max(one, other)


def opencv_refuses(op: str, dtype: np.dtype[Any], **given: Any) -> None:
    """OpenCV's definition has no smoothing and no masks: what it would ignore is an error."""
    if dtype != np.uint8:
        raise TypeError(f'{op}: image must be uint8 for convention="opencv", got {dtype}')
    for name, (value, allowed) in given.items():
        if not any(
            value is a or (type(value) in (int, float, str, bool) and value == a) for a in allowed
        ):
            raise ValueError(f'{op}: {name} has no meaning for convention="opencv", got {value!r}')


def crossings(
    op: str,
    image: NDArray[Any],
    sigma: Any,
    low: Any,
    high: Any,
    mask: NDArray[np.bool_] | None,
    use_quantiles: bool,
    mode: Any,
    cval: Any,
    spacing: Any,
    out: NDArray[np.bool_],
) -> None:
    """Canny by ITK's definition, for any rank."""
    sizes = _checks.spacing(op, spacing, image.ndim)
    kept = [k for k, n in enumerate(image.shape) if n != 1]
    if image.size == 0 or not kept:
        out[...] = False
        return
    smooth = _smooth(op, image, sigma, sizes, mode, cval, mask)
    # Axes of one pixel have no derivative and connect nothing.
    shape = [image.shape[k] for k in kept]
    per_mm = [1 / sizes[k] for k in kept]
    smooth = smooth.reshape(shape)
    inside = None
    if mask is not None:
        inside = binary_erosion(mask.reshape(shape), np.ones((3,) * len(shape), np.bool_))
    if use_quantiles:
        magnitude = np.empty_like(smooth)
        core.canny_magnitude(smooth, per_mm, magnitude)
        low, high = percentiles(magnitude, low, high)
    core.canny_crossings(smooth, per_mm, float(low), float(high), inside, out.reshape(shape))


def _smooth(
    op: str,
    image: NDArray[Any],
    sigma: Any,
    spacing: tuple[float, ...],
    mode: Any,
    cval: Any,
    mask: NDArray[np.bool_] | None,
) -> NDArray[Any]:
    """The smoothed image; where part of the Gaussian lies outside, the mean of what is inside."""
    wide = image.dtype.itemsize > 4 or (image.dtype.kind in "ui" and image.dtype.itemsize == 4)
    smooth = _checks.empty(image.shape, np.float64 if wide else np.float32)
    taps = smoothing(op, sigma, spacing)
    borders = _stencil.modes(op, mode, image.ndim)
    fill = _stencil.cval(op, cval)

    def filtered(pixels: NDArray[Any], outside: float, to: NDArray[Any]) -> NDArray[Any]:
        kernels = [(half, False) for half in taps]
        core.separable_filter(pixels, 1.0, kernels, [], [], False, 1.0, borders, outside, False, to)
        return to

    if mask is not None:
        image = np.where(mask, image, image.dtype.type(0))
    filtered(image, fill, smooth)
    if mask is not None:
        weight = filtered(mask, float(fill != 0), np.empty_like(smooth))
        weight += np.finfo(weight.dtype).eps
        smooth /= weight
        return smooth
    for axis, (half, border, n) in enumerate(zip(taps, borders, image.shape, strict=True)):
        if border == _stencil.MODES["constant"] and fill == 0:
            _divide_border(smooth, axis, half, n)
    return smooth


def _divide_border(smooth: NDArray[Any], axis: int, half: list[float], n: int) -> None:
    """Divide by the part of the Gaussian inside the image along an axis."""
    radius = len(half) - 1
    whole = np.array(half[:0:-1] + half)
    weights = np.convolve(np.ones(n), whole)[radius : radius + n]
    edge = [k for k in range(n) if k < radius or k >= n - radius]
    lines = np.moveaxis(smooth, axis, 0)
    for k in edge:
        lines[k] /= smooth.dtype.type(weights[k])
