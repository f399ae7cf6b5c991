"""Builds the C++ core once per instruction set; all else is in pyproject.toml."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
BUILD_INFO = Path("medseg_fast", "_build_info.py")
SOURCES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.cpp"))
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("**/*.hpp"))

# The same sources, one module per instruction set; medseg_fast/_cpu.py picks one at import.
ISA_FLAGS = {"baseline": [], "avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISA_FLAGS["baseline"] = ["-march=x86-64-v2"]
else:
    ISA_FLAGS = {"baseline": []}

# No contraction and no fast-math: all builds must give the same bytes. -fno-trapping-math lets the
# compiler turn comparisons into masks; it changes no value.
FLAGS = ["-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
FLAGS += ["-Wall", "-Wextra", "-MMD", "-pthread"]


def needs_recompile(obj: str, src: str) -> bool:
    """Whether an object is older than a file that its dependency list (-MMD) names."""
    object_file, dependencies = Path(obj), Path(obj).with_suffix(".d")
    if not (object_file.exists() and dependencies.exists()):
        return True
    built = object_file.stat().st_mtime
    names = dependencies.read_text().replace("\\\n", " ").split(":", 1)[1].split()
    return any(
        not Path(name).exists() or Path(name).stat().st_mtime > built
        for name in [*names, "setup.py"]
    )


class BuildExt(build_ext):
    """Compiles the builds side by side, each in a folder of its own: sources are shared."""

    def build_extensions(self):
        self.parallel = self.parallel or len(self.extensions)
        super().build_extensions()

    def build_extension(self, ext):
        command = copy.copy(self)
        command.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(command, ext)


def commit() -> str:
    """Commit of this checkout; in an unpacked sdist the one that was recorded there."""
    if (ROOT / ".git").exists():
        git = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
        done = subprocess.run(git, capture_output=True, text=True, check=False)
        return done.stdout.strip()
    recorded = ROOT / BUILD_INFO
    return recorded.read_text().partition("'")[2].partition("'")[0] if recorded.exists() else ""


class BuildPy(build_py):
    """Records the commit in the wheel; an editable install asks git instead."""

    def run(self):
        super().run()
        if not self.editable_mode:
            (Path(self.build_lib) / BUILD_INFO).write_text(f"COMMIT = {commit()!r}\n")


class Sdist(sdist):
    """Records the commit in the source archive, which has no git."""

    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        (Path(base_dir) / BUILD_INFO).write_text(f"COMMIT = {commit()!r}\n")


def extension(isa: str) -> Pybind11Extension:
    extra = os.environ.get("MEDSEG_FAST_CXXFLAGS", "").split()  # tests/sanitize.sh
    return Pybind11Extension(
        f"medseg_fast._core_{isa}",
        SOURCES,
        include_dirs=["csrc"],
        depends=[*HEADERS, "setup.py"],
        cxx_std=20,
        define_macros=[("MSF_MODULE", f"_core_{isa}"), ("MSF_ISA", f'"{isa}"')],
        extra_compile_args=[*FLAGS, *ISA_FLAGS[isa], *extra],
        extra_link_args=["-pthread", *(extra or ["-Wl,-s"])],  # a sanitizer wants symbols
    )


# Developers: one is quicker.
wanted = os.environ.get("MEDSEG_FAST_BUILD_ISA", ",".join(ISA_FLAGS)).split(",")
jobs = -(-(os.cpu_count() or 1) // len(wanted))
ParallelCompile("MAX_JOBS", default=jobs, needs_recompile=needs_recompile).install()
setup(
    ext_modules=[extension(isa) for isa in wanted],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": Sdist},
)
