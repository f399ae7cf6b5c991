"""Peak memory of a call beyond its arguments, as the operating system sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

_SCRIPT = """
import gc
import numpy as np
import medseg_fast as ms

def peak():
    for line in open("/proc/self/status"):
        if line.startswith(("VmHWM", "VmRSS")):
            yield int(line.split()[1]) * 1024

{setup}
ms.set_num_threads({threads})
{warm}
gc.collect()
open("/proc/self/clear_refs", "w").write("5")  # the peak starts from what is resident now
_, before = peak()
result = {call}
after, _ = peak()
print((after - before) / {pixels})
"""


def peak_bytes_per_pixel(
    call: str,
    *,
    setup: str,
    pixels: str = "image.size",
    warm: str = "",
    threads: int = 1,
    timeout_s: float = 120,
) -> float:
    """Peak extra bytes per pixel of `call`, its result included, in a fresh process.

    `setup` makes the arguments (``np`` and ``ms`` are there) and must write every page of them.
    `warm` runs before the measurement, on something small, so that code and tables that are loaded
    once do not count.

    >>> peak_bytes_per_pixel("ms.threshold(image, 3)", setup="image = np.ones((4000, 4000))")
    1.0
    """
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    script = _SCRIPT.format(
        setup=textwrap.dedent(setup), call=call, pixels=pixels, warm=warm, threads=threads
    )
    # Freed blocks go back at once, and every large one is a mapping of its own.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    environment["MEDSEG_FAST_KEPT_MEMORY"] = "0"
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)
