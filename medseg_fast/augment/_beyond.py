"""Labels of any dtype, with any label for what lies beyond the image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast.augment._settings import OP

Array = NDArray[Any]


class Marked(NamedTuple):
    """A label as the kernel moves it, bit by bit, and a mark of its dtype for what lies beyond."""

    label: Array
    mark: int
    dtype: np.dtype[Any]  # of the result

    def filled(self, moved: Array, fill: int) -> Array:
        """The moved label with `fill` in the place of the mark."""
        if self.dtype.kind == "f":
            return moved.view(self.dtype)
        if moved.dtype == self.dtype:
            return moved
        return np.where(moved == self.mark, self.dtype.type(fill), moved)


def marked(label: Array, fill: int) -> Marked:
    """The label with a mark for `fill`; its dtype is widened where it does not hold that."""
    own = label.dtype
    if own.kind == "f":
        bits = label.view(f"i{own.itemsize}")
        return Marked(bits, int(np.array(fill, own).view(bits.dtype)), own)
    wide = _wide(own, fill)
    if wide == own:
        return Marked(label, fill, own)
    free = int(np.iinfo(own).max)
    if int(label.max(initial=0)) < free:  # to widen a patch, not the whole label
        return Marked(label, free, wide)
    return Marked(label.astype(wide), fill, wide)


def _wide(own: np.dtype[Any], fill: int) -> np.dtype[Any]:
    """The dtype, or the smallest signed one that holds its labels and `fill`."""
    if own.kind == "b":
        wanted, holds = "integers", fill in (0, 1)
    else:
        wanted, holds = "signed integers", np.iinfo(own).min <= fill <= np.iinfo(own).max
    if holds:
        return own
    wide = np.promote_types(own, np.min_scalar_type(min(fill, ~fill)))
    if own.kind == "b" or wide.kind == "f":  # there is none for uint64
        raise ValueError(f"{OP}: label must be {wanted} for a label_fill of {fill}, got {own}")
    return wide
