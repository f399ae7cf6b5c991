"""Boxes and masks of instances on a GPU: the CPU's to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from numpy.testing import assert_array_equal

from medseg_fast._gpu import nms
from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_nms, nn_paste_masks

pytestmark = needs_compiler


def random_boxes(rng, n, dtype, dims=2):
    low = rng.random((n, dims)) * 30
    return np.concatenate([low, low + rng.random((n, dims)) * 20], 1).astype(dtype)


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 130, 500])  # both sides of the group of 64
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_nms(rng, n, dtype):
    for dims in (2, 3):
        boxes, scores = random_boxes(rng, n, dtype, dims), rng.random(n).round(2).astype(dtype)
        for threshold in (0.0, 0.3, 0.9):
            kept = on_shim("nms", boxes, scores, threshold, schedules=4)
            assert kept.dtype == np.int64
            assert_array_equal(kept, F.nms(boxes, scores, threshold))
    if n < 100:
        assert_array_equal(kept, nn_nms.nms(boxes, scores, threshold))


def test_nms_of_more_boxes_than_are_ranked(rng, monkeypatch):
    monkeypatch.setattr(nms, "MOST_RANKED", 100)
    for n in (100, 101):
        boxes, scores = random_boxes(rng, n, np.float32), rng.normal(size=n).round(1)
        scores[5:8] = np.nan, 0, np.nan
        expected = F.nms(boxes, scores, 0.4)
        assert_array_equal(on_shim("nms", boxes, scores, 0.4, schedules=1), expected)


def test_nms_of_boxes_that_all_overlap(rng):
    """Each group of 64 settles its own; no box of size zero or of a negative threshold is lost."""
    boxes = np.repeat(random_boxes(rng, 4, np.float32), 40, axis=0)
    boxes[:3, 2:] = boxes[:3, :2]
    scores = rng.random(160).astype(np.float32)
    for threshold in (0.5, 1.0, 0.0, -0.5):
        expected = F.nms(boxes, scores, threshold)
        assert_array_equal(on_shim("nms", boxes, scores, threshold, schedules=4), expected)


def test_nms_of_nan_and_of_mixed_dtypes(rng):
    boxes, scores = random_boxes(rng, 90, np.float32), rng.normal(size=90)
    scores[:9] = [np.nan, np.inf, -np.inf, 0.0, -0.0, np.nan, np.inf, -5, -4]
    boxes[20:22] = np.nan
    for box_type, score_type in [("f4", "f8"), ("f8", "f4"), ("f2", "f2"), ("i4", "f4")]:
        with np.errstate(invalid="ignore"):
            given = boxes.astype(box_type), scores.astype(score_type)
        assert_array_equal(on_shim("nms", *given, 0.4, schedules=1), F.nms(*given, 0.4))


@pytest.mark.parametrize("n", [0, 1, 65, 600])  # both sides of the block's 512 threads
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_soft_nms(rng, n, dtype):
    tolerance = {4: 1e-4, 8: 1e-11}[np.dtype(dtype).itemsize]
    for dims in (2, 3):
        boxes, scores = random_boxes(rng, n, dtype, dims), rng.random(n).round(2).astype(dtype)
        for options in ({}, {"method": "gaussian", "sigma": 0.2}, {"iou_threshold": 0.0}):
            options["score_threshold"] = 0.4
            keep, lowered = on_shim("soft_nms", boxes, scores, schedules=2, **options)
            expected, left = F.soft_nms(boxes, scores, **options)
            assert (keep.dtype, lowered.dtype) == (expected.dtype, left.dtype)
            np.testing.assert_allclose(lowered, left, rtol=tolerance)
            if dtype == np.float64:
                assert_array_equal(keep, expected)
                if n < 100:
                    assert_array_equal(keep, nn_nms.soft_nms(boxes, scores, **options)[0])


def test_soft_nms_of_nan_and_wrong_numbers(rng):
    boxes, scores = random_boxes(rng, 20, np.float32), rng.normal(size=20)
    scores[:4] = [np.nan, np.inf, -np.inf, 0.0]
    boxes[5] = np.nan
    assert_array_equal(on_shim("soft_nms", boxes, scores)[0], F.soft_nms(boxes, scores)[0])
    for options in ({"sigma": 0}, {"method": "a"}, {"iou_threshold": np.nan}):
        with pytest.raises(ValueError, match="soft_nms: "):
            on_shim("soft_nms", boxes, scores, **options)


@pytest.mark.parametrize("n", [0, 70, 1100])
def test_batched_nms(rng, n):
    boxes, scores = random_boxes(rng, n, np.float32), rng.random(n).astype(np.float32)
    classes = rng.integers(0, 4, n)
    kept = on_shim("batched_nms", boxes, scores, classes, 0.4, schedules=1)
    assert_array_equal(kept, F.batched_nms(boxes, scores, classes, 0.4))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=str)
def test_paste_masks(rng, dtype):
    masks = rng.random((6, 1, 7, 7)).astype(dtype)
    boxes = np.loadtxt(
        "1 2 9 8; -5 -5 3.5 4; 30 30 50 50; 0 0 33 30; 4 4 4.2 4.2; 10.5 3.25 16.5 20".split(";")
    ).astype(dtype)
    for padding in (0, 1, 3):
        for threshold in (None, 0.5):
            args = masks, boxes, (30, 33), padding, threshold
            got, expected = on_shim("paste_masks", *args, schedules=2), F.paste_masks(*args)
            assert got.dtype == expected.dtype
            assert_array_equal(got, expected)
    tall = masks, boxes * 5, (140, 33)  # blocks of 64 rows, above, across and below boxes
    assert_array_equal(on_shim("paste_masks", *tall, schedules=1), F.paste_masks(*tall))
    twin = nn_paste_masks.paste_masks(masks, boxes.astype(np.float64), (30, 33))
    got = on_shim("paste_masks", masks, boxes, (30, 33))
    np.testing.assert_allclose(got, twin, atol=2e-3 if dtype == np.float16 else 1e-5)


def test_paste_masks_at_the_limits(rng):
    assert on_shim("paste_masks", np.ones((0, 1, 3, 3)), np.ones((0, 4)), (5, 4)).size == 0
    assert on_shim("paste_masks", np.ones((1, 3, 3)), np.ones((1, 4)), (0, 4)).size == 0
    masks = rng.random((2, 3, 3)).astype(np.float32)
    wide = masks, np.array([[-1e30, 1, 1e30, 3], [1, 2, 2.5, 1e13]]), (7, 9)  # boxes of float64
    assert_array_equal(on_shim("paste_masks", *wide), F.paste_masks(*wide))
    boxes = np.array([[np.nan, 0, 3, 3], [0, 0, np.inf, 3]])
    assert not on_shim("paste_masks", np.ones((2, 3, 3)), boxes, (5, 4)).any()
    with pytest.raises(ValueError, match=r"paste_masks: boxes must have shape \(2, 4\)"):
        on_shim("paste_masks", np.ones((2, 3, 3)), np.ones((3, 4)), (5, 4))
