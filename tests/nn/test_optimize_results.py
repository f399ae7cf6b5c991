"""What a plan gives back: parts and reshapes of maps, what torch made, indices, constants."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from medseg_fast.nn import optimize  # noqa: E402


class Head(nn.Module):
    """A function of a convolution's result."""

    def __init__(self, function, **layers):
        super().__init__()
        self.conv, self.function = nn.Conv2d(1, 8, 3, padding=1), function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, self.conv(x))


def check(model, *shapes, precision="float32", tolerance=1e-5):
    """The plan gives what the model gives, call after call; returns it."""
    torch.manual_seed(0)
    inputs = tuple(torch.randn(shape) for shape in shapes or [(2, 1, 8, 8)])
    model = model.eval()
    with torch.no_grad():
        expected = model(*(each.clone() for each in inputs))
    plan = optimize(model, inputs, precision)
    for _ in range(2):
        found = plan(*inputs)
        for a, b in zip(_several(found), _several(expected), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            assert (a - b).abs().max() <= tolerance * b.abs().max()
    return plan


def _several(result):
    return result if isinstance(result, tuple) else (result,)


FLATTENED = {
    "a map": lambda head, y: y.flatten(1),
    "a part": lambda head, y: y[:, 2:6, 1:5].flatten(1),
    "beside the map": lambda head, y: (y, y.flatten(1)),
    "beside a linear layer": lambda head, y: (y.flatten(1), head.linear(y.flatten(1))),
    "twice": lambda head, y: (y.relu().flatten(1), y.relu().flatten(1)),
}


@pytest.mark.parametrize("name", FLATTENED)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_flattened_maps(name, precision):
    model = Head(FLATTENED[name], linear=nn.Linear(512, 3))
    plan = check(model, precision=precision, tolerance=1e-5 if precision == "float32" else 0.02)
    assert not plan.fallbacks


def test_flattened_input():
    assert not check(nn.Flatten(), (2, 3, 5, 4)).fallbacks


OF_TORCH = {
    "channels": lambda head, y: F.gelu(y)[:, :4],
    "one channel": lambda head, y: F.gelu(y)[:, 0:1],
    "pixels": lambda head, y: F.gelu(y)[:, :, 2:5, 1:3],
    "flattened": lambda head, y: head.norm(y).view(2, -1),
    "flipped": lambda head, y: y.flip(1).view(2, -1),
    "shuffled": lambda head, y: y.view(2, 2, 4, 8, 8).transpose(1, 2).contiguous().view(y.shape),
    "a vector": lambda head, y: y.view(-1),
    "rows": lambda head, y: F.softplus(y).view(2, 2, -1),
    "attended": lambda head, y: head.attention(y.flatten(2).transpose(1, 2)),
}


@pytest.mark.parametrize("name", OF_TORCH)
def test_what_torch_made(name):
    attention = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = Head(OF_TORCH[name], norm=nn.LayerNorm(8), attention=attention)
    assert check(model).fallbacks


def _pooled(y):
    return F.max_pool2d(y, 2, return_indices=True)


def _unpooled(y):
    values, indices = _pooled(y)
    return F.max_unpool2d(values.relu(), indices, 2), indices


def _of_channels(y):
    values, indices = _pooled(y)
    return F.max_unpool2d(values[:, :4], indices[:, :4], 2)


def _twice(y):
    values, indices = _pooled(y)
    return F.max_unpool2d(torch.cat([values] * 2, 1), torch.cat([indices] * 2, 1), 2)


def _overlapping(y):
    values, indices = F.max_pool2d(y, 3, 2, 1, return_indices=True)
    return F.max_unpool2d(values, indices, 3, 2, 1, output_size=(8, 8))


@pytest.mark.parametrize("function", [_pooled, _unpooled, _of_channels, _twice, _overlapping])
def test_indices_of_maxima(function):
    """Where no unpooling alone takes them, torch does."""
    assert check(Head(lambda head, y: function(y))).fallbacks


def test_constant_beside_a_map():
    plan = check(Head(lambda head, y: (y, head.linear.weight.detach()), linear=nn.Linear(3, 2)))
    assert plan.fallbacks == {"output: clone": "a result is constant"}


class Counter(nn.Module):
    """Writes to its input and to a buffer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        x.add_(1)
        return self.conv(F.relu_(x))


def test_inputs_and_buffers_that_a_module_writes_to():
    """They are no results, and a plan leaves its input as it is."""
    check(Counter(), (1, 1, 8, 8))
    x = torch.randn(1, 1, 8, 8)
    plan, before = optimize(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(1, 1, 1)), x), x.clone()
    assert plan(x).shape == x.shape
    assert torch.equal(x, before)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("around", [nn.Identity, nn.SiLU])
def test_batch_of_single_pixels(stride, kernel, around):
    """A stride has nowhere to go."""
    layers = around(), nn.Conv2d(16, 8, kernel, stride=stride), around()
    assert not check(nn.Sequential(*layers), (3, 16, kernel, kernel)).fallbacks


@pytest.mark.parametrize("factor", [1.03, 1.55, 2.05])
@pytest.mark.parametrize("shape", [(1, 3, 20), (1, 3, 10, 20), (1, 1, 4, 10, 20)])
def test_nearest_by_a_factor(factor, shape):
    """Torch, in two dimensions, copies where the size stays, and doubles where it doubles."""
    check(nn.Upsample(scale_factor=factor), shape, tolerance=0)


def test_average_pooling_in_one_dimension():
    assert not check(nn.Sequential(nn.Conv1d(1, 2, 3), nn.AvgPool1d(2)), (1, 1, 16)).fallbacks


class DataDependent(nn.Module):
    """Its course depends on values."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("model", "example", "error"),
    [
        (DataDependent(), torch.ones(1, 1, 4, 4), ValueError),
        (nn.Conv2d(1, 2, 3).double(), torch.ones(1, 1, 4, 4), ValueError),
        (nn.Conv2d(1, 2, 3), torch.ones(1, 3, 4, 4), ValueError),
        (nn.Conv2d(1, 2, 3), (), TypeError),
    ],
)
def test_models_that_cannot_be_traced(model, example, error):
    with pytest.raises(error, match="optimize: model cannot be traced with the example: "):
        optimize(model, example)


def test_modes_come_back():
    """Of each module inside: a frozen norm stays frozen, one that learns goes on learning."""
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)).train()
    model[1].eval()
    optimize(model, torch.zeros(1, 1, 8, 8))
    assert [each.training for each in model.modules()] == [True, True, False, True]
