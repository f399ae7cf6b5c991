"""SegNet: VGG16's mirror image, values back where their maxima were."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import VGG, on_meta, parameters  # noqa: E402

from medseg_fast import nn  # noqa: E402


def test_parameters_and_shape():
    """Two VGG16 of 14.7 million each, about: the paper's 29.5 million."""
    model = on_meta(nn.segnet)
    assert parameters(model) == 29_449_355
    assert parameters(model.features) == 14_714_688 + 2 * 4224
    assert on_meta(lambda: model(torch.empty(1, 3, 360, 480))).shape == (1, 11, 360, 480)
    convs = [m for m in model.decoder.modules() if isinstance(m, torch.nn.Conv2d)]
    widths = [512] * 5 + [256] * 3 + [128] * 2 + [64] * 2 + [11]
    assert [c.out_channels for c in convs] == widths


def test_values_return_to_their_places():
    """The first decoder block gets zeros but where the last pooling found its maxima."""
    torch.manual_seed(0)
    model = nn.segnet(1, 2, **VGG).eval()
    seen = []
    model.decoder[0].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    before = []
    model.features[-1].register_forward_pre_hook(lambda module, args: before.append(args[0]))
    x = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        model(x)
        full = x
        for layer in model.features[:-1]:
            full = layer(full)
    (unpooled,) = seen
    pooled = torch.nn.functional.max_pool2d(full, 2)
    assert unpooled.shape == full.shape
    at = unpooled != 0
    assert torch.equal(unpooled[at], full[at])
    torch.testing.assert_close(unpooled.sum(), pooled.sum())


def test_too_small():
    with pytest.raises(ValueError, match="segnet: input must be at least 32 pixels"):
        nn.segnet(1, 2, **VGG)(torch.zeros(1, 1, 31, 64))


def test_without_batch_norm():
    model = nn.segnet(1, 2, norm="none", dropout=0.5, **VGG)
    assert not [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    x = torch.randn(1, 1, 64, 64)
    assert not torch.equal(model(x), model(x))
