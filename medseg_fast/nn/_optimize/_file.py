"""Plans in files of safetensors' format: steps as JSON in the metadata, weights as tensors.

A plan's weights are mapped from its file: packing reads them once, and then their pages are given
back. A plan that comes from a model has a temporary file of its own, so that it neither keeps a
second copy of the weights in memory nor holds on to the model's, which may change.
"""

from __future__ import annotations

import json
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_KEY = "medseg_fast.plan"
_VERSION = 6
# Methods of the core's plan that a file may call.
_CALLS = (
    "adaptive_means",
    "attention",
    "convolution",
    "convolution8",
    "gather",
    "normalise",
    "pointwise",
    "pool",
    "resize",
    "softmax",
    "unpool",
)


def write(path: Path, parts: dict[str, Any]) -> None:
    """All parts of a plan; an existing file is replaced once the new one is complete."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            _write(file, parts)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def set_aside(parts: dict[str, Any]) -> tuple[dict[str, Any], mmap.mmap | None]:
    """The same parts with their weights in a temporary file, and its mapping, if there can be one.

    Otherwise the weights are copied.
    """
    try:
        with tempfile.TemporaryFile() as file:
            _write(file, parts)
            file.flush()
            found, mapping = _read(file, "the temporary file")
            return {**found, "threads": parts["threads"]}, mapping
    except OSError:
        steps = [
            {**step, "arguments": [np.array(a) if isinstance(a, np.ndarray) else a for a in args]}
            for step in parts["steps"]
            for args in (step["arguments"],)
        ]
        return {**parts, "steps": steps}, None


def forget(mapping: mmap.mmap | None) -> None:
    """Gives the pages of a file back, which will be read again if they are used again."""
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _write(file: Any, parts: dict[str, Any]) -> None:
    """Arrays among the parts become tensors."""
    tensors: list[NDArray[Any]] = []

    places: dict[int, int] = {}  # of an array that several steps share

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            if id(value) not in places:
                places[id(value)] = len(tensors)
                tensors.append(np.ascontiguousarray(value, "<f4"))
            return {"tensor": places[id(value)]}
        raise TypeError(f"save: cannot write a {type(value).__name__}")

    kept = {**parts, "version": _VERSION, "threads": None}
    header: dict[str, Any] = {"__metadata__": {_KEY: json.dumps(kept, default=plain)}}
    end = 0
    for i, tensor in enumerate(tensors):
        begin, end = end, end + tensor.nbytes
        header[str(i)] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for tensor in tensors:
        file.write(tensor.data)


def read(path: Path) -> tuple[dict[str, Any], mmap.mmap | None]:
    """The parts of a plan, and the mapping that its weights are in."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with path.open("rb") as file:
        return _read(file, str(path))


def _read(file: BinaryIO, name: str) -> tuple[dict[str, Any], mmap.mmap | None]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        length = int.from_bytes(file.read(8), "little")
        if length > size - 8:
            raise ValueError("too short")
        header = json.loads(file.read(length))
        parts: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
        version = parts["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"load_plan: path must name a saved plan, {name} is none") from error
    if version != _VERSION:
        raise ValueError(f"load_plan: path must name a plan of version {_VERSION}, got {version}")
    mapping = None
    data = np.empty(0, np.uint8)
    if size > 8 + length:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data = np.frombuffer(mapping, np.uint8, offset=8 + length)

    tensors = _Tensors(header, data)
    try:
        for plan in parts.get("stages", {"": parts}).values():
            for step in plan["steps"]:
                if step["call"] not in _CALLS:
                    raise ValueError(f"no step {step['call']!r}")
                step["arguments"] = list(map(tensors.put, step["arguments"]))
        if "detector" in parts:
            parts["detector"] = {key: tensors.put(each) for key, each in parts["detector"].items()}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{damaged(name)}: {error}") from error
    return parts, mapping


class _Tensors:
    """The arrays of a plan's file: one for all steps that share it."""

    def __init__(self, header: dict[str, Any], data: NDArray[Any]) -> None:
        self._header, self._data = header, data
        self._made: dict[str, NDArray[Any]] = {}

    def put(self, value: Any) -> Any:
        """A step's argument, with arrays in the place of their names."""
        if isinstance(value, dict) and "tensor" in value:
            name = str(value["tensor"])
            if name not in self._made:
                self._made[name] = self._read(self._header[name])
            return self._made[name]
        return list(map(self.put, value)) if isinstance(value, list) else value

    def _read(self, entry: dict[str, Any]) -> NDArray[Any]:
        begin, end = entry["data_offsets"]
        if end > self._data.size or entry["dtype"] != "F32":
            raise ValueError("a tensor is not there")
        return np.ascontiguousarray(self._data[begin:end].view("<f4").reshape(entry["shape"]))


def damaged(name: str | Path) -> str:
    """What is said of a file that is a plan in part."""
    return f"load_plan: path must name a whole plan, {name} is damaged"
