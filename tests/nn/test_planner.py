"""`medseg-fast plan`: a readable file that fits the data, the machine and `medseg-fast train`."""

from __future__ import annotations

import json

import numpy as np
import pytest
from _cli import Image, error, run

import medseg_fast as ms
from medseg_fast.nn import plan_training
from medseg_fast.nn._training import config
from medseg_fast.nn._training.budget import choose, cost


def write(folder, *, shape=(20, 40, 30), spacing=(3.0, 1.0, 1.0), count=4, low=0, classes=2):
    """Images of integers and labels, as folders of MetaImage files."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number in range(count):
        label = np.zeros(shape, np.uint8)
        for value in range(1, classes + 1):
            label[2 * value : 2 * value + 2, 5:15, 5:15] = value
        image = (low + 100.0 * label + rng.integers(0, 50, shape)).astype(np.int16)
        for name, array in (("images", image), ("labels", label)):
            ms.io.write(folder / name / f"case{number}.mha", ms.io.Volume(array, spacing))
    return folder


def test_volumes(tmp_path):
    plan = plan_training(write(tmp_path / "mr"), cores=2, memory_gb=4)
    tables = plan.tables
    assert tables["data"] == {
        "images": "images",
        "labels": "labels",
        "target": "classes",
        "normalise": "zscore",
        "spacing": [3.0, 1.0, 1.0],
        "validation": 0.2,
        "folds": 4,
    }
    assert tables["network"]["norm"] == "instance"
    assert len(tables["training"]["patch"]) == 3
    depth = len(tables["network"]["widths"]) - 1
    assert all(n % 2**depth == 0 for n in tables["training"]["patch"])
    path = tmp_path / "mr" / "plan.toml"
    path.write_text(plan.text())
    read = config.read(path)
    for name, table in tables.items():
        for key, value in table.items():
            assert read[name][key] == value
    assert read.place(read["data"]["images"]) == tmp_path / "mr" / "images"
    assert plan.text().startswith("# Plan for mr: 4 cases, 3D, 1 channel, median 20 x 40 x 30")


def test_ct_is_clipped_to_the_foreground(tmp_path):
    folder = write(tmp_path, low=-1000)
    low, high = plan_training(folder).tables["data"]["normalise"]
    assert -900 <= low < -840
    assert -800 < high <= -750
    assert plan_training(folder, modality="other").tables["data"]["normalise"] == "zscore"


def test_planes_far_apart_and_tiny_targets(tmp_path):
    folder = write(tmp_path, shape=(8, 120, 120), spacing=(6.5, 1.0, 1.0), classes=1)
    label = np.zeros((8, 120, 120), np.uint8)
    label[3, 4, 5:9] = 1
    for number in range(4):
        volume = ms.io.Volume(label, (5.0 if number == 0 else 6.5, 1.0, 1.0))
        ms.io.write(folder / "labels" / f"case{number}.mha", volume, overwrite=True)
        image = ms.io.read(folder / "images" / f"case{number}.mha")
        ms.io.write(
            folder / "images" / f"case{number}.mha", volume.like(image.array), overwrite=True
        )
    plan = plan_training(folder)
    assert 5 <= plan.tables["data"]["spacing"][0] < 6
    assert set(plan.tables["loss"]) == {"focal", "tversky"}
    assert plan.tables["training"]["foreground"] == 0.67


def test_pictures(tmp_path):
    """Masks of 255, objects numbered anew in each image, classes."""
    rng = np.random.default_rng(0)
    for kind in ("mask", "instances", "classes"):
        folder = tmp_path / kind
        (folder / "img").mkdir(parents=True)
        (folder / "masks").mkdir()
        for number in range(3):
            label = np.zeros((64, 80), np.uint8)
            blocks = label.reshape(8, 8, 8, 10)[:, :4, :, :4]
            if kind == "mask":
                label[20:30, 20:40] = 255
            elif kind == "instances":
                blocks[...] = (np.arange(64).reshape(8, 1, 8, 1) + 20 * number) % 200 + 1
            else:
                label[20:30] = [[1] * 40 + [2] * 40]
            Image.fromarray(label).save(folder / "masks" / f"{number}.png")
            colour = rng.integers(0, 255, (64, 80, 3), np.uint8)
            Image.fromarray(colour).save(folder / "img" / f"{number}.png")
        plan = plan_training(folder)
        assert plan.tables["data"]["target"] == kind
        assert plan.tables["data"]["spacing"] is None
        assert "3 channels" in plan.head


def test_budget():
    size = np.array([300.0, 400.0])
    options = {"channels": 3, "classes": 2, "memory": 8e9, "cores": 2}
    short = choose(size, None, seconds=300, **options)
    long = choose(size, None, seconds=36000, **options)
    assert np.prod(long.patch) >= np.prod(short.patch)
    assert long.widths[0] > short.widths[0]
    for choice in (short, long):
        assert choice.steps * choice.seconds <= 1.05 * (300 if choice is short else 36000)
        assert choice.bytes <= 8e9
    poor = choose(size, None, seconds=300, **{**options, "memory": 2e8})
    assert poor.bytes <= 2e8
    assert choose(size, 64, seconds=300, **options).patch == (64, 64)
    # Twice the pixels, twice the work.
    once, twice = (cost((64, n), (16, 32), 2, 1, 2)[0] for n in (64, 128))
    assert twice == 2 * once


def test_command(tmp_path):
    folder = write(tmp_path / "data")
    result = run("plan", folder, "-o", tmp_path / "p.toml", "--minutes", 2, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["data"]["images"] == "data/images"
    assert config.read(tmp_path / "p.toml")["training"]["steps"] == report["training"]["steps"]
    assert "exists (--force replaces it)" in error(
        run("plan", folder, "-o", tmp_path / "p.toml"), 1
    )
    text = run("plan", folder, "--patch", "16,32,16").stdout
    assert "patch = [16, 32, 16]  # as asked" in text
    assert "wrote" in text


def test_mistakes(tmp_path):
    folder = write(tmp_path / "data")
    assert "no such folder" in error(run("plan", tmp_path / "no"), 1)
    assert "must end in .toml" in error(run("plan", folder, "-o", tmp_path / "p.yaml"), 1)
    (folder / "labels").rename(folder / "truth")
    line = error(run("plan", folder), 1)
    assert "there is images, truth: give --labels" in line
    assert run("plan", folder, "--labels", "truth").exit_code == 0
    (folder / "images" / "case2.mha").unlink()
    line = error(run("plan", folder, "--labels", "truth", "--force"), 1)
    assert "masks without an image: case2.mha" in line
    other = write(tmp_path / "other")
    with pytest.raises(ValueError, match="patch must be one number or 3, got"):
        plan_training(other, patch=(4, 4))
