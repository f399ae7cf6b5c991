"""Which kernels calls with CUDA tensors go to: the one place that decides it.

Three operations have a kernel in Triton beside the one in CUDA C++, which takes every argument and
is what CuPy arrays go to, but for `conv_pool` where PyTorch is installed (_cupy.py). Of tensors:

* `conv_pool` goes to Triton where it pools 2 by 2, in float16, bfloat16 and float32, and without
  pooling in float32, which cuDNN multiplies on tensor cores as TF32 alone; all else of it goes to
  PyTorch's own functions, whose convolutions are cuDNN's. Networks' modules call those themselves.
* `roi_align` and `resample_argmax` of float16 and bfloat16 go to Triton, where its kernel takes the
  arguments; of float32 as well where CuPy is not installed.
* All else, and calls whose arguments do not fit, which get their error there: CUDA C++ through
  CuPy, bfloat16 as float32, with the result in bfloat16 again.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

from medseg_fast import _checks
from medseg_fast._dispatch import Operation

_MOST = 2**31 - 1  # of an image's values: the kernels count them in 32 bits


def kernel_for(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call on a kernel of Triton or PyTorch, ready to be made; None where it is CuPy's."""
    take = _TAKERS.get(op.name)
    if take is None:
        return None
    bound = _signature(op.body).bind(*args, **kwargs)
    bound.apply_defaults()
    first = next(iter(bound.arguments.values()))
    tensors = [v for v in bound.arguments.values() if isinstance(v, torch.Tensor)]
    if not isinstance(first, torch.Tensor) or any(t.device != first.device for t in tensors):
        return None
    call = take(**bound.arguments)
    if call is None:
        return None

    def run() -> Any:
        with torch.cuda.device_of(first):
            return call()

    return run


@cache
def _signature(body: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(body)


def _multiplies(x: torch.Tensor) -> bool:
    """Whether Triton is there and has products of this type on this chip."""
    if not _installed("triton") or x.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        return False
    return not x.is_cuda or torch.cuda.get_device_capability(x.device) >= (8, 0)


def _gathers(x: torch.Tensor) -> bool:
    """Whether Triton's kernel is the one for operations that multiply little."""
    return _multiplies(x) and (_narrow(x) or not _installed("cupy"))


def _narrow(x: torch.Tensor) -> bool:
    return x.dtype in (torch.float16, torch.bfloat16)


def _installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    return find_spec(name) is not None


def _kernel(name: str) -> Any:
    return getattr(import_module(f"medseg_fast.kernels.{name}_triton"), name)


def _conv_pool(
    x: Any, weight: Any, bias: Any, activation: Any, slope: Any, pool: Any, **options: Any
) -> Callable[[], Any] | None:
    from medseg_fast.nn.functional import _torch_layers, convolution

    vectors = [v for v in (bias, options["scale"], options["shift"]) if v is not None]
    if not all(isinstance(t, torch.Tensor) and t.dtype is x.dtype for t in (weight, *vectors)):
        return None
    if not x.is_floating_point() or x.ndim not in (4, 5) or weight.ndim != x.ndim:
        return None
    if any(v.shape != weight.shape[:1] for v in vectors):
        return None
    returned = options["return_indices"], options["return_full"]
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
    if min(*full, *size) < 1:
        return None
    slope = float(_checks.number("conv_pool", "slope", slope))
    in_triton = (
        x.ndim == 4
        and _multiplies(x)
        and not any(returned)
        and activation in (None, "relu", "leaky_relu")
        # A convolution of 16 bits alone has nothing that cuDNN's kernels lack.
        and (sizes.pool == (2, 2) if pool else not _narrow(x))
        and len({*sizes.stride}) == len({*sizes.dilation}) == 1
        and max(x[0].numel() if len(x) else 0, len(weight) * full[0] * full[1]) <= _MOST
        and len(x) * full[0] * full[1] <= _MOST
    )

    def call() -> Any:
        kernel, total = weight, bias
        if options["scale"] is not None:
            kernel = weight * options["scale"].reshape(-1, *(1,) * (x.ndim - 1))
            total = None if bias is None else bias * options["scale"]
        if options["shift"] is not None:
            total = options["shift"] if total is None else total + options["shift"]
        if not in_triton:
            rest = sizes, activation, slope, pool, *returned
            return _torch_layers.conv_pool(x, kernel, total, *rest)
        return _kernel("conv_pool")(
            x,
            kernel,
            total,
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
    if 0 in input.shape or not _gathers(input):
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
    if kind != "uint8" or not all(resampling._orders(op, order, 2)) or not _gathers(logits):
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
