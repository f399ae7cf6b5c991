"""The layers of a training step against PyTorch's own in float64."""

import copy
from contextlib import ExitStack

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")
# ruff: noqa: E402

import medseg_fast
from medseg_fast import nn
from medseg_fast._cpu import core
from medseg_fast.nn._training.layers import quick_layers
from medseg_fast.nn._training.layers._crew import one_crew, openmp_crew
from medseg_fast.nn._training.layers._memory import ORDERS

F = torch.nn.functional
DTYPES = (torch.float32, torch.bfloat16)
# Of the largest value: Winograd's constants; and the 8 bits that bfloat16 keeps, of results too.
BOUNDS = {torch.float32: 1e-4, torch.bfloat16: 1.2e-2}


def _error(found, wanted):
    wanted = wanted.detach().double()
    return float(
        (found.detach().double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12)
    )


def _gradients(module, x, weights):
    """Output, gradient of the input, and gradients of the parameters, by name."""
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    (y * weights.to(y.dtype)).sum().backward()
    return {"output": y, "input": x.grad} | {n: p.grad for n, p in module.named_parameters()}


def _compare(module, shape, dtype, bounds=BOUNDS, after=None, seed=0):
    """A module by our kernels and in float64: everything that comes of it."""
    torch.manual_seed(seed)
    order = ORDERS[len(shape)]
    x = torch.randn(shape).to(dtype).contiguous(memory_format=order)
    exact = copy.deepcopy(module).double()
    weights = torch.randn(exact(x.double()).shape)
    exact.load_state_dict(module.state_dict())  # without what that call left
    wanted = _gradients(exact, x.double(), weights.to(dtype).double())
    with quick_layers(module), torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
        found = _gradients(module, x, weights)
    assert found["output"].dtype is dtype
    assert found["input"].dtype is dtype
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert _error(found[name], value) <= bounds[dtype], name
    return module, exact


CONVOLUTIONS = [  # channels in and out, size, kernel, padding, images
    (32, 32, (96, 100), (3, 3), 1, 1),
    (17, 48, (31, 57), (3, 3), 1, 6),
    (64, 16, (50, 47), (3, 3), 0, 4),
    (33, 70, (90, 95), (3, 3), (0, 2), 1),
    (32, 48, (41, 102), (5, 5), 2, 2),
    (32, 64, (4, 40), (3, 3), 1, 3),
    (16, 32, (7, 21, 18), (3, 3, 3), 1, 2),
    (40, 32, (3, 9, 13), (3, 3, 3), (0, 1, 1), 3),
    (32, 32, (6, 12, 11), (5, 5, 5), 2, 1),
    (32, 32, (8, 33, 34), (1, 3, 3), (0, 1, 1), 1),
    (3, 32, (40, 44), (3, 3), 1, 2),  # PyTorch's: too few channels
    (1, 8, (5, 9, 8), (3, 3, 3), 1, 2),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_convolution(case, dtype):
    inputs, outputs, size, kernel, padding, images = case
    make = torch.nn.Conv2d if len(size) == 2 else torch.nn.Conv3d
    module = make(inputs, outputs, kernel, padding=padding)
    _compare(module, (images, inputs, *size), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("inputs", "size", "stride"),
    [(4, (24, 24), 2), (3, (32, 32), 2), (4, (23, 24), (1, 3)), (5, (7, 8, 9), 2), (12, (9, 9), 2)],
)
def test_strided_convolution_of_single_pixels(inputs, size, stride, dtype):
    """PyTorch's own damages its memory on CPUs with AVX2, which a few calls bring to light."""
    make = torch.nn.Conv2d if len(size) == 2 else torch.nn.Conv3d
    for seed in range(20):
        module = make(inputs, 8, 1, stride=stride, padding=0 if seed % 2 else "valid")
        _compare(module, (2, inputs, *size), dtype, seed=seed)


@pytest.mark.parametrize("outputs", [1, 15, 16, 17, 32, 33, 80])
@pytest.mark.parametrize("inputs", [1, 4, 13, 32, 50])
def test_weight_gradient_of_any_channels(inputs, outputs):
    rng = np.random.default_rng(inputs * outputs)
    x = rng.standard_normal((2, 1, 19, 23, inputs), np.float32)
    dy = rng.standard_normal((2, 1, 19, 23, outputs), np.float32)
    ones, around = (1, 1, 1), (0, 1, 1)
    sizes = ((1, 3, 3), ones, around, around, ones, ones)
    weight = np.empty((outputs, inputs, 1, 3, 3), np.float32)
    bias = np.empty(outputs, np.float32)
    core.convolution_weight_gradient(sizes, x, dy, True, weight, bias)
    given = [torch.from_numpy(np.moveaxis(a[:, 0], -1, 1)).double() for a in (x, dy)]
    wanted = torch.nn.grad.conv2d_weight(given[0], (outputs, inputs, 3, 3), given[1], padding=1)
    assert _error(torch.from_numpy(weight[:, :, 0]), wanted) < 3e-5
    np.testing.assert_allclose(bias, given[1].sum((0, 2, 3)), rtol=0, atol=1e-4)  # of 874 values


def test_weight_gradient_of_many_tiles_and_planes():
    """Maps that take several stages, images and kernels of planes."""
    for inputs, outputs, size, kernel in [
        (48, 48, (300, 280), (3, 3)),
        (40, 32, (9, 120, 90), (3, 3, 3)),
    ]:
        make = torch.nn.Conv2d if len(size) == 2 else torch.nn.Conv3d
        _compare(make(inputs, outputs, kernel, padding=1), (2, inputs, *size), torch.float32)


def test_same_bytes_on_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        torch.manual_seed(1)
        module = torch.nn.Sequential(
            torch.nn.Conv2d(32, 48, 3, padding=1), torch.nn.BatchNorm2d(48), torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
        )  # fmt: skip
        x = torch.randn(3, 32, 75, 81)
        with quick_layers(module), medseg_fast.num_threads(threads):
            values = _gradients(module, x, torch.ones(()))
        found.append({name: v.detach().clone() for name, v in values.items()})
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in other)


NORMS = [
    (torch.nn.BatchNorm2d, 5, (4, 5, 9, 11)),
    (torch.nn.BatchNorm2d, 48, (2, 48, 40, 33)),
    (torch.nn.BatchNorm3d, 64, (2, 64, 5, 9, 8)),
    (torch.nn.InstanceNorm2d, 16, (3, 16, 50, 41)),
    (torch.nn.InstanceNorm3d, 33, (2, 33, 6, 7, 9)),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("after", [None, torch.nn.ReLU(), torch.nn.LeakyReLU(0.1)], ids=str)
@pytest.mark.parametrize("case", NORMS, ids=str)
def test_norm(case, after, dtype):
    make, channels, shape = case
    norm = make(channels, affine=True)
    torch.manual_seed(2)
    torch.nn.init.uniform_(norm.weight, -1, 2)
    torch.nn.init.normal_(norm.bias)
    module = torch.nn.Sequential(norm, *([] if after is None else [after]))
    own, exact = _compare(module, shape, dtype, {torch.float32: 2e-5, torch.bfloat16: 8e-3})
    if norm.running_mean is not None:
        assert int(norm.num_batches_tracked) == 1
        for name in ("running_mean", "running_var"):
            assert _error(getattr(own[0], name), getattr(exact[0], name)) < 1e-5


def test_norm_keeps_digits_of_a_large_mean():
    module = torch.nn.InstanceNorm2d(20, affine=True)
    x = 1000 + torch.randn(2, 20, 64, 65)
    with quick_layers(module):
        found = module(x)
    wanted = F.instance_norm(x.double())
    plain = F.instance_norm(x)
    assert _error(found, wanted) <= max(2 * _error(plain, wanted), 1e-4)


def test_norm_in_evaluation_is_pytorchs():
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(6), torch.nn.ReLU()).eval()
    x = torch.randn(2, 6, 8, 8)
    wanted = module(x)
    with quick_layers(module):
        assert torch.equal(module(x), wanted)
    assert int(module[0].num_batches_tracked) == 0


def test_norm_of_one_value_is_refused_as_in_pytorch():
    module = torch.nn.BatchNorm2d(3)
    with quick_layers(module), pytest.raises(ValueError, match="more than 1 value"):
        module(torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 16, 8, 8), (1, 5, 7, 9), (2, 40, 5, 6, 7), (1, 3, 4, 4, 5)])
def test_pooling(shape, dtype):
    order = ORDERS[len(shape)]
    rng = torch.Generator().manual_seed(3)
    x = (2 * torch.randn(shape, generator=rng)).round().to(dtype)  # with many equal values
    x[torch.rand(shape, generator=rng) < 0.03] = torch.nan
    pool = (torch.nn.MaxPool2d if len(shape) == 4 else torch.nn.MaxPool3d)(2)
    plain, own = (x.contiguous(memory_format=order).requires_grad_() for _ in range(2))
    wanted = pool(plain)
    gradient = torch.randn(wanted.shape, generator=rng).to(dtype)
    wanted.backward(gradient)
    with quick_layers(pool):
        found = pool(own)
        found.backward(gradient)
    assert found.is_contiguous(memory_format=order)
    assert torch.equal(found.nan_to_num(7), wanted.nan_to_num(7))
    assert torch.equal(own.grad, plain.grad)


def test_nan_spreads():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU()
    )
    x = torch.randn(2, 32, 20, 20)
    x[0, 3, 5, 5] = torch.nan
    with quick_layers(module):
        assert bool(module(x).isnan().any())


def _unet(*args, **options):
    return lambda: nn.unet(*args, **{"padding": "same", "norm": "batch"} | options)


NETWORKS = {
    "unet": (_unet(3, 2, widths=(16, 40, 64)), (2, 3, 96, 80)),
    "unet, instance": (_unet(2, 3, widths=(32, 48), norm="instance"), (2, 2, 64, 80)),
    "unet, valid": (_unet(1, 2, widths=(16, 32), padding="valid", norm="none"), (1, 1, 44, 60)),
    "unet, 3D": (_unet(1, 2, ndim=3, widths=(32, 48)), (2, 1, 16, 24, 20)),
    "vnet": (lambda: nn.vnet(1, 2, widths=(32, 48), norm="instance"), (2, 1, 16, 24, 20)),
    "segnet": (lambda: nn.segnet(3, 2, widths=(16, 32, 32, 32, 32)), (2, 3, 96, 96)),
    "unet_plus_plus": (lambda: nn.unet_plus_plus(3, 2, widths=(16, 32, 48)), (1, 3, 64, 64)),
    "pspnet": (lambda: nn.pspnet(3, 2, backbone="resnet34", dropout=0.0), (2, 3, 96, 96)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_as_with_pytorch(name):
    """Losses of some steps: maxima and rectifiers may turn on a last digit, losses do not.

    Beside PyTorch's in float64: its float32 is up to 1.6e-3 from that.
    """
    make, shape = NETWORKS[name]
    torch.manual_seed(4)
    network = make().train()
    x = torch.randn(shape)
    losses = []
    for quick in (False, True):
        dtype = torch.float32 if quick else torch.float64
        own = copy.deepcopy(network).to(dtype)
        optimiser = torch.optim.SGD(own.parameters(), lr=1e-4)
        losses.append([])
        for _ in range(4):
            optimiser.zero_grad()
            if quick:
                with quick_layers(own):
                    loss = _loss(own(x))
                    loss.backward()
            else:
                loss = _loss(own(x.to(dtype)))
                loss.backward()
            optimiser.step()
            losses[-1].append(loss.item())
        assert not any("forward" in vars(module) for module in own.modules())
    np.testing.assert_allclose(losses[1], losses[0], rtol=2e-3)
    assert losses[1][-1] < losses[1][0]


def _loss(outputs):
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    return sum(F.cross_entropy(y, torch.ones(y[:, 0].shape, dtype=torch.int64)) for y in outputs)


@pytest.mark.parametrize("name", ["unet", "unet, instance", "unet, 3D", "vnet"])
def test_bfloat16_is_as_near_to_float32_as_pytorchs(name):
    """All gradients together: they are sums over so many roundings that none can be compared."""
    make, shape = NETWORKS[name]
    torch.manual_seed(5)
    network, x = make().train(), torch.randn(shape)
    found = {}
    for kind in ("float32", "bfloat16", "ours"):
        own = copy.deepcopy(network)
        with ExitStack() as stack:
            if kind == "ours":
                stack.enter_context(quick_layers(own))
            with torch.autocast("cpu", torch.bfloat16, enabled=kind != "float32"):
                loss = _loss(own(x))
            loss.backward()
        found[kind] = torch.cat([p.grad.flatten() for p in own.parameters() if p.ndim > 1])
    apart = {kind: (g - found["float32"]).norm() for kind, g in found.items()}
    assert 0 < apart["ours"] <= 1.1 * apart["bfloat16"]


def test_layers_that_stay_as_they_are():
    """Hooks are called, subclasses run, a norm taken out of its sequence has no rectifier."""

    class Twice(torch.nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    seen = []
    rectifier = torch.nn.ReLU()  # one module in two places
    module = torch.nn.Sequential(
        Twice(32, 32, 3), torch.nn.BatchNorm2d(32), rectifier,
        torch.nn.Conv2d(32, 32, 3), torch.nn.BatchNorm2d(32), rectifier,
    )  # fmt: skip
    x = torch.randn(1, 32, 20, 20)
    wanted = copy.deepcopy(module)(x)
    module[4].register_forward_hook(lambda *args: seen.append(args[2]))
    with quick_layers(module):
        found = module(x)
        assert module[1](x).min() < 0
        assert rectifier(-x).min() == 0
    assert len(seen) == 1
    assert _error(found, wanted) < 1e-4


def test_other_tensors_run_as_they_are():
    module = torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3), torch.nn.BatchNorm2d(32))
    for x in (torch.randn(32, 9, 9), torch.randn(2, 32, 9, 9).double()):
        own = copy.deepcopy(module[0]).to(x.dtype)
        wanted = own(x)
        with quick_layers(own):
            assert torch.equal(own(x), wanted)


def test_other_dtypes_are_refused_as_in_pytorch():
    convolution = torch.nn.Conv2d(32, 32, 3)
    for x, kernel in ((torch.bfloat16, torch.float32), (torch.float32, torch.float64)):
        own = convolution.to(kernel)
        with quick_layers(own), pytest.raises(RuntimeError, match="type"):
            own(torch.zeros(1, 32, 9, 9, dtype=x))


def test_layers_are_restored_after_an_error():
    module = torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3), torch.nn.MaxPool2d(2))
    with pytest.raises(RuntimeError), quick_layers(module):
        module(torch.zeros(1, 31, 8, 8))
    assert not any("forward" in vars(layer) for layer in module)


def test_no_second_derivatives():
    module = torch.nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    with quick_layers(module):
        (gradient,) = torch.autograd.grad((module(x) ** 2).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match="differentiate twice"):
            gradient.sum().backward()


def test_loops_on_openmps_threads():
    """PyTorch's own threads take part, their errors arrive, and the pool is back afterwards."""
    if not openmp_crew():
        pytest.skip("this PyTorch does not use GNU OpenMP")
    with medseg_fast.num_threads(2), one_crew():
        assert core.set_crew(0) == openmp_crew()
        core.set_crew(openmp_crew())
        pause = [0.02] * 4
        assert core.busy_tasks(pause) == 2
        assert core.busy_tasks(pause, None, True) == 2
        for failing in range(4):
            with pytest.raises(RuntimeError, match="task failed"):
                core.busy_tasks(pause, failing)
    assert core.set_crew(0) == 0
