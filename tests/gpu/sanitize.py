"""The kernels of GPUs under one of g++'s sanitizers, in the simulator.

    python tests/gpu/sanitize.py address      memory errors and undefined behaviour
    python tests/gpu/sanitize.py undefined    undefined behaviour alone
    python tests/gpu/sanitize.py thread       data races: missing barriers, plain for atomic access

The kernels are built for the sanitizer, the engine that runs them is not. For the first two all
differential tests run again; the last, to which each CUDA thread is a thread, launches every kernel
on small inputs (_every_kernel.py). tests/sanitize.sh does the same for the C++ core.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from _shim import report_of, sanitized

KINDS = ("address", "undefined", "thread")
# Files without differential tests, or whose tests start processes of their own.
_WITHOUT = {"gates", "compiled", "dispatch", "triton", "technologies", "real", "benchmark"}


def run(kind: str) -> subprocess.CompletedProcess[str]:
    """The tests' process, which has ended."""
    here = Path(__file__).parent
    if kind == "thread":
        return sanitized(kind, str(here / "_every_kernel.py"), timeout=3000)
    found = sorted(here.glob("test_gpu_*.py"))
    files = [str(file) for file in found if file.stem.split("_")[-1] not in _WITHOUT]
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--capture=sys", *files]
    return sanitized(kind, *command, timeout=3000)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python {sys.argv[0]} {'|'.join(KINDS)}")
    done = run(sys.argv[1])
    print(done.stdout[-3000:], done.stderr[-6000:], report_of(done), sep="\n")
    sys.exit(done.returncode)
