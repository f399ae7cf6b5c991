from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from numpy.testing import assert_array_equal
from test_seeded_cut import weights_of

import medseg_fast as ms
from medseg_fast import reference
from medseg_fast._cpu import core

twin = reference.graph_cut
GRIDS = [((9,), 1), ((8, 9), 1), ((8, 9), 2), ((3, 5, 4), 1), ((3, 4, 4), 3)]
GRID = pytest.mark.parametrize(("shape", "connectivity"), GRIDS, ids=str)


def scene(rng, shape):
    image = rng.normal(0, 1, shape)
    choice = rng.integers(0, 8, shape)
    choice.flat[0], choice.flat[-1] = 0, 1
    costs = [rng.random(shape).astype(np.float32) * 3 for _ in range(2)]
    return image, choice == 0, choice == 1, costs


def energy(image, mask, foreground, background, costs, connectivity):
    shape = image.shape
    weights = weights_of(image[..., None], shape, connectivity, 2, 1.1, (1.0,) * len(shape))
    return twin.seeded_energy(*costs, foreground, background, weights, mask)


@GRID
def test_a_band_of_everything_is_the_exact_cut(rng, shape, connectivity):
    for _ in range(3):
        image, foreground, background, costs = scene(rng, shape)
        given = {"lambda_": 2, "sigma": 1.1, "connectivity": connectivity}
        given["region"] = lambda *_, costs=costs: costs
        exact = ms.graph_cut(image, foreground, background, **given)
        regions = np.arange(image.size).reshape(shape)
        for band, labels in ((100, regions // 3), (0, regions), (100, None)):
            got = ms.graph_cut_regions(
                image, foreground, background, regions=labels, band=band, **given
            )
            ours = energy(image, got, foreground, background, costs, connectivity)
            least = energy(image, exact, foreground, background, costs, connectivity)
            if labels is not None:
                assert ours == pytest.approx(least, rel=1e-5)
            assert ours >= least * (1 - 1e-5)


@GRID
def test_a_band_never_raises_the_energy(rng, shape, connectivity):
    image, foreground, background, costs = scene(rng, shape)
    given = {"lambda_": 2, "sigma": 1.1, "connectivity": connectivity}
    given |= {"region": lambda *_: costs, "regions": np.arange(image.size).reshape(shape) // 4}
    energies = [
        energy(
            image,
            ms.graph_cut_regions(image, foreground, background, band=band, **given),
            foreground,
            background,
            costs,
            connectivity,
        )
        for band in (0, 1, 2, 50)
    ]
    assert np.isfinite(energies).all()
    assert energies[3] <= min(energies) * (1 + 1e-6)
    assert energies[1] <= energies[0] * (1 + 1e-6)


@GRID
def test_edges_between_regions_add_up(rng, shape, connectivity):
    image = rng.normal(0, 1, shape)
    labels = rng.integers(0, 5, shape).astype(np.int32)
    weights = weights_of(image[..., None], shape, connectivity, 2, 1.1, (1.0,) * len(shape))
    expected = {}
    for offset, w in weights.items():
        for p in np.argwhere(w > 0):
            pair = sorted((labels[tuple(p)], labels[tuple(p + offset)]))
            if pair[0] != pair[1]:
                expected[tuple(pair)] = expected.get(tuple(pair), 0) + w[tuple(p)]
    from medseg_fast import _cut_costs

    given = _cut_costs.CutImage("test", image, None, None)
    lengths = _cut_costs.metric(tuple(weights), (1.0,) * len(shape))
    i, j, w = core.region_edges(
        given.volume,
        labels.reshape(given.volume.shape[:3]),
        [given.full(o) for o in weights],
        [2 * length for length in lengths],
        0.5 / 1.1**2,
    )
    got = {(a, b): c for a, b, c in zip(i.tolist(), j.tolist(), w.tolist(), strict=True)}
    assert set(got) == {(int(a), int(b)) for a, b in expected}
    for pair, weight in expected.items():
        assert got[pair] == pytest.approx(weight, rel=1e-5)


def test_many_pairs_of_regions(rng):
    labels = rng.integers(0, 3000, (40, 50)).astype(np.int32)
    image = np.zeros((1, 40, 50, 1))
    i, j, w = core.region_edges(image, labels[None], [[0, 0, 1]], [1.0], 1.0)
    pairs = {tuple(sorted(p)) for p in zip(labels[:, :-1].flat, labels[:, 1:].flat, strict=True)}
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == {
        (int(a), int(b)) for a, b in pairs if a != b
    }
    assert w.sum() == np.count_nonzero(labels[:, :-1] != labels[:, 1:])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_a_blob_is_found(rng, dtype):
    z, y, x = np.indices((20, 30, 32))
    truth = (z - 10) ** 2 * 2 + (y - 15) ** 2 + (x - 16) ** 2 < 81
    image = (60 + 50 * truth + rng.normal(0, 5, truth.shape)).astype(dtype)
    foreground, background = np.zeros((2, *truth.shape), bool)
    foreground[9:12, 13:17, 14:18] = background[:2] = True
    exact = ms.graph_cut(image, foreground, background)
    preview = ms.graph_cut_regions(image, foreground, background, band=0)
    refined = ms.graph_cut_regions(image, foreground, background)
    assert np.count_nonzero(refined != truth) < 60
    assert np.count_nonzero(refined != exact) <= np.count_nonzero(preview != exact)
    colour = np.stack([image, image], 0)
    got = ms.graph_cut_regions(colour, foreground, background, channel_axis=0)
    assert got[foreground].all()
    assert not got[background].any()
    out = np.zeros(truth.shape, bool)
    assert ms.graph_cut_regions(image, foreground, background, out=out) is out
    assert_array_equal(out, refined)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "band must not be negative", {"band": -1}),
        (TypeError, "regions must be integers", {"regions": np.zeros((4, 5))}),
        (ValueError, "regions must have shape", {"regions": np.zeros((4, 4), int)}),
        (ValueError, "regions must be from 0", {"regions": np.full((4, 5), -1)}),
        (ValueError, "foreground_seeds must have at least", {"foreground_seeds": np.zeros((4, 5))}),
        (ValueError, "no pixel in common", {"background_seeds": np.ones((4, 5))}),
        (ValueError, "lambda_ must be finite", {"lambda_": -1}),
        (ValueError, "sigma must be positive", {"sigma": 0}),
    ],
)
def test_bad_input(error, message, change):
    image = np.arange(20.0).reshape(4, 5)
    given = {"image": image, "foreground_seeds": image > 17, "background_seeds": image < 2}
    with pytest.raises(error, match=f"graph_cut_regions: .*{message}"):
        ms.graph_cut_regions(**{**given, **change})


def test_peak_memory():
    setup = """
    image = np.random.default_rng(0).integers(0, 30, (70, 80, 90)).astype(np.uint8)
    image[:30] += 90
    foreground, background = np.zeros((2, *image.shape), bool)
    foreground[:3] = background[-3:] = True
    regions = np.arange(image.size, dtype=np.int32).reshape(image.shape) // 64
    """
    call = "ms.graph_cut_regions(image{0}, foreground{0}, background{0}, regions=regions, band=0)"
    small = call.format("[::69]").replace("regions=regions", "regions=regions[::69]")
    got = peak_bytes_per_pixel(call.format(""), setup=setup, warm=small)
    assert got < 31
