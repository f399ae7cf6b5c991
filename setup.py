"""Builds the C++ core once per instruction set; all else is in pyproject.toml."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).parent
BUILD_INFO = Path("medseg_fast", "_build_info.py")
SOURCES = {path.stem: str(path.relative_to(ROOT)) for path in sorted((ROOT / "csrc").glob("*.cpp"))}
HEADERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("**/*.hpp"))

# The same sources, one module per instruction set; medseg_fast/_cpu.py picks one at import.
ISA_FLAGS = {"baseline": [], "avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISA_FLAGS["baseline"] = ["-march=x86-64-v2"]
else:
    ISA_FLAGS = {"baseline": []}

# Compiled once, for the baseline, and linked into every build: kernels that follow queues, trees
# and unions. Vectors do nothing for these (AVX2 against baseline: 0.8 to 1.08 times the speed), and
# compiling them three times took a third of the installation.
SHARED = """
    active_contour chan_vese_snake components convex_image convolution cost_search crc64
    descents diameters edge_flow_boundaries edge_flow_regions fast_marching first_order front_queue
    geodesic geodesic_snake histogram_peaks hysteresis key_image label_cells label_pairs level_set
    live_wire maxflow minima minimum_cost multiotsu parallel plan plan_checks reconstruction
    region region_growing region_pixels region_table seeded_region_growing separable_plan
    snake_matrix sparse_field sparse_graph spline texture threshold_explorer watershed
    watershed_compact watershed_flood watershed_hierarchy watershed_immersion watershed_lines
    watershed_setup weighted_sums
""".split()

# Compiled for the baseline and for AVX2, whose objects the AVX-512 build links, too: they count,
# compare, pack bits and move tiles about, or pass over memory once with a few operations a pixel,
# which wider registers hardly speed up, or have vectors of 32 bytes in every build.
AT_MOST_AVX2 = """
    boundaries canny_crossings chan_vese contrast cross_difference distance distance_passes
    edge_bits edge_flow edge_flow_propagation expand_labels gradient gradient_bytes histogram label
    label_sizes laplace load_values local local_mean local_median mask_clip morphology
    morphology_grey moves multigrid multigrid_levels nearest_background nms overlap paste_masks
    pooling pyramid_pool random_walker shade signed_distance snake_smoothing stencil sums
    surface_cells threshold walk_gradients warp zero_crossings
""".split()

# Of the sources compiled for each instruction set those that -O3 makes a tenth faster or more.
AT_O3 = """
    conv_amx conv_direct conv_dots conv_finish conv_narrow conv_parts conv_planar
    conv_weight_gradient conv_winograd conv_winograd_tiles conv_winograd_weights distance
    distance_passes distance_tile halving histogram label local_median morphology morphology_bits
    morphology_grey nms overlap paste_masks plan_attention plan_layers plan_pointwise
    resample_argmax roi_align sums upsampling
""".split()

# Of SHARED those that run as fast with the least optimisation that inlines (QUICK).
AT_O1 = """
    chan_vese_snake convex_image convolution diameters edge_flow_boundaries edge_flow_regions
    geodesic_snake histogram_peaks label_cells multiotsu parallel plan plan_checks
    region_growing seeded_region_growing separable_plan threshold_explorer watershed_compact
    watershed_hierarchy watershed_setup
""".split()

# Compiled once as well, with little optimisation: they only call kernels.
BINDINGS = [name for name in SOURCES if name.startswith(("bindings", "python"))]

# Networks: products and sums may be one rounding, as their results have a tolerance.
CONTRACTED = """
    class_masks conv_amx conv_direct conv_dots conv_finish conv_narrow conv_parts conv_planar
    conv_weight_gradient conv_winograd conv_winograd_plan conv_winograd_tiles conv_winograd_weights
    norm_activation plan_attention plan_layers plan_pointwise upsampling
""".split()

# How much the compiler does. Half of an installation is the optimiser's time. Beside wider builds
# the baseline serves CPUs of before 2013 and need not be the fastest code: QUICK.
QUICK = ["-O1", "-fstrict-aliasing", "-finline-functions", "-finline-small-functions"]
QUICK += ["-findirect-inlining", "-fthread-jumps", "-foptimize-sibling-calls"]
VECTORS = ["-ftree-vectorize", "-fvect-cost-model=dynamic"]  # as -O3 has them

# No contraction and no fast-math: all builds must give the same bytes. -fno-trapping-math lets the
# compiler turn comparisons into masks; it changes no value.
FLAGS = ["-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"]
# Larger functions inlined, as -O3 does, double the time to compile and save none at run time.
FLAGS += ["--param=max-inline-insns-single=70"]
FLAGS += ["-isystem", pybind11.get_include()]  # its warnings are not ours
FLAGS += ["-std=c++20", "-fvisibility=hidden", "-Wall", "-Wextra", "-MMD", "-pthread"]
FLAGS += ["-Wno-psabi"]  # no build hands vectors wider than its registers to another


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


def code_size(path: Path, seen: set[Path] | None = None) -> int:
    """Bytes of a source with the headers of ours that it includes: about how long it takes."""
    seen = set() if seen is None else seen
    if path in seen or not path.exists():
        return 0
    seen.add(path)
    code = path.read_text()
    names = re.findall(r'^#include "(.+)"', code, re.MULTILINE)
    return len(code) + sum(code_size(ROOT / "csrc" / name, seen) for name in names)


class BuildExt(build_ext):
    """Compiles the sources of all builds, and those they share, in one queue for all CPUs."""

    def build_extensions(self):
        builds = {ext.name: ext for ext in self.extensions}
        if wanted != ["baseline"]:
            builds["at_most_avx2"] = extension("avx2", AT_MOST_AVX2)
        builds["shared"] = extension("baseline", SHARED)
        builds["bindings"] = extension("baseline", BINDINGS)
        folders = {name: os.path.join(self.build_temp, name) for name in builds}
        self.parallel = int(os.environ.get("MAX_JOBS", os.cpu_count() or 1))
        with ThreadPoolExecutor(self.parallel) as pool:
            isas = sorted({isa_of(ext) for ext in builds.values()})
            headers = {isa: pool.submit(self.precompile, isa) for isa in isas}

            def compile_one(job):
                source, name = job
                return name, self.compile(source, builds[name], folders[name], headers)

            # Long compilations first, so that none is left alone at the end.
            jobs = [(source, name) for name, ext in builds.items() for source in ext.sources]
            jobs.sort(key=lambda job: code_size(Path(job[0])), reverse=True)
            done = list(pool.map(compile_one, jobs))
        objects = {name: [obj for owner, obj in done if owner == name] for name in builds}
        for ext in self.extensions:
            parts = [ext.name, "at_most_avx2", "shared", "bindings"]
            if ext.name.endswith("_baseline"):
                parts.remove("at_most_avx2")
            # In this order: the copy of an inline function for the widest vectors comes first.
            ext.extra_objects = [obj for part in parts for obj in objects[part]]
            ext.sources, ext.depends = [], ext.extra_objects
        super().build_extensions()

    def precompile(self, isa):
        """Compiles the headers that most sources include; returns the file to include instead.

        It takes half of the time of a small source. A compiler that finds it unfit, or has another
        name for such files, reads the header itself.
        """
        folder = os.path.join(self.build_temp, isa)
        self.mkpath(folder)
        header = shutil.copy2(os.path.join("csrc", "precompiled.hpp"), folder)
        if needs_recompile(header + ".gch", header):
            arguments = extension(isa, []).extra_compile_args
            compiler = [*self.compiler.compiler_so_cxx, "-O3", *arguments]
            self.spawn([*compiler, "-x", "c++-header", header, "-o", header + ".gch"])
        return header

    def compile(self, source, ext, folder, headers):
        """Compiles a source unless its object is up to date; returns the object."""
        (obj,) = self.compiler.object_filenames([source], output_dir=folder)
        header = headers[isa_of(ext)].result()
        if needs_recompile(obj, source):
            self.compiler.compile(
                [source],
                output_dir=folder,
                macros=ext.define_macros,
                include_dirs=ext.include_dirs,
                extra_postargs=[
                    *optimisation(Path(source).stem, isa_of(ext)),
                    *ext.extra_compile_args,
                    *(["-ffp-contract=fast"] if Path(source).stem in CONTRACTED else []),
                    *(["-include", header] if Path(source).stem != "python" else []),
                ],
            )
        return obj


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


def optimisation(name: str, isa: str) -> list[str]:
    """Flags that decide how much the compiler does for a source."""
    if name in BINDINGS:
        return ["-O1"]
    if name in SHARED:
        return QUICK if name in AT_O1 else ["-O3"]
    if isa == "baseline" and len(ISA_FLAGS) > 1:
        return [*QUICK, "-Wno-maybe-uninitialized"]  # it takes more to see that nothing is
    return ["-O3"] if name in AT_O3 else ["-O2", *VECTORS]


def extension(isa: str, names: Iterable[str]) -> Extension:
    """The build of the sources with these names for one instruction set."""
    extra = os.environ.get("MEDSEG_FAST_CXXFLAGS", "").split()  # tests/sanitize.sh
    return Extension(
        f"medseg_fast._core_{isa}",
        [SOURCES[name] for name in names],
        include_dirs=["csrc"],
        depends=[*HEADERS, "setup.py"],
        language="c++",
        define_macros=[("MSF_ISA", isa)],
        extra_compile_args=[*FLAGS, *ISA_FLAGS[isa], *extra],
        extra_link_args=["-pthread", *(extra or ["-Wl,-s"])],  # a sanitizer wants symbols
    )


def isa_of(ext: Extension) -> str:
    """The instruction set that an extension is built for."""
    return ext.name.rpartition("_")[2]


def own_sources(isa: str) -> set[str]:
    """Names of the sources that a build does not share."""
    shared = {*SHARED, *BINDINGS, *(() if isa == "baseline" else AT_MOST_AVX2)}
    return set(SOURCES) - shared


# Developers: one is quicker.
wanted = os.environ.get("MEDSEG_FAST_BUILD_ISA", ",".join(ISA_FLAGS)).split(",")
setup(
    ext_modules=[extension(isa, own_sources(isa)) for isa in wanted],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy, "sdist": Sdist},
)
