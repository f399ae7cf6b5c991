"""Roberts' cross: differences along diagonals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation


def _cross(
    op: str, image: Any, mask: Any, corners: Callable[[int], list[int]], dtype: Any, out: Any
) -> NDArray[Any]:
    """Differences along diagonals; `corners` tells from which corners, bit k for axis k."""
    array = _checks.image(op, image)
    if array.ndim < 2:
        raise ValueError(f"{op}: image must have at least 2 dimensions, got shape {array.shape}")
    inside = _stencil.mask(op, mask, array)
    result = _stencil.output(op, array, dtype, out)
    written = _checks.scratch(result, array, inside)
    core.cross_difference(array, _stencil.scale(array.dtype), corners(array.ndim), written)
    return _stencil.finish(result, written, inside)


@operation(result=_stencil.filtered_like, gpu="differences")
@_stencil.shared_text
def roberts(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient magnitude by Roberts' cross, in 2D and more dimensions.

    In 2D the result is that of ``skimage.filters.roberts``, which takes no more.

    Parameters
    ----------
    image : array_like, at least 2D
        Bool, integer or float. Integers are divided by the largest value of their dtype, as
        scikit-image does.
    {mask}
    {out}

    Returns
    -------
    output : ndarray of float32 or float64
        Root mean square of the differences along the diagonals of the 2 x ... x 2 block that
        begins at the pixel: two in 2D, the four space diagonals in 3D, ``2**(ndim - 1)`` in
        general. For an image that is linear it is the length of its gradient, in any dimension.
        Beyond the border the edge pixel counts.

    Raises
    ------
    {raises}

    Notes
    -----
    Each difference is rounded once and their magnitude a few times: results are within 4 units in
    the last place of the exact value, and so of the peer's. There is no `spacing`: diagonals mix
    the axes; use `sobel` for anisotropic voxels.

    {nan}
    {cost}

    References
    ----------
    .. [1] L. G. Roberts, "Machine perception of three-dimensional solids", PhD thesis, MIT, 1963.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> z, y, x = np.indices((3, 3, 3))
    >>> float(ms.roberts(2.0 * z + 3.0 * y + 6.0 * x)[0, 0, 0])
    7.0
    """
    return _cross("roberts", image, mask, _all_diagonals, dtype, out)


def _all_diagonals(ndim: int) -> list[int]:
    """One end of each: the corners that lie first along the first axis."""
    return [corner << 1 for corner in range(1 << (ndim - 1))]


@operation(result=_stencil.filtered_like, gpu="differences")
@_stencil.shared_text
def roberts_pos_diag(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences along the main diagonal: ``image[i + 1, j + 1] - image[i, j]``.

    In 2D the result is that of ``skimage.filters.roberts_pos_diag``, which takes no more.

    Parameters
    ----------
    image : array_like, at least 2D
        Bool, integer or float. Integers are divided by the largest value of their dtype, as
        scikit-image does.
    {mask}
    {out}

    Returns
    -------
    output : ndarray of float32 or float64
        The pixel one step further along every axis minus this one.

    Raises
    ------
    {raises}

    Notes
    -----
    {nan}
    {cost}
    """
    return _cross("roberts_pos_diag", image, mask, lambda ndim: [0], dtype, out)


@operation(result=_stencil.filtered_like, gpu="differences")
@_stencil.shared_text
def roberts_neg_diag(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences along the other diagonal: ``image[i + 1, j] - image[i, j + 1]``.

    In 2D the result is that of ``skimage.filters.roberts_neg_diag``, which takes no more.

    Parameters
    ----------
    image : array_like, at least 2D
        Bool, integer or float. Integers are divided by the largest value of their dtype, as
        scikit-image does.
    {mask}
    {out}

    Returns
    -------
    output : ndarray of float32 or float64
        The pixel one step further along every axis but the last minus the one that is so along the
        last axis alone.

    Raises
    ------
    {raises}

    Notes
    -----
    {nan}
    {cost}
    """
    return _cross("roberts_neg_diag", image, mask, lambda ndim: [1 << (ndim - 1)], dtype, out)
