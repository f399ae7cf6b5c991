"""On a real GPU, where there is one: arrays of both libraries in and out, streams, graphs, Triton.

The differential tests beside this file run there as well with MEDSEG_FAST_TESTS=gpu; `python
benchmarks/gpu_session.py` runs all of it.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _triton as routes
from medseg_fast._dispatch import OPERATIONS
from medseg_fast.nn import functional as F


@pytest.fixture(scope="module")
def cupy():
    cupy = pytest.importorskip("cupy")
    from medseg_fast import _cupy

    if _cupy.why_not():
        pytest.skip(_cupy.why_not())
    return cupy


@pytest.fixture(scope="module")
def torch():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    return torch


def pipeline(frame):
    smooth = ms.gaussian(frame, 1.5)
    inside = ms.apply_hysteresis_threshold(smooth, 0.2, 0.4)
    return ms.canny(frame, 1.0), ms.label(inside), ms.distance_transform_edt(inside), smooth


def frame_of(rng):
    smooth = ms.gaussian(rng.random((237, 411)), 3)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


def same(got, expected):
    for one, other in zip(got, expected, strict=True):
        host = one.get() if hasattr(one, "get") else one.cpu().numpy()
        assert host.dtype == other.dtype
        if other.dtype.kind == "f":
            assert_allclose(host, other, rtol=1e-5, atol=1e-6)
        else:
            assert_array_equal(host, other)


def test_arrays_of_cupy_on_a_stream_of_the_caller(cupy, rng):
    frame = frame_of(rng)
    with cupy.cuda.Stream(non_blocking=True) as stream:
        results = pipeline(cupy.asarray(frame))
        stream.synchronize()
    assert all(isinstance(result, cupy.ndarray) for result in results)
    same(results, pipeline(frame))


def test_a_graph_of_cupy_gives_every_frame_its_results(cupy, rng):
    frames = [frame_of(rng) for _ in range(4)]
    run = ms.capture(pipeline, cupy.asarray(frames[0]))
    for frame in (*frames, frames[0]):
        same(run(cupy.asarray(frame)), pipeline(frame))
        pipeline(cupy.asarray(frames[1]))  # other work in between
        same(run(frame), pipeline(frame))
    with pytest.raises(RuntimeError, match="capture: the function does what a CUDA graph"):
        ms.capture(lambda frame: ms.watershed(frame), cupy.asarray(frames[0]))
    same(pipeline(cupy.asarray(frames[2])), pipeline(frames[2]))  # the device is none the worse


def test_tensors_on_a_stream_of_the_caller(cupy, torch, rng):
    frame = frame_of(rng)
    with torch.cuda.stream(torch.cuda.Stream()):
        results = pipeline(torch.from_numpy(frame).cuda())
    torch.cuda.synchronize()
    assert all(isinstance(result, torch.Tensor) and result.is_cuda for result in results)
    same(results, pipeline(frame))


def test_a_graph_of_tensors(cupy, torch, rng):
    frames = [frame_of(rng) for _ in range(3)]
    run = ms.capture(pipeline, torch.from_numpy(frames[0]).cuda())
    for frame in (*frames, frames[0]):
        same(run(torch.from_numpy(frame).cuda()), pipeline(frame))
        same(run(frame), pipeline(frame))


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_kernels_of_triton(torch, rng, name, monkeypatch):
    pytest.importorskip("triton")
    from medseg_fast.kernels import conv_pool_triton

    dtype, tolerance = getattr(torch, name), {"bfloat16": 6e-2, "float16": 1e-2}.get(name, 1e-4)
    if name == "float32":  # of which ROI Align and labels would be CuPy's
        monkeypatch.setattr(routes, "_installed", lambda package: package == "triton")

    def tensor(*shape):
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32)).to(dtype).cuda()

    def host(tensor):
        return tensor.float().cpu().numpy()

    x, weight, bias = tensor(2, 35, 61, 83), tensor(48, 35, 3, 3) / 18, tensor(48)
    for pool in (None, "max", "avg"):
        options = {"padding": 1, "activation": "relu", "pool": pool}
        assert routes.kernel_for(OPERATIONS["conv_pool"], (x, weight, bias), options) is not None
        got = F.conv_pool(x, weight, bias, **options)
        assert got.dtype is dtype
        expected = F.conv_pool(*map(host, (x, weight, bias)), **options)
        kernel = conv_pool_triton.conv_pool(x, weight, bias, **options)
        assert_allclose(host(kernel), host(got), rtol=0, atol=tolerance * np.abs(expected).max())
        most = tolerance * np.abs(expected).max()
        assert_allclose(host(got), expected, rtol=0, atol=most)
    low = rng.uniform(0, 50, (40, 2))
    rows = np.concatenate([rng.integers(0, 2, (40, 1)), low, low + rng.uniform(1, 30, (40, 2))], 1)
    boxes = torch.from_numpy(rows.astype(np.float32)).to(dtype).cuda()
    got = F.roi_align(x, boxes, (7, 7), 1.0, 2, True)
    expected = F.roi_align(host(x), host(boxes), (7, 7), 1.0, 2, True)
    assert_allclose(host(got), expected, rtol=0, atol=tolerance * 4)
    logits = tensor(2, 5, 33, 47)
    got = F.resample_argmax(logits, (100, 150)).cpu().numpy()
    assert_array_equal(got, F.resample_argmax(host(logits), (100, 150)))


def test_bfloat16_where_triton_has_no_kernel(cupy, torch, rng):
    x = torch.from_numpy(rng.normal(size=(1, 4, 9, 12)).astype(np.float32)).bfloat16().cuda()
    weight = torch.from_numpy(rng.normal(size=(4, 3, 2, 2)).astype(np.float32)).bfloat16().cuda()
    got = F.transposed_conv2x2(x, weight)
    assert got.dtype is torch.bfloat16
    expected = F.transposed_conv2x2(x.float().cpu().numpy(), weight.float().cpu().numpy())
    assert_allclose(got.float().cpu().numpy(), expected, rtol=1e-2, atol=1e-2)
