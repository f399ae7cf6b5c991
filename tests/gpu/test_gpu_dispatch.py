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
from medseg_fast.nn import functional as F

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
            using_allocator=lambda function: contextlib.nullcontext(),
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


def test_arrays_of_cupy_may_all_lie_in_lists(cupy, rng):
    from medseg_fast import _cupy

    def array(*shape):
        return rng.normal(size=shape).astype(np.float32).view(FakeArray)

    features = [array(1, 2, 8, 10), array(1, 2, 4, 5)]
    boxes = [np.array([[1, 1, 6, 5]], np.float32).view(FakeArray)]
    args = features, boxes, 3, 2, None, (1.0, 0.5)
    expected = F.multiscale_roi_align([f.view(np.ndarray) for f in features], *args[1:])
    got = _cupy.call(OPERATIONS["multiscale_roi_align"], args, {})
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.fixture
def torch(cupy, monkeypatch):
    """PyTorch whose tensors say that they lie on a GPU."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))
    monkeypatch.setattr(
        torch.Tensor, "device", property(lambda self: types.SimpleNamespace(type="cuda", index=0))
    )
    stream = types.SimpleNamespace(cuda_stream=1234)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    return torch


def test_a_tensor_comes_back_as_a_tensor_on_its_stream(cupy, torch):
    from medseg_fast import _torch_cuda

    image = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    mask = _torch_cuda.run(OPERATIONS["threshold"], (image, 5), {})
    assert isinstance(mask, torch.Tensor)
    assert mask.dtype is torch.bool
    assert_array_equal(mask.numpy(), image.numpy() >= 5)
    assert cupy.streams == [1234]
    out = torch.zeros((3, 4), dtype=torch.bool)
    assert _torch_cuda.run(OPERATIONS["threshold"], (image, 5), {"out": out}) is out
    assert_array_equal(out.numpy(), mask.numpy())
    labels, count = _torch_cuda.run(OPERATIONS["label"], (mask,), {"return_num": True})
    assert isinstance(labels, torch.Tensor)
    assert count == 1


def test_bfloat16_is_computed_in_float32_and_comes_back(cupy, torch, rng):
    """What networks do, as far as Triton has no kernel for it; other operations refuse it."""
    from medseg_fast import _torch_cuda

    def tensor(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).bfloat16()

    x, volume = tensor(2, 3, 8, 10), tensor(1, 2, 4, 6, 6)
    boxes = torch.tensor([[0, 1, 1, 6, 5], [1, 0, 2, 9, 7]]).bfloat16()
    corners, scores = boxes[:, 1:], tensor(2)
    pooled = F.max_pool_with_indices(x.float().numpy(), 2)
    values, indices = torch.from_numpy(pooled[0]).bfloat16(), torch.from_numpy(pooled[1])
    for name, *args in [
        ("conv_pool", volume, tensor(3, 2, 3, 3, 3)),
        ("pyramid_pool", x, (1, 2), [tensor(2, 3), tensor(1, 3)]),
        ("max_unpool", values, indices, 2),
        ("transposed_conv2x2", x, tensor(3, 2, 2, 2), tensor(2)),
        ("crop_concat", x, x[..., 1:7]),
        ("roi_align", x, boxes, 3),
        ("roi_align_backward", tensor(2, 3, 2, 2), boxes, (2, 3, 8, 10)),
        ("multiscale_roi_align", [x, tensor(2, 3, 4, 5)], boxes, 3, -1, None, (1.0, 0.5)),
        (
            "multiscale_roi_align_backward",
            *(tensor(2, 3, 2, 2), boxes, ((2, 3, 8, 10), (2, 3, 4, 5)), -1, None, (1.0, 0.5)),
        ),
        ("resample_argmax", volume, (5, 7, 6)),
        ("paste_masks", tensor(2, 1, 4, 4), corners, (9, 11)),
        ("nms", corners, scores, 0.5),
        ("soft_nms", corners, scores),
    ]:
        got = _torch_cuda.run(OPERATIONS[name], tuple(args), {})
        wide = _torch_cuda.run(OPERATIONS[name], tuple(map(widened, args)), {})
        several = isinstance(got, tuple)
        for one, other in zip(*((r if several else (r,)) for r in (got, wide)), strict=True):
            told = torch.bfloat16 if other.is_floating_point() and name != "soft_nms" else None
            assert one.dtype is (told or other.dtype), name
            assert torch.equal(one, other.to(one.dtype)), name
    out = torch.zeros((2, 2, 16, 20)).bfloat16()
    args = x, tensor(3, 2, 2, 2)
    op = OPERATIONS["transposed_conv2x2"]
    assert _torch_cuda.run(op, args, {"out": out}) is out
    assert torch.equal(out, _torch_cuda.run(op, args, {}))
    with pytest.raises(TypeError, match=r"sobel: image must be .* pass image.float"):
        ms.sobel(x[0, 0])


def widened(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(widened, value))
    return (
        value.float()
        if hasattr(value, "is_floating_point") and value.is_floating_point()
        else value
    )


def test_memory_of_kernels_comes_from_pytorch(cupy, torch, monkeypatch):
    from medseg_fast import _torch_cuda

    allocators = []
    cupy.cuda.using_allocator = lambda f: allocators.append(f) or contextlib.nullcontext()
    cupy.cuda.UnownedMemory = lambda *given: given
    cupy.cuda.MemoryPointer = lambda memory, offset: (memory, offset)
    _torch_cuda.run(OPERATIONS["threshold"], (torch.zeros(5), 1), {})
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda size, dtype, device: empty(size, dtype=dtype))
    (place, size, tensor, device), offset = allocators[0](100)
    assert (place, size, device, offset) == (tensor.data_ptr(), 100, 0, 0)
    assert tensor.numel() == 100


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
    monkeypatch.setattr(sys, "argv", [str(path)])
    measured = path.with_suffix(".md").read_bytes()
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    assert stopped.value.code == 0
    assert "No GPU to measure" in capsys.readouterr().out
    assert path.with_suffix(".md").read_bytes() == measured
