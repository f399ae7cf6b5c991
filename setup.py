"""Builds the C++ core once per instruction set; all else is in pyproject.toml."""

from __future__ import annotations

import copy
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from pybind11.setup_helpers import ParallelCompile, Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
BUILD_INFO = Path("medseg_fast", "_build_info.py")
SOURCES = {path.stem: str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").glob("*.cpp"))}
PRECOMPILED = os.path.join("csrc", "precompiled.hpp")
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("**/*.hpp"))

# The same sources, one module per instruction set; medseg_fast/_cpu.py picks one at import.
ISA_FLAGS = {"baseline": [], "avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISA_FLAGS["baseline"] = ["-march=x86-64-v2"]
else:
    ISA_FLAGS = {"baseline": []}

# Compiled once, for the baseline, and linked into every build: bindings, and kernels that follow
# queues, trees and unions. Vectors do nothing for these (AVX2 against baseline: 0.8 to 1.08 times
# the speed), and compiling them three times took a third of the installation.
SHARED = """
    bindings bindings_graph boundaries components descents histogram_peaks hysteresis maxflow
    multiotsu parallel reconstruction region region_growing seeded_region_growing sparse_graph
    threshold_explorer watershed watershed_compact watershed_flood watershed_hierarchy
    watershed_immersion watershed_setup
""".split()

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
    """Compiles each build in a folder of its own, and what the builds share in one more."""

    def build_extensions(self):
        shared = extension("baseline", SHARED)
        folder = self.precompile(shared, "shared")
        objects = self.compiler.compile(
            shared.sources,
            output_dir=folder,
            include_dirs=shared.include_dirs,
            extra_postargs=shared.extra_compile_args,
        )
        for ext in self.extensions:
            # Linked last: a build's own copy of an inline function comes before the baseline's.
            ext.extra_objects = objects
        super().build_extensions()

    def build_extension(self, ext):
        command = copy.copy(self)
        command.build_temp = self.precompile(ext, ext.name)
        build_ext.build_extension(command, ext)

    def precompile(self, ext, name):
        """Folder for a build's objects; it holds the standard headers, compiled with its flags.

        They take half of the time of a small source. A compiler that finds them unfit, or has
        another name for such files, reads the header itself.
        """
        folder = os.path.join(self.build_temp, name)
        header = shutil.copy2(PRECOMPILED, self.mkpath(folder) or folder)
        if needs_recompile(header + ".gch", header):
            compiler = [*self.compiler.compiler_so_cxx, *ext.extra_compile_args]
            self.spawn([*compiler, "-x", "c++-header", header, "-o", header + ".gch"])
        ext.extra_compile_args += ["-include", header]
        return folder


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


def extension(isa: str, names: Iterable[str]) -> Pybind11Extension:
    """The build of the sources with these names for one instruction set."""
    extra = os.environ.get("MEDSEG_FAST_CXXFLAGS", "").split()  # tests/sanitize.sh
    # Long compilations first, so that none is left alone at the end.
    sources = sorted((SOURCES[name] for name in names), key=os.path.getsize, reverse=True)
    return Pybind11Extension(
        f"medseg_fast._core_{isa}",
        sources,
        include_dirs=["csrc"],
        depends=[*HEADERS, "setup.py"],
        cxx_std=20,
        define_macros=[("MSF_ISA", isa)],
        extra_compile_args=[*FLAGS, *ISA_FLAGS[isa], *extra],
        extra_link_args=["-pthread", *(extra or ["-Wl,-s"])],  # a sanitizer wants symbols
    )


# Developers: one is quicker.
wanted = os.environ.get("MEDSEG_FAST_BUILD_ISA", ",".join(ISA_FLAGS)).split(",")
ParallelCompile("MAX_JOBS", default=os.cpu_count() or 1, needs_recompile=needs_recompile).install()
setup(
    ext_modules=[extension(isa, SOURCES.keys() - SHARED) for isa in wanted],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": Sdist},
)
