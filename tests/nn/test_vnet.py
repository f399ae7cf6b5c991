"""V-Net: convolutions and receptive fields of the paper's table 1."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402


def test_parameters_and_receptive_fields():
    model = on_meta(nn.vnet)
    assert parameters(model) == 65_175_314
    assert on_meta(lambda: model(torch.empty(1, 1, 32, 64, 48))).shape == (1, 2, 32, 64, 48)
    field, fields = 1, []
    for level, stage in enumerate(model.encoder):
        field += (1 << level) // 2  # the strided convolution of size 2
        field += 4 * len(stage.convs) << level
        fields.append(field)
    for level in reversed(range(4)):
        # A transposed convolution of size 2 sees one voxel; the paper counts half a step of it.
        field += (4 * len(model.decoder[level].convs) << level) + (1 << level)
        fields.append(field)
    assert fields == [5, 22, 72, 172, 372, 476, 528, 546, 551]


def test_channels_of_the_stages():
    model = on_meta(nn.vnet)
    assert [stage.outputs for stage in model.encoder] == [16, 32, 64, 128, 256]
    assert [stage.outputs for stage in model.decoder] == [32, 64, 128, 256]


def test_residual_of_the_input():
    """With all convolutions at zero a stage gives its input, repeated, through PReLU."""
    model = nn.vnet(2, 2, widths=(4, 8))
    with torch.no_grad():
        for key, value in model.encoder[0].named_parameters():
            if "convs" in key:
                value.zero_()
        x = torch.randn(1, 2, 2, 2, 2)
        repeated = torch.cat([x, x], 1)
        found = model.encoder[0](x, repeated)
        assert torch.equal(found, torch.where(repeated > 0, repeated, 0.25 * repeated))


@pytest.mark.parametrize(("channels", "repeated"), [(3, [0, 1, 2, 0]), (5, [0, 1, 2, 3])])
def test_any_number_of_channels(channels, repeated):
    """Those of the input are added in turn, where they do not divide the first stage's, too."""
    model = nn.vnet(channels, 2, widths=(4, 8)).eval()
    seen = []
    model.encoder[0].register_forward_pre_hook(lambda _, given: seen.extend(given))
    x = torch.randn(1, channels, 4, 6, 2)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(seen[1], x[:, repeated])
    plan = nn.optimize(model, x)
    assert plan.fallbacks == {}
    np.testing.assert_allclose(plan(x.numpy()), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
def test_2d_and_norms(norm):
    model = nn.vnet(1, 3, ndim=2, widths=(4, 8, 16), norm=norm, dropout=0.2)
    assert model(torch.randn(2, 1, 15, 20)).shape == (2, 3, 15, 20)
