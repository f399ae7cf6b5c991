"""`medseg-fast predict`: from a model file to labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from _cli import Image, error, run

torch = pytest.importorskip("torch", reason="networks need the extra nn")
pytest.importorskip("safetensors", reason="model files need the extra nn")
# ruff: noqa: E402

import medseg_fast as ms
from medseg_fast import nn


@pytest.fixture
def scan(tmp_path, rng):
    """A volume whose bright ball the model below finds."""
    z, y, x = np.indices((10, 20, 24))
    ball = 4 * (z - 5) ** 2 + (y - 9) ** 2 + (x - 12) ** 2 < 50
    image = (400 * ball + rng.normal(0, 20, ball.shape)).astype(np.int16)
    volume = ms.io.Volume(image, (2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    ms.io.write(tmp_path / "scan.nii.gz", volume)
    return tmp_path / "scan.nii.gz", ball


def write_model(path, *, channels=1, ndim=3, classes=2, metadata=None):
    """A U-Net whose last class is where intensities exceed 200."""
    model = nn.unet(
        channels, classes, ndim=ndim, widths=(2, 2), padding="same", design="2015", norm="none"
    )
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
        centre = (0, 0, *(1,) * ndim)
        for block in (model.encoder[0], model.decoder[0]):
            block.conv1.weight[centre] = 1
            block.conv2.weight[centre] = 1
        model.head.weight[-1, 0] = 1
        model.head.bias[-1] = -200
    nn.save_model(model, path, metadata=metadata)


def test_labels_picture_and_measurements(tmp_path, scan):
    path, ball = scan
    write_model(tmp_path / "m.safetensors")
    out = tmp_path / "out.nii.gz"
    result = run("predict", path, "-o", out, "--model", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "unet, 2 classes" in result.stdout
    assert "label 1: " in result.stdout
    found = ms.io.read(out)
    assert (found.spacing, found.origin) == ((2.0, 1.0, 1.0), (5.0, 6.0, 7.0))
    np.testing.assert_array_equal(found.array, ball)
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["network"] == "unet"
    assert report["regions"][0]["voxels"] == ball.sum()
    with Image.open(tmp_path / "out.overlay.png") as picture:
        picture.load()


def test_every_option(tmp_path, scan):
    """Windows, mirroring, resampling and clipping change nothing that matters here."""
    path, ball = scan
    write_model(tmp_path / "m.safetensors", metadata={"normalise": "zscore", "window": 8})
    out = tmp_path / "out.nii"
    words = ["--window", "6,8,8", "--overlap", "0.25", "--mirror", "--clip", "0", "1"]
    words += ["--spacing", "1", "--spacing", "1", "--spacing", "1", "--threads", "1"]
    words += ["--no-overlay", "--no-measurements", "--probabilities", "--json"]
    # Intensities of 0 to 1: a limit of 200 is out of reach, so nothing is found.
    result = run("predict", path, "-o", out, "--model", tmp_path / "m.safetensors", *words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["regions"] == []
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "m.safetensors",
        "out.nii",
        "out.probabilities.nii",
        "scan.nii.gz",
    ]
    likely = ms.io.read(tmp_path / "out.probabilities.nii").array
    assert likely.shape == (*ball.shape, 2)
    np.testing.assert_allclose(likely.sum(-1), 1, rtol=1e-5)


def test_several_inputs_are_channels(tmp_path, scan):
    path, ball = scan
    other = ms.io.read(path)
    ms.io.write(tmp_path / "two.nii.gz", other.like(np.zeros_like(other.array)))
    write_model(tmp_path / "m.safetensors", channels=2)
    words = ["-o", tmp_path / "out.mha", "--model", tmp_path / "m.safetensors", "--no-overlay"]
    result = run("predict", path, tmp_path / "two.nii.gz", *words)
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(ms.io.read(tmp_path / "out.mha").array, ball)
    assert "needs 2 channels, the image has 1: give one INPUT for each" in error(
        run("predict", path, *words, "--force"), 1
    )
    ms.io.write(tmp_path / "moved.nii.gz", ms.io.Volume(other.array, (2.0, 1.0, 1.5)))
    assert "must lie where" in error(
        run("predict", path, tmp_path / "moved.nii.gz", *words, "--force"), 1
    )


def test_pictures(tmp_path, rng):
    """A grey picture, and a colour one of which the network sees the luminance or all channels."""
    grey = np.where(np.hypot(*np.indices((30, 40)) - 15) < 8, 250, 10).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([grey, grey, grey])).save(tmp_path / "colour.png")
    write_model(tmp_path / "one.safetensors", ndim=2, classes=1)
    write_model(tmp_path / "three.safetensors", ndim=2, channels=3)
    for image, model in (("grey", "one"), ("colour", "one"), ("colour", "three")):
        out = tmp_path / "out.png"
        words = ["-o", out, "--model", tmp_path / f"{model}.safetensors", "--force"]
        result = run("predict", tmp_path / f"{image}.png", *words)
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(ms.io.read(out).array != 0, grey > 200)


def test_mistakes(tmp_path, scan):
    path, _ = scan
    model = tmp_path / "m.safetensors"
    write_model(model)
    out = tmp_path / "out.nii.gz"
    assert "no such file" in error(run("predict", path, "-o", out, "--model", tmp_path / "no"), 1)
    model_is_output = run("predict", path, "-o", model, "--model", model, "--force")
    assert "is the input" in error(model_is_output, 1)
    words = ("predict", path, "-o", out, "--model", model)
    assert "exclude each other" in error(run(*words, "--zscore", "--clip", 0, 1), 2)
    assert "spacing must be 3 positive numbers" in error(run(*words, "--spacing", 1), 1)
    assert not out.exists()
    out.write_bytes(b"")
    assert "exists (--force replaces it)" in error(run(*words), 1)


def test_objects(tmp_path):
    """A detector's file: a label per object, its class, score and box in the report."""
    from medseg_fast.nn.mask_rcnn import mask_rcnn

    torch.manual_seed(0)
    options = {"min_size": 64, "max_size": 64, "box_score_thresh": 0.0, "box_nms_thresh": 0.01}
    model = mask_rcnn(2, 1, backbone="resnet18", **options)
    nn.save_model(model, tmp_path / "m.safetensors", metadata={"normalise": [0, 200]})
    image = np.zeros((40, 50), np.uint8)
    image[10:30, 12:33] = 200
    ms.io.write(tmp_path / "image.png", ms.io.Volume(image))
    words = ["predict", tmp_path / "image.png", "-o", tmp_path / "out.png"]
    words += ["--model", tmp_path / "m.safetensors", "--json"]
    result = run(*words, "--score", "0.01")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    expected = nn.instances(model, image, score=0.01, intensities=(0, 200))
    assert len(expected.scores) > 0
    assert report["network"] == "mask_rcnn"
    assert [each["label"] for each in report["objects"]] == list(range(1, len(expected.scores) + 1))
    np.testing.assert_allclose([e["score"] for e in report["objects"]], expected.scores, atol=1e-4)
    np.testing.assert_allclose(
        [e["box_xyxy"] for e in report["objects"]], expected.boxes, atol=0.01
    )
    np.testing.assert_array_equal(ms.io.read(tmp_path / "out.png").array, expected.labels)
    refused = run(*words, "--force", "--mirror", "--probabilities")
    assert "finds objects, which knows no mirroring or probabilities" in error(refused, 1)
