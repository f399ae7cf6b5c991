"""Convolutions that a plan runs band by band: the bytes of the whole map, in less memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medseg_fast.nn import load_plan, optimize
from medseg_fast.nn._optimize import _bands, _lower


@pytest.fixture
def plans(monkeypatch):
    """A plan without bands, and one with bands of a few rows."""

    def build(network, x, **options):
        with monkeypatch.context() as patch:
            patch.setattr(_lower, "in_bands", lambda *_, **__: None)
            whole = optimize(network.eval(), x, **options)
        with monkeypatch.context() as patch:
            patch.setattr(_bands, "_BAND", 4000)
            patch.setattr(_bands, "_MUCH", 1)
            return whole, optimize(network.eval(), x, **options)

    return build


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [(29, 23), (16, 23), (7, 19), (14, 6, 7), (3, 40, 2)])
@pytest.mark.parametrize("batch", [1, 2])
def test_same_bytes(isa, plans, precision, size, batch):
    torch.manual_seed(0)
    conv = (nn.Conv2d, nn.Conv3d)[len(size) - 2]
    network = nn.Sequential(
        conv(3, 16, 3, padding=1),
        nn.ReLU(),
        conv(16, 32, 1),
        nn.ReLU(),
        conv(32, 24, 1, dilation=2),
        nn.Tanh(),
        conv(24, 2, 1),
    )
    x = torch.randn(batch, 3, *size)
    whole, cut = plans(network, x, precision=precision)
    rows = size[0]
    assert len(whole.steps) == 4
    assert len(cut.steps) == (1 + 3 * -(-rows // 8) if rows > 8 else 4)
    np.testing.assert_array_equal(cut(x).numpy(), whole(x).numpy())
    assert cut.weight_memory == whole.weight_memory
    assert cut.peak_memory <= whole.peak_memory


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("size", "kernel", "padding", "dilation"),
    [
        ((29, 23), 5, 4, 2),
        ((33, 47), 5, 0, 4),  # of LeNet-5
        ((24, 25), 3, 3, 3),
        ((20, 31), 3, (2, 0), (2, 1)),
        ((5, 19, 18), 3, 2, 2),
        ((4, 17, 16), (1, 3, 3), (0, 2, 3), (2, 2, 3)),
    ],
)
@pytest.mark.parametrize("batch", [1, 2])
def test_phases_of_dilated_layers(isa, plans, precision, size, kernel, padding, dilation, batch):
    if precision == "bfloat16" and _lower.core.have_tiles():
        pytest.skip("AMX's tiles do dilated layers whole")
    torch.manual_seed(0)
    conv = (nn.Conv2d, nn.Conv3d)[len(size) - 2]
    network = nn.Sequential(
        conv(1, 16, 1),
        conv(16, 40, kernel, padding=padding, dilation=dilation),
        nn.Tanh(),
        conv(40, 24, 1),
        nn.ReLU(),
        conv(24, 2, 1),
    )
    x = torch.randn(batch, 1, *size)
    whole, cut = plans(network, x, precision=precision)
    phases = np.prod(network[1].dilation[-2:])
    named = [step.name for step in cut.steps]
    assert named.count("3") == named.count("5") == phases
    assert [step.name for step in whole.steps].count("3") == 1
    np.testing.assert_array_equal(cut(x).numpy(), whole(x).numpy())
    assert cut.weight_memory == whole.weight_memory
    assert cut.peak_memory < whole.peak_memory
    if precision == "float32":
        expected = network(x).detach().numpy()
        np.testing.assert_allclose(cut(x).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_files_hold_shared_weights_once(tmp_path, precision):
    """Of phases, whose layers are one module; so does the file of a plan that was loaded."""
    network = nn.Sequential(nn.Conv2d(16, 64, 3, dilation=3), nn.ReLU(), nn.Conv2d(64, 2, 1))
    plan = optimize(network.eval(), torch.randn(1, 16, 40, 40), precision=precision)
    plan.save(tmp_path / "first")
    loaded = load_plan(tmp_path / "first")
    loaded.save(tmp_path / "second")
    assert loaded.weight_memory == plan.weight_memory
    assert load_plan(tmp_path / "second").weight_memory == plan.weight_memory
    numbers = sum(parameter.numel() for parameter in network.parameters())
    for name in ("first", "second"):
        content = (tmp_path / name).read_bytes()
        assert len(content) - 8 - int.from_bytes(content[:8], "little") == 4 * numbers


class Apart(nn.Module):
    """Maps that two layers read, that are an output, and that are in a concatenation."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(16, 16, 1) for _ in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(16, 16, 1) for _ in range(4))
        self.strided = nn.Conv2d(16, 16, 1, stride=2)
        self.padded = nn.Conv2d(16, 16, 1, padding=1)
        self.last = nn.Conv2d(48, 3, 3)

    def forward(self, x):
        a, b, c = self.first(x), self.second(x), self.third(x)
        both = torch.cat([self.heads[0](a), self.heads[1](a), self.heads[2](c)], 1)
        return self.last(both), b, self.padded(self.strided(self.heads[3](b)))


def test_maps_that_others_need_stay_whole(plans):
    torch.manual_seed(0)
    network, x = Apart(), torch.randn(1, 16, 33, 20)
    whole, cut = plans(network, x)
    names = [step.name for step in cut.steps]
    for name in ("first", "second", "heads.0", "heads.1", "heads.3", "strided", "padded", "last"):
        assert names.count(name) == 1
    assert names.count("third") == names.count("heads.2") > 1
    for one, other in zip(cut(x), whole(x), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_zeros_and_strides_that_keep_the_size(plans):
    """Of 21 pixels the outputs are every second from 10 zeros before them on: 21 again."""
    torch.manual_seed(0)
    odd = nn.Conv2d(16, 16, 1, stride=2, padding=10)
    network = nn.Sequential(nn.Conv2d(16, 16, 1), odd, nn.Conv2d(16, 5, 1))
    x = torch.randn(1, 16, 21, 21)
    whole, cut = plans(network, x)
    np.testing.assert_array_equal(cut(x).numpy(), whole(x).numpy())
    np.testing.assert_allclose(cut(x).numpy(), network(x).detach().numpy(), atol=1e-5)


def test_features_without_pixels(plans):
    network = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.Linear(32, 5))
    x = torch.randn(40, 16)
    whole, cut = plans(network, x)
    assert len(cut.steps) == 3
    np.testing.assert_array_equal(cut(x).numpy(), whole(x).numpy())


def test_small_maps_and_integers_stay_whole(plans):
    """Steps of 8 bits are of all values of a map."""
    network = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU(), nn.Conv2d(32, 16, 1))
    x = torch.randn(1, 16, 40, 40)
    assert len(optimize(network, x).steps) == 2
    whole, cut = plans(network, x, precision="int8")
    assert len(whole.steps) == len(cut.steps) == 2


def test_large_map_is_never_held(tmp_path):
    """1024 x 2048 pixels of 16 channels would be 134 MB."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 16, 1), nn.ReLU(), nn.Conv2d(16, 1, 1)).eval()
    x = torch.randn(1, 1, 1024, 2048)
    plan = optimize(network, x)
    assert plan.peak_memory < 5 << 20
    plan.save(tmp_path / "network.plan")
    again = load_plan(tmp_path / "network.plan")
    np.testing.assert_array_equal(again(x).numpy(), plan(x).numpy())
    with torch.no_grad():
        np.testing.assert_allclose(plan(x).numpy(), network(x).numpy(), atol=1e-5)
