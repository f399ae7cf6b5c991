"""What the tests of the command line share: to run it, and the scans of the package."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("click", reason="the command line needs the extra io")
Image = pytest.importorskip("PIL.Image", reason="the command line needs the extra io")
# ruff: noqa: E402

from click.testing import CliRunner, Result

from medseg_fast import io
from medseg_fast._app import demo
from medseg_fast.cli import cli

SCAN = io.example("ct_lung_tumour").image
SCANS = {name: demo.load(name) for name in io.examples()}


def run(*args: Any) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def error(result: Result, code: int) -> str:
    """The one line on stderr of a run that must fail with this code."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("medseg-fast")
    return line


def subprocess_run(*args: Any, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "medseg_fast"]
    command = [sys.executable, *start, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
