"""Small calls of every operation that has kernels for GPUs, with what its slow twin gives for them.

Sizes lie around the kernels' tiles of 8 by 32, and some are empty. Run as a program, Triton's
kernels write their results to a file, in the interpreter: TRITON_INTERPRET=1 must be set before
they are imported, hence a process of its own.

    TRITON_INTERPRET=1 python _technologies.py FILE.npz cpu
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from medseg_fast.nn import functional as F
from medseg_fast.reference import canny as _canny
from medseg_fast.reference import (
    components,
    distance,
    edges,
    graph_cut,
    minima,
    nn_conv_pool,
    nn_nms,
    nn_paste_masks,
    nn_pooling,
    nn_resampling,
    nn_roi_align,
    nn_upsampling,
    region,
    threshold,
    threshold_histogram,
    watershed,
)

SHAPES = [(1, 1), (8, 32), (9, 33), (0, 5), (3, 5, 34)]


class Case(NamedTuple):
    """A call, and its slow twin's answer; None where the twin has no words for the input."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    twin: Callable[[], Any] | None
    tolerance: float = 0.0  # of floats, relative to the largest


def cases() -> list[Case]:
    rng = np.random.default_rng(7)
    return [*_of_images(rng), *_of_networks(rng)]


def _of_images(rng: np.random.Generator) -> Iterator[Case]:
    peaks = rng.normal((40, 90), (5, 9), (400, 2)).astype(np.uint8)
    yield Case(
        "threshold_minimum", (peaks,), {}, lambda: threshold_histogram.threshold_minimum(peaks)
    )
    for shape in SHAPES:
        image = (rng.random(shape) * 7).astype(np.float32)
        greys, full = image.astype(np.uint8), 0 not in shape
        mask, ndim = greys > 3, len(shape)

        def case(
            name: str,
            *args: Any,
            twin: Any,
            tolerance: float = 0.0,
            full: bool = full,
            **kwargs: Any,
        ) -> Case:
            return Case(name, args, kwargs, twin if full else None, tolerance)

        yield case("threshold", greys, 3, twin=lambda i=greys: threshold.threshold(i, 3))
        if full:
            yield case(
                "threshold_otsu",
                greys,
                twin=lambda i=greys: (
                    threshold_histogram.threshold_otsu(i) if np.ptp(i) else i.flat[0]
                ),
            )
        if full and np.ptp(greys):
            yield case(
                "threshold_isodata",
                greys,
                twin=lambda i=greys: threshold_histogram.threshold_isodata(i)[0],
            )
            for name in ("threshold_yen", "threshold_triangle"):
                yield case(
                    name, greys, twin=lambda i=greys, n=name: getattr(threshold_histogram, n)(i)
                )
            yield case(
                "threshold_multiotsu",
                greys,
                twin=lambda i=greys: threshold_histogram.multiotsu_levels(i, 3),
            )
            for array, half in ((greys, 0.5), (image, np.diff(np.unique(image)).min() / 2)):
                yield case(
                    "threshold_li",
                    array,
                    twin=lambda i=array, h=half: threshold_histogram.threshold_li(i, float(h)),
                    tolerance=1e-5,
                )
        if full:
            yield case(
                "threshold_mean",
                greys,
                twin=lambda i=greys: threshold_histogram.threshold_mean(i),
            )
        yield case("label", mask, twin=lambda m=mask: components.label(m, 0)[0])
        yield case("fill_holes", mask, twin=lambda m=mask: components.fill_holes(m, 1))
        yield case(
            "apply_hysteresis_threshold",
            image,
            3.0,
            5.0,
            twin=lambda i=image: components.apply_hysteresis_threshold(i, 3.0, 5.0),
        )
        yield case(
            "distance_transform_edt",
            mask,
            twin=(lambda m=mask: distance.distance_transform_edt(m)[0]) if not mask.all() else None,
            tolerance=1e-12,
        )
        for kernel in ("sobel", "prewitt", "scharr", "farid"):
            yield case(
                kernel,
                image,
                twin=lambda i=image, k=kernel: edges.gradient(k, i),
                tolerance=1e-5,
            )
            for axis, letter in enumerate("hv" if ndim == 2 else ""):
                yield case(
                    f"{kernel}_{letter}",
                    image,
                    twin=lambda i=image, k=kernel, a=axis: edges.gradient(k, i, [a]),
                    tolerance=1e-5,
                )
        yield case("laplace", image, twin=lambda i=image: edges.laplace(i), tolerance=1e-5)
        yield case("roberts", image, twin=lambda i=image: edges.roberts(i), tolerance=1e-5)
        for name, last in (("roberts_pos_diag", 0), ("roberts_neg_diag", 1)):
            yield case(
                name,
                image,
                twin=lambda i=image, c=(*[0] * (ndim - 1), last): edges.cross(i, c),
                tolerance=1e-5,
            )
        yield case(
            "gaussian",
            image,
            1.5,
            twin=lambda i=image: edges.gaussian(i, [1.5] * i.ndim, "nearest"),
            tolerance=1e-5,
        )
        for name, order in (("gaussian_gradient_magnitude", 1), ("gaussian_laplace", 2)):

            def derived(i: Any = image, order: int = order) -> Any:
                parts = [
                    edges.gaussian(i, [1.2] * i.ndim, "reflect", orders=orders.tolist())
                    for orders in order * np.eye(i.ndim, dtype=int)
                ]
                return np.sqrt(np.square(parts).sum(0)) if order == 1 else np.sum(parts, 0)

            yield case(name, image, 1.2, twin=derived, tolerance=1e-5)
        yield case(
            "difference_of_gaussians",
            image,
            1.0,
            2.0,
            twin=lambda i=image: (
                edges.gaussian(i, [1.0] * i.ndim, "nearest")
                - edges.gaussian(i, [2.0] * i.ndim, "nearest")
            ),
            tolerance=1e-5,
        )
        signed = image - 3.5
        yield case(
            "zero_crossings", signed, 0.5, twin=lambda i=signed: edges.zero_crossings(i, 0.5)
        )
        if ndim == 2 and min(shape) > 3:
            levels = {"low_threshold": 0.2, "high_threshold": 0.9}
            yield Case(
                "canny", (image, 1.0), levels, lambda i=image: _canny.canny_skimage(i, 1, 0.2, 0.9)
            )
        for name in ("local_minima", "local_maxima"):
            yield case(name, greys, twin=lambda i=greys, n=name: getattr(minima, n)(i))
        seeds = np.where(rng.random(shape) < 0.05, rng.integers(1, 9, shape), 0).astype(np.int32)
        around = np.abs(np.indices((3,) * ndim) - 1).sum(0) <= 1
        for lines in (False, True):
            yield case(
                "watershed",
                greys,
                seeds,
                watershed_line=lines,
                twin=lambda i=greys, s=seeds, a=around, n=lines: watershed.watershed(
                    i, s, a, (1,) * i.ndim, None, 0, n
                ),
            )
        if full:
            seed = tuple(n // 2 for n in shape)
            yield case(
                "connected_threshold",
                greys,
                seed,
                1,
                5,
                twin=lambda i=greys, s=seed: region.connected_threshold(i, [s], 1, 5),
            )
            yield case("flood", greys, seed, twin=lambda i=greys, s=seed: region.flood(i, s))
            yield case(
                "flood_fill",
                greys,
                seed,
                9,
                twin=lambda i=greys, s=seed: np.where(region.flood(i, s), 9, i).astype(i.dtype),
            )
        if ndim == 2:
            source, sink = (rng.integers(0, 9, shape).astype(np.int32) for _ in range(2))
            offsets = [(0, 1), (1, 0), (0, -1), (-1, 0)]
            yield case(
                "maxflow_grid",
                source,
                sink,
                3,
                twin=lambda a=source, b=sink, o=offsets: graph_cut.maxflow_grid(
                    a, b, [(step, np.full(a.shape, 3)) for step in o]
                ),
            )


def _of_networks(rng: np.random.Generator) -> Iterator[Case]:
    def floats(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    close = 2e-5
    for rows, columns in ((1, 1), (9, 33), (16, 64)):
        x, weight, bias = floats(2, 3, rows, columns), floats(9, 3, 3, 3), floats(9)

        def layer(x: Any = x, w: Any = weight, b: Any = bias, side: int = 1) -> Any:
            full = nn_conv_pool.activate(
                nn_conv_pool.convolve(x, w, b, before=(1, 1), after=(1, 1)), "relu"
            )
            return full if side == 1 else nn_conv_pool.pool(full, "max", (2, 2))[0]

        options = {"padding": 1, "activation": "relu"}
        yield Case("conv_pool", (x, weight, bias), options, layer, close)
        if rows > 1:
            pooled = {**options, "pool": "max"}
            yield Case("conv_pool", (x, weight, bias), pooled, lambda f=layer: f(side=2), close)
        up = floats(3, 5, 2, 2)
        yield Case(
            "transposed_conv2x2",
            (x, up, bias[:5]),
            {},
            lambda x=x, u=up, b=bias[:5]: nn_upsampling.transposed_conv2x2(x, u, b),
            close,
        )
        skip = floats(2, 4, rows + 3, columns + 2)
        yield Case(
            "crop_concat", (skip, x), {}, lambda s=skip, x=x: nn_upsampling.crop_concat(s, x)
        )
        bins = (1, 2)
        mixed = [floats(4, 3), floats(2, 3)]
        yield Case(
            "pyramid_pool",
            (x, bins, mixed),
            {},
            lambda x=x, w=mixed: nn_pooling.pyramid_pool(x, (1, 2), w),
            close,
        )
        if rows > 1:
            values, indices = F.max_pool_with_indices(x, 2)
            size = (2 * (rows // 2), 2 * (columns // 2))
            flat = (6, rows // 2, columns // 2)

            def unpooled(v: Any = values, i: Any = indices, s: Any = size, f: Any = flat) -> Any:
                return nn_pooling.max_unpool(v.reshape(f), i.reshape(f), s).reshape(2, 3, *s)

            # Of an odd size the places are those of the larger image: not asked for here.
            if (rows, columns) == size:
                yield Case("max_unpool", (values, indices, 2), {}, unpooled)
        if rows > 1:
            low = rng.uniform(0, rows / 2, (5, 2)).astype(np.float32)
            boxes = np.concatenate([rng.integers(0, 2, (5, 1)), low, low + 4], 1, dtype=np.float32)
            args = (x, boxes.copy(), (2, 3), 0.8, 2, True)
            yield Case("roi_align", args, {}, lambda a=args: nn_roi_align.roi_align(*a), close)
            gradient = floats(5, 3, 2, 3)
            args = (gradient, boxes.copy(), x.shape, 0.8, 2, True)
            yield Case(
                "roi_align_backward",
                args,
                {},
                lambda a=args: nn_roi_align.roi_align_backward(*a),
                close,
            )
            levels = [x, floats(2, 3, rows // 2, columns // 2)]
            sizes = {"scales": (1.0, 0.5), "canonical_scale": 6, "canonical_level": 1}
            boxes[3:, 3:] += 9
            yield Case(
                "multiscale_roi_align",
                (levels, boxes, (2, 3), 2),
                sizes,
                lambda x=levels, b=boxes, o=sizes: nn_roi_align.multiscale_roi_align(
                    x, b, (2, 3), 2, **o
                ),
                close,
            )
            shapes = [level.shape for level in levels]
            yield Case(
                "multiscale_roi_align_backward",
                (gradient, boxes, shapes, 2),
                sizes,
                lambda g=gradient, b=boxes, n=shapes, o=sizes: (
                    nn_roi_align.multiscale_roi_align_backward(g, b, n, 2, **o)
                ),
                close,
            )
        size = (2 * rows + 1, columns + 3)
        scales = (rows / size[0], columns / size[1])
        yield Case(
            "resample_argmax",
            (x, size),
            {},
            lambda x=x, n=size, s=scales: nn_resampling.resample_argmax(x, n, s, (1, 1)),
        )
        yield Case(
            "upsample_argmax",
            (x, 2),
            {},
            lambda x=x, r=rows, c=columns: nn_resampling.resample_argmax(
                x, (2 * r, 2 * c), (0.5, 0.5), (1, 1)
            ),
        )
    for n in (0, 1, 64, 65):
        low = (rng.random((n, 2)) * 20).astype(np.float32)
        boxes, scores = np.concatenate([low, low + 8], 1), rng.random(n, np.float32)
        kinds = rng.integers(0, 3, n)
        yield Case("nms", (boxes, scores, 0.3), {}, lambda b=boxes, s=scores: nn_nms.nms(b, s, 0.3))
        yield Case(
            "batched_nms",
            (boxes, scores, kinds, 0.3),
            {},
            lambda b=boxes, s=scores, k=kinds: nn_nms.batched_nms(b, s, k, 0.3),
        )
        yield Case(
            "soft_nms", (boxes, scores), {}, lambda b=boxes, s=scores: nn_nms.soft_nms(b, s), close
        )
    masks = rng.random((3, 1, 5, 5)).astype(np.float32)
    corners = np.array([[0, 0, 9, 9], [2.5, 3, 20, 8], [-3, 5, 40, 30]], np.float32)
    yield Case(
        "paste_masks",
        (masks, corners, (9, 33)),
        {},
        lambda m=masks, b=corners: nn_paste_masks.paste_masks(m, b, (9, 33)),
        close,
    )


def _by_triton(path: str, device: str) -> None:
    """What Triton's kernels give for the cases that they take, to a file."""
    from unittest.mock import patch

    import torch
    from medseg_fast.kernels import conv_pool_triton

    from medseg_fast import _triton
    from medseg_fast._dispatch import OPERATIONS

    np.seterr(all="ignore")  # the interpreter computes masked lanes as well
    sys.modules["cupy"] = None  # type: ignore[assignment]  # so that float32 goes to Triton
    found = {}
    for i, case in enumerate(cases()):
        args = tuple(
            torch.from_numpy(a).to(device) if isinstance(a, np.ndarray) else a for a in case.args
        )
        call = _triton.kernel_for(OPERATIONS[case.name], args, case.kwargs)
        if call is not None:
            with patch.object(
                conv_pool_triton, "conv_pool", wraps=conv_pool_triton.conv_pool
            ) as it:
                result = call()
            if case.name != "conv_pool" or it.called:  # and not PyTorch's functions
                found[str(i)] = result.cpu().numpy()
    np.savez(path, **found)


if __name__ == "__main__":
    _by_triton(*sys.argv[1:])
