"""Flat morphology of images of any dtype: erosion, dilation and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _footprint
from medseg_fast._dispatch import operation
from medseg_fast._footprint import Flat
from medseg_fast._morphology import (
    BASE_MINUS_MAXIMUM,
    BASE_MINUS_MINIMUM,
    MAXIMUM,
    MAXIMUM_MINUS_BASE,
    MINIMUM,
    MINIMUM_MINUS_BASE,
    RANGE,
    Footprint,
    Run,
    mirrored,
)


def _image_like(image: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return image.shape, image.dtype


@operation(result=_image_like)
def erosion(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """Minimum of the image over a footprint around each pixel.

    The result is that of ``skimage.morphology.erosion``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    footprint : ndarray or sequence of (ndarray, int), optional
        The neighbourhood: an array with as many axes as `image`, of any size, whose elements other
        than 0 belong to it. Its centre is the middle element; of an even size n the one at
        ``n // 2 - 1``. A sequence of footprints and numbers of times applies each so many times,
        one after the other. Without it, the pixel and its face neighbours (connectivity 1).
    out : ndarray, optional
        Array of the image's shape and dtype that receives the result; it may be the image.
    mode : {"reflect", "constant", "nearest", "mirror", "wrap", "max", "min", "ignore"}, optional
        How the image goes on beyond its border, in SciPy's names: ``d c b a | a b c d | d c b a``,
        `cval`, the edge pixel, ``d c b | a b c d | c b a``, periodic, the greatest or the least
        value of the dtype (infinite for floats), or not at all: what is outside does not count.
    cval : float, optional
        Value beyond the border when `mode` is "constant"; cut to the image's dtype.

    Returns
    -------
    eroded : ndarray
        Same shape and dtype as `image`. NaN where the footprint holds NaN.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        If `footprint` is all zero or has another number of axes than `image`, `mode` is unknown,
        `cval` is NaN, or `out` does not fit.

    Notes
    -----
    Pixel by pixel scikit-image's result, except:

    - NaN: the peer's answer depends on the order in which it meets the pixels.
    - int64 and uint64 are exact; the peer goes through float64, which moves values beyond 2**53
      and turns the greatest value of the modes "max", "min" and "ignore" into the least.
    - A `cval` outside the dtype's range counts as its nearest value (the peer's overflows).
    - float16 works. 0.0 and -0.0 are equal for the peer; here -0.0 is the smaller.

    Time O(n log w) for a box of size w, all in vector registers: one step doubles to quadruples
    the window. Other footprints are cut into horizontal runs: O(n r) for r runs, windows of each
    length being made once per row. Consecutive boxes of a sequence are joined where that changes
    nothing. Extra memory: none beside the result (blocks of up to 1 MB per thread) for contiguous
    input in native byte order; other input, and a footprint of several passes (a sequence, a box
    deeper than 24 planes or longer than 1 along more than three axes), take one copy in the
    image's dtype. 64-bit indices; the result does not depend on the number of threads.

    References
    ----------
    .. [1] J. Serra, "Image analysis and mathematical morphology", Academic Press, 1982.
    .. [2] E. R. Urbach, M. H. F. Wilkinson, "Efficient 2-D grayscale morphological transformations
       with arbitrary flat structuring elements", IEEE Trans. Image Process. 17 (2008) 1-8.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.erosion([5, 5, 5, 1, 5, 5, 7, 7]).tolist()
    [5, 5, 1, 1, 1, 5, 5, 7]
    """
    run = Run("erosion", image, out, mode, cval)
    return run((run.footprint(footprint), MINIMUM))


@operation(result=_image_like)
def dilation(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """Maximum of the image over a footprint around each pixel.

    The result is that of ``skimage.morphology.dilation``.

    Parameters
    ----------
    image, footprint, out, mode, cval
        As in `erosion`.

    Returns
    -------
    dilated : ndarray
        Same shape and dtype as `image`. NaN where the footprint holds NaN.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    As scikit-image's, the footprint is not mirrored: pixel x is the maximum of the image at x + d
    for the offsets d of the footprint from its centre. `opening` and `closing` mirror it in their
    second step. Time, memory and the exceptions from the peer are those of `erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.dilation([0, 0, 3, 0, 0, 0]).tolist()
    [0, 3, 3, 3, 0, 0]
    """
    run = Run("dilation", image, out, mode, cval)
    return run((run.footprint(footprint), MAXIMUM))


@operation(result=_image_like)
def opening(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """Erosion, then dilation by the mirrored footprint: bright parts narrower than it go.

    The result is that of ``skimage.morphology.opening``.

    Parameters
    ----------
    image, footprint, out, mode, cval
        As in `erosion`.

    Returns
    -------
    opened : ndarray
        Same shape and dtype as `image`. NaN spreads through both steps.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    Time: that of the two steps. Extra memory: one image of the same dtype beside the result. The
    exceptions from the peer are those of `erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.opening([1, 9, 1, 9, 9, 9, 1]).tolist()
    [1, 1, 1, 9, 9, 9, 1]
    """
    run = Run("opening", image, out, mode, cval)
    flats = run.footprint(footprint)
    return run((flats, MINIMUM), (mirrored(flats), MAXIMUM))


@operation(result=_image_like)
def closing(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """Dilation, then erosion by the mirrored footprint: dark parts narrower than it are filled.

    The result is that of ``skimage.morphology.closing``.

    Parameters
    ----------
    image, footprint, out, mode, cval
        As in `erosion`.

    Returns
    -------
    closed : ndarray
        Same shape and dtype as `image`. NaN spreads through both steps.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    Time: that of the two steps. Extra memory: one image of the same dtype beside the result. The
    exceptions from the peer are those of `erosion`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.closing([9, 1, 9, 1, 1, 1, 9]).tolist()
    [9, 9, 9, 1, 1, 1, 9]
    """
    run = Run("closing", image, out, mode, cval)
    flats = run.footprint(footprint)
    return run((flats, MAXIMUM), (mirrored(flats), MINIMUM))


@operation(result=_image_like)
def white_tophat(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """The image minus its opening: the bright parts narrower than the footprint.

    The result is that of ``skimage.morphology.white_tophat``.

    Parameters
    ----------
    image, footprint, out, mode, cval
        As in `erosion`.

    Returns
    -------
    tophat : ndarray
        Same shape and dtype as `image`. NaN as in `opening`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    The difference is taken in the image's dtype, as scikit-image does: it wraps where it exceeds
    the range of a signed type (opening <= image, so it never does for unsigned ones, except near
    the border with an asymmetric footprint or a constant border). Of bool images it is the
    exclusive or. Time and memory as `opening`, the difference being part of its second step.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.white_tophat([1, 9, 1, 9, 9, 9, 1]).tolist()
    [0, 8, 0, 0, 0, 0, 0]
    """
    run = Run("white_tophat", image, out, mode, cval)
    flats = run.footprint(footprint)
    return run((flats, MINIMUM), (mirrored(flats), BASE_MINUS_MAXIMUM))


@operation(result=_image_like)
def black_tophat(
    image: ArrayLike,
    footprint: Footprint | None = None,
    out: NDArray[Any] | None = None,
    *,
    mode: str = "reflect",
    cval: float = 0.0,
) -> NDArray[Any]:
    """The closing minus the image: the dark parts narrower than the footprint.

    The result is that of ``skimage.morphology.black_tophat``.

    Parameters
    ----------
    image, footprint, out, mode, cval
        As in `erosion`.

    Returns
    -------
    tophat : ndarray
        Same shape and dtype as `image`. NaN as in `closing`.

    Raises
    ------
    TypeError, ValueError
        As `erosion`.

    Notes
    -----
    The difference is taken in the image's dtype, as scikit-image does: it wraps where it exceeds
    the range of a signed type. Of bool images it is the exclusive or. Time and memory as `closing`,
    the difference being part of its second step.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.black_tophat([9, 1, 9, 1, 1, 1, 9]).tolist()
    [0, 8, 0, 0, 0, 0, 0]
    """
    run = Run("black_tophat", image, out, mode, cval)
    flats = run.footprint(footprint)
    return run((flats, MAXIMUM), (mirrored(flats), MINIMUM_MINUS_BASE))


@operation(result=_image_like)
def morphological_gradient(
    image: ArrayLike,
    footprint_or_size: int | Sequence[int] | Footprint = 3,
    *,
    kind: Literal["full", "internal", "external"] = "full",
    mode: str = "reflect",
    cval: float = 0.0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Dilation minus erosion: the height of the edges within a footprint.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    footprint_or_size : int, sequence of int, or a footprint as in `erosion`, optional
        A number, or one for each axis, is the size of a box in pixels.
    kind : {"full", "internal", "external"}, optional
        Dilation minus erosion; image minus erosion (the edge lies inside bright objects); dilation
        minus image (around them).
    mode, cval
        As in `erosion`.
    out : ndarray, optional
        Array of the image's shape and dtype that receives the result; it may be the image.

    Returns
    -------
    gradient : ndarray
        Same shape and dtype as `image`. NaN where the footprint holds NaN, and for floats where an
        infinity is subtracted from itself.

    Raises
    ------
    TypeError, ValueError
        As `erosion`, and if `kind` is unknown or a size is not positive.

    Notes
    -----
    Differences do not wrap: one beyond the range of the image's dtype (of an int8 image from -128
    to 127, say) is the dtype's greatest value, and one below it (possible for the internal and
    external kinds if the footprint leaves out its centre) the least. Of bool images the difference
    is the exclusive or. Everything else is as ``dilation(...) - erosion(...)``.

    Boxes and footprints of one array take one pass over the image, minimum and maximum together.
    Time as `erosion`, twice the steps. Extra memory: none beside the result; one image of the same
    dtype for the full gradient by a sequence of footprints or with the mode "ignore", and what
    `erosion` says of several passes.

    References
    ----------
    .. [1] J.-F. Rivest, P. Soille, S. Beucher, "Morphological gradients", J. Electron. Imaging 2
       (1993) 326-336.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.morphological_gradient([0, 0, 0, 8, 8, 8]).tolist()
    [0, 0, 8, 8, 0, 0]
    >>> ms.morphological_gradient([0, 0, 0, 8, 8, 8], kind="internal").tolist()
    [0, 0, 0, 8, 0, 0]
    """
    op = "morphological_gradient"
    if kind not in ("full", "internal", "external"):
        raise ValueError(f"{op}: kind must be 'full', 'internal' or 'external', got {kind!r}")
    run = Run(op, image, out, mode, cval)
    flats = _size(op, footprint_or_size, run.image.ndim) or run.footprint(footprint_or_size)
    if kind == "internal":
        return run((flats, BASE_MINUS_MINIMUM))
    if kind == "external":
        return run((flats, MAXIMUM_MINUS_BASE))
    joined = _footprint.merged(flats)
    one_pass = len(joined) == 1 and mode != "ignore"
    if one_pass:
        stages = _footprint.plan(joined[0], run.image.shape)
        one_pass = len(stages) == 1 and len(stages[0].parts) == 1
    if one_pass or run.image.size == 0:
        return run((flats, RANGE))
    eroded = run.into(_checks.empty(run.image.shape, run.image.dtype), (flats, MINIMUM))
    return run((flats, MAXIMUM_MINUS_BASE), base=eroded)


def _size(op: str, size: Any, ndim: int) -> list[Flat] | None:
    """The box of this size, one number or one per axis; None if it is a footprint."""
    if isinstance(size, (int, np.integer)):
        size = (size,) * ndim
    elif not (
        isinstance(size, Sequence)
        and size
        and all(isinstance(n, (int, float, np.number)) for n in size)
    ):
        return None
    if len(size) != ndim:
        raise ValueError(f"{op}: footprint_or_size must be one size or {ndim}, got {size!r}")
    sizes = [_checks.integer(op, "footprint_or_size", n, 1) for n in size]
    return [_footprint.box((-((n - 1) // 2) for n in sizes), sizes)]
