"""Pasting the masks of instances beside torchvision and a loop over OpenCV's resize."""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case

from medseg_fast.nn import functional

SIDE = 1024


def instances(n=100, seed=0):
    """Masks of 28 x 28 and boxes of 16 to 256 pixels, sizes even on a logarithmic scale."""
    rng = np.random.default_rng(seed)
    centre, side = rng.random((n, 2)) * SIDE, 16 * 16 ** rng.random((n, 2))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).clip(0, SIDE)
    return rng.random((n, 1, 28, 28), np.float32), boxes.astype(np.float32)


def _opencv_loop(masks, boxes):
    import cv2

    out = np.zeros((len(masks), SIDE, SIDE), np.uint8)
    for k, (mask, box) in enumerate(zip(masks[:, 0], boxes, strict=True)):
        x0, y0, x1, y1 = box.astype(int)
        resized = cv2.resize(mask, (x1 - x0 + 1, y1 - y0 + 1)) >= 0.5
        right, below = min(x1 + 1, SIDE), min(y1 + 1, SIDE)
        out[k, y0:below, x0:right] = resized[: below - y0, : right - x0]
    return out


def _binary():
    masks, boxes = instances()
    return masks, {
        "medseg_fast": lambda: functional.paste_masks(masks, boxes, (SIDE, SIDE), threshold=0.5),
        "OpenCV loop": lambda: _opencv_loop(masks, boxes),
    }


def _values():
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks, boxes = map(torch.from_numpy, instances())
    return masks.numpy(), {
        "medseg_fast": lambda: functional.paste_masks(masks, boxes, (SIDE, SIDE)),
        "torchvision": lambda: paste_masks_in_image(masks, boxes, (SIDE, SIDE)),
    }


def _close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5)


_EDGES = {"OpenCV loop": "resizes masks without a border of zeros, to the boxes themselves"}
CASES = [
    Case("paste_masks", "100 masks to 1024^2, binary", _binary, differs=_EDGES, target=2),
    Case("paste_masks", "100 masks to 1024^2, float32", _values, _close, target=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_paste_masks(benchmark, case):
    pytest.importorskip("torchvision")
    pytest.importorskip("cv2")
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
