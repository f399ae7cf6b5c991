"""What this installation is made of: the first thing a bug report needs."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, overload

from medseg_fast import _cpu
from medseg_fast._cpu import core
from medseg_fast._memory import get_kept_memory
from medseg_fast._threads import available_cpus, get_num_threads
from medseg_fast._version import __version__

_DEVELOPERS = {"test", "bench", "dev", "all"}  # extras that no operation needs
_NVIDIA = Path("/proc/driver/nvidia")


@overload
def show_config(mode: Literal["print"] = "print", *, probe: bool = False) -> None: ...
@overload
def show_config(mode: Literal["dict"], *, probe: bool = False) -> dict[str, Any]: ...
def show_config(
    mode: Literal["print", "dict"] = "print", *, probe: bool = False
) -> dict[str, Any] | None:
    """Show version, build, threads, CPU, GPU and optional packages.

    Imports no optional package unless asked to: versions come from the installed metadata, GPUs
    from the driver's entries under ``/proc``.

    Parameters
    ----------
    mode : {"print", "dict"}
        Print a text, or return the same as a dict of strings, numbers, lists and None (it can be
        written as JSON).
    probe : bool, keyword-only
        Import torch and CuPy, if installed, to ask which GPUs they can use. Takes seconds; without
        it they are asked only if the process has already imported them.

    Returns
    -------
    config : dict or None
        Keys ``medseg_fast`` (version, commit, folder), ``python``, ``system``, ``build`` (chosen,
        present, runnable, forced, compiler), ``cpu`` (model, cpus), ``threads``, ``kept
        memory`` (limit, bytes: see `set_kept_memory`), ``gpu`` (driver, devices, torch, cupy; off:
        why no kernel can run there, None if one can) and ``packages`` (by name: version or None,
        extras that install it).

    Raises
    ------
    ValueError
        If `mode` is neither of the two.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.show_config("dict")["build"]["chosen"] in ("avx512", "avx2", "baseline")
    True
    """
    if mode not in ("print", "dict"):
        raise ValueError(f"show_config: mode must be 'print' or 'dict', got {mode!r}")
    config = _collect(probe)
    if mode == "dict":
        return config
    print(_text(config))
    return None


def _collect(probe: bool) -> dict[str, Any]:
    present = _cpu.builds()
    return {
        "medseg_fast": {
            "version": __version__,
            "commit": commit(),
            "folder": str(Path(__file__).parent),
        },
        "python": platform.python_version(),
        "system": platform.platform(),
        "build": {
            "chosen": core.isa,
            "present": present,
            "runnable": [isa for isa in present if _cpu.runnable(isa)],
            "forced": os.environ.get("MEDSEG_FAST_ISA") or None,
            "compiler": core.compiler,
        },
        "cpu": {"model": cpu_model(), "cpus": available_cpus()},
        "threads": get_num_threads(),
        "kept memory": {"limit": get_kept_memory(), "bytes": core.kept_bytes()},
        "gpu": {
            "driver": _driver(),
            "devices": _devices(),
            "torch": _torch_devices(probe),
            "cupy": _cupy_devices(probe),
            "off": _why_no_gpu(probe),
        },
        "packages": packages(),
    }


def commit() -> str | None:
    """Commit this was built from: recorded in a wheel, asked of git in an editable install."""
    try:
        return import_module("medseg_fast._build_info").COMMIT or None
    except ImportError:
        pass
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    import subprocess

    quiet = subprocess.DEVNULL
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.check_output([*git, "rev-parse", "HEAD"], text=True, stderr=quiet)
        changed = subprocess.check_output([*git, "status", "--porcelain", "-uno"], stderr=quiet)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.strip() + ("+changes" if changed else "")


def cpu_model() -> str:
    """The processor's name as the system gives it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def packages() -> dict[str, dict[str, Any]]:
    """NumPy and every package of our extras: installed version or None, extras that bring it."""
    from importlib.metadata import PackageNotFoundError, requires, version

    extras: dict[str, list[str]] = {"numpy": []}
    try:
        requirements = requires("medseg_fast") or []
    except PackageNotFoundError:  # imported from a folder that no installer has seen
        requirements = []
    for requirement in requirements:
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name is None or extra is None or extra[1] in _DEVELOPERS:
            continue
        extras.setdefault(name[0], []).append(extra[1])

    def installed(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {name: {"version": installed(name), "extras": extras[name]} for name in sorted(extras)}


def _driver() -> str | None:
    try:
        text = (_NVIDIA / "version").read_text()
    except OSError:
        return None
    found = re.search(r"\s(\d+\.\d[\d.]*)\s", text)
    return found[1] if found else None


def _devices() -> list[str]:
    """NVIDIA GPUs that the kernel's driver lists; a container may not have access to them."""
    names = []
    for file in sorted((_NVIDIA / "gpus").glob("*/information")):
        found = re.search(r"^Model:\s*(.+?)\s*$", file.read_text(), re.M)
        names.append(found[1] if found else file.parent.name)
    return names


def _imported(name: str, probe: bool) -> Any:
    """The module if the process has it, or if asked for and installed."""
    if name in sys.modules or not probe:
        return sys.modules.get(name)
    from importlib.util import find_spec

    return import_module(name) if find_spec(name) else None


def _torch_devices(probe: bool) -> list[str] | None:
    torch = _imported("torch", probe)
    if torch is None or not hasattr(torch, "cuda"):
        return None
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _cupy_devices(probe: bool) -> list[str] | None:
    cupy = _imported("cupy", probe)
    if cupy is None or not hasattr(cupy, "cuda"):
        return None
    runtime = cupy.cuda.runtime
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError:  # no driver, or none that it can use
        return []
    return [runtime.getDeviceProperties(i)["name"].decode() for i in range(count)]


def _why_no_gpu(probe: bool) -> str | None:
    """Why arrays cannot be worked on by a GPU here, as far as is known without a probe."""
    from importlib.util import find_spec

    if _driver() is None:
        return "no NVIDIA driver is loaded"
    if not _devices():
        return "the NVIDIA driver lists no GPU"
    if find_spec("cupy") is None:
        return 'CuPy is not installed; pip install "medseg_fast[cuda12]" or "medseg_fast[cuda13]"'
    if _cupy_devices(probe) == []:
        return "CuPy can use none of them (a driver too old for its CUDA, or no permission)"
    return None


def _text(config: dict[str, Any]) -> str:
    own, build, cpu, gpu = (config[key] for key in ("medseg_fast", "build", "cpu", "gpu"))
    forced = f", forced by MEDSEG_FAST_ISA={build['forced']}" if build["forced"] else ""
    devices = ", ".join(gpu["devices"]) or "none found"
    if gpu["driver"]:
        devices += f" (driver {gpu['driver']})"
    kept = config["kept memory"]
    lines = [
        f"medseg_fast {own['version']}, commit {own['commit'] or 'unknown'}",
        f"  folder   {own['folder']}",
        f"  python   {config['python']} on {config['system']}",
        f"  build    {build['chosen']} (present: {', '.join(build['present'])}{forced}), "
        f"compiler {build['compiler']}",
        f"  cpu      {cpu['model']}, {cpu['cpus']} available",
        f"  threads  {config['threads']}",
        f"  memory   {kept['bytes'] >> 20} MiB kept for results, up to {kept['limit'] >> 20}",
        f"  gpu      {devices}",
    ]
    for library in ("torch", "cupy"):
        if gpu[library] is not None:
            lines.append(f"           {library} can use: {', '.join(gpu[library]) or 'none'}")
    if gpu["off"]:
        lines.append(f"           off: {gpu['off']}")
    lines.append("  packages")
    for name, package in config["packages"].items():
        extras = " or ".join(f'"medseg_fast[{extra}]"' for extra in package["extras"])
        state = package["version"] or f"not installed; pip install {extras}"
        lines.append(f"    {name:<20} {state}")
    return "\n".join(lines)
