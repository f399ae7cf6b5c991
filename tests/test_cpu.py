"""Which build of the core is used, and what happens when the wish cannot be met."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

import medseg_fast as ms
from medseg_fast import _cpu


def chosen(isa):
    """What a fresh process says when MEDSEG_FAST_ISA is set."""
    return subprocess.run(
        [sys.executable, "-c", "from medseg_fast._cpu import core; print(core.isa)"],
        env={**os.environ, "MEDSEG_FAST_ISA": isa},
        capture_output=True,
        text=True,
    )


def test_widest_runnable_build_is_the_default():
    assert chosen("").stdout.strip() == next(filter(_cpu.runnable, _cpu.builds()))


@pytest.mark.parametrize("isa", _cpu.builds())
def test_environment_variable_forces_a_build(isa):
    if not _cpu.runnable(isa):
        pytest.skip(f"this CPU cannot run {isa}")
    assert chosen(isa).stdout.strip() == isa


def test_unknown_build_fails_loudly():
    done = chosen("sse9")
    assert done.returncode == 1
    message = f"MEDSEG_FAST_ISA='sse9': this installation has {', '.join(_cpu.builds())}"
    assert message in done.stderr


def test_build_that_was_not_made_fails_loudly(monkeypatch):
    monkeypatch.setenv("MEDSEG_FAST_ISA", "avx512")
    monkeypatch.setattr(_cpu, "builds", lambda: ["baseline"])
    with pytest.raises(ImportError, match="'avx512': this installation has baseline"):
        _cpu.load()


def test_build_that_this_cpu_cannot_run_fails_loudly(monkeypatch):
    monkeypatch.setenv("MEDSEG_FAST_ISA", "avx2")
    monkeypatch.setattr(_cpu, "builds", lambda: ["avx2", "baseline"])
    monkeypatch.setattr(_cpu, "cpu_features", lambda: {"AVX2": True})
    with pytest.raises(ImportError, match="'avx2': this CPU lacks FMA3, F16C"):
        _cpu.load()


def test_old_cpu_gets_the_build_it_can_run(monkeypatch):
    monkeypatch.delenv("MEDSEG_FAST_ISA", raising=False)
    monkeypatch.setattr(_cpu, "builds", lambda: ["avx512", "baseline"])
    monkeypatch.setattr(_cpu, "cpu_features", lambda: {"AVX2": True, "FMA3": True, "F16C": True})
    if "baseline" in _cpu.builds():
        assert _cpu.load().isa == "baseline"


def test_source_folder_without_a_build_says_what_to_do(monkeypatch):
    monkeypatch.delenv("MEDSEG_FAST_ISA", raising=False)
    monkeypatch.setattr(_cpu, "builds", list)
    with pytest.raises(ImportError, match="no compiled core found; install the package"):
        _cpu.load()


def test_every_build_says_which_it_is():
    for isa in filter(_cpu.runnable, _cpu.builds()):
        assert import_module(f"medseg_fast._core_{isa}").isa == isa
    assert ms.show_config("dict")["build"]["chosen"] == _cpu.core.isa
