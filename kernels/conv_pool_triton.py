"""Convolution with bias, activation and pooling in one pass, in Triton: products of matrices.

Rows of the product are results, columns output channels, and what is summed over are the taps and
input channels: an implicit GEMM, which tensor cores do. The pooling window's pixels are as many
products, of which the maximum or mean stays in registers. A second implementation beside
``conv_pool.cuh``; medseg_fast/_triton.py says which of them a call is given.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def conv_pool_kernel(
    x_ptr,
    weight_ptr,  # (taps, C, K)
    bias_ptr,
    out_ptr,
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
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    WIDEN: tl.constexpr,
):
    image = tl.program_id(2).to(tl.int64)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    output = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    is_pixel, is_output = pixel < rows * columns, output < outputs
    row, column = pixel // columns, pixel % columns
    x_ptr += image * channels * height * width
    bias = tl.load(bias_ptr + output, mask=is_output, other=0.0).to(tl.float32)
    result = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    for window in range(SIDE * SIDE):
        y0 = (row * SIDE + window // SIDE) * STRIDE - top
        x0 = (column * SIDE + window % SIDE) * STRIDE - left
        total = tl.zeros((PIXELS, OUTPUTS), tl.float32)
        for tap in range(TAPS_Y * TAPS_X):
            y = y0 + tap // TAPS_X * DILATION
            x = x0 + tap % TAPS_X * DILATION
            inside = is_pixel & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            for first in range(0, channels, CHANNELS):
                channel = first + tl.arange(0, CHANNELS)
                is_channel = channel < channels
                values = tl.load(
                    x_ptr + (channel[None, :] * height + y[:, None]) * width + x[:, None],
                    mask=inside[:, None] & is_channel[None, :],
                    other=0.0,
                )
                weights = tl.load(
                    weight_ptr + (tap * channels + channel[:, None]) * outputs + output[None, :],
                    mask=is_channel[:, None] & is_output[None, :],
                    other=0.0,
                )
                if WIDEN:  # products of bfloat16 are wrong in Triton's interpreter
                    values, weights = values.to(tl.float32), weights.to(tl.float32)
                total = tl.dot(values, weights, total, input_precision="ieee")
        total += bias[None, :]
        if ACTIVATION == "relu":
            total = tl.where(total < 0, 0.0, total)
        if ACTIVATION == "leaky_relu":
            total = tl.where(total < 0, total * slope, total)
        if MEAN:
            result += total / (SIDE * SIDE)
        elif window == 0:
            result = total
        else:
            result = tl.where((total > result) | (total != total), total, result)
    place = (image * outputs + output[None, :]) * rows * columns + pixel[:, None]
    mask = is_pixel[:, None] & is_output[None, :]
    tl.store(out_ptr + place, result.to(out_ptr.dtype.element_ty), mask=mask)


def conv_pool(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int = 1,
    activation: str | None = None,
    slope: float = 0.01,
    pool: str | None = None,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """`medseg_fast.nn.functional.conv_pool` of images, with windows of 2 by 2.

    `padding`: above and left; with `size`, the result's, as much as that asks for on the far sides.
    """
    n, channels, height, width = x.shape
    outputs, _, taps_y, taps_x = weight.shape
    side = 1 if pool is None else 2
    before = padding if isinstance(padding, tuple) else (padding, padding)
    rows, columns = size or (
        ((extent + 2 * gap - dilation * (taps - 1) - 1) // stride + 1) // side
        for extent, gap, taps in zip((height, width), before, (taps_y, taps_x), strict=True)
    )
    out = x.new_empty((n, outputs, rows, columns))
    # Products of float32 are made without tensor cores, and take more registers.
    pixels, block = 64, 16 if outputs <= 16 else 32 if x.dtype is torch.float32 else 64
    grid = (triton.cdiv(rows * columns, pixels), triton.cdiv(outputs, block), n)
    if out.numel() == 0:
        return out
    conv_pool_kernel[grid](
        x.contiguous(),
        weight.permute(2, 3, 1, 0).contiguous(),
        bias,
        out,
        channels,
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
        PIXELS=pixels,
        OUTPUTS=block,
        CHANNELS=16 if channels <= 16 else 32,
        WIDEN=x.device.type == "cpu" and x.dtype is torch.bfloat16,
        num_warps=8,  # with 4, spills
        enable_fp_fusion=True,
    )
    return out
