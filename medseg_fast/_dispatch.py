"""The one dispatch point: which library's arrays came in, so which implementation runs.

A public function is written for NumPy arrays and decorated with `operation`. NumPy arrays, nested
sequences and anything with ``__array__`` go straight to it. PyTorch tensors, CuPy arrays and other
arrays of the array API standard go through the module of their library, and the result comes back
as the caller's kind of array.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

_ROUTES = {
    "torch": "medseg_fast._torch",
    "cupy": "medseg_fast._cupy",
    "dlpack": "medseg_fast._dlpack",
}

OPERATIONS: dict[str, Operation] = {}


class Operation:
    """What a route needs to know of a public function: its name, its NumPy body, its result.

    `result` tells a tracing compiler the shape and dtype of the result from the arguments, without
    data: a function of the same arguments that returns one or a tuple of ``(shape, numpy dtype)``.
    None: not traceable, runs eagerly.
    """

    def __init__(self, body: Callable[..., Any], result: Callable[..., Any] | None) -> None:
        self.name, self.body, self.result = body.__name__, body, result


def operation(
    *, result: Callable[..., Any] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function written for NumPy arrays accept the arrays of every supported library."""

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        op = OPERATIONS[body.__name__] = Operation(body, result)

        @functools.wraps(body)
        def dispatch(*args: P.args, **kwargs: P.kwargs) -> R:
            for value in (*args, *kwargs.values()):
                library = _library(type(value))
                if library is not None:
                    call = import_module(_ROUTES[library]).call
                    return call(op, args, kwargs)  # type: ignore[no-any-return]
            return body(*args, **kwargs)

        return dispatch

    return decorate


@functools.cache
def _library(cls: type) -> str | None:
    """The route for instances of `cls`, None for what the NumPy body takes itself."""
    if issubclass(cls, (np.ndarray, np.generic)):
        return None
    for base in cls.__mro__:  # subclasses too: Parameter, MetaTensor
        name = base.__module__.partition(".")[0]
        if name in ("torch", "cupy") and hasattr(cls, "__dlpack__"):
            return name
    return "dlpack" if hasattr(cls, "__array_namespace__") and hasattr(cls, "__dlpack__") else None
