"""The examples in docstrings show what comes out."""

from __future__ import annotations

import subprocess
import sys

# In a process of its own: it imports every module, those of extras that are installed too.
_PROGRAM = """
import doctest, importlib, pkgutil, medseg_fast
attempted = failed = 0
for module in pkgutil.walk_packages(medseg_fast.__path__, "medseg_fast."):
    if "_core_" in module.name or "__main__" in module.name:
        continue
    try:
        found = importlib.import_module(module.name)
    except ImportError:
        continue
    results = doctest.testmod(found)
    attempted += results.attempted
    failed += results.failed
print(attempted, failed)
"""


def test_examples(tmp_path):
    command = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    attempted, failed = map(int, done.stdout.splitlines()[-1].split())
    assert attempted > 300
    assert failed == 0, done.stdout
