"""The kernels of planted.cuh by name; run as a program it launches one of them.

python _planted.py reverse out_of_bounds
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from _shim import SCHEDULES, ShimModule
from medseg_fast.kernels.source import FOLDER

BUGS = "none missing_barrier plain_update lost_update out_of_bounds shared_out_of_bounds".split()
BUGS += ["early_exit", "deadlock"]


def module() -> ShimModule:
    text = (FOLDER / "device.cuh").read_text() + Path(__file__).with_name("planted.cuh").read_text()
    text = text.replace('#include "device.cuh"', "").replace("#pragma once", "")
    kernels = [f"{name}<{i}>" for name in ("reverse", "count") for i in range(len(BUGS))]
    return ShimModule(text, [*kernels, "collectives"])


def is_right(built: ShimModule, kernel: str, bug: str, seed: int) -> bool:
    """Launch under one schedule; whether the result is what it should be."""
    built.library.shim_set_seed(seed)
    launch = built.get_function(f"{kernel}<{BUGS.index(bug)}>")
    if kernel == "reverse":
        given = np.arange(1, 65, dtype=np.int32)
        result = np.zeros(64, np.int32)
        launch((1,), (64,), (given, result))
        return np.array_equal(result, given[::-1])
    given = (np.arange(500) % 3).astype(np.int32)
    total = np.zeros(1, np.int32)
    launch((8,), (64,), (given, total, np.int32(500)))
    return bool(total[0] == np.count_nonzero(given))


if __name__ == "__main__":
    built = module()
    for seed in range(SCHEDULES):
        assert is_right(built, "reverse", "none", seed)
        assert is_right(built, "count", "none", seed)
    print("right kernels pass", flush=True)
    is_right(built, *sys.argv[1:], 0)
