"""Every layer that a plan knows, and what it does with those it does not know."""

from importlib import import_module

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from medseg_fast.nn import optimize  # noqa: E402
from medseg_fast.nn._optimize import _lower  # noqa: E402

convolution = import_module("medseg_fast.nn.functional.convolution")
DIRECT = _lower.ALGORITHMS.index("direct")


class Calls(nn.Module):
    """A function of maps, with some layers before and after it."""

    def __init__(self, function, channels=6, *layers):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(layers)
        for layer in self.modules():
            if getattr(layer, "running_mean", None) is not None:
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 2)

    def forward(self, *x):
        return self.function(*x, *self.layers)


def check(function, *shapes, layers=(), fallbacks=0, tolerance=1e-5):
    """The plan gives what the function gives; returns it."""
    torch.manual_seed(0)
    model = Calls(function, 6, *layers).eval()
    inputs = tuple(torch.randn(shape) for shape in shapes)
    plan = optimize(model, inputs)
    with torch.no_grad():
        expected = model(*inputs)
    result = plan(*inputs)
    for a, b in zip(_leaves(result), _leaves(expected), strict=True):
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * b.abs().max() + 1e-7
    assert len(plan.fallbacks) == fallbacks, plan.fallbacks
    return plan


def _leaves(result):
    if isinstance(result, dict):
        result = list(result.values())
    return result if isinstance(result, (list, tuple)) else [result]


IMAGE, VOLUME, SIGNAL, ROWS = (2, 6, 9, 14), (1, 6, 5, 7, 6), (2, 6, 21), (3, 6)
bias = torch.linspace(-1, 1, 6)

CONVOLUTIONS = [
    nn.Conv2d(6, 5, 3),
    nn.Conv2d(6, 5, 3, padding="same", dilation=2),
    nn.Conv2d(6, 5, (4, 2), padding="same"),
    nn.Conv2d(6, 5, 5, stride=(2, 3), padding=(2, 1), bias=False),
    nn.Conv2d(6, 6, 3, padding=1, groups=2),
    nn.Conv2d(6, 12, 3, padding=1, groups=6),
    nn.Conv2d(6, 7, 1),
    nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
    nn.ConvTranspose2d(6, 5, 2, stride=2),
    nn.ConvTranspose2d(6, 5, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1, bias=False),
    nn.ConvTranspose2d(6, 5, (5, 3), stride=(2, 1), padding=(0, 2)),
    nn.ConvTranspose2d(6, 6, 16, stride=8, groups=6),
    nn.ConvTranspose2d(6, 5, 3, stride=1, padding=1),
    nn.ConvTranspose2d(6, 64, 2, stride=2),  # all phases in one convolution
    nn.ConvTranspose2d(6, 32, (2, 5), stride=(2, 3), padding=(0, 1)),  # some of them
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
def test_convolutions(layer):
    plan = check(lambda x, layer: layer(x), IMAGE, layers=[layer])
    assert "convolution" in str(plan)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv3d(6, 5, 3, padding=1), VOLUME),
        (nn.Conv3d(6, 5, (1, 3, 3), stride=(1, 2, 2)), VOLUME),
        (nn.ConvTranspose3d(6, 5, 2, stride=2), VOLUME),
        (nn.ConvTranspose3d(6, 32, 2, stride=2), VOLUME),
        (nn.ConvTranspose3d(6, 5, 3, stride=2, padding=1, output_padding=1), VOLUME),
        (nn.Conv1d(6, 5, 3, padding=1), SIGNAL),
        (nn.Linear(6, 4), ROWS),
    ],
    ids=str,
)
def test_other_ranks(layer, shape):
    check(lambda x, layer: layer(x).relu(), shape, layers=[layer])


NORMS = [
    nn.BatchNorm2d(6),
    nn.InstanceNorm2d(6),
    nn.InstanceNorm2d(6, affine=True),
    nn.GroupNorm(3, 6),
]


@pytest.mark.parametrize("norm", NORMS, ids=str)
@pytest.mark.parametrize("place", ["before", "after", "alone"])
def test_norms(norm, place):
    for parameter in norm.parameters():
        nn.init.uniform_(parameter, 0.5, 2)
    conv = nn.Conv2d(6, 6, 3, padding=1)
    layers = {"before": [norm, nn.ReLU(), conv], "after": [conv, norm, nn.ReLU()], "alone": [norm]}
    model = nn.Sequential(*layers[place])
    plan = check(lambda x, model: model(x), IMAGE, layers=[model])
    if place == "after" and isinstance(norm, nn.BatchNorm2d):
        assert len(plan.steps) == 1  # folded and fused


ACTIVATIONS = [
    nn.ReLU(),
    nn.ReLU(inplace=True),
    nn.LeakyReLU(0.2),
    nn.PReLU(),
    nn.PReLU(6),
    nn.ELU(0.7),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.ReLU6(),
    nn.Hardtanh(-0.3, 0.5),
    nn.SiLU(),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.Hardswish(inplace=True),
    nn.Softmax(1),
    nn.Dropout(),
    nn.Dropout2d(),
    nn.Identity(),
]


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=str)
def test_activations(layer):
    """On the input, and on a convolution's result; over a wide range."""
    conv = nn.Conv2d(6, 6, 1)
    check(lambda x, layer: layer(20 * x), IMAGE, layers=[layer])
    check(lambda x, conv, layer: layer(conv(x)) + x, IMAGE, layers=[conv, layer])


def test_values_that_are_not_finite():
    model = nn.Sequential(nn.ReLU6(), nn.Tanh()).eval()
    x = torch.tensor([[-1.0, 0.5, torch.inf, -torch.inf, torch.nan]])[..., None, None]
    for layer in (model, nn.Sigmoid(), nn.ELU(), nn.MaxPool2d(1, 1)):
        result, expected = optimize(layer, x)(x), layer(x)
        torch.testing.assert_close(result, expected, equal_nan=True)


TANHS = {  # and whether they take no step of their own
    "plain": (lambda x: x.tanh(), True),
    "squashing": (lambda x: 1.7159 * torch.tanh(x * (2 / 3)), True),
    "negative": (lambda x: torch.tanh(x) * -2, True),
    "of each channel": (lambda x: torch.tanh(x) * bias.view(-1, 1, 1), False),
    "shifted": (lambda x: torch.tanh(x) * 2 + 1, False),
}


@pytest.mark.parametrize("name", TANHS)
@pytest.mark.parametrize("pool", [False, True])
def test_tanh_of_convolutions(name, pool):
    """Part of the convolution, and what all channels are multiplied by before and after it."""
    function, alone = TANHS[name]

    def layers(x, conv):
        x = function(conv(x))
        return F.max_pool2d(x, 2) if pool else x

    plan = check(layers, IMAGE, layers=[nn.Conv2d(6, 6, 3)], tolerance=2e-6)
    steps = [step.layer for step in plan.steps]
    assert steps[0].startswith("convolution 3x3 + tanh")
    assert (len(steps) == 1) == alone, steps


ARITHMETIC = {
    "sums": lambda x, y: x + y - (x - 0.5 * y) + 1,
    "scaled": lambda x, y: 3 * x - y / 2,
    "difference": lambda x, y: 1 - x,
    "product": lambda x, y: x * y,
    "per channel": lambda x, y: x * bias.view(-1, 1, 1) + bias[:, None, None] * 2,
    "gate": lambda x, y: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "attention gate": lambda x, y: x * y[:, :1].sigmoid(),
    "own channel": lambda x, y: (z := x + y) * z[:, 1:2],
    "square": lambda x, y: (z := x + y) * z,
    "stacked mean": lambda x, y: torch.stack([x, y, x]).mean(0),
    "twice": lambda x, y: torch.cat([x.relu(), x.relu(), y], 1),
    "of concatenations": lambda x, y: torch.cat([torch.cat([x.relu(), y], 1), x], 1).sigmoid(),
    "in two": lambda x, y: torch.cat([torch.cat([z := x.tanh(), y], 1), z], 1) + 1,
    "slices": lambda x, y: torch.cat([x[:, 2:4, 1:, :-2], y[:, :1, 1:, 2:]], 1).relu(),
    "same result": lambda x, y: (z := x.relu(), z, y, x[:, :, 1:]),
    "dictionary": lambda x, y: {"a": [x.relu()], "b": x}["a"] + [y],
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name):
    check(ARITHMETIC[name], IMAGE, IMAGE)


def test_structures():
    """Results in dictionaries, as torchvision's segmentation models give them."""
    x = torch.randn(IMAGE)
    model = Calls(lambda x: {"out": x.relu(), "aux": (x.tanh(), [x])}).eval()
    result = optimize(model, x)(x)
    assert list(result) == ["out", "aux"]
    assert torch.equal(result["out"], x.relu())
    assert isinstance(result["aux"], tuple)
    assert isinstance(result["aux"][1], list)


SPATIAL = {
    "max pool": lambda x: F.max_pool2d(x, 2),
    "max pool 3, 2, 1": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool ceil": lambda x: F.max_pool2d(x, (2, 3), ceil_mode=True),
    "max pool dilated": lambda x: F.max_pool2d(x, 2, 1, 0, 3),
    "avg pool": lambda x: F.avg_pool2d(x, 2),
    "avg pool padded": lambda x: F.avg_pool2d(x, 3, 2, 1),
    "avg pool not counted": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "adaptive": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
    "adaptive 1": lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
    "mean": lambda x: x.mean((2, 3)),
    "bilinear 2": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear corners": lambda x: F.interpolate(
        x, (20, 9), mode="bilinear", align_corners=True
    ).relu(),
    "bilinear 1.7": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear").relu(),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest size": lambda x: F.interpolate(x, (5, 29)).relu(),
    "zeros": lambda x: F.pad(x, (1, 2, 3, 0)),
    "ones": lambda x: F.pad(x, (1, 2, 3, 0), value=1.0),
    "cut": lambda x: F.pad(x, (-1, 2)),
    "reflect": lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
    "replicate": lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
    "circular": lambda x: F.pad(x, (1, 2, 3, 0), mode="circular"),
    "unpool": lambda x: F.max_unpool2d(
        *F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape[2:]
    ),
    "flatten": lambda x: x.flatten(1),
}


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("after", [False, True])
def test_spatial(name, after):
    """On the input, and between other layers."""
    if name == "flatten":
        linear = nn.Linear(6 * 9 * 14, 5)
        check(lambda x, linear: linear(x.relu().flatten(1)), IMAGE, layers=[linear])
        check(lambda x, linear: linear(x.flatten(1)), IMAGE, layers=[linear])
        return
    if after:
        conv = nn.Conv2d(6, 6, 3, padding=1)
        fallbacks = 0
        check(
            lambda x, conv: SPATIAL[name](conv(x).relu()) * 2,
            IMAGE,
            layers=[conv],
            fallbacks=fallbacks,
        )
    else:
        check(SPATIAL[name], IMAGE)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool3d(x, 2),
        lambda x: F.avg_pool3d(x, 3, 2, 1),
        lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
        lambda x: F.interpolate(x, (9, 5, 7), mode="trilinear", align_corners=True).relu(),
        lambda x: F.adaptive_avg_pool3d(x, 2),
        lambda x: F.pad(x, (1, 1, 0, 2, 1, 0), mode="replicate"),
        lambda x: F.max_unpool3d(
            *F.max_pool3d(x, 2, return_indices=True), 2, output_size=x.shape[2:]
        ),
    ],
)
def test_volumes(function):
    check(function, VOLUME)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 20, 3, padding=2, dilation=2),
        nn.Conv2d(16, 20, 3, padding=4, dilation=4),
        nn.Conv2d(16, 20, 3, padding=(0, 5), dilation=(2, 3)),
        nn.Conv2d(16, 20, 3, padding=7, dilation=2),
        nn.Conv2d(16, 20, 3, padding=12, dilation=12),
        nn.Conv2d(16, 6, (5, 1), dilation=(1, 2)),
        nn.Conv2d(16, 20, 5, dilation=2),
        nn.Conv2d(16, 20, 5, padding=3, dilation=(3, 2)),
        nn.Conv2d(16, 20, 1, stride=2),
        nn.Conv2d(16, 20, 1, stride=(3, 1), padding=1),
        nn.Conv3d(16, 20, 3, padding=2, dilation=2),
        nn.Conv3d(16, 20, 3, padding=(0, 2, 2), stride=(2, 1, 1), dilation=(1, 2, 2)),
        nn.Conv3d(16, 20, 1, stride=2),
    ],
    ids=str,
)
def test_convolutions_by_parts(conv):
    """Dilated ones by the rest of pixels' places, strided ones of one tap by the pixels read."""
    shape = (1, 16, 17, 22) if isinstance(conv, nn.Conv2d) else (2, 16, 6, 9, 8)
    plan = check(lambda x, conv: conv(x).relu() + 1, shape, layers=[conv])
    if conv.padding == conv.dilation and conv.kernel_size[0] == 3 and conv.dilation[0] < 5:
        # All parts share their weights.
        one = optimize(
            nn.Conv2d(16, 20, 3) if len(shape) == 4 else nn.Conv3d(16, 20, 3), (torch.ones(shape),)
        )
        assert plan.weight_memory == one.weight_memory


@pytest.mark.parametrize("channels", [16, 37, 96])
@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize(
    ("size", "kernel"), [((5, 7), 1), ((21, 530), 1), ((40, 33), 3), ((3, 6, 19), 1)]
)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_few_classes_in_planes_from_channels_last(isa, channels, classes, size, kernel, precision):
    """A network's last layer gives the bytes of direct sums."""
    torch.manual_seed(0)
    conv = (nn.Conv2d, nn.Conv3d)[len(size) - 2]
    body = conv(3, channels, 1)
    head = conv(channels, classes, kernel, padding=kernel // 2)
    x = torch.randn(2, 3, *size)
    plan = optimize(nn.Sequential(body, nn.ReLU(), head).eval(), x, precision=precision)
    assert "direct" in plan.steps[-1].layer
    (given,) = optimize(nn.Sequential(body, nn.ReLU()).eval(), x, precision=precision)(x)[None]
    given = given.to(getattr(torch, precision)).float()  # as the plan keeps it
    ndim = len(size)
    rows = np.moveaxis(np.ascontiguousarray(np.moveaxis(given.numpy(), 1, -1)), -1, 1)
    sizes = convolution.geometry((kernel,) * ndim, 1, kernel // 2, 1, None, (1,) * ndim)
    weight, bias = (p.detach().numpy() for p in (head.weight, head.bias))
    expected = convolution._run(rows, weight, bias, sizes, None, 0, None, False, False, DIRECT)
    np.testing.assert_array_equal(plan(x).numpy(), expected)


def test_padding_becomes_the_convolutions():
    conv = nn.Conv2d(6, 5, 3, padding=1)
    plan = check(lambda x, conv: conv(F.pad(x, (0, 1, 2, 0))), IMAGE, layers=[conv])
    assert len(plan.steps) == 1


def test_pooling_beside_the_full_map():
    """Both are written in the convolution's pass."""
    conv = nn.Conv2d(6, 5, 3, padding=1)

    def function(x, conv):
        full = conv(x).relu()
        pooled, indices = F.max_pool2d(full, 2, return_indices=True)
        return full, F.max_unpool2d(pooled, indices, 2, output_size=full.shape[2:])

    plan = check(function, (2, 6, 8, 14), layers=[conv])
    assert "relu + max pool with indices" in str(plan)


NOT_COVERED = {
    "sort": lambda x, conv: conv(x).sort(1)[0],
    "between": lambda x, conv: conv(conv(x).cumsum(2)).relu(),
    "two results": lambda x, conv: torch.cat(conv(x).split(3, 1)[::-1], 1),
    "fft": lambda x, conv: conv(torch.fft.fft2(conv(x)).real) + x,
    "transposed": lambda x, conv: conv(x).transpose(2, 3).contiguous(),
    "with a constant": lambda x, conv: conv(x) + torch.arange(14.0),
    "integers": lambda x, conv: conv(x).argmax(1),
    "a matrix": lambda x, conv: conv(x).mean((0, 1)).softmax(0),
    "constant alone": lambda x, conv: (conv(x), torch.ones(3)),
}


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_is_not_covered_is_left_to_torch(name):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, 3, padding=1)
    model = Calls(lambda x: NOT_COVERED[name](x, conv)).eval()
    x = torch.randn(IMAGE)
    plan = optimize(model, x)
    with torch.no_grad():
        expected = model(x)
    for a, b in zip(_leaves(plan(x)), _leaves(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert plan.fallbacks
    assert "convolution" in str(plan)
    with pytest.raises(ValueError, match="save: plan must not leave layers to torch"):
        plan.save("never written")


def test_dropout_in_training_is_off():
    x = torch.randn(IMAGE)
    model = nn.Sequential(nn.Conv2d(6, 6, 1), nn.Dropout(0.9)).train()
    plan = optimize(model, x)
    assert torch.equal(plan(x), plan(x))
    torch.testing.assert_close(plan(x), model.eval()(x).detach())


def test_large_grouped_convolution():
    """Groups are done some together."""
    conv = nn.Conv2d(40, 40, 3, padding=1, groups=40)
    plan = check(lambda x, conv: conv(x), (1, 40, 6, 7), layers=[conv])
    assert len(plan.steps) == 3


def test_wide_values():
    """Many channels and pixels: all threads, blocks off their grids."""
    conv = nn.Conv2d(33, 70, 3, padding=1)
    check(lambda x, c: F.max_pool2d(c(x).relu(), 2), (1, 33, 61, 47), layers=[conv])
    assert np.prod((33, 61, 47)) > 1 << 16


def test_inputs_that_are_no_maps():
    """They go to torch alone."""
    model = Calls(lambda x, weights: (x.relu() * weights[:, None, None], weights + 1)).eval()
    inputs = torch.randn(IMAGE), torch.rand(6)
    for result, expected in zip(optimize(model, inputs)(*inputs), model(*inputs), strict=True):
        torch.testing.assert_close(result, expected)
