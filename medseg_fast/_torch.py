"""PyTorch tensors: every operation is also a registered operator, ``torch.ops.medseg_fast.<name>``.

Its CPU kernel sees the tensors as NumPy arrays without a copy and hands the result back as a
tensor; its CUDA kernel, if the operation has one, is that of CuPy (_torch_cuda.py); its fake kernel
asks the operation's `result` for shape and dtype, so torch.compile, torch.export and FakeTensorMode
trace through it. Two overloads:

* ``default`` has the schema that the annotations say: ``(Tensor image, Scalar t, ...)``;
* ``literal(Tensor[] tensors, str arguments)`` takes the calls that such a schema has no words for
  (a tensor where a number is usual, one number or one per axis): all arguments as a Python literal,
  ``...`` in the place of each tensor.

A result that is a NumPy scalar (``threshold_otsu``) is a tensor without axes here, which the next
operation takes where it wants a number. Its dtype is the one that `result` tells, even where the
data give NumPy's scalar another.

What neither can say (a callable, ``out=``, a result whose shape only the data tell) runs outside
the graph: torch.compile breaks the graph around the call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from medseg_fast import _torch_schema
from medseg_fast._dispatch import OPERATIONS, ChannelsLast, Operation, leaves, specs_of
from medseg_fast._torch_arrays import CHANNELS_LAST, DTYPES, TORCH_DTYPES, run, tensor_of

_LIBRARY = torch.library.Library("medseg_fast", "DEF")


def _plain_keys() -> list[Any]:
    """The dispatch keys of a tensor on the CPU, made under inference_mode or not.

    Empty where PyTorch lacks what `_unwatched` asks: it is not public, and the dispatcher will do.
    """
    needed = "_dispatch_keys _get_tracing_state _len_torch_dispatch_stack _len_torch_function_stack"
    if not all(hasattr(_C, name) for name in needed.split()):
        return []
    inference = _C.DispatchKeySet(_C.DispatchKey.CPU).add(_C.DispatchKey.AutocastCPU)
    kept = inference.add(_C.DispatchKey.AutogradCPU).add(_C.DispatchKey.ADInplaceOrView)
    return [kept, inference]


_C: Any = torch._C
_PLAIN_KEYS = _plain_keys()


class _Spec(NamedTuple):
    """What an operation's `result` may ask of an array."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)


class _Registered:
    """The two operators of one operation."""

    def __init__(self, op: Operation, signature: inspect.Signature) -> None:
        self.op = op
        self.parameters = _torch_schema.parameters(signature)
        # An operator returns one tensor or a list; a union with a tuple may be either.
        returns = str(signature.return_annotation)
        self.many = "tuple" in returns or returns == "Any"
        self.pure = [p for p in self.parameters if p.name not in op.eager]
        self.names = [p.name for p in self.pure]
        positions = {p.name: None if p.keyword_only else i for i, p in enumerate(self.parameters)}
        self.eager = [(name, positions[name]) for name in op.eager if name in positions]
        typed = _torch_schema.schema(self.pure)
        self.typed = typed and self._define(op.name, typed, self._by_name)
        self.literal = self._define(
            f"{op.name}.literal",
            "Tensor[] tensors, str arguments",
            lambda tensors, arguments: _torch_schema.from_literal(arguments, tensors),
        )

    def _define(self, name: str, schema: str, read: Callable[..., dict[str, Any]]) -> Any:
        def kernel(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.as_called(read(*args, **kwargs))
            return self._wrap(self.run(args, kwargs))

        def gpu_kernel(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.as_called(read(*args, **kwargs))
            return self._wrap(self._as_told(_on_gpu(self.op, args, kwargs), args, kwargs))

        def fake(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = self.as_called(read(*args, **kwargs))
            return self._wrap(_trace(self.op, args, kwargs))

        def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if self.op.gradient is None:
                return
            tensors: list[torch.Tensor] = []
            ctx.inputs = _take_tensors(inputs, tensors)
            ctx.input_count = len(tensors)
            ctx.save_for_backward(*tensors, *(output if self.many else [output]))

        def backward(ctx: Any, *gradients: Any) -> Any:
            if self.op.gradient is None:
                first = self.names[0]
                raise NotImplementedError(f"{self.op.name}: no gradient; pass {first}.detach()")
            given = ctx.saved_tensors[: ctx.input_count]
            results = ctx.saved_tensors[ctx.input_count :]
            found = self.op.gradient(
                read(*_put_tensors(ctx.inputs, given)),
                results,
                tuple(gradients[0]) if self.many else gradients,
            )
            # By places: one tensor may be several arguments.
            places = read(*ctx.inputs)
            of = {
                place: gradient
                for name, gradient in found.items()
                for place, gradient in zip(leaves(places[name]), leaves(gradient), strict=True)
                if isinstance(place, _Place)
            }
            return tuple(_at_places(value, of) for value in ctx.inputs)

        returns = "Tensor[]" if self.many else "Tensor"
        _LIBRARY.define(f"{name}({schema}) -> {returns}", tags=(torch.Tag.pt2_compliant_tag,))
        _LIBRARY.impl(name, kernel, "CPU")
        if self.op.gpu is not None:
            _LIBRARY.impl(name, gpu_kernel, "CUDA")
        torch.library.register_fake(f"medseg_fast::{name}", fake, lib=_LIBRARY)
        torch.library.register_autograd(
            f"medseg_fast::{name}", backward, setup_context=save, lib=_LIBRARY
        )
        packet, _, overload = name.partition(".")
        return getattr(getattr(torch.ops.medseg_fast, packet), overload or "default")

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of tensors on the CPU."""
        return self._as_told(run(self.op, args, kwargs, fresh=True), args, kwargs)

    def changes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether a call writes to an argument, or only the data tell the shape of its result."""
        for name, at in self.eager:
            value = kwargs.get(name) if at is None or at >= len(args) else args[at]
            if value is not None and value is not False:
                return True
        return False

    def _as_told(self, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result with the dtype that tracing is told; NumPy's may depend on the data."""
        if not isinstance(result, torch.Tensor) or result.ndim:
            return result
        return result.to(_tell(self.op, args, kwargs)[0][1])

    def _wrap(self, result: Any) -> Any:
        if self.many:
            return list(result) if isinstance(result, tuple) else [result]
        return result

    def _by_name(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Arguments of the typed operator; its schema made lists of tuples."""
        named = dict(zip(self.names, args, strict=False)) | kwargs
        return {name: tuple(v) if isinstance(v, list) else v for name, v in named.items()}

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
        """Arguments by name; None if they do not fit (the body words the error).

        torch.compile traces this function; inspect.Signature.bind costs it seconds.
        """
        named = {p.name: value for p, value in zip(self.parameters, args, strict=False)}
        if len(args) > len(self.parameters) or any(name in named for name in kwargs):
            return None
        named.update(kwargs)
        for p in self.parameters:
            if p.name in self.op.eager:
                named.pop(p.name, None)
            elif p.required and p.name not in named:
                return None
        return named if all(name in self.names for name in named) else None

    def without_numpy(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments as an operator takes them, which alone keeps gradients."""
        return {
            p.name: _without_numpy(named[p.name], p.arrays)
            for p in self.parameters
            if p.name in named
        }

    def as_called(self, named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """All arguments, defaults included: the positional ones, then keywords."""
        args, kwargs = [], {}
        for p in self.parameters:
            value = named.get(p.name, p.default)
            if p.keyword_only:
                kwargs[p.name] = value
            else:
                args.append(value)
        return tuple(args), kwargs


def register(op: Operation) -> None:
    """Define the operators of an operation whose result can be told without data."""
    signature = inspect.signature(op.body)
    variadic = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    if op.result and not any(p.kind in variadic for p in signature.parameters.values()):
        op.torch = _Registered(op, signature)


def stand_in(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Let what stands for a tensor say what a call on it is; torch.fx's Proxy makes it a node."""
    asked = [v for v in leaves((args, tuple(kwargs.values()))) if hasattr(v, "__torch_function__")]
    return torch.overrides.handle_torch_function(op.function, asked, *args, **kwargs)


def call(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an operation on tensors. torch.compile traces this function."""
    values = (*args, *kwargs.values())
    for value in values:
        if isinstance(value, torch.Tensor):
            _check(op, value, args, kwargs)
    registered = op.torch
    if registered is None or registered.changes(args, kwargs):
        return _outside(op, args, kwargs)
    if _unwatched(values):
        return _plain(registered.run(args, kwargs))
    named = registered.bind(args, kwargs)
    if named is None:
        return _outside(op, args, kwargs)
    if not torch.compiler.is_compiling() and _learning(values):
        named = registered.without_numpy(named)
    if registered.typed and all(
        p.fits(named[p.name]) for p in registered.parameters if p.name in named
    ):
        result = registered.typed(**named)
    else:
        tensors: list[torch.Tensor] = []
        literal = _torch_schema.to_literal(named, tensors)
        if literal is None:
            return _outside(op, args, kwargs)
        result = registered.literal(tensors, literal)
    return _plain(result)


def _plain(result: Any) -> Any:
    """One tensor, or a tuple of several."""
    if not isinstance(result, (tuple, list)):
        return result
    return result[0] if len(result) == 1 else tuple(result)


def _unwatched(values: tuple[Any, ...]) -> bool:
    """Whether PyTorch has nothing to do in a call: no gradient, tracing, mode or profiler.

    Such a call saves the way through the dispatcher: 50 us, 250 us with cold caches.
    """
    if (
        torch.compiler.is_compiling()
        or not _PLAIN_KEYS
        or _C._get_tracing_state() is not None
        or _C._len_torch_dispatch_stack()
        or _C._len_torch_function_stack()
        or _C._autograd._profiler_enabled()
    ):
        return False
    return not _learning(values) and not any(
        type(tensor) not in (torch.Tensor, torch.nn.Parameter)
        or _C._dispatch_keys(tensor) not in _PLAIN_KEYS
        for tensor in leaves(values)
        if isinstance(tensor, torch.Tensor)
    )


def _learning(values: tuple[Any, ...]) -> bool:
    """Whether a gradient is wanted of a call."""
    return torch.is_grad_enabled() and any(
        isinstance(leaf, torch.Tensor) and leaf.requires_grad for leaf in leaves(values)
    )


def _check(
    op: Operation, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    name = op.name
    served = ("cpu", "meta") if op.gpu is None else ("cpu", "meta", "cuda")
    if tensor.device.type not in served:
        raise NotImplementedError(
            f"{name}: no implementation for tensors on {tensor.device}; "
            f"pass {_name_of(op, tensor, args, kwargs)}.cpu() to run it on the CPU"
        )
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name}: tensors must be dense, got layout {tensor.layout}")
    if tensor.dtype not in DTYPES or (
        tensor.dtype is torch.bfloat16 and not (op.features or (tensor.is_cuda and op.of_networks))
    ):
        argument = _name_of(op, tensor, args, kwargs)
        hint = f"; pass {argument}.float()" if tensor.dtype is torch.bfloat16 else ""
        raise TypeError(
            f"{name}: {argument} must be bool, integer or float of at most 64 bits, "
            f"got {tensor.dtype}{hint}"
        )


def _name_of(
    op: Operation, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> str:
    """Which argument of the call a tensor is."""
    named = dict(zip(inspect.signature(op.body).parameters, args, strict=False)) | kwargs
    return next(name for name, value in named.items() if value is tensor)


@torch.compiler.disable  # type: ignore[untyped-decorator, unused-ignore]
def _outside(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = (*args, *kwargs.values())
    if op.gradient is not None and _learning(values):
        raise TypeError(
            f"{op.name}: for a gradient, arguments must be tensors, arrays, numbers or tuples of "
            "them, and out None; pass detached tensors for none"
        )
    if any(isinstance(v, torch.Tensor) and v.is_cuda for v in values):
        return _on_gpu(op, args, kwargs)
    return run(op, args, kwargs, fresh=False)


def _on_gpu(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from medseg_fast import _torch_cuda

    return _torch_cuda.run(op, args, kwargs)


def _trace(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Empty tensors of the shape and dtype that the operation's `result` tells."""
    tensors = (t for t in leaves((args, tuple(kwargs.values()))) if isinstance(t, torch.Tensor))
    device = next((t.device for t in tensors), None)
    empty = tuple(
        torch.empty(
            shape,
            dtype=dtype,
            device=device,
            memory_format=CHANNELS_LAST[len(shape)]
            if isinstance(shape, ChannelsLast)
            else torch.contiguous_format,
        )
        for shape, dtype in _tell(op, args, kwargs)
    )
    return empty[0] if len(empty) == 1 else empty


def _tell(
    op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """What the operation's `result` says of a call with tensors."""

    assert op.result is not None
    described = partial(_described, features=op.features)
    told = op.result(*map(described, args), **{k: described(v) for k, v in kwargs.items()})
    return [(shape, TORCH_DTYPES[np.dtype(dtype)]) for shape, dtype in specs_of(told)]


def _described(value: Any, features: bool) -> Any:
    """A tensor as `result` sees it."""
    if isinstance(value, torch.Tensor):
        order = CHANNELS_LAST.get(value.ndim)
        last = order and not value.is_contiguous() and value.is_contiguous(memory_format=order)
        shape = ChannelsLast(value.shape) if last and features else tuple(value.shape)
        return _Spec(shape, DTYPES[value.dtype])
    if isinstance(value, (tuple, list)):
        return tuple(_described(each, features) for each in value)
    return value


class _Place(int):
    """Where a tensor stands among those that autograd keeps."""


def _take_tensors(value: Any, tensors: list[torch.Tensor]) -> Any:
    """The value with a `_Place` for each tensor; the tensors are appended to the list."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return _Place(len(tensors) - 1)
    if isinstance(value, (tuple, list)):
        return type(value)(_take_tensors(part, tensors) for part in value)
    return value


def _put_tensors(value: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """What `_take_tensors` was given."""
    if isinstance(value, _Place):
        return tensors[value]
    if isinstance(value, (tuple, list)):
        return type(value)(_put_tensors(part, tensors) for part in value)
    return value


def _at_places(value: Any, of: dict[_Place, Any]) -> Any:
    """What belongs to an argument of tensors, or to each of a list; None for any other."""
    if isinstance(value, _Place):
        return of.get(value)
    if isinstance(value, (tuple, list)) and any(isinstance(each, _Place) for each in value):
        return [_at_places(each, of) for each in value]
    return None


def _without_numpy(value: Any, arrays: bool) -> Any:
    """Arrays as tensors, or as lists where none are taken; NumPy's numbers as Python's."""
    if isinstance(value, np.ndarray):
        return tensor_of(np.require(value, requirements=["C", "W"])) if arrays else value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (tuple, list, range)):
        return tuple(_without_numpy(each, arrays) for each in value)
    return value


for _operation in OPERATIONS.values():
    register(_operation)
