"""FCN on VGG16."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import VGG, on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402
from medseg_fast.nn._fcn import bilinear_  # noqa: E402

MAKERS = {"fcn32s": nn.fcn32s, "fcn16s": nn.fcn16s, "fcn8s": nn.fcn8s}
# VGG16 without its classifier has 134 260 544 parameters; a score layer 21 per channel and 21.
COUNTS = {"fcn32s": 136_152_917, "fcn16s": 134_815_994, "fcn8s": 134_489_759}


@pytest.mark.parametrize("name", MAKERS)
def test_parameters_and_shape(name):
    model = on_meta(MAKERS[name])
    assert parameters(model) == COUNTS[name]
    trunk = sum(map(parameters, (model.features, model.fc6, model.fc7)))
    assert trunk == 134_260_544
    assert not model.up.weight.requires_grad
    for size in ((500, 334), (1, 1), (63, 64)):
        assert on_meta(lambda size=size: model(torch.empty(1, 3, *size))).shape == (1, 21, *size)


def test_bilinear_kernels():
    """The known 4 x 4 and 3 x 3 kernels, and a linear ramp that stays one."""
    weight = bilinear_(torch.empty(2, 2, 4, 4))
    row = torch.tensor([0.25, 0.75, 0.75, 0.25])
    assert torch.equal(weight[0, 0], torch.outer(row, row))
    assert not weight[0, 1].any()
    odd = torch.tensor([0.5, 1.0, 0.5])
    assert torch.equal(bilinear_(torch.empty(1, 1, 3, 3))[0, 0], torch.outer(odd, odd))
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    up = torch.nn.functional.conv_transpose2d(ramp, bilinear_(torch.empty(1, 1, 8, 8)), stride=4)
    inside = up[0, 0, 12, 6:-6]
    torch.testing.assert_close(inside.diff(), torch.full((len(inside) - 1,), 0.25))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("padding", ["paper", "same"])
def test_scores_lie_where_their_pixels_are(name, padding):
    """The response to one bright spot is centred on it: all offsets of the crops are right."""
    model = MAKERS[name](1, 1, padding=padding, widths=(1, 1, 1, 1, 1), fc_width=1).eval().double()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.startswith("up"):
                continue
            # Each convolution a box, symmetrical: the response spreads but does not move.
            value.fill_(0 if key.endswith("bias") else 1 / value[0].numel())
        size = 320
        x = torch.zeros(1, 1, size, size, dtype=torch.float64)
        # In the middle of a cell of pool5's raster, which begins at 0 ("same") or at -99.5
        # ("paper": 100 of padding, less one of the convolutions' own).
        x[:, :, 144:176, 144:176] = 1
        y = model(x)[0, 0]
    weight = y - y.min()
    position = torch.arange(size, dtype=torch.float64)
    centre = (weight.sum(1) * position).sum() / weight.sum()
    # Max pooling prefers neither side but by its raster: within half of the coarsest one.
    assert abs(centre - 159.5) < 4.5
    assert torch.allclose(weight.sum(0), weight.sum(1))


def test_score_layers_start_at_zero():
    model = nn.fcn8s(1, 3, fc_width=4, **VGG).eval()
    with torch.no_grad():
        assert not model(torch.randn(1, 1, 40, 33)).any()


def test_batch_norm():
    model = nn.fcn8s(1, 2, norm="batch", fc_width=4, **VGG)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [2, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5]
