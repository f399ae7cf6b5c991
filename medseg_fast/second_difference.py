"""Second differences, and where they change sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation


@operation(result=_stencil.filtered_like, gpu="differences")
@_stencil.shared_text
def laplace(
    image: ArrayLike,
    ksize: int = 3,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Laplacian by second differences, with scikit-image's sign: positive on a bright pixel.

    The result is that of ``skimage.filters.laplace``; SciPy's `laplace` has the other sign.

    Parameters
    ----------
    {image}
    ksize : int, optional
        At least 3. As in scikit-image it has no effect: the kernel has 3 pixels along each axis.
    {mask}
    spacing : sequence of float, optional
        Voxel size in mm along each axis: second differences along an axis are divided by its
        square. 1 by default.
    {out}

    Returns
    -------
    output : ndarray of float32 or float64
        Sum over the axes of ``2 * image[i] - image[i - 1] - image[i + 1]``. Beyond the border the
        edge pixel counts.

    Raises
    ------
    {raises}

    Notes
    -----
    In float64 the peer's bit for bit (without `spacing`). In float32 the peer rounds once where
    ours adds in float32: they differ by at most ``4 * ndim**2 * eps * max(abs(image))``.

    {nan}
    {cost}

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.laplace([0.0, 0, 1, 0]).tolist()
    [0.0, -1.0, 2.0, -1.0]
    """
    op = "laplace"
    array = _stencil.image(op, image)
    _checks.integer(op, "ksize", ksize, 3)
    sizes = _checks.spacing(op, spacing, array.ndim)
    inside = _stencil.mask(op, mask, array)
    result = _stencil.output(op, array, dtype, out)
    written = _checks.scratch(result, array, inside)
    core.laplace(array, _stencil.scale(array.dtype), [1 / size**2 for size in sizes], written)
    return _stencil.finish(result, written, inside)


@operation(result=mask_like, gpu="differences")
def zero_crossings(
    image: ArrayLike, threshold: float = 0.0, *, out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Mark where an image changes sign, as a Laplacian does at edges.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float; usually the result of `gaussian_laplace`, `laplace` or
        `difference_of_gaussians`.
    threshold : float, optional
        Least contrast, in the image's units: only neighbours that differ by more count. 0 or more.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    crossings : ndarray of bool
        True on a pixel if a neighbour along an axis has another sign (negative, zero, positive) and
        the pixel is the nearer of the two to zero; of two equally near the first along the axis is
        marked. NaN is never marked and marks no neighbour.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If the image has no axes, `threshold` is negative or NaN, or `out` does not fit.

    Notes
    -----
    With threshold 0 the result is that of ITK's ZeroCrossingImageFilter. 32- and 64-bit integers
    are compared as float64.

    Time O(n * ndim), one sweep. Extra memory: none beside the mask, scratch of a few rows per
    thread.

    References
    ----------
    .. [1] D. Marr, E. Hildreth, "Theory of edge detection", Proceedings of the Royal Society of
       London B 207, 1980.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.zero_crossings([5.0, 2, -3, -4, 1]).tolist()
    [False, True, False, False, True]
    """
    op = "zero_crossings"
    array = _stencil.image(op, image)
    contrast = contrast_of(op, threshold)
    mask = _checks.output(op, out, array.shape, np.bool_)
    written = _checks.scratch(mask, array)
    core.zero_crossings(array, contrast, written)
    return _checks.finish(mask, written)


def contrast_of(op: str, threshold: Any) -> float:
    """The least contrast, not negative."""
    contrast = float(_checks.number(op, "threshold", threshold))
    if not contrast >= 0:
        raise ValueError(f"{op}: threshold must not be negative, got {threshold!r}")
    return contrast
