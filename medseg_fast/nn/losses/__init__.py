"""Losses for training segmentation networks.

All are called ``loss(logits, target)`` and return a scalar:

logits : (N, C, *spatial)
    What a network returns. C == 1 means a mask, of which a sigmoid gives the probability; more
    classes share a softmax. float16 and bfloat16 are computed in float32.
target : (N, *spatial) integers or (N, C, *spatial) floats
    Labels (0 or 1 for C == 1), or each class's probability. Where a label is `ignore_index`, or a
    probability NaN, nothing is known: the voxel adds nothing to a loss and gets no gradient. A
    target without any label gives a loss of 0.

`_labelled` holds what they share, `voxels` those that are means over voxels, `regions` those that
compare whole regions, `boundary` the one of distances, `combine` the losses of losses.
"""

from medseg_fast.nn.losses.boundary import BoundaryLoss
from medseg_fast.nn.losses.combine import CombinedLoss, DeepSupervisionLoss
from medseg_fast.nn.losses.regions import DiceLoss, JaccardLoss, LovaszLoss, TverskyLoss
from medseg_fast.nn.losses.voxels import CrossEntropyLoss, FocalLoss, StructuredLoss

__all__ = [
    "BoundaryLoss",
    "CombinedLoss",
    "CrossEntropyLoss",
    "DeepSupervisionLoss",
    "DiceLoss",
    "FocalLoss",
    "JaccardLoss",
    "LovaszLoss",
    "StructuredLoss",
    "TverskyLoss",
]
