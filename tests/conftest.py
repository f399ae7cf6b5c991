"""Shared fixtures: poisoned allocations, random images, layouts, builds of the core, data."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medseg_fast
from medseg_fast import _cpu

DTYPES = [
    np.dtype(name)
    for name in (
        "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64".split()
    )
]
# Empty, one pixel, off every vector and block width, long and thin; 1D to 4D.
SHAPES = [(0,), (1,), (67,), (0, 5), (1, 1), (7, 1), (1, 130), (33, 65), (3, 0, 2), (1, 1, 1)]
SHAPES += [(5, 7, 9), (2, 33, 31), (2, 3, 4, 5)]

_empty, _empty_like = np.empty, np.empty_like


_DATA = Path(
    os.environ.get("MEDSEG_FAST_DATA", Path(__file__).parents[2] / "shared" / "data")
).absolute()


@pytest.fixture(autouse=True)
def _one_torch_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """One thread for PyTorch where networks are tested, which are too small there to share out."""
    torch = sys.modules.get("torch")
    if torch is None or request.path.parent.name != "nn":
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def _neutral_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Subprocesses find the installed package, not the sources in the folder tests start from."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("neutral"))
    yield
    os.chdir(before)


@pytest.fixture(autouse=True)
def _poisoned_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill what ``np.empty`` returns, so that a result that is not fully written shows."""

    def poison(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if array.dtype.kind in "buifc" and array.flags.c_contiguous:
            array.reshape(-1).view(np.uint8)[...] = 1 if array.dtype.kind == "b" else 0xA5
        return array

    monkeypatch.setattr(np, "empty", lambda *a, **k: poison(_empty(*a, **k)))
    monkeypatch.setattr(np, "empty_like", lambda *a, **k: poison(_empty_like(*a, **k)))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260326)


@pytest.fixture(params=[1, 2, 5], ids="threads={}".format)
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs the test with several thread counts: results must not depend on it."""
    if "isa" in request.fixturenames:
        request.getfixturevalue("isa")  # first: each build has a setting of its own
    with medseg_fast.num_threads(request.param):
        yield request.param


@pytest.fixture(params=[isa for isa in _cpu.builds() if _cpu.runnable(isa)])
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs the test on every build of the core that this CPU can run."""
    core = __import__("importlib").import_module(f"medseg_fast._core_{request.param}")
    for name, module in list(__import__("sys").modules.items()):
        if name.startswith("medseg_fast") and hasattr(module, "core"):
            monkeypatch.setattr(module, "core", core)
    return str(request.param)


def random_image(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: Any
) -> np.ndarray[Any, Any]:
    """Values over the dtype's range, with ties; floats with infinities but without NaN."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "ui":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        small = rng.integers(0, 5, shape).astype(dtype)
        return np.where(rng.random(shape) < 0.5, values, small)
    image = rng.normal(0, 10, shape).round(1).astype(dtype)
    image[rng.random(shape) < 0.02] = np.inf
    image[rng.random(shape) < 0.02] = -np.inf
    return image


# The same values in another layout; an operation must give the same result for all of them.
LAYOUTS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {}


def _layout(function: Callable[..., Any]) -> Callable[..., Any]:
    LAYOUTS[function.__name__] = function
    return function


@_layout
def c_order(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return a.copy()


@_layout
def fortran(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asfortranarray(a)


@_layout
def strided(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Every second element of a larger array, guarded by other values around it."""
    big = np.full([2 * n + 3 for n in a.shape], 1, a.dtype)
    view = big[tuple(slice(1, 2 * n + 1, 2) for n in a.shape)]
    view[...] = a
    return view


@_layout
def reversed_axes(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


@_layout
def big_endian(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return a.astype(a.dtype.newbyteorder(">"))


@_layout
def native_by_name(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The native byte order spelt out, as file readers make it: "<i2" instead of "=i2"."""
    order = "<" if __import__("sys").byteorder == "little" else ">"
    return a.view(a.dtype.newbyteorder(order)).copy()


@_layout
def unaligned(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


@_layout
def read_only(a: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    a = a.copy()
    a.flags.writeable = False
    return a


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return LAYOUTS[request.param]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real scans with ground truth; skips where it is absent."""
    if not _DATA.is_dir():
        pytest.skip(f"no real scans at {_DATA} (set MEDSEG_FAST_DATA)")
    return _DATA
