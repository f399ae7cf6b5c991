"""Convolution with bias, activation and pooling in one pass, in Triton: one product of matrices.

Rows of the product are pixels before pooling, the pixels of a pooling window side by side; columns
are output channels, and what is summed over are the taps and input channels: an implicit GEMM. A
window's maximum or mean is taken in registers. Both operands are read with channels innermost,
16 bytes at a time and straight to shared memory; what lies in another order is packed by a launch
of its own before.

Tensor cores multiply 16-bit floats. A float32 is packed as the sum of two bfloat16, of which three
of the four products are summed: an error of about 5e-6 of the largest result, as Winograd's on the
CPU has, and twice as fast as products of TF32. medseg_fast/_triton.py says which calls come here.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import triton
import triton.language as tl


class Config(NamedTuple):
    """How a launch cuts the product into blocks."""

    rows: int  # pixels before pooling
    outputs: int
    channels: int  # of one step
    warps: int
    stages: int  # steps whose loads are under way
    precision: str = "split"  # of float32: in two bfloat16, or one of tl.dot's


@triton.jit(do_not_specialize=["pixels"])
def pack_kernel(
    source_ptr,
    packed_ptr,  # (N, pixels, padded) or, of split values, (N, pixels, 2, padded)
    channels,
    padded,
    pixels,
    LAST: tl.constexpr,
    SPLIT: tl.constexpr,
    LOW_FIRST: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Channels innermost, with zeros after the last one."""
    blocks = tl.cdiv(pixels, PIXELS)
    image = (tl.program_id(0) // blocks).to(tl.int64)
    pixel = tl.program_id(0) % blocks * PIXELS + tl.arange(0, PIXELS)[None, :]
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[:, None]
    place = pixel * channels + channel if LAST else channel * pixels + pixel
    values = tl.load(
        source_ptr + image * channels * pixels + place,
        mask=(pixel < pixels) & (channel < channels),
        other=0.0,
    )
    to = packed_ptr + (image * pixels + pixel) * (padded * 2 if SPLIT else padded) + channel
    if SPLIT:
        high = values.to(tl.bfloat16)
        wide = high.to(tl.float32)
        low = tl.where(tl.abs(wide) < float("inf"), values - wide, 0.0).to(tl.bfloat16)
        tl.store(to + (padded if LOW_FIRST else 0), high, mask=pixel < pixels)
        tl.store(to + (0 if LOW_FIRST else padded), low, mask=pixel < pixels)
    else:
        tl.store(to, values, mask=pixel < pixels)


@triton.jit
def _products(
    total,
    x_ptr,  # of each row, with channels
    weight_ptr,  # of each output, with channels
    y,
    x,
    height,
    width,
    stride_x,
    stride_weight,
    steps,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    DILATION: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    for step in range(steps):
        tap, first = step % (TAPS_Y * TAPS_X), step // (TAPS_Y * TAPS_X) * CHANNELS
        down, right = tap // TAPS_X * DILATION, tap % TAPS_X * DILATION
        inside = (y + down >= 0) & (y + down < height) & (x + right >= 0) & (x + right < width)
        values = tl.load(
            x_ptr + ((down * width + right) * stride_x + first), mask=inside[:, None], other=0.0
        )
        weights = tl.load(weight_ptr + (tap * stride_weight + first))
        if WIDEN:  # products of bfloat16 are wrong in Triton's interpreter
            values, weights = values.to(tl.float32), weights.to(tl.float32)
        total = tl.dot(values, weights, total, input_precision=PRECISION)
    return total


# Sizes of images are not compiled in, for which there would be another kernel with each.
_SIZES = ["pixels", "height", "width", "rows", "columns", "top", "left"]


@triton.jit(do_not_specialize=_SIZES)
def conv_pool_kernel(
    x_ptr,  # (N, H, W, C), of split values (N, H, W, 2, C): low, high
    weight_ptr,  # (K, taps, C), of split values (K, taps, 2, C): high, low
    bias_ptr,
    out_ptr,
    pixels,  # after pooling, of all images
    channels,
    outputs,
    height,
    width,
    rows,
    columns,
    top,
    left,
    slope,
    TAPS_Y: tl.constexpr,
    TAPS_X: tl.constexpr,
    STRIDE: tl.constexpr,
    DILATION: tl.constexpr,
    SIDE: tl.constexpr,
    MEAN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    LAST: tl.constexpr,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDEN: tl.constexpr,
    PRECISION: tl.constexpr,
):
    WINDOW: tl.constexpr = SIDE * SIDE
    TAPS: tl.constexpr = TAPS_Y * TAPS_X
    PIXELS: tl.constexpr = ROWS // WINDOW
    PARTS: tl.constexpr = 2 if SPLIT else 1
    blocks = tl.cdiv(outputs, OUTPUTS)
    first_pixel = tl.program_id(0) // blocks * PIXELS
    output = tl.program_id(0) % blocks * OUTPUTS + tl.arange(0, OUTPUTS)
    channel = tl.arange(0, CHANNELS)
    row = tl.arange(0, ROWS)
    # What is past the last pixel or output computes it again, and is not stored.
    pixel = tl.minimum(first_pixel + row // WINDOW, pixels - 1)
    image, place = pixel // (rows * columns), pixel % (rows * columns)
    y = (place // columns * SIDE + row % WINDOW // SIDE) * STRIDE - top
    x = (place % columns * SIDE + row % SIDE) * STRIDE - left
    stride_x, stride_weight = channels * PARTS, channels * PARTS
    corner = ((image.to(tl.int64) * height + y) * width + x) * stride_x
    x_ptr += corner[:, None] + channel[None, :]
    known = tl.minimum(output, outputs - 1).to(tl.int64)
    weight_ptr += known[None, :] * (TAPS * stride_weight) + channel[:, None]
    steps = channels // CHANNELS * TAPS
    total = tl.zeros((ROWS, OUTPUTS), tl.float32)
    if SPLIT:  # low * high + high * low, without what becomes of infinity times either
        total = _products(
            total, x_ptr, weight_ptr, y, x, height, width, stride_x, stride_weight, 2 * steps,
            TAPS_Y, TAPS_X, DILATION, CHANNELS, WIDEN, PRECISION,
        )  # fmt: skip
        total = tl.where(tl.abs(total) < float("inf"), total, 0.0)
        x_ptr += channels
    total = _products(
        total, x_ptr, weight_ptr, y, x, height, width, stride_x, stride_weight, steps,
        TAPS_Y, TAPS_X, DILATION, CHANNELS, WIDEN, PRECISION,
    )  # fmt: skip
    if bias_ptr is not None:
        bias = tl.load(bias_ptr + output, mask=output < outputs, other=0.0)
        total += bias.to(tl.float32)[None, :]
    if ACTIVATION == "relu":
        total = tl.where(total < 0, 0.0, total)
    if ACTIVATION == "leaky_relu":
        total = tl.where(total < 0, total * slope, total)
    if SIDE > 1:
        windows = tl.reshape(total, (PIXELS, WINDOW, OUTPUTS))
        if MEAN:
            total = tl.sum(windows, 1) / WINDOW
        else:
            total = tl.max(windows, 1)  # which passes over NaN
            unknown = tl.max((windows != windows).to(tl.int32), 1)
            total = tl.where(unknown > 0, float("nan"), total)
    pixel = first_pixel + tl.arange(0, PIXELS)
    image, place = (pixel // (rows * columns)).to(tl.int64), pixel % (rows * columns)
    if LAST:
        to = (pixel.to(tl.int64) * outputs)[:, None] + output[None, :]
    else:
        to = (image * outputs * (rows * columns) + place)[:, None]
        to += output[None, :] * (rows * columns)
    mask = (pixel < pixels)[:, None] & (output < outputs)[None, :]
    tl.store(out_ptr + to, total.to(out_ptr.dtype.element_ty), mask=mask)


def conv_pool(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    activation: str | None = None,
    slope: float = 0.01,
    pool: str | None = None,
    size: tuple[int, int] | None = None,
    config: Config | None = None,
) -> torch.Tensor:
    """`medseg_fast.nn.functional.conv_pool` of images, with windows of 2 by 2.

    `padding`: above and left; with `size`, the result's, as much as that asks for on the far sides.
    Channels-last memory order is taken as it is, and the result then has it as well. `config`:
    what `configuration` chooses, for measurements.
    """
    n, channels, height, width = x.shape
    outputs, _, taps_y, taps_x = weight.shape
    side = 1 if pool is None else 2
    before = padding if isinstance(padding, tuple) else (padding, padding)
    rows, columns = size or (
        ((extent + 2 * gap - dilation * (taps - 1) - 1) // stride + 1) // side
        for extent, gap, taps in zip((height, width), before, (taps_y, taps_x), strict=True)
    )
    last = _channels_last(x) and not x.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    out = torch.empty(
        (n, outputs, rows, columns), dtype=x.dtype, device=x.device, memory_format=order
    )
    if out.numel() == 0:
        return out
    pixels = n * rows * columns
    if config is None:
        config = configuration(pixels * side * side, channels, outputs, _processors(x.device))
    split = x.dtype is torch.float32 and config.precision == "split"
    grid = triton.cdiv(pixels * side * side, config.rows) * triton.cdiv(outputs, config.outputs)
    padded = triton.cdiv(channels, config.channels) * config.channels
    conv_pool_kernel[(grid,)](
        _packed(x, padded, split, low_first=True),
        _packed(weight, padded, split, low_first=False),
        bias,
        out,
        pixels,
        padded,
        outputs,
        height,
        width,
        rows,
        columns,
        *before,
        slope,
        TAPS_Y=taps_y,
        TAPS_X=taps_x,
        STRIDE=stride,
        DILATION=dilation,
        SIDE=side,
        MEAN=pool == "avg",
        ACTIVATION=activation,
        LAST=last,
        SPLIT=split,
        ROWS=config.rows,
        OUTPUTS=config.outputs,
        CHANNELS=config.channels,
        WIDEN=x.device.type == "cpu" and (split or x.dtype is torch.bfloat16),
        PRECISION="ieee" if config.precision == "split" else config.precision,
        num_warps=config.warps,
        num_stages=config.stages,
        enable_fp_fusion=True,
    )
    return out


def configuration(rows: int, channels: int, outputs: int, processors: int) -> Config:
    """The largest blocks of which there are as many as multiprocessors."""
    step = 16 if channels <= 16 else 64 if -(-channels // 32) % 2 == 0 else 32
    widest = 128 if outputs > 64 else max(16, triton.next_power_of_2(outputs))
    for high, wide in ((128, widest), (128, min(widest, 64)), (64, min(widest, 64))):
        if triton.cdiv(rows, high) * triton.cdiv(outputs, wide) >= processors:
            break
    # 96 KiB of shared memory, which every chip with such tensor cores has.
    stages = min(4, (96 << 10) // ((high + wide) * step * 2))
    return Config(high, wide, step, 8 if high * wide > 128 * 64 else 4, stages)


@functools.cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def _channels_last(x: torch.Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _packed(x: torch.Tensor, padded: int, split: bool, low_first: bool) -> torch.Tensor:
    """The tensor with channels innermost, as many as `padded`, float32 as two bfloat16."""
    n, channels, height, width = x.shape
    last = _channels_last(x)
    if last and channels == padded and not split and x.data_ptr() % 16 == 0:
        return x
    x = x if last else x.contiguous()
    packed = torch.empty(
        (n, height, width, 2 * padded if split else padded),
        dtype=torch.bfloat16 if split else x.dtype,
        device=x.device,
    )
    pixels = min(64, triton.next_power_of_2(height * width))
    some = min(64, padded & -padded)
    grid = (n * triton.cdiv(height * width, pixels), padded // some)
    pack_kernel[grid](
        x,
        packed,
        channels,
        padded,
        height * width,
        LAST=last,
        SPLIT=split,
        LOW_FIRST=low_first,
        PIXELS=pixels,
        CHANNELS=some,
    )
    return packed
