"""Picks the build of the C++ core: the widest instruction set built that this CPU has."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_VARIABLE = "MEDSEG_FAST_ISA"
# What the compiler may use in each build (x86-64 psABI levels v3 and v4), in NumPy's names.
_FEATURES = {
    "avx512": ("AVX512F", "AVX512CD", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX2", "FMA3"),
    "avx2": ("AVX2", "FMA3", "F16C"),
    "baseline": (),
}


def cpu_features() -> dict[str, bool]:
    """CPUID as NumPy read it at import (it also asks the operating system about register state)."""
    try:
        umath = import_module("numpy._core._multiarray_umath")
    except ImportError:  # NumPy 1.26
        umath = import_module("numpy.core._multiarray_umath")
    return dict(umath.__cpu_features__)


def builds() -> list[str]:
    """Instruction sets this installation was built for, widest first."""
    return [isa for isa in _FEATURES if find_spec(f"medseg_fast._core_{isa}")]


def runnable(isa: str) -> bool:
    """Whether this CPU can run the build."""
    have = cpu_features()
    return all(have.get(feature, False) for feature in _FEATURES[isa])


def load() -> Any:
    """Import the build of the core that this process uses."""
    forced = os.environ.get(_VARIABLE)
    present = builds()
    if forced:
        if forced not in present:
            raise ImportError(f"{_VARIABLE}={forced!r}: this installation has {', '.join(present)}")
        if not runnable(forced):
            missing = [f for f in _FEATURES[forced] if not cpu_features().get(f, False)]
            raise ImportError(f"{_VARIABLE}={forced!r}: this CPU lacks {', '.join(missing)}")
        return import_module(f"medseg_fast._core_{forced}")
    for isa in present:
        if runnable(isa):
            return import_module(f"medseg_fast._core_{isa}")
    raise ImportError(
        "medseg_fast: no compiled core found; install the package (pip install .), "
        "do not import it from its source folder"
    )


core = load()
