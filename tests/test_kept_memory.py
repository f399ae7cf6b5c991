"""Memory of freed results that is kept for the next ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel

import medseg_fast as ms
from medseg_fast import _checks
from medseg_fast._cpu import core

MIB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_kept():
    before = ms.get_kept_memory()
    ms.set_kept_memory(0)
    ms.set_kept_memory(64 * MIB)
    yield
    ms.set_kept_memory(before)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.float32, np.int64, np.float64])
def test_memory_comes_back(dtype):
    first = _checks.empty((300, 1000, 20), dtype)
    assert first.flags.c_contiguous
    assert first.flags.writeable
    assert first.dtype == dtype
    assert address(first) % 64 == 0
    first[...] = 1
    where, size = address(first), first.nbytes
    assert core.kept_bytes() == 0
    view = first[1:, ::2]
    del first
    assert core.kept_bytes() == 0  # the view holds it
    del view
    assert core.kept_bytes() == size
    again, zeros = _checks.blank((300, 1000, 20), dtype)
    assert address(again) == where
    assert not zeros
    assert core.kept_bytes() == 0
    other, zeros = _checks.blank((300, 1000, 20), dtype)
    assert zeros
    assert not other.any()
    assert address(other) != where


def test_what_fits():
    """A block is taken for what needs at least two thirds of it; the smallest that fits."""
    large, small = _checks.empty((9 * MIB,), np.uint8), _checks.empty((6 * MIB,), np.uint8)
    places = address(large), address(small)
    del large, small
    assert core.kept_bytes() == 15 * MIB
    fits = _checks.empty((6 * MIB - 1,), np.uint8)
    assert address(fits) == places[1]
    assert address(_checks.empty((6 * MIB,), np.uint8)) == places[0]
    _checks.empty((5 * MIB,), np.uint8)  # fresh: as much of the kept goes back
    assert core.kept_bytes() == 5 * MIB
    del fits
    assert core.kept_bytes() == 11 * MIB


def test_limit():
    blocks = [_checks.empty((30 * MIB,), np.uint8) for _ in range(3)]
    places = [*map(address, blocks)]
    while blocks:
        del blocks[0]
    assert core.kept_bytes() == 60 * MIB  # the oldest went
    assert address(_checks.empty((30 * MIB,), np.uint8)) in places[1:]
    ms.set_kept_memory(40 * MIB)
    assert core.kept_bytes() == 30 * MIB
    assert ms.get_kept_memory() == 40 * MIB
    assert ms.show_config("dict")["kept memory"] == {"limit": 40 * MIB, "bytes": 30 * MIB}
    beyond = _checks.empty((41 * MIB,), np.uint8)
    assert beyond.base is None  # NumPy's
    ms.set_kept_memory(0)
    assert core.kept_bytes() == 0
    _checks.empty((2 * MIB,), np.uint8)
    assert core.kept_bytes() == 0


def test_results_stay():
    """A result in use is never written by a later call; what is kept does not show in one."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 3, (40, 200, 200)).astype(np.uint8) for _ in range(3)]
    expected = [ms.label(image, out=np.empty(image.shape, np.int64)) for image in images]
    for _ in range(3):
        results = [ms.label(image) for image in images]
        smooth = [ms.gaussian(image.astype(np.float32), 1) for image in images]
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        for image, found in zip(images, smooth, strict=True):
            out = ms.gaussian(image.astype(np.float32), 1, out=np.empty(image.shape, np.float32))
            np.testing.assert_array_equal(found, out)
        del results, smooth
        assert core.kept_bytes() > 0
    empty = ms.label(np.zeros((40, 200, 200), bool))
    assert not empty.any()


def test_threads():
    """Many threads at once take and give."""
    image = np.random.default_rng(0).integers(0, 255, (1500, 1500)).astype(np.uint8)
    expected = ms.threshold(image, 100)
    wrong = []

    def work():
        for _ in range(30):
            if not np.array_equal(ms.threshold(image, 100), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert core.kept_bytes() <= 64 * MIB


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork():
    """A child goes on with what its parent kept, whatever other threads were doing."""
    script = """
import os, threading, numpy as np, medseg_fast as ms
image = np.ones((1500, 1500), np.uint8)
stop = False
def work():
    while not stop:
        ms.threshold(image, 0)
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
for _ in range(40):
    child = os.fork()
    if child == 0:
        os._exit(0 if ms.threshold(image, 0).all() else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
[t.join() for t in threads]
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60)
    assert done.returncode == 0


def test_peak_is_no_higher():
    """Results of growing size: what is kept goes back when a larger one needs as much."""
    call = "[ms.threshold(np.broadcast_to(image, (n, *image.shape)), 3).sum() for n in range(1, 9)]"
    setup = "image = np.ones((2000, 2000), np.uint8); ms.set_kept_memory(1 << 30)"
    most = peak_bytes_per_pixel(call, setup=setup)
    assert most < 8 * 2.2  # the last one's copy of the image and its mask


@pytest.mark.parametrize(("given", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError)])
def test_bad_values(given, error):
    with pytest.raises(error, match="set_kept_memory: n_bytes"):
        ms.set_kept_memory(given)


@pytest.mark.parametrize(("text", "limit"), [("", 256 * MIB), ("0", 0), ("1048576", MIB)])
def test_environment(text, limit):
    script = "import medseg_fast as ms; print(ms.get_kept_memory())"
    environment = {**os.environ, "MEDSEG_FAST_KEPT_MEMORY": text}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(limit), done.stderr


def test_bad_environment():
    environment = {**os.environ, "MEDSEG_FAST_KEPT_MEMORY": "1 GB"}
    command = [sys.executable, "-c", "import medseg_fast"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert "MEDSEG_FAST_KEPT_MEMORY='1 GB': expected a number of bytes from 0" in done.stderr
