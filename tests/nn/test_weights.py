"""Weights of other projects, files of ours, and what the report says."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
pytest.importorskip("safetensors", reason="model files need the extra nn")

from _networks import SMALL, VGG, small  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn as tnn  # noqa: E402

from medseg_fast import nn  # noqa: E402


@pytest.mark.parametrize("name", SMALL)
def test_save_and_load_model(name, tmp_path):
    model, x = small(name)
    model.train()(x)  # moves the statistics of batch norms
    nn.save_model(model, tmp_path / "m.safetensors", metadata={"spacing": [1.0, 2.0]})
    again = nn.load_model(tmp_path / "m.safetensors")
    assert again.metadata == {"spacing": [1.0, 2.0]}
    assert not again.training
    assert type(again) is type(model)
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
@pytest.mark.parametrize("wrap", [False, True])
def test_load_weights_of_the_same_network(ending, wrap, tmp_path):
    model, x = small("unet")
    state = model.state_dict()
    if wrap:
        state = {f"module.{key}": value for key, value in state.items()}
    path = tmp_path / f"w.{ending}"
    if ending == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrap else state, path)
    torch.manual_seed(5)
    other = nn.unet(**SMALL["unet"][1])
    report = nn.load_weights(other, path)
    assert report.complete
    assert report.missing == report.unexpected == []
    assert str(report).startswith(f"{path}: names of medseg_fast\n  loaded {len(state)} of")
    with torch.no_grad():
        assert torch.equal(other.eval()(x), model.eval()(x))


def test_report_of_what_does_not_fit(tmp_path):
    model, _ = small("unet")
    state = {**model.state_dict(), "extra.weight": torch.zeros(2)}
    del state["head.bias"]
    state["head.weight"] = torch.zeros(7, 3, 1, 1)
    torch.save(state, tmp_path / "w.pth")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="load_weights: the file does not fit the model") as caught:
        nn.load_weights(model, tmp_path / "w.pth")
    text = str(caught.value)
    assert "missing in the file (1): head.bias" in text
    assert "no place in the model (1): extra.weight" in text
    assert "head.weight: shape (7, 3, 1, 1) in the file, (3, 3, 1, 1) in the model" in text
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    report = nn.load_weights(model, tmp_path / "w.pth", strict=False)
    assert not report.complete
    assert report.missing == ["head.bias"]
    assert list(report.mismatched) == ["head.weight"]


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code of a file was run')",))


def test_no_code_of_a_file_is_run(tmp_path):
    model, _ = small("unet")
    torch.save({"state_dict": model.state_dict(), "hook": Trap()}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="only tensors are read"):
        nn.load_weights(model, tmp_path / "w.pth")


def header(metadata):
    text = json.dumps({"__metadata__": metadata}).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "not a safetensors file"),
        ("a.safetensors", b"\xff" * 100, "not a safetensors file"),
        ("a.safetensors", header({}), "holds no weights"),
        ("a.safetensors", header({"medseg_fast": "{"}), "its metadata are damaged"),
        ("a.safetensors", header({"medseg_fast": "[]"}), "its metadata are damaged"),
        ("a.pth", b"", "not a file of weights"),
        ("a.pth", b"PK\x03\x04 and so on", "not a file of weights"),
    ],
)
def test_damaged_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        nn.load_model(tmp_path / name)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"network": "functional", "arguments": {}}, "unknown network 'functional'"),
        ({"network": "unet", "arguments": []}, "unknown network"),
        ({"network": "unet", "arguments": {"colour": 3}}, "unexpected keyword argument"),
        ({"network": "unet", "arguments": {"widths": [2, 4]}}, "its weights do not fit unet"),
    ],
)
def test_model_files_that_lie(facts, message, tmp_path):
    text = {"medseg_fast": json.dumps(facts)}
    save_file({"x": torch.zeros(1)}, tmp_path / "m.safetensors", metadata=text)
    with pytest.raises(ValueError, match=message):
        nn.load_model(tmp_path / "m.safetensors")


def test_a_file_that_names_no_network(tmp_path):
    model, _ = small("unet")
    torch.save(model.state_dict(), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="does not say which network it is for"):
        nn.load_model(tmp_path / "w.pth")
    with pytest.raises(FileNotFoundError):
        nn.load_model(tmp_path / "absent.pth")


def test_save_model_wants_our_networks_and_ending(tmp_path):
    model, _ = small("unet")
    with pytest.raises(ValueError, match=r"path must end with \.safetensors, got 'm.pth'"):
        nn.save_model(model, tmp_path / "m.pth")
    with pytest.raises(TypeError, match=r"must be made by a function of .*, got Linear"):
        nn.save_model(tnn.Linear(1, 1), tmp_path / "m.safetensors")


# --- U-Nets of other projects, as their keys say, in a few lines


def milesial(bilinear, bias, depth=2, width=4):
    """A network with the keys and the order of layers of milesial/Pytorch-UNet."""

    def double(i, m, o):
        layers = tnn.Sequential()
        for a, b in ((i, m), (m, o)):
            layers.extend(
                [tnn.Conv2d(a, b, 3, padding=1, bias=bias), tnn.BatchNorm2d(b), tnn.ReLU()]
            )
        return tnn.ModuleDict({"double_conv": layers})

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            w = [width * 2**i for i in range(depth + 1)]
            self.inc = double(1, w[0], w[0])
            for i in range(1, depth + 1):
                o = w[i] // 2 if bilinear and i == depth else w[i]
                down = tnn.ModuleDict(
                    {"maxpool_conv": tnn.Sequential(tnn.MaxPool2d(2), double(w[i - 1], o, o))}
                )
                self.add_module(f"down{i}", down)
            for i in range(1, depth + 1):
                top, below = w[depth - i + 1], w[depth - i]
                if bilinear:
                    out = below if i == depth else below // 2
                    up = tnn.ModuleDict({"conv": double(top, top // 2, out)})
                else:
                    up = tnn.ModuleDict(
                        {
                            "up": tnn.ConvTranspose2d(top, below, 2, 2),
                            "conv": double(top, below, below),
                        }
                    )
                self.add_module(f"up{i}", up)
            self.outc = tnn.ModuleDict({"conv": tnn.Conv2d(w[0], 3, 1)})

        def forward(self, x):
            xs = [self.inc["double_conv"](x)]
            for i in range(1, depth + 1):
                pool, block = getattr(self, f"down{i}")["maxpool_conv"]
                xs.append(block["double_conv"](pool(xs[-1])))
            y = xs.pop()
            for i in range(1, depth + 1):
                up = getattr(self, f"up{i}")
                y = (
                    tnn.functional.interpolate(
                        y, scale_factor=2, mode="bilinear", align_corners=True
                    )
                    if bilinear
                    else up["up"](y)
                )
                y = up["conv"]["double_conv"](torch.cat([xs.pop(), y], 1))
            return self.outc["conv"](y)

    return Net()


def buda(depth=2, width=4):
    """A network with the keys and the order of channels of brain-segmentation-pytorch."""

    def block(name, i, o):
        layers = tnn.Sequential()
        for k, a in ((1, i), (2, o)):
            layers.add_module(f"{name}conv{k}", tnn.Conv2d(a, o, 3, padding=1, bias=False))
            layers.add_module(f"{name}norm{k}", tnn.BatchNorm2d(o))
            layers.add_module(f"{name}relu{k}", tnn.ReLU())
        return layers

    class Net(tnn.Module):
        def __init__(self):
            super().__init__()
            w = [width * 2**i for i in range(depth + 1)]
            for i in range(depth):
                self.add_module(f"encoder{i + 1}", block(f"enc{i + 1}", w[i - 1] if i else 1, w[i]))
                self.add_module(f"upconv{i + 1}", tnn.ConvTranspose2d(w[i + 1], w[i], 2, 2))
                self.add_module(f"decoder{i + 1}", block(f"dec{i + 1}", 2 * w[i], w[i]))
            self.bottleneck = block("bottleneck", w[-2], w[-1])
            self.conv = tnn.Conv2d(w[0], 1, 1)

        def forward(self, x):
            xs = []
            for i in range(depth):
                x = getattr(self, f"encoder{i + 1}")(x)
                xs.append(x)
                x = tnn.functional.max_pool2d(x, 2)
            x = self.bottleneck(x)
            for i in reversed(range(depth)):
                x = torch.cat([getattr(self, f"upconv{i + 1}")(x), xs[i]], 1)
                x = getattr(self, f"decoder{i + 1}")(x)
            return self.conv(x)

    return Net()


@pytest.mark.parametrize(
    ("make", "arguments", "layout"),
    [
        (lambda: milesial(False, True), {"classes": 3}, "milesial/Pytorch-UNet"),
        (lambda: milesial(False, False), {"classes": 3}, "milesial/Pytorch-UNet"),
        (
            lambda: milesial(True, False),
            {"classes": 3, "up": "bilinear", "align_corners": True},
            "milesial/Pytorch-UNet",
        ),
        (buda, {"classes": 1}, "mateuszbuda/brain-segmentation-pytorch"),
    ],
)
def test_unets_of_other_projects(make, arguments, layout, tmp_path):
    torch.manual_seed(2)
    theirs = make()
    x = torch.randn(2, 1, 16, 20)
    theirs(x)
    torch.save({**theirs.state_dict(), "mask_values": [0, 1]}, tmp_path / "w.pth")
    with torch.no_grad():
        expected = theirs.eval()(x)
    ours = nn.unet(1, widths=(4, 8, 16), padding="same", norm="batch", **arguments).eval()
    report = nn.load_weights(ours, tmp_path / "w.pth")
    assert report.layout == layout
    read = nn.load_model(tmp_path / "w.pth")
    with torch.no_grad():
        torch.testing.assert_close(ours(x), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(read(x), expected, rtol=1e-5, atol=1e-6)


def test_load_model_of_wrapped_weights(tmp_path):
    theirs = buda().eval()
    state = {f"model.module.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": state, "epoch": torch.tensor(1)}, tmp_path / "w.pth")
    x = torch.randn(1, 1, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(nn.load_model(tmp_path / "w.pth")(x), theirs(x))


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("features", [(4, 4, 8, 8, 16, 4), (4, 8, 8, 16, 16, 6)])
def test_monai_basic_unet(ndim, features, tmp_path):
    nets = pytest.importorskip("monai.networks.nets", reason="MONAI is not installed")
    torch.manual_seed(2)
    theirs = nets.BasicUNet(ndim, 2, 3, features).eval()
    x = torch.randn(1, 2, *(32, 48, 32)[:ndim])
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    ours = nn.load_model(tmp_path / "w.pth")
    again = nn.unet(2, 3, ndim=ndim, widths=features, padding="same", design="monai").eval()
    assert nn.load_weights(again, tmp_path / "w.pth").layout == "MONAI BasicUNet"
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        assert torch.equal(ours(x), again(x))


# --- torchvision


def torchvision_models():
    return pytest.importorskip("torchvision", reason="torchvision is not installed").models


def test_vgg16_into_fcn(tmp_path):
    """On a 224 x 224 image, FCN's only score of the whole is VGG16's classifier."""
    vgg = torchvision_models().vgg16().eval()
    torch.save(vgg.state_dict(), tmp_path / "w.pth")
    model = nn.fcn8s(classes=5, padding="same").eval()
    report = nn.load_weights(model, tmp_path / "w.pth")
    assert report.layout == "torchvision VGG16"
    assert len(report.loaded) == 30
    assert all(key.startswith(("score", "up")) for key in report.missing)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = vgg.classifier[:5](vgg.features(x).flatten(1))
        middle = model.fc7(model.fc6(model.features(x)).relu()).relu()[0, :, 3, 3]
        torch.testing.assert_close(middle, expected[0], rtol=1e-4, atol=1e-5)
        grey = nn.fcn8s(1, 5, padding="same").eval()
        nn.load_weights(grey, tmp_path / "w.pth")
        torch.testing.assert_close(
            grey.features(x[:, :1]),
            model.features(x[:, :1].expand(-1, 3, -1, -1)),
            rtol=1e-4,
            atol=1e-4,
        )


def test_vgg16_into_segnet(tmp_path):
    vgg = torchvision_models().vgg16_bn().eval()
    torch.save(vgg.state_dict(), tmp_path / "w.pth")
    model = nn.segnet(classes=4).eval()
    report = nn.load_weights(model, tmp_path / "w.pth")
    assert len([key for key in report.loaded if "num_batches" not in key]) == 13 * 6
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model.features(x), vgg.features(x))


@pytest.mark.parametrize("name", ["resnet34", "resnet50"])
def test_resnet_into_pspnet(name, tmp_path):
    theirs = getattr(torchvision_models(), name)()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    model = nn.pspnet(backbone=name)
    report = nn.load_weights(model, tmp_path / "w.pth")
    assert report.layout == "torchvision ResNet"
    assert all(key.startswith(("pyramid", "head", "auxiliary")) for key in report.missing)
    for key, value in theirs.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(model.state_dict()["backbone." + key], value)


def test_segmentation_backbone_equals_torchvisions(tmp_path):
    models = torchvision_models()
    theirs = models.segmentation.fcn_resnet50(weights_backbone=None, aux_loss=True).eval()
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    model = nn.pspnet().eval()
    nn.load_weights(model, tmp_path / "w.pth")
    x = torch.randn(1, 3, 65, 50)
    with torch.no_grad():
        assert torch.equal(model.backbone(x)[3], theirs.backbone(x)["out"])


def test_small_vgg_widths_do_not_take_torchvisions(tmp_path):
    model = nn.fcn8s(fc_width=8, **VGG)
    state = {
        "features.0.weight": torch.zeros(64, 3, 3, 3),
        "classifier.0.weight": torch.zeros(16, 25088),
    }
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"fc6.weight: shape \(16, 512, 7, 7\) in the file"):
        nn.load_weights(model, tmp_path / "w.pth")


def test_messages_name_what_is_missing(monkeypatch, tmp_path):
    model, _ = small("unet")
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(
        ImportError, match=r'safetensors is missing: pip install "medseg_fast\[nn\]"'
    ):
        nn.save_model(model, tmp_path / "m.safetensors")


def test_weights_are_numbers_of_the_file(tmp_path):
    """float16 and float64 files load into float32 models."""
    model, _ = small("unet")
    state = {key: value.half() for key, value in model.state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    nn.load_weights(model, tmp_path / "w.safetensors")
    value = model.head.weight.detach()
    assert value.dtype == torch.float32
    np.testing.assert_array_equal(value.numpy(), state["head.weight"].float().numpy())
