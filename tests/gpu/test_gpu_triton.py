"""Triton's kernels: right in the interpreter, compiled for real chips, without spills."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

ARCHITECTURES = (80, 90, 100)


def test_the_interpreter_gives_what_the_cpu_gives():
    program = Path(__file__).with_name("_triton_cases.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-6000:]
    assert "are right" in done.stdout


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids="sm_{}".format)
def test_compiles_and_spills_nothing(architecture, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from medseg_fast.kernels import triton_ahead

    for wanted in triton_ahead.specialisations():
        used = triton_ahead.compile_for(wanted, architecture)
        assert used.registers > 0, wanted.name
        assert (used.spilled, used.stack) == (0, 0), wanted.name
