"""One set of threads for PyTorch's loops and ours."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from medseg_fast._cpu import core


@contextmanager
def one_crew() -> Iterator[None]:
    """Run our loops on PyTorch's threads.

    OpenMP's threads look out for their next loop for milliseconds, on the CPUs that ours would
    need meanwhile.
    """
    before = core.set_crew(openmp_crew())
    try:
        yield
    finally:
        core.set_crew(before)


@cache
def openmp_crew() -> int:
    """Address of the GOMP_parallel that PyTorch calls; 0 where it has none."""
    for library in (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*"):
        try:
            function = ctypes.CDLL(str(library)).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0
