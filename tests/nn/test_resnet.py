"""The trunk of PSPNet and Mask R-CNN, against torchvision's where it is installed."""

import pytest

torch = pytest.importorskip("torch")

from medseg_fast.nn._resnet import FrozenBatchNorm2d, ResNet  # noqa: E402

PARAMETERS = {
    "resnet18": 11_176_512,
    "resnet34": 21_284_672,
    "resnet50": 23_508_032,
    "resnet101": 42_500_160,
}


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_parameters(name, count):
    with torch.device("meta"):
        model = ResNet(name)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@pytest.mark.parametrize(("stride", "strides"), [(32, (4, 8, 16, 32)), (8, (4, 8, 8, 8))])
def test_stages(name, stride, strides):
    with torch.device("meta"):
        model = ResNet(name, 2, output_stride=stride)
        stages = model(torch.empty(1, 2, 64, 96))
    assert model.strides == strides
    for stage, channels, step in zip(stages, model.channels, strides, strict=True):
        assert stage.shape == (1, channels, 64 // step, 96 // step)


@pytest.mark.parametrize("name", PARAMETERS)
def test_keys_and_values_are_torchvisions(name):
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    torch.manual_seed(0)
    theirs = getattr(models, name)().eval()
    state = {key: value for key, value in theirs.state_dict().items() if key[:3] != "fc."}
    ours = ResNet(name).eval()
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 33, 40)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        for index, stage in enumerate(ours(x)):
            expected = getattr(theirs, f"layer{index + 1}")(expected)
            assert torch.equal(stage, expected)


def test_dilation_is_torchvisions():
    models = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    theirs = models.resnet50(replace_stride_with_dilation=[False, True, True]).eval()
    ours = ResNet("resnet50", output_stride=8).eval()
    state = {key: value for key, value in theirs.state_dict().items() if key[:3] != "fc."}
    ours.load_state_dict(state)
    x = torch.randn(1, 3, 48, 40)
    with torch.no_grad():
        y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        y = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(y))))
        assert torch.equal(ours(x)[3], y)


def test_frozen_batch_norm_equals_batch_norm_in_eval():
    torch.manual_seed(1)
    norm = torch.nn.BatchNorm2d(5).double().train()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    norm(torch.randn(4, 5, 6, 7, dtype=torch.float64))
    frozen = FrozenBatchNorm2d(5).double()
    frozen.load_state_dict(norm.state_dict())  # num_batches_tracked is dropped
    x = torch.randn(2, 5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(frozen(x), norm.eval()(x), rtol=1e-12, atol=1e-12)
    assert list(frozen.parameters()) == []


def test_frozen_trunk_is_the_same_in_training():
    model = ResNet("resnet18", 1, norm_layer=FrozenBatchNorm2d)
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        assert all(map(torch.equal, model.train()(x), model.eval()(x)))


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"ResNet: name must be one of .*, got 'resnet7'"):
        ResNet("resnet7")
    with pytest.raises(ValueError, match="output_stride must be 32, 16 or 8, got 4"):
        ResNet("resnet18", output_stride=4)
