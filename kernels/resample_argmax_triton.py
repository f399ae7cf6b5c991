"""Labels of images' logits resampled to another grid, in Triton.

A program makes a block of labels and goes through the classes, with the steps and rounding of
``resample_argmax.cuh``. medseg_fast/_triton.py says which of the two a call is given.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _tap(output, inputs, scale, ALIGN_CORNERS: tl.constexpr):
    """The two inputs that each output lies between, and the weight of the second."""
    if ALIGN_CORNERS:
        at = output.to(tl.float32) * scale
    else:
        at = tl.maximum((output.to(tl.float32) + 0.5) * scale - 0.5, 0.0)
    low = tl.minimum(at.to(tl.int32), inputs - 1)
    high = tl.minimum(low + 1, inputs - 1)
    far = tl.where(low == high, 0.0, tl.minimum(at - low.to(tl.float32), 1.0))
    return low, high, far


@triton.jit
def _cleaned(values):
    """NaN and infinities replaced: none of them may reach a product with zero."""
    most = 3.4028234663852886e38 / 4
    upper = tl.where(values < most, values, most)
    return tl.where(upper > -most, upper, -most)


@triton.jit
def _along_columns(row_ptr, low, high, far, mask):
    first = _cleaned(tl.load(row_ptr + low, mask=mask, other=0.0).to(tl.float32))
    second = _cleaned(tl.load(row_ptr + high, mask=mask, other=0.0).to(tl.float32))
    return (1.0 - far) * first + far * second


@triton.jit
def resample_argmax_kernel(
    logits_ptr,
    labels_ptr,
    classes,
    height,
    width,
    rows,
    columns,
    scale_y,
    scale_x,
    ALIGN_CORNERS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    image = tl.program_id(1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < rows * columns
    low_y, high_y, far_y = _tap(pixel // columns, height, scale_y, ALIGN_CORNERS)
    low_x, high_x, far_x = _tap(pixel % columns, width, scale_x, ALIGN_CORNERS)
    plane_ptr = logits_ptr + image * classes * height * width
    best = tl.zeros((BLOCK,), tl.float32)
    label = tl.zeros((BLOCK,), tl.int32)
    for k in range(classes):
        above = _along_columns(plane_ptr + low_y * width, low_x, high_x, far_x, mask)
        below = _along_columns(plane_ptr + high_y * width, low_x, high_x, far_x, mask)
        value = tl.where(low_y == high_y, above, (1.0 - far_y) * above + far_y * below)
        wins = (value > best) | (label + k == 0)
        best = tl.where(wins, value, best)
        label = tl.where(wins, k, label)
        plane_ptr += height * width
    place = image * rows * columns + pixel
    tl.store(labels_ptr + place, label.to(labels_ptr.dtype.element_ty), mask=mask)


def resample_argmax(
    logits: torch.Tensor,
    size: tuple[int, int],
    *,
    align_corners: bool = False,
    scales: tuple[float, float] | None = None,
) -> torch.Tensor:
    """`medseg_fast.nn.functional.resample_argmax` of logits (N, classes, H, W), at most 256.

    `scales`: how many inputs an output covers, where the sizes do not tell.
    """
    n, classes, height, width = logits.shape
    rows, columns = size
    labels = logits.new_empty((n, rows, columns), dtype=torch.uint8)
    covered = scales or tuple(
        (inputs - 1) / max(outputs - 1, 1) if align_corners else inputs / outputs
        for inputs, outputs in ((height, rows), (width, columns))
    )
    block = 256
    grid = (triton.cdiv(rows * columns, block), n)
    resample_argmax_kernel[grid](
        logits.contiguous(),
        labels,
        classes,
        height,
        width,
        rows,
        columns,
        *covered,
        ALIGN_CORNERS=align_corners,
        BLOCK=block,
        enable_fp_fusion=False,  # products and sums are rounded as the CPU's
    )
    return labels
