"""Gabor filters: how much of the image is a wave of some length and direction, at each pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

_PARTS_TO = 3e-3  # of a filter's norm: what its separable parts may leave out
_REACH = 3  # standard deviations of the envelope
_MOST_REACH = 2000  # pixels


def _bank_like(image: Any, scales: int = 4, orientations: int = 6, **options: Any) -> Any:
    return (scales, orientations, *image.shape), np.float32


@operation(result=_bank_like)
def gabor_bank(
    image: ArrayLike,
    scales: int = 4,
    orientations: int = 6,
    *,
    low: float = 0.05,
    high: float = 0.45,
    mode: str = "reflect",
    spacing: Sequence[float] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Magnitude of the image's response to Gabor filters of several scales and orientations.

    Parameters
    ----------
    image : array_like, 2D
        Bool, integer or float.
    scales : int, optional
        Number of frequencies, in equal steps on a logarithmic scale.
    orientations : int, optional
        Number of orientations, in equal steps over half a turn.
    low, high : float, optional
        Lowest and highest frequency, cycles per mm (per pixel without `spacing`). 0.5 cycles per
        pixel is the most that an image can hold.
    mode : {"reflect", "nearest", "mirror", "wrap"}, optional
        How the image goes on beyond its border, see `gaussian`.
    spacing : sequence of float, optional
        Pixel size in mm along each axis; 1 by default.
    out : ndarray of float32, optional
        Array of shape ``(scales, orientations, *image.shape)`` that receives the result.

    Returns
    -------
    magnitude : ndarray of float32
        Shape ``(scales, orientations, *image.shape)``; the highest frequency first. Orientation 0
        is a wave that changes along the columns axis (vertical stripes), orientation ``k`` one
        turned by ``180 * k / orientations`` degrees towards the rows axis.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        If the image is not 2D, a number is out of range, or `mode`, `spacing` or `out` does not
        fit.

    Notes
    -----
    The bank is that of [1]_: neighbouring filters touch at half of their height in the frequency
    domain. Each is a Gaussian times a complex wave, of which so much of the Gaussian is taken off
    that the filter does not see a constant image, and cut off at 3 standard deviations. The
    response to a wave of the filter's own frequency is half of its amplitude at every scale (in
    the paper it grows with the wave length).

    A turned Gaussian is not separable. Each filter is split by its symmetry into four parts and
    each of these into one to four products of a row and a column filter; what they leave out is
    less than 3/1000 of the filter's norm. Filters that mirror each other share their parts.
    Arithmetic is in float32.

    NaN and infinity spread as far as a filter reaches. Time O(n * scales * orientations * radius);
    the radius is 3 standard deviations, some 1.1 wave lengths. Extra memory: a float32 copy of an
    image of another dtype, scratch of some 100 kB to few MB per thread.

    References
    ----------
    .. [1] B. S. Manjunath, W.-Y. Ma, "Texture features for browsing and retrieval of image data",
       IEEE Trans. Pattern Anal. Mach. Intell. 18 (1996) 837-842.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> stripes = np.sin(2 * np.pi * 0.2 * np.arange(64)) * np.ones((64, 1))
    >>> bank = ms.gabor_bank(stripes, scales=3, orientations=4, low=0.1, high=0.4)
    >>> scale, turn = np.unravel_index(bank[:, :, 32, 32].argmax(), (3, 4))
    >>> int(scale), int(turn)
    (1, 0)
    """
    op = "gabor_bank"
    array = _stencil.image(op, image, ndim=2)
    frequencies = _checks.integer(op, "scales", scales, 1)
    turns = _checks.integer(op, "orientations", orientations, 1)
    least, most = (
        float(_checks.number(op, name, value)) for name, value in (("low", low), ("high", high))
    )
    if not (0 < least < most < math.inf or (0 < least == most < math.inf and frequencies == 1)):
        raise ValueError(f"{op}: low and high must be rising frequencies, got {low!r} and {high!r}")
    if mode == "constant" or mode == "grid-constant":
        raise ValueError(f"{op}: mode must not be constant")
    sizes = _checks.spacing(op, spacing, 2)
    widest = envelope(frequencies - 1, frequencies, turns, least, most)[:2]
    if _REACH * max(widest) / min(sizes) > _MOST_REACH:
        raise ValueError(f"{op}: low must not need filters of over 4000 pixels, got {low!r}")
    (border,) = _stencil.modes(op, mode, 1)
    result = _checks.output(op, out, (frequencies, turns, *array.shape), np.float32)
    pixels = _checks.contiguous(array.astype(np.float32, copy=False))
    written = _checks.scratch(result, pixels)
    for scale in range(frequencies):
        for turn in range(turns // 2 + 1):
            parts = separable_parts(kernel(scale, turn, frequencies, turns, least, most, sizes))
            mirror = turns - turn
            twin = written[scale, mirror] if turn < mirror < turns else None
            core.symmetric_filter(pixels, parts, border, written[scale, turn], twin)
    return _checks.finish(result, written)


def envelope(
    scale: int, scales: int, orientations: int, low: float, high: float
) -> tuple[float, float, float]:
    """Standard deviations of a filter along its wave and across it, and the wave's frequency."""
    ratio = (high / low) ** (1 / (scales - 1)) if scales > 1 else 2.0
    half = 2 * math.log(2)  # a Gaussian is half as high sqrt(half) standard deviations away
    # Standard deviations in the frequency domain, along the wave and across it.
    along = (ratio - 1) * high / ((ratio + 1) * math.sqrt(half))
    across = math.tan(math.pi / (2 * max(orientations, 2))) * (high - half * along**2 / high)
    across /= math.sqrt(half - half**2 * along**2 / high**2)
    stretch = ratio**scale
    sigma_along, sigma_across = (stretch / (2 * math.pi * s) for s in (along, across))
    return sigma_along, sigma_across, high / stretch


def kernel(
    scale: int,
    turn: int,
    scales: int,
    orientations: int,
    low: float,
    high: float,
    spacing: Sequence[float],
) -> NDArray[np.complex128]:
    """One filter of the bank on the pixel grid, its centre in the middle.

    Scale 0 is the highest frequency.
    """
    sigma_along, sigma_across, frequency = envelope(scale, scales, orientations, low, high)
    angle = math.pi * turn / orientations
    cosine, sine = math.cos(angle), math.sin(angle)
    reach = math.hypot(sigma_along * sine, sigma_across * cosine) / spacing[0]
    wide = math.hypot(sigma_along * cosine, sigma_across * sine) / spacing[1]
    radius = [math.ceil(_REACH * r) for r in (reach, wide)]
    y = np.arange(-radius[0], radius[0] + 1)[:, None] * spacing[0]
    x = np.arange(-radius[1], radius[1] + 1)[None, :] * spacing[1]
    forward, sideways = x * cosine + y * sine, y * cosine - x * sine
    window = np.exp(-0.5 * ((forward / sigma_along) ** 2 + (sideways / sigma_across) ** 2))
    window /= window.sum()
    wave = window * np.exp(2j * math.pi * frequency * forward)
    return np.asarray(wave - window * wave.real.sum())


def separable_parts(
    filter: NDArray[np.complex128],
) -> list[list[tuple[list[float], list[float]]]]:
    """The filter as sums of products of a column and a row, by symmetry, each from the centre on.

    Real part even and odd along both axes; imaginary part odd along the rows, along the columns.
    The products come from cross approximation with full pivoting: it needs a product or so more
    than a singular value decomposition, but no linear algebra library, whose last bits differ from
    processor to processor.
    """
    rows, columns = filter.shape[0] // 2, filter.shape[1] // 2
    right = filter[rows:, columns:]
    left = filter[rows:, columns::-1]
    limit = (_PARTS_TO / 4) ** 2 * float((abs(filter) ** 2).sum())  # 4 classes, 4 quadrants
    classes = [(right + left).real, (right - left).real]
    classes += [(right - left).imag, (right + left).imag]
    found = []
    for values in classes:
        rest, parts = values / 2, []
        while float((rest**2).sum()) > limit:
            i, j = np.unravel_index(abs(rest).argmax(), rest.shape)
            down, across = rest[:, j] / rest[i, j], rest[i].copy()
            rest = rest - down[:, None] * across
            parts.append((down.tolist(), across.tolist()))
        found.append(parts)
    # What is left out must not let a constant image through: a Gaussian takes it off again.
    constant = sum(_total(down) * _total(across) for down, across in found[0])
    bells = [np.exp(-0.5 * (np.arange(n + 1) * (_REACH / max(n, 1))) ** 2) for n in (rows, columns)]
    down, across = (bell / _total(bell) for bell in bells)
    found[0].append(((down * -constant).tolist(), across.tolist()))
    return found


def _total(half: ArrayLike) -> float:
    """Sum of the weights of an even filter, given from its centre on."""
    weights = np.asarray(half)
    return float(2 * weights.sum() - weights[0])
