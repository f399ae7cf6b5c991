"""What networks are made of: NumPy arrays or PyTorch tensors in, the same kind out.

Needs NumPy alone. With PyTorch functions are registered operators, with gradients but where they
give labels (`resample_argmax`, `upsample_argmax`) or masks above a threshold (`paste_masks`).
`nms`, `batched_nms` and `soft_nms` run outside a graph, without gradients: only the data tell how
many boxes they leave.
"""

from medseg_fast.nn.functional.convolution import (
    conv_pool,
)
from medseg_fast.nn.functional.multiscale_roi_align import (
    multiscale_roi_align,
    multiscale_roi_align_backward,
)
from medseg_fast.nn.functional.nms import (
    batched_nms,
    nms,
    soft_nms,
)
from medseg_fast.nn.functional.paste_masks import (
    paste_masks,
)
from medseg_fast.nn.functional.pooling import (
    max_pool_with_indices,
    max_unpool,
)
from medseg_fast.nn.functional.pyramid import (
    pyramid_pool,
)
from medseg_fast.nn.functional.resampling import (
    resample_argmax,
    upsample_argmax,
)
from medseg_fast.nn.functional.roi_align import (
    roi_align,
    roi_align_backward,
)
from medseg_fast.nn.functional.upsampling import (
    crop_concat,
    transposed_conv2x2,
)

__all__ = [
    "batched_nms",
    "conv_pool",
    "crop_concat",
    "max_pool_with_indices",
    "max_unpool",
    "multiscale_roi_align",
    "multiscale_roi_align_backward",
    "nms",
    "paste_masks",
    "pyramid_pool",
    "resample_argmax",
    "roi_align",
    "roi_align_backward",
    "soft_nms",
    "transposed_conv2x2",
    "upsample_argmax",
]
