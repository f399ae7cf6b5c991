"""`nn.predict` and `medseg-fast predict` by plans: what the modules give, without torch."""

import json
import subprocess
import sys

import numpy as np
import pytest
from _cli import error, run

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import small  # noqa: E402

import medseg_fast as ms  # noqa: E402
from medseg_fast import nn  # noqa: E402
from medseg_fast.io import Volume  # noqa: E402


def _pair(name, window, batch=1):
    """A small network, and its plan for windows of this size."""
    model, _ = small(name)
    return model.eval(), nn.optimize(model, torch.zeros(batch, 1, *window))


def assert_same(found, expected):
    """Probabilities, and the labels where they are clear."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "batch"),
    [
        ({}, 1),
        ({"overlap": 0.3, "blend": "constant"}, 2),
        ({"mirror": (0, 1)}, 1),
        ({"normalise": "zscore"}, 4),
        ({"normalise": (-1, 1), "batch": 3}, 2),
    ],
)
@pytest.mark.parametrize("shape", [(40, 29), (29, 64), (16, 16)])
def test_windows(options, batch, shape, rng):
    model, plan = _pair("unet", (16, 12), batch)
    image = rng.normal(size=shape)
    arguments = {"output": "probabilities", **options}
    found = nn.predict(plan, image, **arguments)
    assert_same(found, nn.predict(model, image, window=(16, 12), **arguments))
    labels = nn.predict(plan, image, **options)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, found.argmax(-1))
    np.testing.assert_array_equal(labels, nn.predict(plan, image, window=(16, 12), **options))


def test_images_smaller_than_the_window_are_mirrored(rng):
    model, plan = _pair("unet", (32, 32))
    image = rng.normal(size=(20, 45))
    padded = np.pad(image, ((0, 12), (0, 0)), mode="reflect")
    found = nn.predict(plan, image, output="probabilities")
    expected = nn.predict(model, padded, window=32, output="probabilities")[:20]
    # Both see the same windows; the rows beyond the image have other weights, of which none counts.
    assert_same(found[:, :19], expected[:, :19])


def test_networks_without_padding(rng):
    """Windows lose a margin, which lies beyond the image at its border."""
    model, plan = _pair("unet valid", (52, 60))
    image = rng.normal(size=(61, 40))
    arguments = {"output": "probabilities", "blend": "constant"}
    # The module's window shrinks to the image; the plan's cannot.
    wide = rng.normal(size=(61, 70))
    assert_same(
        nn.predict(plan, wide, **arguments), nn.predict(model, wide, window=(52, 60), **arguments)
    )
    assert nn.predict(plan, image).shape == image.shape


def test_volumes(rng):
    model, plan = _pair("unet 3D", (4, 8, 6))
    scan = Volume(rng.normal(size=(9, 10, 13)), (3.0, 1.0, 1.5), (1.0, 2.0, 3.0))
    found = nn.predict(plan, scan, output="probabilities")
    assert (found.spacing, found.origin, found.axes) == (scan.spacing, scan.origin, "zyxc")
    expected = nn.predict(model, scan, window=(4, 8, 6), output="probabilities")
    assert_same(found.array, expected.array)
    finer = {"spacing": (2.0, 1.0, 1.0), "output": "probabilities"}
    assert_same(
        nn.predict(plan, scan, **finer).array,
        nn.predict(model, scan, window=(4, 8, 6), **finer).array,
    )
    model, plan = _pair("unet", (8, 12))  # plane by plane
    assert_same(
        nn.predict(plan, scan, output="probabilities").array,
        nn.predict(model, scan, window=(8, 12), output="probabilities").array,
    )


def test_other_results(rng):
    """Tuples and dicts; one class."""

    class Several(torch.nn.Module):
        def __init__(self, kind):
            super().__init__()
            self.kind, self.conv = kind, torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x):
            y = self.conv(x)
            return {"out": y, "aux": y + 1} if self.kind == "dict" else (y, y + 1)

    image = rng.normal(size=(11, 9))
    for kind in ("dict", "tuple"):
        model = Several(kind).eval()
        plan = nn.optimize(model, torch.zeros(1, 1, 11, 9))
        with torch.no_grad():
            x = torch.from_numpy(image).float()[None, None]
            logits = next(iter(model(x).values())) if kind == "dict" else model(x)[0]
        np.testing.assert_array_equal(nn.predict(plan, image), (logits[0, 0] > 0).numpy())
        found = nn.predict(plan, image, output="probabilities")
        assert_same(found[..., 0], logits[0, 0].sigmoid().numpy())


def test_metadata_go_with_the_plan(tmp_path, rng):
    model, _ = small("unet")
    model.metadata = {"normalise": [100, 900], "window": [16, 16]}
    image = rng.integers(0, 1000, (24, 30)).astype(np.int16)
    nn.optimize(model, torch.zeros(1, 1, 16, 16)).save(tmp_path / "plan")
    plan = nn.load_plan(tmp_path / "plan")
    assert plan.metadata == model.metadata
    assert plan.network == "unet"
    np.testing.assert_array_equal(nn.predict(plan, image), nn.predict(model, image))
    model.metadata = {"what": object()}
    with pytest.raises(TypeError, match="optimize: model's metadata must fit into JSON"):
        nn.optimize(model, torch.zeros(1, 1, 16, 16))


def test_mistakes():
    _, plan = _pair("unet", (16, 12))
    image = np.zeros((20, 20))
    with pytest.raises(ValueError, match=r"predict: window must be the one that the plan was made"):
        nn.predict(plan, image, window=16)
    with pytest.raises(ValueError, match=r"predict: volume must have shape \(\[D,\] H, W\)"):
        nn.predict(plan, np.zeros((4, 20, 20, 1)))
    with pytest.raises(ValueError, match="predict: model must return logits of each pixel"):
        nn.predict(nn.optimize(nn.lenet5().eval(), torch.zeros(1, 1, 32, 32)), image)
    two = nn.optimize(torch.nn.Bilinear(2, 2, 2), (torch.zeros(1, 2), torch.zeros(1, 2)))
    with pytest.raises(ValueError, match="predict: model must be a plan of one image"):
        nn.predict(two, image)


@pytest.fixture
def files(tmp_path, rng):
    """A scan, a model, and its plan."""
    scan = Volume(rng.normal(size=(7, 20, 24)).astype(np.float32), (2.0, 1.0, 1.0))
    ms.io.write(tmp_path / "scan.nii.gz", scan)
    torch.manual_seed(0)
    model = nn.unet(1, 3, ndim=3, widths=(3, 4), padding="same").eval()
    model.metadata = {"normalise": "zscore", "window": [4, 8, 12]}
    nn.save_model(model, tmp_path / "m.safetensors")
    nn.optimize(model, torch.zeros(1, 1, 4, 8, 12)).save(tmp_path / "m.plan")
    return tmp_path


def test_command_line(files):
    words = ["predict", files / "scan.nii.gz", "--json", "--probabilities", "--mirror"]
    reports = []
    for kind, name in (("--model", "m.safetensors"), ("--plan", "m.plan")):
        result = run(*words, "-o", files / f"{kind[2:]}.nii", kind, files / name)
        assert result.exit_code == 0, result.output
        reports.append(json.loads(result.stdout))
    by_model, by_plan = reports
    for key in ("network", "classes", "image"):
        assert by_model[key] == by_plan[key]
    likely = [ms.io.read(files / f"{kind}.probabilities.nii").array for kind in ("model", "plan")]
    assert_same(*likely)
    labels = ms.io.read(files / "plan.nii")
    assert labels.spacing == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(labels.array, likely[1].argmax(-1))


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # as if it were not installed
from medseg_fast.cli import cli
cli(sys.argv[1:], standalone_mode=False)
"""


def test_no_torch_is_needed(files):
    words = ["predict", "scan.nii.gz", "--plan", "m.plan", "-o"]
    command = [sys.executable, "-c", _WITHOUT_TORCH, *words, "without.nii"]
    done = subprocess.run(command, cwd=files, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "unet, 3 classes" in done.stdout
    result = run(
        "predict", files / "scan.nii.gz", "--plan", files / "m.plan", "-o", files / "w.nii"
    )
    assert result.exit_code == 0, result.output
    found, expected = (ms.io.read(files / name).array for name in ("without.nii", "w.nii"))
    np.testing.assert_array_equal(found, expected)


def test_mistakes_on_the_command_line(files):
    words = ("predict", files / "scan.nii.gz", "-o", files / "out.nii")
    plan = ("--plan", files / "m.plan")
    assert "One of --model and --plan must be given" in error(run(*words), 2)
    both = run(*words, *plan, "--model", files / "m.safetensors")
    assert "One of --model and --plan must be given" in error(both, 2)
    assert "no such file" in error(run(*words, "--plan", files / "none"), 1)
    no_plan = run(*words, "--plan", files / "m.safetensors")
    assert "must name a saved plan" in error(no_plan, 1)
    assert "finds no objects" in error(run(*words, *plan, "--score", "0.5"), 1)
    assert "window must be the one that the plan" in error(run(*words, *plan, "--window", 8), 1)
    is_output = run("predict", words[1], *plan, "-o", files / "m.plan", "--force")
    assert "is the input" in error(is_output, 1)
