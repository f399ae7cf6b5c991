"""The benchmark's measuring path, with the simulator in the GPU's place: no time is claimed."""

from __future__ import annotations

import contextlib
import sys
import types
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules

import numpy as np
import pytest
from _shim import ShimDevice, needs_compiler

import medseg_fast as ms
from medseg_fast import _dispatch, _gpu

pytestmark = needs_compiler


class DeviceArray(np.ndarray):
    """An array that only operations with kernels for GPUs may take."""

    device = contextlib.nullcontext()

    def get(self):
        return np.asarray(self)


class Event:
    count = 0

    def record(self):
        Event.count += 1

    def synchronize(self):
        pass


@pytest.fixture
def benchmark_of_gpus(monkeypatch):
    """The program, in a process whose CuPy is NumPy and whose kernels the shim runs."""
    runtime = types.SimpleNamespace(
        CUDARuntimeError=RuntimeError,
        getDeviceCount=lambda: 1,
        getDeviceProperties=lambda number: {"name": b"Simulator"},
        runtimeGetVersion=lambda: 0,
    )
    cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=lambda: types.SimpleNamespace(id=0),
        Event=Event,
        get_elapsed_time=lambda begin, end: 1.0,
    )
    fake = types.SimpleNamespace(
        __version__="0",
        cuda=cuda,
        ndarray=DeviceArray,
        asarray=lambda array: array.view(DeviceArray),
        zeros=np.zeros,
        empty_like=np.empty_like,
        copyto=np.copyto,
        uint8=np.uint8,
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "medseg_fast._cupy", raising=False)
    monkeypatch.delattr(ms, "_cupy", raising=False)
    from medseg_fast import _cupy

    monkeypatch.setattr(_cupy, "CupyDevice", ShimDevice)
    monkeypatch.setattr(
        _dispatch, "_route", lambda value: _cupy.call if isinstance(value, DeviceArray) else None
    )
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    spec = spec_from_file_location("benchmark_of_gpus", path)
    program = sys.modules["benchmark_of_gpus"] = module_from_spec(spec)
    spec.loader.exec_module(program)
    monkeypatch.setattr(program, "ROUNDS", (1, 1))
    monkeypatch.setattr(program, "COPIED", 1 << 10)
    yield program
    for name in ("medseg_fast._cupy", "benchmark_of_gpus"):
        sys.modules.pop(name, None)
    del ms._cupy


def tiny(program):
    return program.Sizes((24,), 10, (70,), 40, 5, 3, 12, 4, 6, 20)


def test_it_measures_every_module_of_kernels(benchmark_of_gpus, tmp_path, capsys):
    target = tmp_path / "gpu.md"
    assert benchmark_of_gpus.main(tiny(benchmark_of_gpus), target) == 0
    lines = target.read_text().splitlines()
    assert lines[0] == "# GPU kernels on Simulator"
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and " ms " not in line]
    rows = [row for row in rows if row[2] == "medseg_fast"]
    assert all(row[3] == "1.000" and row[5].endswith("% |") for row in rows)
    timed = {_dispatch.OPERATIONS[row[0].removeprefix("| ")].gpu for row in rows}
    known = {module.name for module in iter_modules(_gpu.__path__) if module.name[0] != "_"}
    assert timed == known
    assert {row[4] for row in rows} == {"", "1.00x"}
    assert "| threshold | uint8 24 x 24 | cupy | 1.000 |" in target.read_text()
    assert f"wrote {target}" in capsys.readouterr().out


def test_a_wrong_result_is_not_timed(benchmark_of_gpus, monkeypatch):
    def differs(image, t):
        mask = np.asarray(image) >= t
        return ~mask if isinstance(image, DeviceArray) else mask

    case = next(benchmark_of_gpus.cases(tiny(benchmark_of_gpus)))._replace(operation=differs)
    monkeypatch.setattr(benchmark_of_gpus, "between_events", lambda *a: pytest.fail("timed"))
    with pytest.raises(AssertionError):
        benchmark_of_gpus.run(case, sys.modules["cupy"])


def test_a_rival_that_fails_is_a_row(benchmark_of_gpus):
    case = next(benchmark_of_gpus.cases(tiny(benchmark_of_gpus)))

    def rival(image, t):
        raise MemoryError

    case = case._replace(rivals=benchmark_of_gpus.rivals(broken=rival))
    rows = benchmark_of_gpus.run(case, sys.modules["cupy"])
    assert rows[1] == "| threshold | uint8 24 x 24 | broken | MemoryError | | |"
