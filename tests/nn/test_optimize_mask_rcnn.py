"""Mask R-CNN as a plan: the model's detections, on its own and without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from _cli import error, run
from test_plan_files import joined, split

torch = pytest.importorskip("torch", reason="networks need the extra nn")

import medseg_fast as ms  # noqa: E402
from medseg_fast import nn  # noqa: E402
from medseg_fast.io import Volume  # noqa: E402
from medseg_fast.nn import _detection as det  # noqa: E402
from medseg_fast.nn._optimize import _regions as regions  # noqa: E402

SHAPE = (3, 50, 70)


def _model(**options):
    """Weights that propose and tell classes apart; fresh ones see background alone."""
    torch.manual_seed(0)
    small = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 40}
    small |= {"box_score_thresh": 0.2, "pyramid_width": 32, "box_width": 48, "width": 16}
    model = nn.mask_rcnn.mask_rcnn(4, backbone="resnet18", **{**small, **options}).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "box_predictor" in name or "rpn.head" in name:
                scale = 0.4 if "cls" in name else 0.1
                parameter.copy_(torch.randn(parameter.shape) * scale)
    return model


@pytest.fixture(scope="module")
def model():
    made = _model()
    made.metadata = {"normalise": [0, 255]}
    return made


@pytest.fixture(scope="module")
def plan(model):
    return nn.optimize(model, torch.zeros(SHAPE))


def _image(seed):
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))


def _same(found, expected):
    assert len(expected["boxes"]) > 5
    assert list(found) == list(expected)
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    for name in ("boxes", "scores", "masks"):
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_model(model, plan, seed):
    image = _image(seed)
    with torch.no_grad():
        (expected,) = model([image])
    (found,) = plan([image])
    assert all(isinstance(value, torch.Tensor) for value in found.values())
    _same(found, expected)
    (arrays,) = plan([image.numpy()])
    assert all(isinstance(value, np.ndarray) for value in arrays.values())
    for name, value in found.items():
        np.testing.assert_array_equal(arrays[name], value.numpy())


@pytest.mark.parametrize(
    "options",
    [
        {"min_size": 40, "max_size": 60, "in_channels": 1},  # smaller than the image
        {
            "scale": 1.0,
            "rpn_score_thresh": 0.4,
            "rpn_pre_nms_top_n_test": 30,
            "box_nms_thresh": 0.3,
            "bbox_reg_weights": (5, 5, 2, 2),
            "box_detections_per_img": 3,
        },
    ],
    ids=["smaller", "thresholds"],
)
def test_options(options):
    model = _model(**options)
    image = _image(9)[: model.in_channels]
    with torch.no_grad():
        (expected,) = model([image])
    first, second = nn.optimize(model, [image])([image, image])
    assert len(first["boxes"]) > 0
    np.testing.assert_array_equal(first["labels"], expected["labels"])
    np.testing.assert_allclose(first["boxes"], expected["boxes"], rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(first["masks"], second["masks"])  # no memory is shared


def test_any_number_of_threads(plan):
    image = _image(5)
    with ms.num_threads(1):
        one = plan([image])[0]
    with ms.num_threads(3):
        three = plan([image])[0]
    for name, value in one.items():
        np.testing.assert_array_equal(three[name], value)


@pytest.mark.parametrize("threshold", ["box_score_thresh", "rpn_score_thresh"])
def test_nothing_found(threshold):
    model = _model(**{threshold: 1.1})
    with torch.no_grad():
        (expected,) = model([_image(0)])
    (found,) = nn.optimize(model, torch.zeros(SHAPE))([_image(0)])
    for name, value in expected.items():
        assert (found[name].shape, found[name].dtype) == (value.shape, value.dtype)
        assert len(value) == 0


def test_bfloat16(model, plan):
    """The same objects, most of them: scores and boxes move by the maps' rounding."""
    narrow = nn.optimize(model, torch.zeros(SHAPE), precision="bfloat16")
    image = _image(1)
    expected, found = plan([image])[0], narrow([image])[0]
    overlap = det.overlaps(expected["boxes"][:5], found["boxes"]).max(1).values
    assert (overlap > 0.7).float().mean() >= 0.6
    assert narrow.precision == "bfloat16"
    assert narrow.peak_memory < plan.peak_memory


def test_report(plan):
    text = str(plan)
    assert "maps:" in text
    assert "no layer is left to torch" in text
    assert len(plan.steps) == sum(len(stage.steps) for stage in plan.stages.values())
    assert plan.weight_memory > 0
    assert plan.peak_memory > 0
    assert plan.input_shapes == [SHAPE]
    assert "(3, 50, 70)" in repr(plan)


def test_instances(model, plan, rng):
    image = rng.integers(0, 256, (*SHAPE[1:], 3), dtype=np.uint8)
    expected = nn.instances(model, image, score=0.2)
    found = nn.instances(plan, image, score=0.2)
    assert found.labels.max() > 3
    assert (found.labels == expected.labels).mean() > 0.999
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-4, atol=1e-2)
    with pytest.raises(ValueError, match="image must have the shape it was made for"):
        nn.instances(plan, image[1:])
    with pytest.raises(TypeError, match="instances"):
        nn.predict(plan, image)


def test_file(model, plan, tmp_path, rng):
    """Read and used where there is no torch, by the function and on the command line."""
    plan.save(tmp_path / "m.plan")
    image = rng.integers(0, 256, (*SHAPE[1:], 3), dtype=np.uint8)
    ms.io.write(tmp_path / "image.png", Volume(image, (1, 1), axes="yxc"))
    expected = nn.instances(plan, image)
    command = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, medseg_fast as ms\n"
        "from medseg_fast import nn\n"
        "from medseg_fast.cli import cli\n"
        "found = nn.instances(nn.load_plan('m.plan'), ms.io.read('image.png'))\n"
        "np.save('labels.npy', found.labels.array)\n"
        "words = ['predict', 'image.png', '--plan', 'm.plan', '-o', 'out.png']\n"
        "cli(words, standalone_mode=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "mask_rcnn, 4 classes" in done.stdout
    for found in (np.load(tmp_path / "labels.npy"), ms.io.read(tmp_path / "out.png").array):
        np.testing.assert_array_equal(found, expected.labels)
    loaded = nn.load_plan(tmp_path / "m.plan", threads=1)
    assert (loaded.network, loaded.metadata) == ("mask_rcnn", model.metadata)
    assert loaded.threads == 1


def test_mistakes(model, plan, tmp_path):
    with pytest.raises(ValueError, match=r"one image \(3, H, W\)"):
        nn.optimize(model, torch.zeros(1, 3, 50, 70))
    with pytest.raises(ValueError, match="one image"):
        nn.optimize(model, [torch.zeros(SHAPE), torch.zeros(SHAPE)])
    with pytest.raises(TypeError, match="float32"):
        nn.optimize(model, torch.zeros(SHAPE).double())
    with pytest.raises(ValueError, match="made for"):
        plan([torch.zeros(3, 40, 70)])
    with pytest.raises(TypeError, match="float32"):
        plan([np.zeros(SHAPE)])
    plan.save(tmp_path / "m.plan")
    wide = Volume(np.zeros((50, 71, 3), np.uint8), (1, 1), axes="yxc")
    ms.io.write(tmp_path / "image.png", wide)
    words = ("predict", tmp_path / "image.png", "--plan", tmp_path / "m.plan", "-o", "o.png")
    assert "must have the shape it was made for" in error(run(*words), 1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p["stages"]["boxes"].update(internal_inputs=[]),
        lambda p: p["stages"]["maps"].update(internal_outputs=[0, 1, 3]),
        lambda p: p["stages"]["masks"].update(inputs=[[20, 31, 14, 14]]),
        lambda p: p["stages"]["masks"].update(internal_outputs=[]),
        lambda p: p["detector"].update(classes=5),
        lambda p: p["detector"].update(mask_bias=p["detector"]["mask_weight"]),
    ],
)
def test_stages_that_do_not_fit(plan, tmp_path, damage):
    made = tmp_path / "m.plan"
    plan.save(made)
    header, parts, rest = split(made.read_bytes())
    damage(parts)
    made.write_bytes(joined(header, parts, rest))
    with pytest.raises(ValueError, match="is damaged: the stages of a detector must fit"):
        nn.load_plan(made)


# ---- what lies between the networks, beside torch's ------------------------------------------


def _random_boxes(rng, count=50):
    corner = rng.uniform(-20, 80, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0, 60, (count, 2))], 1).astype(np.float32)


def test_anchors():
    maps = [(13, 9), (7, 5)]
    found = regions.anchors(maps, (104, 72), (16, 33.5), (0.5, 1, 2))
    features = [torch.zeros(1, 1, *size) for size in maps]
    expected = det.anchors(features, (104, 72), (16, 33.5), (0.5, 1, 2))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs.numpy())


def test_boxes(rng):
    origins = _random_boxes(rng)
    offsets = rng.normal(0, 3, (50, 12)).astype(np.float32)
    weights = (10.0, 10.0, 5.0, 5.0)
    found = regions.decode(offsets, origins, weights)
    expected = det.decode(torch.from_numpy(offsets), torch.from_numpy(origins), weights)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-4)
    clipped = regions.clip(found, (40, 60))
    np.testing.assert_array_equal(clipped, det.clip(torch.from_numpy(found), (40, 60)))
    flat = clipped.reshape(-1, 4)
    np.testing.assert_array_equal(
        regions.large(flat, 1e-2), det.large(torch.from_numpy(flat), 1e-2)
    )
    np.testing.assert_array_equal(
        regions.resize(flat, (40, 60), (101, 37)),
        det.resize(torch.from_numpy(flat), (40, 60), (101, 37)),
    )


@pytest.mark.parametrize("count", [1, 5, 49, 50, 80])
def test_largest(rng, count):
    scores = rng.integers(0, 9, 50).astype(np.float32)  # many are equal
    expected = np.argsort(-scores, kind="stable")[:count]
    np.testing.assert_array_equal(regions.largest(scores, count), expected)
