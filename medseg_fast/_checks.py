"""Argument checks, one message style: ``operation: argument must be ..., got ...``."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast._tuples import tuple_of

_LEAST_KEPT = 1 << 20  # bytes, see csrc/kept_memory.hpp

_KINDS = "buif"


def as_array(op: str, value: Any, name: str = "image") -> NDArray[Any]:
    """As `np.asarray`, but for the message, and for tensors that require a gradient."""
    if getattr(value, "requires_grad", False):
        value = value.detach()
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{op}: {name} must be an array, got rows of uneven lengths") from None
    except TypeError as error:  # a tensor of bfloat16, on a GPU, sparse
        raise TypeError(f"{op}: {name} must be an array that NumPy takes: {error}") from None


def dtype_of(op: str, value: Any) -> np.dtype[Any]:
    """As `np.dtype`, but for the message."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)
    except TypeError:
        raise TypeError(f"{op}: dtype must name one of NumPy's, got {value!r}") from None
    return dtype


def image(
    op: str, value: Any, name: str = "image", *, ndim: int | tuple[int, ...] | None = None
) -> NDArray[Any]:
    """Return `value` as the kernels want it: C-contiguous, native byte order, its own dtype.

    Contiguous native input is passed on as it is; anything else costs one copy of the same width.
    """
    array = as_array(op, value, name)
    described(op, array, name, ndim=ndim)
    return contiguous(array)


def described(
    op: str, array: Any, name: str = "image", *, ndim: int | tuple[int, ...] | None = None
) -> None:
    """Refuse dtypes and ranks that no kernel takes, of any library's array."""
    if array.dtype.kind not in _KINDS or array.dtype.itemsize > 8:
        raise TypeError(
            f"{op}: {name} must be bool, integer or float of at most 64 bits, got {array.dtype}"
        )
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if allowed is not None and array.ndim not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise ValueError(f"{op}: {name} must have {numbers} dimensions, got shape {array.shape}")


def finite(op: str, name: str, array: NDArray[Any]) -> None:
    """Refuse NaN and infinity."""
    if array.dtype.kind != "f":
        return
    # The sum of finite numbers is finite but for overflow: one pass, and rarely the careful one.
    with np.errstate(all="ignore"):
        total = array.sum(dtype=np.float64)
    if not np.isfinite(total) and not np.isfinite(array).all():
        raise ValueError(f"{op}: {name} must be finite, got NaN or infinity")


def pixels(op: str, value: Any, name: str = "image") -> NDArray[Any]:
    """Like `image`, for an operation that does not care where a pixel is.

    A Fortran-ordered array comes back transposed instead of copied.
    """
    array = as_array(op, value, name)
    if array.ndim > 1 and array.flags.f_contiguous:
        array = array.T
    return image(op, array, name)


def contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """C-contiguous, aligned, in native byte order; copies only when it must."""
    if array.flags.carray or (array.flags.c_contiguous and array.flags.aligned):
        if array.dtype.isnative:
            return array  # np.require takes 10 us to find that out
    return np.require(array, array.dtype.newbyteorder("="), ["C", "A"]).reshape(array.shape)


def any_order(array: NDArray[Any]) -> NDArray[Any]:
    """For kernels that do not care about pixel order: no copy of Fortran-ordered arrays."""
    if array.ndim > 1 and array.flags.f_contiguous and not array.flags.c_contiguous:
        array = array.T
    return contiguous(array)


def integer(op: str, name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return `value` as an int within [low, high]; bool and float are refused."""
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{op}: {name} must be an integer, got {value!r}") from None
    if (low is not None and number < low) or (high is not None and number > high):
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        limits = f"at most {high}" if low is None else limits
        raise ValueError(f"{op}: {name} must be {limits}, got {number}")
    return number


def sequence(op: str, name: str, value: Any) -> tuple[Any, ...]:
    """Return the parts of a list, a tuple, an array."""
    try:
        return tuple_of(value)
    except TypeError:  # also of an array without axes
        raise TypeError(f"{op}: {name} must be a sequence, got {value!r}") from None


def addressable(op: str, name: str, value: Any, shape: Sequence[int]) -> None:
    """Refuse a `value` that asks for an array of more values than memory has addresses."""
    if max((math.prod(shape), *shape)) >= 2**48:
        raise ValueError(f"{op}: {name} must ask for fewer than 2**48 values, got {value!r}")


def number(op: str, name: str, value: Any) -> float | int:
    """Return `value` as a Python int or float; NaN is refused, infinities are allowed."""
    if isinstance(value, (np.ndarray, np.generic)) and np.ndim(value) == 0:
        value = value.item()
    if not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    if math.isnan(value):
        raise ValueError(f"{op}: {name} must be a number, got NaN")
    return value


def element(op: str, name: str, value: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`value` as an array of no axes, converted to `dtype` as by assignment."""
    if value is None or isinstance(value, (str, bytes)):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    array = np.empty((), dtype)
    try:
        array[...] = value
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"{op}: {name} must fit {dtype}, got {value!r}") from None
    return array


def choice(op: str, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse what is not in the list."""
    if value not in allowed:
        words = ", ".join(map(repr, allowed))
        raise ValueError(f"{op}: {name} must be one of {words}, got {value!r}")


def connectivity(op: str, value: Any, ndim: int) -> int:
    """How many coordinates of a neighbour may differ by one: 1 to `ndim`, None means `ndim`."""
    if ndim == 0:
        raise ValueError(f"{op}: image must have at least one dimension, got shape ()")
    return ndim if value is None else integer(op, "connectivity", value, 1, ndim)


def nearest_connectivity(op: str, value: Any, ndim: int) -> int:
    """As `connectivity`, of an image with axes, but numbers beyond are taken as the nearest."""
    return ndim if value is None else int(min(max(number(op, "connectivity", value), 1), ndim))


def mask(op: str, value: Any, name: str = "mask") -> NDArray[np.bool_]:
    """Non-zero pixels of an image, which must not be NaN."""
    array = image(op, value, name)
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{op}: {name} must not contain NaN")
    return array if array.dtype.kind == "b" else array != 0


def tolerance(op: str, value: Any) -> float:
    """A distance in mm within which borders count as equal."""
    limit = float(number(op, "tolerance_mm", value))
    if limit < 0:
        raise ValueError(f"{op}: tolerance_mm must not be negative, got {value!r}")
    return limit


def voxel(op: str, name: str, value: Any, image: NDArray[Any]) -> int:
    """Return the flat index of the voxel at index `value`: inside `image`, and not NaN there.

    Negative indices do not wrap. A 1D image also takes a plain integer.
    """
    try:
        index = tuple(value) if np.ndim(value) else (value,)
    except (TypeError, ValueError):  # a nested sequence of uneven lengths
        index = ()
    if len(index) != image.ndim:
        raise ValueError(f"{op}: {name} must be one index of {image.ndim} integers, got {value!r}")
    flat = 0
    for i, extent in zip(index, image.shape, strict=True):
        coordinate = integer(op, name, i)
        if not 0 <= coordinate < extent:
            raise ValueError(
                f"{op}: {name} must lie inside the image of shape {image.shape}, got {value!r}"
            )
        flat = flat * extent + coordinate
    if image.dtype.kind == "f" and np.isnan(image.flat[flat]):
        raise ValueError(f"{op}: {name} must not be on a NaN voxel, got {value!r}")
    return flat


def spacing(op: str, value: Any, ndim: int, name: str = "spacing") -> tuple[float, ...]:
    """Voxel size in mm, one number per axis; None means 1 mm."""
    if value is None:
        return (1.0,) * ndim
    sizes = tuple_of(float(number(op, name, v)) for v in sequence(op, name, value))
    if len(sizes) != ndim or not all(0 < s < math.inf for s in sizes):
        raise ValueError(f"{op}: {name} must be {ndim} positive numbers (mm), got {value!r}")
    return sizes


def interval(op: str, dtype: np.dtype[Any], lower: Any, upper: Any) -> NDArray[Any] | None:
    """Return [lower, upper] as two values of `dtype`, None when it holds no such value.

    Integers: the real bounds, so 99.5 means 100 below and 99 above. Floats: the bounds rounded to
    `dtype`, as NumPy compares a float32 array with a Python float.
    """
    low, high = number(op, "lower", lower), number(op, "upper", upper)
    if low > high:
        raise ValueError(f"{op}: lower must not exceed upper, got {lower!r} > {upper!r}")
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.array([low, high]).astype(dtype)
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    first = least if low == -math.inf else math.ceil(low) if low != math.inf else most + 1
    last = most if high == math.inf else math.floor(high) if high != -math.inf else least - 1
    first, last = max(first, least), min(last, most)
    return np.array([first, last], dtype) if first <= last else None


def empty(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """As `np.empty`; a large array lies in memory that freed ones left, where some fits."""
    return np.empty(shape, dtype) if not _kept(shape, dtype) else blank(shape, dtype)[0]


def blank(shape: tuple[int, ...], dtype: Any) -> tuple[NDArray[Any], bool]:
    """As `empty`, and whether all is 0: where no memory was left, at no cost before it is used."""
    size = _kept(shape, dtype)
    if not size:
        return np.zeros(shape, dtype), True
    memory, zeros = core.take_memory(size)
    return memory.view(dtype).reshape(shape), zeros


def _kept(shape: tuple[int, ...], dtype: Any) -> int:
    """Bytes of an array whose memory is kept when it is freed; 0 where it is not."""
    size: int = math.prod(shape) * np.dtype(dtype).itemsize
    return size if _LEAST_KEPT <= size <= core.kept_limit() else 0


def output(op: str, out: Any, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return a fresh array, or `out` after checking that the result fits it exactly."""
    if out is None:
        return empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{op}: out must be a NumPy array, got {type(out).__qualname__}")
    if out.shape != shape or out.dtype.newbyteorder("=") != np.dtype(dtype).newbyteorder("="):
        raise ValueError(
            f"{op}: out must have shape {shape} and dtype {np.dtype(dtype)}, "
            f"got {out.shape} and {out.dtype}"
        )
    if not out.flags.writeable:
        raise ValueError(f"{op}: out must be writable")
    return out


def scratch(out: NDArray[Any], *inputs: NDArray[Any] | None) -> NDArray[Any]:
    """What a kernel writes for `out`: itself, or a contiguous stand-in to be copied back.

    `inputs` are what the kernel still reads when it writes: `out` may share their memory.
    """
    return out if usable(out, *inputs) else empty(out.shape, out.dtype.newbyteorder("="))


def usable(out: NDArray[Any], *inputs: NDArray[Any] | None) -> bool:
    """Whether a kernel that still reads `inputs` can write into `out`."""
    if not (out.flags.c_contiguous and out.flags.aligned and out.dtype.isnative):
        return False
    return not any(each is not None and np.may_share_memory(out, each) for each in inputs)


def finish(out: NDArray[Any], written: NDArray[Any]) -> NDArray[Any]:
    """Copy a stand-in from `scratch` back, and return `out`."""
    if written is not out:
        out[...] = written
    return out
