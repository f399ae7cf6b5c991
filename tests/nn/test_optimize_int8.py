"""Plans in 8-bit integers: exact beside a twin in NumPy, and close to the network's classes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

import medseg_fast as ms  # noqa: E402
from medseg_fast import nn  # noqa: E402
from medseg_fast.nn._optimize import _lower  # noqa: E402
from medseg_fast.nn._runners import first_of  # noqa: E402


@pytest.fixture(autouse=True)
def _no_tiles(monkeypatch):
    """As on a CPU without AMX: where it is, all layers go through its tiles."""
    core = _lower.core
    choose = core.convolution_algorithm
    monkeypatch.setattr(core, "have_tiles", lambda: False)
    monkeypatch.setattr(core, "have_byte_tiles", lambda: False)
    monkeypatch.setattr(
        core, "convolution_algorithm", lambda *layer: choose(*layer[:3], False, False)
    )


def _rounded(values, largest, low, high):
    scale = np.float32(largest / high)
    return np.rint((values / scale).clip(low, high)), scale


def _twin(layer, x):
    """The layer on integers, in float64, where they are exact."""
    size = np.sort(np.abs(x).ravel())
    largest = size[len(size) - 1 - int(1e-4 * len(size))]
    low, high = (0, 255) if x.min() >= 0 else (-127, 127)
    steps, scale = _rounded(x, largest, low, high)
    weight = layer.weight.detach().numpy()
    most = np.abs(weight).reshape(len(weight), -1).max(1).reshape(-1, *[1] * (weight.ndim - 1))
    integers, each = _rounded(weight, most, -127, 127)[0], (most / np.float32(127)).ravel()
    # The layer itself, on integers without a bias.
    twin = torch.nn.utils.skip_init(
        type(layer),
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        bias=False,
    ).double()
    twin.weight.data = torch.from_numpy(integers.astype(np.float64))
    found = twin(torch.from_numpy(steps.astype(np.float64))).detach().numpy()
    shape = (1, -1, *[1] * (x.ndim - 2))
    bias = layer.bias.detach().numpy().reshape(shape)
    return found * (each * scale).reshape(shape) + bias


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (torch.nn.Conv2d(32, 40, 1), (2, 32, 9, 13)),
        (torch.nn.Conv2d(17, 16, 1), (1, 17, 30, 7)),  # an odd number of channels
        (torch.nn.Conv2d(16, 33, 3, stride=2, padding=1), (1, 16, 21, 16)),
        (torch.nn.Conv2d(24, 16, (1, 5), dilation=2), (1, 24, 5, 40)),
        (torch.nn.Conv3d(16, 16, 3, stride=2), (1, 16, 7, 8, 9)),
        (torch.nn.Conv2d(300, 64, 1), (1, 300, 16, 16)),
    ],
    ids=str,
)
@pytest.mark.parametrize("threads", [1, 2])
def test_sums_are_exact(layer, shape, positive, threads, rng, isa):
    x = rng.normal(size=shape).astype(np.float32)
    x = abs(x) if positive else x
    plan = nn.optimize(layer, x, precision="int8")
    assert [step.layer.endswith("8 bits") for step in plan.steps] == [True]
    with ms.num_threads(threads):
        found = plan(x)
    np.testing.assert_allclose(found, _twin(layer, x), rtol=1e-5, atol=1e-5)


def test_values_beyond_the_steps(rng):
    """The largest step stands for them, the lowest for NaN."""
    layer = torch.nn.Conv2d(16, 16, 1)
    plan = nn.optimize(layer, rng.normal(size=(1, 16, 8, 8)).astype(np.float32), precision="int8")
    x = np.zeros((1, 16, 8, 8), np.float32)
    x[0, :, 0, 0], x[0, :, 0, 1], x[0, :, 0, 2] = 1e30, np.inf, 1e6
    found = plan(x)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[..., 0, 0], found[..., 0, 1])
    np.testing.assert_array_equal(found[..., 0, 0], found[..., 0, 2])


NETWORKS = {
    "unet": lambda: nn.unet(1, 3, widths=(16, 32, 48), padding="same", norm="batch"),
    "fcn8s": lambda: nn.fcn8s(1, 3, widths=(16, 16, 16, 32, 32), fc_width=64, padding="same"),
    "pspnet": lambda: nn.pspnet(1, 3, backbone="resnet18", width=16),
    "vnet": lambda: nn.vnet(1, 3, widths=(16, 32)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_classes(name, rng, tmp_path):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    shape = (8, 16, 16) if name == "vnet" else (64, 64)
    x = torch.from_numpy(rng.normal(size=(1, 1, *shape)).astype(np.float32))
    plan = nn.optimize(model, x, precision="int8")
    assert any("8 bits" in step.layer for step in plan.steps)
    with torch.no_grad():
        expected = first_of(model(x))
    found = first_of(plan(x))
    assert (found.argmax(1) == expected.argmax(1)).float().mean() >= 0.95
    plan.save(tmp_path / "m.plan")
    again = nn.load_plan(tmp_path / "m.plan")
    assert again.precision == "int8"
    np.testing.assert_array_equal(first_of(again(x.numpy())), found.numpy())


@pytest.mark.parametrize("fours", [False, True])
def test_few_channels_and_winograd_stay(rng, monkeypatch, fours):
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 1),
        torch.nn.Conv2d(64, 5, 1),
    )
    x = rng.normal(size=(1, 3, 20, 20)).astype(np.float32)
    winograd, fixed = map(_lower.ALGORITHMS.index, ("winograd 4x4", "fixed"))
    choose = _lower.core.convolution_algorithm
    monkeypatch.setattr(_lower.core, "have_byte_products", lambda: fours)
    if fours:
        monkeypatch.setattr(
            _lower.core,
            "convolution_algorithm",
            lambda *layer: fixed if (found := choose(*layer)) == winograd else found,
        )
    plan = nn.optimize(layers, x, precision="int8")
    steps = [step.layer.rpartition(", ")[2] for step in plan.steps]
    assert steps == ["direct", "fixed" if fours else "winograd 4x4", "8 bits", "direct"]


def test_tiles_of_bytes_carry_all(rng, monkeypatch):
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(3, 32, 1), torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.Conv2d(32, 16, 1)
    )
    x = rng.normal(size=(1, 3, 20, 20)).astype(np.float32)
    monkeypatch.setattr(_lower.core, "have_byte_tiles", lambda: True)
    plan = nn.optimize(layers, x, precision="int8")
    steps = [step.layer.rpartition(", ")[2] for step in plan.steps]
    assert steps == ["direct", "8 bits", "8 bits"]


def test_zeros_tell_nothing():
    with pytest.raises(ValueError, match="example must be images like those to come"):
        nn.optimize(torch.nn.Conv2d(16, 16, 1), torch.zeros(1, 16, 4, 4), precision="int8")


def test_no_mask_rcnn():
    model = nn.mask_rcnn.mask_rcnn(2, backbone="resnet18", width=8)
    with pytest.raises(NotImplementedError, match="int8"):
        nn.optimize(model, torch.rand(3, 32, 32), precision="int8")
