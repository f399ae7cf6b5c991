"""One line about the machine and the versions behind a figure."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from medseg_fast._config import cpu_model
from medseg_fast._cpu import core
from medseg_fast._threads import available_cpus

_RIVALS = (
    "numpy scipy scikit-image opencv-python-headless SimpleITK connected-components-3d "
    "diplib imops mahotas torch"
).split()


def describe() -> str:
    versions = []
    for name in _RIVALS:
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return (
        f"{cpu_model()}, {available_cpus()} CPUs, build {core.isa}; "
        f"Python {platform.python_version()}, " + ", ".join(versions)
    )
