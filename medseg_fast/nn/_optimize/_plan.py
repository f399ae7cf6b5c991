"""A compiled network: run it, look at it, write it to a file and read it back, without torch."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast._dispatch import BFLOAT16
from medseg_fast.nn._optimize import _file

if TYPE_CHECKING:
    from medseg_fast.nn._optimize._detector import DetectorPlan

Array = NDArray[Any]
_ALIGNMENT = 64


class StepReport(NamedTuple):
    """A line of a plan's report.

    Attributes
    ----------
    name : str
        The module that the step comes from.
    layer : str
        What it does, and by which algorithm.
    shape : tuple of int
        Of its first result, (N, C, planes, rows, columns).
    bytes : int
        Of its results.
    """

    name: str
    layer: str
    shape: tuple[int, ...]
    bytes: int


class Place(NamedTuple):
    """An array that a plan reads or writes: the caller's, or one that lies as maps within do."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    channels_last: bool

    def empty(self) -> Array:
        """Memory for it."""
        if not self.channels_last:
            return np.empty(self.shape, self.dtype)
        images, channels, *pixels = self.shape
        return np.moveaxis(np.empty((images, *pixels, channels), self.dtype), -1, 1)

    def memory(self, array: Any) -> Any:
        """An array with its axes in the order in which they lie in memory."""
        return np.moveaxis(array, 1, -1) if self.channels_last else array


class Plan:
    """A network compiled by `optimize`: call it with arrays or tensors of the example's shapes.

    Attributes
    ----------
    precision : str
        "float32", "bfloat16" or "int8", see `optimize`.
    threads : int or None
        How many threads it uses; None: the package's setting when it is called.
    input_shapes, output_shapes : list of tuple of int
    inputs, outputs : list of Place
        The same with types and memory order, which differ from float32 in the order of the axes
        where one plan hands maps to another.
    peak_memory : int
        Bytes of all maps between layers; inputs, results, weights and what layers keep for each
        thread (about 1 MB) come on top.
    naive_memory : int
        What those maps would take if each had memory of its own.
    weight_memory : int
        Bytes of packed weights.
    fallbacks : dict
        Layers that torch runs, and why.
    network : str
        The function of `medseg_fast.nn` that made the network; "" for another one.
    metadata : dict
        The model's, which `predict` reads.

    Notes
    -----
    Calls from several Python threads wait for one another: a plan has one block of memory. Results
    do not depend on the number of threads. Ctrl-C stops a call.
    """

    def __init__(self, parts: dict[str, Any], runner: Any = None, mapping: Any = None) -> None:
        self._parts = parts
        self._runner = runner  # what runs torch's layers, see `_fallback`
        self.precision: str = parts["precision"]
        self.threads: int | None = parts["threads"]
        self.input_shapes = [tuple(shape) for shape in parts["inputs"]]
        self.output_shapes = [tuple(shape) for shape in parts["outputs"]]
        self.inputs = self._places(self.input_shapes, parts["internal_inputs"])
        self.outputs = self._places(self.output_shapes, parts["internal_outputs"])
        self.peak_memory: int = parts["arena_bytes"]
        self.naive_memory: int = parts["naive_bytes"]
        self.fallbacks: dict[str, str] = dict(parts["fallbacks"])
        # Files of before there were any have none, and neither have stages of a detector.
        self.network: str = parts.get("network", "")
        self.metadata: dict[str, Any] = parts.get("metadata", {})
        self._core = core.plan()
        self._segments: list[Any] = []  # (begin, end) of steps, or a step of torch's
        self._build(mapping)
        self.weight_memory = int(self._core.packed_bytes())
        self._arena: Array | None = None
        self._lock = threading.Lock()

    def _places(self, shapes: Sequence[tuple[int, ...]], internal: Sequence[int]) -> list[Place]:
        """Of inputs or results, some of which lie as maps between layers do."""
        within = np.dtype(np.float32) if self.precision == "float32" else BFLOAT16
        return [
            Place(shape, within if i in internal else np.dtype(np.float32), i in internal)
            for i, shape in enumerate(shapes)
        ]

    def _build(self, mapping: Any) -> None:
        """Packs all weights; pages of the file that they are mapped from are kept no longer."""
        begin = 0
        for step in self._parts["steps"]:
            if step["call"] != "torch":
                getattr(self._core, step["call"])(*step["arguments"])
                _file.forget(mapping)
                continue
            end = int(self._core.count())
            self._segments += [(begin, end), step]
            begin = end
        self._segments.append((begin, int(self._core.count())))

    def __call__(self, *inputs: Any, out: Sequence[Array] | None = None) -> Any:
        """The network's result, in the structure and array type that the module had.

        Parameters
        ----------
        *inputs : ndarray or Tensor
            float32, of the shapes that it was made for.
        out : sequence of ndarray, optional
            float32 and C-contiguous, of `output_shapes`: receive the result, so that nothing is
            allocated (`empty_results` makes such). Not for plans some layers of which torch runs.
        """
        arrays = self._checked(inputs)
        results: list[Any]
        if out is None:
            results = self.empty_results()
        else:
            results = self._checked_outputs(out)
        slots = [None, *arrays, *self._memory(results)]
        with self._lock:
            if self._arena is None:
                self._arena = _aligned(self.peak_memory)
            slots[0] = self._arena
            if self._runner is None:
                self._steps(0, int(self._core.count()), slots)
            else:
                self._runner.run(self, self._segments, slots, results)
        if any(map(_is_tensor, inputs)):
            torch = sys.modules["torch"]
            results = [
                torch.from_numpy(each) if isinstance(each, np.ndarray) else each for each in results
            ]
        else:
            results = [np.asarray(each) for each in results]
        return _rebuilt(self._parts["structure"], results)

    def watch(
        self,
        inputs: Sequence[Array],
        look: Callable[[int, dict[str, Any], Sequence[Any]], None],
    ) -> None:
        """Run once, step by step; `look` sees each before it runs, and the memory of all slots."""
        arrays = self._checked(tuple(inputs))
        slots = [_aligned(self.peak_memory), *arrays, *self._memory(self.empty_results())]
        for index, step in enumerate(self._parts["steps"]):
            look(index, step, slots)
            self._steps(index, index + 1, slots)

    def empty_results(self) -> list[Array]:
        """Arrays for a call's `out`."""
        return [place.empty() for place in self.outputs]

    def _memory(self, results: Sequence[Array]) -> list[Any]:
        return [place.memory(each) for place, each in zip(self.outputs, results, strict=True)]

    def _steps(self, begin: int, end: int, slots: Sequence[Any]) -> None:
        self._core.run(begin, end, self.threads or 0, slots)

    def _checked_outputs(self, out: Sequence[Array]) -> list[Any]:
        if self._runner is not None:
            raise ValueError("plan: out must be None where torch runs layers")
        for array, place in itertools.zip_longest(out, self.outputs):
            fits = place is not None and isinstance(array, np.ndarray)
            fits = fits and (array.shape, array.dtype) == (place.shape, place.dtype)
            if not fits or not place.memory(array).flags.carray:
                raise ValueError(
                    "plan: out must be writable C-contiguous float32 arrays of shapes "
                    f"{self.output_shapes}"
                )
        return list(out)

    def _checked(self, inputs: tuple[Any, ...]) -> list[Array]:
        if len(inputs) != len(self.input_shapes):
            wanted = len(self.input_shapes)
            raise TypeError(f"plan: takes {wanted} input{'s'[: wanted > 1]}, got {len(inputs)}")
        arrays = []
        for value, place in zip(inputs, self.inputs, strict=True):
            if _is_tensor(value):
                value = value.detach()
                if value.device.type != "cpu":
                    raise TypeError(f"plan: input must be on the CPU, got {value.device}")
                if "bfloat16" in str(value.dtype):
                    raise TypeError(f"plan: input must be float32, got {value.dtype}")
                value = value.numpy()
            array = np.asarray(value)
            if array.dtype != place.dtype:
                raise TypeError(f"plan: input must be {place.dtype}, got {array.dtype}")
            if array.shape != place.shape:
                raise ValueError(
                    f"plan: input must have the shape it was made for, {place.shape}, "
                    f"got {array.shape}"
                )
            arrays.append(np.require(place.memory(array), place.dtype, ["C", "A"]))
        return arrays

    @property
    def steps(self) -> list[StepReport]:
        """What it does, in order."""
        return [
            StepReport(step["name"], step["text"], tuple(step["shape"]), step["bytes"])
            for step in self._parts["steps"]
        ]

    def report(self) -> str:
        """The steps in a table, and what memory they need."""
        rows = [
            (step.name, step.layer, "x".join(map(str, step.shape)), f"{step.bytes / 1e6:.2f}")
            for step in self.steps
        ]
        rows.insert(0, ("module", "step", "result", "MB"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        lines = [
            "  ".join(f"{cell:<{w}}" for cell, w in zip(row[:3], widths, strict=False))
            + f"  {row[3]:>{widths[3]}}"
            for row in rows
        ]
        saved = f"{self.naive_memory / 1e6:.1f} MB side by side"
        lines.append(
            f"{len(rows) - 1} steps, {self.precision}; maps {self.peak_memory / 1e6:.1f} MB "
            f"({saved}), packed weights {self.weight_memory / 1e6:.1f} MB"
        )
        if self.fallbacks:
            lines.append("run by torch:")
            lines += [f"  {name}: {reason}" for name, reason in self.fallbacks.items()]
        else:
            lines.append("no layer is left to torch")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.report()

    def __repr__(self) -> str:
        shapes = ", ".join(map(str, self.input_shapes))
        return f"<Plan of {len(self._parts['steps'])} steps for {shapes}, {self.precision}>"

    def save(self, path: str | Path) -> None:
        """Write the plan to a file in the format of safetensors, which `load_plan` reads.

        Parameters
        ----------
        path : str or Path
            An existing file is replaced once the new one is complete.

        Raises
        ------
        ValueError
            If torch runs some of its layers: those cannot be saved.
        """
        _file.write(Path(path), self.parts())

    def parts(self) -> dict[str, Any]:
        """What a file of it holds; weights as arrays."""
        if self._runner is not None:
            left = "; ".join(self.fallbacks)
            raise ValueError(f"save: plan must not leave layers to torch, got {left}")
        return self._parts


def load_plan(path: str | Path, *, threads: int | None = None) -> Plan | DetectorPlan:
    """Read a plan that `Plan.save` or `DetectorPlan.save` wrote. Needs NumPy alone.

    Parameters
    ----------
    path : str or Path
    threads : int, optional
        How many threads it uses. Default: the package's setting when it is called.

    Returns
    -------
    Plan or DetectorPlan

    Raises
    ------
    ValueError
        If the file is no plan, a damaged one, or one of another version of the format.

    Notes
    -----
    Nothing in the file is executed: it holds numbers, and names of steps that are known. Each
    step's sizes, weights and places in memory are checked against one another.
    """
    count = checked_threads("load_plan", threads)
    parts, mapping = _file.read(Path(path))
    try:
        if "stages" not in parts:
            return Plan({**parts, "threads": count}, mapping=mapping)
        from medseg_fast.nn._optimize._detector import DetectorPlan

        stages = {
            name: Plan({**stage, "threads": count}, mapping=mapping)
            for name, stage in parts["stages"].items()
        }
        return DetectorPlan(parts["detector"], stages)
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"{_file.damaged(path)}: {error}") from error


def checked_threads(op: str, threads: Any) -> int | None:
    """A number of threads, or None."""
    from medseg_fast import _checks

    return None if threads is None else _checks.integer(op, "threads", threads, 1, 1024)


def _aligned(count: int) -> Array:
    """Bytes that begin at a cache line."""
    block = np.empty(count + _ALIGNMENT, np.uint8)
    first = -block.ctypes.data % _ALIGNMENT
    return block[first : first + max(count, 1)]


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _rebuilt(structure: Any, leaves: Sequence[Any]) -> Any:
    """Results as the module puts them together: an index, or one of list, tuple and dict."""
    if isinstance(structure, int):
        return leaves[structure]
    ((kind, parts),) = structure.items()
    if kind == "dict":
        return {key: _rebuilt(each, leaves) for key, each in parts}
    built = [_rebuilt(each, leaves) for each in parts]
    return built if kind == "list" else tuple(built)
