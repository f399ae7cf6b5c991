"""One line about the machine and the versions behind a figure."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medseg_fast._cpu import core
from medseg_fast._threads import available_cpus

_RIVALS = (
    "numpy scipy scikit-image opencv-python-headless SimpleITK connected-components-3d "
    "diplib imops mahotas torch"
).split()


def describe() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    versions = []
    for name in _RIVALS:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return (
        f"{model}, {available_cpus()} CPUs, build {core.isa}; Python {platform.python_version()}, "
        + ", ".join(versions)
    )
