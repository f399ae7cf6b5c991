"""Gradients and other edge attributes by small kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

# Weights of distance 0, 1, ...: of the difference along an axis, of the smoothing along the others.
_KERNELS: dict[str, tuple[list[float], list[float]]] = {
    "sobel": ([0, 1], [1 / 2, 1 / 4]),
    "prewitt": ([0, 1], [1 / 3, 1 / 3]),
    "scharr": ([0, 1], [10 / 16, 3 / 16]),
    "farid": (
        [0, 0.276690988455557, 0.109603762960254],
        [0.426374573253687, 0.249153396177344, 0.0376593171958126],
    ),
}


def _gradient(
    op: str,
    image: Any,
    mask: Any,
    axis: Any,
    mode: Any = "reflect",
    cval: Any = 0.0,
    spacing: Any = None,
    dtype: Any = None,
    out: Any = None,
    ndim: int | None = None,
) -> NDArray[Any]:
    """Difference along an axis, or magnitude along several, by the kernels `op` is named for."""
    array = _stencil.image(op, image, ndim=ndim)
    axes = _stencil.axes(op, axis, array.ndim)
    border = _stencil.modes(op, mode, array.ndim)
    fill = _stencil.cval(op, cval)
    sizes = _checks.spacing(op, spacing, array.ndim)
    inside = _stencil.mask(op, mask, array)
    result = _stencil.output(op, array, dtype, out)
    written = _checks.scratch(result, array, inside)
    if axes:
        edge, smooth = _KERNELS[op.removesuffix("_h").removesuffix("_v")]
        core.separable_filter(
            array,
            _stencil.scale(array.dtype),
            [(smooth, False)] * array.ndim,
            [([w / size for w in edge], True) for size in sizes],
            axes,
            len(axes) > 1,
            float(array.ndim),
            border,
            fill,
            True,
            written,
        )
    else:
        written[...] = 0
    return _stencil.finish(result, written, inside)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def sobel(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient by the Sobel kernels: differences smoothed by ``[1, 2, 1] / 4``.

    The result is that of ``skimage.filters.sobel``.

    Parameters
    ----------
    {image}
    {mask}
    {axis}
    {spacing}
    {out}

    Returns
    -------
    output : ndarray of float32 or float64
        ``image[i + 1] - image[i - 1]`` along `axis`, smoothed along all other axes; for several
        axes ``sqrt(sum of squares / ndim)``, where ndim counts all axes of the image.

    Raises
    ------
    {raises}

    Notes
    -----
    The kernel is applied axis by axis, the peer's as one block of weights: results differ by
    rounding, at most by ``c * eps * max(abs(image))``, eps being that of the result's dtype and c
    about the number of weights of the block (2D: 20, 3D: 30; Farid 3D: 120). With a negative `axis`
    the peer smooths along it, too; ours means the axis counted from the last.

    {nan}
    {cost} With `out` a call allocates no more than these rows: a stream of
    frames needs no plan.

    References
    ----------
    .. [1] I. Sobel, "An isotropic 3x3 image gradient operator", in: Machine Vision for
       Three-Dimensional Scenes, Academic Press, 1990.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.sobel([[0.0, 0, 1, 1]] * 3, axis=1).tolist()[0]
    [0.0, 1.0, 1.0, 0.0]
    """
    return _gradient("sobel", image, mask, axis, mode, cval, spacing, dtype, out)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def sobel_h(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between rows of a 2D image: `sobel` with ``axis=0``.

    The result is that of ``skimage.filters.sobel_h``.

    {directed}
    """
    return _gradient("sobel_h", image, mask, 0, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def sobel_v(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between columns of a 2D image: `sobel` with ``axis=1``.

    The result is that of ``skimage.filters.sobel_v``.

    {directed}
    """
    return _gradient("sobel_v", image, mask, 1, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def prewitt(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient by the Prewitt kernels: differences smoothed by ``[1, 1, 1] / 3``.

    The result is that of ``skimage.filters.prewitt``.

    {gradient}

    References
    ----------
    .. [1] J. M. S. Prewitt, "Object enhancement and extraction", in: Picture Processing and
       Psychopictorics, Academic Press, 1970.
    """
    return _gradient("prewitt", image, mask, axis, mode, cval, spacing, dtype, out)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def prewitt_h(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between rows of a 2D image: `prewitt` with ``axis=0``.

    The result is that of ``skimage.filters.prewitt_h``.

    {directed}
    """
    return _gradient("prewitt_h", image, mask, 0, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def prewitt_v(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between columns of a 2D image: `prewitt` with ``axis=1``.

    The result is that of ``skimage.filters.prewitt_v``.

    {directed}
    """
    return _gradient("prewitt_v", image, mask, 1, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def scharr(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient by the Scharr kernels: differences smoothed by ``[3, 10, 3] / 16``.

    The result is that of ``skimage.filters.scharr``.

    {gradient}

    References
    ----------
    .. [1] H. Scharr, Optimal Operators in Digital Image Processing, PhD thesis, Heidelberg, 2000.
    """
    return _gradient("scharr", image, mask, axis, mode, cval, spacing, dtype, out)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def scharr_h(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between rows of a 2D image: `scharr` with ``axis=0``.

    The result is that of ``skimage.filters.scharr_h``.

    {directed}
    """
    return _gradient("scharr_h", image, mask, 0, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def scharr_v(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between columns of a 2D image: `scharr` with ``axis=1``.

    The result is that of ``skimage.filters.scharr_v``.

    {directed}
    """
    return _gradient("scharr_v", image, mask, 1, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def farid(
    image: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    mode: str | Sequence[str] = "reflect",
    cval: float = 0.0,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Gradient by the kernels of Farid and Simoncelli: 5 pixels, nearly independent of direction.

    The result is that of ``skimage.filters.farid``.

    {gradient}

    References
    ----------
    .. [1] H. Farid, E. P. Simoncelli, "Differentiation of discrete multidimensional signals", IEEE
       Transactions on Image Processing 13(4), 2004.
    """
    return _gradient("farid", image, mask, axis, mode, cval, spacing, dtype, out)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def farid_h(
    image: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between rows of a 2D image: `farid` with ``axis=0``.

    The result is that of ``skimage.filters.farid_h``.

    {directed}
    """
    return _gradient("farid_h", image, mask, 0, spacing=spacing, dtype=dtype, out=out, ndim=2)


@operation(result=_stencil.filtered_like, gpu="edges")
@_stencil.shared_text
def farid_v(
    image: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    spacing: Sequence[float] | None = None,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Differences between columns of a 2D image: `farid` with ``axis=1``.

    The result is that of ``skimage.filters.farid_v``.

    {directed}
    """
    return _gradient("farid_v", image, mask, 1, spacing=spacing, dtype=dtype, out=out, ndim=2)
