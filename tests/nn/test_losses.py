"""Losses against formulas in plain NumPy, torch's own and finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _loss_formulas import (  # noqa: E402
    IGNORE,
    np_boundary,
    np_cross_entropy,
    np_dice,
    np_focal,
    np_jaccard,
    np_lovasz_loss,
    np_structured,
    np_tversky,
    plain,
)
from torch.nn import functional as F  # noqa: E402

from medseg_fast import nn  # noqa: E402

SHAPES = [(2, 1, 5, 4), (2, 3, 5, 4), (1, 4, 3, 4, 5), (3, 2, 7)]
LOSSES = {
    "cross_entropy": nn.CrossEntropyLoss,
    "smoothed": lambda **k: nn.CrossEntropyLoss(label_smoothing=0.2, **k),
    "focal": nn.FocalLoss,
    "focal_half": lambda **k: nn.FocalLoss(0.5, **k),
    "dice": nn.DiceLoss,
    "dice_batch": lambda **k: nn.DiceLoss(batch=True, **k),
    "dice_squared": lambda **k: nn.DiceLoss(squared=True, background=False, **k),
    "jaccard": nn.JaccardLoss,
    "tversky": nn.TverskyLoss,
    "boundary": nn.BoundaryLoss,
    "lovasz": nn.LovaszLoss,
    "lovasz_all": lambda **k: nn.LovaszLoss(classes="all", per_image=True, **k),
}
EVERY = pytest.mark.parametrize("name", LOSSES)
EACH_SHAPE = pytest.mark.parametrize("shape", SHAPES, ids=str)


def batch(shape, soft=False, ignored=0.0, seed=3, dtype=torch.float64):
    """Logits and a target; a share of the target is not labelled."""
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(0, 2, shape), dtype=dtype)
    n, classes, *spatial = shape
    unknown = torch.tensor(rng.random((n, *spatial)) < ignored)
    if soft:
        target = torch.tensor(rng.random(shape), dtype=dtype)
        if classes > 1:
            target = target / target.sum(1, keepdim=True)
        return logits, target.masked_fill(unknown[:, None], torch.nan)
    target = torch.tensor(rng.integers(0, max(classes, 2), (n, *spatial)))
    return logits, target.masked_fill(unknown, IGNORE)


REFERENCES = [
    (nn.CrossEntropyLoss(), np_cross_entropy),
    (nn.FocalLoss(), np_focal),
    (nn.FocalLoss(0.5), lambda z, t: np_focal(z, t, 0.5)),
    (nn.FocalLoss(0.0), lambda z, t: np_focal(z, t, 0.0)),
    (nn.DiceLoss(), np_dice),
    (nn.DiceLoss(smooth=1.0), lambda z, t: np_dice(z, t, smooth=1.0)),
    (nn.DiceLoss(squared=True), lambda z, t: np_dice(z, t, power=2)),
    (nn.JaccardLoss(), np_jaccard),
    (nn.TverskyLoss(), lambda z, t: np_tversky(z, t, 0.3, 0.7)),
    (nn.TverskyLoss(0.9, 0.2), lambda z, t: np_tversky(z, t, 0.9, 0.2)),
    (nn.BoundaryLoss(), np_boundary),
    (nn.LovaszLoss(), np_lovasz_loss),
]


@EACH_SHAPE
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("ignored", [0.0, 0.4])
@pytest.mark.parametrize("k", range(len(REFERENCES)))
def test_equals_the_formula(k, shape, soft, ignored):
    loss, formula = REFERENCES[k]
    logits, target = batch(shape, soft, ignored)
    value = loss(logits, target)
    assert value.shape == ()
    assert value.dtype == torch.float64
    # float64 sums of a hundred terms; boundary distances are float32
    tolerance = 1e-6 if isinstance(loss, nn.BoundaryLoss) else 1e-12
    assert_allclose(float(value), formula(logits, target), rtol=tolerance, atol=1e-13)


@EVERY
@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (2, 3, 3, 4), (1, 2, 2, 3, 2)], ids=str)
@pytest.mark.parametrize("soft", [False, True])
def test_gradient(name, shape, soft):
    loss = LOSSES[name]()
    logits, target = batch(shape, soft, 0.3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda z: loss(z, target), (logits,))


@EVERY
@EACH_SHAPE
@pytest.mark.parametrize("soft", [False, True])
def test_what_is_not_labelled_counts_for_nothing(name, shape, soft):
    loss = LOSSES[name]()
    logits, target = batch(shape, soft, 0.5)
    unknown = target.isnan().any(1) if soft else target == IGNORE
    logits.requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    hidden = unknown[:, None].expand_as(gradient)
    assert (gradient[hidden] == 0).all()
    assert (gradient[~hidden] != 0).any()
    other = torch.where(hidden, torch.randn_like(logits), logits)
    assert_allclose(loss(other, target).item(), value.item(), rtol=1e-12)


@EVERY
@EACH_SHAPE
@pytest.mark.parametrize("soft", [False, True])
def test_nothing_labelled_is_zero(name, shape, soft):
    logits, target = batch(shape, soft, 1.0)
    logits.requires_grad_()
    value = LOSSES[name]()(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value == 0
    assert (gradient == 0).all()


@EVERY
def test_a_good_prediction_costs_less(name):
    for classes in (1, 3):
        _, target = batch((2, classes, 8, 8))
        shares = F.one_hot(target, max(classes, 2)).movedim(-1, 1)[:, -classes:] * 2.0 - 1
        loss = LOSSES[name]()
        most = 1.1 if name == "smoothed" else 8  # which wants no certainty
        values = [float(loss(scale * shares, target)) for scale in (-1, 0, 1, most)]
        assert values == sorted(values, reverse=True)


@EVERY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    logits, target = batch((2, 3, 9, 7), dtype=dtype)
    value = LOSSES[name]()(logits, target)
    assert value.dtype == torch.float32
    assert value == LOSSES[name]()(logits.float(), target)


@EVERY
def test_far_logits_stay_finite(name):
    for classes in (1, 3):
        logits, target = batch((1, classes, 6, 6), dtype=torch.float32)
        logits = (1e4 * logits).requires_grad_()
        value = LOSSES[name]()(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("weight", [None, (0.2, 1.0, 3.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(weight, smoothing):
    logits, target = batch((2, 3, 6, 5), ignored=0.2)
    loss = nn.CrossEntropyLoss(weight, label_smoothing=smoothing)
    tensor = None if weight is None else torch.tensor(weight, dtype=torch.float64)
    expected = F.cross_entropy(logits, target, tensor, label_smoothing=smoothing)
    assert_allclose(float(loss(logits, target)), float(expected), rtol=1e-7)  # weights are float32
    shares = F.one_hot(target.clamp(min=0), 3).movedim(-1, 1).double()
    shares[(target == IGNORE)[:, None].expand_as(shares)] = torch.nan
    assert_allclose(float(loss(logits, shares)), float(expected), rtol=1e-7)


def test_binary_cross_entropy_is_torchs_and_takes_weights():
    logits, target = batch((2, 1, 6, 5))
    wanted = target[:, None].double()
    expected = F.binary_cross_entropy_with_logits(logits, wanted)
    assert_allclose(float(nn.CrossEntropyLoss()(logits, target)), float(expected), rtol=1e-12)
    weights = torch.where(target[:, None] == 1, 4.0, 0.5).double()
    expected = F.binary_cross_entropy_with_logits(logits, wanted, weights, reduction="sum")
    got = nn.CrossEntropyLoss((0.5, 4.0))(logits, target)
    assert_allclose(float(got), float(expected / weights.sum()), rtol=1e-12)
    smoothed = 0.8 * wanted + 0.1
    expected = F.binary_cross_entropy_with_logits(logits, smoothed)
    got = nn.CrossEntropyLoss(label_smoothing=0.2)(logits, target)
    assert_allclose(float(got), float(expected), rtol=1e-12)


def test_one_channel_is_two_with_the_other_at_zero():
    logits, target = batch((2, 1, 6, 5), ignored=0.2)
    both = torch.cat([torch.zeros_like(logits), logits], 1)
    for loss in (nn.CrossEntropyLoss((1.0, 3.0)), nn.FocalLoss(2.0, (0.25, 0.75))):
        assert_allclose(float(loss(logits, target)), float(loss(both, target)), rtol=1e-12)


def test_region_losses_weigh_classes_and_leave_out_the_background():
    logits, target = batch((2, 3, 6, 5), ignored=0.2)
    p, t, _ = plain(logits, target)
    each = 1 - (2 * (p * t).sum(2) + 1e-5) / (p.sum(2) + t.sum(2) + 1e-5)
    weight = np.array([1.0, 2.0, 5.0])
    got = nn.DiceLoss(weight)(logits, target)
    assert_allclose(float(got), (each * weight).sum() / (2 * weight.sum()), rtol=1e-12)
    got = nn.DiceLoss(weight, background=False)(logits, target)
    assert_allclose(float(got), (each * weight)[:, 1:].sum() / 14, rtol=1e-12)
    got = nn.DiceLoss(batch=True)(logits, target)
    p, t = p.sum((0, 2)), (t.sum((0, 2)), (p * t).sum((0, 2)))
    assert_allclose(float(got), (1 - (2 * t[1] + 1e-5) / (p + t[0] + 1e-5)).mean(), rtol=1e-12)
    half = nn.TverskyLoss(0.5, 0.5, smooth=0.5e-5)(logits, target)
    assert_allclose(float(half), float(nn.DiceLoss()(logits, target)), rtol=1e-12)


def test_absent_classes():
    logits = torch.full((1, 2, 4, 4), -40.0)
    logits[:, 0] = 40
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    for loss in (nn.DiceLoss(smooth=0), nn.JaccardLoss(smooth=0), nn.TverskyLoss(smooth=0)):
        logits.requires_grad_()
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()
    assert nn.DiceLoss()(logits, target) < 1e-6


def test_boundary_in_mm_and_with_given_distances():
    logits, target = batch((2, 3, 6, 5, 4), ignored=0.1)
    loss = nn.BoundaryLoss((3.0, 0.5, 1.0))
    expected = np_boundary(logits, target, (3.0, 0.5, 1.0))
    value = loss(logits, target)
    assert_allclose(float(value), expected, rtol=1e-6)
    phi = loss.distances(target, 3)
    assert phi.dtype == torch.float32
    assert phi.shape == logits.shape
    assert (phi[:, 0] == 0).all()
    assert loss(logits, target, phi) == value
    everything = torch.ones(1, 4, 4, dtype=torch.int64)
    assert (loss.distances(everything[..., None], 2) == 0).all()


@pytest.mark.parametrize("shape", [(2, 9, 5, 4), (1, 27, 3, 4, 3), (2, 3, 6)], ids=str)
def test_structured(shape):
    logits, _ = batch(shape)
    _, target = batch((shape[0], 1, *shape[2:]), ignored=0.2)
    assert_allclose(
        float(nn.StructuredLoss()(logits, target)), np_structured(logits, target, 3), rtol=1e-12
    )
    weighted = nn.StructuredLoss(3, (0.5, 4.0))
    expected = np_structured(logits, target, 3, (0.5, 4.0))
    assert_allclose(float(weighted(logits, target)), expected, rtol=1e-12)
    logits.requires_grad_()
    small = logits[:1].detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: nn.StructuredLoss()(z, target[:1]), (small,), fast_mode=True
    )
    assert nn.StructuredLoss()(logits, torch.full_like(target, IGNORE)) == 0


def test_structured_of_one_voxel_is_cross_entropy():
    logits, target = batch((2, 1, 5, 4), ignored=0.3)
    expected = nn.CrossEntropyLoss()(logits, target)
    assert_allclose(float(nn.StructuredLoss(1)(logits, target)), float(expected), rtol=1e-12)
    assert torch.equal(nn.StructuredLoss(1).votes(logits), logits.sigmoid())


def test_structured_votes():
    rng = np.random.default_rng(1)
    mask = rng.random((6, 5)) < 0.4
    padded = np.pad(mask, 1)
    each = [padded[i : i + 6, j : j + 5] for i, j in itertools.product(range(3), repeat=2)]
    logits = torch.tensor(np.stack(each)[None] * 80.0 - 40)  # every patch is right
    votes = nn.StructuredLoss().votes(logits)
    assert votes.shape == (1, 1, 6, 5)
    assert_allclose(votes[0, 0].numpy(), mask, atol=1e-9)
    noise = torch.randn(1, 9, 4, 4, dtype=torch.float64)
    p, expected = noise.sigmoid()[0], np.zeros((4, 4))
    for y, x in itertools.product(range(4), repeat=2):
        seen = [
            float(p[k, y - dy, x - dx])
            for k, (dy, dx) in enumerate(itertools.product((-1, 0, 1), repeat=2))
            if 0 <= y - dy < 4 and 0 <= x - dx < 4
        ]
        expected[y, x] = np.mean(seen)
    assert_allclose(nn.StructuredLoss().votes(noise)[0, 0].numpy(), expected, rtol=1e-12)


def test_combined():
    logits, target = batch((2, 3, 6, 5))
    parts = [nn.DiceLoss(), nn.CrossEntropyLoss(), nn.BoundaryLoss()]
    loss = nn.CombinedLoss(parts, [1.0, 0.5, 0.1])
    expected = sum(w * part(logits, target) for w, part in zip((1, 0.5, 0.1), parts, strict=True))
    assert_allclose(float(loss(logits, target)), float(expected), rtol=1e-12)
    expected = sum(part(logits, target) for part in parts)
    assert_allclose(float(nn.CombinedLoss(parts)(logits, target)), float(expected), rtol=1e-12)


def test_deep_supervision():
    logits, target = batch((2, 3, 8, 6), ignored=0.2)
    outputs = [logits, logits[:, :, ::2, ::2] * 0.5, logits[:, :, 1::4, 1::3] * 0.1]
    part = nn.CrossEntropyLoss()
    # The centre of a coarse voxel lies between fine ones: the one on its right counts.
    targets = [target, target[:, 1::2, 1::2], target[:, 2::4, 1::3]]
    values = [part(o, t) for o, t in zip(outputs, targets, strict=True)]
    loss = nn.DeepSupervisionLoss(part)
    expected = sum(w / 7 * v for w, v in zip((4, 2, 1), values, strict=True))
    assert_allclose(float(loss(outputs, target)), float(expected), rtol=1e-12)
    assert loss(logits, target) == values[0]
    loss = nn.DeepSupervisionLoss(part, [1, 0, 2])
    assert_allclose(float(loss(outputs, target)), float(values[0] + 2 * values[2]), rtol=1e-12)
    soft = batch((2, 3, 8, 6), soft=True)[1]
    value = nn.DeepSupervisionLoss(part, [0, 1, 0])(outputs, soft)
    assert value == part(outputs[1], soft[:, :, 1::2, 1::2])


def test_trains_a_network():
    torch.manual_seed(0)
    model = torch.nn.Conv2d(1, 2, 3, padding=1)
    image = torch.zeros(1, 1, 16, 16)
    image[..., 4:11, 5:12] = 1
    target = image[:, 0].long()
    loss = nn.CombinedLoss([nn.DiceLoss(), nn.CrossEntropyLoss()])
    for _ in range(60):
        value = loss(model(image), target)
        gradients = torch.autograd.grad(value, list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= gradient
    assert value < 0.1


def test_target_may_have_a_channel_axis_or_small_integers():
    logits, target = batch((2, 3, 6, 5))
    expected = nn.DiceLoss()(logits, target)
    assert nn.DiceLoss()(logits, target[:, None]) == expected
    assert nn.DiceLoss()(logits, target.to(torch.uint8)) == expected
    target = target.to(torch.uint8)
    target[:, 0] = 255
    loss = nn.DiceLoss(ignore_index=255)
    assert_allclose(float(loss(logits, target)), np_dice(logits[:, :, 1:], target[:, 1:].long()))
    mask = torch.rand(2, 6, 5) < 0.5
    assert nn.DiceLoss()(logits[:, :1], mask) == nn.DiceLoss()(logits[:, :1], mask.long())


def test_state_is_empty_and_weights_move():
    loss = nn.CombinedLoss([nn.CrossEntropyLoss((1.0, 2.0)), nn.DiceLoss()])
    assert loss.state_dict() == {}
    assert loss.to(torch.float64).losses[0].weight.dtype == torch.float64


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"boundary", "lovasz", "lovasz_all"}))
@pytest.mark.parametrize("unlabelled", ["none", "some", "all"])
def test_compiled_whole(name, unlabelled):
    """By torch.compile, which has no values to look at; distances and sorted errors need them."""
    logits, target = batch((2, 3, 6, 5))
    if unlabelled != "none":
        target[0, 0] = IGNORE
    if unlabelled == "all":
        target[:] = IGNORE
    loss = LOSSES[name]()
    torch._dynamo.reset()
    whole = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert_allclose(whole(logits, target), loss(logits, target), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z, t: nn.DiceLoss()(z, [1]), TypeError, "must be tensors"),
        (lambda z, t: nn.DiceLoss()(z.long(), t), ValueError, "logits must be floats"),
        (lambda z, t: nn.DiceLoss()(z[0, 0, 0], t), ValueError, "logits must be floats"),
        (lambda z, t: nn.DiceLoss()(z, t[:, 1:]), ValueError, r"target must be .*got torch.int64"),
        (lambda z, t: nn.DiceLoss()(z, t.double()), ValueError, "or floats of shape"),
        (lambda z, t: nn.DiceLoss()(z, t + 1), ValueError, "labels below 3 or -100, got 3"),
        (lambda z, t: nn.DiceLoss(ignore_index=None)(z, t - 1), ValueError, "got -1"),
        (lambda z, t: nn.LovaszLoss()(z[:, :1], t), ValueError, "labels below 2"),
        (lambda z, t: nn.DiceLoss((1.0, 2.0))(z, t), ValueError, "each of 3 classes, got 2"),
        (lambda z, t: nn.DiceLoss((-1.0, 2.0)), ValueError, "DiceLoss: weight must be"),
        (lambda z, t: nn.JaccardLoss(smooth=-1), ValueError, "JaccardLoss: smooth must be"),
        (lambda z, t: nn.TverskyLoss(0, 0), ValueError, "alpha and beta"),
        (lambda z, t: nn.FocalLoss(-1), ValueError, "gamma must be"),
        (lambda z, t: nn.CrossEntropyLoss(label_smoothing=1), ValueError, "label_smoothing"),
        (lambda z, t: nn.LovaszLoss(classes="some"), ValueError, "classes must be"),
        (lambda z, t: nn.BoundaryLoss((1, 0))(z, t), ValueError, "spacing"),
        (lambda z, t: nn.BoundaryLoss()(z, t, z[1:]), ValueError, "distances must have"),
        (lambda z, t: nn.StructuredLoss(2), ValueError, "size must be odd"),
        (lambda z, t: nn.StructuredLoss()(z, t), ValueError, "one channel for each voxel"),
        (lambda z, t: nn.CombinedLoss([]), ValueError, "losses must not be empty"),
        (lambda z, t: nn.CombinedLoss([nn.DiceLoss()], [1, 2]), ValueError, "1 finite numbers"),
        (
            lambda z, t: nn.DeepSupervisionLoss(nn.DiceLoss(), [1])([z, z], t),
            ValueError,
            "outputs must be as many",
        ),
    ],
)
def test_errors(call, error, message):
    logits, target = batch((2, 3, 6, 5))
    target[0, 0, 0] = 2
    target[0, 0, 1] = 0
    with pytest.raises(error, match=message):
        call(logits, target)
