"""ROI Align over a pyramid: each box as roi_align pools it from its level, and as torchvision."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
from _convolutions import bfloat16, channels_last
from numpy.testing import assert_allclose, assert_array_equal

from medseg_fast.nn import functional as F
from medseg_fast.nn.functional.multiscale_roi_align import pool_levels

SCALES = [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def pyramid(rng, dtype=np.float32, n=2, channels=5, image=(160, 224)):
    return [
        rng.standard_normal((n, channels, int(image[0] * s), int(image[1] * s))).astype(dtype)
        for s in SCALES
    ]


def boxes(rng, n, dtype=np.float32):
    low = rng.random((n, 2)) * (200, 140)
    return np.concatenate([low, low + 4 * 300 ** rng.random((n, 2))], 1).astype(dtype)


def level_of(box, least=2, most=5):
    side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
    return int(np.clip(np.floor(4 + np.log2(side / 224) + 1e-6), least, most)) - least


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_box_comes_from_its_level(rng, dtype, threads):
    features, regions = pyramid(rng, dtype), boxes(rng, 40, dtype)
    lists = [regions[:15], regions[15:]]
    got = F.multiscale_roi_align(features, lists, 3, 2, image_shapes=[(160, 224), (150, 200)])
    assert_array_equal(F.multiscale_roi_align(features, lists, 3, 2, scales=SCALES), got)
    assert len({level_of(box) for box in regions}) == 4
    for k, box in enumerate(regions):
        region, level = np.insert(box, 0, k >= 15)[None], level_of(box)
        one = F.roi_align(features[level], region, 3, SCALES[level], 2)
        assert_array_equal(got[k : k + 1], one)


@pytest.mark.parametrize("channels", [1, 5, 16, 64, 100])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("image", [(160, 224), (32, 32)])  # the second: a level of one pixel
def test_layouts_of_plans(rng, isa, threads, channels, narrow, image):
    """With channels last in and out, also as bfloat16: the same values, rounded once."""
    features, regions = pyramid(rng, channels=channels, image=image), boxes(rng, 40)
    rows = np.insert(regions, 0, np.arange(40) % 2, axis=1)
    given, values = map(channels_last, features), features
    if narrow:
        values = [bfloat16(feature)[1] for feature in features]
        given = [channels_last(bfloat16(feature)[0]) for feature in features]
    shape = (40, channels, 3, 4)
    expected = np.empty(shape, np.float32)
    pool_levels("test", values, rows, SCALES, (224, 4), 2, expected)
    assert_array_equal(expected, F.multiscale_roi_align(values, rows, (3, 4), 2, scales=SCALES))
    if narrow:
        expected = bfloat16(expected)[0]
    out = channels_last(np.zeros(shape, expected.dtype))
    pool_levels("test", list(given), rows, SCALES, (224, 4), 2, out)
    assert_array_equal(out, expected)


@pytest.mark.parametrize("count", [0, 1, 50])
@pytest.mark.parametrize("levels", [1, 4])
def test_equals_torchvision(rng, count, levels):
    tv = pytest.importorskip("torchvision", reason="torchvision is not installed").ops
    torch = pytest.importorskip("torch")
    features = [torch.from_numpy(f) for f in pyramid(rng)[:levels]]
    lists = [torch.from_numpy(boxes(rng, count)), torch.from_numpy(boxes(rng, count // 2))]
    shapes = [(160, 224), (130, 100)]
    names = [str(i) for i in range(levels)]
    for ratio in (-1, 2):
        pooler = tv.MultiScaleRoIAlign(names, (3, 4), ratio)
        expected = pooler(OrderedDict(zip(names, features, strict=True)), lists, shapes)
        got = F.multiscale_roi_align(features, lists, (3, 4), ratio, shapes)
        assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


def test_gradients(rng):
    torch = pytest.importorskip("torch")
    features = [torch.randn(1, 2, n, n, dtype=torch.float64, requires_grad=True) for n in (8, 4)]
    regions = [torch.tensor([[0.0, 0, 3, 4], [1, 2, 8, 7.5]], dtype=torch.float64)]
    call = lambda *f: F.multiscale_roi_align(f, regions, 2, 2, None, (1.0, 0.5), 3, 0)  # noqa: E731
    assert torch.autograd.gradcheck(call, features)
    grads = torch.autograd.grad(call(*features).sum(), features)
    assert all(g.abs().sum() > 0 for g in grads)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")(*features)
    assert torch.equal(compiled, call(*features))


FEATURES, BOX = [np.ones((1, 2, 8, 8)), np.ones((1, 2, 4, 4))], [np.array([[0, 0, 4, 4.0]])]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"features": []}, ValueError, "features must not be empty"),
        ({"features": [FEATURES[0], FEATURES[1][:, :1]]}, ValueError, "with one N and C"),
        ({"features": [FEATURES[0], FEATURES[1].astype("f4")]}, TypeError, "one dtype"),
        ({"scales": None}, ValueError, "image_shapes must not be empty"),
        ({"features": 3}, TypeError, "features must be a sequence, got 3"),
        ({"scales": 1.0}, TypeError, "scales must be a sequence, got 1.0"),
        ({"scales": None, "image_shapes": 8}, TypeError, "image_shapes must be a sequence, got 8"),
        ({"scales": None, "image_shapes": (8, 8)}, TypeError, "image_shapes must be a sequence"),
        ({"scales": None, "image_shapes": [()]}, ValueError, r"must be \(rows, columns\) of each"),
        ({"output_size": 10**9}, ValueError, "output_size must ask for fewer"),
        ({"sampling_ratio": 10**19}, ValueError, "sampling_ratio must be at most"),
        ({"scales": [1]}, ValueError, "scales must be a positive number for each of 2"),
        ({"scales": [1, 0]}, ValueError, "scales must be a positive number"),
        ({"canonical_scale": 0}, ValueError, "canonical_scale must be positive"),
        ({"boxes": [np.ones((1, 5))]}, AssertionError, "boxes list is not correct"),
    ],
)
def test_errors(change, error, message):
    arguments = {"features": FEATURES, "boxes": BOX, "output_size": 2, "scales": [1, 0.5]}
    with pytest.raises(error, match=message):
        F.multiscale_roi_align(**{**arguments, **change})
