"""Mask R-CNN with a ResNet and a feature pyramid, on our ROI Align, suppression and pasting.

K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017, pp. 2961-2969; the pyramid
is T.-Y. Lin et al., "Feature pyramid networks for object detection", CVPR 2017. Layers, keys and
every rounding step follow torchvision's `maskrcnn_resnet50_fpn`, so that its weights load and give
its detections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_fast.nn import _detection as det
from medseg_fast.nn import functional as ops
from medseg_fast.nn._resnet import ResNet

Target = dict[str, Tensor]
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
LEVELS = 4  # of the pyramid that regions are pooled from; anchors also lie on a fifth


def _conv(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, size, padding=size // 2))


class _Pyramid(nn.Module):
    """Four stages of a trunk -> four maps of `width` channels and a fifth, every second pixel."""

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.inner_blocks = nn.ModuleList(_conv(n, width, 1) for n in channels)
        self.layer_blocks = nn.ModuleList(_conv(width, width, 3) for _ in channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_uniform_(module.weight, a=1)
                nn.init.zeros_(module.bias)

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        inner: Tensor | None = None
        maps: list[Tensor] = []
        for stage, lateral, smooth in reversed(
            list(zip(stages, self.inner_blocks, self.layer_blocks, strict=True))
        ):
            side = lateral(stage)
            inner = side if inner is None else side + F.interpolate(inner, size=side.shape[-2:])
            maps.insert(0, smooth(inner))
        return [*maps, F.max_pool2d(maps[-1], 1, 2)]


class Backbone(nn.Module):
    """Four stages of a ResNet, then the pyramid."""

    def __init__(self, body: ResNet, width: int) -> None:
        super().__init__()
        self.body = body
        self.width = width
        self.fpn = _Pyramid(body.channels, width)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.fpn(self.body(x))
        return maps


class _ProposalHead(nn.Module):
    def __init__(self, width: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()))
        self.cls_logits = nn.Conv2d(width, anchors, 1)
        self.bbox_pred = nn.Conv2d(width, 4 * anchors, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[int]]:
        """Scores (N, A), offsets (N, A, 4) of all levels' anchors, and how many each level has."""
        scores, offsets = [], []
        for feature in maps:
            hidden = self.conv(feature)
            n = len(feature)
            scores.append(self.cls_logits(hidden).permute(0, 2, 3, 1).reshape(n, -1))
            offsets.append(self.bbox_pred(hidden).permute(0, 2, 3, 1).reshape(n, -1, 4))
        return torch.cat(scores, 1), torch.cat(offsets, 1), [s.shape[1] for s in scores]


class Proposals(nn.Module):
    """Region proposal network."""

    def __init__(self, width: int, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.head = _ProposalHead(width, len(ANCHOR_RATIOS))
        self.options = options

    def forward(
        self, maps: list[Tensor], image: det.Size, sizes: list[det.Size], targets: Any
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        scores, offsets, counts = self.head(maps)
        sizes_of = self.options["anchor_sizes"]
        anchors = torch.cat(det.anchors(maps, image, sizes_of, ANCHOR_RATIOS))
        given = offsets.detach().reshape(-1, 4)
        boxes = det.decode(given, anchors.repeat(len(scores), 1), (1, 1, 1, 1))
        boxes = boxes.reshape(len(scores), -1, 4)
        proposals = self._best(boxes, scores.detach(), counts, sizes)
        losses = self._losses(scores, offsets, anchors, targets) if self.training else {}
        return proposals, losses

    def _best(
        self, boxes: Tensor, scores: Tensor, counts: list[int], sizes: list[det.Size]
    ) -> list[Tensor]:
        when = "train" if self.training else "test"
        before, after = (self.options[f"rpn_{p}_nms_top_n_{when}"] for p in ("pre", "post"))
        best, levels, offset = [], [], 0
        for level, part in enumerate(scores.split(counts, 1)):
            top = part.topk(min(before, part.shape[1]), dim=1).indices
            best.append(top + offset)
            levels += [level] * top.shape[1]
            offset += part.shape[1]
        chosen = torch.cat(best, 1)
        level_of = torch.tensor(levels, device=scores.device)
        found = []
        for box, score, index, size in zip(boxes, scores, chosen, sizes, strict=True):
            box, probability = det.clip(box[index], size), torch.sigmoid(score[index])
            keep = det.large(box, 1e-3) & (probability >= self.options["rpn_score_thresh"])
            box, probability, of = box[keep], probability[keep], level_of[keep]
            kept = ops.batched_nms(box, probability, of, self.options["rpn_nms_thresh"])
            found.append(box[kept[:after]])
        return found

    def _losses(
        self, scores: Tensor, offsets: Tensor, anchors: Tensor, targets: list[Target]
    ) -> dict[str, Tensor]:
        o = self.options
        labels, wanted = [], []
        for target in targets:
            truth = target["boxes"]
            if len(truth) == 0:
                labels.append(torch.zeros(len(anchors), device=scores.device))
                wanted.append(torch.zeros_like(anchors))
                continue
            matches = det.match(
                truth, anchors, o["rpn_fg_iou_thresh"], o["rpn_bg_iou_thresh"], True
            )
            label = (matches >= 0).float()
            label[matches == det.NEITHER] = -1
            labels.append(label)
            wanted.append(det.encode(truth[matches.clamp(min=0)], anchors, (1, 1, 1, 1)))
        size, fraction = o["rpn_batch_size_per_image"], o["rpn_positive_fraction"]
        drawn = [det.draw(label, size, fraction) for label in labels]
        n = len(anchors)
        positive = torch.cat([p + k * n for k, (p, _) in enumerate(drawn)])
        sampled = torch.cat([positive, *(q + k * n for k, (_, q) in enumerate(drawn))])
        boxes = F.smooth_l1_loss(
            offsets.reshape(-1, 4)[positive],
            torch.cat(wanted)[positive],
            beta=1 / 9,
            reduction="sum",
        )
        objectness = F.binary_cross_entropy_with_logits(
            scores.flatten()[sampled], torch.cat(labels)[sampled].to(scores.dtype)
        )
        return {"loss_objectness": objectness, "loss_rpn_box_reg": boxes / len(sampled)}


class _BoxHead(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc6 = nn.Linear(inputs, width)
        self.fc7 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.fc7(F.relu(self.fc6(x.flatten(1)))))


class _BoxPredictor(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(inputs, classes)
        self.bbox_pred = nn.Linear(inputs, 4 * classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


class _MaskPredictor(nn.Sequential):
    conv5_mask: nn.ConvTranspose2d
    relu: nn.ReLU
    mask_fcn_logits: nn.Conv2d

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.add_module("conv5_mask", nn.ConvTranspose2d(width, width, 2, 2))
        self.add_module("relu", nn.ReLU())
        self.add_module("mask_fcn_logits", nn.Conv2d(width, classes, 1))
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")


class Heads(nn.Module):
    """Classes, boxes and masks of proposed regions."""

    def __init__(
        self, width: int, box_width: int, classes: int, options: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self.box_head = _BoxHead(49 * width, box_width)
        self.box_predictor = _BoxPredictor(box_width, classes)
        self.mask_head = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
                for _ in range(4)
            )
        )
        for module in self.mask_head.modules():
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)
        self.mask_predictor = _MaskPredictor(width, classes)
        self.options = options

    def forward(
        self, maps: list[Tensor], proposals: list[Tensor], sizes: list[det.Size], targets: Any
    ) -> tuple[list[Target], dict[str, Tensor]]:
        maps = maps[:LEVELS]
        if self.training:
            return [], self._losses(maps, proposals, sizes, targets)
        pooled = ops.multiscale_roi_align(maps, proposals, 7, 2, sizes)
        logits, offsets = self.box_predictor(self.box_head(pooled))
        detections = self._detections(logits, offsets, proposals, sizes)
        masks = self._mask_logits(maps, [d["boxes"] for d in detections], sizes).sigmoid()
        labels = torch.cat([d["labels"] for d in detections])
        own = masks[torch.arange(len(labels), device=labels.device), labels][:, None]
        counts = [len(d["labels"]) for d in detections]
        for found, mask in zip(detections, own.split(counts), strict=True):
            found["masks"] = mask
        return detections, {}

    def _mask_logits(
        self, maps: list[Tensor], boxes: list[Tensor], sizes: list[det.Size]
    ) -> Tensor:
        pooled = ops.multiscale_roi_align(maps, boxes, 14, 2, sizes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits

    def _detections(
        self, logits: Tensor, offsets: Tensor, proposals: list[Tensor], sizes: list[det.Size]
    ) -> list[Target]:
        o = self.options
        counts = [len(p) for p in proposals]
        decoded = det.decode(offsets, torch.cat(proposals), o["bbox_reg_weights"])
        found = []
        for boxes, scores, size in zip(
            decoded.split(counts), F.softmax(logits, -1).split(counts), sizes, strict=True
        ):
            row, label = torch.where(scores[:, 1:] > o["box_score_thresh"])  # 0 is background
            label = label + 1
            boxes, scores = det.clip(boxes[row, label], size), scores[row, label]
            keep = det.large(boxes, 1e-2)
            boxes, scores, label = boxes[keep], scores[keep], label[keep]
            kept = ops.batched_nms(boxes, scores, label, o["box_nms_thresh"])
            kept = kept[: o["box_detections_per_img"]]
            found.append({"boxes": boxes[kept], "labels": label[kept], "scores": scores[kept]})
        return found

    def _losses(
        self,
        maps: list[Tensor],
        proposals: list[Tensor],
        sizes: list[det.Size],
        targets: list[Target],
    ) -> dict[str, Tensor]:
        o = self.options
        regions, labels, wanted, matches = [], [], [], []
        drawn = []
        for proposed, target in zip(proposals, targets, strict=True):
            truth = target["boxes"].to(proposed.dtype)
            boxes = torch.cat([proposed, truth])
            match = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
            label = torch.zeros_like(match)
            if len(truth):
                high, low = o["box_fg_iou_thresh"], o["box_bg_iou_thresh"]
                found = det.match(truth, boxes, high, low, False)
                match = found.clamp(min=0)
                label = target["labels"][match].to(torch.int64)
                label[found == det.BACKGROUND] = 0
                label[found == det.NEITHER] = -1
            drawn.append((boxes, truth, match, label))
        for boxes, truth, match, label in drawn:
            some = torch.cat(
                det.draw(label, o["box_batch_size_per_image"], o["box_positive_fraction"])
            )
            some = some.sort().values
            regions.append(boxes[some])
            labels.append(label[some])
            matches.append(match[some])
            truth = truth if len(truth) else boxes.new_zeros(1, 4)
            wanted.append(det.encode(truth[match[some]], boxes[some], o["bbox_reg_weights"]))
        pooled = ops.multiscale_roi_align(maps, regions, 7, 2, sizes)
        logits, offsets = self.box_predictor(self.box_head(pooled))
        every = torch.cat(labels)
        positive = torch.where(every > 0)[0]
        boxes_loss = F.smooth_l1_loss(
            offsets.reshape(len(every), -1, 4)[positive, every[positive]],
            torch.cat(wanted)[positive],
            beta=1 / 9,
            reduction="sum",
        )
        return {
            "loss_classifier": F.cross_entropy(logits, every),
            "loss_box_reg": boxes_loss / len(every),
            "loss_mask": self._mask_loss(maps, regions, labels, matches, sizes, targets),
        }

    def _mask_loss(
        self,
        maps: list[Tensor],
        regions: list[Tensor],
        labels: list[Tensor],
        matches: list[Tensor],
        sizes: list[det.Size],
        targets: list[Target],
    ) -> Tensor:
        inside = [torch.where(label > 0)[0] for label in labels]
        boxes = [r[i] for r, i in zip(regions, inside, strict=True)]
        logits = self._mask_logits(maps, boxes, sizes)
        truth: list[Any] = []
        classes: list[Tensor] = []
        for box, match, some, target in zip(boxes, matches, inside, targets, strict=True):
            index = match[some]
            classes.append(target["labels"][index])
            rois = torch.cat([index.to(box)[:, None], box], 1)
            masks = target["masks"][:, None].to(box)
            truth.append(ops.roi_align(masks, rois, logits.shape[-1])[:, 0])
        of = torch.cat(classes)
        if len(of) == 0:
            return logits.sum() * 0
        own = logits[torch.arange(len(of), device=of.device), of]
        return F.binary_cross_entropy_with_logits(own, torch.cat(truth))


OPTIONS: dict[str, Any] = {
    "min_size": 800,
    "max_size": 1333,
    "scale": None,
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
    "anchor_sizes": (32, 64, 128, 256, 512),
    "rpn_pre_nms_top_n_train": 2000,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_train": 2000,
    "rpn_post_nms_top_n_test": 1000,
    "rpn_nms_thresh": 0.7,
    "rpn_fg_iou_thresh": 0.7,
    "rpn_bg_iou_thresh": 0.3,
    "rpn_batch_size_per_image": 256,
    "rpn_positive_fraction": 0.5,
    "rpn_score_thresh": 0.0,
    "box_score_thresh": 0.05,
    "box_nms_thresh": 0.5,
    "box_detections_per_img": 100,
    "box_fg_iou_thresh": 0.5,
    "box_bg_iou_thresh": 0.5,
    "box_batch_size_per_image": 512,
    "box_positive_fraction": 0.25,
    "bbox_reg_weights": BOX_WEIGHTS,
}
