"""Global thresholds."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import mask_like, operation


@operation(result=mask_like, gpu="threshold")
def threshold(
    image: ArrayLike,
    t: float,
    upper: float | None = None,
    *,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Segment by one threshold: 1 where ``image >= t``, or where ``t <= image <= upper``.

    Parameters
    ----------
    image : array_like
        Any shape; bool, integer or float.
    t : float
        Threshold, in the image's units. A float image is compared with `t` rounded to the image's
        dtype, as NumPy does; an integer image with the real number.
    upper : float, optional
        Largest value inside. Without it there is no upper limit.
    out : ndarray of bool, optional
        Array of the image's shape that receives the mask.

    Returns
    -------
    mask : ndarray of bool
        Same shape as `image`. NaN pixels are outside.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `t` is NaN, or exceeds `upper`, or `out` does not fit.

    Notes
    -----
    Time O(n), one pass. Extra memory: none beside the mask, for contiguous input in native byte
    order; other input is copied once in its own dtype.

    On a GPU one sweep as well; a float16 image is widened to float32 first. A threshold that lies
    on the GPU is fetched, which waits for it.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.threshold([[1, 5], [7, 3]], 4).tolist()
    [[False, True], [True, False]]
    """
    array = _checks.image("threshold", image)
    mask = _checks.output("threshold", out, array.shape, np.bool_)
    bounds = _checks.interval("threshold", array.dtype, t, math.inf if upper is None else upper)
    if bounds is None:
        mask[...] = False
        return mask
    written = _checks.scratch(mask, array)
    core.in_range(array, bounds, written)
    return _checks.finish(mask, written)
