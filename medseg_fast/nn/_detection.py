"""What detectors share: anchors, boxes as offsets from other boxes, matching, sampling, resizing.

The conventions are those of S. Ren et al., "Faster R-CNN: Towards real-time object detection with
region proposal networks", NeurIPS 2015, as torchvision has them: every step rounds as its own, so
that the same weights give the same detections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LARGEST_LOG = math.log(1000.0 / 16)
"""A box grows at most by the exponential of this."""

Size = tuple[int, int]


def cell_anchors(size: float, ratios: Sequence[float], like: Tensor) -> Tensor:
    """Anchors (A, 4) of area `size` squared around the origin; a ratio is height by width."""
    down = torch.as_tensor(ratios, dtype=torch.float32).sqrt()
    half = torch.stack([1 / down, down], 1) * float(size) / 2
    return torch.cat([-half, half], 1).round().to(like)


def anchors(
    features: Sequence[Tensor],
    image: Size,
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> list[Tensor]:
    """The anchors (H W A, 4) of each level: one size each, at multiples of its stride."""
    found = []
    for feature, size in zip(features, sizes, strict=True):
        rows, columns = feature.shape[-2:]
        device = feature.device
        y = torch.arange(rows, dtype=torch.int64, device=device) * (image[0] // rows)
        x = torch.arange(columns, dtype=torch.int64, device=device) * (image[1] // columns)
        y, x = torch.meshgrid(y, x, indexing="ij")
        shift = torch.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        found.append((shift + cell_anchors(size, ratios, feature)).reshape(-1, 4))
    return found


def _centre(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides, (..., 2) each, as (x, y)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def encode(boxes: Tensor, origins: Tensor, weights: Sequence[float]) -> Tensor:
    """Offsets (N, 4) of boxes from others: centres in units of their sides, logarithms of sides."""
    weight = torch.as_tensor(weights, dtype=boxes.dtype, device=boxes.device)
    (centre, sides), (origin, extent) = _centre(boxes), _centre(origins)
    return torch.cat(
        [weight[:2] * (centre - origin) / extent, weight[2:] * torch.log(sides / extent)], 1
    )


def decode(offsets: Tensor, origins: Tensor, weights: Sequence[float]) -> Tensor:
    """Boxes (N, K, 4) from K offsets (N, 4 K) from each of N boxes."""
    origin, extent = _centre(origins.to(offsets.dtype))
    offsets = offsets.reshape(len(origins), offsets.shape[1] // 4, 2, 2)
    move = offsets[:, :, 0] / torch.tensor(weights[:2], dtype=offsets.dtype, device=offsets.device)
    grow = offsets[:, :, 1] / torch.tensor(weights[2:], dtype=offsets.dtype, device=offsets.device)
    centre = move * extent[:, None] + origin[:, None]
    half = 0.5 * (grow.clamp(max=LARGEST_LOG).exp() * extent[:, None])
    return torch.cat([centre - half, centre + half], -1)


def clip(boxes: Tensor, image: Size) -> Tensor:
    """Boxes (..., 4) within an image of (rows, columns)."""
    most = torch.tensor([image[1], image[0]] * 2, dtype=boxes.dtype, device=boxes.device)
    return torch.minimum(boxes.clamp(min=0), most)


def large(boxes: Tensor, least: float) -> Tensor:
    """Whether both sides are at least `least` pixels."""
    sides: Tensor = (boxes[:, 2:] - boxes[:, :2]) >= least
    return sides.all(1)


def resize(boxes: Tensor, before: Size, after: Size) -> Tensor:
    """Boxes in an image that changed its size."""
    rows, columns = (
        torch.tensor(float(new)) / torch.tensor(float(old))
        for new, old in zip(after, before, strict=True)
    )
    factors = torch.stack([columns, rows, columns, rows]).to(boxes.device)
    return boxes * factors.to(boxes.dtype)


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of all pairs, (N, M)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, others)]
    return common / (areas[0][:, None] + areas[1] - common)


BACKGROUND, NEITHER = -1, -2


def match(truth: Tensor, boxes: Tensor, high: float, low: float, every: bool) -> Tensor:
    """For each box the index of the true one it overlaps most, `BACKGROUND` or `NEITHER`.

    From `high` on it is a match, below `low` background. `every`: each true box also gets those
    boxes that overlap it most, however little.
    """
    quality = overlaps(truth, boxes)
    best, index = quality.max(0)
    matches = index.clone()
    matches[best < low] = BACKGROUND
    matches[(best >= low) & (best < high)] = NEITHER
    if every:
        closest = torch.where(quality == quality.max(1).values[:, None])[1]
        matches[closest] = index[closest]
    return matches


def draw(labels: Tensor, size: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Random indices of positive (label >= 1) and negative (0) boxes, ascending, `size` in all."""
    drawn = []
    room = int(size * positive_fraction)
    for members in (torch.where(labels >= 1)[0], torch.where(labels == 0)[0]):
        chosen = members[torch.randperm(len(members), device=labels.device)[:room]]
        drawn.append(chosen.sort().values)
        room = size - len(chosen)
    return drawn[0], drawn[1]
