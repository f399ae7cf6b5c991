"""What gets installed, and what importing it costs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

import medseg_fast as ms
from medseg_fast import _cpu

PACKAGE = Path(ms.__file__).parent
ROOT = PACKAGE.parent


def test_import_brings_in_nothing_but_numpy():
    script = (
        "import sys, numpy; before = set(sys.modules); import medseg_fast;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    new = set(done.stdout.split()) - sys.stdlib_module_names
    assert "medseg_fast" in new
    assert new <= {"medseg_fast", "numpy"}


@pytest.fixture(scope="module")
def pyproject():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs the sources")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_numpy_is_the_only_dependency(pyproject):
    assert [re.match(r"[\w-]+", r)[0] for r in pyproject["project"]["dependencies"]] == ["numpy"]


def test_only_tests_have_upper_bounds(pyproject):
    extras = pyproject["project"]["optional-dependencies"]
    assert set(extras) == set("io nn jit stream cuda12 cuda13 all test bench dev".split())
    # What follows ";" says for which Python a package is needed.
    bounded = {
        extra
        for extra, names in extras.items()
        if any("<" in name.partition(";")[0] for name in names)
    }
    assert bounded == {"test"}


def test_every_extra_is_explained_in_the_readme(pyproject):
    readme = (ROOT / "README.md").read_text()
    assert not [x for x in pyproject["project"]["optional-dependencies"] if f"`{x}`" not in readme]


def test_every_package_of_the_tree_is_installed(pyproject):
    found = {".".join(init.parent.relative_to(ROOT).parts) for init in PACKAGE.rglob("__init__.py")}
    assert found | {"medseg_fast.kernels"} == set(pyproject["tool"]["setuptools"]["packages"])


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs binutils")
@pytest.mark.parametrize(
    ("isa", "registers"), [("baseline", "[yz]mm"), ("avx2", "zmm")], ids=["baseline", "avx2"]
)
def test_no_wider_instructions_leak_into_a_build(isa, registers):
    """Such a build would crash on the CPUs that it is for."""
    if isa not in _cpu.builds() or "x86" not in os.uname().machine:
        pytest.skip("not built here")
    file = find_spec(f"medseg_fast._core_{isa}").origin
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", file], capture_output=True, text=True, check=True
    ).stdout
    assert "xmm0" in listing
    assert not re.search(f"%{registers}", listing)


@pytest.mark.slow
def test_wheel_and_sdist(tmp_path, pyproject):
    """The sdist builds by itself, into a wheel that has everything and nothing else."""
    environment = {**os.environ, "MEDSEG_FAST_BUILD_ISA": "baseline"}
    script = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, tmp_path], cwd=ROOT, check=True, env=environment)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"csrc/kernels.hpp", "csrc/bindings.cpp", "kernels/__init__.py", "LICENSE"} <= names
    assert {"kernels/device.cuh", "kernels/shim/engine.cpp", "kernels/shim/shim.hpp"} <= names
    assert {"setup.py", "tests/conftest.py", "benchmarks/_cases.py", "README.md"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]

    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-w", tmp_path, sdist], check=True, env=environment, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        commit = archive.read("medseg_fast/_build_info.py").decode()
    here = {
        str(file.relative_to(ROOT))
        for file in PACKAGE.rglob("*")
        if file.is_file() and file.suffix not in (".so", ".pyc")
    }
    assert here <= names
    assert "medseg_fast/py.typed" in names
    assert "medseg_fast/kernels/__init__.py" in names
    sources = [file for file in (ROOT / "kernels").iterdir() if file.suffix in (".py", ".cuh")]
    assert {f"medseg_fast/kernels/{file.name}" for file in sources} <= names
    assert len([name for name in names if name.endswith(".so")]) == 1
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == {"medseg_fast"}
    assert re.search(r"COMMIT = '[0-9a-f]{40}'", commit)


@pytest.mark.parametrize("name", "augment data io metrics measure nn reference stream".split())
def test_parts_need_no_import_of_their_own(name):
    code = f"import medseg_fast as ms; assert ms.{name}.__name__ == 'medseg_fast.{name}'"
    subprocess.run([sys.executable, "-c", code], check=True)
