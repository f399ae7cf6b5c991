"""Which calls of ATen become layers of a `Graph`: `HANDLERS`, by name."""

from medseg_fast.nn._optimize import _convolutions, _pixels, _spatial  # noqa: F401  (they register)
from medseg_fast.nn._optimize._attention import Rows  # after _spatial: its reshapes are wider
from medseg_fast.nn._optimize._calls import HANDLERS, Call, NotCovered
from medseg_fast.nn._optimize._spatial import Stack

__all__ = ["HANDLERS", "Call", "NotCovered", "Rows", "Stack"]
