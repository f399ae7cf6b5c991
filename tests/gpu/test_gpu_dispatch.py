"""The ways from CuPy arrays and CUDA tensors to a launch and back, with NumPy in CuPy's place."""

from __future__ import annotations

import contextlib
import runpy
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from _shim import ShimDevice, needs_compiler
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS

pytestmark = needs_compiler


class FakeArray(np.ndarray):
    """CuPy's arrays are a context: their device."""

    device = contextlib.nullcontext()


@pytest.fixture
def cupy(monkeypatch):
    """CuPy with one device, whose kernels the shim runs."""
    streams = []
    fake = types.SimpleNamespace(
        ndarray=np.ndarray,
        from_dlpack=lambda tensor: tensor.numpy(),
        streams=streams,
        cuda=types.SimpleNamespace(
            Device=lambda index: contextlib.nullcontext(),
            ExternalStream=lambda stream: streams.append(stream) or contextlib.nullcontext(),
            runtime=types.SimpleNamespace(CUDARuntimeError=RuntimeError, getDeviceCount=lambda: 1),
        ),
    )
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "medseg_fast._cupy", raising=False)
    monkeypatch.delattr(ms, "_cupy", raising=False)
    from medseg_fast import _cupy

    monkeypatch.setattr(_cupy, "CupyDevice", ShimDevice)
    yield fake
    sys.modules.pop("medseg_fast._cupy", None)
    del ms._cupy


def test_an_array_of_cupy_goes_to_the_gpu(cupy):
    from medseg_fast import _cupy

    image, op = np.arange(12.0).view(FakeArray), OPERATIONS["threshold"]
    assert_array_equal(_cupy.call(op, (image, 5), {}), np.arange(12) >= 5)
    with pytest.raises(ValueError, match="threshold: lower must be a number, got NaN"):
        _cupy.call(op, (image, np.nan), {})


def test_a_tensor_comes_back_as_a_tensor_on_its_stream(cupy, monkeypatch):
    torch = pytest.importorskip("torch")
    from medseg_fast import _torch_cuda

    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    monkeypatch.setattr(
        torch.Tensor, "device", property(lambda self: types.SimpleNamespace(type="cuda", index=0))
    )
    stream = types.SimpleNamespace(cuda_stream=1234)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    image = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    mask = _torch_cuda.run(OPERATIONS["threshold"], (image, 5), {})
    assert isinstance(mask, torch.Tensor)
    assert mask.dtype is torch.bool
    assert_array_equal(mask.numpy(), image.numpy() >= 5)
    assert cupy.streams == [1234]
    out = torch.zeros((3, 4), dtype=torch.bool)
    assert _torch_cuda.run(OPERATIONS["threshold"], (image, 5), {"out": out}) is out
    assert_array_equal(out.numpy(), mask.numpy())
    with pytest.raises(NotImplementedError, match="threshold: no GPU kernel for bfloat16"):
        _torch_cuda.run(OPERATIONS["threshold"], (image.bfloat16(), 5), {})
    labels, count = _torch_cuda.run(OPERATIONS["label"], (mask,), {"return_num": True})
    assert isinstance(labels, torch.Tensor)
    assert count == 1


def test_without_cupy_the_error_says_what_to_install(monkeypatch):
    torch = pytest.importorskip("torch")
    from medseg_fast import _torch_cuda

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(RuntimeError, match=r"CUDA tensors need CuPy: pip install .*cuda12"):
        _torch_cuda.run(OPERATIONS["threshold"], (torch.zeros(3), 1), {})


def test_the_benchmark_says_that_there_is_no_gpu(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.delitem(sys.modules, "medseg_fast._cupy", raising=False)
    monkeypatch.delattr(ms, "_cupy", raising=False)
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert stopped.value.code == 0
    assert "No GPU to measure" in capsys.readouterr().out
    assert not path.with_suffix(".md").exists()
