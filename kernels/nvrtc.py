"""NVRTC without a GPU or a driver: machine code and its use of resources for any architecture.

It looks for the library of the package ``nvidia-cuda-nvrtc`` (CUDA 13) or
``nvidia-cuda-nvrtc-cu12``, then for that of an installed CUDA toolkit.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from medseg_fast.kernels.source import OPTIONS, Source


class Usage(NamedTuple):
    """What the machine code of one kernel takes: per thread, `shared` bytes per block."""

    registers: int
    spilled: int
    stack: int
    shared: int


class Missing(RuntimeError):
    """There is no NVRTC on this machine."""


def available() -> bool:
    """Whether the library is found."""
    try:
        _library()
    except Missing:
        return False
    return True


@lru_cache(maxsize=1)
def _library() -> Any:
    names = ["libnvrtc.so.13", "libnvrtc.so.12"]
    spec = find_spec("nvidia")
    roots = list(spec.submodule_search_locations or []) if spec else []
    found = [str(file) for root in roots for name in names for file in Path(root).rglob(name)]
    for name in [*found, *names, "libnvrtc.so"]:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise Missing("NVRTC is not installed: pip install nvidia-cuda-nvrtc")


def compile_for(
    source: Source, architecture: int, expressions: Iterable[str] | None = None
) -> dict[str, Usage]:
    """Compile a source's kernels for ``sm_<architecture>``; what each takes, by expression.

    Raises RuntimeError with the compiler's messages.
    """
    library, program = _library(), ctypes.c_void_p()
    wanted = list(source.expressions() if expressions is None else expressions)

    def check(code: int, what: str = "") -> None:
        if code:
            library.nvrtcGetErrorString.restype = ctypes.c_char_p
            reason = library.nvrtcGetErrorString(code).decode()
            raise RuntimeError(f"{source.file} for sm_{architecture}: {reason}\n{what}")

    text, name = source.text().encode(), source.file.encode()
    check(library.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
    try:
        for expression in wanted:
            check(library.nvrtcAddNameExpression(program, expression.encode()))
        options = [*OPTIONS, f"--gpu-architecture=sm_{architecture}", "--ptxas-options=-v"]
        encoded = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        code = library.nvrtcCompileProgram(program, len(options), encoded)
        size = ctypes.c_size_t()
        check(library.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        check(library.nvrtcGetProgramLog(program, log))
        messages = log.value.decode()
        check(code, messages)
        lowered = {}
        for expression in wanted:
            symbol = ctypes.c_char_p()
            check(library.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(symbol)))
            lowered[(symbol.value or b"").decode()] = expression
        used = _usages(messages)
        return {expression: used[symbol] for symbol, expression in lowered.items()}
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _usages(log: str) -> dict[str, Usage]:
    """What ``ptxas -v`` says, by symbol."""
    found = {}
    for part in log.split("Compiling entry function '")[1:]:

        def number(pattern: str, part: str = part) -> int:
            match = re.search(pattern, part)
            return int(match[1]) if match else 0

        found[part.partition("'")[0]] = Usage(
            registers=number(r"Used (\d+) registers"),
            spilled=number(r"(\d+) bytes spill stores"),
            stack=number(r"(\d+) bytes stack frame"),
            shared=number(r"(\d+) bytes smem"),
        )
    return found
