"""Non-maximum suppression: the slow twin's and torchvision's boxes, all of them, in 2D and 3D."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn import functional as F
from medseg_fast.reference import nn_nms as slow

COUNTS = [0, 1, 2, 31, 32, 33, 300, 1100]  # both sides of a block of 32, of 32 blocks
THRESHOLDS = [0.0, 0.3, 0.5, 0.7, 1.0, -0.1]


def detections(rng, n, kind="spread", axes=2, dtype=np.float32):
    """Boxes and scores; "ties": equal scores and boxes, touching ones and ones without area."""
    if kind == "ties":
        centre, side = rng.integers(0, 12, (n, axes)) * 2.0, rng.integers(0, 5, (n, axes)) * 2.0
    else:
        extent = 300 if kind == "spread" else 30
        centre, side = rng.random((n, axes)) * extent, 8 * 16 ** rng.random((n, axes))
    boxes = np.concatenate([centre - side / 2, centre + side / 2], 1).astype(dtype)
    scores = rng.random(n).round(1 if kind == "ties" else 8)
    return boxes, scores.astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", ["spread", "dense", "ties"])
def test_equals_slow_twin(rng, kind, axes, dtype, isa):
    for n in COUNTS:
        boxes, scores = detections(rng, n, kind, axes, dtype)
        for t in THRESHOLDS if n < 300 else (0.5, 0.0):
            assert_array_equal(F.nms(boxes, scores, t), slow.nms(boxes, scores, t))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["spread", "dense", "ties"])
def test_equals_torchvision(rng, kind, dtype):
    tv = pytest.importorskip("torchvision", reason="torchvision is not installed").ops
    torch = pytest.importorskip("torch")
    for n in (*COUNTS, 4000):
        boxes, scores = map(torch.from_numpy, detections(rng, n, kind, 2, dtype))
        classes = torch.from_numpy(rng.integers(0, 7, n))
        for t in (0.3, 0.5, 0.7):
            assert torch.equal(F.nms(boxes, scores, t), tv.nms(boxes, scores, t))
            ours = F.batched_nms(boxes, scores, classes, t)
            theirs = tv.batched_nms(boxes, scores, classes, t)
            assert torch.equal(scores[ours], scores[theirs])
            assert torch.equal(ours.sort().values, theirs.sort().values)
            if n <= 1000:  # beyond, it leaves the order of ties open
                assert torch.equal(ours, theirs)


@pytest.mark.parametrize("n", [*COUNTS[:-1], 1500])  # by shifting and by class
@pytest.mark.parametrize("axes", [2, 3])
def test_batched_equals_slow_twin(rng, n, axes, threads):
    boxes, scores = detections(rng, n, "dense", axes, np.float64)
    classes = rng.integers(-2, 5, n)
    got = F.batched_nms(boxes, scores, classes, 0.4)
    if n * 2 * axes > 4000 or n == 0:
        assert_array_equal(got, slow.batched_nms(boxes, scores, classes, 0.4))
    classes = np.abs(classes)  # negative ones shift boxes over each other, as in torchvision
    got = F.batched_nms(boxes, scores, classes, 0.4)
    assert_array_equal(got, slow.batched_nms(boxes, scores, classes, 0.4))


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("kind", ["spread", "dense", "ties"])
def test_soft_equals_slow_twin(rng, kind, axes, method):
    for n in (0, 1, 33, 200):
        boxes, scores = detections(rng, n, kind, axes, np.float64)
        for arguments in [(0.3, 0.5, 0.001), (0.0, 0.2, 0.1), (0.7, 2.0, -1.0)]:
            keep, lowered = F.soft_nms(boxes, scores, *arguments, method=method)
            expected, left = slow.soft_nms(boxes, scores, *arguments, method=method)
            assert_array_equal(keep, expected)
            assert_allclose(lowered, left, rtol=1e-12)  # exp differs in the last digit


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_any_boxes(data):
    axes = data.draw(st.sampled_from([2, 3]))
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    number = st.one_of(st.floats(-5, 5, width=16), st.just(float("nan")), st.floats(width=32))
    rows = st.lists(st.lists(number, min_size=2 * axes, max_size=2 * axes), max_size=40)
    boxes = np.array(data.draw(rows), dtype).reshape(-1, 2 * axes)
    scores = np.array([data.draw(number) for _ in boxes], dtype)
    t = data.draw(st.sampled_from([0.0, 0.3, 0.9]))
    with np.errstate(all="ignore"):
        assert_array_equal(F.nms(boxes, scores, t), slow.nms(boxes, scores, t))


def test_equal_overlap_is_kept():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 2]], np.float32)
    assert_array_equal(F.nms(boxes, [0.9, 0.8], 0.5), [0, 1])
    assert_array_equal(F.nms(boxes, [0.9, 0.8], np.nextafter(0.5, 0)), [0])


def test_nan_boxes_stay_and_nan_scores_lead():
    boxes = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [0, 0, np.nan, 4]], np.float32)
    assert_array_equal(F.nms(boxes, [0.5, np.nan, 0.7], 0.5), [1, 2])
    assert_array_equal(F.soft_nms(boxes, [0.5, np.nan, 0.7])[0], [2, 0])
    assert_array_equal(F.soft_nms(boxes, [np.nan, 0.5, 0.7])[0], [2, 1])


def test_boxes_far_from_the_origin(rng):
    """Coordinates whose last digit is a good part of a box."""
    boxes, scores = detections(rng, 500, "spread")
    boxes = boxes * np.float32(0.02) + np.float32(80000)
    for t in (0.2, 0.5, 0.8):
        assert_array_equal(F.nms(boxes, scores, t), slow.nms(boxes, scores, t))
    boxes = ((boxes - np.float32(80000)) * np.float32(1e-22)).astype(np.float32)
    assert_array_equal(F.nms(boxes, scores, 0.5), slow.nms(boxes, scores, 0.5))


@pytest.mark.parametrize("axes", [2, 3])
def test_area_of_minus_infinity(axes):
    """A box whose area overflows hid those beside it from a threshold of 0."""
    boxes = np.array([[1, 3, 6, 5], [0, 3, 2, 8], [3e38, 0, -3e38, 5]], np.float32)
    if axes == 3:
        boxes = np.insert(boxes, [2, 4], [0, 1], 1)
    scores = np.array([0.9, 0.8, 0.1], np.float32)
    assert_array_equal(F.nms(boxes, scores, 0.0), [0, 2])
    for method in ("linear", "gaussian"):
        found = F.soft_nms(boxes, scores, 0.0, method=method)[1]
        assert_array_equal(found[:2], F.soft_nms(boxes[:2], scores[:2], 0.0, method=method)[1])
        assert found[1] < scores[1]


def test_dtypes_and_layouts(rng, layout):
    boxes, scores = detections(rng, 60, "dense")
    expected = F.nms(boxes, scores, 0.4)
    assert_array_equal(F.nms(layout(boxes), layout(scores), 0.4), expected)
    assert_array_equal(F.nms(boxes, scores.astype(np.float64) + 1e-12, 0.4), expected)
    whole = boxes.round()
    for dtype in (np.int32, np.uint8, np.float16):
        small = (whole.clip(0, 100) // 2).astype(dtype)
        assert_array_equal(F.nms(small, scores, 0.4), F.nms(small.astype(np.float32), scores, 0.4))


def test_tensors():
    torch = pytest.importorskip("torch")
    boxes, scores = torch.tensor([[0.0, 0, 4, 4], [1, 0, 5, 4]]), torch.tensor([0.1, 0.2])
    keep = F.nms(boxes, scores, 0.5)
    assert keep.dtype == torch.int64
    assert keep.tolist() == [1]
    compiled = torch.compile(lambda b, s: b[F.nms(b * 1, s, 0.5)] + 1, backend="eager")
    assert torch.equal(compiled(boxes, scores), boxes[[1]] + 1)


BOXES, SCORES = np.zeros((3, 4), np.float32), np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: F.nms(np.zeros((3, 5)), SCORES, 0.5), ValueError, r"nms: boxes must have shape"),
        (lambda: F.nms(np.zeros(4), SCORES, 0.5), ValueError, "boxes must have shape"),
        (lambda: F.nms(BOXES, SCORES[:2], 0.5), ValueError, r"scores must have shape \(3,\)"),
        (lambda: F.nms(BOXES + 0j, SCORES, 0.5), TypeError, "boxes must be float16"),
        (lambda: F.nms(BOXES, SCORES, np.nan), ValueError, "iou_threshold must be a number"),
        (lambda: F.nms(BOXES, SCORES, "a"), TypeError, "iou_threshold must be a number"),
        (lambda: F.batched_nms(BOXES, SCORES, SCORES, 0.5), TypeError, "idxs must be integers"),
        (lambda: F.batched_nms(BOXES, SCORES, [0, 1], 0.5), ValueError, "idxs must have shape"),
        (lambda: F.soft_nms(BOXES, SCORES, method="a"), ValueError, "soft_nms: method must be"),
        (lambda: F.soft_nms(BOXES, SCORES, sigma=0), ValueError, "sigma must be positive"),
        (lambda: F.soft_nms(BOXES, SCORES, np.nan), ValueError, "iou_threshold must be a number"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
