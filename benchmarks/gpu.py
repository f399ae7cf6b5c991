"""Times of the GPU kernels beside those of others; the right answer comes first.

    python benchmarks/gpu.py    writes benchmarks/gpu.md

Every result must equal our CPU's (and a rival's ours, where it promises the same) before anything
is timed. Times are medians between device events on one stream; inputs and results stay on the GPU.
Needs CuPy; cuCIM, PyTorch and torchvision join where installed. Without a GPU it says so, writes
nothing and exits 0.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import medseg_fast as ms
from medseg_fast.nn import functional as F

Call = Callable[[], Any]


class Case(NamedTuple):
    """An operation on one input: its arguments, in NumPy, and the rivals' calls on the GPU."""

    operation: Callable[..., Any]
    data: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rivals: Callable[..., dict[str, Call]]  # given the arguments on the GPU
    moved: float  # bytes that the task must read and write once
    tolerance: float = 0.0


def why_no_gpu() -> str:
    """Why nothing can be measured here; empty where it can."""
    try:
        from medseg_fast import _cupy
    except ImportError:
        return 'CuPy is not installed: pip install "medseg_fast[cuda12]" or "medseg_fast[cuda13]"'
    return _cupy.why_not()


def optional(name: str) -> Any:
    """A rival's module, or None."""
    try:
        return import_module(name)
    except ImportError:
        return None


def cases() -> Iterator[Case]:
    """Images of several sizes: smooth shapes with noise, as scans have them."""
    rng = np.random.default_rng(0)
    ndimage, skimage = optional("cupyx.scipy.ndimage"), optional("cucim.skimage")

    def cucim(name: str) -> Any:
        """A function of cuCIM, under scikit-image's name."""
        module, _, function = name.rpartition(".")
        return getattr(import_module(f"cucim.skimage.{module}"), function)

    def rivals(**calls: Callable[..., Any]) -> Callable[..., dict[str, Call]]:
        return lambda *args: {name: lambda c=c: c(*args) for name, c in calls.items()}

    def with_cucim(name: str, *more: Any, **options: Any) -> Callable[..., dict[str, Call]]:
        if skimage is None:
            return rivals()
        return rivals(cucim=lambda image, *_: cucim(name)(image, *more, **options))

    for side in (512, 2048, 8192):
        data = f"{side} x {side}"
        noise = rng.normal(0, 0.08, (side, side)).astype(np.float32)
        image = ms.gaussian(rng.random((side, side), np.float32), 6) * 8 % 1 + noise
        n = image.size
        greys = (np.clip(image, 0, 1) * 255).astype(np.uint8)
        mask = image > 0.5
        compare = rivals(cupy=lambda image, t: image >= t)
        yield Case(ms.threshold, f"uint8 {data}", (greys, 128), {}, compare, 2 * n)
        otsu = with_cucim("filters.threshold_otsu")
        yield Case(ms.threshold_otsu, f"uint8 {data}", (greys,), {}, otsu, n)
        sobel = with_cucim("filters.sobel")
        yield Case(ms.sobel, f"float32 {data}", (image,), {}, sobel, 8 * n, 1e-5)
        smooth = with_cucim("filters.gaussian", 2.0)
        yield Case(ms.gaussian, f"float32 {data}", (image, 2.0), {}, smooth, 8 * n, 1e-5)
        canny = with_cucim("feature.canny", 2.0)
        yield Case(ms.canny, f"float32 {data}", (image, 2.0), {}, canny, 5 * n)
        label = rivals(cupy=lambda mask: ndimage.label(mask, structure=np.ones((3, 3)))[0])
        yield Case(ms.label, f"bool {data}", (mask,), {}, label, 5 * n)
        # No rival: cuCIM has no watershed. What must be moved: the image and the labels.
        edges = (ms.sobel(image) * 255).clip(0, 255).astype(np.uint8)
        yield Case(ms.watershed, f"uint8 {data}", (edges,), {}, rivals(), 5 * n)
        # A noisy image cut in two, with the capacities that segmentation uses.
        terminals = (np.abs(image - 0.5) * 400).astype(np.int32)
        cut = (terminals * mask, terminals * ~mask, 40)
        yield Case(ms.maxflow_grid, f"int32 {data}", cut, {}, rivals(), 9 * n)
        seed = tuple(map(int, np.argwhere(mask)[0]))
        region = (image, seed, 0.5, 9.0)
        yield Case(ms.connected_threshold, f"float32 {data}", region, {}, rivals(), 5 * n)
    volume = rng.random((256, 256, 256), np.float32)
    mask = ms.gaussian(volume, 2) > 0.5
    label = rivals(cupy=lambda mask: ndimage.label(mask, structure=np.ones((3, 3, 3)))[0])
    yield Case(ms.label, "bool 256 x 256 x 256", (mask,), {}, label, 5 * mask.size)
    yield from of_networks(rng)


def of_networks(rng: np.random.Generator) -> Iterator[Case]:
    """Detections and logits, with PyTorch's functions as rivals."""
    torch, vision = optional("torch"), optional("torchvision.ops")

    def by_torch(call: Callable[..., Any]) -> Callable[..., dict[str, Call]]:
        def rivals(*args: Any) -> dict[str, Call]:
            if torch is None or vision is None or not torch.cuda.is_available():
                return {}
            tensors = [
                torch.as_tensor(a, device="cuda") if hasattr(a, "shape") else a for a in args
            ]
            return {"torch": lambda: call(*tensors)}

        return rivals

    for n in (1000, 20_000):
        low = rng.random((n, 2), np.float32) * 800
        boxes = np.concatenate([low, low + 20 + rng.random((n, 2), np.float32) * 60], 1)
        scores = rng.random(n, np.float32)
        nms = by_torch(lambda *a: vision.nms(*a))
        yield Case(F.nms, f"{n} boxes", (boxes, scores, 0.5), {}, nms, n * n / 8)
    features = rng.random((2, 256, 100, 100), np.float32)
    regions = np.concatenate([np.zeros((1000, 1), np.float32), boxes[:1000] / 9], 1)
    align = by_torch(lambda x, b, s, scale, r, a: vision.roi_align(x, b, s, scale, r, a))
    args = (features, regions, 7, 1.0, 2, True)
    moved = 4.0 * (features.size + 1000 * 256 * 49)
    yield Case(F.roi_align, "1000 boxes, 256 channels", args, {}, align, moved, 1e-4)
    logits = rng.random((1, 21, 64, 64), np.float32)
    resize = by_torch(
        lambda x, size: torch.nn.functional.interpolate(x, size, mode="bilinear").argmax(1)
    )
    shape = (1024, 1024)
    moved = 4.0 * logits.size + 1024 * 1024
    yield Case(F.resample_argmax, "21 classes to 1024 x 1024", (logits, shape), {}, resize, moved)


def run(case: Case, cupy: Any) -> list[str]:
    """Rows of the table: ours and each rival's, after the results were compared."""
    expected = case.operation(*case.args, **case.kwargs)
    args = tuple(cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in case.args)

    def ours() -> Any:
        return case.operation(*args, **case.kwargs)

    got = cupy.asnumpy(ours())
    np.testing.assert_allclose(got, expected, rtol=case.tolerance, atol=case.tolerance)
    rows = []
    name = case.operation.__name__
    for who, call in {"medseg_fast": ours, **case.rivals(*args)}.items():
        try:
            milliseconds = between_events(call, cupy)
        except Exception as error:  # a rival's failure is a row of its own
            rows.append(f"| {name} | {case.data} | {who} | {type(error).__name__} | |")
            continue
        share = case.moved / (milliseconds * 1e-3) / copy_bandwidth(cupy)
        rows.append(f"| {name} | {case.data} | {who} | {milliseconds:.3f} | {share:.0%} |")
    return rows


def between_events(call: Call, cupy: Any, rounds: int = 20) -> float:
    """Median milliseconds of a call between two events on the current stream."""
    times = []
    for _ in range(rounds + 3):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        result = call()
        end.record()
        end.synchronize()
        del result
        times.append(cupy.cuda.get_elapsed_time(begin, end))
    return float(median(times[3:]))  # the first compile and fill pools


_bandwidth: list[float] = []


def copy_bandwidth(cupy: Any) -> float:
    """Bytes per second, read and written, of a copy of 256 MiB."""
    if not _bandwidth:
        source = cupy.zeros(1 << 28, cupy.uint8)
        target = cupy.empty_like(source)
        seconds = between_events(lambda: cupy.copyto(target, source), cupy) * 1e-3
        _bandwidth.append(2 * source.nbytes / seconds)
    return _bandwidth[0]


def main() -> int:
    reason = why_no_gpu()
    if reason:
        print(f"No GPU to measure: {reason}. Nothing was timed.")
        return 0
    import cupy

    device = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode()
    lines = [
        f"# GPU kernels on {device}",
        "",
        f"CuPy {cupy.__version__}, CUDA {cupy.cuda.runtime.runtimeGetVersion()}, copy bandwidth "
        f"{copy_bandwidth(cupy) / 1e9:.0f} GB/s. Milliseconds between device events, medians; the "
        "share is that of the copy bandwidth which the bytes that must be moved would take.",
        "",
        "| operation | data | by | ms | share of copy bandwidth |",
        "| --- | --- | --- | --- | --- |",
    ]
    for case in cases():
        for row in run(case, cupy):
            print(row, flush=True)
            lines.append(row)
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
