"""What the stencil filters share: float types, scaling of integers, borders, masks, results."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core

F = TypeVar("F", bound=Callable[..., Any])

# In the order of the kernels' BorderMode; SciPy's second names for the same borders follow.
MODES = {"reflect": 0, "constant": 1, "nearest": 2, "mirror": 3, "wrap": 4}
MODES |= {"grid-mirror": 0, "grid-constant": 1, "grid-wrap": 4}

_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_type(dtype: Any) -> np.dtype[Any]:
    """scikit-image's rule: float32 for float16 and float32 images, else float64."""
    dtype = np.dtype(dtype)
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def filtered_like(image: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> tuple[Any, Any]:
    """The `result` of an operation that returns floats of its first argument's shape."""
    return tuple(image.shape), float_type(image.dtype) if dtype is None else np.dtype(dtype)


def image(op: str, value: Any, name: str = "image", *, ndim: int | None = None) -> NDArray[Any]:
    """`_checks.image` with at least one axis."""
    array = _checks.image(op, value, name, ndim=ndim)
    if array.ndim == 0:
        raise ValueError(f"{op}: {name} must have at least one dimension, got shape ()")
    return array


def scale(dtype: np.dtype[Any]) -> float:
    """What scikit-image multiplies integers by: 1 / the largest value. 1 for bool and float."""
    return 1.0 / np.iinfo(dtype).max if dtype.kind in "ui" else 1.0


def output(op: str, image: NDArray[Any], dtype: Any, out: Any) -> NDArray[Any]:
    """`out`, or a fresh array of the wanted dtype, float32 or float64."""
    if dtype is None:
        wanted = float_type(image.dtype)
        if isinstance(out, np.ndarray) and out.dtype.kind != "f":
            raise ValueError(f"{op}: dtype of `out` must be float, got {out.dtype}")
        if isinstance(out, np.ndarray) and out.dtype.newbyteorder("=") in _FLOATS:
            wanted = out.dtype.newbyteorder("=")
    else:
        wanted = _checks.dtype_of(op, dtype)
    if wanted not in _FLOATS:
        raise TypeError(f"{op}: dtype must be float32 or float64, got {wanted}")
    return _checks.output(op, out, image.shape, wanted)


def finish(
    out: NDArray[Any], written: NDArray[Any], mask: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Set what the mask excludes to 0, copy a stand-in back, return `out`."""
    if mask is not None:
        core.clip_to_mask(mask, written)
    return _checks.finish(out, written)


def mask(op: str, value: Any, image: NDArray[Any]) -> NDArray[np.bool_] | None:
    """A mask of the image's shape: what is not 0 is inside."""
    if value is None:
        return None
    array = _checks.as_array(op, value, "mask")
    if array.shape != image.shape:
        raise ValueError(f"{op}: mask must have shape {image.shape}, got {array.shape}")
    if array.dtype.kind not in "buif":
        raise TypeError(f"{op}: mask must be bool, integer or float, got {array.dtype}")
    return _checks.contiguous(array if array.dtype == np.bool_ else array != 0)


def modes(op: str, value: Any, count: int) -> list[int]:
    """One border mode, or one for each of `count` axes."""
    several = isinstance(value, Iterable) and not isinstance(value, str)
    names = list(value) if several else [value] * count
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"{op}: mode must be a string or one string per axis, got {value!r}")
    if len(names) != count:
        raise ValueError(f"{op}: mode must have one entry per axis ({count}), got {value!r}")
    for name in names:
        if name not in MODES:
            raise ValueError(f"{op}: mode must be one of {', '.join(MODES)}, got {name!r}")
    return [MODES[name] for name in names]


def cval(op: str, value: Any) -> float:
    """A number that may be NaN: a border of NaN is a way to say unknown."""
    if isinstance(value, (float, np.floating)) and math.isnan(value):
        return math.nan
    return float(_checks.number(op, "cval", value))


def axes(op: str, value: Any, ndim: int, name: str = "axis") -> list[int]:
    """Axes as numbers from 0; None means all. Negative ones count from the last."""
    if value is None:
        return list(range(ndim))
    given = list(value) if np.ndim(value) else [value]
    return [_checks.integer(op, name, a, -ndim, ndim - 1) % ndim for a in given]


# Parts of docstrings that several functions have in common; a part may name others.
_TEXT = {
    "directed": """
Parameters
----------
image : array_like, 2D
    Bool, integer or float. Integers are divided by the largest value of their dtype, as
    scikit-image does.
{mask}
{spacing}
{out}

Returns
-------
output : ndarray of float32 or float64
    Signed differences.

Raises
------
{raises}

Notes
-----
{nan}
{cost}
""",
    "gradient": """
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
    Differences or their magnitude as of `sobel`, with other weights.

Raises
------
{raises}

Notes
-----
What `sobel` says of rounding holds here, too.

{nan}
{cost}
""",
    "image": """
image : array_like
    Any number of axes; bool, integer or float. Integers are divided by the largest value of their
    dtype, as scikit-image does.
""",
    "mask": """
mask : array_like, optional
    Of the image's shape. The result is 0 where the pixel or one of its neighbours (diagonal ones
    count) is 0 in the mask or outside the image.
""",
    "axis": """
axis : int or sequence of int, optional
    Differences along this axis, signed. Without it, or with several: the magnitude.
{mode}
""",
    "mode": """
mode : {"reflect", "constant", "nearest", "mirror", "wrap"} or sequence, optional
    How the image goes on beyond its border, in SciPy's names: ``d c b a | a b c d | d c b a``,
    `cval`, the edge pixel, ``d c b | a b c d | c b a``, periodic; for all axes or one for each.
cval : float, optional
    Value beyond the border when `mode` is "constant", on the scale of the divided integers.
""",
    "spacing": """
spacing : sequence of float, optional
    Voxel size in mm along each axis: differences along an axis are divided by it. 1 by default.
""",
    "out": """
dtype : {float32, float64}, optional
    Of the result and the arithmetic. By default float32 for float16 and float32 images, else
    float64, as in scikit-image; float32 is faster for integers.
out : ndarray, optional
    Array of the image's shape that receives the result; its dtype is the default of `dtype`.
""",
    "raises": """
TypeError
    If a dtype is not supported or an argument is of the wrong kind.
ValueError
    If the image has too few axes, or an axis, mode, mask, `spacing` or `out` does not fit.
""",
    "nan": """
NaN and infinity spread to the results that read them with a weight that is not 0; the mask stops
them (in scikit-image NaN * 0 stays NaN). Empty images give empty results.
""",
    "input": """
input : array_like
    Any number of axes; bool, integer or float. Integers keep their values.
sigma : float or sequence of float
    Standard deviation in voxels, with `spacing` in mm; for all axes or one for each. Axes of sigma
    0 are neither smoothed nor derived.
output : ndarray or dtype, optional
    SciPy's word for `out` or `dtype`.
mode : {"reflect", "constant", "nearest", "mirror", "wrap"} or sequence, optional
    How the image goes on beyond its border, in SciPy's names: ``d c b a | a b c d | d c b a``,
    `cval`, the edge pixel, ``d c b | a b c d | c b a``, periodic; for all axes or one for each.
cval : float, optional
    With mode "constant": value beyond the border of what is filtered along an axis, the image and
    then the results of the axes before.
""",
    "derivative": """
truncate : float, optional
    Radius of the kernel in standard deviations, rounded to whole voxels.
radius : int or sequence of int, optional
    Radius in voxels instead, for all axes or one for each.
spacing : sequence of float, optional
    Voxel size in mm along each axis; 1 by default.
{out}
""",
    "derivative_notes": """
The sampled Gaussian is multiplied by the polynomial of its derivative, as in SciPy. Sums are
rounded at most ``2 * radius + 4`` times per axis; in float64 results differ from SciPy's only by
the order in which smoothing and derivative weights are multiplied, a few eps. With one mode per
axis SciPy uses the mode of an axis for its derivative's whole term; ours for that axis.

{nan}
""",
    "filter_cost": """
Time O(n * radius) per axis. Extra memory: none of the image's size, scratch of one to a few MB per
thread (wide kernels along the second axis: more).
""",
    "cost": """
Time O(n), one sweep that reads the image and writes the result once (a mask: one more over the
result). Extra memory: none of the image's size, scratch of a few rows per thread.

On a GPU one sweep as well, for images of 1 to 3 axes; integers of 32 and 64 bits and int8 are
converted to floats first.
""",
}


def shared_text(function: F) -> F:
    """Fill in the parts of a docstring, ``{name}``, that several functions have in common."""
    text = inspect.cleandoc(function.__doc__ or "")
    for _ in range(2):  # a part may name others
        for name, part in _TEXT.items():
            text = text.replace(f"{{{name}}}", part.strip())
    function.__doc__ = text
    return function
