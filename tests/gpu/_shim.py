"""Runs CUDA kernels on the CPU: builds kernels/shim with g++ and launches as CuPy would.

Libraries are kept in the system's temporary folder under the hash of what they are made of.
MEDSEG_FAST_SHIM=address, =undefined or =thread builds with that sanitizer; `sanitized` starts such
a process, and `python tests/gpu/sanitize.py address` runs the tests in one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medseg_fast.kernels.source import FOLDER, Source

from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _device

ON_GPU = os.environ.get("MEDSEG_FAST_TESTS") == "gpu"  # in place of the simulator (_real_gpu.py)
_KIND = os.environ.get("MEDSEG_FAST_SHIM", "")
SCHEDULES = 2 if _KIND else 8  # a sanitizer sees what is not ordered, whatever the schedule
_FLAGS = ["-std=c++20", "-O1", "-g1", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing"]
_SANITIZE = {
    "": [],
    "address": ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "undefined": ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-fsanitize=thread"],
}
_FOLDER = Path(tempfile.gettempdir(), f"medseg_fast_shim_{os.getuid()}")

needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or os.uname().machine != "x86_64",
    reason="the shim needs g++ on x86-64",
)


class ShimError(RuntimeError):
    """A launch that a GPU would not survive: a deadlock, a thread that others wait for in vain."""


def _build(name: str, command: list[str], text: str) -> Path:
    """The output of a compiler's command, run once for the same command and text."""
    key = hashlib.sha256("\0".join([*command, text]).encode()).hexdigest()[:20]
    file = _FOLDER / f"{key}_{name}"
    if not file.exists():
        _FOLDER.mkdir(exist_ok=True, mode=0o700)
        part = file.with_name(f"{os.getpid()}_{file.name}")
        done = subprocess.run([*command, "-o", part], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        part.replace(file)
    return file


def _engine() -> Path:
    text = "".join((FOLDER / "shim" / name).read_text() for name in ("shim.hpp", "engine.cpp"))
    command = ["g++", *_FLAGS, "-O2", "-c", f"-I{FOLDER}/shim", str(FOLDER / "shim/engine.cpp")]
    return _build("engine.o", command, text)


class ShimModule:
    """A source and its kernels, with the interface of ``cupy.RawModule``."""

    def __init__(self, text: str, expressions: Sequence[str]) -> None:
        self.numbers = {expression: i for i, expression in enumerate(expressions)}
        exports = [
            f'extern "C" const char* call_{i}(const unsigned* grid, const unsigned* block,'
            "std::size_t dynamic, void** values) {"
            f"return shim::start(&{kernel}, grid, block, dynamic, values); }}"
            f'extern "C" const char* signature_{i}() {{ return shim::signature(&{kernel}); }}'
            for kernel, i in self.numbers.items()
        ]
        header = hashlib.sha256((FOLDER / "shim/shim.hpp").read_bytes()).hexdigest()
        whole = f"// {header}\n" + "\n".join([text, *exports])
        command = ["g++", *_FLAGS, *_SANITIZE[_KIND], "-D__MSF_SHIM__", "-shared"]
        command += [f"-I{FOLDER}/shim", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
        command += ["-x", "c++", "-", "-x", "none", str(_engine())]
        self.library = ctypes.CDLL(str(_build("kernels.so", command, whole)))

    def get_function(self, expression: str) -> Launch:
        return Launch(self, expression)


class Launch:
    """``f(grid, block, args)``: what CuPy's kernels look like to whoever launches them."""

    def __init__(self, module: ShimModule, expression: str) -> None:
        number = module.numbers[expression]
        self.expression, self.module = expression, module
        self.call = getattr(module.library, f"call_{number}")
        signature = getattr(module.library, f"signature_{number}")
        self.call.restype = signature.restype = ctypes.c_char_p
        self.parameters = signature().decode().split()

    def __call__(
        self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any], shared_mem: int = 0
    ) -> None:
        given = [_describe(a) for a in args]
        assert all(a.flags.c_contiguous for a in args if isinstance(a, np.ndarray))
        if given != self.parameters:  # on a GPU it would read garbage
            raise TypeError(f"{self.expression}: wants {self.parameters}, got {given}")
        if max(grid[1:], default=0) > _device.MOST_SECOND:  # a GPU launches nothing then
            raise ValueError(f"{self.expression}: too many blocks along an axis, {grid}")
        cells = [
            ctypes.c_void_p(a.ctypes.data if a.size else None)  # as CuPy's empty arrays
            if isinstance(a, np.ndarray)
            else ctypes.create_string_buffer(a.tobytes(), a.nbytes)
            for a in args
        ]
        pointers = (ctypes.c_void_p * len(cells))(*map(ctypes.addressof, cells))
        extents = [(ctypes.c_uint * 3)(*(*e, 1, 1, 1)[:3]) for e in (grid, block)]
        error = self.call(*extents, ctypes.c_size_t(shared_mem), pointers)
        if error is not None:
            raise ShimError(f"{self.expression}: {error.decode()}")


def _describe(value: Any) -> str:
    """An argument in the words of shim::signature; it takes a bool array for bytes."""
    kind = {"b": "u"}.get(value.dtype.kind, value.dtype.kind)
    return f"{'p' if isinstance(value, np.ndarray) else ''}{kind}{value.dtype.itemsize}"


class ShimDevice:
    """The `Device` of tests."""

    xp = np
    array = np.ndarray

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.launched: list[str] = []

    def kernel(self, source: Source, name: str, *arguments: Any) -> Launch:
        module, expression = _module(source), source.expression(name, *arguments)
        module.library.shim_set_seed(self.seed)
        self.launched.append(expression)
        return module.get_function(expression)

    def constant(self, array: np.ndarray[Any, Any]) -> Any:
        return array.copy()


@cache
def _module(source: Source) -> ShimModule:
    return ShimModule(source.text(), list(source.expressions()))


def on_device(
    op: Any, args: Sequence[Any], kwargs: dict[str, Any], seed: int = 0
) -> tuple[Any, list[str]]:
    """The result of an operation's kernels, and the names of those that were launched."""
    if ON_GPU:
        import _real_gpu

        return _real_gpu.on_gpu(op, args, kwargs)
    device = ShimDevice(seed)
    return op.on_gpu(device, args, kwargs), device.launched


def on_shim(name: str, *args: Any, schedules: int = SCHEDULES, **kwargs: Any) -> Any:
    """The result of an operation's kernels, the same under every schedule."""
    op = OPERATIONS[name]
    seeds = range(min(schedules, 2) if ON_GPU else schedules)
    results = [on_device(op, args, kwargs, seed)[0] for seed in seeds]
    for result in results[1:]:
        _assert_same(result, results[0])
    return results[0]


def _assert_same(one: Any, other: Any) -> None:
    if isinstance(one, (tuple, list)):
        for a, b in zip(one, other, strict=True):
            _assert_same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def sanitized(kind: str, *command: str, timeout: float = 500) -> subprocess.CompletedProcess[str]:
    """Run Python with a sanitizer's library and the kernels built for it."""
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name=lib{name}.so"], text=True).strip()
        for name in ({"address": "asan", "undefined": "ubsan", "thread": "tsan"}[kind], "stdc++")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "MEDSEG_FAST_SHIM": kind,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1 exitcode=66 report_signal_unsafe=0",
        "PYTHONMALLOC": "malloc",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    return subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=timeout
    )


def report_of(done: subprocess.CompletedProcess[str]) -> str:
    """The line in which a sanitizer says what it found; empty if it found nothing."""
    found = re.search(r"^SUMMARY: .*|^.*runtime error: .*", done.stderr + done.stdout, re.M)
    return found[0] if found else ""
