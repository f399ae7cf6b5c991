"""Which calls with CUDA tensors go to Triton's kernels: the one place that decides it.

Three operations have a kernel in Triton beside the one in CUDA C++. Triton's multiplies on tensor
cores and loads both 16-bit floats; the other rounds as the CPU does and takes every argument. So:

* CuPy arrays: CUDA C++, always;
* tensors of float16 or bfloat16: Triton, where its kernel takes the arguments;
* tensors of float32: CUDA C++ through CuPy; where CuPy is not installed, Triton likewise;
* all else: CUDA C++, bfloat16 as float32, with the result in bfloat16 again.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from medseg_fast import _checks
from medseg_fast._dispatch import Operation

_MOST = 2**31 - 1  # of an image's values: the kernels count them in 32 bits


def kernel_for(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call on Triton's kernel, ready to be made; None where it is not Triton's."""
    take = _TAKERS.get(op.name)
    if take is None or not _installed("triton"):
        return None
    bound = inspect.signature(op.body).bind(*args, **kwargs)
    bound.apply_defaults()
    first = next(iter(bound.arguments.values()))
    tensors = [v for v in bound.arguments.values() if isinstance(v, torch.Tensor)]
    if not isinstance(first, torch.Tensor) or any(t.device != first.device for t in tensors):
        return None
    narrow = first.dtype in (torch.float16, torch.bfloat16)
    if not narrow and (first.dtype is not torch.float32 or _installed("cupy")):
        return None
    call = take(**bound.arguments)
    if call is None:
        return None

    def run() -> torch.Tensor:
        with torch.cuda.device_of(first):
            result: torch.Tensor = call()
        return result

    return run


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return find_spec(name) is not None


def _kernel(name: str) -> Any:
    return getattr(import_module(f"medseg_fast.kernels.{name}_triton"), name)


def _conv_pool(
    x: Any, weight: Any, bias: Any, activation: Any, slope: Any, pool: Any, **options: Any
) -> Callable[[], Any] | None:
    from medseg_fast.nn.functional import convolution

    vectors = [v for v in (bias, options["scale"], options["shift"]) if v is not None]
    if x.ndim != 4 or any(t.dtype is not x.dtype for t in (weight, *vectors)):
        return None
    if weight.ndim != 4 or any(v.shape != weight.shape[:1] for v in vectors):
        return None  # whose error the other route words
    returned = options["return_indices"], options["return_full"]
    if any(returned) or activation not in (None, "relu", "leaky_relu"):
        return None
    convolution._check(x, weight, activation, pool, *returned)
    sizes = convolution.geometry(
        tuple(weight.shape[2:]),
        options["stride"],
        options["padding"],
        options["dilation"],
        pool,
        options["pool_size"],
    )
    full, size = (f(tuple(x.shape[2:])) for f in (sizes.full, sizes.pooled))
    if sizes.pool not in ((1, 1), (2, 2)) or (pool is not None and sizes.pool == (1, 1)):
        return None
    if len({*sizes.stride}) > 1 or len({*sizes.dilation}) > 1 or min(*full, *size) < 1:
        return None
    if max(x[0].numel() if len(x) else 0, len(weight) * full[0] * full[1]) > _MOST:
        return None
    slope = float(_checks.number("conv_pool", "slope", slope))

    def call() -> Any:
        kernel, wide = weight, torch.float32
        total = weight.new_zeros(len(weight), dtype=wide) if bias is None else bias.to(wide)
        if options["scale"] is not None:
            kernel = weight * options["scale"].reshape(-1, 1, 1, 1)
            total = total * options["scale"]
        if options["shift"] is not None:
            total = total + options["shift"]
        return _kernel("conv_pool")(
            x,
            kernel,
            total.to(x.dtype),
            stride=sizes.stride[0],
            padding=sizes.before,
            dilation=sizes.dilation[0],
            activation=activation,
            slope=slope,
            pool=pool,
            size=size,
        )

    return call


def _roi_align(
    input: Any,
    boxes: Any,
    output_size: Any,
    spatial_scale: Any,
    sampling_ratio: Any,
    aligned: Any,
) -> Callable[[], Any] | None:
    from medseg_fast.nn.functional.roi_align import _scale, sizes_of

    op = "roi_align"
    samples = _checks.integer(op, "sampling_ratio", sampling_ratio)
    one = isinstance(boxes, torch.Tensor) and boxes.ndim == 2 and boxes.shape[1] == 5
    # Without a ratio a box without end would take samples without end.
    if input.ndim != 4 or not one or not boxes.is_floating_point() or samples < 1:
        return None
    if 0 in input.shape:
        return None
    sizes = sizes_of(op, output_size, 2)
    scale = _scale(op, spatial_scale)
    return lambda: _kernel(op)(input, boxes, sizes, scale, samples, bool(aligned))


def _resample_argmax(
    logits: Any,
    size: Any = None,
    *,
    scale_factor: Any,
    align_corners: Any,
    threshold: Any,
    dtype: Any,
    out: Any,
    spacing: Any = None,
    new_spacing: Any = None,
    order: Any = 1,
) -> Callable[[], Any] | None:
    from medseg_fast.nn.functional import resampling

    op = "resample_argmax"
    if logits.ndim not in (3, 4) or threshold is not None or out is not None:
        return None
    grid = resampling._grid(
        op, logits, size, scale_factor, spacing, new_spacing, bool(align_corners)
    )
    if grid.rank != 2 or 0 in (*logits.shape, *grid.shape):
        return None
    kind = resampling._label_dtype(op, dtype, logits.shape[-3], None)
    if kind != "uint8" or not all(resampling._orders(op, order, 2)):
        return None

    def call() -> Any:
        batch = logits if logits.ndim == 4 else logits[None]
        labels = _kernel(op)(
            batch, grid.shape, align_corners=bool(align_corners), scales=grid.scales
        )
        return labels if logits.ndim == 4 else labels[0]

    return call


_TAKERS: dict[str, Callable[..., Callable[[], Any] | None]] = {
    "conv_pool": _conv_pool,
    "roi_align": _roi_align,
    "resample_argmax": _resample_argmax,
    "upsample_argmax": _resample_argmax,
}
