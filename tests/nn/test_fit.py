"""`nn.fit`: learns, goes on after a kill to the same bits, and what belongs to it."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
# ruff: noqa: E402

from medseg_fast import nn
from medseg_fast.data import PatchSampler
from medseg_fast.nn._training import checkpoint, schedule
from medseg_fast.nn._training.objective import default_loss
from medseg_fast.nn._training.validation import class_dice


def disk(rng, size=24):
    """A noisy image of a disk, and its label."""
    middle = rng.integers(8, size - 8, 2)
    label = (np.hypot(*(np.indices((size, size)) - middle[:, None, None])) < 5).astype(np.uint8)
    return (label + rng.normal(0, 0.4, label.shape)).astype(np.float32), label


@pytest.fixture
def cases(rng):
    return [disk(rng) for _ in range(4)]


def network(seed=0, **options):
    torch.manual_seed(seed)
    arguments = {"widths": (4, 8), "padding": "same", "norm": "batch", **options}
    return nn.unet(1, 2, **arguments)


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("name", schedule.SCHEDULES)
def test_learns(cases, optimiser, name):
    model = network()
    rate = 0.01 if optimiser == "adamw" else 0.003
    result = nn.fit(
        model, cases, steps=60, optimiser=optimiser, schedule=name, warmup=3, rate=rate, every=20
    )
    assert [row["step"] for row in result.history] == [20, 40, 60]
    assert result.history[-1]["loss"] < 0.75 * result.history[0]["loss"]
    assert (result.steps, result.stopped, result.best) == (60, "steps", None)
    assert not model.training


def test_schedules():
    for name in schedule.SCHEDULES:
        values = [schedule.factor(name, step, 100, 10) for step in range(101)]
        assert 0 < values[0] < 0.2
        assert max(values) == pytest.approx(1)
        assert (values[100] < 0.01) == (name != "constant")
        if name in ("poly", "cosine"):
            assert values[10:] == sorted(values[10:], reverse=True)


def test_global_random_numbers_are_left_alone(cases):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    nn.fit(network_of_dropout := network(9, dropout=0.5), cases, steps=1)
    del network_of_dropout
    torch.manual_seed(5)
    nn.fit(model := network(5), cases, steps=1)
    del model
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), expected)


_RUN = """
import sys, time, numpy as np, torch
from medseg_fast import nn

def run(folder, slow=0.0):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    cases = []
    for _ in range(5):
        label = rng.integers(0, 2, (16, 16)).astype(np.uint8)
        cases.append(((label + rng.normal(0, 1, label.shape)).astype(np.float32), label))
    model = nn.unet(1, 2, widths=(4, 8), padding="same", norm="batch", dropout=0.3)

    def show(model, row):
        steps.append(int(row["step"]))
        if slow:
            print(steps[-1], flush=True)
            time.sleep(slow)

    steps = []
    result = nn.fit(
        model, cases, steps=40, batch=2, patch=8, every=4, checkpoint_every=3, seed=3,
        validation=cases[:1], average=0.9, folder=folder, callbacks=[show], clip=0.5,
    )
    return model, result, steps
"""


def test_resumes_to_the_same_bits_after_a_kill(tmp_path):
    """Killed between rows; what it does afterwards is what an undisturbed run does."""
    code = _RUN + "run(sys.argv[1], 0.2)"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "killed")], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if int(line) >= 12:
            time.sleep(0.1)
            os.kill(process.pid, signal.SIGKILL)
            break
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    # A checkpoint that was being written stays behind as a temporary file.
    (tmp_path / "killed" / ".checkpoint.pt.0123.tmp").write_bytes(b"half")

    space = {}
    exec(_RUN, space)
    (one, whole, _), (other, resumed, steps) = (
        space["run"](tmp_path / name) for name in ("whole", "killed")
    )
    assert steps[0] > 8  # the rest only
    assert same(one, other)
    assert not list((tmp_path / "killed").glob(".*"))
    states = [torch.load(tmp_path / name / "checkpoint.pt") for name in ("whole", "killed")]
    for name in ("network", "average", "best_weights"):
        assert all(torch.equal(v, states[1][name][key]) for key, v in states[0][name].items())
    for row in whole.history + resumed.history:
        del row["seconds"]
    assert whole.history == resumed.history
    assert (whole.best, whole.best_step) == (resumed.best, resumed.best_step)
    with open(tmp_path / "killed" / "log.csv") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(4, 41, 4))


def test_a_finished_run_is_not_done_again(cases, tmp_path):
    first, again = network(), network(1)
    options = {"steps": 4, "every": 2, "folder": tmp_path, "validation": cases[:1]}
    one = nn.fit(first, cases, **options)
    other = nn.fit(again, cases, **options)
    assert same(first, again)
    assert one == other
    with pytest.raises(ValueError, match=r"checkpoint.pt is of a run with rate=0.001, this one"):
        nn.fit(network(), cases, rate=0.1, **options)
    for changed in ({"batch": 3}, {"freeze": ["head.*"]}, {"loss": torch.nn.CrossEntropyLoss()}):
        with pytest.raises(ValueError, match="is of a run with"):
            nn.fit(network(), cases, **changed, **options)
    anew = nn.fit(network(2), cases, rate=0.1, resume=False, **options)
    assert anew.steps == 4
    (tmp_path / checkpoint.NAME).write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint of a run"):
        nn.fit(network(), cases, **options)


def test_early_stopping_and_best_weights(cases):
    figures = iter([0.1, 0.5, 0.4, float("nan"), 0.3, 0.2])
    kept = []

    def validation(model):
        assert not model.training
        kept.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"figure": next(figures), "other": 2}

    model = network()
    result = nn.fit(model, cases, steps=100, every=1, patience=3, validation=validation)
    assert (result.stopped, result.steps) == ("patience", 5)
    assert (result.best, result.best_step) == (0.5, 2)
    assert result.history[1]["other"] == 2
    assert all(torch.equal(value, kept[1][name]) for name, value in model.state_dict().items())


def test_callback_ends_the_run(cases):
    seen = []

    def callback(model, row):
        seen.append(row["step"])
        return row["step"] >= 4

    result = nn.fit(network(), cases, steps=100, every=2, callbacks=[callback])
    assert (result.stopped, seen) == ("callback", [2, 4])


def test_frozen_and_slower_parameters(cases):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    nn.fit(
        model,
        cases,
        steps=3,
        freeze=["encoder.*"],
        rates={"decoder.*": 1e-9, "*": 1},
        weight_decay=0,
    )
    after = model.state_dict()
    moved = {name: float((after[name] - before[name]).abs().max()) for name in after}
    assert all(moved[name] == 0 for name in moved if name.startswith("encoder."))
    slow = [
        m
        for name, m in moved.items()
        if name.startswith("decoder.") and "running" not in name and "num_batches" not in name
    ]
    assert 0 < max(slow) < 1e-7
    assert moved["head.weight"] > 1e-4
    assert all(parameter.requires_grad for parameter in model.parameters())
    for options, words in (
        ({"freeze": ["encodr.*"]}, "freeze: no parameter is called 'encodr.\\*'"),
        ({"rates": {"x": 1}}, "rates: no parameter that learns is called 'x'"),
        ({"freeze": ["*"]}, "all are frozen"),
    ):
        with pytest.raises(ValueError, match=words):
            nn.fit(network(), cases, steps=1, **options)


def test_layer_rates():
    rates = nn.layer_rates(network(), 0.5)
    assert set(rates) == {name for name, _ in network().named_parameters()}
    assert rates["head.bias"] == 1
    assert rates["decoder.0.norm1.weight"] == rates["decoder.0.conv1.weight"] == 0.25
    assert rates["encoder.0.conv1.weight"] == min(rates.values()) == 0.5**7
    valid = nn.layer_rates(nn.unet(1, 2, widths=(2, 4)), 0.5)
    assert valid["head.bias"] == 1
    model = network()
    nn.fit(model, [disk(np.random.default_rng(0))], steps=1, batch=1, rates=rates)


def test_bfloat16(cases):
    result = nn.fit(network(), cases, steps=20, every=10, rate=0.01, precision="bfloat16")
    assert result.history[1]["loss"] < result.history[0]["loss"]


def test_output_smaller_than_the_labels(rng):
    model = nn.unet(1, 2, widths=(2, 4))
    size = model.sizes(20)[0]
    case = (rng.normal(0, 1, (size, size)), rng.integers(0, 2, (size, size)))
    nn.fit(model, [case], steps=1, batch=1)


def test_pretraining_warms_everything_but_the_head(rng):
    model = nn.unet(1, 3, widths=(4, 8), padding="same")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wave = np.sin(np.indices((32, 32)).sum(0) / 3)
    result = nn.pretrain(model, [wave], batch=1, patch=24, block=4, steps=60, every=30, rate=0.01)
    assert result.history[1]["loss"] < result.history[0]["loss"]
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    assert set(before) - changed == {"head.weight", "head.bias"}
    other = nn.unet(1, 5, widths=(4, 8), padding="same")
    assert nn.transfer(model, other) == ["head.weight", "head.bias"]
    with pytest.raises(ValueError, match="output of the size of its input"):
        nn.pretrain(nn.unet(1, 2, widths=(2, 4)), [wave], steps=1)


_TWO = """
import sys, torch, numpy as np
from torch import distributed
from medseg_fast import nn

def run(rank, folder):
    torch.set_num_threads(1)
    if rank is not None:
        meet = "file://" + folder + "/meet"
        distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    torch.manual_seed(rank or 0)  # all begin with the weights of the first
    model = nn.unet(1, 2, widths=(4, 8), padding="same")
    rng = np.random.default_rng(0)
    cases = [(rng.normal(0, 1, (12, 12)), rng.integers(0, 2, (12, 12))) for _ in range(5)]
    calls = []

    def validation(network):
        calls.append(1)
        return 10.0 * (rank or 0) + len(calls)

    try:
        result = nn.fit(
            model, cases, steps=4, batch=4, patch=8, every=2, clip=None, validation=validation,
            loss=torch.nn.functional.cross_entropy, optimiser=torch.optim.SGD, rate=0.1,
            folder=None if rank is None else folder + "/run",
        )
    finally:
        if rank is not None:
            distributed.destroy_process_group()
    return model, result, len(calls)
"""


def test_two_processes_average_gradients(tmp_path):
    code = _TWO + (
        "model, result, calls = run(1, sys.argv[1])\n"
        "torch.save([model.state_dict(), result.history, calls], sys.argv[1] + '/1.pt')"
    )
    second = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    space = {}
    exec(_TWO, space)
    model, first, calls = space["run"](0, str(tmp_path))
    assert second.wait(60) == 0
    theirs, history, their_calls = torch.load(tmp_path / "1.pt")
    alone, expected, _ = space["run"](None, None)
    for name, value in alone.state_dict().items():
        assert torch.equal(model.state_dict()[name], theirs[name])
        torch.testing.assert_close(theirs[name], value, rtol=1e-4, atol=1e-6)
    # The first process validates; the figures are those of one that has the whole batch.
    assert (calls, their_calls) == (2, 0)
    for rows in (first.history, history):
        for row, alone_row in zip(rows, expected.history, strict=True):
            assert row["loss"] == pytest.approx(alone_row["loss"], rel=1e-4)
            assert row["validation"] == alone_row["validation"]
    names = sorted(p.name for p in (tmp_path / "run").iterdir() if p.is_file())
    assert [name for name in names if name != "curves.png"] == ["checkpoint.pt", "log.csv"]


def test_a_sampler_and_epochs(cases):
    """What gives batches by step: a PatchSampler, or any function, which may have a length."""
    patches = PatchSampler([(image[None], label) for image, label in cases], 16, 2, foreground=0.5)
    one, other = network(), network()
    nn.fit(one, patches, steps=4)
    nn.fit(other, cases, epochs=2, batch=2, patch=16)  # four cases: two steps an epoch
    assert same(one, other)

    class Data:
        def __len__(self):
            return 3

        def __call__(self, step):
            assert step < 6
            return patches(step)

    assert [row["step"] for row in nn.fit(network(), Data(), epochs=2).history] == [3, 6]


def test_folds():
    parts = nn.folds(list("aabbccdd"), 4, seed=1)
    assert sorted(i for _, held in parts for i in held) == list(range(8))
    for train, held in parts:
        assert sorted(train + held) == list(range(8))
        assert held[1] == held[0] + 1  # a patient stays together
    with pytest.raises(ValueError, match="count must be from 2 to 3, got 4"):
        nn.folds(3, 4)


def test_validation_by_dice(cases):
    model = network()
    result = nn.fit(model, cases, steps=60, every=60, rate=0.01, validation=cases, patch=16)
    row = result.history[0]
    assert row["dice"] == row["dice_1"] == result.best > 0.3
    found, truth = np.array([0, 1, 1, 2, 2]), np.array([0, 1, 2, 2, -1])
    assert class_dice(found, truth) == {1: 2 / 3, 2: 2 / 3}


def test_default_loss():
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, 0] = -100
    perfect = 50 * torch.nn.functional.one_hot(labels.clamp(min=0), 3).movedim(-1, 1).float()
    loss = default_loss()
    assert loss(perfect, labels) < 1e-3
    assert loss(-perfect, labels) > 1
    assert loss([perfect, -perfect], labels) > loss(perfect, labels)


def test_curves_and_board(cases, tmp_path):
    pytest.importorskip("matplotlib")
    nn.fit(network(), cases, steps=4, every=2, folder=tmp_path, validation=cases[:1])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ValueError, "one of steps and epochs must be given"),
        ({"steps": 1, "epochs": 1}, ValueError, "one of steps and epochs must be given"),
        ({"steps": 0}, ValueError, "steps must be"),
        ({"steps": 1, "schedule": "linear"}, ValueError, "schedule must be one of 'poly'"),
        ({"steps": 1, "optimiser": "lion"}, ValueError, "optimiser must be one of 'adamw', 'sgd'"),
        ({"steps": 1, "precision": "float16"}, ValueError, "precision must be one of"),
        ({"steps": 1, "rate": 0}, ValueError, "rate must be above 0, got 0"),
        ({"steps": 1, "average": 1}, ValueError, "average must be between 0 and 1"),
        ({"steps": 1, "patience": 2}, ValueError, "patience needs a validation"),
        ({"steps": 1, "patch": (4, 4, 4)}, ValueError, "patch must be one number or 2"),
        ({"steps": 1, "loss": len, "objective": len}, ValueError, "exclude each other"),
        ({"steps": 1, "validation": []}, ValueError, "validation must have at least one case"),
    ],
)
def test_mistakes(cases, options, error, words):
    with pytest.raises(error, match=words):
        nn.fit(network(), cases, **options)


def test_more_mistakes(cases, rng):
    with pytest.raises(TypeError, match=r"network must be an nn.Module, got list"):
        nn.fit([], cases, steps=1)
    with pytest.raises(ValueError, match=r"several shapes.*give patch"):
        nn.fit(network(), [*cases, disk(rng, 30)], steps=1)
    with pytest.raises(ValueError, match="case 0 must have an image"):
        nn.fit(network(), [(np.zeros((5, 5)), np.zeros((5, 6), int))], steps=1)
    with pytest.raises(TypeError, match="labels must be integers, case 0 has float64"):
        nn.fit(network(), [(np.zeros((5, 5)), np.zeros((5, 5)))], steps=1)
    with pytest.raises(ValueError, match="image of case 0 must be finite"):
        nn.fit(network(), [(np.full((5, 5), np.nan), np.zeros((5, 5), int))], steps=1)
    with pytest.raises(FloatingPointError, match="the loss is nan at step 0"):
        nn.fit(network(), cases, steps=1, loss=lambda logits, labels: logits.sum() * np.nan)
    with pytest.raises(TypeError, match="pairs of images and labels"):
        nn.fit(network(), lambda step: torch.zeros(1, 1, 8, 8), steps=1)
    with pytest.raises(ValueError, match="epochs need data with a length"):
        nn.fit(network(), lambda step: None, epochs=1)
