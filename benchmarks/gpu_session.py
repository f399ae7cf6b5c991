"""Everything that a GPU must show, in one command for a machine that has one for a few minutes.

    python benchmarks/gpu_session.py [--seconds 450] [--results FOLDER]

It says what is there and what is missing; builds the package where it is not installed; compiles
every kernel on all CPUs; runs the differential tests of tests/gpu on the GPU in the simulator's
place, and those of streams, graphs and Triton; then measures (benchmarks/gpu.py). Each step has its
share of the seconds, writes its output to the folder, and does not need the ones before it to have
passed. Without CuPy, what Triton and PyTorch can do alone is tested, and nothing is measured.
Without a GPU it says so and exits 0. Exits 1 if a step failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
NEEDED = {  # package: what is not done without it
    "cupy": 'CUDA C++ kernels and times: pip install "cupy-cuda12x" or "cupy-cuda13x"',
    "torch": "tensors and Triton's kernels: pip install torch",
    "triton": "Triton's kernels: pip install triton",
    "pytest": "tests: pip install pytest",
    "xdist": "tests on all CPUs: pip install pytest-xdist",
    "pybind11": 'a build of the package: pip install "pybind11>=3"',
}


class Step(NamedTuple):
    """A command, and the share of all seconds that it may take."""

    name: str
    command: list[str]
    share: float
    environment: dict[str, str] = {}  # noqa: RUF012


def has(package: str) -> bool:
    return find_spec(package) is not None


def why_no_gpu() -> str:
    """Why there is nothing to do; empty where a library or the driver's tool lists a GPU."""
    if Path("/dev/nvidia0").exists():
        return ""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "neither /dev/nvidia0 nor nvidia-smi is there"
    listed = subprocess.run([tool, "-L"], capture_output=True, text=True).stdout
    return "" if "GPU" in listed else "nvidia-smi lists none"


def steps() -> Iterator[Step]:
    """In their order; those whose packages are missing are left out."""
    python = sys.executable
    if not has("medseg_fast"):
        install = "pip install --no-index --no-deps --no-build-isolation -e".split()
        build = {"MEDSEG_FAST_BUILD_ISA": "avx2"}  # one of three: the CPU is not what is measured
        yield Step("build", [python, "-m", *install, str(ROOT)], 0.4, build)
    tests = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    everywhere = ["-n", "auto", "--dist", "loadfile"] if has("xdist") else []
    here = ROOT / "tests" / "gpu"
    if has("cupy"):
        yield Step("compile", [python, str(here / "_real_gpu.py")], 0.3)
    if has("pytest"):
        yield Step("real", [*tests, str(here / "test_gpu_real.py")], 0.3)
    if has("pytest") and has("cupy"):
        without = ("gates", "compiled", "benchmark", "dispatch", "graphs", "triton", "real")
        files = [str(f) for f in here.glob("test_gpu_*.py") if f.stem.split("_")[-1] not in without]
        yield Step("tests", [*tests, *everywhere, *files], 0.5, {"MEDSEG_FAST_TESTS": "gpu"})
    if has("cupy"):
        program = ROOT / "benchmarks" / "gpu.py"
        yield Step("benchmark", [python, str(program), "--seconds"], 1.0)


def run(step: Step, seconds: float, results: Path) -> bool:
    """Whether it passed, in at most so many seconds; the end of what it printed is shown."""
    log, begin = results / f"{step.name}.log", time.monotonic()
    command = step.command
    if step.name == "benchmark":  # which stops by itself, with a table of what it has
        command = [*command, str(int(seconds * 0.9)), "--table", str(results / "gpu.md")]
    environment = {**os.environ, **step.environment}
    with log.open("w") as file:
        try:
            done = subprocess.run(
                command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds, env=environment
            )
            ended = "passed" if done.returncode == 0 else f"failed with {done.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
    print(f"== {step.name}: {ended}, {time.monotonic() - begin:.0f} s ({log})", flush=True)
    print("\n".join(log.read_text().splitlines()[-15:]), flush=True)
    return ended == "passed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=450, help="for everything together")
    parser.add_argument("--results", type=Path, default=ROOT / "build" / "gpu_session")
    options = parser.parse_args()
    for package, without in NEEDED.items():
        if not has(package):
            print(f"{package} is missing, so no {without}")
    reason = why_no_gpu()
    if reason:
        print(f"No GPU: {reason}. Nothing was run.")
        return 0
    options.results.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + options.seconds
    passed = True
    for step in steps():
        left = end - time.monotonic()
        if left < 5:
            print(f"== {step.name}: no time left")
            passed = False
            continue
        passed &= run(step, min(left, step.share * options.seconds), options.results)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
