from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast.edge_detection import EDGE_FAMILIES, EDGE_METHODS

twin = reference.edge_detection


def disc(shape=(60, 70), radius=18):
    """A bright disc and its true boundary."""
    away = np.sqrt(sum((g - n / 2) ** 2 for g, n in zip(np.indices(shape), shape, strict=True)))
    return away < radius


@pytest.mark.parametrize("method", sorted(EDGE_METHODS))
def test_every_method_finds_a_disc(rng, method):
    inside = disc()
    image = (100 * inside + rng.normal(20, 3, inside.shape)).astype(np.float32)
    options = {}
    if method == "live_wire":  # on the boundary, clockwise
        options = {"points": [(12, 35), (30, 52), (48, 35), (30, 17)], "closed": True}
    found = ms.detect_edges(image, method, **options)
    assert type(found) is ms.EdgeResult
    assert found.strength.shape == found.edges.shape == image.shape
    assert found.strength.dtype == found.direction.dtype == np.float32
    assert found.edges.dtype == bool
    assert found.direction.shape == (2, *image.shape)
    truth = ms.find_boundaries(inside)
    score = ms.boundary_f1(found.edges, truth, 2)
    assert score.recall > 0.95
    assert score.precision > {"canny": 0.2, "watershed": 0.2, "edge_flow": 0.9}.get(method, 0.95)
    # The gradient points to the middle of the disc.
    offset = np.array([n / 2 for n in image.shape])[:, None] - np.argwhere(truth).T
    offset /= np.sqrt((offset**2).sum(axis=0))
    assert (found.direction[:, truth] * offset).sum(axis=0).mean() > 0.9


PLANAR = {"edge_flow"}  # methods of images, not of volumes


@pytest.mark.parametrize("method", sorted(EDGE_METHODS))
def test_every_method_in_3d_any_dtype_and_of_nothing(rng, method):
    inside = disc((40, 50), 12) if method in PLANAR else disc((12, 20, 20), 6)
    options = {"points": [(6, 4, 10), (6, 16, 10)]} if method == "live_wire" else {}
    spacing = (2, 1, 1)[: inside.ndim]
    for dtype in ("bool", "uint8", "int16", "float64"):
        found = ms.detect_edges(inside.astype(dtype), method, spacing=spacing, **options)
        assert found.edges.shape == inside.shape
        assert found.edges.any()
        assert found.strength.dtype == found.direction.dtype == np.float64
        length = np.sqrt((found.direction**2).sum(axis=0))
        assert ((abs(length - 1) < 1e-6) | (length == 0)).all()
    for shape in ((0, 5), (4, 4)) if method != "live_wire" else ():
        assert not ms.detect_edges(np.zeros(shape), method).edges.any()


def test_every_method_is_in_one_family():
    assert sorted(name for names in EDGE_FAMILIES.values() for name in names) == sorted(
        EDGE_METHODS
    )
    assert EDGE_FAMILIES["edge flow"] == ["edge_flow"]
    assert EDGE_FAMILIES["mathematical morphology"] == ["morphological", "watershed"]


def test_methods_are_their_functions():
    image = disc().astype(np.float32) * 50
    assert_array_equal(ms.detect_edges(image, "scharr").strength, ms.scharr(image))
    found = ms.detect_edges(image, sigma=1.5, low_threshold=5, high_threshold=20)
    assert_array_equal(found.edges, ms.canny(image, 1.5, 5, 20))
    found = ms.detect_edges(image, "morphological", scales=2, threshold=10)
    gradient = ms.multiscale_morphological_gradient(image, 2)
    assert_array_equal(found.strength, gradient)
    assert_array_equal(found.edges, gradient > 10)
    found = ms.detect_edges(image, "live_wire", points=[(12, 35), (48, 35)], sigma=1)
    wire = ms.LiveWire(image, sigma=1)
    wire.seed((12, 35))
    assert_array_equal(np.argwhere(found.edges), np.unique(wire.path((48, 35)), axis=0))
    assert found.strength.max() > 0.9
    ramp = np.arange(40.0) * 3
    assert_allclose(ms.detect_edges(ramp, "canny", spacing=(0.5,)).strength[12:-12], 6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_multiscale_gradient_equals_reference(rng, dtype):
    for shape in [(1,), (9,), (0, 4), (8, 11), (5, 7, 6)]:
        if dtype.kind in "ui":
            limits = np.iinfo(dtype)
            low, high = max(limits.min, -(2**40)), min(limits.max, 2**40)
            image = rng.integers(low, high, shape, endpoint=True).astype(dtype)
        else:
            image = rng.normal(0, 10, shape) > 0 if dtype.kind == "b" else rng.normal(0, 10, shape)
            image = image.astype(dtype)
        for scales in (1, 2, 3):
            got = ms.multiscale_morphological_gradient(image, scales)
            small = dtype in (np.float16, np.float32)
            assert got.dtype == (np.float32 if small else np.float64)
            expected = twin.multiscale_morphological_gradient(image, scales) if image.size else got
            rounding = 2e-3 if dtype == np.float16 else 1e-6  # of the gradients, in image's dtype
            assert_allclose(got, expected, rtol=rounding, atol=rounding * 30 if small else 0)
    out = np.ones((5, 7, 6), got.dtype)
    assert ms.multiscale_morphological_gradient(image, 2, out=out) is out


def test_boundary_f1_equals_reference(rng):
    for shape in [(30,), (12, 15), (5, 8, 9)]:
        for share in (0, 0.03, 0.3):
            pred, truth = rng.random(shape) < 0.05, rng.random(shape) < share
            spacing = rng.uniform(0.5, 2, len(shape))
            for tolerance in (0, 1, 2.5):
                for one, other in ((pred, truth), (truth, pred)):
                    got = ms.boundary_f1(one, other, tolerance, spacing=spacing)
                    assert_allclose(got, twin.boundary_f1(one, other, tolerance, spacing))
    nothing = np.zeros((4, 4), bool)
    assert ms.boundary_f1(nothing, nothing, 1) == (1, 1, 1)
    assert ms.boundary_f1(nothing, ~nothing, 1) == (0, 1, 0)


def test_torch(rng):
    torch = pytest.importorskip("torch")
    image = disc().astype(np.float32)
    found = ms.detect_edges(torch.from_numpy(image), "sobel")
    assert isinstance(found, ms.EdgeResult)
    assert all(isinstance(part, torch.Tensor) for part in found)
    assert ms.boundary_f1(found.edges, torch.from_numpy(ms.find_boundaries(disc())), 1).f1 > 0.9


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "method must be one of canny", lambda i: ms.detect_edges(i, "log")),
        (TypeError, "unexpected keyword", lambda i: ms.detect_edges(i, "sobel", wings=2)),
        (ValueError, "scales must be", lambda i: ms.multiscale_morphological_gradient(i, 0)),
        (TypeError, "scales must be", lambda i: ms.multiscale_morphological_gradient(i, 1.5)),
        (ValueError, "truth must have shape", lambda i: ms.boundary_f1(i, i[1:], 1)),
        (ValueError, "tolerance_mm must not", lambda i: ms.boundary_f1(i, i, -1)),
        (ValueError, "pred must not contain NaN", lambda i: ms.boundary_f1(i * np.nan, i, 1)),
        (ValueError, "'live_wire' needs points", lambda i: ms.detect_edges(i, "live_wire")),
        (
            ValueError,
            "points must be two",
            lambda i: ms.detect_edges(i, "live_wire", points=[(1, 1)]),
        ),
        (
            ValueError,
            "point must lie",
            lambda i: ms.detect_edges(i, "live_wire", points=[(9, 9)] * 2),
        ),
        (ValueError, "spacing must be 2", lambda i: ms.detect_edges(i, spacing=(1,))),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call(np.ones((4, 4)))
