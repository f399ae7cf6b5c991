"""Seeds, limits, `out` and other arguments of all region growing by interval."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from _regions import patchy
from numpy.testing import assert_array_equal

import medseg_fast as ms
from medseg_fast.reference import region as reference

MASKS = {
    "flood": lambda image, **k: ms.flood(image, (0,) * np.ndim(image), **k),
    "connected_threshold": lambda image, **k: ms.connected_threshold(
        image, (0,) * np.ndim(image), 0, 1, **k
    ),
    "neighborhood_connected": lambda image, **k: ms.neighborhood_connected(
        image, (0,) * np.ndim(image), 0, 1, **k
    ),
    "confidence_connected": lambda image, **k: ms.confidence_connected(
        image, (0,) * np.ndim(image), **k
    ),
    "isolated_connected": lambda image, **k: ms.isolated_connected(
        image, (0,) * np.ndim(image), [n - 1 for n in np.shape(image)], 0, 5, **k
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_empty_images(name):
    for shape in [(0,), (0, 5), (3, 0, 2)]:
        mask = MASKS[name](np.zeros(shape))
        assert mask.shape == shape
        assert mask.dtype == bool


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.filterwarnings("ignore:isolated_connected")
def test_out(rng, layout, name):
    image = layout(patchy(rng, (6, 9, 8), np.float32))
    expected = MASKS[name](image.copy())
    out = layout(np.ones(image.shape, bool))
    if not out.flags.writeable:
        with pytest.raises(ValueError, match="out must be writable"):
            MASKS[name](image, out=out)
        return
    assert MASKS[name](image, out=out) is out
    assert_array_equal(out, expected)
    with pytest.raises(ValueError, match="out must have shape"):
        MASKS[name](image, out=np.zeros((6, 9), bool))


SEEDED = {
    "flood": (lambda image, s, **k: ms.flood(image, s, **k), "seed_point"),
    "flood_fill": (lambda image, s, **k: ms.flood_fill(image, s, 1, **k), "seed_point"),
    "connected_threshold": (lambda im, s, **k: ms.connected_threshold(im, s, 0, 1, **k), "seeds"),
    "neighborhood_connected": (
        lambda im, s, **k: ms.neighborhood_connected(im, s, 0, 1, **k),
        "seeds",
    ),
    "confidence_connected": (lambda im, s, **k: ms.confidence_connected(im, s, **k), "seeds"),
    "isolated_connected": (
        lambda im, s, **k: ms.isolated_connected(im, s, (0,) * np.ndim(im), 0, 1, **k),
        "seed1",
    ),
}


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize(
    ("error", "message", "seed"),
    [
        (ValueError, r"must lie within shape \(4, 5\), got \(-5, -1\)", (-5, -1)),
        (ValueError, r"must lie within shape \(4, 5\), got \(0, 5\)", (0, 5)),
        (ValueError, r"must lie within", (2**63 - 1, 0)),
        (ValueError, r"lies on NaN", (3, 3)),
        (ValueError, r"one index per axis", (1,)),
        (ValueError, r"one index per axis", (0, 0, 0)),
        (ValueError, r"one index per axis", [[[0, 0]]]),
        (TypeError, r"must hold integers", (0.0, 0)),
        (TypeError, r"must hold integers", "00"),
        (TypeError, r"must hold integers", (True, False)),
        (TypeError, r"must hold integers", None),
    ],
)
def test_bad_seeds(name, error, message, seed):
    call, argument = SEEDED[name]
    image = np.zeros((4, 5))
    image[3, 3] = np.nan
    with pytest.raises(error, match=f"{name}: {argument} .*{message}"):
        call(image, seed)


@pytest.mark.parametrize("name", SEEDED)
def test_bad_input(name):
    call, _ = SEEDED[name]
    with pytest.raises(TypeError, match=f"{name}: image must be .* got complex128"):
        call(np.zeros(3, complex), 0)
    with pytest.raises(TypeError, match=f"{name}: image must be .* got <U1"):
        call(np.array(["a"]), 0)
    with pytest.raises(ValueError, match=f"{name}: image must have at least 1 dimension"):
        call(np.float32(3), ())
    with pytest.raises(ValueError, match=f"{name}: max_voxels must be at least 1"):
        call(np.zeros(3), 0, max_voxels=0)
    with pytest.raises(TypeError, match=f"{name}: max_voxels must be an integer"):
        call(np.zeros(3), 0, max_voxels=1.5)


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "float16", lambda a: ms.flood(a.astype(np.float16), (0, 0))),
        (TypeError, "float16", lambda a: ms.flood_fill(a.astype(np.float16), (0, 0), 1)),
        (ValueError, "one index", lambda a: ms.flood(a, [(0, 0), (1, 1)])),
        (ValueError, "tolerance must be a number, got NaN",
         lambda a: ms.flood(a, (0, 0), tolerance=np.nan)),
        (TypeError, "tolerance must be a number", lambda a: ms.flood(a, (0, 0), tolerance="1")),
        (ValueError, "footprint must be odd", lambda a: ms.flood(a, (0, 0), footprint=[[1, 1]])),
        (ValueError, "footprint must have 2", lambda a: ms.flood(a, (0, 0), footprint=[1, 1, 1])),
        (ValueError, "connectivity must be from 1 to 2, got 3",
         lambda a: ms.connected_threshold(a, (0, 0), 0, 1, 3)),
        (ValueError, "seeds must hold at least one",
         lambda a: ms.connected_threshold(a, np.zeros((0, 2), int), 0, 1)),
        (ValueError, "lower must be a number, got NaN",
         lambda a: ms.connected_threshold(a, (0, 0), np.nan, 1)),
        (ValueError, "radius must be at least 0",
         lambda a: ms.neighborhood_connected(a, (0, 0), 0, 1, -1)),
        (ValueError, "radius must be one number or 2",
         lambda a: ms.neighborhood_connected(a, (0, 0), 0, 1, (1, 1, 1))),
        (ValueError, "tolerance must be finite",
         lambda a: ms.isolated_connected(a, (0, 0), (1, 1), 0, 1, tolerance=-1)),
        (ValueError, "isolated_connected: seed2",
         lambda a: ms.isolated_connected(a, (0, 0), (9, 9), 0, 1)),
    ],
)  # fmt: skip
def test_bad_arguments(error, message, call):
    with pytest.raises(error, match=message):
        call(np.zeros((4, 5)))


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_max_voxels_returns_the_first_voxels_of_growth(rng, isa, connectivity):
    image = patchy(rng, (7, 8, 70), np.int16)
    seeds = [tuple(p) for p in np.argwhere(image == 1)[[0, 500]].tolist()]
    everything = ms.connected_threshold(image, seeds, 1, 1, connectivity)
    for most in (1, 2, 3, 40, int(everything.sum()) - 1):
        with pytest.warns(ms.LeakWarning, match=f"stopped at max_voxels={most}") as caught:
            mask = ms.connected_threshold(image, seeds, 1, 1, connectivity, max_voxels=most)
        assert caught[0].filename == __file__
        assert mask.sum() == most
        assert_array_equal(
            mask, reference.connected_threshold(image, seeds, 1, 1, connectivity, most)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for most in (int(everything.sum()), 10**12):
            mask = ms.connected_threshold(image, seeds, 1, 1, connectivity, max_voxels=most)
            assert_array_equal(mask, everything)


def test_max_voxels_of_the_other_functions(rng):
    image = np.where(rng.random((12, 40)) < 0.1, 0, 1)
    image[6, 18:23] = 1
    footprint = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1]])
    seed = (6, 18)
    with pytest.warns(ms.LeakWarning, match="^flood: "):
        mask = ms.flood(image, seed, footprint=footprint, max_voxels=5)
    assert_array_equal(mask, reference.flood(image, seed, footprint=footprint, max_voxels=5))
    with pytest.warns(ms.LeakWarning, match="^flood_fill: "):
        filled = ms.flood_fill(image, seed, 9, max_voxels=5)
    assert_array_equal(filled == 9, reference.flood(image, seed, max_voxels=5))
    sparse = np.ones((12, 40), np.uint8)
    sparse[5, 5] = 0
    with pytest.warns(ms.LeakWarning, match="^neighborhood_connected: "):
        mask = ms.neighborhood_connected(sparse, (4, 8), 1, 1, 2, max_voxels=50)
    assert_array_equal(
        mask, reference.neighborhood_connected(sparse, [(4, 8)], 1, 1, (2, 2), max_voxels=50)
    )
    with pytest.warns(ms.LeakWarning, match="^confidence_connected: "):
        assert ms.confidence_connected(sparse, (4, 8), max_voxels=50).sum() == 50
    ramp = np.arange(30)
    with pytest.warns(ms.LeakWarning, match="^isolated_connected: "):
        mask = ms.isolated_connected(ramp, 3, 20, 0, 29, max_voxels=5)
    assert mask.nonzero()[0].tolist() == [1, 2, 3, 4, 5]
