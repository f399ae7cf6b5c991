"""`nn.fit`: which run a checkpoint is of, what data it takes, and what several processes share."""

from __future__ import annotations

import stat
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
# ruff: noqa: E402

from medseg_fast import data, nn
from medseg_fast.augment import Augmenter
from medseg_fast.data import PatchSampler
from medseg_fast.nn._training.identity import described, difference


def network(classes=2, **options):
    torch.manual_seed(0)
    return nn.unet(1, classes, **{"widths": (2, 4), "padding": "same", "norm": "batch", **options})


@pytest.fixture
def cases(rng):
    return [(rng.normal(0, 1, (8, 8)), rng.integers(0, 2, (8, 8))) for _ in range(3)]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (nn.TverskyLoss(0.3, 0.7), nn.TverskyLoss(0.9, 0.7), r"alpha=0.3, this one has 0.9"),
        (nn.DiceLoss([1, 2]), nn.DiceLoss([1, 3]), r"weight.1=2.0, this one has 3.0"),
        (
            nn.CombinedLoss([nn.DiceLoss(), nn.FocalLoss()], [5, 1]),
            nn.CombinedLoss([nn.DiceLoss(), nn.FocalLoss()], [1, 1]),
            r"weights.0=5.0, this one has 1.0",
        ),
        (
            nn.DeepSupervisionLoss(nn.FocalLoss(2.0)),
            nn.DeepSupervisionLoss(nn.FocalLoss(3.0)),
            r"loss.loss.gamma=2.0",
        ),
        (None, nn.DiceLoss(), r"loss='default'"),
    ],
)
def test_another_loss_is_another_run(cases, tmp_path, one, other, words):
    options = {"steps": 1, "folder": tmp_path}
    nn.fit(network(), cases, loss=one, **options)
    nn.fit(network(), cases, loss=one, **options)
    with pytest.raises(ValueError, match=rf"is of a run with .*{words}.*resume=False"):
        nn.fit(network(), cases, loss=other, **options)


@pytest.mark.parametrize(
    "changed",
    [
        {"probability": 0.5},
        {"control_points": 4},
        {"order": 3},
        {"fill": "nearest"},
        {"label_fill": -100},
        {"rotation": 9},
    ],
)
def test_another_augmenter_is_another_run(cases, tmp_path, changed):
    def sampler(**settings):
        augmenter = Augmenter(**{"rotation": 10, **settings})
        return PatchSampler([(x[None], y) for x, y in cases], 8, augmenter=augmenter)

    nn.fit(network(), sampler(), steps=1, folder=tmp_path)
    with pytest.raises(ValueError, match=r"is of a run with data.augmenter"):
        nn.fit(network(), sampler(**changed), steps=1, folder=tmp_path)


def test_more_that_tells_runs_apart(cases, tmp_path):
    sgd = partial(torch.optim.SGD, momentum=0.5)
    options = {"steps": 1, "folder": tmp_path, "optimiser": sgd, "validation": cases[:1]}
    nn.fit(network(), cases, **options)
    for changed, words in (
        ({"validation": cases}, r"validation=1, this one has 3"),
        ({"optimiser": partial(torch.optim.SGD, momentum=0.6)}, r"optimiser.momentum=0.5"),
    ):
        with pytest.raises(ValueError, match=words):
            nn.fit(network(), cases, **{**options, **changed})
    for other, words in (
        (network(widths=(2, 6)), r"network.widths.1=4, this one has 6"),
        (network(dropout=0.2), r"network.dropout=0.0, this one has 0.2"),
        (torch.nn.Conv2d(1, 2, 1), r"network=.*'Conv2d'"),
    ):
        with pytest.raises(ValueError, match=words):
            nn.fit(other, cases, **options)


def test_modules_of_other_shapes_are_of_another_run(cases, tmp_path):
    options = {"steps": 1, "folder": tmp_path}
    nn.fit(torch.nn.Conv2d(1, 2, 1), cases, **options)
    with pytest.raises(ValueError, match=r"run with weights.weight.2=1, this one has 3"):
        nn.fit(torch.nn.Conv2d(1, 2, 3, padding=1), cases, **options)


def test_pretraining_of_other_blocks_is_another_run(cases, tmp_path):
    images = [image for image, _ in cases]
    nn.pretrain(network(), images, steps=1, block=2, folder=tmp_path)
    with pytest.raises(ValueError, match=r"run with data.block=2, this one has 4"):
        nn.pretrain(network(), images, steps=1, block=4, folder=tmp_path)


def test_descriptions():
    assert difference(described(nn.DiceLoss()), described(nn.DiceLoss().eval())) is None
    assert described(len) == "len"
    assert described(np.arange(2)) == [0, 1]
    assert difference({"a": [1, 2]}, {"a": [1, 2, 3]}) == ("a", [1, 2], [1, 2, 3])
    assert difference({}, {"a": {"b": 1}}) == ("a", None, {"b": 1})


def test_epochs_of_a_sampler(cases):
    sampler = PatchSampler([(image[None], label) for image, label in cases], 8, 2)
    assert len(sampler) == 2
    history = nn.fit(network(), sampler, epochs=2).history
    assert [row["step"] for row in history] == [2, 4]
    # Where steps are given a short epoch does not decide how often to validate.
    assert len(nn.fit(network(), sampler, steps=150).history) == 50
    result = nn.pretrain(network(), [image for image, _ in cases], epochs=2, block=2)
    assert [row["step"] for row in result.history] == [2, 4]


def test_negative_labels_are_not_labelled(cases):
    image, label = cases[0]
    label = label.astype(np.int8)
    label[:4] = -1
    _, labels = PatchSampler([(image[None], label)], 8, 1, foreground=0)(0)
    assert set(labels[0, :4].flat) == {-100}
    known = np.where(label < 0, -100, label)
    one, other = network(), network()
    nn.fit(one, [(image, label)], steps=2, batch=1)
    nn.fit(other, [(image, known)], steps=2, batch=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_cases_of_the_data_module(tmp_path, rng):
    image_module = pytest.importorskip("PIL.Image", reason="pictures need the extra io")
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for number in range(2):
            array = rng.integers(0, 2, (8, 8)).astype(np.uint8) * 255
            image_module.fromarray(array).save(tmp_path / name / f"{number}.png")
    cases = data.Cases(data.read_pairs(tmp_path))
    result = nn.fit(network(), cases, steps=2, validation=cases)
    assert "dice_1" in result.history[-1]
    for options, words in (
        ({}, r"case 0 of data must be a Case or \(image, label\), got int"),
        ({"validation": [(1, 2, 3)]}, r"case 0 of validation must be a Case or .* got tuple"),
    ):
        with pytest.raises(TypeError, match=words):
            nn.fit(network(), cases if options else [7], steps=1, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weight_decay": -1}, "weight_decay must be finite and at least 0, got -1"),
        ({"rates": {"*": -1}}, r"rates\['\*'\] must be finite and at least 0, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1, got 0"),
        ({"patience": 0, "validation": len}, "patience must be at least 1, got 0"),
    ],
)
def test_mistakes(cases, options, words):
    with pytest.raises(ValueError, match=words):
        nn.fit(network(), cases, steps=1, **options)


def test_patience_ends_where_all_figures_are_nan(cases):
    result = nn.fit(
        network(), cases, steps=9, every=1, patience=3, validation=lambda model: float("nan")
    )
    assert (result.stopped, result.steps, result.best) == ("patience", 3, None)


def test_folds_of_no_whole_number():
    with pytest.raises(TypeError, match=r"folds: count must be an integer, got 2.0"):
        nn.folds(5, 2.0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.unet_plus_plus(1, 2, widths=(2, 4, 4), deep_supervision=True),
        lambda: nn.pspnet(1, 2, backbone="resnet18", width=4, bins=(1, 2)),
    ],
)
def test_networks_of_several_outputs(rng, make):
    """Pre-training learns of all; rates know every layer, heads for training like the last."""
    model = make()
    result = nn.pretrain(model, [rng.normal(0, 1, (16, 16))] * 2, steps=2)
    assert np.isfinite(result.history[-1]["loss"])
    rates = nn.layer_rates(model, 0.5)
    assert set(rates) == {name for name, _ in model.named_parameters()}
    assert max(rates.values()) == 1
    if "auxiliary.0.weight" in rates:
        assert rates["auxiliary.4.weight"] == rates["head.4.weight"] == 1
        assert rates["pyramid.branches.0.1.weight"] < rates["head.0.weight"] == 0.5


def test_pretraining_wants_networks_that_label_pixels():
    found = nn.mask_rcnn.mask_rcnn(
        2, 1, backbone="resnet18", width=4, pyramid_width=8, box_width=16
    )
    for model in (found, nn.lenet5(1, 2)):
        with pytest.raises(ValueError, match=r"pretrain: network must be of medseg_fast.nn"):
            nn.pretrain(model, [np.zeros((64, 64))], steps=1)


def test_a_model_file_has_the_mode_of_others(tmp_path):
    pytest.importorskip("safetensors", reason="model files need the extra nn")
    nn.save_model(network(), tmp_path / "a.safetensors")
    (tmp_path / "b").write_bytes(b"")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


_TWO = """
import sys, torch, numpy as np
from torch import distributed
from medseg_fast import nn

def run(rank, folder):
    torch.set_num_threads(1)
    meet = "file://" + folder + "/meet"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.unet(1, 2, widths=(2, 4), padding="same", norm="batch")
    rng = np.random.default_rng(0)
    cases = [(rng.normal(k, 1 + k, (8, 8)), rng.integers(0, 2, (8, 8))) for k in range(5)]
    try:
        nn.fit(
            model, cases, steps=4, batch=4, every=2, average=0.9, folder=folder + "/run"
        )
    finally:
        distributed.destroy_process_group()
    return model.state_dict()
"""


def test_two_processes_end_with_the_same_buffers(tmp_path):
    code = _TWO + "torch.save(run(int(sys.argv[1]), sys.argv[2]), sys.argv[3])"
    files = [tmp_path / f"{rank}.pt" for rank in range(2)]
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(rank), str(tmp_path), str(file)])
        for rank, file in enumerate(files)
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    one, other = (torch.load(file) for file in files)
    assert all(torch.equal(one[name], other[name]) for name in one)
