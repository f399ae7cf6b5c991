"""Layers that torch runs between the segments of a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medseg_fast.nn._optimize._attention import Rows
from medseg_fast.nn._optimize._graph import Graph, Layer, Value
from medseg_fast.nn._optimize._memory import Placement
from medseg_fast.nn._optimize._views import view_of


def keep_with_torch(graph: Graph) -> None:
    """Results of torch's layers that only torch needs are no maps of the plan."""
    ours = {
        value.root
        for layer in graph.layers
        if layer.kind != "torch"
        for value in layer.inputs.values()
    }
    for layer in graph.layers:
        if layer.kind == "torch":
            for value in layer.outputs.values():
                value.native = value.native and value in ours


def _own(found: Any, arena: Any) -> Any:
    """A result without memory of the plan's, which other maps are going to have."""
    if isinstance(found, Tensor):
        first = arena.ctypes.data
        inside = first <= found.untyped_storage().data_ptr() < first + arena.size
        return found.clone() if inside else found
    if isinstance(found, (list, tuple)):
        return [_own(each, arena) for each in found]
    return found


class Runner:
    """Runs a plan whose steps are ours and torch's in turn."""

    def __init__(self, graph: Graph, placement: Placement) -> None:
        self.graph, self.placement = graph, placement

    def run(
        self, plan: Any, segments: Sequence[Any], slots: Sequence[Any], results: list[Any]
    ) -> None:
        """All segments; results that torch makes replace those in the list."""
        given = enumerate(self.graph.inputs)
        made: dict[Value, Any] = {
            value: torch.from_numpy(slots[1 + i]) for i, value in given if not value.native
        }
        with torch.no_grad():
            for segment in segments:
                if isinstance(segment, tuple):
                    if segment[0] < segment[1]:
                        plan._steps(*segment, slots)
                else:
                    self._call(segment["layer"], slots, made)
        for i, value in enumerate(self.graph.outputs):
            if not value.root.native:
                results[i] = self._tensor(value, slots, made).contiguous()

    def _call(self, layer: Layer, slots: Sequence[Any], made: dict[Value, Any]) -> None:
        arguments = self._given(layer["args"], slots, made)
        keywords = self._given(layer.attributes.get("kwargs", {}), slots, made)
        found = layer["target"](*arguments, **keywords)
        value = layer.outputs["out"]
        if value.native:
            np.copyto(self._array(value, slots), found.numpy().reshape(value.shape))
        else:
            made[value] = _own(found, slots[0])

    def _given(self, argument: Any, slots: Sequence[Any], made: dict[Value, Any]) -> Any:
        """An argument of a layer, with tensors for its values."""
        if isinstance(argument, Value):
            return self._tensor(argument, slots, made)
        if isinstance(argument, Rows):
            return argument.of(self._tensor(argument.value, slots, made))
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._given(each, slots, made) for each in argument)
        if isinstance(argument, dict):
            return {key: self._given(each, slots, made) for key, each in argument.items()}
        return argument

    def _tensor(self, value: Value, slots: Sequence[Any], made: dict[Value, Any]) -> Any:
        """A value as torch has it."""
        if value.base is None:
            if value in made:
                return made[value]
            return torch.from_numpy(self._array(value, slots))
        whole = self._tensor(value.base, slots, made)
        if value.flat:
            return whole.reshape(value.shape)
        part: Tensor = whole
        lost = 5 - whole.ndim
        for axis in range(whole.ndim):
            place = axis if axis < 2 else axis + lost
            first = value.start[place]
            if whole.ndim == len(value.shape):
                part = part.narrow(axis, first, value.shape[axis])
        return part.reshape(value.shape)

    def _array(self, value: Value, slots: Sequence[Any]) -> Any:
        """A whole map in its place, its axes in torch's order."""
        slot, offset, _, batch, channels, size, by_batch, by_channel, strides = view_of(
            self.placement, value
        )
        memory = slots[slot].reshape(-1).view(np.uint8)[offset:]
        rank = len(value.shape) - 2
        shape = (batch, channels, *size[3 - rank :])
        steps = (by_batch, by_channel, *strides[3 - rank :])
        item = np.dtype(np.int64 if value.indices else np.float32)
        return np.lib.stride_tricks.as_strided(
            memory[: memory.size // item.itemsize * item.itemsize].view(item),
            shape,
            [item.itemsize * s for s in steps],
        )
