"""U-Net++: counts, deep supervision, pruning."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters, small  # noqa: E402

from medseg_fast import nn  # noqa: E402


def test_parameters():
    """The paper's 9.04 million."""
    assert parameters(on_meta(nn.unet_plus_plus, 3, 1)) == 9_042_276
    assert parameters(on_meta(nn.unet_plus_plus, 1, 1, deep_supervision=False)) == 9_041_601


def test_deep_supervision():
    model, x = small("unet_plus_plus")
    model.train()
    for norm in model.modules():  # statistics of the batch in both modes
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.track_running_stats, norm.running_mean, norm.running_var = False, None, None
    several = model(x)
    assert len(several) == model.depth == 2
    mean = model.eval()(x)
    torch.testing.assert_close(mean, torch.stack(several).mean(0))
    for depth, expected in enumerate(several, 1):
        torch.testing.assert_close(model.pruned(depth)(x), expected)


def test_pruned_shares_its_weights():
    model, x = small("unet_plus_plus")
    cut = model.eval().pruned(1)
    assert parameters(cut) < parameters(model)
    assert cut.nodes["0_1"] is model.nodes["0_1"]
    assert not cut.training
    assert cut.architecture.arguments["widths"] == [3, 4]
    again = nn.unet_plus_plus(**cut.architecture.arguments)
    again.load_state_dict(cut.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), cut(x))


def test_wrong_prunings():
    model, _ = small("unet_plus_plus")
    with pytest.raises(ValueError, match="unet_plus_plus: depth must be 1 to 2, got 3"):
        model.pruned(3)
    with pytest.raises(ValueError, match="needs a network with deep_supervision=True"):
        nn.unet_plus_plus(widths=(2, 4), deep_supervision=False).pruned(1)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("up", ["transposed", "linear"])
def test_options(ndim, up):
    model = nn.unet_plus_plus(2, 3, ndim=ndim, widths=(2, 3, 4), up=up, dropout=0.1).eval()
    assert model(torch.randn(1, 2, *(8, 5, 12)[:ndim])).shape == (1, 3, *(8, 5, 12)[:ndim])
