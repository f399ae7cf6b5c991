"""Resampled labels: as PyTorch's and SciPy's logits give them, but for ties within rounding."""

from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import LAYOUTS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage

import medseg_fast as ms
from medseg_fast.nn.functional import resample_argmax, upsample_argmax
from medseg_fast.reference import nn_resampling as reference


def _smooth(rng, shape, sigma=2):
    """Logits of a segmentation: most cells belong to one class."""
    logits = ndimage.gaussian_filter(
        rng.standard_normal(shape), (0,) * (len(shape) - 3) + (sigma,) * 3
    )
    return (logits / logits.std()).astype(np.float32)


def _expected(logits, size, *, order=1, align_corners=False, threshold=None, scales=None):
    rank = len(size)
    inputs = logits.shape[-rank:]
    order = (order,) * rank if isinstance(order, int) else order
    if scales is None and align_corners:
        scales = [(n - 1) / (m - 1) if m > 1 else 0 for n, m in zip(inputs, size, strict=True)]
    elif scales is None:
        scales = [n / m for n, m in zip(inputs, size, strict=True)]
    scales = [1 if n == m else s for n, m, s in zip(inputs, size, scales, strict=True)]
    batched = logits.reshape(-1, *logits.shape[-rank - 1 :])
    labels = reference.resample_argmax(batched, size, scales, order, align_corners, threshold)
    return labels.reshape(*logits.shape[: -rank - 1], *size)


SIZES = [
    ((3, 4, 5, 6), (8, 9, 30)),  # planes, rows, columns
    ((3, 4, 5, 6), (4, 20, 12)),
    ((3, 9, 8, 40), (4, 3, 11)),  # to fewer
    ((3, 1, 1, 1), (3, 4, 5)),
    ((1, 2, 3, 4), (5, 6, 7)),  # one class
    ((2, 3, 4, 5, 70), (4, 9, 300)),  # a batch
    ((4, 3, 2, 2), (3, 2, 200)),  # cells wider than a block
    ((300, 2, 3, 4), (3, 5, 9)),  # more classes than uint8 counts
    ((3, 6, 7), (30, 41)),
    ((2, 5, 6, 7), (13, 9)),
    ((3, 1, 60), (2, 600)),
    ((3, 60, 1), (600, 2)),
]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("shape", "size"), SIZES)
def test_equals_reference(rng, threads, shape, size, dtype, align_corners):
    for logits in (rng.standard_normal(shape), rng.integers(-2, 3, shape)):  # with ties
        logits = logits.astype(dtype)
        got = resample_argmax(logits, size, align_corners=align_corners)
        assert got.dtype == (np.uint8 if shape[-len(size) - 1] <= 256 else np.uint16)
        assert_array_equal(got, _expected(logits, size, align_corners=align_corners))


@pytest.mark.parametrize("order", [0, (0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1)])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("size", [(8, 9, 30), (2, 3, 3), (4, 5, 6)])
def test_nearest_along_some_axes(rng, order, align_corners, size):
    logits = rng.standard_normal((5, 4, 5, 6)).astype(np.float32)
    got = resample_argmax(logits, size, order=order, align_corners=align_corners)
    assert_array_equal(got, _expected(logits, size, order=order, align_corners=align_corners))


@pytest.mark.parametrize("shape", [(6, 12, 13, 14), (6, 30, 31)])
@pytest.mark.parametrize("threshold", [0, 0.4, -2.5, 9])
def test_threshold_takes_the_last_class_above(rng, threads, shape, threshold):
    size = tuple(3 * n + 1 for n in shape[1:])
    for logits in (rng.standard_normal(shape), rng.integers(-2, 3, shape), _smooth(rng, shape)):
        logits = np.asarray(logits, np.float32)
        got = resample_argmax(logits, size, threshold=threshold)
        assert_array_equal(got, _expected(logits, size, threshold=threshold))


def test_smooth_logits_have_cells_of_one_class(rng, threads):
    logits = _smooth(rng, (9, 20, 21, 22))
    size = (40, 63, 90)
    assert_array_equal(resample_argmax(logits, size), _expected(logits, size))
    for classes in (2, 3):
        few = np.ascontiguousarray(logits[:classes])
        assert_array_equal(resample_argmax(few, size), _expected(few, size))


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_random_cases(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rank = data.draw(st.integers(2, 3))
    shape = data.draw(st.lists(st.integers(1, 9), min_size=rank, max_size=rank))
    size = data.draw(st.lists(st.integers(1, 40), min_size=rank, max_size=rank))
    classes = data.draw(st.integers(1, 6))
    logits = rng.choice([-1.0, 0.0, 1e-30, 0.5, 1.0, 1 + 2**-20, 3e38], (classes, *shape))
    logits = logits.astype(data.draw(st.sampled_from([np.float32, np.float64])))
    align_corners = data.draw(st.booleans())
    threshold = data.draw(st.sampled_from([None, 0.5, 1.0]))
    got = resample_argmax(logits, size, align_corners=align_corners, threshold=threshold)
    expected = _expected(logits, size, align_corners=align_corners, threshold=threshold)
    assert_array_equal(got, expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_layout(rng, layout, dtype):
    logits = rng.standard_normal((2, 3, 4, 5, 6)).astype(dtype)
    expected = _expected(logits, (6, 7, 8))
    assert_array_equal(resample_argmax(layout(logits), (6, 7, 8)), expected)
    last = np.moveaxis(layout(np.moveaxis(logits, 1, -1)), -1, 1)  # channels-last
    assert_array_equal(resample_argmax(last, (6, 7, 8)), expected)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, bool])
def test_integer_logits(rng, dtype):
    logits = rng.integers(0, 2 if dtype is bool else 100, (3, 4, 5)).astype(dtype)
    expected = _expected(logits.astype(np.float64 if dtype is np.int32 else np.float32), (9, 9))
    assert_array_equal(resample_argmax(logits, (9, 9)), expected)


@pytest.mark.parametrize("label", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64])
def test_dtype_and_out(rng, label):
    logits = _smooth(rng, (4, 9, 9, 9))
    expected = _expected(logits, (20, 20, 20))
    got = resample_argmax(logits, (20, 20, 20), dtype=label)
    assert got.dtype == label
    assert_array_equal(got, expected)
    out = np.zeros((20, 40, 20), label)[:, ::2]
    assert resample_argmax(logits, (20, 20, 20), dtype=label, out=out) is out
    assert_array_equal(out, expected)


def _torch_labels(logits, **how):
    torch = pytest.importorskip("torch")
    mode = "bilinear" if logits.ndim == 4 else "trilinear"
    resampled = torch.nn.functional.interpolate(torch.from_numpy(logits), mode=mode, **how)
    return resampled.argmax(1).numpy(), resampled.numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(2, 7, 9, 10, 11), (2, 7, 19, 20)])
@pytest.mark.parametrize("how", ["size", "factor"])
def test_equals_torch_but_for_ties_within_rounding(rng, dtype, align_corners, shape, how):
    for factor in (2, 4, 2.7, 0.6):
        logits = rng.standard_normal(shape).astype(dtype)
        asked = (
            {"size": tuple(int(factor * n) for n in shape[2:])}
            if how == "size"
            else {"scale_factor": tuple(factor + i for i in range(len(shape) - 2))}
        )
        expected, resampled = _torch_labels(logits, align_corners=align_corners, **asked)
        got = resample_argmax(logits, align_corners=align_corners, **asked)
        taken = np.take_along_axis(resampled, got[:, None].astype(np.int64), 1)[:, 0]
        # Each of up to three interpolations rounds three times.
        slack = 9 * np.finfo(dtype).eps * np.abs(logits).max()
        assert (resampled.max(1) - taken <= slack).all()
        assert (got != expected).mean() <= 1e-3


def test_scale_factor_of_equal_sizes_changes_nothing(rng):
    logits = rng.standard_normal((1, 3, 8, 9)).astype(np.float32)
    expected, _ = _torch_labels(logits, scale_factor=(1.05, 1.01))
    assert_array_equal(resample_argmax(logits, scale_factor=(1.05, 1.01)), expected)
    assert_array_equal(expected, logits.argmax(1))


@pytest.mark.parametrize("size", [(24, 30, 40), (5, 31, 9)])
def test_equals_resizing_class_by_class(rng, size):
    """nnU-Net's way: skimage.transform.resize(order=1, mode="edge") of every class."""
    transform = pytest.importorskip("skimage.transform")
    logits = rng.standard_normal((5, 9, 10, 11))
    resampled = np.stack(
        [transform.resize(c, size, order=1, mode="edge", anti_aliasing=False) for c in logits]
    )
    assert_array_equal(resample_argmax(logits, size), resampled.argmax(0))
    in_float32 = resample_argmax(logits.astype(np.float32), size)
    gap = resampled.max(0) - np.take_along_axis(resampled, in_float32[None].astype(int), 0)[0]
    assert gap.max() < 1e-5


def test_thick_slices_as_nnunet(rng):
    """Slices resized linearly, then the nearest slice by map_coordinates."""
    transform = pytest.importorskip("skimage.transform")
    logits = rng.standard_normal((3, 6, 10, 11))
    rows = 0.5 + np.arange(9)
    at = np.broadcast_to(((6 / 9) * rows - 0.5)[:, None, None], (9, 21, 25))
    in_plane = np.indices((9, 21, 25))[1:]
    resampled = []
    for c in logits:
        planes = np.stack(
            [transform.resize(p, (21, 25), order=1, mode="edge", anti_aliasing=False) for p in c]
        )
        resampled.append(ndimage.map_coordinates(planes, [at, *in_plane], order=0, mode="nearest"))
    got = resample_argmax(logits, (9, 21, 25), order=(0, 1, 1))
    assert_array_equal(got, np.argmax(resampled, 0))


def test_spacing_in_mm(rng):
    logits = rng.standard_normal((3, 10, 20, 20)).astype(np.float32)
    got = resample_argmax(logits, spacing=(3, 1.5, 1.5), new_spacing=(1, 0.7, 0.8))
    assert got.shape == (30, 43, 38)
    assert_array_equal(got, _expected(logits, got.shape))


def test_nan_and_infinities():
    logits = np.zeros((3, 2, 2), np.float32)
    logits[0] = 1
    logits[1] = -np.inf  # a masked class, also where a weight is zero
    assert_array_equal(resample_argmax(logits, (3, 5)), 0)
    logits[2, 0, 0] = np.nan
    got = resample_argmax(logits, (4, 4))
    assert_array_equal(got, _expected(logits, (4, 4)))
    assert got[0, 0] == 2
    assert got[-1, -1] == 0
    logits[1, 1, 1] = np.inf
    assert resample_argmax(logits, (4, 4))[-1, -1] == 1
    assert_array_equal(resample_argmax(np.full((2, 3, 3), np.nan), (5, 5)), 0)


def test_upsample_argmax_is_the_same_function(rng):
    logits = rng.standard_normal((2, 21, 9, 10)).astype(np.float32)
    got = upsample_argmax(logits, 8)
    assert got.shape == (2, 72, 80)
    assert_array_equal(got, resample_argmax(logits, scale_factor=8))
    assert_array_equal(got, resample_argmax(logits, (72, 80)))  # 1 / 8 is exact
    assert_array_equal(upsample_argmax(logits[0], 8), got[0])
    volume = rng.standard_normal((2, 3, 4, 5)).astype(np.float32)
    assert upsample_argmax(volume, (2, 2, 2)).shape == (6, 8, 10)
    assert upsample_argmax(volume[None], 2).shape == (1, 6, 8, 10)
    assert upsample_argmax(volume, 2).shape == (2, 8, 10)  # (N, C, H, W)


def test_empty():
    assert resample_argmax(np.zeros((3, 4, 5)), (0, 5)).shape == (0, 5)
    assert resample_argmax(np.zeros((0, 3, 4, 5)), (2, 2)).shape == (0, 2, 2)
    assert resample_argmax(np.zeros((3, 0, 5)), (0, 5)).shape == (0, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: resample_argmax(x), ValueError, "say one of size, scale_factor and spacing"),
        (lambda x: resample_argmax(x, 8, scale_factor=2), ValueError, "say one of"),
        (lambda x: resample_argmax(x, spacing=(1, 1)), ValueError, "go together"),
        (lambda x: resample_argmax(x, (4,)), ValueError, "each of 2 or 3 axes"),
        (lambda x: resample_argmax(x, (4, 4, 4, 4)), ValueError, "each of 2 or 3 axes"),
        (lambda x: resample_argmax(x[0], 4), ValueError, "3 to 5 dimensions"),
        (lambda x: resample_argmax(x, (4, 4.5)), TypeError, "size must be an integer"),
        (lambda x: resample_argmax(x, (4, -4)), ValueError, "size must be at least 0"),
        (lambda x: upsample_argmax(x, 0), ValueError, "scale_factor must be positive"),
        (lambda x: upsample_argmax(x, float("inf")), ValueError, "scale_factor must be positive"),
        (lambda x: resample_argmax(x.astype(complex), 4), TypeError, "must be real numbers"),
        (lambda x: resample_argmax(x[:0], 4), ValueError, "at least one class"),
        (lambda x: resample_argmax(x[:, :0], 4), ValueError, "a value along every axis"),
        (lambda x: resample_argmax(x, 4, order=2), ValueError, "order must be from 0 to 1"),
        (lambda x: resample_argmax(x, 4, order=(1,)), ValueError, "one number per axis"),
        (lambda x: resample_argmax(x, 4, dtype=float), TypeError, "dtype must be an integer type"),
        (lambda x: resample_argmax(x, 4, threshold=float("nan")), ValueError, "threshold must be"),
        (
            lambda x: resample_argmax(x, spacing=3, new_spacing=3),
            TypeError,
            "spacing must be a seq",
        ),
        (lambda x: upsample_argmax(x, 2, dtype="foo"), TypeError, "dtype must be .* got 'foo'"),
        (
            lambda x: upsample_argmax(x, 1e12),
            ValueError,
            r"scale_factor must ask .* 2\*\*48 values",
        ),
        (lambda x: upsample_argmax(x, 1e308), ValueError, "scale_factor must ask for fewer"),
        (lambda x: resample_argmax(x, 10**19), ValueError, "size must ask for fewer"),
        (
            lambda x: resample_argmax(x, spacing=(1e300, 1), new_spacing=(1e-300, 1)),
            ValueError,
            "spacing must ask for fewer",
        ),
        (lambda x: resample_argmax(x, 4, out=np.zeros((4, 4))), ValueError, "out must have"),
        (
            lambda x: resample_argmax(np.zeros((300, 2, 2)), 4, dtype=np.uint8),
            ValueError,
            "dtype must hold labels up to 299",
        ),
    ],
)
def test_bad_calls(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((3, 4, 4), np.float32))


def test_arrays_without_axes_are_numbers():
    logits = np.arange(12.0).reshape(3, 2, 2)
    assert upsample_argmax(logits, np.array(2.0)).shape == (4, 4)
    assert resample_argmax(logits, np.array(5)).shape == (5, 5)


SCAN = """
from medseg_fast.nn.functional import resample_argmax
coarse = np.random.default_rng(0).standard_normal((15, 40, 48, 48)).astype(np.float32)
image = np.empty(({n}, 256, 256), bool)
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_memory_is_the_labels(threads):
    got = peak_bytes_per_pixel(
        "resample_argmax(coarse, image.shape)",
        setup=SCAN.format(n=160),
        warm="resample_argmax(coarse[:, :4, :4, :4].copy(), (8, 8, 8))",
        threads=threads,
    )
    assert got <= 1.1


def test_torch_tensors_in_channels_last(rng):
    torch = pytest.importorskip("torch")
    logits = rng.standard_normal((2, 5, 6, 7)).astype(np.float32)
    tensor = torch.from_numpy(logits).to(memory_format=torch.channels_last)
    got = upsample_argmax(tensor, 4)
    assert got.dtype == torch.uint8
    assert_array_equal(got.numpy(), upsample_argmax(logits, 4))
    compiled = torch.compile(
        lambda x: upsample_argmax(x * 2, 4), backend="aot_eager", fullgraph=True
    )
    assert torch.equal(compiled(tensor), got)


def test_all_numbers_of_threads_agree(rng):
    logits = _smooth(rng, (5, 30, 40, 50))
    results = []
    for n in (1, 2, 5, 16):
        with ms.num_threads(n):
            results.append(resample_argmax(logits, (64, 90, 110)))
    for result in results[1:]:
        assert_array_equal(result, results[0])


def test_layouts_are_not_copied(rng):
    from medseg_fast.nn.functional._layout import memory_order

    logits = np.zeros((2, 3, 4, 5))
    for name in ("c_order", "fortran"):
        made = LAYOUTS[name](logits)
        assert np.shares_memory(memory_order(made)[0], made)
    last = np.moveaxis(np.zeros((2, 4, 5, 3)), -1, 1)
    assert np.shares_memory(memory_order(last)[0], last)
