"""Graphs of functions of CuPy arrays (`medseg_fast.capture`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cupy

from medseg_fast import _cupy
from medseg_fast._gpu._device import constants
from medseg_fast.capture import HOST, WARM, check, check_count, refuse


class Graph:
    """What `function` launches on the examples' device."""

    def __init__(self, function: Callable[..., Any], examples: Sequence[Any]) -> None:
        _cupy.require_gpu("capture")
        self._device = examples[0].device
        # Its own: the graph goes on using memory that the function gives back while recorded.
        self._pool = cupy.cuda.MemoryPool()
        self._constants: dict[Any, Any] = {}
        # Of what it takes first: a step of `medseg_fast.stream.Pipeline` is warmed up by these.
        self.shape, self.dtype = examples[0].shape, examples[0].dtype
        with self._device:
            before = cupy.cuda.get_current_stream().record()
            stream = cupy.cuda.Stream(non_blocking=True)
            stream.wait_event(before)
            allocator = cupy.cuda.using_allocator(self._pool.malloc)
            with stream, allocator, constants(self._constants):
                self._inputs = [example.copy() for example in examples]
                for _ in range(WARM):
                    function(*self._inputs)
                stream.synchronize()
                self.results, self._graph = self._record(function, stream)

    def _record(self, function: Callable[..., Any], stream: Any) -> tuple[Any, Any]:
        stream.begin_capture()
        try:
            results = function(*self._inputs)
        except Exception as error:
            self._abandon(stream)
            raise refuse(error) from error
        try:
            return results, stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise refuse(error) from error

    @staticmethod
    def _abandon(stream: Any) -> None:
        """End a recording that failed; the stream says so again."""
        try:
            stream.end_capture()
        except cupy.cuda.runtime.CUDARuntimeError:
            pass

    def __call__(self, *arrays: Any) -> Any:
        check_count(arrays, self._inputs)
        for mine, given in zip(self._inputs, arrays, strict=True):
            check(given, mine)
        with self._device:
            stream = cupy.cuda.get_current_stream()
            for mine, given in zip(self._inputs, arrays, strict=True):
                if isinstance(given, HOST):
                    mine.set(given, stream=stream)
                else:
                    mine[...] = given
            self._graph.launch(stream=stream)
        return self.results
