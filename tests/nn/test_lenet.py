"""LeNet-5, and classifiers of patches as networks for images."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402
from medseg_fast.nn._lenet import PartialConv  # noqa: E402


def test_parameters():
    """The paper's layers: C1 156, S2 12, C3 1516, S4 32, C5 48120, F6 10164, and an output."""
    model = on_meta(nn.lenet5)
    counts = [parameters(layer) for layer in [*model.features, *model.classifier]]
    assert [n for n in counts if n] == [156, 12, 1516, 32, 48120, 10164, 850]
    assert parameters(on_meta(nn.lenet5, variant="modern")) == 61_706


def test_table_of_connections():
    """Maps 0 to 5 see three maps, 6 to 14 four, the last all six."""
    kernels = PartialConv().kernels().abs().sum((2, 3)) > 0
    assert kernels.sum(1).tolist() == [3] * 6 + [4] * 9 + [6]
    assert kernels.sum(0).tolist() == [10] * 6


def patches(image, size, step=1):
    """Every patch, as a batch, and how many rows and columns of them."""
    views = image.unfold(2, size[0], step).unfold(3, size[1], step)
    rows, columns = views.shape[2:4]
    views = views[0].permute(1, 2, 0, 3, 4).reshape(rows * columns, -1, *size)
    return views, rows, columns


def check(classifier, image, size, **arguments):
    """Dense equals sliding, and with strides every so manieth of it."""
    classifier = classifier.double().eval()
    views, rows, columns = patches(image, size)
    with torch.no_grad():
        expected = classifier(views).T.reshape(1, -1, rows, columns)
        dense = nn.to_fully_convolutional(classifier, **arguments)
        assert (dense.stride, dense.patch, dense.training) == (1, size, False)
        torch.testing.assert_close(dense(image), expected, rtol=1e-10, atol=1e-12)
        coarse = nn.to_fully_convolutional(classifier, **arguments, dense=False)
        step = coarse.stride
        found = coarse(image)
        torch.testing.assert_close(found, expected[:, :, ::step, ::step], rtol=1e-10, atol=1e-12)
    return step


@pytest.mark.parametrize("variant", ["paper", "modern"])
@pytest.mark.parametrize("channels", [1, 2])
def test_dense_equals_sliding_patches(variant, channels):
    torch.manual_seed(0)
    image = torch.randn(1, channels, 41, 38, dtype=torch.float64)
    model = nn.lenet5(channels, 3, variant=variant, dropout=0.2)
    assert check(model, image, (32, 32)) == 4


def test_any_sequence_of_layers():
    """Strides and dilation of convolutions, average pooling, batch norms, unequal patches."""
    torch.manual_seed(0)
    layers = torch.nn
    model = layers.Sequential(
        layers.Conv2d(1, 3, 3, stride=2),
        layers.BatchNorm2d(3),
        layers.ELU(),
        layers.AvgPool2d(2),
        layers.Sequential(layers.Conv2d(3, 4, (2, 3), dilation=2), layers.ReLU()),
        layers.MaxPool2d(3, stride=2),
        layers.Flatten(),
        layers.Linear(4 * 2 * 3, 6),
        layers.BatchNorm1d(6),
        layers.Dropout(0.3),
        layers.Linear(6, 2, bias=False),
    )
    with torch.no_grad():
        model(torch.randn(8, 1, 31, 47))
    image = torch.randn(1, 1, 44, 60, dtype=torch.float64)
    assert check(model, image, (31, 47), patch=(31, 47)) == 8


def test_vgg_like_modules():
    """features, avgpool, classifier, as torchvision's; padding matters at a patch's border."""
    layers = torch.nn

    class Net(layers.Module):
        def __init__(self):
            super().__init__()
            self.features = layers.Sequential(
                layers.Conv2d(3, 4, 3, padding=1), layers.MaxPool2d(2)
            )
            self.avgpool = layers.AdaptiveAvgPool2d((4, 4))
            self.classifier = layers.Sequential(layers.Linear(64, 5))

        def forward(self, x):
            return self.classifier(self.avgpool(self.features(x)).flatten(1))

    torch.manual_seed(0)
    model = Net().double().eval()
    dense = nn.to_fully_convolutional(model, 8)
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        # The padding lies outside of the image, as it did outside of the patch.
        torch.testing.assert_close(dense(image)[:, :, 0, 0], model(image))
    with pytest.raises(ValueError, match="changes 5 x 5 pixels"):
        nn.to_fully_convolutional(model, 10)


@pytest.mark.parametrize(
    ("make", "arguments", "error", "message"),
    [
        (lambda n: n.Sequential(n.Linear(4, 2)), {}, TypeError, "patch must be given"),
        (lambda n: n.Bilinear(1, 1, 1), {"patch": 0}, ValueError, r"patch\[0\] must be at least 1"),
        (lambda n: n.TransformerEncoderLayer(4, 2), {"patch": 4}, TypeError, "must be an nn.Seq"),
        (
            lambda n: n.Sequential(n.Conv2d(1, 2, 3), n.Flatten(), n.Linear(8, 2)),
            {"patch": 5},
            ValueError,
            "does not fit 2 maps of 3 x 3 pixels",
        ),
        (lambda n: n.Sequential(n.Conv2d(1, 2, 3)), {"patch": 4}, ValueError, "must give one answ"),
        (lambda n: n.Sequential(n.Conv2d(1, 2, 9)), {"patch": 4}, ValueError, "patch must be larg"),
        (
            lambda n: n.Sequential(n.MaxPool2d(2, ceil_mode=True)),
            {"patch": 2},
            ValueError,
            "ceil_mode must be False",
        ),
    ],
)
def test_wrong_classifiers(make, arguments, error, message):
    with pytest.raises(error, match=message):
        nn.to_fully_convolutional(make(torch.nn), **arguments)


def test_wrong_sizes():
    with pytest.raises(ValueError, match="input must be 32 x 32 pixels"):
        nn.lenet5()(torch.zeros(1, 1, 33, 32))
    with pytest.raises(ValueError, match="of at least 32 x 32 pixels"):
        nn.to_fully_convolutional(nn.lenet5())(torch.zeros(1, 1, 31, 40))
