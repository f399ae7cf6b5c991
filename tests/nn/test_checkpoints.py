"""What training scripts put around weights, and files that are damaged or hold other things."""

from __future__ import annotations

import argparse

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
pytest.importorskip("safetensors", reason="model files need the extra nn")

from _networks import small  # noqa: E402

from medseg_fast import nn  # noqa: E402


def loaded(content, tmp_path, **options):
    """Whether a fresh network gets the weights of a file, and the report."""
    model, _ = small("unet")
    for value in model.state_dict().values():
        value.zero_()
    torch.save(content, tmp_path / "w.pth")
    report = nn.load_weights(model, tmp_path / "w.pth", **options)
    expected = small("unet")[0].state_dict()
    return all(torch.equal(v, expected[k]) for k, v in model.state_dict().items()), report


@pytest.mark.parametrize("container", ["state_dict", "model_state", "params", "net"])
def test_tensors_beside_the_weights(container, tmp_path):
    state = small("unet")[0].state_dict()
    script = {"epoch": torch.tensor(3), "model": {"depth": 3}, "best": torch.tensor(0.3)}
    same, report = loaded({**script, container: state}, tmp_path)
    assert same
    assert report.complete
    same, _ = loaded({"model": {"step": torch.tensor(1), container: state}}, tmp_path)
    assert same


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.module.", "module.model.", "model.module.", "model._orig_mod.net."],
)
def test_wrappers_in_any_order(prefix, tmp_path):
    state = {prefix + key: value for key, value in small("unet")[0].state_dict().items()}
    assert loaded(state, tmp_path)[0]
    same, report = loaded({**state, "criterion.weight": torch.ones(3)}, tmp_path, strict=False)
    assert same
    assert report.missing == []
    assert report.unexpected == ["criterion.weight"]


def test_wrappers_of_the_model_itself(tmp_path):
    """A prefix stays where the model has it, too; of two networks in a file one is not lost."""
    model = torch.nn.ModuleDict({"net": torch.nn.Linear(1, 1), "model": torch.nn.Linear(1, 1)})
    state = {"module." + key: torch.full_like(v, 7) for key, v in model.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    assert nn.load_weights(model, tmp_path / "w.pth").complete
    with pytest.raises(ValueError, match=r"no place in the model \(2\)"):
        nn.load_weights(torch.nn.Linear(1, 1), tmp_path / "w.pth")


def test_counters_are_in_no_list(tmp_path):
    norm = torch.nn.BatchNorm2d(2)
    torch.save(norm.state_dict(), tmp_path / "w.pth")
    assert "loaded 4 of the model's 4" in str(nn.load_weights(norm, tmp_path / "w.pth"))
    torch.save({"other": torch.ones(1)}, tmp_path / "w.pth")
    report = nn.load_weights(norm, tmp_path / "w.pth", strict=False)
    assert "loaded 0 of the model's 4" in str(report)


def damaged(tmp_path, change, **options):
    """The error of a changed file."""
    path = tmp_path / "w.pth"
    torch.save(small("unet")[0].state_dict(), path, **options)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=r"w\.pth: not a file of weights") as caught:
        nn.load_weights(small("unet")[0], path)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_files(zipped, part, tmp_path):
    damaged(
        tmp_path,
        lambda data: data[: int(part * len(data))],
        _use_new_zipfile_serialization=zipped,
    )


def test_pickles_of_other_bytes(tmp_path):
    """Nothing was kept under the number that is asked for."""
    message = damaged(tmp_path, lambda data: data.replace(b"h\x00", b"h\x84", 1))
    assert message.endswith("damaged? (KeyError)")


def test_refused_objects_are_named(tmp_path):
    """And nothing is said of how to run the file's code all the same."""
    torch.save({"args": argparse.Namespace(lr=1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"it holds 'argparse\.Namespace'$") as caught:
        nn.load_weights(small("unet")[0], tmp_path / "w.pth")
    assert "weights_only" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_errors_of_the_system_stay(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    torch.save({}, tmp_path / "w.pth")
    monkeypatch.setattr(torch, "load", denied)
    with pytest.raises(PermissionError):
        nn.load_weights(small("unet")[0], tmp_path / "w.pth")
