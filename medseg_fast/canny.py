"""Canny's edge detector."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from medseg_fast import _canny, _checks, _stencil
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation


@operation(result=mask_like, gpu="canny")
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
    convention: str | None = None,
    l2_gradient: bool = False,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Thin edges: maxima of the smoothed image's gradient, linked by two thresholds.

    In 2D the result is that of ``skimage.feature.canny``, pixel for pixel; other ranks follow ITK's
    CannyEdgeDetectionImageFilter, and ``convention="opencv"`` gives the result of ``cv2.Canny``.

    Parameters
    ----------
    image : array_like
        At least 1D; bool, integer or float.
    sigma : float or sequence of float, optional
        Standard deviation of the Gaussian in pixels, with `spacing` in mm; for all axes or one for
        each.
    low_threshold, high_threshold : float, optional
        An edge is a line of maxima of at least `low_threshold`, one of which reaches
        `high_threshold`. In the image's units: "skimage" and "opencv" compare them with sums of 8
        weights (Sobel), "itk" with the gradient per voxel, with `spacing` per mm, which must exceed
        them. By default 10 % and 20 % of the largest value of the image's dtype (of 1 for floats);
        for "itk" an eighth of that, which is the same slope.
    mask : array_like, optional
        Of the image's shape: pixels that count. Those outside have no part in the smoothing, and
        edges do not touch them.
    use_quantiles : bool, optional
        The thresholds are quantiles of the gradient's magnitude, from 0 to 1.
    mode : {"constant", "reflect", "nearest", "mirror", "wrap"}, optional
        How the image goes on beyond its border while it is smoothed. "constant": with `cval`, of
        which by default 0 the result is relieved again.
    cval : float, optional
        Value beyond the border when `mode` is "constant", for "skimage" on the scale of the divided
        integers.
    spacing : sequence of float, optional
        Voxel size in mm along each axis: for the Gaussian, the gradient and its direction. 1 by
        default.
    convention : {"skimage", "opencv", "itk"}, optional
        Whose definition of an edge, see Notes. By default "skimage" in 2D, "itk" otherwise.
    l2_gradient : bool, optional
        For "opencv": magnitude by squares instead of absolute values, ``L2gradient``.
    out : ndarray of bool, optional
        Array of the image's shape that receives the edges.

    Returns
    -------
    edges : ndarray of bool
        Same shape as `image`.

    Raises
    ------
    TypeError
        If a dtype is not supported or an argument is of the wrong kind.
    ValueError
        If `high_threshold` is below `low_threshold`, a quantile is not from 0 to 1, an argument has
        no meaning in this convention, or a shape does not fit.

    Notes
    -----
    "skimage" (2D): Gaussian, Sobel differences, maxima among the magnitudes interpolated before and
    after a pixel along the gradient. Arithmetic is the peer's, float32 for float16 and float32
    images, else float64, so edges are the same even where they hang on a rounding; the image's
    border has none. Integers of 64 bits are refused, as by the peer.

    "opencv" (2D, uint8): ``cv2.Canny(image, low_threshold, high_threshold)`` with an aperture of 3.
    Nothing is smoothed (`sigma` stays at its default or 0) and nothing masked; use `gaussian`.

    "itk" (any rank): a voxel is an edge where the second derivative along the gradient changes sign
    while it does not rise, as in `zero_crossings`; derivatives are central differences, beyond the
    border the edge voxel counts. The peer's discrete Gaussian is cut off earlier; on an image that
    is smoothed already (``sigma=0`` and ``variance=0``) both give the same edges but for roundings.
    Arithmetic is float32, for 32- and 64-bit integers and float64 it is float64.

    NaN spreads as far as it is smoothed, and no edge is next to it. Empty images have none.

    Time O(n * sigma). Extra memory in 2D: a quarter of a byte per pixel and 5 bytes per run of
    pixels above `low_threshold`; for "itk" 8 or 16 bytes per voxel, with a mask 12 or 24;
    `use_quantiles` adds 8 or 16.

    On a GPU the edges are the same, for "skimage" and "opencv" without `use_quantiles`; extra
    memory for "skimage" is 10 bytes per pixel (float64: 18), twice that with a mask, for
    "opencv" 7.

    References
    ----------
    .. [1] J. Canny, "A computational approach to edge detection", IEEE Trans. Pattern Anal. Mach.
       Intell. 8 (1986) 679-698.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.zeros((9, 9))
    >>> image[:, 5:] = 1
    >>> ms.canny(image)[4].nonzero()[0].tolist()
    [4]
    """
    op = "canny"
    array = _stencil.image(op, image)
    by = _canny.convention_of(op, convention, array.ndim)
    inside = _stencil.mask(op, mask, array)
    edges = _checks.output(op, out, array.shape, np.bool_)
    written = _checks.scratch(edges, array, inside)
    if by == "itk":
        unit = _canny.largest(array.dtype) / 8
        levels = _canny.thresholds(op, low_threshold, high_threshold, unit, use_quantiles)
        _canny.crossings(
            op, array, sigma, *levels, inside, use_quantiles, mode, cval, spacing, written
        )
    elif by == "opencv":
        _canny.opencv_refuses(
            op,
            array.dtype,
            sigma=(sigma, (0, 1.0)),
            mask=(mask, (None,)),
            use_quantiles=(use_quantiles, (False,)),
            spacing=(spacing, (None,)),
        )
        levels = _canny.opencv_thresholds(op, low_threshold, high_threshold)
        core.canny_opencv_plan(*array.shape, bool(l2_gradient)).edges(array, None, *levels, written)
    else:
        limit = _canny.skimage_unit(op, array.dtype)
        levels = _canny.thresholds(op, low_threshold, high_threshold, 1, use_quantiles, limit)
        frame = _canny.SkimageFrame(op, array.shape, array.dtype, sigma, mode, cval, spacing)
        if use_quantiles:
            levels = frame.quantiles(array, inside, *levels)
        frame.plan.edges(array, inside, *frame.compared(*levels), written)
    return _checks.finish(edges, written)


class CannyPlan:
    """`canny` for a stream of 2D images of one shape and dtype, without allocating per frame.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of every image.
    dtype : dtype
        Of every image.
    sigma, low_threshold, high_threshold, mode, cval, spacing, convention, l2_gradient : optional
        As for `canny`; `convention` is "skimage" or "opencv".

    Raises
    ------
    TypeError, ValueError
        As `canny`.

    Notes
    -----
    All memory is allocated here, for as many threads as are set now: a quarter of a byte per pixel
    that is used, 2.5 bytes per pixel of address space that only runs of pixels above
    `low_threshold` touch, and about 0.3 MB per thread. Threads that share a plan take turns.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> plan = ms.CannyPlan((480, 640), np.uint8, sigma=1.5)
    >>> edges = np.empty((480, 640), bool)
    >>> for frame in np.zeros((3, 480, 640), np.uint8):
    ...     _ = plan(frame, out=edges)
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: DTypeLike = np.uint8,
        sigma: float | Sequence[float] = 1.0,
        low_threshold: float | None = None,
        high_threshold: float | None = None,
        *,
        mode: str = "constant",
        cval: float = 0.0,
        spacing: Sequence[float] | None = None,
        convention: str = "skimage",
        l2_gradient: bool = False,
    ) -> None:
        op = "CannyPlan"
        sizes = tuple(_checks.integer(op, "shape", n, 0) for n in shape)
        kind = _checks.dtype_of(op, dtype).newbyteorder("=")
        if kind.kind not in "buif" or kind.itemsize > 8:
            raise TypeError(
                f"{op}: dtype must be bool, integer or float of at most 64 bits, got {kind}"
            )
        if len(sizes) != 2:
            raise ValueError(f"{op}: shape must have 2 numbers, got {tuple(shape)}")
        if convention not in ("skimage", "opencv"):
            raise ValueError(f"{op}: convention must be skimage or opencv, got {convention!r}")
        self.shape, self.dtype = sizes, kind
        self._turn = threading.Lock()
        self._settings = {
            "sigma": sigma,
            "low_threshold": low_threshold,
            "high_threshold": high_threshold,
            "mode": mode,
            "cval": cval,
            "spacing": spacing,
            "convention": convention,
            "l2_gradient": l2_gradient,
        }
        if convention == "opencv":
            _canny.opencv_refuses(op, kind, sigma=(sigma, (0, 1.0)), spacing=(spacing, (None,)))
            self._levels = _canny.opencv_thresholds(op, low_threshold, high_threshold)
            self._plan = core.canny_opencv_plan(*sizes, bool(l2_gradient))
        else:
            limit = _canny.skimage_unit(op, kind)
            levels = _canny.thresholds(op, low_threshold, high_threshold, 1, False, limit)
            frame = _canny.SkimageFrame(op, sizes, kind, sigma, mode, cval, spacing)
            self._levels = frame.compared(*levels)
            self._plan = frame.plan

    def __call__(self, image: ArrayLike, *, out: NDArray[np.bool_] | None = None) -> Any:
        """Edges of one image.

        Parameters
        ----------
        image : array_like
            Of the plan's shape and dtype; any memory order, but only C order is not copied.
        out : ndarray of bool, optional
            C-contiguous array that receives the edges; a new one without it.

        Returns
        -------
        edges : ndarray of bool
            `out`.
        """
        op = "CannyPlan"
        array = _checks.image(op, image)
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ValueError(
                f"{op}: image must have shape {self.shape} and dtype {self.dtype}, "
                f"got {array.shape} and {array.dtype}"
            )
        edges = _checks.output(op, out, self.shape, np.bool_)
        written = _checks.scratch(edges, array)
        with self._turn:
            self._plan.edges(array, None, *self._levels, written)
        return _checks.finish(edges, written)

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self._settings.items())
        return f"CannyPlan({self.shape!r}, {self.dtype.name!r}{settings})"
