"""The gates themselves: bugs planted in kernels must be found, and right kernels must pass."""

from __future__ import annotations

from pathlib import Path

import _every_kernel
import _planted
import numpy as np
import pytest
import sanitize
from _shim import SCHEDULES, ShimError, needs_compiler, report_of, sanitized
from medseg_fast.kernels.source import SOURCES
from numpy.testing import assert_array_equal

pytestmark = needs_compiler
_PROGRAM = str(Path(_planted.__file__))


@pytest.fixture(scope="module")
def planted():
    return _planted.module()


def wrong(planted, kernel, bug):
    """Under how many of the schedules a kernel gives a wrong result."""
    return sum(not _planted.is_right(planted, kernel, bug, seed) for seed in range(SCHEDULES))


@pytest.mark.parametrize("kernel", ["reverse", "count"])
def test_right_kernels_are_right_under_every_schedule(planted, kernel):
    assert wrong(planted, kernel, "none") == 0


def test_schedules_find_a_missing_barrier(planted):
    assert wrong(planted, "reverse", "missing_barrier") == SCHEDULES


def test_schedules_find_a_lost_update(planted):
    assert wrong(planted, "count", "lost_update") >= SCHEDULES // 2


def test_a_schedule_is_a_function_of_its_seed(planted):
    def outcome(seed):
        planted.library.shim_set_seed(seed)
        total = np.zeros(1, np.int32)
        launch = planted.get_function(f"count<{_planted.BUGS.index('lost_update')}>")
        launch((8,), (64,), (np.ones(500, np.int32), total, np.int32(500)))
        return int(total[0])

    outcomes = [outcome(seed) for seed in range(SCHEDULES)]
    assert outcomes == [outcome(seed) for seed in range(SCHEDULES)]
    assert len(set(outcomes)) > 3


@pytest.mark.parametrize(
    ("kernel", "bug", "message"),
    [
        ("reverse", "early_exit", "ends while others wait in __syncthreads|has ended"),
        ("count", "deadlock", "deadlock: every thread waits"),
    ],
)
def test_what_would_hang_a_gpu_is_an_error(planted, kernel, bug, message):
    for seed in range(SCHEDULES):
        with pytest.raises(ShimError, match=message):
            _planted.is_right(planted, kernel, bug, seed)
    assert _planted.is_right(planted, kernel, "none", 1)  # the next launch is none the worse


def test_arguments_of_the_wrong_type_are_refused(planted):
    launch = planted.get_function("count<0>")
    numbers = np.ones(64, np.int32)
    with pytest.raises(TypeError, match=r"wants \['pi4', 'pi4', 'i4'\], got \['pi4', 'pi4', 'i8'"):
        launch((1,), (64,), (numbers, numbers, np.int64(64)))


@pytest.mark.parametrize("seed", range(SCHEDULES))
def test_barriers_and_warp_operations(planted, seed):
    planted.library.shim_set_seed(seed)
    given = np.random.default_rng(seed).permutation(96).astype(np.int32)
    results = np.zeros((7, 96), np.int32)
    planted.get_function("collectives")((1,), (96,), (given, results))
    warps = given.reshape(3, 32)
    down = np.concatenate([warps[:, 3:], warps[:, -3:]], axis=1)
    expected = [
        warps.max(1).repeat(32),
        warps.cumsum(1).ravel(),
        down.ravel(),
        (warps & 1).sum(1).repeat(32),
        np.full(96, 48),
        np.full(96, 3),
        warps[:, 7].repeat(32),
    ]
    assert_array_equal(results, expected)


slow = pytest.mark.slow
_FOUND = [
    pytest.param("address", "reverse", "out_of_bounds", "heap-buffer-overflow"),
    pytest.param("address", "reverse", "shared_out_of_bounds", "out of bounds", marks=slow),
    pytest.param("undefined", "reverse", "shared_out_of_bounds", "out of bounds", marks=slow),
    pytest.param("thread", "reverse", "missing_barrier", "data race", marks=slow),
    pytest.param("thread", "count", "plain_update", "data race"),
]


@pytest.mark.parametrize(("kind", "kernel", "bug", "message"), _FOUND)
def test_sanitizers_find(kind, kernel, bug, message):
    done = sanitized(kind, _PROGRAM, kernel, bug)
    assert "right kernels pass" in done.stdout, done.stderr
    assert done.returncode != 0
    assert message in report_of(done), done.stderr
    assert kernel in done.stderr  # it points into the kernel


@pytest.mark.slow
@pytest.mark.parametrize("kind", sanitize.KINDS)
def test_kernels_pass_the_sanitizers(kind):
    done = sanitize.run(kind)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert ("every kernel ran" if kind == "thread" else " passed") in done.stdout


def test_every_kernel_is_launched_by_an_operation():
    kernels = {kernel for source in SOURCES.values() for kernel in source.kernels}
    assert _every_kernel.launched(1) == kernels
