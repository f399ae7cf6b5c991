"""ROI Align in Triton: a program makes all bins of one box for a few channels.

Where samples fall is computed once for all channels; a bin's samples are as those of
``roi_align.cuh``. medseg_fast/_triton.py says which of the two a call is given.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def _between(position, extent):
    """The two pixels of each sample, the weight of the second, and whether it lies inside."""
    inside = (position >= -1.0) & (position <= extent)
    position = tl.maximum(position, 0.0)
    low = tl.minimum(position.to(tl.int32), extent - 1)
    high = tl.minimum(low + 1, extent - 1)
    above = tl.where(low == high, 0.0, position - low)
    return low, high, above, inside


@triton.jit
def roi_align_kernel(
    input_ptr,
    boxes_ptr,  # (K, 5)
    out_ptr,
    images,
    channels,
    height,
    width,
    scale,
    offset,
    samples,
    BINS_Y: tl.constexpr,
    BINS_X: tl.constexpr,
    BINS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    box = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    bin_ = tl.arange(0, BINS)
    bin_y, bin_x = bin_ // BINS_X, bin_ % BINS_X
    image = tl.load(boxes_ptr + box * 5).to(tl.int64)
    left = tl.load(boxes_ptr + box * 5 + 1).to(tl.float32) * scale - offset
    top = tl.load(boxes_ptr + box * 5 + 2).to(tl.float32) * scale - offset
    across = tl.load(boxes_ptr + box * 5 + 3).to(tl.float32) * scale - offset - left
    down = tl.load(boxes_ptr + box * 5 + 4).to(tl.float32) * scale - offset - top
    if not ALIGNED:
        across, down = tl.maximum(across, 1.0), tl.maximum(down, 1.0)
    size_y, size_x = down / BINS_Y, across / BINS_X
    grid_y, grid_x = samples, samples
    if samples <= 0:
        grid_y = tl.ceil(size_y).to(tl.int32)
        grid_x = tl.ceil(size_x).to(tl.int32)
    # In every bin: the interpreter has no conjunction of a scalar's comparison with a block's.
    of_bin = image + tl.zeros((BINS,), tl.int64)
    known = (of_bin >= 0) & (of_bin < images)
    first = (tl.where(known, of_bin, 0)[:, None] * channels + channel[None, :]) * height * width
    wanted = (channel < channels)[None, :] & ((bin_ < BINS_Y * BINS_X) & known)[:, None]
    total = tl.zeros((BINS, CHANNELS), tl.float32)
    for i in range(grid_y):
        at_y = top + bin_y * size_y + (i + 0.5) * size_y / grid_y
        low_y, high_y, above_y, inside_y = _between(at_y, height)
        for j in range(grid_x):
            at_x = left + bin_x * size_x + (j + 0.5) * size_x / grid_x
            low_x, high_x, above_x, inside_x = _between(at_x, width)
            inside = inside_y & inside_x
            for far_y in tl.static_range(2):
                y = high_y if far_y else low_y
                by_y = above_y if far_y else 1.0 - above_y
                for far_x in tl.static_range(2):
                    x = high_x if far_x else low_x
                    by_x = above_x if far_x else 1.0 - above_x
                    place = input_ptr + first + (y * width + x)[:, None]
                    # A pixel without a weight is not read: NaN must not spread from it.
                    weighs = inside & (by_y > 0) & (by_x > 0)
                    mask = wanted & weighs[:, None]
                    values = tl.load(place, mask=mask, other=0.0).to(tl.float32)
                    total += values * tl.where(weighs, by_y * by_x, 0.0)[:, None]
    total = total / tl.maximum(grid_y * grid_x, 1)
    place = (box * channels + channel[None, :]) * BINS_Y * BINS_X + bin_[:, None]
    mask = (channel < channels)[None, :] & (bin_ < BINS_Y * BINS_X)[:, None]
    tl.store(out_ptr + place, total.to(out_ptr.dtype.element_ty), mask=mask)


def roi_align(
    input: torch.Tensor,
    boxes: torch.Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> torch.Tensor:
    """`medseg_fast.nn.functional.roi_align` of images, with boxes (K, 5)."""
    images, channels, height, width = input.shape
    out = input.new_empty((len(boxes), channels, *output_size))
    block = 8
    grid = (len(boxes), triton.cdiv(channels, block))
    if out.numel():
        roi_align_kernel[grid](
            input.contiguous(),
            boxes.contiguous(),
            out,
            images,
            channels,
            height,
            width,
            spatial_scale,
            0.5 if aligned else 0.0,
            sampling_ratio,
            BINS_Y=output_size[0],
            BINS_X=output_size[1],
            BINS=triton.next_power_of_2(output_size[0] * output_size[1]),
            CHANNELS=block,
            ALIGNED=aligned,
            enable_fp_fusion=True,
        )
    return out
