"""Labels from scribbles and boxes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

import medseg_fast as ms
from medseg_fast.nn import box_labels, pseudo_labels

NONE = -100


def discs(shape=(60, 70), noise=0.1, seed=0):
    """Two objects of different brightness, and a few strokes in each and beside them."""
    y, x = np.indices(shape[-2:])
    truth = np.zeros(shape[-2:], int)
    truth[(y - 20) ** 2 + (x - 20) ** 2 < 144] = 1
    truth[(y - 40) ** 2 + (x - 50) ** 2 < 196] = 2
    truth = np.broadcast_to(truth, shape).copy()
    image = truth + np.random.default_rng(seed).normal(0, noise, shape)
    scribbles = np.full(shape, NONE)
    scribbles[..., 20, 14:26] = 1
    scribbles[..., 40, 44:56] = 2
    scribbles[..., 2, 5:60] = 0
    scribbles[..., 57, 5:40] = 0
    return image, truth, scribbles


@pytest.mark.parametrize("method", ["graph_cut", "random_walker"])
@pytest.mark.parametrize("shape", [(60, 70), (3, 60, 70)], ids=str)
@pytest.mark.parametrize("channels", [0, 1, 2])
def test_scribbles_become_objects(method, shape, channels):
    image, truth, scribbles = discs(shape)
    pixels = image if not channels else np.stack([image] * channels)
    labels = pseudo_labels(pixels, scribbles, method)
    assert labels.dtype == np.int16
    assert labels.shape == shape
    known = labels != NONE
    assert known.mean() > 0.98
    assert (labels[known] == truth[known]).mean() > 0.985
    drawn = scribbles != NONE
    assert_array_equal(labels[drawn], scribbles[drawn])


@pytest.mark.parametrize("method", ["graph_cut", "random_walker"])
def test_two_classes(method):
    image, truth, scribbles = discs()
    scribbles[scribbles == 2] = 1
    labels = pseudo_labels(np.minimum(image, 1), scribbles, method)
    assert set(np.unique(labels)) == {0, 1}
    assert ms.dice(labels == 1, truth > 0) > 0.97


def test_two_classes_are_the_graph_cut():
    image, _, scribbles = discs()
    scribbles[scribbles == 2] = 1
    labels = pseudo_labels(image, scribbles, lambda_=2.0, spacing=(2, 1))
    mask = ms.graph_cut(image, scribbles == 1, scribbles == 0, lambda_=2.0, spacing=(2, 1))
    assert_array_equal(labels, mask)


def test_confidence_leaves_open_what_is_uncertain():
    image, truth, scribbles = discs(noise=0.4)
    every = pseudo_labels(image, scribbles, "random_walker")
    sure = pseudo_labels(image, scribbles, "random_walker", confidence=0.9)
    known = sure != NONE
    assert 0.2 < known.mean() < 1
    assert_array_equal(sure[known], every[known])
    assert (sure[known] == truth[known]).mean() > (every == truth).mean()


def test_margin_is_in_mm():
    image, _, scribbles = discs()
    plain = pseudo_labels(image, scribbles)
    wide = pseudo_labels(image, scribbles, margin=2, spacing=(1, 1))
    edges = plain != ndimage.grey_erosion(plain, 3)
    assert (wide[edges & (scribbles == NONE)] == NONE).all()
    assert_array_equal(wide[scribbles != NONE], scribbles[scribbles != NONE])
    apart = pseudo_labels(image, scribbles, margin=2, spacing=(4, 4), sigma=0.3)
    assert (apart == NONE).sum() < (wide == NONE).sum()


def test_probabilities_of_a_network():
    image, truth, scribbles = discs()
    flat = np.zeros_like(image)  # the image says nothing
    p = np.stack([truth == c for c in range(3)]) * 0.6 + 0.2
    p /= p.sum(0)
    labels = pseudo_labels(flat, scribbles, probabilities=p, lambda_=0.5, sigma=1.0)
    known = labels != NONE
    assert (labels[known] == truth[known]).mean() > 0.97
    scribbles[scribbles == 2] = 1
    inside = (0.2 + 0.6 * (truth > 0))[None]
    labels = pseudo_labels(flat, scribbles, probabilities=inside, lambda_=0.5, sigma=1.0)
    assert ms.dice(labels == 1, truth > 0) > 0.95


def test_background_alone_is_another_class():
    """Classes need not begin at 0."""
    image, truth, scribbles = discs()
    scribbles[scribbles == 0] = NONE
    scribbles[2, 5:60] = 4
    labels = pseudo_labels(image, scribbles)
    assert set(np.unique(labels)) <= {1, 2, 4, NONE}
    assert (labels[truth == 0] == 4).mean() > 0.97


def test_boxes():
    image, truth, _ = discs()
    boxes = [((5, 36), (5, 36)), ((23, 58), (33, 68))]
    labels = box_labels(image, boxes, [1, 2])
    assert labels.dtype == np.int16
    known = labels != NONE
    assert (labels[known] == truth[known]).mean() > 0.98
    outside = np.ones(image.shape, bool)
    for rows, columns in boxes:
        outside[slice(*rows), slice(*columns)] = False
    assert (labels[outside] == 0).all()
    one = box_labels(np.stack([image, image]), boxes)
    assert set(np.unique(one)) == {0, 1}
    open_ = box_labels(image, boxes, [1, 2], margin=1.5)
    assert (open_ == NONE).any()


def test_boxes_of_a_volume_and_of_two_classes_at_one_place():
    image, truth, _ = discs((4, 60, 70))
    box = ((0, 4), (5, 36), (5, 36))
    labels = box_labels(image, [box], spacing=(3, 1, 1))
    assert ms.dice(labels == 1, truth == 1) > 0.97
    both = box_labels(image[0], [box[1:], box[1:]], [1, 2])
    assert (both[truth[0] == 1] == NONE).mean() > 0.97


def test_real_scan():
    """A lung tumour from a stroke in it and one around it."""
    scan = ms.io.example("ct_lung_tumour")
    image, truth = ms.io.read(scan.image), ms.io.read(scan.truth).array > 0
    away = ms.distance_transform_edt(~truth, image.spacing)
    scribbles = np.full(truth.shape, NONE)
    scribbles[ms.distance_transform_edt(truth, image.spacing) > 8] = 1
    scribbles[(away > 12) & (away < 14)] = 0
    pixels = np.clip(image.array, -1000, 400)
    labels = pseudo_labels(pixels, scribbles, spacing=image.spacing)
    assert ms.dice((labels == 1) & (away < 12), truth) > 0.6


def test_the_losses_take_them():
    torch = pytest.importorskip("torch", reason="networks need the extra nn")
    from medseg_fast import nn

    image, _, scribbles = discs()
    labels = pseudo_labels(image, scribbles, margin=1)
    logits = torch.zeros(1, 3, *image.shape, requires_grad=True)
    loss = nn.CombinedLoss([nn.DiceLoss(), nn.CrossEntropyLoss()])
    loss(logits, torch.from_numpy(labels)[None]).backward()
    assert (logits.grad[0, :, torch.from_numpy(labels == NONE)] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "magic"}, ValueError, "method must be one of"),
        ({"scribbles": np.zeros((60, 70))}, TypeError, "scribbles must be integers"),
        ({"scribbles": np.zeros((60, 70), int)}, ValueError, "two classes at least"),
        ({"scribbles": np.full((60, 70), -3)}, ValueError, "classes from 0 to 32767"),
        ({"image": np.zeros((60, 71))}, ValueError, "image must have shape"),
        ({"confidence": 0.5}, ValueError, "confidence is for the random walker"),
        ({"margin": -1}, ValueError, "margin must be"),
        ({"ignore_index": 3}, ValueError, "ignore_index must be"),
        ({"spacing": (1,)}, ValueError, "spacing must be"),
        ({"probabilities": np.zeros((2, 60, 70))}, ValueError, "of 3 classes, got 2"),
        ({"probabilities": np.full((3, 60, 70), 2)}, ValueError, r"must lie in \[0, 1\]"),
        (
            {"method": "random_walker", "probabilities": np.zeros((3, 60, 70))},
            ValueError,
            "probabilities are for the graph cut",
        ),
    ],
)
def test_errors(arguments, error, message):
    image, _, scribbles = discs()
    with pytest.raises(error, match=f"pseudo_labels: .*{message}"):
        pseudo_labels(**{"image": image, "scribbles": scribbles, **arguments})


@pytest.mark.parametrize(
    ("boxes", "classes", "message"),
    [
        ([], None, "boxes must not be empty"),
        ([((0, 5), (0, 71))], None, "boxes must lie inside"),
        ([((5, 5), (0, 7))], None, "boxes must lie inside"),
        ([((0, 5), (0, 7))], [1, 2], "classes must be one for each"),
        ([((0, 5), (0, 7))], [0], "classes must be"),
    ],
)
def test_box_errors(boxes, classes, message):
    with pytest.raises(ValueError, match=f"box_labels: .*{message}"):
        box_labels(discs()[0], boxes, classes)
