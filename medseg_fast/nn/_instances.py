"""Mask R-CNN on an image: one label per object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast.io.volume import Volume
from medseg_fast.nn import _arrays
from medseg_fast.nn._intensities import scaling
from medseg_fast.nn._optimize._detector import DetectorPlan

if TYPE_CHECKING:
    from torch import nn

_OP = "instances"


class Instances(NamedTuple):
    """Objects of an image, best first; the object in row i has the label i + 1.

    Attributes
    ----------
    labels : ndarray of int32 or Volume
        As the image, without its channels: 0 where no object is. Where objects overlap the one with
        the higher score counts.
    boxes : ndarray, shape (n, 4)
        x1, y1, x2, y2 in pixels.
    classes : ndarray of int64, shape (n,)
        From 1.
    scores : ndarray, shape (n,)
        From 0 to 1.
    """

    labels: Any
    boxes: NDArray[Any]
    classes: NDArray[np.int64]
    scores: NDArray[Any]


def instances(
    model: nn.Module | DetectorPlan,
    image: ArrayLike | Volume,
    *,
    score: float = 0.5,
    mask: float = 0.5,
    intensities: tuple[float, float] | str | None = None,
) -> Instances:
    """Find the objects of an image by Mask R-CNN.

    Parameters
    ----------
    model : nn.Module or DetectorPlan
        `mask_rcnn.maskrcnn_resnet50_fpn` or torchvision's: a list of tensors (C, H, W) -> a list of
        dicts with boxes, labels, scores and masks. It is put into evaluation mode for the time. Or
        a plan of the first, for images of its size, which needs no torch.
    image : array_like or Volume
        (H, W), or (H, W, C) with channels last. A grey image is given to all channels of the model.
    score : float, optional
        Objects with lower scores are left out.
    mask : float, optional
        An object is where its mask exceeds this.
    intensities : (low, high), "zscore", "robust" or "none", optional
        What becomes 0 and 1, where values beyond are clipped; or as `predict` scales, for a model
        that was trained on such images. Default: what the model's ``metadata["normalise"]`` says,
        else the range of the dtype for uint8 and uint16, the image's own range for other integers,
        0 and 1 for floats.

    Returns
    -------
    found : Instances
        A label image and, per object, its box, class and score.

    Raises
    ------
    ValueError
        If the image does not fit the model, or holds NaN or infinity.
    """
    given = image.array if isinstance(image, Volume) else _arrays.to_numpy(image)
    if given.dtype.kind not in "buif" or given.dtype.itemsize > 8:
        raise TypeError(f"{_OP}: image must be bool, integer or float, got {given.dtype}")
    if isinstance(image, Volume) and not set(image.axes) <= set("yxc"):
        raise ValueError(f"{_OP}: image must be one plane, got axes {image.axes}")
    if given.ndim not in (2, 3) or 0 in given.shape:
        raise ValueError(f"{_OP}: image must have shape (H, W[, C]), got {given.shape}")
    for name, value in (("score", score), ("mask", mask)):
        if not 0 <= _checks.number(_OP, name, value) <= 1:
            raise ValueError(f"{_OP}: {name} must be in [0, 1], got {value}")
    _checks.finite(_OP, "image", given)
    find, channels, dtype = _finder(model)
    pixels = given if given.ndim == 3 else given[..., None]
    if pixels.shape[-1] not in (1, channels):
        raise ValueError(
            f"{_OP}: image must have 1 or {channels} channels, got shape {given.shape}"
        )
    how = intensities
    if how is None:
        how = getattr(model, "metadata", {}).get("normalise")
    scaled = pixels.astype(np.float64)
    scaling(_OP, pixels, _range(given) if how is None else how, name="intensities").apply(scaled)
    x = np.empty((channels, *given.shape[:2]), dtype)
    x[...] = np.moveaxis(scaled, -1, 0)
    found = find(x)
    scores = found["scores"]
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= score]
    labels = np.zeros(given.shape[:2], np.int32)
    masks = found["masks"]
    for label, index in reversed(list(enumerate(order.tolist(), 1))):  # the best last, on top
        labels[masks[index, 0] > mask] = label
    result: Any = labels
    if isinstance(image, Volume):
        result = image.like(labels, axes=image.axes.replace("c", ""))
    return Instances(
        result,
        found["boxes"][order],
        found["labels"][order],
        scores[order],
    )


def _finder(
    model: nn.Module | DetectorPlan,
) -> tuple[Callable[[NDArray[Any]], dict[str, NDArray[Any]]], int, np.dtype[Any]]:
    """Detections of an image (C, H, W), its channels and its dtype."""
    if isinstance(model, DetectorPlan):
        return lambda x: model([x])[0], model.input_shapes[0][0], np.dtype(np.float32)
    import torch
    from torch import nn

    from medseg_fast.nn._modes import evaluated

    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    weight = next(model.parameters(), torch.empty(0))

    def find(x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        with evaluated(model), torch.inference_mode():
            found = model([torch.from_numpy(x).to(weight.device, weight.dtype)])[0]
        return {name: _arrays.to_numpy(value) for name, value in found.items()}

    double = weight.dtype == torch.float64
    return find, 3 if first is None else first.in_channels, np.dtype("f8" if double else "f4")


def _range(image: NDArray[Any]) -> tuple[float, float]:
    """What is black and what is white."""
    if image.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(image.dtype).max)
    if image.dtype.kind in "iu":
        low, high = float(image.min()), float(image.max())
        return low, high if high > low else low + 1
    return 0.0, 1.0
