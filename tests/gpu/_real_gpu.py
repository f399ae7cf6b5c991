"""The tests' arrays on a real GPU, where MEDSEG_FAST_TESTS=gpu asks for it and CuPy finds one.

Every differential test of this folder then runs there in place of the simulator. As a program it
compiles all kernels on all CPUs first, which CuPy keeps on disk:

    python tests/gpu/_real_gpu.py
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pkgutil import iter_modules
from typing import Any

import numpy as np

# Parameters that are given on the host.
_HOST = {"seeds", "seed_point", "footprint", "structure", "connectivity", "sampling", "spacing"}
_HOST |= {"new_spacing", "sigma", "mode", "size", "output_size", "input_size", "image_shape"}


class Recorder:
    """CuPy's device, and the kernels that were launched on it."""

    def __init__(self) -> None:
        from medseg_fast import _cupy

        self._device = _cupy.CupyDevice()
        self.xp, self.array, self.constant = _cupy.cupy, _cupy.cupy.ndarray, self._device.constant
        self.launched: list[str] = []

    def kernel(self, source: Any, name: str, *arguments: Any) -> Any:
        self.launched.append(source.expression(name, *arguments))
        return self._device.kernel(source, name, *arguments)


def on_gpu(op: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, list[str]]:
    """An operation's result on the GPU, in NumPy's hands, and the kernels it launched."""
    import cupy

    seen: list[tuple[Any, Any]] = []

    def there(value: Any) -> Any:
        if type(value) in (list, tuple):
            return type(value)(map(there, value))
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif":
            return value
        seen.append((value, cupy.asarray(value)))
        return seen[-1][1]

    def back(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(map(back, value))
        if not isinstance(value, cupy.ndarray):
            return value
        for host, device in seen:
            if device is value:
                return host
        return value.get()

    names = [*inspect.signature(op.body).parameters, *[""] * len(args)]
    given = [v if n in _HOST else there(v) for n, v in zip(names, args, strict=False)]
    named = {n: v if n in _HOST else there(v) for n, v in kwargs.items()}
    device = Recorder()
    result = op.on_gpu(device, given, named)
    for host, array in seen:  # out=, in_place=
        if host.flags.writeable:
            host[...] = array.get()
    return back(result), device.launched


def _compile(choice: tuple[str, str]) -> None:
    from medseg_fast.kernels.source import SOURCES

    from medseg_fast import _cupy

    _sources()
    _cupy._kernel(SOURCES[choice[0]], choice[1])


def _sources() -> dict[str, Any]:
    from medseg_fast.kernels.source import SOURCES

    from medseg_fast import _gpu

    for module in iter_modules(_gpu.__path__):
        import_module(f"medseg_fast._gpu.{module.name}")
    return SOURCES


def compile_all() -> int:
    """Compile every kernel; how many."""
    choices = [(file, name) for file, source in _sources().items() for name in source.expressions()]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        list(pool.map(_compile, choices))
    return len(choices)


if __name__ == "__main__":
    print(f"{compile_all()} kernels are compiled")
    sys.exit(0)
