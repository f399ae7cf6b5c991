"""CUDA sources of this folder: their text, and the kernels that each is compiled to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
SOURCES: dict[str, Source] = {}

_C_TYPES = {
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "float32": "float",
    "float64": "double",
}
PIXELS = tuple(map(np.dtype, _C_TYPES))  # a bool image goes as uint8, float16 as float32
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
FEATURES = (np.dtype(np.float16), *FLOATS)  # float16 as Half of half.cuh
INDICES = (np.dtype(np.int32), np.dtype(np.int64))

# Results equal the CPU's bit by bit where no product is contracted with a sum.
OPTIONS = ("--std=c++17", "--fmad=false")


class Source:
    """One ``.cuh`` file and the instantiations of its kernels that operations launch.

    `kernels` gives for each kernel the choices for its template arguments, dtypes or integers:
    ``convert=(PIXELS, FLOATS)`` is twenty kernels, ``flatten=()`` is one without a template.
    """

    def __init__(self, file: str, **kernels: Iterable[Iterable[Any]]) -> None:
        self.file = file
        self.kernels = {name: [tuple(choice) for choice in axes] for name, axes in kernels.items()}
        SOURCES[file] = self

    def text(self) -> str:
        """The source with its includes in place: NVRTC needs no folder, a cache only the text."""
        return _expand(self.file, set())

    def expression(self, kernel: str, *arguments: Any) -> str:
        """The C++ name of an instantiation: ``in_range<unsigned char>``."""
        axes = self.kernels[kernel]
        given = tuple(a if isinstance(a, int) else np.dtype(a) for a in arguments)
        if len(given) != len(axes) or any(a not in axis for a, axis in zip(given, axes)):  # noqa: B905
            raise LookupError(f"{self.file}: {kernel} has no instantiation for {arguments}")
        return _expression(kernel, given)

    def expressions(self) -> Iterator[str]:
        """All instantiations."""
        for kernel, axes in self.kernels.items():
            for arguments in product(*axes):
                yield _expression(kernel, arguments)


def _expression(kernel: str, arguments: tuple[Any, ...]) -> str:
    if not arguments:
        return kernel
    names = {"float16": "Half", **_C_TYPES}
    parts = [str(a) if isinstance(a, int) else names[a.name] for a in arguments]
    return f"{kernel}<{', '.join(parts)}>"


def _expand(file: str, seen: set[str]) -> str:
    seen.add(file)

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        return _expand(name, seen) if (FOLDER / name).suffix == ".cuh" else match[0]

    text = (FOLDER / file).read_text().replace("#pragma once\n", "")
    return re.sub(r'^#include "([\w./]+)"$', put, text, flags=re.M)
