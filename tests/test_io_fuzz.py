"""Damaged files: a volume or a clear error, within limits of memory and time (see fuzz_io.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for library in ("nibabel", "nrrd", "tifffile", "PIL", "pydicom"):
    pytest.importorskip(library)
if not sys.platform.startswith("linux"):
    pytest.skip("memory is measured through /proc", allow_module_level=True)

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_io  # noqa: E402


def _clean(cases: int, seed: int) -> None:
    outcomes, findings = fuzz_io.run(cases, seed)
    assert not findings, "\n".join(findings)
    # The damage must have reached the readers: both outcomes are frequent.
    volumes = sum(n for name, n in outcomes.items() if name.endswith(" volume"))
    errors = sum(n for name, n in outcomes.items() if name.endswith(" ImageFileError"))
    assert volumes > cases // 10
    assert errors > cases // 10


def test_a_few_damaged_files() -> None:
    _clean(cases=80, seed=20260326)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_damaged_files(seed: int) -> None:
    _clean(cases=3000, seed=seed)
