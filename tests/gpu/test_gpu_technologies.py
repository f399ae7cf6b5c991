"""One answer of every operation from slow twin, C++ kernel, CUDA kernel and Triton's kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from _shim import ON_GPU, needs_compiler, on_shim
from _technologies import cases
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast._dispatch import OPERATIONS

pytestmark = needs_compiler
CASES = cases()
# What they may differ by beyond a case's tolerance: Triton's interpreter cuts bfloat16 off.
OF_TRITON = {"conv_pool": 1e-4, "roi_align": 0, "resample_argmax": 0, "upsample_argmax": 0}


@pytest.fixture(scope="module")
def by_triton(tmp_path_factory):
    """What Triton's kernels give, by the case's number."""
    if find_spec("triton") is None or find_spec("torch") is None:
        return {}
    file = tmp_path_factory.mktemp("triton") / "results.npz"
    program = Path(__file__).with_name("_technologies.py")
    environment = {**os.environ, "TRITON_INTERPRET": str(int(not ON_GPU)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(program), str(file), "cuda" if ON_GPU else "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-6000:]
    return dict(np.load(file))


def same(got, expected, tolerance):
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            same(one, other, tolerance)
        return
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    if got.dtype.kind != "f":
        assert_array_equal(got, expected)
        return
    largest = np.abs(expected[np.isfinite(expected)]).max(initial=1)
    assert_allclose(got, expected, rtol=0, atol=tolerance * largest)


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{i}-{c.name}" for i, c in enumerate(CASES)]
)
def test_every_technology_gives_one_answer(number, by_triton):
    case = CASES[number]
    compiled = OPERATIONS[case.name].function(*case.args, **case.kwargs)
    if case.twin is not None:
        same(compiled, case.twin(), case.tolerance)
    cuda = on_shim(case.name, *case.args, **case.kwargs, schedules=2)
    same(cuda, compiled, case.tolerance)
    if (triton := by_triton.get(str(number))) is not None:
        same(triton, compiled, max(case.tolerance, OF_TRITON[case.name]))


def test_no_operation_and_no_technology_is_left_out(by_triton):
    assert {c.name for c in CASES} == {op.name for op in OPERATIONS.values() if op.gpu}
    assert all(
        any(c.name == o.name and c.twin for c in CASES) for o in OPERATIONS.values() if o.gpu
    )
    if by_triton:
        assert {CASES[int(number)].name for number in by_triton} == {*OF_TRITON}
