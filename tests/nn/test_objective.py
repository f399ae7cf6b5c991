"""What networks of each kind learn from a batch: pixels, the middle of patches, objects."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
# ruff: noqa: E402

import medseg_fast as ms
from medseg_fast import nn
from medseg_fast.nn._training.objective import of_logits, of_network, of_objects, target


def _small(**options):
    return nn.mask_rcnn.mask_rcnn(
        2, 1, backbone="resnet18", width=4, pyramid_width=8, box_width=16, **options
    )


def test_boxes_and_masks_of_objects():
    label = torch.zeros(12, 16, dtype=torch.int64)
    label[2:7, 3:9] = 40
    label[8:12, 10:16] = 7  # reaches two edges
    label[0, 0:3] = 9  # a sliver
    label[0:4, 14:16] = -1  # not labelled
    found = target(label)
    assert found["boxes"].tolist() == [[10, 8, 16, 12], [3, 2, 9, 7]]
    assert found["labels"].tolist() == [1, 1]
    assert (found["masks"][0].bool() == (label == 7)).all()
    assert (found["masks"][1].bool() == (label == 40)).all()
    none = target(torch.zeros(5, 6, dtype=torch.int64))
    assert none["boxes"].shape == (0, 4)
    assert none["masks"].shape == (0, 5, 6)


def test_the_middle_of_a_patch_is_where_predict_puts_the_answer(rng):
    """A pixel's label is learnt from the patch that `predict` shows for it."""
    torch.manual_seed(0)
    network = nn.lenet5(1, 2, variant="modern").eval()
    image = rng.normal(size=(40, 50)).astype(np.float32)
    likely = nn.predict(network, image, output="probabilities")
    assert likely.shape == (40, 50, 2)
    seen = []

    def loss(logits, labels):
        seen.append((logits, labels))
        return logits.sum()

    objective = of_network(network, loss)
    place = np.arange(40 * 50).reshape(40, 50)
    patches = [(3, 5), (8, 18)]
    images = np.stack([image[None, r : r + 32, c : c + 32] for r, c in patches])
    labels = np.stack([place[r : r + 32, c : c + 32] for r, c in patches])
    objective(network, torch.from_numpy(images), torch.from_numpy(labels))
    (logits, of), expected = seen[0], likely.reshape(-1, 2)
    assert logits.shape == (2, 2, 1, 1)
    assert of.shape == (2, 1, 1)
    softmax = logits.softmax(1).detach().numpy()[..., 0, 0]
    np.testing.assert_allclose(softmax, expected[of.flatten()], atol=1e-5)


def test_each_network_has_its_objective():
    detector, pixels = _small(), nn.unet(1, 2, widths=(4, 8), padding="same")
    assert of_network(detector, None) is of_objects
    with pytest.raises(ValueError, match="fit: loss must be None for Mask R-CNN"):
        of_network(detector, nn.DiceLoss())
    images, labels = torch.rand(2, 1, 16, 16), torch.randint(0, 2, (2, 16, 16))
    loss = nn.DiceLoss()
    expected = of_logits(loss)(pixels, images, labels)
    assert of_network(pixels, loss)(pixels, images, labels) == expected


def _disks(rng, count):
    """Pictures of two disks with their numbers."""
    grid = np.indices((48, 48))
    cases = []
    for _ in range(count):
        label = np.zeros((48, 48), np.int64)
        for number, centre in enumerate(((14, 14), (32, 33)), 1):
            where = np.array(centre) + rng.integers(-3, 4, 2)
            label[np.hypot(*(grid - where[:, None, None])) < 8] = number
        image = (label != 0) + rng.normal(0, 0.1, label.shape)
        cases.append((image[None].astype(np.float32), label))
    return cases


def test_mask_rcnn_learns_objects(rng):
    cases = _disks(rng, 6)
    torch.manual_seed(0)
    options = {"rpn_post_nms_top_n_train": 60, "rpn_post_nms_top_n_test": 60}
    network = _small(scale=2.0, anchor_sizes=(16, 32, 64, 128, 256), **options)
    result = nn.fit(
        network, cases[:4], steps=60, batch=2, rate=4e-3, every=30, validation=cases[4:]
    )
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert list(result.history[-1])[3:5] == ["ap50", "ap50_95"]
    assert result.best > 0.6
    found = nn.instances(network, cases[5][0][0], intensities="none")
    assert ms.dice(found.labels > 0, cases[5][1] > 0) > 0.8


def test_lenet_learns_pixels(rng):
    cases = _disks(rng, 3)
    cases = [(image, (label > 0).astype(np.int64)) for image, label in cases]
    torch.manual_seed(0)
    network = nn.lenet5(1, 2, variant="modern")
    sampler = ms.data.PatchSampler(cases[:2], patch=32, batch=32)
    result = nn.fit(network, sampler, steps=60, rate=3e-3, every=30, validation=cases[2:])
    assert result.best > 0.9
