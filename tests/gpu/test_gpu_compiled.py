"""Every kernel compiles for real chips, spills nothing, and is launched by some operation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import iter_modules

import pytest
from medseg_fast.kernels import nvrtc
from medseg_fast.kernels.source import FOLDER, SOURCES

from medseg_fast import _gpu
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._threads import available_cpus

ARCHITECTURES = (80, 90, 100)

for _module in iter_modules(_gpu.__path__):
    import_module(f"medseg_fast._gpu.{_module.name}")


needs_nvrtc = pytest.mark.skipif(
    not nvrtc.available(), reason="needs NVRTC: pip install nvidia-cuda-nvrtc"
)


@pytest.fixture(scope="module")
def compiled():
    """What each source's kernels take, by file and architecture; compiled on all CPUs."""
    with ThreadPoolExecutor(available_cpus()) as pool:
        yield {
            (file, architecture): pool.submit(nvrtc.compile_for, source, architecture)
            for file, source in SOURCES.items()
            for architecture in ARCHITECTURES
        }


@needs_nvrtc
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids="sm_{}".format)
@pytest.mark.parametrize("file", list(SOURCES))
def test_compiles_and_spills_nothing(compiled, file, architecture):
    used = compiled[file, architecture].result()
    assert set(used) == set(SOURCES[file].expressions())
    assert {name: u for name, u in used.items() if u.spilled or u.stack or not u.registers} == {}


@needs_nvrtc
def test_the_gate_sees_spills_and_errors(tmp_path, monkeypatch):
    from medseg_fast.kernels import source as module

    monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(module, "SOURCES", {})
    (tmp_path / "spilling.cuh").write_text(
        'extern "C" __global__ void __launch_bounds__(1024, 2) many(float* a, int n) {'
        "float x[64]; for (int i = 0; i < 64; ++i) x[i] = a[i * n];"
        "for (int k = 0; k < n; ++k) for (int i = 0; i < 64; ++i) x[i] = x[i] * x[(i + 7) % 64];"
        "for (int i = 0; i < 64; ++i) a[i * n] = x[i]; }"
    )
    assert nvrtc.compile_for(module.Source("spilling.cuh", many=()), 80)["many"].spilled > 0
    (tmp_path / "wrong.cuh").write_text("__global__ void wrong(int* a) { *a = missing; }")
    with pytest.raises(RuntimeError, match=r'wrong.cuh for sm_90: .*(\n.*)*"missing" is undefined'):
        nvrtc.compile_for(module.Source("wrong.cuh", wrong=()), 90)


def test_every_source_has_an_operation_that_launches_it():
    named = {op.gpu for op in OPERATIONS.values()} - {None}
    present = {module.name for module in iter_modules(_gpu.__path__)}
    assert named <= present
    for op in OPERATIONS.values():
        if op.gpu is not None:
            assert callable(getattr(import_module(f"medseg_fast._gpu.{op.gpu}"), op.name))
    files = {file.name for file in Path(FOLDER).glob("*.cuh")}
    included = {
        line.split('"')[1]
        for f in files
        for line in (FOLDER / f).read_text().splitlines()
        if line.startswith('#include "')
    }
    assert files - included - set(SOURCES) == set()


def test_the_report_knows_every_kernel():
    path = Path(__file__).parents[2] / "benchmarks" / "gpu_resources.py"
    spec = spec_from_file_location("gpu_resources", path)
    resources = module_from_spec(spec)
    spec.loader.exec_module(resources)
    kernels = {kernel for source in SOURCES.values() for kernel in source.kernels}
    assert set(resources.TRAFFIC) == kernels
    listed = path.with_suffix(".md").read_text()
    assert [kernel for kernel in kernels if f"`{kernel}`" not in listed] == []
