"""PSPNet: the pyramid against its definition, the auxiliary head."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402
from medseg_fast.nn._pspnet import PyramidPooling  # noqa: E402

COUNTS = {"resnet34": 22_879_402, "resnet50": 48_957_802, "resnet101": 67_949_930}


@pytest.mark.parametrize("backbone", COUNTS)
def test_parameters_and_shape(backbone):
    model = on_meta(nn.pspnet, backbone=backbone).eval()
    assert parameters(model) == COUNTS[backbone]
    assert model.backbone.strides == (4, 8, 8, 8)
    assert on_meta(lambda: model(torch.empty(1, 3, 473, 300))).shape == (1, 21, 473, 300)


def test_pyramid():
    """Branch by branch: means of the parts, mixed, enlarged, behind the map itself."""
    torch.manual_seed(0)
    pyramid = PyramidPooling(8, (1, 2, 3, 6), True).double().eval()
    x = torch.randn(2, 8, 13, 17, dtype=torch.float64)
    with torch.no_grad():
        found = pyramid(x)
        assert found.shape == (2, 16, 13, 17)
        assert torch.equal(found[:, :8], x)
        whole = pyramid.branches[0][1:](x.mean((2, 3), keepdim=True))
        torch.testing.assert_close(found[:, 8:10], whole.expand(-1, -1, 13, 17))
        halves = [
            [x[:, :, rows, columns].mean((2, 3)) for columns in (slice(0, 9), slice(8, 17))]
            for rows in (slice(0, 7), slice(6, 13))
        ]
        means = torch.stack([torch.stack(row, -1) for row in halves], -2)
        corners = found[:, 10:12, ::12, ::16]
        torch.testing.assert_close(corners, pyramid.branches[1][1:](means))


def test_auxiliary_head():
    torch.manual_seed(0)
    model = nn.pspnet(1, 2, backbone="resnet18", width=4, dropout=0.0)
    x = torch.randn(2, 1, 32, 40)
    main, auxiliary = model.train()(x)
    assert main.shape == auxiliary.shape == (2, 2, 32, 40)
    auxiliary.sum().backward()
    assert model.backbone.layer3[0].conv1.weight.grad is not None
    assert model.backbone.layer4[0].conv1.weight.grad is None
    alone = nn.pspnet(1, 2, backbone="resnet18", width=4, auxiliary=False)
    assert alone.train()(x).shape == (2, 2, 32, 40)
