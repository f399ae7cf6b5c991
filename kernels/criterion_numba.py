"""A Python rule of region growing, compiled by Numba to a C function."""

from __future__ import annotations

import types
from collections.abc import Callable, Hashable
from typing import Any

import numba
from numba import float64, uint8

_MOST_KEPT = 256
_compiled: dict[Hashable, Any] = {}

RAISED = 2  # what the C function returns when the rule raised an exception


def compile_criterion(criterion: Callable[[float, float, float, float], Any]) -> Any:
    """Return `criterion` as a Numba C function ``(4 doubles) -> uint8``, its answer's truth.

    Compiled once: a function with the same code, defaults, closure and global values is found
    again, so that a lambda in a loop costs nothing. Raises numba.core.errors.NumbaError.
    """
    key = _key(criterion)
    if key not in _compiled:
        while len(_compiled) >= _MOST_KEPT:
            del _compiled[next(iter(_compiled))]
        _compiled[key] = _compile(criterion)
    return _compiled[key]


def _compile(criterion: Callable[..., Any]) -> Any:
    # The NumPy error model: division by zero (the deviation of a single voxel) gives inf or NaN.
    inner = (
        criterion
        if isinstance(criterion, numba.core.dispatcher.Dispatcher)
        else numba.njit(error_model="numpy")(criterion)
    )

    @numba.cfunc(uint8(float64, float64, float64, float64), error_model="numpy")
    def call(value, mean, deviation, seed_value):  # type: ignore[no-untyped-def]
        try:
            answer = inner(value, mean, deviation, seed_value)
            if answer:
                return 1
            return 0
        except Exception:
            return RAISED

    return call


def _key(criterion: Callable[..., Any]) -> Hashable:
    """What the compiled code depends on, as far as it can be compared by value."""
    if not isinstance(criterion, types.FunctionType):
        return criterion
    code = criterion.__code__
    cells = [cell.cell_contents for cell in criterion.__closure__ or ()]
    # Globals are constants to Numba; co_names also holds attribute names, which do no harm.
    names = [criterion.__globals__.get(name) for name in code.co_names]
    values = [*cells, *names, *(criterion.__defaults__ or ())]
    key = (code, len(cells), len(names), *((type(value), value) for value in values))
    try:
        hash(key)
    except TypeError:  # it depends on an array or a list
        return criterion
    return key
