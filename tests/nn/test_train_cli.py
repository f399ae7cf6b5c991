"""`medseg-fast train`: from a TOML file and folders to a model, and what it says of mistakes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from _cli import Image, error
from _cli import run as _run

torch = pytest.importorskip("torch", reason="networks need the extra nn")
pytest.importorskip("safetensors", reason="model files need the extra nn")
# ruff: noqa: E402

import medseg_fast as ms
from medseg_fast import nn
from medseg_fast.nn._training import config, dataset
from medseg_fast.nn._training.instances import objects


def run(command, *args):
    """With one thread: these networks are too small to share out."""
    return _run(command, *args, "--threads", 1)


CONFIG = """
[data]
images = "images"
labels = "masks"
target = "{target}"
test = ["5*"]
folds = 2

[network]
name = "unet"
widths = [4, 8]
padding = "same"
norm = "batch"

[training]
steps = 30
batch = 2
patch = 24
rate = 0.01
every = 15
"""


@pytest.fixture
def folder(tmp_path, rng):
    """Six pictures of two disks that touch, one of them grey, and masks of 0 and 255."""
    for name in ("images", "masks", "objects"):
        (tmp_path / name).mkdir()
    grid = np.indices((32, 40))
    for number in range(6):
        centres = np.array([[12 + number, 12], [12 + number, 25]])
        parts = [np.hypot(*(grid - c[:, None, None])) < 7 for c in centres]
        label = (parts[0] + 2 * parts[1]).astype(np.uint8)
        image = (150 * (label != 0) + rng.integers(0, 60, label.shape)).astype(np.uint8)
        if number:
            image = np.dstack([image] * 3)
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
        Image.fromarray(((label != 0) * 255).astype(np.uint8)).save(
            tmp_path / "masks" / f"{number}.png"
        )
        Image.fromarray(label).save(tmp_path / "objects" / f"{number}.png")
    (tmp_path / "disks.toml").write_text(CONFIG.format(target="mask"))
    return tmp_path


def test_trains_and_goes_on(folder):
    result = run("train", folder / "disks.toml", "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["steps"] == 30
    assert report["validation"] > 0.8
    assert report["test"]["mean"]["dice"] > 0.8
    assert list(report["test"]["cases"]) == ["5"]
    out = folder / "disks"
    assert {"checkpoint.pt", "log.csv", "model.safetensors", "report.json"} <= {
        path.name for path in out.iterdir()
    }
    model = nn.load_model(out / "model.safetensors")
    assert model.metadata == {"normalise": "zscore", "window": 24, "target": "mask"}
    # What the model's file says is enough to predict as in training.
    scan = ms.io.read(folder / "images" / "5.png")
    truth = ms.io.read(folder / "masks" / "5.png").array != 0
    dice = ms.dice(nn.predict(model, scan).array, truth)
    assert round(dice, 6) == report["test"]["mean"]["dice"]

    again = run("train", folder / "disks.toml")  # there is nothing left to do
    assert again.exit_code == 0, again.output
    assert "4 cases to learn from, 1 to validate, 1 to test" in again.stderr
    assert "30 steps, validation" in again.stdout
    line = error(run("train", folder / "disks.toml", "--seed", 1, "--json"), 1)
    assert "is of a run with training.seed=0, this one has 1" in line


def test_objects_that_touch(folder):
    text = CONFIG.format(target="instances").replace('"masks"', '"objects"')
    text = text.replace("steps = 30", "steps = 120").replace("every = 15", "every = 120")
    (folder / "disks.toml").write_text(text + "\n[loss]\ncross_entropy = 1\njaccard = 0.5\n")
    result = run("train", folder / "disks.toml", "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["classes"] == 3
    assert report["test"]["mean"]["ap50"] == 1


@pytest.mark.parametrize("name", ["mask_rcnn", "lenet5"])
def test_networks_that_do_not_label_pixels(folder, name):
    """Objects by Mask R-CNN; pixels by the patches around them. Files say how to predict."""
    text = CONFIG.format(target="objects" if name == "mask_rcnn" else "mask")
    text = text.replace("steps = 30", "steps = 3").replace("every = 15", "every = 3")
    network = f'name = "{name}"\n'
    if name == "mask_rcnn":
        text = text.replace('"masks"', '"objects"')
        network += 'backbone = "resnet18"\nwidth = 4\npyramid_width = 8\nbox_width = 8\n'
        network += "scale = 1.5\nbox_score_thresh = 0.01\n"
    else:
        text = text.replace("patch = 24", "patch = 32")
    start, end = text.index("name ="), text.index("[training]")
    path = folder / "other.toml"
    path.write_text(text[:start] + network + text[end:].replace('norm = "batch"\n', ""))
    result = run("train", path, "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert ("ap50" in report["test"]["mean"]) == (name == "mask_rcnn")
    model = nn.load_model(folder / "other" / "model.safetensors")
    assert model.metadata["normalise"] == "zscore"
    assert "window" not in model.metadata
    out = folder / "found.png"
    words = ["--model", folder / "other" / "model.safetensors", "-o", out, "--no-overlay"]
    result = run("predict", folder / "images" / "5.png", *words)
    assert result.exit_code == 0, result.output
    assert ms.io.read(out).array.shape == (32, 40)


def test_folds_and_volumes(tmp_path, rng):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(4):
        label = np.zeros((6, 12, 12), np.uint8)
        label[1:4, 2:8, 3:9] = 1
        image = label * 3 + rng.normal(0, 1, label.shape).astype(np.float32)
        for name, array in (("images", image), ("labels", label)):
            volume = ms.io.Volume(array, (2.0, 1.0, 1.0))
            ms.io.write(tmp_path / name / f"p{number // 2}_{number}.nii.gz", volume)
    (tmp_path / "c.toml").write_text(
        '[data]\nimages = "images"\nlabels = "labels"\nspacing = [1, 1, 1]\nfolds = 2\n'
        'patient = "p(.)_"\n[network]\nwidths = [2, 4]\npadding = "same"\n'
        '[training]\nsteps = 2\npatch = 8\npretrain_steps = 2\nfreeze = ["encoder.0.*"]\n'
        '[rates]\n"head.*" = 2\n'
    )
    result = run("train", tmp_path / "c.toml", "--fold", "all", "--json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    reports = json.loads(result.stdout)
    held = [report["cases"]["validation"] for report in reports]
    assert sorted(held) == [["p0_0", "p0_1"], ["p1_2", "p1_3"]]
    model = nn.load_model(tmp_path / "out" / "fold_1" / "model.safetensors")
    assert (model.ndim, model.metadata["spacing"], model.metadata["unit"]) == (3, [1, 1, 1], "mm")
    start = tmp_path / "out" / "fold_0" / "model.safetensors"
    text = (tmp_path / "c.toml").read_text().replace("[rates]", f'start = "{start}"\n[rates]')
    (tmp_path / "d.toml").write_text(text)
    result = run("train", tmp_path / "d.toml", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert "1 steps" in result.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("[training]", "[trainig]"),
            "[trainig] is not a table; perhaps 'training'? Allowed: data",
        ),
        (("steps", "stepz"), "training.stepz is not a key; perhaps 'steps'? Allowed: steps"),
        (("steps = 30", "steps = 0"), "training.steps must be a whole number from 1, got 0"),
        (("steps = 30\n", ""), "one of training.steps and training.epochs must be given"),
        (("rate = 0.01", "rate = -1"), "training.rate must be a number above 0, got -1"),
        (("rate = 0.01", "rate = nan"), "training.rate must be a number above 0, got nan"),
        (('target = "mask"', 'target = "box"'), 'must be one of "classes", "mask", "instances"'),
        (('images = "images"\n', ""), "data.images is missing: a folder"),
        (('test = ["5*"]', 'test = ["9*"]'), "data.test: no case is called '9*'"),
        (('test = ["5*"]', 'exclude = ["9*"]'), "data.exclude: no case is called '9*'"),
        (('"mask"', '"objects"'), 'data.target must be "objects" for mask_rcnn, and for it alone'),
        (('test = ["5*"]', 'patient = "("'), "data.patient must be a regular expression"),
        (
            ('test = ["5*"]', "normalise = [3, 1]"),
            'data.normalise must be "zscore", "robust", "none" or',
        ),
        (("patch = 24", "patch = [1, 2.5]"), "training.patch must be a whole number from 1, or a"),
        (('name = "unet"', 'name = "u-net"'), "network.name must be one of"),
        (('norm = "batch"', 'nrom = "batch"'), "network.nrom is not a key; unet takes in_channels"),
        (("[network]", '[rates]\n"head" = "x"\n[network]'), 'rates."head" must be a number from 0'),
        (("[network]", "[loss]\ndice = 0\n[network]"), "loss.dice must be a weight"),
        (("[network]", "network"), "not TOML"),
    ],
)
def test_mistakes(folder, change, words):
    path = folder / "disks.toml"
    path.write_text(path.read_text().replace(*change))
    assert words in error(run("train", path, "--json"), 1)
    assert not (folder / "disks").exists()


def test_more_mistakes(folder):
    path = folder / "disks.toml"
    assert "No such file" in error(run("train", folder / "no.toml", "--json"), 1)
    assert "--fold must be from 0 to 1, or all" in error(run("train", path, "--fold", 2), 1)
    assert "--device must be cpu" in error(run("train", path, "--device", "tpu!", "--json"), 1)
    path.write_text(path.read_text().replace("folds = 2\n", ""))
    assert "data.folds is missing" in error(run("train", path, "--fold", 0), 1)


def test_pixels_for_millimetres_and_augmentation(folder):
    """Pictures without geometry at half their size; one case of three to learn from."""
    path = folder / "disks.toml"
    text = path.read_text().replace(
        "[network]", 'spacing = [2, 2]\nunit = "pixel"\nkeep = 0.3\nexclude = ["0"]\n[network]'
    )
    path.write_text(text.replace("patch = 24", "patch = 16") + "\n[augment]\nstandard = true\n")
    result = run("train", path, "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert len(report["cases"]["train"]) == 1
    assert not any("0" in names for names in report["cases"].values())
    model = nn.load_model(folder / "disks" / "model.safetensors")
    assert nn.predict(model, ms.io.read(folder / "images" / "5.png")).array.shape == (32, 40)
    path.write_text(text + "\n[augment]\nrotatoin = 3\n")
    assert "augment: " in error(run("train", path, "--json", "-o", folder / "other"), 1)
    assert "rotatoin" in error(run("train", path, "--json", "-o", folder / "other"), 1)


def test_text_is_read_back():
    tables = {
        "data": {"images": 'a "b" \\ c\n', "labels": "é", "normalise": [-1.0, 2.5]},
        "rates": {"encoder.*": 0.25, "plain": 1},
        "training": {"steps": 5, "rate": 1e-7, "clip": None},
        "predict": {"mirror": True},
        "augment": {"probability": {"noise": 0.5, "bias": 1}, "standard": False},
    }
    text = config.text(tables, {"data.labels": "why"}, "head\n\nmore")
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    del tables["training"]["clip"]
    assert tomllib.loads(text) == tables
    assert text.startswith("# head\n#\n# more\n")
    assert 'labels = "é"  # why' in text


def test_recipes_are_read_back():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    for name, path in config.recipes().items():
        read = config.read(path)
        assert config.checked(name, tomllib.loads(config.text(read.tables, {}))) == read.tables


def test_recipes(folder):
    """Each says what to type, and is found by its name."""
    assert set(config.recipes()) >= {"mr_hippocampus", "nuclei_dsb2018"}
    for name, path in config.recipes().items():
        config.read(path)
        assert f"medseg-fast train {name} --data" in path.read_text()
    line = error(run("train", "mr_hippocampos"), 1)
    assert "mr_hippocampos: no such file; recipes are" in line
    words = ["--data", folder, "-o", folder / "out", "--steps", 1]
    line = error(run("train", "nuclei_dsb2018", *words, "--json"), 1)
    assert str(folder / "labels") in line
    (folder / "moved").mkdir()
    (folder / "disks.toml").rename(folder / "moved" / "disks.toml")
    result = run("train", folder / "moved" / "disks.toml", *words)
    assert result.exit_code == 0, result.output
    assert (folder / "out" / "model.safetensors").exists()


def test_a_folder_for_each_channel(tmp_path):
    for folder in ("t1", "t2", "truth"):
        (tmp_path / folder).mkdir()
        for name in ("b", "a"):
            (tmp_path / folder / f"{name}.png").touch()
    one, two = dataset.pairs([tmp_path / "t1", tmp_path / "t2"], tmp_path / "truth")
    assert (one.name, two.name) == ("a", "b")
    assert one.images == (tmp_path / "t1" / "a.png", tmp_path / "t2" / "a.png")
    assert two.mask == tmp_path / "truth" / "b.png"
    (tmp_path / "t2" / "a.png").unlink()
    with pytest.raises(ValueError, match="masks without an image: a"):
        dataset.pairs([tmp_path / "t1", tmp_path / "t2"], tmp_path / "truth")


def test_targets(rng):
    truth = np.zeros((20, 30), np.uint16)
    truth[2:12, 2:12], truth[2:12, 12:22], truth[15:17, 3:9] = 700, 3, 9
    assert (dataset.target(truth, "classes") == truth).all()
    assert (dataset.target(truth, "mask") == (truth != 0)).all()
    assert (dataset.target(truth, "objects") == truth).all()
    partly = truth.astype(np.int16)
    partly[0] = -1  # not labelled
    for kind in config.TARGETS:
        label = dataset.target(partly, kind)
        assert (label[0] == -100).all()
        assert (label[1:] == dataset.target(truth, kind)[1:]).all()
    parts = dataset.target(truth, "instances")
    assert ((parts != 0) == (truth != 0)).all()
    assert (parts[2:12, 10:14] == 2).all()  # where they touch
    assert (parts[:, :10] <= 1).all()
    assert (parts[:, 14:] <= 1).all()
    truth[14, 9:11] = 5  # too small for a seam of two pixels: it has one of one
    assert dataset.target(truth, "instances")[14, 9:11].tolist() == [2, 1]
    truth[14] = 0
    likely = np.eye(3, dtype=np.float32)[parts]
    found = objects(likely)
    assert ms.metrics.instance_average_precision(found, truth).at(0.95) == 1
    assert objects(np.eye(3)[np.zeros((4, 4), int)]).max() == 0


@pytest.mark.parametrize(
    ("side", "likely", "stays"), [(7, 0.9, True), (7, 0.7, False), (6, 1, False)]
)
def test_debris_is_no_object(side, likely, stays):
    """What the network doubts, and what is far smaller than the others (6 x 6 of 20 x 20)."""
    inside = np.zeros((40, 70))
    inside[5:25, 5:25] = inside[5:25, 30:50] = 1
    inside[30 : 30 + side, 55 : 55 + side] = likely
    found = objects(np.stack([1 - inside, inside, 0 * inside], -1), least=4)
    assert (found[30, 55] > 0) == stays
    assert found.max() == 2 + stays
    assert set(np.unique(found)) == set(range(3 + stays))


def test_normalised_as_predict_does(rng):
    image = rng.integers(0, 200, (9, 8, 2)).astype(np.uint8)
    pixels = dataset.intensities(image, "zscore")
    np.testing.assert_allclose(pixels.mean((1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(pixels.std((1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(
        dataset.intensities(image, [50, 150])[0], (image[..., 0].clip(50, 150) - 50.0) / 100
    )
    wild = image.copy()
    wild[0, 0] = 255
    np.testing.assert_allclose(dataset.intensities(wild, "robust").std((1, 2)), 1, rtol=1e-5)
    seen = []

    def network(x):
        seen.append(x.numpy())
        return x

    network.ndim, network.in_channels = 2, 2
    nn.predict(network, image, normalise="zscore", window=32)
    np.testing.assert_allclose(seen[0][0, :, :9, :8], pixels, atol=1e-6)


def test_another_configuration_does_not_go_on(folder):
    path = folder / "disks.toml"
    text = path.read_text().replace("steps = 30", "steps = 2") + "\n[loss]\ncross_entropy = 5\n"
    path.write_text(text)
    assert run("train", path, "--json").exit_code == 0
    model = folder / "disks" / "model.safetensors"
    before = model.read_bytes()
    for old, new, words in (
        ("[network]", 'normalise = "none"\n[network]', "data.normalise='zscore', this one has 'n"),
        ("[network]", "validation = 0.4\n[network]", "data.validation=0.2, this one has 0.4"),
        ("cross_entropy = 5", "cross_entropy = 1", "loss.cross_entropy=5, this one has 1"),
        ('norm = "batch"', 'norm = "group"', "network.norm='batch', this one has 'group'"),
        ("[loss]", "[augment]\nnoise = 0.1\n[loss]", "augment.noise=None, this one has 0.1"),
    ):
        path.write_text(text.replace(old, new))
        line = error(run("train", path, "--json"), 1)
        assert f"checkpoint.pt is of a run with {words}" in line
        assert "--restart" in line
        assert "resume" not in line
        assert model.read_bytes() == before
    path.write_text(text + "[predict]\noverlap = 0\n")  # decides nothing that was learnt
    assert run("train", path, "--json").exit_code == 0
    path.write_text(text.replace('norm = "batch"', 'norm = "group"'))
    assert run("train", path, "--json", "--restart").exit_code == 0
    (folder / "disks" / "run.json").unlink()
    assert "of unknown configuration" in error(run("train", path, "--json"), 1)


def test_epochs(folder):
    path = folder / "disks.toml"
    path.write_text(path.read_text().replace("steps = 30", "epochs = 2").replace("every = 15", ""))
    result = run("train", path, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[0]["steps"] == 4  # four cases, two a batch


def structured(folder):
    """A configuration whose loss is the structured one."""
    path = folder / "disks.toml"
    path.write_text(path.read_text() + "\n[loss]\nstructured = 1\n")
    return path


def test_structured_prediction(folder):
    """Votes of patches make the mask that is validated, tested, saved and predicted."""
    result = run("train", structured(folder), "--json")
    assert result.exit_code == 0, result.output
    (report,) = json.loads(result.stdout)
    assert report["classes"] == 1
    assert report["validation"] > 0.8
    assert set(report["test"]["mean"]) == {"dice", "jaccard", "iou"}
    file = folder / "disks" / "model.safetensors"
    model = nn.load_model(file)
    assert (model.classes, model.metadata["structured"]) == (9, 3)
    scan = ms.io.read(folder / "images" / "5.png")
    truth = ms.io.read(folder / "masks" / "5.png").array != 0
    found = nn.predict(model, scan).array
    assert set(np.unique(found)) == {0, 1}
    assert round(ms.dice(found, truth), 6) == report["test"]["mean"]["dice"] > 0.8
    # The votes of whole windows are those of the loss; a plan has them, too.
    x = torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        votes = nn.StructuredLoss().votes(model(x))[0, 0].numpy()
    options = {"normalise": "none", "output": "probabilities"}
    image = x[0].movedim(0, -1).numpy()
    np.testing.assert_allclose(nn.predict(model, image, **options)[..., 0], votes, atol=1e-5)
    plan = nn.optimize(model, x)
    np.testing.assert_allclose(nn.predict(plan, image, **options)[..., 0], votes, atol=1e-4)
    one, other = (nn.predict(model, x, mirror=(0,), **options) for x in (image, image[::-1]))
    np.testing.assert_allclose(one, other[::-1], atol=1e-5)
    out = folder / "found.nii.gz"
    result = run("predict", folder / "images" / "5.png", "--model", file, "-o", out)
    assert result.exit_code == 0, result.output
    assert "unet, 1 classes" in result.stdout
    with pytest.raises(ValueError, match="networks must label voxels, not patches"):
        nn.Ensemble([model, model])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("[training]", "classes = 4\n[training]"),
            "network.classes must be 9 for loss",
        ),
        (("structured = 1", "structured = 1\ndice = 1"), "loss.structured must be the only loss"),
        (('"mask"', '"classes"'), 'data.target must be "mask" for loss.structured'),
        (('"unet"\nwidths = [4, 8]\npadding = "same"\nnorm = "batch"', '"lenet5"'), "for lenet5"),
    ],
)
def test_mistakes_of_structured_prediction(folder, change, words):
    path = structured(folder)
    path.write_text(path.read_text().replace(*change))
    assert words in error(run("train", path, "--json"), 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("widths = [4, 8]", 'widths = "a"'), "network.widths: unet: widths[0] must be an integer"),
        (("widths = [4, 8]", "widths = 4"), "network.widths"),
        (('norm = "batch"', 'norm = "b"'), "network.norm: unet: norm must be one of"),
        (("[network]", "[augment]\nflip = [2]\n[network]"), "augment: Augmenter: flip must name"),
        (("patch = 24", "patch = [16, 16, 16]"), "training.patch must be one number or 2, got [16"),
        (("patch = 24", 'patch = 24\nfreeze = ["x.*"]'), "training.freeze: no parameter is called"),
        (("[network]", '[rates]\n"x.*" = 2\n[network]'), "rates: no parameter is called 'x.*'"),
        (
            ('test = ["5*"]', 'test = ["5*"]\nvalidation = 0\n'),
            "training.patience needs data.validation",
        ),
        (
            ("[network]", "[predict]\nmirror = [0, 5]\n[network]"),
            "predict.mirror must be axes",
        ),
        (('"masks"', '"images"'), "data.labels must not be a folder of data.images"),
        (('"mask"', '"classes"'), 'data.target must be "mask" for labels of 0 and 255'),
    ],
)
def test_mistakes_that_only_the_images_show(folder, change, words):
    """All name the file and the key, before anything is trained or written."""
    path = folder / "disks.toml"
    path.write_text(path.read_text().replace("every = 15", "patience = 3").replace(*change))
    line = error(run("train", path, "--json"), 1)
    assert f"disks.toml: {words}" in line
    assert not (folder / "disks").exists()


def test_labels_that_are_no_classes(folder, rng):
    for number in range(6):
        noise = rng.integers(0, 256, (32, 40)).astype(np.uint8)
        Image.fromarray(noise).save(folder / "masks" / f"{number}.png")
    path = folder / "disks.toml"
    path.write_text(path.read_text().replace('"mask"', '"classes"'))
    line = error(run("train", path, "--json"), 1)
    assert "data.labels must be a folder of classes, got 256 values" in line


def test_folds_and_devices_that_are_not_there(folder):
    path = folder / "disks.toml"
    assert "--device: cuda:99 is not there" in error(run("train", path, "--device", "cuda:99"), 1)
    assert "--device must be cpu, cuda" in error(run("train", path, "--device", "meta"), 1)
    path.write_text(path.read_text().replace("folds = 2", "folds = 30"))
    line = error(run("train", path, "--fold", 0, "--json"), 1)
    assert "disks.toml: data.folds: folds: count must be from 2 to 5, got 30" in line
