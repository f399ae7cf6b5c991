"""From a Mask R-CNN to the three plans of a `DetectorPlan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_fast.nn._mask_rcnn import ANCHOR_RATIOS, LEVELS
from medseg_fast.nn._modes import evaluated
from medseg_fast.nn._optimize._detector import DetectorPlan
from medseg_fast.nn._optimize._plan import Plan
from medseg_fast.nn.mask_rcnn import MaskRCNN

_REGIONS = 336  # at a time: a third of a thousand, in whole blocks of the product with the weights
_DETECTIONS = 20  # of a hundred: a fifth, whose maps stay in caches


class _Stage(nn.Module):
    """A part of the model as a function of one tensor."""

    def __init__(self, model: MaskRCNN, function: Callable[[MaskRCNN, Tensor], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.model, x)


# Nothing here writes in place: torch.export would have to take the whole apart, which is slow.


class _Maps(nn.Module):
    """An image as it comes: maps of the pyramid, scores and offsets of all levels' anchors."""

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.model = model
        self.mean, self.std = (
            torch.tensor(model.options[name], dtype=torch.float32)[:, None, None]
            for name in ("image_mean", "image_std")
        )
        head = model.rpn.head  # scores and offsets by one convolution: each has few channels
        first, second = head.cls_logits, head.bbox_pred
        self.anchors = nn.Conv2d(first.in_channels, first.out_channels + second.out_channels, 1)
        for name in ("weight", "bias"):
            both = torch.cat([getattr(first, name), getattr(second, name)])
            setattr(self.anchors, name, nn.Parameter(both.detach()))

    def forward(self, x: Tensor) -> Any:
        model, scale = self.model, self.model._scale(x)
        x = (x - self.mean) / self.std
        if scale != 1:
            x = F.interpolate(x, scale_factor=scale, mode="bilinear", recompute_scale_factor=True)
        x = F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))
        maps = model.backbone(x)
        return maps[:LEVELS], [self.anchors(model.rpn.head.conv(level)) for level in maps]


def _boxes(model: MaskRCNN, pooled: Tensor) -> Any:
    heads = model.roi_heads
    return heads.box_predictor(heads.box_head(pooled))


def _masks(model: MaskRCNN, pooled: Tensor) -> Any:
    """What the masks of all classes are made of: `class_masks` makes that of one."""
    heads = model.roi_heads
    for layer in heads.mask_head.children():
        convolution, _ = layer.children()
        pooled = convolution(pooled).relu()
    predictor = heads.mask_predictor
    return predictor.relu(predictor.conv5_mask(pooled))


def _copies(layer: nn.Conv2d) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weight and bias of a convolution of single pixels."""
    assert layer.bias is not None
    weight, bias = (each.detach().cpu().numpy() for each in (layer.weight, layer.bias))
    return weight[:, :, 0, 0].astype(np.float32), bias.astype(np.float32)


def optimize_detector(
    model: MaskRCNN,
    image: Tensor,
    about: dict[str, Any],
    compile: Callable[..., Plan],
) -> DetectorPlan:
    """A plan for images (C, H, W) like this one.

    `about`: what else it shall know; `compile` makes the plan of a stage, some of whose inputs and
    results lie as maps between layers do.
    """
    if image.ndim != 3 or image.shape[0] != model.in_channels:
        raise ValueError(
            f"optimize: example must be one image ({model.in_channels}, H, W) for Mask R-CNN, got "
            f"{tuple(image.shape)}"
        )
    options, width = model.options, model.backbone.width
    regions = min(_REGIONS, options["rpn_post_nms_top_n_test"])
    detections = min(_DETECTIONS, options["box_detections_per_img"])
    first, levels = frozenset([0]), frozenset(range(LEVELS))
    with evaluated(model):
        scale = model._scale(image)
        stages = {
            "maps": compile(_Maps(model), image[None], internal_outputs=levels),
            "boxes": compile(
                _Stage(model, _boxes), torch.zeros(regions, width, 7, 7), internal_inputs=first
            ),
            "masks": compile(
                _Stage(model, _masks),
                torch.zeros(detections, width, 14, 14),
                internal_inputs=first,
                internal_outputs=first,
            ),
        }
    weight, bias = _copies(model.roi_heads.mask_predictor.mask_fcn_logits)
    resized = [int(n * scale) for n in image.shape[1:]]
    settings = {
        **about,
        "image": list(image.shape),
        "resized": resized,
        "padded": [n + -n % 32 for n in resized],
        "classes": model.classes,
        "anchor_sizes": list(options["anchor_sizes"]),
        "anchor_ratios": list(ANCHOR_RATIOS),
        "before": options["rpn_pre_nms_top_n_test"],
        "after": options["rpn_post_nms_top_n_test"],
        "proposal_score": options["rpn_score_thresh"],
        "proposal_overlap": options["rpn_nms_thresh"],
        "score": options["box_score_thresh"],
        "overlap": options["box_nms_thresh"],
        "most": options["box_detections_per_img"],
        "box_weights": list(options["bbox_reg_weights"]),
        "mask_weight": weight,
        "mask_bias": bias,
    }
    return DetectorPlan(settings, stages)
