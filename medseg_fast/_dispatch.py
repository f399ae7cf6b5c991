"""The one dispatch point: which library's arrays came in, so which implementation runs.

A public function is written for NumPy arrays and decorated with `operation`. NumPy arrays, nested
sequences and anything with ``__array__`` go straight to it. PyTorch tensors, CuPy arrays and other
arrays of the array API standard go through the module of their library, and the result comes back
as the caller's kind of array.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")
Gradient = Callable[[dict[str, Any], tuple[Any, ...], tuple[Any, ...]], dict[str, Any]]

OPERATIONS: dict[str, Operation] = {}

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])  # NumPy has no such type: the bytes alone


class ChannelsLast(tuple[int, ...]):
    """The shape (N, C, [D,] H, W) of features whose channels are the innermost axis in memory."""

    __slots__ = ()


class Operation:
    """What a route needs to know of a public function: its name, its NumPy body, its result.

    `result` tells a tracing compiler the shape and dtype of the result from the arguments, without
    data: a function of the same arguments that returns one or a tuple of ``(shape, numpy dtype)``.
    None: not traceable, runs eagerly. `eager` names the parameters that, when neither None nor
    False, keep a call out of a graph: it writes to an argument (``out=``), or only the data tell
    the shape of its result.

    A result that is one number may have another dtype for some data (the value of a constant
    image, in the image's dtype); as a tensor it always has the dtype that `result` tells.

    `gradient` makes it differentiable: called with the arguments by name, the results and the
    results' gradients (both tuples), it returns gradients by the arguments' names. It gets tensors,
    and to be traced it must call operations or functions of the tensors' library only.

    `features`: it works on the features of a network. Tensors of bfloat16 reach the body as arrays
    of `BFLOAT16`, and a result that is channels-last in memory stays so.

    `gpu` names the module of `medseg_fast._gpu` whose function of the operation's name launches its
    kernels. It takes a `Device`, then the operation's own arguments. None: no such kernel yet.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        result: Callable[..., Any] | None = None,
        eager: Sequence[str] = (),
        gradient: Gradient | None = None,
        features: bool = False,
        gpu: str | None = None,
    ) -> None:
        self.name, self.body, self.result, self.eager = body.__name__, body, result, eager
        self.gradient, self.features, self.gpu = gradient, features, gpu
        self.function = body  # what users call, set by `operation`
        self.torch: Any = None  # its registered operators, set by _torch
        # On a GPU these take bfloat16, whatever `features` says of the CPU.
        self.of_networks = body.__module__.startswith("medseg_fast.nn.functional")

    def on_gpu(self, device: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Run the operation's kernels on arrays of a `Device`."""
        module = import_module(f"medseg_fast._gpu.{self.gpu}")
        return getattr(module, self.name)(device, *args, **kwargs)


def operation(
    *,
    result: Callable[..., Any] | None = None,
    eager: Sequence[str] = ("out", "in_place"),
    gradient: Gradient | None = None,
    features: bool = False,
    gpu: str | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function written for NumPy arrays accept the arrays of every supported library."""

    def decorate(body: Callable[P, R]) -> Callable[P, R]:
        op = OPERATIONS[body.__name__] = Operation(body, result, eager, gradient, features, gpu)
        if (route := sys.modules.get("medseg_fast._torch")) is not None:
            route.register(op)

        @functools.wraps(body)
        def dispatch(*args: P.args, **kwargs: P.kwargs) -> R:
            for value in (*args, *kwargs.values()):
                call = _route(value)
                if call is not None:
                    return call(op, args, kwargs)  # type: ignore[no-any-return]
            return body(*args, **kwargs)

        op.function = dispatch
        return dispatch

    return decorate


def like(image: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The `result` of an operation that returns an array like its first argument."""
    return image.shape, image.dtype


def mask_like(image: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The `result` of an operation that returns a mask of its first argument's shape."""
    return image.shape, np.bool_


def specs_of(result: Any) -> list[tuple[tuple[int, ...], Any]]:
    """What an operation's `result` told, as a list: one (shape, dtype) or a tuple of them."""
    shape, *_ = result
    several = len(shape) == 2 and isinstance(shape[0], tuple)
    return list(result) if several else [result]


_PLAIN = (np.ndarray, np.generic, int, float, str, type(None))


def _route(value: Any) -> Callable[..., Any] | None:
    """The route for this kind of value, None for what the NumPy body takes itself.

    torch.compile traces this function: the imports are statements because it follows those.
    """
    if type(value) in (list, tuple):  # of arrays, one for each level or image
        return _route(value[0]) if value else None
    if isinstance(value, _PLAIN):
        return None
    cls = type(value)
    if not hasattr(cls, "__dlpack__"):
        if hasattr(cls, "__torch_function__"):  # stands for a tensor: torch.fx's Proxy
            from medseg_fast import _torch

            return _torch.stand_in
        return None
    for base in cls.__mro__:  # subclasses too: Parameter, MetaTensor
        library = base.__module__.partition(".")[0]
        if library == "torch":
            from medseg_fast import _torch

            return _torch.call
        if library == "cupy":
            from medseg_fast import _cupy

            return _cupy.call
    if hasattr(cls, "__array_namespace__"):
        from medseg_fast import _dlpack

        return _dlpack.call
    return None


def leaves(value: Any) -> Iterator[Any]:
    """What lists and tuples hold, of those within them too."""
    if isinstance(value, (tuple, list)):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def library_of_gpu(array: Any) -> str | None:
    """The library that holds this array on a GPU, None for whatever is not there."""
    for base in type(array).__mro__:
        library = base.__module__.partition(".")[0]
        if library == "cupy" or (library == "torch" and getattr(array, "is_cuda", False)):
            return library
    return None
