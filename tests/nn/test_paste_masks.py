"""Pasting of masks: the slow twin's values and torchvision's, to rounding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_paste_masks as slow


def instances(rng, n, size, dtype=np.float32, extent=(40, 30), most=40.0):
    """Masks and boxes (x1, y1, x2, y2), some of which reach out of the image."""
    centre, side = rng.random((n, 2)) * extent, rng.random((n, 2)) * most + 0.5
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1)
    return rng.random((n, 1, *size)).astype(dtype), boxes.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [(1, 1), (5, 5), (14, 14), (3, 6)])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_equals_slow_twin(rng, dtype, size, padding, threads):
    masks, boxes = instances(rng, 6, size, dtype)
    got = F.paste_masks(masks, boxes, (30, 40), padding)
    assert got.dtype == dtype
    # A position in float32 is off by 1e-6 of a pixel.
    close = 1e-5 if dtype == np.float32 else 1e-12
    assert_allclose(got, slow.paste_masks(masks, boxes, (30, 40), padding), atol=close)
    for threshold in (0.5, 0.25):
        mask = F.paste_masks(masks, boxes, (30, 40), padding, threshold)
        assert mask.dtype == bool
        assert_array_equal(mask, got >= threshold)
    assert_array_equal(F.paste_masks(masks[:, 0], boxes, (30, 40), padding), got)


@pytest.mark.parametrize("n", [0, 1, 20])
@pytest.mark.parametrize("size", [1, 7, 28])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_equals_torchvision(rng, n, size, padding):
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    torch = pytest.importorskip("torch")
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    masks, boxes = map(torch.from_numpy, instances(rng, n, (size, size)))
    expected = paste_masks_in_image(masks, boxes, (30, 40), padding)
    assert_allclose(F.paste_masks(masks, boxes, (30, 40), padding), expected, atol=3e-6)


def test_large_image_in_small_pages(rng):
    masks, boxes = instances(rng, 3, (9, 9), np.float32, (2000, 1500), 300.0)
    got = F.paste_masks(masks, boxes, (1500, 2000))
    assert_allclose(got, slow.paste_masks(masks, boxes, (1500, 2000)), atol=1e-4)
    got[0, 0, 0, 0] = 7  # writable, its own
    assert F.paste_masks(masks, boxes, (1500, 2000), threshold=0.5).max()


def test_boxes_outside_leave_zeros():
    masks = np.ones((4, 1, 5, 5), np.float32)
    boxes = np.array([[50, 5, 60, 9], [-9, 5, -4, 9], [5, -30, 9, -20], [5, 5, 4, 4]], np.float32)
    got = F.paste_masks(masks, boxes, (10, 20))
    assert not got[:3].any()
    huge = np.array([[-1e12, -1e12, 1e12, 1e12]])
    assert_array_equal(F.paste_masks(masks[:1], huge, (3, 4)), np.ones((1, 1, 3, 4)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, bool])
def test_other_dtypes(rng, dtype):
    masks, boxes = instances(rng, 3, (4, 4))
    masks = (masks * 1.9).astype(dtype)
    got = F.paste_masks(masks, boxes, (30, 40))
    expected = F.paste_masks(masks.astype(np.float32), boxes, (30, 40))
    assert got.dtype == (np.float16 if dtype is np.float16 else np.float32)
    assert_array_equal(got, expected.astype(got.dtype))


def test_layouts(rng, layout):
    masks, boxes = instances(rng, 3, (4, 5))
    got = F.paste_masks(layout(masks), layout(boxes), (30, 40))
    assert_array_equal(got, F.paste_masks(masks, boxes, (30, 40)))


def test_nan_in_a_mask_reaches_its_surroundings():
    masks = np.zeros((1, 1, 5, 5), np.float32)
    masks[0, 0, 2, 2] = np.nan
    got = F.paste_masks(masks, [[0, 0, 14, 14]], (15, 15), padding=0)[0, 0]
    assert np.isnan(got[7, 7])
    assert not np.isnan(got[0, 0])


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (3, 6)])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_gradient(rng, size, padding):
    torch = pytest.importorskip("torch")
    masks, boxes = instances(rng, 3, size, np.float64, (8, 6), 9.0)
    boxes = torch.from_numpy(np.concatenate([boxes, [[4, 4, 3, 3]], [[30, 30, 33, 33]]]))
    masks = torch.from_numpy(np.concatenate([masks, masks[:2]])).requires_grad_()
    paste = lambda m, b: F.paste_masks(m, b, (7, 9), padding)  # noqa: E731
    assert torch.autograd.gradcheck(paste, (masks, boxes))
    assert torch.autograd.gradgradcheck(paste, (masks, boxes))
    assert torch.autograd.gradcheck(paste, (masks[:, 0], boxes.int()))
    given = torch.from_numpy(rng.standard_normal((5, 1, 7, 9)))
    (found,) = torch.autograd.grad(paste(masks, boxes), masks, given)
    assert_allclose((found * masks).sum().item(), (paste(masks, boxes) * given).sum().item(), 1e-12)
    (narrow,) = torch.autograd.grad(paste(masks.half(), boxes).sum(), masks)
    (wide,) = torch.autograd.grad(paste(masks, boxes).sum(), masks)
    assert_allclose(narrow, wide, rtol=1e-3, atol=1e-3)  # rounded to float16 once
    assert not F.paste_masks(masks, boxes, (7, 9), padding, 0.5).requires_grad


def test_compiles(rng):
    torch = pytest.importorskip("torch")
    masks, boxes = map(torch.from_numpy, instances(rng, 3, (4, 4)))
    call = lambda m, b: F.paste_masks(m * 1, b, (30, 40), 1, 0.5).sum()  # noqa: E731
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert compiled(masks, boxes) == call(masks, boxes)


MASKS, BOXES = np.ones((2, 1, 4, 4), np.float32), np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"masks": np.ones((2, 3, 4, 4))}, ValueError, r"masks must have shape \(N, 1, M, M\)"),
        ({"masks": np.ones((2, 0, 4))}, ValueError, "masks must have shape"),
        ({"masks": MASKS + 0j}, TypeError, "masks must be float16"),
        ({"boxes": np.ones((2, 5))}, ValueError, r"boxes must have shape \(2, 4\)"),
        ({"boxes": BOXES * np.nan}, ValueError, "boxes must be finite"),
        ({"image_shape": 5}, ValueError, "image_shape must be"),
        ({"image_shape": (5, 2.5)}, TypeError, "image_shape must be an integer"),
        ({"image_shape": (9, (9,))}, TypeError, "image_shape must be an integer"),
        ({"image_shape": (10**10, 10**10)}, ValueError, "image_shape must ask for fewer than"),
        ({"image_shape": (10**7, 10**7 // 4)}, MemoryError, "no memory|Unable"),
        ({"padding": 10**19}, ValueError, r"padding must ask for fewer than 2\*\*48 values"),
        ({"padding": -1}, ValueError, "padding must be at least 0"),
        ({"threshold": 0}, ValueError, "threshold must be positive"),
        ({"threshold": np.nan}, ValueError, "threshold must be a number"),
    ],
)
def test_errors(change, error, message):
    arguments = {"masks": MASKS, "boxes": BOXES, "image_shape": (5, 6)}
    with pytest.raises(error, match=message):
        F.paste_masks(**{**arguments, **change})
