"""CuPy's stream capture in NumPy's hands: what is launched while recording runs at replays alone.

A `Stream` that records keeps a tape of kernels and of what CuPy would compute, each with the places
it reads and writes, as a CUDA graph does: addresses, no owners. Arrays come from pools that hand
freed memory out again, so a graph whose memory is not its own gives wrong results here too. What
would wait for the device while recording, or bring data to it, raises.
"""

from __future__ import annotations

import contextlib
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from _shim import ShimDevice

from medseg_fast._gpu._device import constant

_empty = np.empty


class RuntimeFailure(RuntimeError):
    """CUDARuntimeError."""


class Simulator:
    """The state of one device."""

    def __init__(self) -> None:
        self.tape: list[Callable[[], None]] | None = None
        self.names: list[str] = []  # of kernels, as they run or are recorded
        self.default_pool = self.pool = Pool()

    def refuse(self, what: str) -> None:
        if self.tape is not None:
            raise RuntimeFailure(f"cudaErrorStreamCaptureUnsupported: {what}")


class Pool:
    """Memory by size; `fresh` counts blocks that the device was asked for."""

    def __init__(self) -> None:
        self.free: dict[int, list[np.ndarray[Any, Any]]] = {}
        self.every: list[np.ndarray[Any, Any]] = []
        self.fresh = 0

    def malloc(self, size: int) -> Buffer:
        size = -(-max(size, 1) // 512) * 512
        free = self.free.setdefault(size, [])
        if free:
            raw = free.pop()
        else:
            raw = _empty(size, np.uint8)
            self.every.append(raw)  # never given back: addresses in graphs stay valid
            self.fresh += 1
        raw[...] = 0xA5
        buffer = raw.view(Buffer)
        weakref.finalize(buffer, free.append, raw)
        return buffer


class Buffer(np.ndarray):
    """Owner of a block: the base of every array in it."""


now = Simulator()


def _allocate(shape: Any, dtype: Any) -> GraphArray:
    dtype = np.dtype(dtype)
    shape = (shape,) if np.ndim(shape) == 0 else tuple(shape)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.ndarray.__new__(GraphArray, shape, dtype, now.pool.malloc(size))


class _Address:
    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _place(value: Any) -> Any:
    """The same place without an owner; what is no array stays."""
    if isinstance(value, np.ndarray):
        return np.asarray(_Address(value)) if value.size else _empty(value.shape, value.dtype)
    if isinstance(value, (tuple, list)):
        return type(value)(map(_place, value))
    return value


def _compute(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What CuPy computes on the stream: at once, or on the tape."""
    places, named = [_place(a) for a in args], {k: _place(v) for k, v in kwargs.items()}
    with np.errstate(all="ignore"):
        value = function(*places, **named)
    if isinstance(value, tuple):
        raise NotImplementedError(function.__name__)
    result = _allocate(np.shape(value), np.asarray(value).dtype)
    into = _place(result)

    def run() -> None:
        with np.errstate(all="ignore"):
            into[...] = function(*places, **named)

    _do(run)
    return result


def _do(run: Callable[[], None]) -> None:
    if now.tape is None:
        run()
    else:
        now.tape.append(run)


class GraphArray(np.ndarray):
    """An array on the device."""

    device = contextlib.nullcontext()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        call = getattr(ufunc, method)
        if out is None:
            return _compute(call, *inputs, **kwargs)
        places, into = [_place(i) for i in inputs], tuple(map(_place, out))
        _do(lambda: call(*places, out=into, **kwargs))
        return out[0]

    def __setitem__(self, index: Any, value: Any) -> None:
        into, index, value = _place(self), _place(index), _place(value)
        _do(lambda: into.__setitem__(index, value))

    def __getitem__(self, index: Any) -> Any:
        indices = index if isinstance(index, tuple) else (index,)
        if any(isinstance(i, (np.ndarray, list)) for i in indices):
            if any(getattr(i, "dtype", None) == np.bool_ for i in indices):
                now.refuse("the size of a selection")
            return _compute(lambda array, i: array[i], self, index)
        got = super().__getitem__(index)
        # One element stays on the device, as CuPy's do.
        return got if isinstance(got, np.ndarray) else super().__getitem__((index, ...))

    def astype(self, dtype: Any, copy: bool = True, **options: Any) -> Any:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return _compute(lambda array: array.astype(dtype), self)

    def copy(self, order: str = "C") -> Any:
        return _compute(lambda array: array.copy(), self)

    def fill(self, value: Any) -> None:
        self[...] = value

    def set(self, host: Any, stream: Any = None) -> None:
        now.refuse("a copy from the host")
        self[...] = host

    def get(self) -> np.ndarray[Any, Any]:
        now.refuse("a copy to the host")
        return np.array(_place(self))

    def item(self, *args: Any) -> Any:
        return self.get().item(*args)

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __bool__(self) -> bool:
        return bool(self.get())


class _Functions:
    """The functions of CuPy that launches use."""

    ndarray = GraphArray

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        return lambda *args, **kwargs: _compute(function, *args, **kwargs)

    may_share_memory = staticmethod(np.may_share_memory)

    @staticmethod
    def asarray(value: Any, dtype: Any = None) -> Any:
        if isinstance(value, GraphArray):
            return value if dtype is None else value.astype(dtype, copy=False)
        now.refuse("a copy from the host")
        array = np.asarray(value, dtype)
        result = _allocate(array.shape, array.dtype)
        result[...] = array
        return result

    @staticmethod
    def ascontiguousarray(value: Any) -> Any:
        return value if value.flags.c_contiguous else value.copy()

    @staticmethod
    def atleast_1d(value: Any) -> Any:
        return value.reshape(1) if value.ndim == 0 else value

    @staticmethod
    def broadcast_to(value: Any, shape: Any) -> Any:
        return np.broadcast_to(value, shape, subok=True)

    @staticmethod
    def empty(shape: Any, dtype: Any = float) -> Any:
        return _allocate(shape, dtype)

    @staticmethod
    def empty_like(value: Any) -> Any:
        return _allocate(value.shape, value.dtype)

    @staticmethod
    def full(shape: Any, value: Any, dtype: Any = float) -> Any:
        result = _allocate(shape, dtype)
        result[...] = value
        return result

    def zeros(self, shape: Any, dtype: Any = float) -> Any:
        return self.full(shape, 0, dtype)

    def ones(self, shape: Any, dtype: Any = float) -> Any:
        return self.full(shape, 1, dtype)

    @staticmethod
    def nonzero(value: Any) -> Any:
        now.refuse("the number of places")
        return np.nonzero(_place(value))


class GraphDevice:
    """The shim, with launches that can be recorded."""

    xp = _Functions()
    array = GraphArray

    def __init__(self) -> None:
        self._shim = ShimDevice()

    def kernel(self, *choice: Any) -> Any:
        launch = self._shim.kernel(*choice)

        def run(grid: Any, block: Any, args: Any) -> None:
            places = [_place(a) for a in args]
            now.names.append(launch.expression)
            _do(lambda: launch(grid, block, places))

        return run

    def constant(self, array: np.ndarray[Any, Any]) -> Any:
        return constant(array, self.xp.asarray)


class Graph:
    def __init__(self, tape: list[Callable[[], None]]) -> None:
        self.tape = tape
        self.launches = 0

    def launch(self, stream: Any = None) -> None:
        now.refuse("a graph in a graph")
        self.launches += 1
        for run in self.tape:
            run()


class Stream:
    """A stream, of which the current one records."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking
        self.events: list[str] = []

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def record(self) -> str:
        return "event"

    def wait_event(self, event: str) -> None:
        self.events.append(event)

    def synchronize(self) -> None:
        now.refuse("a wait for the stream")

    def begin_capture(self) -> None:
        assert self.non_blocking, "the default stream cannot record"
        assert now.pool is not now.default_pool, "a graph must have memory of its own"
        now.tape = []

    def end_capture(self) -> Graph:
        tape, now.tape = now.tape, None
        assert tape is not None
        return Graph(tape)


@contextlib.contextmanager
def using_allocator(malloc: Any) -> Iterator[None]:
    before, now.pool = now.pool, malloc.__self__
    try:
        yield
    finally:
        now.pool = before


def fake_cupy() -> Any:
    """The module `cupy`, as far as medseg_fast uses it."""
    now.__init__()  # type: ignore[misc]
    current = Stream()
    runtime = types.SimpleNamespace(CUDARuntimeError=RuntimeFailure, getDeviceCount=lambda: 1)
    cuda = types.SimpleNamespace(
        Stream=Stream,
        MemoryPool=Pool,
        runtime=runtime,
        using_allocator=using_allocator,
        get_current_stream=lambda: current,
    )
    functions = GraphDevice.xp
    return types.SimpleNamespace(cuda=cuda, ndarray=GraphArray, asarray=functions.asarray)
