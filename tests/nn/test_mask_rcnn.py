"""Mask R-CNN: torchvision's keys, detections and losses, and our own with slow twins inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medseg_fast.reference import nn_nms, nn_paste_masks, nn_roi_align

torch = pytest.importorskip("torch")
mask_rcnn = pytest.importorskip("medseg_fast.nn.mask_rcnn")
det = pytest.importorskip("medseg_fast.nn._detection")

# What torchvision 0.29.1 has: its model's state_dict, a key and its shape a line.
KEYS = Path(__file__).with_name("maskrcnn_resnet50_fpn_keys.txt")
SMALL = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 20}


def lively(model):
    """Weights that propose and tell classes apart; fresh ones see background alone."""
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "box_predictor" in name or "rpn.head" in name:
                scale = 0.05 if "cls" in name else 0.02
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * scale)
    return model


def images(*shapes, dtype=torch.float32):
    rng = torch.Generator().manual_seed(2)
    return [torch.rand(3, *shape, generator=rng).to(dtype) for shape in shapes]


def targets(pictures):
    boxes = torch.tensor([[5.0, 10, 45, 60], [25, 30, 75, 75]])
    found = []
    for picture in pictures:
        masks = torch.zeros(2, *picture.shape[1:], dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        found.append({"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks})
    return found


def test_keys_and_shapes_are_torchvisions():
    state = mask_rcnn.maskrcnn_resnet50_fpn().state_dict()
    recorded = [line.partition(" ")[::2] for line in KEYS.read_text().splitlines()]
    assert [key for key, _ in recorded] == list(state)
    for key, shape in recorded:
        assert "x".join(map(str, state[key].shape)) == shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_torchvision(dtype):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    make = torchvision.models.detection.maskrcnn_resnet50_fpn
    sizes = {"min_size": 160, "max_size": 256}
    theirs = make(weights=None, weights_backbone=None, num_classes=5, **sizes)
    lively(theirs).eval().to(dtype)
    ours = mask_rcnn.maskrcnn_resnet50_fpn(num_classes=5, **sizes).eval().to(dtype)
    ours.load_state_dict(theirs.state_dict())
    # Features of 50 layers in float32, in pixels.
    close = 2e-3 if dtype == torch.float32 else 1e-9
    pictures = images((90, 130), (128, 101), dtype=dtype)
    with torch.no_grad():
        for got, expected in zip(ours(pictures), theirs(pictures), strict=True):
            assert len(expected["boxes"]) > 5
            # Scores near 1 are equal but for a rounding, which decides the order among them.
            order = torch.cdist(got["boxes"], expected["boxes"]).argmin(1)
            assert order.unique().tolist() == list(range(len(order)))
            assert (expected["scores"][order] - expected["scores"]).abs().max() < 1e-6
            assert torch.equal(got["labels"], expected["labels"][order])
            for key in ("boxes", "scores", "masks"):
                assert got[key].dtype == expected[key].dtype
                torch.testing.assert_close(got[key], expected[key][order], rtol=1e-4, atol=close)


def test_losses_equal_torchvisions():
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    make = torchvision.models.detection.maskrcnn_resnet50_fpn
    sizes = {"min_size": (96, 128), "max_size": 256}
    theirs = lively(make(weights=None, weights_backbone=None, num_classes=5, **sizes))
    ours = mask_rcnn.maskrcnn_resnet50_fpn(num_classes=5, **sizes)
    ours.load_state_dict(theirs.state_dict())
    pictures = images((90, 130), (100, 100))
    losses = []
    for model in (ours, theirs):
        torch.manual_seed(3)
        losses.append(model(pictures, targets(pictures)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


class _Slow:
    """The operations of the network by their slow twins."""

    @staticmethod
    def multiscale_roi_align(maps, boxes, size, ratio, shapes):
        rows = max(shape[0] for shape in shapes)
        scales = [2.0 ** round(np.log2(m.shape[2] / rows)) for m in maps]
        out = []
        for image, group in enumerate(boxes):
            for box in group.numpy():
                side = np.sqrt((box[2] - box[0]) * (box[3] - box[1]))
                level = int(np.clip(np.floor(4 + np.log2(side / 224) + 1e-6), 2, 5)) - 2
                one = maps[level][image : image + 1].numpy()
                out.append(nn_roi_align.roi_align(one, [box[None]], size, scales[level], ratio))
        shape = (0, maps[0].shape[1], size, size)
        return torch.from_numpy(np.concatenate(out) if out else np.zeros(shape))

    @staticmethod
    def batched_nms(boxes, scores, classes, threshold):
        kept = nn_nms.batched_nms(boxes.numpy(), scores.numpy(), classes.numpy(), threshold)
        return torch.from_numpy(kept)

    @staticmethod
    def paste_masks(masks, boxes, shape):
        return torch.from_numpy(nn_paste_masks.paste_masks(masks.numpy(), boxes.numpy(), shape))


def test_equals_slow_twins(monkeypatch):
    torch.manual_seed(0)
    options = {**SMALL, "box_score_thresh": 0.2, "box_detections_per_img": 5}
    model = lively(mask_rcnn.MaskRCNN(4, "resnet18", **options)).eval().double()
    pictures = images((50, 70), (64, 40), dtype=torch.float64)
    with torch.no_grad():
        got = model(pictures)
        monkeypatch.setattr("medseg_fast.nn._mask_rcnn.ops", _Slow)
        monkeypatch.setattr("medseg_fast.nn.mask_rcnn.ops", _Slow)
        expected = model(pictures)
    assert sum(len(found["boxes"]) for found in expected) > 0
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("pretrained", [False, True])
def test_save_and_load(pretrained, tmp_path):
    pytest.importorskip("safetensors", reason="model files need the extra nn")
    from medseg_fast import nn

    torch.manual_seed(0)
    options = {**SMALL, "backbone": "resnet18", "box_score_thresh": 0.2}
    model = lively(mask_rcnn.mask_rcnn(4, **options))
    if pretrained:  # norms are constants then, with another eps
        weights = model.state_dict()
        model = mask_rcnn.maskrcnn_resnet50_fpn(weights, num_classes=4, **options)
    nn.save_model(model, tmp_path / "m.safetensors", metadata={"normalise": [0, 1]})
    again = nn.load_model(tmp_path / "m.safetensors")
    assert again.metadata == {"normalise": [0, 1]}
    picture = images((50, 70))
    with torch.no_grad():
        expected = model.eval()(picture)
        assert len(expected[0]["boxes"]) > 0
        torch.testing.assert_close(again(picture), expected, rtol=0, atol=0)
    custom = mask_rcnn.mask_rcnn(4, norm_layer=torch.nn.Identity, **options)
    with pytest.raises(TypeError, match="must fit into JSON"):
        nn.save_model(custom, tmp_path / "n.safetensors")


def test_trains():
    torch.manual_seed(0)
    model = mask_rcnn.MaskRCNN(4, "resnet18", **SMALL).train()
    pictures = images((80, 80), (90, 100))
    losses = model(pictures, targets(pictures))
    assert sorted(losses) == [
        "loss_box_reg",
        "loss_classifier",
        "loss_mask",
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    empty = [{k: v[:0] for k, v in target.items()} for target in targets(pictures)]
    assert all(loss.isfinite() for loss in model(pictures, empty).values())


def test_finds_nothing_in_nothing():
    model = mask_rcnn.MaskRCNN(3, "resnet18", box_score_thresh=1.0, **SMALL).eval()
    with torch.no_grad():
        found = model(images((40, 60)))[0]
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 1, 40, 60)


def test_other_channels():
    model = mask_rcnn.mask_rcnn(2, in_channels=1, backbone="resnet18", **SMALL).eval()
    with torch.no_grad():
        assert set(model([torch.rand(1, 50, 50)])[0]) == {"boxes", "labels", "scores", "masks"}


def test_old_keys_and_files_load(tmp_path):
    state = mask_rcnn.maskrcnn_resnet50_fpn(num_classes=4).state_dict()
    old = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        for new, before in (("blocks.{}.0.", "blocks.{}."), ("mask_head.{}.0.", "mask_fcn")):
            for i in range(4):
                with_index = f"mask_head.mask_fcn{i + 1}." if before == "mask_fcn" else None
                key = key.replace(new.format(i), with_index or before.format(i))
        old[key.replace("conv.0.0.", "conv.")] = value
    assert "roi_heads.mask_head.mask_fcn1.weight" in old
    assert "backbone.fpn.inner_blocks.0.bias" in old
    torch.save(old, tmp_path / "weights.pth")
    model = mask_rcnn.maskrcnn_resnet50_fpn(tmp_path / "weights.pth", trainable_backbone_layers=1)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)
    assert model.backbone.body.bn1.eps == 0
    trained = {n for n, p in model.backbone.body.named_parameters() if p.requires_grad}
    assert trained
    assert all(name.startswith("layer4") for name in trained)


def test_decoding_undoes_encoding():
    rng = torch.Generator().manual_seed(4)
    low = torch.rand(2, 20, 2, generator=rng, dtype=torch.float64) * 50
    boxes, origins = torch.cat([low, low + 5 + low.flip(1)], -1)
    offsets = det.encode(boxes, origins, (10, 10, 5, 5))
    torch.testing.assert_close(det.decode(offsets, origins, (10, 10, 5, 5))[:, 0], boxes)


def test_drawn_boxes_keep_the_ratio():
    labels = torch.tensor([1] * 30 + [0] * 100 + [-1] * 10)
    positive, negative = det.draw(labels, 40, 0.25)
    assert (len(positive), len(negative)) == (10, 30)
    assert (labels[positive] == 1).all()
    assert (labels[negative] == 0).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m.train()(images((9, 9))), ValueError, "targets must be given"),
        (lambda m: m([]), ValueError, "images must be at least one"),
        (lambda m: m([torch.ones(9, 9)]), ValueError, "images must be floating-point"),
        (lambda m: m([torch.ones(3, 9, 9).int()]), ValueError, "images must be floating-point"),
        (lambda m: mask_rcnn.MaskRCNN(2, size=3), TypeError, "unexpected options size"),
        (lambda m: mask_rcnn.MaskRCNN(2, scale=0), ValueError, "scale must be above 0, got 0"),
        (lambda m: mask_rcnn.MaskRCNN(2, anchor_sizes=(8, 9)), ValueError, "must be 5 sizes"),
        (lambda m: mask_rcnn.MaskRCNN(2, width=0), ValueError, "width must be at least 1, got 0"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(mask_rcnn.MaskRCNN(2, "resnet18").eval())
