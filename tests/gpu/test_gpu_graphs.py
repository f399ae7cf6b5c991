"""CUDA graphs: recorded once, right for every input, without a copy or a wait inside."""

from __future__ import annotations

import contextlib
import sys
import types

import _graphs
import numpy as np
import pytest
from _graphs import GraphArray, now
from _shim import needs_compiler
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _dispatch
from medseg_fast.nn import functional as F
from medseg_fast.stream import Pipeline

pytestmark = needs_compiler


@pytest.fixture
def cupy(monkeypatch):
    """CuPy whose kernels the shim runs, and whose streams record."""
    fake = _graphs.fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for name in ("_cupy", "_cupy_graph"):
        monkeypatch.delitem(sys.modules, f"medseg_fast.{name}", raising=False)
        monkeypatch.delattr(ms, name, raising=False)
    from medseg_fast import _cupy

    monkeypatch.setattr(_cupy, "CupyDevice", _graphs.GraphDevice)
    route = _dispatch._route

    def routed(value):
        if type(value) in (list, tuple):
            return routed(value[0]) if value else None
        return _cupy.call if isinstance(value, GraphArray) else route(value)

    monkeypatch.setattr(_dispatch, "_route", routed)
    monkeypatch.setattr(sys.modules["medseg_fast.batch"], "_route", routed)
    library = lambda array: "cupy" if isinstance(array, GraphArray) else None  # noqa: E731
    monkeypatch.setattr(sys.modules["medseg_fast.capture"], "library_of_gpu", library)
    yield fake
    for name in ("_cupy", "_cupy_graph"):
        sys.modules.pop(f"medseg_fast.{name}", None)
        if hasattr(ms, name):
            delattr(ms, name)


def outlines(frame):
    """A pipeline of the operating theatre: smooth, find edges, keep what is inside, number it."""
    smooth = ms.gaussian(frame, 1.5)
    edges = ms.canny(frame, 1.0)
    inside = ms.apply_hysteresis_threshold(smooth, 0.2, 0.4)
    return edges, ms.label(inside), ms.distance_transform_edt(inside), ms.sobel(smooth)


def network(x, first, second, up):
    """A small U-Net's way down and up, to labels."""
    features = F.conv_pool(x, first, padding=1, activation="relu")
    small = F.conv_pool(features, second, padding=1, pool="max")
    joined = F.crop_concat(features, F.transposed_conv2x2(small, up))
    return F.resample_argmax(F.pyramid_pool(joined, (1, 2)), (15, 21))


def frames(rng, n, dtype=np.uint8):
    smooth = [ms.gaussian(rng.random((23, 41)), 2) for _ in range(n)]
    return [(255 * (s - s.min()) / np.ptp(s)).astype(dtype) for s in smooth]


def same(got, expected):
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            same(one, other)
        return
    assert got.dtype == expected.dtype
    if expected.dtype.kind == "f":
        assert_allclose(got.get(), expected, rtol=1e-5, atol=1e-6)
    else:
        assert_array_equal(got.get(), expected)


def test_a_pipeline_gives_every_frame_its_results(cupy, rng):
    first, *others = frames(rng, 4)
    run = ms.capture(outlines, cupy.asarray(first))
    names = list(now.names)
    for frame in (*others, first):
        same(run(cupy.asarray(frame)), outlines(frame))
        same(run(frame), outlines(frame))  # from the host
    assert run._graph.launches == 8
    assert now.names == names  # a replay launches no kernel by itself
    each = len(names) // 4  # three calls to warm up, one that is recorded
    assert names == names[:each] * 4
    assert len(run._graph.tape) >= each


def test_nothing_is_allocated_or_copied_while_recording(cupy, rng, monkeypatch):
    """The pool has seen it all before, and constants are there; a copy would raise."""
    before = {}
    begin, end = _graphs.Stream.begin_capture, _graphs.Stream.end_capture

    def begins(stream):
        before["fresh"] = now.pool.fresh
        begin(stream)

    def ends(stream):
        before["while"] = now.pool.fresh - before["fresh"]
        return end(stream)

    monkeypatch.setattr(_graphs.Stream, "begin_capture", begins)
    monkeypatch.setattr(_graphs.Stream, "end_capture", ends)
    x = rng.normal(size=(1, 2, 8, 12)).astype(np.float32)
    weights = [rng.normal(size=s).astype(np.float32) for s in ((3, 2, 3, 3), (4, 3, 3, 3))]
    weights.append(rng.normal(size=(4, 3, 2, 2)).astype(np.float32))
    for function, args in [(outlines, frames(rng, 1)), (network, [x, *weights])]:
        run = ms.capture(function, *map(cupy.asarray, args))
        assert before["while"] == 0
        fresh = run._pool.fresh
        same(run(*map(cupy.asarray, args)), function(*args))
        assert run._pool.fresh == fresh


def test_a_graph_keeps_its_memory_and_constants(cupy, rng):
    """Whatever runs between two replays; without pools of their own, graphs would share memory."""
    one, two = frames(rng, 2)
    graphs = [ms.capture(lambda f, s=s: ms.gaussian(f, s), cupy.asarray(one)) for s in (1, 2.5)]
    for frame in (two, one):
        results = [run(cupy.asarray(frame)) for run in graphs]
        for _ in range(3):
            outlines(cupy.asarray(frame))
        for result, sigma in zip(results, (1, 2.5), strict=True):
            same(result, ms.gaussian(frame, sigma))
    assert all(len(run._constants) == 1 for run in graphs)
    batch = np.stack([one, two])
    run = ms.capture(lambda images: ms.batch(ms.canny, images), cupy.asarray(batch))
    same(run(cupy.asarray(batch[::-1].copy())), ms.batch(ms.canny, batch[::-1]))


def test_a_graph_is_a_step_of_the_pipeline_of_frames(cupy, rng):
    """Recorded in one thread, launched in that of the pipeline."""
    given, masks = frames(rng, 5), []
    edges = ms.capture(lambda frame: ms.canny(frame, 1.0), cupy.asarray(given[0]))
    steps = [edges, lambda mask: mask.get()]
    sink = lambda result: masks.append(result.mask)  # noqa: E731
    summary = Pipeline(given, steps, sink, policy="all", warm_up=2).run()
    assert summary.sent == 5
    assert edges._graph.launches == 7
    for frame, mask in zip(given, masks, strict=True):
        assert_array_equal(mask, ms.canny(frame, 1.0))


def test_results_are_the_graphs_own(cupy, rng):
    one, two = frames(rng, 2)
    run = ms.capture(lambda frame: ms.threshold(frame, 99), cupy.asarray(one))
    first = run(one)
    kept = first.get()
    assert run(two) is first
    assert_array_equal(first.get(), two >= 99)
    assert_array_equal(kept, one >= 99)


@pytest.mark.parametrize(
    "function",
    [
        lambda frame: ms.watershed(frame),
        lambda frame: ms.threshold(frame, ms.threshold_otsu(frame)),
        lambda frame: ms.label(frame > 99, return_num=True),
        lambda frame: ms.connected_threshold(frame, (3, 3), 0, 99),
        lambda frame: ms.local_minima(frame, indices=True),
        lambda frame: ms.sobel(frame).get(),
        lambda frame: frame if frame.sum() > 3 else -frame,
    ],
)
def test_what_waits_for_the_device_is_refused(cupy, rng, function):
    (frame,) = frames(rng, 1)
    with pytest.raises(RuntimeError, match="capture: the function does what a CUDA graph"):
        ms.capture(function, cupy.asarray(frame))
    assert now.tape is None  # the stream records no longer
    run = ms.capture(lambda frame: ms.sobel(frame), cupy.asarray(frame))
    same(run(frame), ms.sobel(frame))


def test_what_is_wrong(cupy, rng):
    (frame,) = frames(rng, 1)
    with pytest.raises(TypeError, match="capture: examples must be at least one array"):
        ms.capture(outlines)
    with pytest.raises(TypeError, match="capture: examples must be arrays of one library"):
        ms.capture(outlines, cupy.asarray(frame), frame)
    run = ms.capture(lambda frame: ms.sobel(frame), cupy.asarray(frame))
    with pytest.raises(ValueError, match=r"inputs must be like the examples, \(23, 41\) of uint8"):
        run(frame[1:])
    with pytest.raises(ValueError, match=r"got .* of float32"):
        run(frame.astype(np.float32))
    with pytest.raises(TypeError, match="capture: the graph takes 1 arrays, got 2"):
        run(frame, frame)


def test_on_the_cpu_the_function_is_called(rng):
    (frame,) = frames(rng, 1)
    assert ms.capture(outlines, frame) is outlines
    torch = pytest.importorskip("torch")
    assert ms.capture(outlines, torch.from_numpy(frame)) is outlines


class FakeTorch:
    """PyTorch's streams and graphs: what is called while recording is called again by `replay`."""

    def __init__(self, torch, monkeypatch):
        self.log, self.torch = [], torch
        cuda = torch.cuda
        for name, value in {
            "device": lambda device: contextlib.nullcontext(),
            "current_stream": lambda: self.stream("current"),
            "Stream": lambda: self.stream("aside"),
            "stream": lambda stream: self.log.append("aside") or contextlib.nullcontext(),
            "CUDAGraph": lambda: self,
            "graph": self.graph,
        }.items():
            monkeypatch.setattr(cuda, name, value)
        monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda self: True))

    def stream(self, name):
        wait = lambda other: self.log.append(f"{name} waits for {other.name}")  # noqa: E731
        return types.SimpleNamespace(name=name, wait_stream=wait)

    @contextlib.contextmanager
    def graph(self, graph):
        assert graph is self
        self.log.append("record")
        yield
        self.log.append("recorded")

    def replay(self):
        self.log.append("replay")


def test_tensors_go_through_pytorchs_graphs(monkeypatch):
    torch = pytest.importorskip("torch")
    fake = FakeTorch(torch, monkeypatch)
    example, calls = torch.arange(6.0).reshape(2, 3), []

    def function(x):
        assert not torch.is_grad_enabled()
        calls.append(x)
        fake.log.append("call")
        return x * 2

    run = ms.capture(function, example)
    warm = ["aside waits for current", "aside", "call", "call", "call", "current waits for aside"]
    assert fake.log == [*warm, "record", "call", "recorded"]
    mine = calls[-1]
    assert all(x is mine for x in calls)
    assert mine is not example
    other = torch.ones(2, 3)
    assert run(other) is run.results
    assert torch.equal(mine, other)  # copied in, then replayed
    run(np.full((2, 3), 5, np.float32))
    assert torch.equal(mine, torch.full((2, 3), 5.0))
    assert fake.log[-2:] == ["replay", "replay"]
    with pytest.raises(ValueError, match="inputs must be like the examples"):
        run(other[:1])

    def waits(x):
        if fake.log[-1] == "record":
            raise RuntimeError("operation not permitted when stream is capturing")
        return x

    with pytest.raises(RuntimeError, match="capture: the function does what a CUDA graph"):
        ms.capture(waits, example)
