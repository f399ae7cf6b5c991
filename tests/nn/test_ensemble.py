"""Fusion of modalities: late by an ensemble, in the middle by encoders of their own."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
# ruff: noqa: E402

from medseg_fast import nn


def _unet(channels=1, classes=2, **options):
    torch.manual_seed(channels + classes)
    options = {"widths": (4, 8), "padding": "same", **options}
    return nn.unet(channels, classes, **options).eval()


@pytest.mark.parametrize("classes", [1, 3])
def test_mean_of_probabilities(rng, classes):
    one, two = _unet(1, classes), _unet(2, classes)
    both = nn.Ensemble([one, two], channels=[[2], [0, 1]]).eval()
    assert (both.ndim, both.in_channels, both.classes) == (2, 3, classes)
    image = rng.normal(size=(24, 20, 3)).astype(np.float32)
    parts = [
        nn.predict(one, image[..., 2], output="probabilities"),
        nn.predict(two, image[..., :2], output="probabilities"),
    ]
    found = nn.predict(both, image, output="probabilities")
    np.testing.assert_allclose(found, np.mean(parts, 0), atol=1e-6)


def test_folds_see_the_same():
    networks = [_unet(2), _unet(2)]
    x = torch.rand(1, 2, 16, 16)
    found = nn.Ensemble(networks)(x).softmax(1)
    expected = sum(network(x).softmax(1) for network in networks) / 2
    torch.testing.assert_close(found, expected)


def test_certain_networks_stay_finite():
    network = _unet()
    with torch.no_grad():
        network.head.bias.copy_(torch.tensor([1e4, -1e4]))
    assert nn.Ensemble([network, network])(torch.zeros(1, 1, 8, 8)).isfinite().all()


@pytest.mark.parametrize(
    ("networks", "channels", "error", "words"),
    [
        (lambda: [], None, ValueError, "networks must not be empty"),
        (lambda: [torch.nn.Conv2d(1, 2, 1)], None, TypeError, "Conv2d has not"),
        (lambda: [_unet(), _unet(1, 3)], None, ValueError, "the same axes and classes"),
        (lambda: [_unet(), _unet(2)], None, ValueError, r"must name \[1, 2\] channels"),
        (lambda: [_unet()], [[-1]], ValueError, "channels must name"),
        (lambda: [_unet()], [[0], [1]], ValueError, "channels must name"),
    ],
)
def test_mistakes(networks, channels, error, words):
    with pytest.raises(error, match=words):
        nn.Ensemble(networks(), channels)


def test_encoders_of_modalities(tmp_path):
    """Each sees its channels alone; the decoder sees the mean of their maps."""
    pytest.importorskip("safetensors", reason="model files need the extra nn")
    model = _unet(4, modalities=2, norm="batch", dropout=0.1)
    x = torch.rand(2, 4, 20, 28)
    maps = model._contracted(x)
    single = _unet(2, norm="batch")
    parts = []
    for number, encoder in enumerate((model.encoder, model.further_encoders[0])):
        single.encoder.load_state_dict(encoder.state_dict())
        parts.append(single._contracted(x[:, 2 * number : 2 * number + 2]))
    for level, (a, b) in zip(maps, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(level, (a + b) / 2)
    nn.save_model(model, tmp_path / "m.safetensors")
    again = nn.load_model(tmp_path / "m.safetensors").eval()
    torch.testing.assert_close(again(x), model(x))
    plan = nn.optimize(model, x)
    torch.testing.assert_close(torch.as_tensor(plan(x)), model(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="in_channels must be a multiple of modalities = 2, got 3"):
        _unet(3, modalities=2)
