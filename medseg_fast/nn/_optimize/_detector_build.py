"""From a Mask R-CNN to the three plans of a `DetectorPlan`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_fast.nn._mask_rcnn import ANCHOR_RATIOS, LEVELS
from medseg_fast.nn._optimize._detector import DetectorPlan
from medseg_fast.nn._optimize._plan import Plan
from medseg_fast.nn.mask_rcnn import MaskRCNN

_REGIONS = 256  # at a time: as many as keep the box head's weights from being what it waits for
_DETECTIONS = 34  # of a hundred: a third


class _Stage(nn.Module):
    """A part of the model as a function of one tensor."""

    def __init__(self, model: nn.Module, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.model, x)


# Nothing here writes in place: torch.export would have to take the whole apart, which is slow.


def _maps(mean: Tensor, std: Tensor, parts: nn.ModuleDict, x: Tensor) -> Any:
    """An image as it comes: maps of the pyramid, scores and offsets of all levels' anchors."""
    model, anchors = parts["model"], parts["anchors"]
    scale = model._scale(x)
    x = (x - mean) / std
    x = F.interpolate(x, scale_factor=scale, mode="bilinear", recompute_scale_factor=True)
    x = F.pad(x, (0, -x.shape[3] % 32, 0, -x.shape[2] % 32))
    maps = model.backbone(x)
    return maps[:LEVELS], [anchors(model.rpn.head.conv(feature)) for feature in maps]


def _anchor_head(model: MaskRCNN) -> nn.Conv2d:
    """Scores and offsets by one convolution: each alone has few channels."""
    both = (model.rpn.head.cls_logits, model.rpn.head.bbox_pred)
    head = nn.Conv2d(both[0].in_channels, sum(each.out_channels for each in both), 1)
    with torch.no_grad():
        head.weight.copy_(torch.cat([each.weight for each in both]))
        head.bias.copy_(torch.cat([each.bias for each in both]))  # type: ignore[union-attr]
    return head


def _boxes(model: MaskRCNN, pooled: Tensor) -> Any:
    heads = model.roi_heads
    return heads.box_predictor(heads.box_head(pooled))


def _masks(model: MaskRCNN, pooled: Tensor) -> Any:
    heads = model.roi_heads
    for layer in heads.mask_head.children():
        convolution, _ = layer.children()
        pooled = convolution(pooled).relu()
    return heads.mask_predictor(pooled).sigmoid()


def optimize_detector(
    model: MaskRCNN,
    image: Tensor,
    about: dict[str, Any],
    compile: Callable[[nn.Module, Tensor, frozenset[int]], Plan],
) -> DetectorPlan:
    """A plan for images (C, H, W) like this one.

    `about`: what else it shall know; `compile` makes the plan of a stage, some of whose results
    have channels last.
    """
    if image.ndim != 3 or image.shape[0] != model.in_channels:
        raise ValueError(
            f"optimize: example must be one image ({model.in_channels}, H, W) for Mask R-CNN, got "
            f"{tuple(image.shape)}"
        )
    options, width = model.options, model.backbone.width
    regions = min(_REGIONS, options["rpn_post_nms_top_n_test"])
    detections = min(_DETECTIONS, options["box_detections_per_img"])
    mean, std = (
        torch.tensor(options[name], dtype=torch.float32)[:, None, None]
        for name in ("image_mean", "image_std")
    )
    parts = nn.ModuleDict({"model": model, "anchors": _anchor_head(model)})
    none: frozenset[int] = frozenset()
    training = model.training
    model.eval()
    try:
        scale = model._scale(image)
        stages = {
            "maps": compile(
                _Stage(parts, partial(_maps, mean, std)), image[None], frozenset(range(LEVELS))
            ),
            "boxes": compile(_Stage(model, _boxes), torch.zeros(regions, width, 7, 7), none),
            "masks": compile(_Stage(model, _masks), torch.zeros(detections, width, 14, 14), none),
        }
    finally:
        model.train(training)
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
    }
    return DetectorPlan(settings, stages)
