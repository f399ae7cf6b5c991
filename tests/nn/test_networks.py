"""What every network must do."""

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import SMALL, small  # noqa: E402

from medseg_fast import nn  # noqa: E402


def outputs(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", SMALL)
def test_shape_gradients_and_evaluation(name):
    """Logits of the right shape, every weight learns, evaluation repeats itself."""
    model, x = small(name)
    results = outputs(model.train()(x))
    expected = (2, 3) if name == "lenet5" else (2, 3, *(n - 2 * model.margin for n in x.shape[2:]))
    for result in results:
        assert result.shape == expected
    sum(result.square().mean() for result in results).backward()
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, key
            assert torch.isfinite(parameter.grad).all(), key
            assert parameter.grad.abs().sum() > 0, key
    model.eval()
    with torch.no_grad():
        first = model(x)
        assert torch.equal(first, model(x))
        # One image by itself gives what it gives in a batch.
        torch.testing.assert_close(model(x[:1]), first[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SMALL if SMALL[name][3]])
def test_odd_sizes(name):
    model, _ = small(name)
    size = SMALL[name][3]
    with torch.no_grad():
        result = model.eval()(torch.randn(1, 1, *size))
    assert result.shape == (1, 3, *size)


@pytest.mark.parametrize("name", SMALL)
def test_float64(name):
    model, x = small(name)
    with torch.no_grad():
        single = model.eval()(x)
        double = model.double()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_export(name):
    model, x = small(name)
    model.eval()
    exported = torch.export.export(model, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_symbolic_trace(name):
    """torch.fx sees the layers; checks and crops are single calls."""
    model, x = small(name)
    if name in ("lenet5", "nonlocal_unet"):
        pytest.skip("sizes steer what it computes")
    traced = torch.fx.symbolic_trace(model.eval())
    with torch.no_grad():
        # Gradients may be wanted of the traced one: PSPNet pools by other sums then.
        torch.testing.assert_close(traced(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["unet"])
def test_compile(name):
    model, x = small(name)
    compiled = torch.compile(model.eval(), backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", SMALL)
def test_wrong_inputs(name):
    model, x = small(name)
    wanted = rf"{model.name}: input must have shape \(N, 1, "
    for wrong in (x[:, 0], x[..., None], torch.cat([x, x], 1)):
        with pytest.raises(ValueError, match=wanted):
            model(wrong)
    with pytest.raises(ValueError, match=f"{model.name}: input must not be empty"):
        model(x[..., :0])


@pytest.mark.parametrize("name", SMALL)
def test_architecture_makes_it_again(name):
    model, _ = small(name)
    network, arguments = model.architecture
    again = getattr(nn, network)(**arguments)
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: nn.unet(0), ValueError, "unet: in_channels must be at least 1, got 0"),
        (lambda: nn.unet(1.0), TypeError, "unet: in_channels must be an integer, got 1.0"),
        (lambda: nn.unet(ndim=4), ValueError, "unet: ndim must be one of 2, 3, got 4"),
        (lambda: nn.unet(norm="layer"), ValueError, "unet: norm must be one of 'none', 'batch'"),
        (lambda: nn.unet(widths=(8,)), ValueError, "unet: widths must have at least 2 entries"),
        (lambda: nn.unet(dropout=1.0), ValueError, r"unet: dropout must be in \[0, 1\), got 1.0"),
        (lambda: nn.segnet(widths=(2, 2)), ValueError, "segnet: widths must have 5 entries"),
        (lambda: nn.pspnet(backbone="vgg"), ValueError, "pspnet: backbone must be one of"),
        (lambda: nn.nonlocal_unet(width=3), ValueError, "width must be a multiple of heads"),
        (lambda: nn.fcn8s(padding="valid"), ValueError, "fcn8s: padding must be one of 'paper'"),
        (lambda: nn.lenet5(variant="x"), ValueError, "lenet5: variant must be one of 'paper'"),
        (lambda: nn.unet_plus_plus(up="x"), ValueError, "unet_plus_plus: up must be one of"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
