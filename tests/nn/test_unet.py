"""U-Net, 2D and 3D: the papers' sizes and counts."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402


def test_2015():
    """31 million parameters; 572 x 572 gives 388 x 388, as in figure 1."""
    model = on_meta(nn.unet)
    assert parameters(model) == 31_030_658
    assert on_meta(lambda: model(torch.empty(1, 1, 572, 572))).shape == (1, 2, 388, 388)
    assert model.margin == 92
    assert [model.sizes(n) for n in (1, 188, 189, 570)] == [
        (188, 4),
        (188, 4),
        (204, 20),
        (572, 388),
    ]


def test_2016():
    """19 069 955 parameters without those of batch norms; 132 x 132 x 116 gives 44 x 44 x 28."""
    model = on_meta(nn.unet, 3, 3, ndim=3)
    norms = [layer for layer in model.modules() if isinstance(layer, torch.nn.BatchNorm3d)]
    assert parameters(model) - sum(map(parameters, norms)) == 19_069_955
    assert on_meta(lambda: model(torch.empty(1, 3, 116, 132, 132))).shape == (1, 3, 28, 44, 44)
    assert model.margin == 44


def test_other_designs():
    """Counts of milesial/Pytorch-UNet's bilinear U-Net and MONAI's BasicUNet."""
    count = parameters(on_meta(nn.unet, 3, 1, up="bilinear", norm="batch", padding="same"))
    assert count == 17_267_393
    assert parameters(on_meta(nn.unet, 1, 2, ndim=3, design="monai", padding="same")) == 5_749_410


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_sizes_are_what_happens(depth):
    model = on_meta(nn.unet, widths=[1] * (depth + 1))
    smallest, output = model.sizes(1)
    assert output >= 1
    for size in range(smallest, smallest + (3 << depth)):
        if model.sizes(size)[0] == size:
            shape = on_meta(lambda size=size: model(torch.empty(1, 1, size, smallest))).shape
            assert shape[2:] == (model.sizes(size)[1], output)
            assert size - shape[2] == 2 * model.margin
        else:
            with pytest.raises(
                ValueError, match=f"near {size}: {model.sizes(size)[0] - (1 << depth)} or"
            ):
                on_meta(lambda size=size: model(torch.empty(1, 1, smallest, size)))
    with pytest.raises(ValueError, match=rf"near {smallest - 1}: {smallest}\)"):
        on_meta(lambda: model(torch.empty(1, 1, smallest - 1, smallest)))


def test_skips_are_cropped_from_the_centre():
    """With weights that pass the first skip on, the output is the input's centre."""
    model = nn.unet(1, 1, widths=(1, 1), norm="none")
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
        for block in (model.encoder[0], model.decoder[0]):
            for layer in (block.conv1, block.conv2):
                layer.weight[0, 0, 1, 1] = 1
        model.head.weight.fill_(1)
        x = torch.rand(1, 1, 20, 26)
        margin = model.margin
        assert torch.equal(model(x), x[:, :, margin:-margin, margin:-margin])


def test_dropout_at_the_end_of_the_encoder():
    model = nn.unet(widths=(2, 4, 8), padding="same", dropout=0.5).train()
    x = torch.randn(1, 1, 16, 16)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_norms(norm, ndim):
    model = nn.unet(norm=norm, ndim=ndim, widths=(4, 6), padding="same")
    found = [n for n, _ in model.named_modules() if ".norm" in n]
    assert len(found) == (0 if norm == "none" else 6)
    assert model(torch.randn(2, 1, *(8, 8, 8)[:ndim])).isfinite().all()
