"""Gradients of calls in which one tensor is several arguments, or some are NumPy's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="tensors need PyTorch")

import medseg_fast as ms  # noqa: E402
from medseg_fast.nn import functional as F  # noqa: E402


def given(*shape):
    return torch.rand(shape, dtype=torch.float64, requires_grad=True)


BOXES = torch.tensor([[0, 1.0, 1, 5, 6], [0, 0, 2, 4, 4]], dtype=torch.float64)
REPEATED = {
    "crop_concat": (lambda x: F.crop_concat(x, x), (1, 1, 2, 2)),
    "shared weights": (
        lambda w: F.pyramid_pool(torch.arange(48.0).double().view(1, 3, 4, 4), (1, 2), [w, w]),
        (2, 3),
    ),
    "scale and bias": (
        lambda v: F.conv_pool(
            torch.ones(1, 2, 4, 4).to(v), torch.ones(2, 2, 3, 3).to(v), v, scale=v
        ),
        (2,),
    ),
    "levels": (
        lambda x: F.multiscale_roi_align([x, x], [BOXES[:, 1:] * 40], 2, image_shapes=[(8, 8)]),
        (1, 2, 8, 8),
    ),
    "transposed": (lambda t: F.transposed_conv2x2(t, t), (2, 2, 2, 2)),
}


@pytest.mark.parametrize("name", REPEATED)
def test_one_tensor_as_several_arguments(name):
    function, shape = REPEATED[name]
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(function, (given(*shape),))


X, WEIGHT = (1, 2, 8, 8), np.random.default_rng(0).normal(size=(3, 2, 3, 3))
OF_NUMPY = {
    "boxes": (lambda x: F.roi_align(x, BOXES.numpy(), 2), lambda x: F.roi_align(x, BOXES, 2)),
    "boxes of each image": (
        lambda x: F.roi_align(x, [BOXES[:, 1:].numpy()], 2),
        lambda x: F.roi_align(x, [BOXES[:, 1:]], 2),
    ),
    "output_size": (
        lambda x: F.roi_align(x, BOXES, np.array([2, 3])),
        lambda x: F.roi_align(x, BOXES, (2, 3)),
    ),
    "spatial_scale": (
        lambda x: F.roi_align(x, BOXES, np.int64(2), np.float64(0.5)),
        lambda x: F.roi_align(x, BOXES, 2, 0.5),
    ),
    "weight": (
        lambda x: F.conv_pool(x, WEIGHT, stride=np.int64(2)),
        lambda x: F.conv_pool(x, torch.from_numpy(WEIGHT), stride=2),
    ),
    "slope": (
        lambda x: F.conv_pool(x, WEIGHT, activation="leaky_relu", slope=np.float64(0.1)),
        lambda x: F.conv_pool(x, torch.from_numpy(WEIGHT), activation="leaky_relu", slope=0.1),
    ),
    "kernel_size": (
        lambda x: F.max_pool_with_indices(x, np.int64(2))[0],
        lambda x: F.max_pool_with_indices(x, 2)[0],
    ),
    "bins": (lambda x: F.pyramid_pool(x, range(1, 3)), lambda x: F.pyramid_pool(x, (1, 2))),
    "skip": (
        lambda x: F.crop_concat(np.ones(X), x),
        lambda x: F.crop_concat(torch.ones(X, dtype=torch.float64), x),
    ),
    "transposed weight": (
        lambda x: F.transposed_conv2x2(x, np.ones((2, 3, 2, 2))),
        lambda x: F.transposed_conv2x2(x, torch.ones(2, 3, 2, 2, dtype=torch.float64)),
    ),
}


@pytest.mark.parametrize("name", OF_NUMPY)
def test_arguments_of_numpy(name):
    """They keep the gradient that tensors and numbers would have."""
    torch.manual_seed(0)
    x = given(*X)
    found, expected = (function(x) for function in OF_NUMPY[name])
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (found, expected)]
    assert torch.equal(*gradients)


def test_arguments_that_keep_no_gradient():
    x, out = given(1, 1, 4, 4), torch.empty(1, 2, 4, 4, dtype=torch.float64)
    for call in (
        lambda x: F.pyramid_pool(x, iter((1, 2))),
        lambda x: F.crop_concat(x, x, out=out),
    ):
        with pytest.raises(TypeError, match="for a gradient, arguments must be tensors, arrays"):
            call(x)
    assert F.crop_concat(x.detach(), x.detach(), out=out) is out


def test_errors_name_the_argument():
    half = torch.zeros(1, 1, 4, 4, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match=r"crop_concat: x must be .* pass x\.float\(\)"):
        F.crop_concat(half.float(), half)
    level = torch.rand(5, 5, requires_grad=True)
    result = ms.signed_distance(level)
    with pytest.raises(NotImplementedError, match=r"no gradient; pass mask\.detach"):
        result.sum().backward()
