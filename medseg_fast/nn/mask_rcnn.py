"""Mask R-CNN: instances with boxes, classes, scores and masks.

K. He, G. Gkioxari, P. Dollar and R. Girshick, "Mask R-CNN", ICCV 2017, pp. 2961-2969.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg_fast.nn import _detection as det
from medseg_fast.nn import functional as ops
from medseg_fast.nn._blocks import Architecture, choice, network, positive
from medseg_fast.nn._mask_rcnn import LEVELS, OPTIONS, Backbone, Heads, Proposals, Target
from medseg_fast.nn._resnet import FrozenBatchNorm2d, NormLayer, ResNet
from medseg_fast.nn._weights import read_state

__all__ = ["MaskRCNN", "mask_rcnn", "maskrcnn_resnet50_fpn"]

# Keys of checkpoints from before torchvision 0.13.
_OLD_KEYS = (
    (r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2"),
    (r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2"),
    (
        r"(mask_head)\.mask_fcn(\d+)\.(weight|bias)$",
        lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}",
    ),
)


class MaskRCNN(nn.Module):
    """Mask R-CNN on a ResNet with a feature pyramid.

    Parameters
    ----------
    num_classes : int
        Classes, the background (0) included.
    backbone : {"resnet18", "resnet34", "resnet50", "resnet101"}, optional
    norm_layer : callable, optional
        ``norm_layer(channels)`` makes the trunk's normalisation.
    in_channels : int, optional
        Channels of the images; `image_mean` and `image_std` must have as many numbers.
    width, pyramid_width, box_width : int, optional
        Channels of the trunk's first stage, of the pyramid's maps and of the box head's layers;
        torchvision's weights need 64, 256 and 1024.
    **options
        torchvision's: `min_size`, `max_size` (pixels of the shorter and longer side that images are
        resized to), `image_mean`, `image_std`, `rpn_pre_nms_top_n_test` and the other ``rpn_...``,
        ``box_...`` settings, `bbox_reg_weights`. Besides, `scale` (a factor by which images are
        resized instead, so that an object's pixels do not depend on how much is seen around it) and
        `anchor_sizes`, five, in pixels of the resized image.

    Notes
    -----
    ``model(images)`` takes a list of tensors (C, H, W) of any sizes, in [0, 1]. In eval mode it
    returns for each a dictionary: boxes (N, 4) as x1, y1, x2, y2 in its pixels, labels (N,),
    scores (N,), best first, masks (N, 1, H, W) with values in [0, 1] (compare with 0.5). While
    training ``model(images, targets)`` returns the losses; a target has boxes (N, 4), labels (N,)
    and masks (N, H, W). float32 and float64.

    State dicts are torchvision's, those of before version 0.13 too. Given the same weights the
    detections are torchvision's to rounding, the losses too where random numbers start alike.
    Unlike there the scale of the pyramid's levels is found in every call, not in the first alone.

    References
    ----------
    .. [1] He et al., "Mask R-CNN", ICCV 2017.

    Examples
    --------
    >>> model = mask_rcnn(2, backbone="resnet18", min_size=64, max_size=64).eval()
    >>> found = model([torch.rand(3, 64, 64)])[0]
    >>> sorted(found)
    ['boxes', 'labels', 'masks', 'scores']
    """

    architecture: Architecture  # of `mask_rcnn`: what `save_model` writes

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet50",
        *,
        norm_layer: NormLayer = nn.BatchNorm2d,
        in_channels: int = 3,
        width: int = 64,
        pyramid_width: int = 256,
        box_width: int = 1024,
        **options: Any,
    ) -> None:
        super().__init__()
        self.classes = num_classes
        self.in_channels = in_channels
        self.metadata: dict[str, Any] = {}
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise TypeError(f"MaskRCNN: unexpected options {', '.join(unknown)}")
        options = {k: v for k, v in options.items() if v is not None}
        self.options = {**OPTIONS, **options}
        _checked(self.options, width=width, pyramid_width=pyramid_width, box_width=box_width)
        body = ResNet(backbone, in_channels, norm_layer=norm_layer, width=width)
        self.backbone = Backbone(body, pyramid_width)
        self.rpn = Proposals(pyramid_width, self.options)
        self.roi_heads = Heads(pyramid_width, box_width, num_classes, self.options)
        self.register_load_state_dict_pre_hook(_rename)  # type: ignore[no-untyped-call]

    def forward(
        self, images: list[Tensor], targets: list[Target] | None = None
    ) -> list[Target] | dict[str, Tensor]:
        """Detections of each image, or losses while training."""
        if self.training and targets is None:
            raise ValueError("MaskRCNN: targets must be given in training mode, got None")
        given = [_size(image) for image in images]
        batch, sizes, targets = self._batch(images, targets)
        maps = self.backbone(batch)
        padded = (batch.shape[2], batch.shape[3])
        proposals, losses = self.rpn(maps, padded, sizes, targets)
        detections, more = self.roi_heads(maps, proposals, sizes, targets)
        if self.training:
            return {**more, **losses}
        for found, size, original in zip(detections, sizes, given, strict=True):
            found["boxes"] = det.resize(found["boxes"], size, original)
            found["masks"] = ops.paste_masks(found["masks"], found["boxes"], original)
        return detections  # type: ignore[no-any-return]

    def _batch(
        self, images: list[Tensor], targets: list[Target] | None
    ) -> tuple[Tensor, list[det.Size], list[Target] | None]:
        """Normalised, resized images in one array of a size that 32 divides; targets alike."""
        if len(images) == 0:
            raise ValueError("MaskRCNN: images must be at least one, got none")
        resized, changed = [], []
        for k, image in enumerate(images):
            if image.ndim != 3 or not image.is_floating_point():
                raise ValueError(
                    "MaskRCNN: images must be floating-point tensors (C, H, W), "
                    f"got {image.dtype} of shape {tuple(image.shape)}"
                )
            mean, std = (
                torch.as_tensor(self.options[name], dtype=image.dtype, device=image.device)
                for name in ("image_mean", "image_std")
            )
            scale = self._scale(image)
            resize: dict[str, Any] = {"scale_factor": scale, "recompute_scale_factor": True}
            normal = ((image - mean[:, None, None]) / std[:, None, None])[None]
            resized.append(F.interpolate(normal, mode="bilinear", **resize)[0])
            if targets is not None:
                masks = F.interpolate(targets[k]["masks"][:, None].float(), **resize)[:, 0]
                boxes = det.resize(targets[k]["boxes"], _size(image), _size(resized[-1]))
                if not (boxes[:, 2:] > boxes[:, :2]).all():
                    raise ValueError("MaskRCNN: targets must have boxes of positive size")
                changed.append({**targets[k], "masks": masks.byte(), "boxes": boxes})
        sizes = [(image.shape[1], image.shape[2]) for image in resized]
        most = [32 * math.ceil(max(size[axis] for size in sizes) / 32) for axis in (0, 1)]
        batch = resized[0].new_zeros(len(images), resized[0].shape[0], *most)
        for whole, image in zip(batch, resized, strict=True):
            whole[:, : image.shape[1], : image.shape[2]] = image
        return batch, sizes, None if targets is None else changed

    def _scale(self, image: Tensor) -> float:
        """By how much an image is resized; in training a size drawn of several."""
        if self.options["scale"] is not None:
            return float(self.options["scale"])
        wanted = self.options["min_size"]
        several = wanted if isinstance(wanted, (tuple, list)) else (wanted,)
        short = several[-1]
        if self.training:
            short = several[int(torch.empty(1).uniform_(0.0, float(len(several))).item())]
        rows, columns = image.shape[-2:]
        return float(min(short / min(rows, columns), self.options["max_size"] / max(rows, columns)))


def _checked(options: Mapping[str, Any], **widths: int) -> None:
    """What torchvision's constructor does not have."""
    positive("MaskRCNN", **widths)
    scale, sizes = options["scale"], options["anchor_sizes"]
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"MaskRCNN: scale must be above 0, got {scale!r}")
    if len(sizes) != LEVELS + 1 or not all(0 < size < math.inf for size in sizes):
        raise ValueError(f"MaskRCNN: anchor_sizes must be {LEVELS + 1} sizes, got {sizes!r}")


def _size(image: Tensor) -> det.Size:
    rows, columns = image.shape[-2:]
    return rows, columns


def _rename(module: nn.Module, state: dict[str, Any], *_: Any) -> None:
    """Gives old keys their new names."""
    for key in list(state):
        for old, new in _OLD_KEYS:
            renamed = re.sub(old, new, key)
            if renamed != key:
                state[renamed] = state.pop(key)
                break


@network
def mask_rcnn(
    num_classes: int,
    in_channels: int = 3,
    *,
    backbone: str = "resnet50",
    norm: str = "batch",
    norm_eps: float = 1e-5,
    width: int = 64,
    pyramid_width: int = 256,
    box_width: int = 1024,
    **options: Any,
) -> MaskRCNN:
    """Mask R-CNN with random weights, for images of any number of channels.

    Parameters
    ----------
    num_classes : int
        Classes, the background (0) included.
    in_channels : int, optional
        Channels of the images. Other than three: they are normalised by a mean of 0.5 and a
        deviation of 0.25, unless `image_mean` and `image_std` say other.
    backbone : {"resnet50", "resnet18", "resnet34", "resnet101"}, optional
    norm : {"batch", "frozen"}, optional
        Normalisation in the trunk: trained, or constants, as for batches of one or two images.
    norm_eps : float, optional
        What normalisation adds to the variance.
    width, pyramid_width, box_width : int, optional
    **options
        Those of `MaskRCNN`.

    Returns
    -------
    MaskRCNN
    """
    choice("mask_rcnn", "norm", norm, ("batch", "frozen"))
    layer = nn.BatchNorm2d if norm == "batch" else FrozenBatchNorm2d
    widths = {"width": width, "pyramid_width": pyramid_width, "box_width": box_width}
    options = {"norm_layer": partial(layer, eps=norm_eps), **widths, **options}
    if in_channels != 3:
        options = {
            "image_mean": (0.5,) * in_channels,
            "image_std": (0.25,) * in_channels,
            **options,
        }
    return MaskRCNN(num_classes, backbone, in_channels=in_channels, **options)


def maskrcnn_resnet50_fpn(
    weights: Mapping[str, Tensor] | str | Path | None = None,
    weights_backbone: Mapping[str, Tensor] | str | Path | None = None,
    num_classes: int | None = None,
    trainable_backbone_layers: int | None = None,
    **kwargs: Any,
) -> MaskRCNN:
    """Mask R-CNN on ResNet50 as torchvision's function of that name builds it.

    Parameters
    ----------
    weights : state dict or path of one, optional
        torchvision's COCO checkpoint, or another of the same keys. Normalisation is frozen then,
        with `eps` 0, which that checkpoint was made with. Nothing is downloaded.
    weights_backbone : state dict or path of one, optional
        Of a ResNet50 (torchvision's ImageNet checkpoint); its classifier is left out. Normalisation
        is frozen.
    num_classes : int, optional
        Classes, the background included: 91, or as many as `weights` have.
    trainable_backbone_layers : int, optional
        With either of the weights: how many of the trunk's five groups of layers are trained, from
        the last one; 3 by default.
    **kwargs
        Those of `MaskRCNN`.

    Returns
    -------
    MaskRCNN
        In training mode; call ``.eval()`` for detections.
    """
    state, trunk = _read(weights), _read(weights_backbone)
    if num_classes is None:
        num_classes = 91 if state is None else len(state["roi_heads.box_predictor.cls_score.bias"])
    norm = "batch" if state is None and trunk is None else "frozen"
    model = mask_rcnn(num_classes, norm=norm, norm_eps=1e-5 if state is None else 0.0, **kwargs)
    if state is not None:
        model.load_state_dict(state)
    elif trunk is not None:
        kept = {key: value for key, value in trunk.items() if not key.startswith("fc.")}
        model.backbone.body.load_state_dict(kept)
    if state is not None or trunk is not None:
        trained = 3 if trainable_backbone_layers is None else trainable_backbone_layers
        if not 0 <= trained <= 5:
            raise ValueError(
                "maskrcnn_resnet50_fpn: trainable_backbone_layers must be from 0 to 5, "
                f"got {trained}"
            )
        groups = ["layer4", "layer3", "layer2", "layer1", "conv1"][:trained]
        groups += ["bn1"] if trained == 5 else []
        for name, parameter in model.backbone.body.named_parameters():
            parameter.requires_grad_(name.partition(".")[0] in groups)
    return model


def _read(weights: Mapping[str, Tensor] | str | Path | None) -> dict[str, Tensor] | None:
    if weights is None:
        return None
    if isinstance(weights, (str, Path)):
        return read_state(weights)[0]
    return dict(weights)
