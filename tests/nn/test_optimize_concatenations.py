"""Concatenations that are nowhere in memory: convolutions read their maps."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from torch import nn  # noqa: E402

from medseg_fast.nn import load_plan, optimize  # noqa: E402
from medseg_fast.nn._optimize import _lower, _memory  # noqa: E402

PARTS = [(16, 16), (32, 48, 32), (64, 64), (96, 48), (128, 16, 144)]
MAPS = {
    2: (
        lambda n, m: nn.Conv2d(n, m, 3, padding=1),
        (2, 3, 29, 22),
    ),
    3: (
        lambda n, m: nn.Conv3d(n, m, 3, padding=(1, 0, 1)),
        (1, 3, 4, 13, 18),
    ),
}


class Joined(nn.Module):
    """Maps of so many channels each, some of them cut out of larger ones, and a convolution."""

    def __init__(self, parts, conv):
        super().__init__()
        self.makers = nn.ModuleList(conv(3, n + 16 * (i % 2)) for i, n in enumerate(parts))
        self.parts = parts
        self.last = conv(sum(parts), 21)

    def forward(self, x):
        maps = [make(x).relu()[:, :n] for make, n in zip(self.makers, self.parts, strict=True)]
        return self.last(torch.cat(maps, 1))


def joined_or_apart(model, x, monkeypatch, precision="float32"):
    """The plan, and its result without and with a concatenated map."""
    apart = optimize(model, x, precision=precision)
    with monkeypatch.context() as patch:
        patch.setattr(_memory, "_reads_maps", lambda *_: False)
        together = optimize(model, x, precision=precision)
    assert apart.peak_memory < together.peak_memory
    assert not any("copy" in step.layer for step in apart.steps)
    return apart, together(x.numpy()), apart(x.numpy())


@pytest.mark.parametrize("parts", PARTS, ids=str)
@pytest.mark.parametrize("ndim", MAPS)
@pytest.mark.parametrize("algorithm", _lower.ALGORITHMS[1:])
def test_same_bits(isa, monkeypatch, parts, ndim, algorithm):
    torch.manual_seed(0)
    conv, shape = MAPS[ndim]
    model, x = Joined(parts, conv).eval(), torch.randn(shape)
    number = _lower.ALGORITHMS.index(algorithm)
    monkeypatch.setattr(_lower.core, "convolution_algorithm", lambda *_: number)
    narrow = algorithm in ("tiles", "pairs", "fixed", "fixed 6x6")
    _, together, apart = joined_or_apart(model, x, monkeypatch, "bfloat16" if narrow else "float32")
    np.testing.assert_array_equal(apart, together)
    with torch.no_grad():
        expected = model(x).numpy()
    assert np.abs(apart - expected).max() <= (0.03 if narrow else 1e-4) * np.abs(expected).max()


@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_same_integers(monkeypatch, parts, tmp_path):
    """Of precision int8, and from a file."""
    torch.manual_seed(0)
    model, x = Joined(parts, MAPS[2][0]).eval(), torch.randn(MAPS[2][1])
    monkeypatch.setattr(_lower.core, "have_byte_products", lambda: True)
    plan, together, apart = joined_or_apart(model, x, monkeypatch, "int8")
    np.testing.assert_array_equal(apart, together)
    plan.save(tmp_path / "plan")
    np.testing.assert_array_equal(load_plan(tmp_path / "plan")(x.numpy()), apart)


def test_callers_arrays():
    """Maps of the caller, channels outside, beside the plan's own."""
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(48, 5, 3)

        def forward(self, x):
            return self.last(torch.cat([x, self.first(x)], 1))

    model, x = Model().eval(), torch.randn(1, 16, 21, 30)
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.02)):
        plan = optimize(model, x, precision=precision)
        assert not any("copy" in step.layer for step in plan.steps)
        with torch.no_grad():
            expected = model(x)
        assert (plan(x) - expected).abs().max() <= tolerance * expected.abs().max()


@pytest.mark.parametrize(
    "function",
    [
        lambda maps, conv: (whole := torch.cat(maps, 1), conv(whole)),
        lambda maps, conv: conv(torch.cat(maps, 1)[:, :, 1:]),
        lambda maps, conv: conv(torch.cat(maps, 1)) + torch.cat(maps, 1)[:, :1],
    ],
    ids=["result", "part", "others"],
)
def test_where_it_is_needed(function):
    """Concatenations that are results, parts of which are read, or that others read as well."""
    torch.manual_seed(0)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Conv2d(32, 16, 3, padding=1)

        def forward(self, x):
            return function([x.relu(), x.tanh()], self.last)

    model, x = Model().eval(), torch.randn(1, 16, 11, 14)
    results, expected = optimize(model, x)(x), model(x)
    for a, b in zip(results, expected, strict=True):
        assert (a - b).abs().max() <= 1e-5


def test_wrong_maps():
    core = _lower.core
    geometry = ((1, 3, 3), (1, 1, 1), (0, 1, 1), (0, 1, 1), (1, 1, 1), (1, 1, 1))
    weight, bias = np.zeros((4, 32, 1, 3, 3), np.float32), np.zeros(4, np.float32)

    def view(channels, columns=8):
        strides = (8 * columns * channels, columns * channels, channels)
        return (0, 0, False, 1, channels, (1, 8, columns), 1 << 14, 1, strides)

    for maps, message in [
        ([view(16)], "do not fit its channels"),
        ([], "do not fit its channels"),
        ([view(2)] * 17, "too many maps"),
        ([view(16), view(16, 4)], "different sizes"),
    ]:
        with pytest.raises(ValueError, match=message):
            core.plan().convolution(
                (32, 4), geometry, 0, 0.0, 0, 1, weight, bias, maps, view(4), None, None, []
            )
