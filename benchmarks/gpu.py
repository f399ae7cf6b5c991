"""Times of the GPU kernels beside those of others; the right answer comes first.

    python benchmarks/gpu.py [--seconds N] [--table FILE]    writes benchmarks/gpu.md

Every result must equal our CPU's (and a rival's ours, where it promises the same) before anything
is timed. Times are medians between device events on one stream; inputs and results stay on the GPU.
Needs CuPy; cuCIM, PyTorch and torchvision join where installed. Small inputs come first, and with
--seconds it stops where they are over. Without a GPU it says so, writes nothing and exits 0.
"""

from __future__ import annotations

import argparse
import sys
import time
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


class Sizes(NamedTuple):
    """Extents of the inputs."""

    sides: tuple[int, ...] = (512, 2048, 8192)  # of images
    volume: int = 256
    boxes: tuple[int, ...] = (1000, 20_000)
    canvas: int = 900  # that the boxes lie on
    regions: int = 1000
    channels: int = 256
    features: int = 100
    classes: int = 21
    logits: int = 64
    labels: int = 1024


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


def rivals(**calls: Callable[..., Any]) -> Callable[..., dict[str, Call]]:
    """Functions of the arguments, by the rival's name."""
    return lambda *args: {name: lambda c=c: c(*args) for name, c in calls.items()}


def cases(sizes: Sizes) -> Iterator[Case]:
    """All of them; at least one for each module that launches kernels."""
    rng = np.random.default_rng(0)
    yield from of_images(rng, sizes._replace(sides=sizes.sides[:1]))
    yield from of_detections(rng, sizes)
    yield from of_features(rng, sizes)
    yield from of_volumes(rng, sizes)
    yield from of_images(rng, sizes._replace(sides=sizes.sides[1:]))


def of_images(rng: np.random.Generator, sizes: Sizes) -> Iterator[Case]:
    """Images of several sizes: smooth shapes with noise, as scans have them."""
    ndimage, skimage = optional("cupyx.scipy.ndimage"), optional("cucim.skimage")

    def cucim(name: str) -> Any:
        """A function of cuCIM, under scikit-image's name."""
        module, _, function = name.rpartition(".")
        return getattr(import_module(f"cucim.skimage.{module}"), function)

    def with_cucim(name: str, *more: Any, **options: Any) -> Callable[..., dict[str, Call]]:
        if skimage is None:
            return rivals()
        return rivals(cucim=lambda image, *_: cucim(name)(image, *more, **options))

    for side in sizes.sides:
        data = f"{side} x {side}"
        noise = rng.normal(0, 0.08, (side, side)).astype(np.float32)
        image = ms.gaussian(rng.random((side, side), np.float32), 6) * 8 % 1 + noise
        n = image.size
        greys = (np.clip(image, 0, 1) * 255).astype(np.uint8)
        mask = image > 0.5
        plain = rivals(cupy=lambda image, t: image >= t)
        yield Case(ms.threshold, f"uint8 {data}", (greys, 128), {}, plain, 2 * n)
        otsu = with_cucim("filters.threshold_otsu")
        yield Case(ms.threshold_otsu, f"uint8 {data}", (greys,), {}, otsu, n)
        sobel = with_cucim("filters.sobel")
        yield Case(ms.sobel, f"float32 {data}", (image,), {}, sobel, 8 * n, 1e-5)
        for function in (ms.laplace, ms.roberts):
            other = with_cucim(f"filters.{function.__name__}")
            yield Case(function, f"float32 {data}", (image,), {}, other, 8 * n, 1e-5)
        li = with_cucim("filters.threshold_li")
        yield Case(ms.threshold_li, f"float32 {data}", (image,), {}, li, 4 * n, 1e-5)
        smooth = with_cucim("filters.gaussian", 2.0)
        yield Case(ms.gaussian, f"float32 {data}", (image, 2.0), {}, smooth, 8 * n, 1e-5)
        canny = with_cucim("feature.canny", 2.0)
        yield Case(ms.canny, f"float32 {data}", (image, 2.0), {}, canny, 5 * n)
        label = labelled(ndimage, 2)
        yield Case(ms.label, f"bool {data}", (mask,), {}, label, 5 * n)
        low_high = (image, 0.4, 0.7)
        hysteresis = with_cucim("filters.apply_hysteresis_threshold", *low_high[1:])
        yield Case(
            ms.apply_hysteresis_threshold, f"float32 {data}", low_high, {}, hysteresis, 5 * n
        )
        far = rivals()
        if ndimage is not None:
            far = rivals(cupy=lambda mask: ndimage.distance_transform_edt(mask))
        yield Case(ms.distance_transform_edt, f"bool {data}", (mask,), {}, far, 9 * n)
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
        minima = with_cucim("morphology.local_minima")
        yield Case(ms.local_minima, f"uint8 {data}", (greys,), {}, minima, 2 * n)


def labelled(ndimage: Any, ndim: int) -> Callable[..., dict[str, Call]]:
    """CuPy's `label` with all neighbours, as a rival."""
    if ndimage is None:
        return rivals()
    return rivals(cupy=lambda mask: ndimage.label(mask, structure=np.ones((3,) * ndim))[0])


def of_volumes(rng: np.random.Generator, sizes: Sizes) -> Iterator[Case]:
    side = sizes.volume
    data, n = f"{side} x {side} x {side}", side**3
    volume = ms.gaussian(rng.random((side,) * 3, np.float32), 2)
    label = labelled(optional("cupyx.scipy.ndimage"), 3)
    yield Case(ms.label, f"bool {data}", (volume > 0.5,), {}, label, 5 * n)
    levels = ((volume - volume.min()) / np.ptp(volume) * 255).astype(np.uint8)
    yield Case(ms.watershed, f"uint8 {data}", (levels,), {}, rivals(), 5 * n)


def by_torch(
    call: Callable[..., Any] | None, triton: Callable[..., Any] | None = None
) -> Callable[..., dict[str, Call]]:
    """Functions of tensors as rivals, where PyTorch has a GPU: its own, and one of ours."""

    def rivals(*args: Any) -> dict[str, Call]:
        torch = optional("torch")
        if torch is None or not torch.cuda.is_available():
            return {}
        tensors = [torch.as_tensor(a, device="cuda") if hasattr(a, "shape") else a for a in args]
        found = {} if call is None else {"torch": lambda: call(torch, *tensors)}
        if triton is not None:
            found["medseg_fast, Triton"] = lambda: triton(*tensors)
        return found

    return rivals


def in_triton(operation: str) -> Callable[..., Any]:
    """Our kernel of Triton for an operation, as a rival of that in CUDA C++."""

    def call(*args: Any, **kwargs: Any) -> Any:
        module = import_module(f"medseg_fast.kernels.{operation}_triton")
        return getattr(module, operation)(*args, **kwargs)

    return call


def of_detections(rng: np.random.Generator, sizes: Sizes) -> Iterator[Case]:
    """Boxes and masks."""
    vision = optional("torchvision.ops")
    for n in sizes.boxes:
        low = rng.random((n, 2), np.float32) * (sizes.canvas * 0.9)
        boxes = np.concatenate(
            [low, low + sizes.canvas * (0.02 + rng.random((n, 2), np.float32) / 15)], 1
        )
        scores = rng.random(n, np.float32)
        nms = rivals() if vision is None else by_torch(lambda torch, *a: vision.nms(*a))
        yield Case(F.nms, f"{n} boxes", (boxes, scores, 0.5), {}, nms, n * n / 8)
    masks = rng.random((len(boxes[:100]), 1, 28, 28), np.float32)
    canvas = (masks, boxes[:100], (sizes.canvas,) * 2)
    moved = 4.0 * len(masks) * sizes.canvas**2
    pasted = rivals()
    if vision is not None:
        heads = import_module("torchvision.models.detection.roi_heads")
        pasted = by_torch(lambda torch, *a: heads.paste_masks_in_image(*a))
    yield Case(F.paste_masks, f"{len(masks)} masks", canvas, {}, pasted, moved, 1e-4)
    count, channels, side = sizes.regions, sizes.channels, sizes.features
    features = rng.random((2, channels, side, side), np.float32)
    regions = boxes[:count] * (side / sizes.canvas)
    regions = np.concatenate([np.zeros((len(regions), 1), np.float32), regions], 1)
    args = (features, regions, (7, 7), 1.0, 2, True)
    align = None if vision is None else lambda torch, *a: vision.roi_align(*a)
    moved = 4.0 * (features.size + len(regions) * channels * 49)
    data = f"{len(regions)} boxes, {channels} channels"
    back = (rng.random((len(regions), channels, 7, 7), np.float32), regions, features.shape)
    gather = rivals() if vision is None else by_torch(roi_align_backward)
    yield Case(F.roi_align_backward, data, (*back, 1.0, 2, True), {}, gather, moved, 1e-3)
    yield Case(F.roi_align, data, args, {}, by_torch(align, in_triton("roi_align")), moved, 1e-4)
    levels = [features, np.ascontiguousarray(features[:, :, ::2, ::2])]
    options = {"scales": (1.0, 0.5), "canonical_scale": side / 4, "canonical_level": 0}
    pyramid = (levels, regions, (7, 7), 2)
    yield Case(F.multiscale_roi_align, data, pyramid, options, rivals(), 1.25 * moved, 1e-4)


def roi_align_backward(
    torch: Any, gradient: Any, boxes: Any, shape: Any, scale: float, samples: int, aligned: bool
) -> Any:
    """torchvision's, by atomic additions: its sums differ from run to run."""
    sizes = (*gradient.shape[2:], *shape)
    return torch.ops.torchvision._roi_align_backward(
        gradient, boxes, scale, *sizes, samples, aligned
    )


def of_features(rng: np.random.Generator, sizes: Sizes) -> Iterator[Case]:
    """Features and logits."""
    logits = rng.random((1, sizes.classes, sizes.logits, sizes.logits), np.float32)
    resize = by_torch(
        lambda torch, x, size: torch.nn.functional.interpolate(x, size, mode="bilinear").argmax(1),
        in_triton("resample_argmax"),
    )
    side = sizes.labels
    moved = 4.0 * logits.size + side * side
    data = f"{sizes.classes} classes to {side} x {side}"
    yield Case(F.resample_argmax, data, (logits, (side, side)), {}, resize, moved)
    channels, side = sizes.channels, sizes.features // 2 * 2
    for dtype, tolerance in ((np.float32, 1e-3), (np.float16, 2e-2)):
        yield of_layer(rng, channels, side, dtype, tolerance)
    features = rng.random((1, channels, side, side), np.float32)
    pooled = F.max_pool_with_indices(features, 2)
    pyramid = (features, (1, 2, 3, 6))
    data = f"{channels} channels of {side} x {side}, 4 grids"
    moved = 4.0 * features.size * 6
    yield Case(F.pyramid_pool, data, pyramid, {}, by_torch(pyramid_by_functions), moved, 1e-4)
    up = (rng.normal(size=(channels, channels // 2 or 1, 2, 2)) / channels).astype(np.float32)
    moved = 4.0 * features.size * (1 + 4 * up.shape[1] / channels)
    data = f"{channels} channels of {side} x {side}, doubled to {up.shape[1]}"
    double = in_full(lambda torch, x, w: torch.nn.functional.conv_transpose2d(x, w, stride=2))
    yield Case(F.transposed_conv2x2, data, (features, up), {}, double, moved, 1e-4)
    unpool = by_torch(lambda torch, *a: torch.nn.functional.max_unpool2d(*a))
    data = f"{channels} channels of {side} x {side}"
    yield Case(F.max_unpool, data, (*pooled, 2), {}, unpool, 4.0 * features.size)


def of_layer(rng: np.random.Generator, channels: int, side: int, dtype: Any, tol: float) -> Case:
    """A U-Net's layer with its pooling, beside PyTorch's functions one after the other."""
    x = rng.normal(size=(1, channels, side, side)).astype(dtype)
    weight = (rng.normal(size=(channels, channels, 3, 3)) / channels**0.5 / 3).astype(dtype)
    bias = rng.normal(size=channels).astype(dtype)

    def by_functions(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
        f = torch.nn.functional
        return f.max_pool2d(f.relu(f.conv2d(x, weight, bias, padding=1)), 2)

    def layer(x: Any, weight: Any, bias: Any) -> Any:
        options = {"padding": 1, "activation": "relu", "pool": "max"}
        if type(x) is np.ndarray and x.dtype == np.float16:
            return layer(*(a.astype(np.float32) for a in (x, weight, bias)))  # on the CPU
        return F.conv_pool(x, weight, bias, **options)

    layer.__name__ = "conv_pool"
    moved = x.itemsize * (x.size * 1.25 + weight.size)
    data = f"{np.dtype(dtype)}, {channels} channels of {side} x {side}"
    rivals = in_full(by_functions) if dtype is np.float32 else by_torch(by_functions)
    return Case(layer, data, (x, weight, bias), {}, rivals, moved, tol)


def in_full(call: Callable[..., Any]) -> Callable[..., dict[str, Call]]:
    """PyTorch's convolutions with float32's precision; beside it by default, with that of TF32."""

    def full(torch: Any, *args: Any) -> Any:
        with torch.backends.cudnn.flags(allow_tf32=False):
            return call(torch, *args)

    def rivals(*args: Any) -> dict[str, Call]:
        short = by_torch(call)(*args)
        return {**by_torch(full)(*args), **{f"{n}, TF32 (10 bits)": c for n, c in short.items()}}

    return rivals


def pyramid_by_functions(torch: Any, x: Any, bins: Any) -> Any:
    f = torch.nn.functional
    options = {"size": x.shape[-2:], "mode": "bilinear"}
    return torch.cat([x, *(f.interpolate(f.adaptive_avg_pool2d(x, b), **options) for b in bins)], 1)


def compare(got: Any, expected: Any, tolerance: float) -> None:
    """Raise AssertionError unless the results are equal, each of several."""
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            compare(one, other, tolerance)
        return
    host = got.get() if hasattr(got, "get") else got
    np.testing.assert_allclose(host, expected, rtol=tolerance, atol=tolerance)


def run(case: Case, cupy: Any) -> list[str]:
    """Rows of the table: ours, our CPU's and each rival's, after the results were compared."""
    begin = time.perf_counter()
    expected = case.operation(*case.args, **case.kwargs)
    on_cpu = (time.perf_counter() - begin) * 1e3
    args = tuple(cupy.asarray(a) if isinstance(a, np.ndarray) else a for a in case.args)

    def ours() -> Any:
        return case.operation(*args, **case.kwargs)

    compare(ours(), expected, case.tolerance)
    times: dict[str, Any] = {"medseg_fast": between_events(ours, cupy)}
    for who, call in case.rivals(*args).items():
        try:
            times[who] = between_events(call, cupy)
        except Exception as error:  # a rival's failure is a row of its own
            times[who] = type(error).__name__
    others = [t for who, t in times.items() if who not in OWN and isinstance(t, float)]
    ratio = f"{min(others) / times['medseg_fast']:.2f}x" if others else ""
    rows = []
    for who, found in {**times, f"our CPU, {ms.get_num_threads()} threads": on_cpu}.items():
        head = f"| {case.operation.__name__} | {case.data} | {who}"
        if not isinstance(found, float):
            rows.append(f"{head} | {found} | | |")
            continue
        share = f"{case.moved / (found * 1e-3) / copy_bandwidth(cupy):.0%}"
        first = who == "medseg_fast"
        rows.append(f"{head} | {found:.3f} | {ratio if first else ''} | {share if first else ''} |")
    return rows


# Rows that are no rivals: our own, and another answer.
OWN = {"medseg_fast", "medseg_fast, Triton", "torch, TF32 (10 bits)"}
ROUNDS = 3, 20  # to compile and fill pools, and timed
COPIED = 1 << 28  # bytes
ENOUGH = 2000.0  # milliseconds of one call, after which fewer rounds will do


def between_events(call: Call, cupy: Any) -> float:
    """Median milliseconds of a call between two events on the current stream."""
    times = []
    for _ in range(sum(ROUNDS)):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        result = call()
        end.record()
        end.synchronize()
        del result
        times.append(cupy.cuda.get_elapsed_time(begin, end))
        if len(times) > ROUNDS[0] and sum(times) > ENOUGH:
            break
    return float(median(times[ROUNDS[0] :]))


_bandwidth: list[float] = []


def copy_bandwidth(cupy: Any) -> float:
    """Bytes per second, read and written, of a large copy."""
    if not _bandwidth:
        source = cupy.zeros(COPIED, cupy.uint8)
        target = cupy.empty_like(source)
        seconds = between_events(lambda: cupy.copyto(target, source), cupy) * 1e-3
        _bandwidth.append(2 * source.nbytes / seconds)
    return _bandwidth[0]


def main(
    sizes: Sizes = Sizes(),  # noqa: B008
    target: Path = Path(__file__).with_suffix(".md"),  # noqa: B008
    seconds: float = float("inf"),
) -> int:
    end = time.monotonic() + seconds
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
        f"{copy_bandwidth(cupy) / 1e9:.0f} GB/s. Milliseconds between device events, medians, with "
        "what the host takes to launch. The ratio is the fastest rival's time over ours, the share "
        "that of the copy bandwidth which the bytes that must be moved would take. TF32 gives "
        "another answer and is no rival. Our CPU ran once, with its first touch of memory.",
        "",
        "| operation | data | by | ms | ratio | share of copy bandwidth |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for case in cases(sizes):
        if time.monotonic() > end:
            lines += [
                "",
                f"Stopped after {seconds:.0f} s, before {case.operation.__name__} of {case.data}.",
            ]
            break
        for row in run(case, cupy):
            print(row, flush=True)
            lines.append(row)
    target.write_text("\n".join(lines) + "\n")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--table", type=Path, default=Path(__file__).with_suffix(".md"))
    given = parser.parse_args()
    sys.exit(main(target=given.table, seconds=given.seconds))
