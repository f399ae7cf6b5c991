"""Max pooling with positions and its inverse: PyTorch's results."""

from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from medseg_fast.nn.functional import max_pool_with_indices, max_unpool
from medseg_fast.reference import nn_pooling as reference

FLOATS = [np.float16, np.float32, np.float64]


def _numbers(rng, shape, dtype):
    """With ties, infinities and whole windows of -inf."""
    numbers = rng.integers(-3, 4, shape).astype(dtype)
    numbers[rng.random(shape) < 0.1] = np.inf
    numbers[rng.random(shape) < 0.2] = -np.inf
    numbers[..., :3] = -np.inf
    return numbers


def _expected(array, kernel, stride=None, padding=0, dilation=1, ceil_mode=False):
    rank = len(kernel)
    stride, padding, dilation = (
        kernel if s is None else (s,) * rank if isinstance(s, int) else s
        for s in (stride, padding, dilation)
    )
    counts = []
    for n, k, s, p, d in zip(array.shape[-rank:], kernel, stride, padding, dilation, strict=True):
        starts = range(-p, n + p, s)
        whole = [a for a in starts if a + d * (k - 1) < n + p]
        begun = [a for a in starts if a < n and a + d * (k - 1) < n + p + s - 1]
        counts.append(len(begun if ceil_mode else whole))
    planes = array.reshape(-1, *array.shape[-rank:])
    values, indices = reference.max_pool_with_indices(
        planes, kernel, stride, padding, dilation, counts
    )
    shape = (*array.shape[:-rank], *counts)
    return values.reshape(shape), indices.reshape(shape)


CASES = [
    ((2, 3, 8, 10), (2, 2), {}),
    ((3, 9, 11), (2, 2), {}),  # no batch, a row and a column left over
    ((2, 3, 9, 11), (2, 2), {"ceil_mode": True}),
    ((1, 2, 9, 70), (3, 3), {"stride": 2, "padding": 1}),  # ResNet's stem
    ((1, 2, 9, 40), (3, 3), {"stride": 1, "padding": 1}),
    ((1, 2, 9, 12), (3, 5), {"stride": (1, 3), "padding": (1, 2), "dilation": (2, 1)}),
    ((1, 2, 12, 13), (3, 2), {"stride": 4, "dilation": 3, "ceil_mode": True}),
    ((2, 2, 6, 7, 8), (2, 2, 2), {}),
    ((2, 6, 7, 8), (3, 2, 1), {"stride": (2, 1, 2), "padding": (1, 0, 0)}),
    ((1, 1, 1, 1), (1, 1), {}),
]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "kernel", "how"), CASES)
def test_max_pool_equals_reference_and_torch(rng, threads, shape, kernel, how, dtype):
    array = _numbers(rng, shape, dtype)
    values, indices = max_pool_with_indices(array, kernel, **how)
    expected, where = _expected(array, kernel, **how)
    assert values.dtype == dtype
    assert_array_equal(values, expected)
    assert_array_equal(indices, where)
    torch = pytest.importorskip("torch")
    pool = getattr(torch.nn.functional, f"max_pool{len(kernel)}d")
    theirs = pool(torch.from_numpy(array), kernel, return_indices=True, **how)
    assert_array_equal(values, theirs[0].numpy())
    assert_array_equal(indices, theirs[1].numpy())


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_max_pool_random(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rank = data.draw(st.integers(2, 3))
    kernel = [data.draw(st.integers(1, 4)) for _ in range(rank)]
    how = {
        "stride": [data.draw(st.integers(1, 4)) for _ in range(rank)],
        "padding": [data.draw(st.integers(0, k // 2)) for k in kernel],
        "dilation": [data.draw(st.integers(1, 2)) for _ in range(rank)],
        "ceil_mode": data.draw(st.booleans()),
    }
    shape = [
        data.draw(st.integers(d * (k - 1) + 1, 12))
        for k, d in zip(kernel, how["dilation"], strict=True)
    ]
    array = _numbers(rng, (2, *shape), np.float32)
    try:
        expected = _expected(array, kernel, **how)
    except (ValueError, TypeError):
        return  # a window of padding alone
    for got, one in zip(max_pool_with_indices(array, kernel, **how), expected, strict=True):
        assert_array_equal(got, one)


@pytest.mark.parametrize("how", [{}, {"stride": 1}, {"stride": 3}])
def test_nan_is_the_largest(rng, how):
    array = rng.standard_normal((2, 3, 9, 12)).astype(np.float32)
    array[rng.random(array.shape) < 0.2] = np.nan
    values, indices = max_pool_with_indices(array, (2, 2), **how)
    expected, where = _expected(array, (2, 2), **how)
    assert_array_equal(values, expected)
    assert_array_equal(indices, where)
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional.max_pool2d(torch.from_numpy(array), 2, return_indices=True, **how)
    assert_array_equal(indices, theirs[1].numpy())


@pytest.mark.parametrize("dtype", FLOATS)
def test_layouts(rng, layout, dtype):
    array = rng.standard_normal((2, 3, 8, 10)).astype(dtype)
    pooled = max_pool_with_indices(array, 2)
    for got, expected in zip(max_pool_with_indices(layout(array), 2), pooled, strict=True):
        assert got.dtype == expected.dtype
        assert_array_equal(got, expected)
    unpooled = max_unpool(layout(pooled[0]), layout(pooled[1]), 2)
    assert_array_equal(unpooled, max_unpool(*pooled, 2))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("shape", "kernel", "how"), CASES)
def test_max_unpool_equals_reference_and_torch(rng, threads, shape, kernel, how, dtype):
    if "dilation" in how:
        pytest.skip("unpooling knows no dilation")
    array = rng.permutation(np.prod(shape)).reshape(shape).astype(dtype)
    pooled, indices = max_pool_with_indices(array, kernel, **how)
    how = {k: v for k, v in how.items() if k != "ceil_mode"}
    size = shape[-len(kernel) :]
    got = max_unpool(pooled, indices, kernel, output_size=size, **how)
    planes = (-1, *pooled.shape[-len(kernel) :])
    expected = reference.max_unpool(pooled.reshape(planes), indices.reshape(planes), size)
    assert got.dtype == dtype
    assert_array_equal(got, expected.reshape(shape))
    if "stride" not in how and "padding" not in how:
        assert_array_equal(max_pool_with_indices(got, kernel)[1].shape[:2], pooled.shape[:2])
    torch = pytest.importorskip("torch")
    unpool = getattr(torch.nn.functional, f"max_unpool{len(kernel)}d")
    given_ = torch.from_numpy(pooled.astype(np.float32)), torch.from_numpy(indices)
    theirs = unpool(*given_, kernel, output_size=size, **how).numpy()
    assert_array_equal(got, theirs.astype(dtype))


def test_output_size_by_itself_and_in_full(rng):
    array = rng.standard_normal((2, 3, 9, 11)).astype(np.float32)
    pooled, indices = max_pool_with_indices(array, 2)
    assert max_unpool(pooled, indices % 80, 2).shape == (2, 3, 8, 10)
    whole = max_unpool(pooled, indices, 2, output_size=array.shape)
    assert_array_equal(whole, max_unpool(pooled, indices, 2, output_size=(9, 11)))
    assert_array_equal(whole[whole != 0], array[whole != 0])
    assert_array_equal(max_unpool(pooled, indices.astype(np.int32), 2, output_size=(9, 11)), whole)


def test_of_equal_indices_the_last_counts():
    values = np.array([[[1.0, 2.0], [3.0, 4.0]]])
    assert max_unpool(values, [[[5, 0], [5, 0]]], 2)[0, :2].tolist() == [[4, 0, 0, 0], [0, 3, 0, 0]]


def test_empty():
    values, indices = max_pool_with_indices(np.zeros((0, 3, 8, 8)), 2)
    assert values.shape == indices.shape == (0, 3, 4, 4)
    assert max_unpool(values, indices, 2).shape == (0, 3, 8, 8)
    values, indices = np.zeros((1, 2, 2, 4)), np.zeros((1, 2, 2, 4), int)
    assert max_unpool(values, indices, 2, padding=(2, 0)).shape == (1, 2, 0, 8)  # as in torch
    assert max_unpool(values[:, :, :0], indices[:, :, :0], 2).shape == (1, 2, 0, 8)


@pytest.mark.parametrize("far", [1000, 10**10, 10**19])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_steps_beyond_the_input(rng, far, ceil_mode):
    array = rng.standard_normal((2, 7, 9))
    near = max_pool_with_indices(array, (3, 1), (11, 11), (1, 0), 1, ceil_mode)
    steps = max_pool_with_indices(array, (3, 1), far, (1, 0), (1, far), ceil_mode)
    for got, expected in zip(steps, near, strict=True):
        assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x, i: max_pool_with_indices(x.astype(int), 2), TypeError, "input must be float16"),
        (lambda x, i: max_pool_with_indices(x[0, 0], 2), ValueError, "2 or 3 axes in space"),
        (lambda x, i: max_pool_with_indices(x, (2,)), ValueError, "2 or 3 axes in space"),
        (lambda x, i: max_pool_with_indices(x, 0), ValueError, "kernel_size must be at least 1"),
        (lambda x, i: max_pool_with_indices(x, 2, 0), ValueError, "stride must be at least 1"),
        (lambda x, i: max_pool_with_indices(x, 2, padding=2), ValueError, "at most half"),
        (lambda x, i: max_pool_with_indices(x, 9), ValueError, "input must hold a window"),
        (lambda x, i: max_pool_with_indices(x, 2, (1, 1, 1)), ValueError, "stride must have one"),
        (lambda x, i: max_unpool(x, i + 0.5, 2), TypeError, "indices must be integers"),
        (lambda x, i: max_unpool(x, i[:, :1], 2), ValueError, "indices must have the input's"),
        (lambda x, i: max_unpool(x, i + 64, 2), ValueError, "indices must be from 0 to 63"),
        (lambda x, i: max_unpool(x, i - 1, 2), ValueError, "indices must be from 0 to 63, got -1"),
        (lambda x, i: max_unpool(x, i.astype("u8") - 1, 2), ValueError, f"63, got {2**64 - 1}"),
        (lambda x, i: max_unpool(x, i, 2, output_size=5), TypeError, "output_size must be a seq"),
        (lambda x, i: max_unpool(x, i, 2, output_size=(8.0, 8)), TypeError, "must be an integer"),
        (
            lambda x, i: max_unpool(x, i, 2, output_size="88"),
            TypeError,
            "output_size must be an int",
        ),
        (lambda x, i: max_unpool(x, i, 10**10), ValueError, "kernel_size and stride must ask for"),
        (lambda x, i: max_unpool(x, i, 2, padding=9), ValueError, "padding must leave a size"),
        (
            lambda x, i: max_pool_with_indices(x, 10**10, padding=5 * 10**9),
            ValueError,
            r"kernel_size must ask for fewer than 2\*\*48 values",
        ),
        (lambda x, i: max_unpool(x, i, 2, output_size=(10, 8)), ValueError, "within a stride"),
        (lambda x, i: max_unpool(x, i, 2, output_size=(8,)), ValueError, "within a stride"),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((1, 2, 4, 4), np.float32), np.zeros((1, 2, 4, 4), np.int64))


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((2, 2, 6, 7), {"kernel_size": 2}),
        ((1, 2, 7, 7), {"kernel_size": (3, 3), "stride": 2, "padding": 1}),  # windows overlap
        ((1, 2, 4, 5, 4), {"kernel_size": 2}),
    ],
)
def test_gradients(rng, shape, how):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.permutation(np.prod(shape)).reshape(shape) / 10).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: max_pool_with_indices(x, **how)[0], x)
    pool = getattr(torch.nn.functional, f"max_pool{len(shape) - 2}d")
    weight = torch.arange(pool(x, **how).numel(), dtype=x.dtype).reshape(pool(x, **how).shape)
    (theirs,) = torch.autograd.grad((pool(x, **how) * weight).sum(), x)
    (ours,) = torch.autograd.grad((max_pool_with_indices(x, **how)[0] * weight).sum(), x)
    assert torch.equal(ours, theirs)
    values, indices = max_pool_with_indices(x.detach(), **how)
    unpool = lambda v: max_unpool(v, indices, output_size=shape[2:], **how)  # noqa: E731
    if "padding" not in how:
        assert torch.autograd.gradcheck(unpool, values.requires_grad_())


def test_compiles_with_gradients(rng):
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(rng.standard_normal((1, 2, 8, 8))).requires_grad_()

    def through(x):
        values, indices = max_pool_with_indices(x * 2, 2)
        return max_unpool(values, indices, 2)

    traced = torch.compile(through, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(traced, through(x))
    (ours,) = torch.autograd.grad(traced.sum(), x)
    assert torch.equal(ours, 2.0 * (through(x) != 0))


def test_memory_is_the_result():
    setup = """
from medseg_fast.nn.functional import max_pool_with_indices, max_unpool
image = rng.random((1, 20, 700, 700), np.float32)
values, indices = max_pool_with_indices(image, 2)
"""
    setup = "rng = np.random.default_rng(0)" + setup
    warm = "max_unpool(*max_pool_with_indices(image[:, :1, :8, :8].copy(), 2), 2)"
    got = peak_bytes_per_pixel("max_unpool(values, indices, 2)", setup=setup, warm=warm, threads=2)
    assert got == pytest.approx(4, abs=0.15)
    got = peak_bytes_per_pixel("max_pool_with_indices(image, 2)", setup=setup, warm=warm, threads=2)
    assert got == pytest.approx(3, abs=0.15)  # a quarter as many values, of 4 and 8 bytes
