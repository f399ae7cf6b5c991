"""Attention in plans: block by block on our kernels, or left to torch where it is another one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _memory import peak_bytes_per_pixel  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import medseg_fast  # noqa: E402
from medseg_fast.nn import load_plan, optimize  # noqa: E402


class Attention(nn.Module):
    """Of a map's pixels, or of those of one of another size, to those of another map."""

    def __init__(self, ndim, channels, heads, up=False, scale=None, sharp=1.0):
        super().__init__()
        conv = nn.Conv1d if ndim == 1 else nn.Conv2d if ndim == 2 else nn.Conv3d
        up_conv = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        self.heads, self.scale, self.sharp = heads, scale, sharp
        self.query = up_conv(4, channels, 2, stride=2) if up else conv(4, channels, 1)
        self.key, self.value = conv(4, channels, 1), conv(4, channels, 1)

    def rows(self, x):
        n, channels = x.shape[:2]
        return x.reshape(n, self.heads, channels // self.heads, -1).transpose(2, 3)

    def forward(self, x):
        query = self.query(x) * self.sharp
        q, k, v = self.rows(query), self.rows(self.key(x)), self.rows(self.value(x))
        seen = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return seen.transpose(-1, -2).reshape(query.shape)


CASES = {
    "one pixel": (Attention(2, 4, 2), (2, 4, 1, 1)),
    "one head": (Attention(2, 5, 1), (2, 4, 7, 9)),
    "a head for each channel": (Attention(2, 3, 3), (1, 4, 6, 5)),
    "blocks": (Attention(2, 16, 2), (2, 4, 23, 29)),
    "many channels": (Attention(2, 70, 2), (1, 4, 13, 21)),
    "larger queries": (Attention(2, 6, 2, up=True), (2, 4, 9, 11)),
    "larger queries, 3D": (Attention(3, 8, 4, up=True), (2, 4, 3, 5, 7)),
    "a line": (Attention(1, 8, 2), (3, 4, 301)),
    "a scale": (Attention(2, 6, 2, scale=0.3), (1, 4, 12, 12)),
    "scores of some hundred": (Attention(2, 6, 2, sharp=300.0), (1, 4, 20, 20)),
}


@pytest.mark.parametrize("name", CASES)
def test_attention(name, tmp_path):
    model, shape = CASES[name]
    torch.manual_seed(0)
    x = torch.randn(shape)
    plan = optimize(model.eval(), x)
    assert "attention" in str(plan)
    assert not plan.fallbacks
    with torch.no_grad():
        expected = model(x)
    # Rounding of large scores is that of weights.
    most = 1e-3 if model.sharp > 1 else 1e-5
    assert (plan(x) - expected).abs().max() <= most * expected.abs().max()
    results = []
    for threads in (1, 2, 5):
        with medseg_fast.num_threads(threads):
            results.append(plan(x))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    plan.save(tmp_path / "plan")
    assert torch.equal(load_plan(tmp_path / "plan")(x), plan(x))
    narrow = optimize(model, x, precision="bfloat16")(x)
    if model.sharp == 1:
        assert (narrow - expected).abs().max() <= 0.05 * expected.abs().max()


def test_nan_spreads_to_those_that_see_it():
    """A key that is NaN is in every sum; a query alone spoils its own pixel."""

    class Keys(Attention):
        def forward(self, x):
            q, k, v = (self.rows(y) for y in (x[:, :4], x[:, 4:8], x[:, 8:]))
            seen = F.scaled_dot_product_attention(q, k, v)
            return seen.transpose(2, 3).reshape(x[:, :4].shape)

    model = Keys(2, 4, 2).eval()
    x = torch.rand(1, 12, 14, 15)
    plan = optimize(model, x)
    assert not plan.fallbacks
    x[0, 4, 13, 14] = torch.nan  # a key of the first head
    found = plan(x).isnan()
    assert found[0, :2].all()
    assert not found[0, 2:].any()
    x[0, 4, 13, 14], x[0, 3, 0, 1] = 0, torch.nan  # a query of the second one
    found = plan(x).isnan()
    assert found[0, 2:, 0, 1].all()
    assert found.sum() == 2


class _Other(Attention):
    def __init__(self, function):
        super().__init__(2, 8, 2)
        self.function = function

    def forward(self, x):
        parts = [self.rows(y(x)) for y in (self.query, self.key, self.value)]
        return self.function(*parts)


def _map(rows):
    return rows.transpose(2, 3).reshape(rows.shape[0], -1, 5, 6)


OTHERS = {
    "causal": lambda q, k, v: _map(F.scaled_dot_product_attention(q, k, v, is_causal=True)),
    "a mask": lambda q, k, v: _map(
        F.scaled_dot_product_attention(q, k, v, torch.ones(30, 30).tril().bool())
    ),
    "rows are the result": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
    "a query is used twice": lambda q, k, v: (
        _map(F.scaled_dot_product_attention(q, k, v)) + q.mean()
    ),
    "constant keys": lambda q, k, v: _map(
        F.scaled_dot_product_attention(q, torch.linspace(0, 1, 480).reshape(v.shape), v)
    ),
    "constant keys of a map": lambda q, k, v: _map(
        F.scaled_dot_product_attention(
            q, torch.linspace(0, 1, 480).reshape(2, 8, 5, 6).reshape(2, 2, 4, -1).transpose(2, 3), v
        )
    ),
    "products": lambda q, k, v: _map(q @ k.transpose(2, 3) @ v),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_attention_is_left_to_torch(name):
    torch.manual_seed(0)
    model, x = _Other(OTHERS[name]).eval(), torch.randn(2, 4, 5, 6)
    plan = optimize(model, x)
    assert plan.fallbacks
    with torch.no_grad():
        torch.testing.assert_close(plan(x), model(x), rtol=1e-4, atol=1e-5)


def test_memory_does_not_grow_with_pixels_squared(tmp_path):
    """4096 pixels: all pairs would be 16 kB a pixel for each head."""
    x = np.random.default_rng(0).standard_normal((1, 4, 64, 64), np.float32)
    optimize(Attention(2, 8, 2).eval(), x).save(tmp_path / "plan")
    np.save(tmp_path / "x.npy", x)
    setup = f"""
    from medseg_fast import nn
    plan = nn.load_plan({str(tmp_path / "plan")!r})
    image = np.load({str(tmp_path / "x.npy")!r})
    """
    # Four maps of 8 channels, and half a megabyte a thread.
    got = peak_bytes_per_pixel("plan(image)", setup=setup, pixels="image[0, 0].size", threads=2)
    assert got < 600
