"""Objects of Mask R-CNN as a label image."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from medseg_fast import nn  # noqa: E402
from medseg_fast.io import Volume  # noqa: E402


class Detector(torch.nn.Module):
    """Answers as torchvision's Mask R-CNN does: three boxes, not sorted, two that overlap."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 1, 1)
        self.seen = None

    def forward(self, images):
        assert not self.training
        (image,) = images
        self.seen = image
        masks = torch.zeros(3, 1, *image.shape[1:])
        masks[0, 0, 2:6, 2:6] = 0.9
        masks[1, 0, 4:8, 4:8] = 0.7
        masks[2, 0, :, :] = 0.4
        return [
            {
                "boxes": torch.tensor([[2.0, 2, 6, 6], [4, 4, 8, 8], [0, 0, 12, 10]]),
                "labels": torch.tensor([1, 2, 3]),
                "scores": torch.tensor([0.6, 0.8, 0.1]),
                "masks": masks,
            }
        ]


def test_labels_by_score():
    model = Detector()
    image = np.arange(120, dtype=np.uint8).reshape(10, 12)
    found = nn.instances(model, image)
    expected = np.zeros((10, 12), np.int32)
    expected[2:6, 2:6] = 2
    expected[4:8, 4:8] = 1  # the better of both
    np.testing.assert_array_equal(found.labels, expected)
    assert found.labels.dtype == np.int32
    assert found.classes.tolist() == [2, 1]
    np.testing.assert_allclose(found.scores, [0.8, 0.6])
    np.testing.assert_array_equal(found.boxes, [[4, 4, 8, 8], [2, 2, 6, 6]])
    assert model.training  # as before
    assert model.seen.shape == (3, 10, 12)
    np.testing.assert_allclose(model.seen[1], image / 255, rtol=1e-6)
    everything = nn.instances(model, image, score=0, mask=0.3)
    assert everything.labels.min() == 1
    assert (everything.labels == 3).sum() == (expected == 0).sum()


def test_volume_and_intensities():
    model = Detector()
    image = Volume(np.full((10, 12, 3), 150, np.int16), (0.5, 0.4), axes="yxc")
    found = nn.instances(model, image, intensities=(100, 200))
    assert (found.labels.axes, found.labels.spacing) == ("yx", (0.5, 0.4))
    assert (model.seen == 0.5).all()
    nn.instances(model, np.array([[-5, 15]] * 10, np.int32))
    assert model.seen.unique().tolist() == [0, 1]
    real = np.random.default_rng(0).integers(0, 200, (10, 12))
    model.metadata = {"normalise": "zscore"}
    nn.instances(model, real)
    np.testing.assert_allclose(model.seen[0], (real - real.mean()) / real.std(), rtol=1e-5)
    nn.instances(model, real, intensities="none")
    np.testing.assert_array_equal(model.seen[0], real)


def test_each_module_keeps_its_mode():
    model = Detector()
    model.conv.eval()
    nn.instances(model, np.zeros((9, 9)))
    assert [module.training for module in model.modules()] == [True, False]


def test_nothing_found():
    found = nn.instances(Detector(), np.zeros((9, 9)), score=1.0)
    assert not found.labels.any()
    assert found.boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros(4), {}, r"image must have shape \(H, W\[, C\]\), got \(4,\)"),
        (np.zeros((4, 4, 2)), {}, "image must have 1 or 3 channels"),
        (np.full((4, 4), np.nan), {}, "image must be finite"),
        (np.zeros((4, 4)), {"score": 2}, r"score must be in \[0, 1\], got 2"),
        (np.zeros((4, 4)), {"intensities": (1, 1)}, "low < high"),
        (np.zeros((4, 4)), {"intensities": "z"}, "intensities must be 'zscore', 'robust', 'none'"),
        (Volume(np.zeros((2, 4, 4))), {}, "image must be one plane, got axes zyx"),
    ],
)
def test_mistakes(image, arguments, message):
    with pytest.raises(ValueError, match=message):
        nn.instances(Detector(), image, **arguments)


def test_score_is_a_number():
    with pytest.raises(TypeError, match="instances: score must be a number, got 'high'"):
        nn.instances(Detector(), np.zeros((4, 4)), score="high")


def test_tensors():
    model = Detector()
    nn.instances(model, torch.full((4, 5), 0.5, dtype=torch.bfloat16, requires_grad=True))
    assert (model.seen == 0.5).all()


def test_torchvisions_model():
    detection = pytest.importorskip(
        "torchvision.models.detection", reason="torchvision is not installed"
    )
    torch.manual_seed(0)
    model = detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=3, min_size=64, max_size=64
    )
    image = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    found = nn.instances(model, image, score=0.0)
    x = torch.from_numpy(image).expand(3, -1, -1)
    with torch.no_grad():
        (theirs,) = model.eval()([x])
    np.testing.assert_array_equal(found.boxes, theirs["boxes"])
    assert found.labels.shape == (40, 50)
