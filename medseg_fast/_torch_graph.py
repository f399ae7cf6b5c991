"""Graphs of functions of CUDA tensors (`medseg_fast.capture`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from medseg_fast._gpu._device import constants
from medseg_fast.capture import HOST, WARM, check, check_count, refuse


class Graph:
    """What `function` launches on the examples' device, in PyTorch's memory for graphs."""

    def __init__(self, function: Callable[..., Any], examples: Sequence[Any]) -> None:
        device = examples[0].device
        self._constants: dict[Any, Any] = {}
        self._inputs = [example.detach().clone() for example in examples]
        with torch.cuda.device(device), torch.no_grad(), constants(self._constants):
            current, aside = torch.cuda.current_stream(), torch.cuda.Stream()
            aside.wait_stream(current)
            with torch.cuda.stream(aside):  # never the default one, which no graph may hold
                for _ in range(WARM):
                    function(*self._inputs)
            current.wait_stream(aside)
            self._graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(self._graph):
                    self.results = function(*self._inputs)
            except RuntimeError as error:
                raise refuse(error) from error

    def __call__(self, *arrays: Any) -> Any:
        check_count(arrays, self._inputs)
        tensors = [torch.from_numpy(a) if isinstance(a, HOST) else a for a in arrays]
        for mine, given in zip(self._inputs, tensors, strict=True):
            check(given, mine)
        for mine, given in zip(self._inputs, tensors, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self.results
