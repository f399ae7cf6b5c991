"""Plans in files of safetensors' format: steps as JSON in the metadata, weights as tensors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_KEY = "medseg_fast.plan"
_VERSION = 1
# Methods of the core's plan that a file may call.
_CALLS = (
    "adaptive_means",
    "convolution",
    "gather",
    "normalise",
    "pointwise",
    "pool",
    "resize",
    "softmax",
    "unpool",
)


def write(path: Path, parts: dict[str, Any]) -> None:
    """All parts of a plan; arrays among its steps' arguments become tensors."""
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
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(len(text).to_bytes(8, "little"))
            file.write(text)
            for tensor in tensors:
                file.write(tensor.data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """The parts of a plan."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size - 8:
                raise ValueError("too short")
            header = json.loads(file.read(length))
        parts: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
        version = parts["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"load_plan: path must name a saved plan, {path} is none") from error
    if version != _VERSION:
        raise ValueError(f"load_plan: path must name a plan of version {_VERSION}, got {version}")
    data = (
        np.memmap(path, np.uint8, "r", 8 + length) if size > 8 + length else np.empty(0, np.uint8)
    )

    def arrays(value: Any) -> Any:
        if isinstance(value, dict) and "tensor" in value:
            entry = header[str(value["tensor"])]
            begin, end = entry["data_offsets"]
            if end > data.size or entry["dtype"] != "F32":
                raise ValueError(f"load_plan: {path} is damaged")
            return np.ascontiguousarray(data[begin:end].view("<f4").reshape(entry["shape"]))
        if isinstance(value, list):
            return [arrays(each) for each in value]
        return value

    for step in parts["steps"]:
        if step["call"] not in _CALLS:
            raise ValueError(f"load_plan: {path} is damaged: no step {step['call']!r}")
        step["arguments"] = [arrays(each) for each in step["arguments"]]
    return parts
