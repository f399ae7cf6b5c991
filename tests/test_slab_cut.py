from __future__ import annotations

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_seeded_cut import GRID, scene

import medseg_fast as ms


@GRID
@pytest.mark.parametrize("channels", [None, 3])
def test_slabs_give_the_same_mask(rng, shape, connectivity, channels):
    image, foreground, background, costs = scene(rng, shape, channels)
    for region in (lambda *_: costs, None, "histogram", "gmm"):
        arguments = {
            "lambda_": 2,
            "connectivity": connectivity,
            "spacing": (2.0, 0.7, 1.3)[: len(shape)],
            "region": region,
            "channel_axis": None if channels is None else -1,
        }
        expected = ms.graph_cut(image, foreground, background, **arguments)
        for slab in (1, 2, 3, 100):
            got = ms.graph_cut(image, foreground, background, slab=slab, **arguments)
            assert_array_equal(got, expected)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30), st.integers(1, 9), st.floats(0.01, 10))
def test_any_slab_of_any_image(seed, extent, slab, lambda_):
    rng = np.random.default_rng(seed)
    image, foreground, background, costs = scene(rng, (extent, 6, 5))
    given = (image, foreground & (rng.random(image.shape) < 0.1), background)
    arguments = {"lambda_": lambda_, "region": lambda *_: costs}
    assert_array_equal(
        ms.graph_cut(*given, slab=slab, **arguments), ms.graph_cut(*given, **arguments)
    )


def test_what_is_open_is_cut_in_a_box_or_alone(rng, monkeypatch):
    from medseg_fast import _slab_cut

    image, foreground, background, _ = scene(rng, (20, 12, 11))
    seeds = [s & (rng.random(image.shape) < 0.2) for s in (foreground, background)]
    expected = ms.graph_cut(image, *seeds, region=None)
    for share in (0, 10**9):
        monkeypatch.setattr(_slab_cut, "_SPARSE", share)
        assert_array_equal(ms.graph_cut(image, *seeds, region=None, slab=3), expected)


def test_into_out_and_threads(rng, layout):
    image, foreground, background, _ = scene(rng, (9, 7))
    expected = ms.graph_cut(image, foreground, background)
    out = layout(np.ones((9, 7), bool))
    if out.flags.writeable:
        assert ms.graph_cut(image, foreground, background, slab=2, out=out) is out
        assert_array_equal(out, expected)
    for threads in (1, 2, 5):
        with ms.num_threads(threads):
            given = [layout(a) for a in (image, foreground, background)]
            assert_array_equal(ms.graph_cut(*given, slab=2), expected)


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, "slab must be", {"slab": 0}),
        (TypeError, "slab must be", {"slab": 1.5}),
        (ValueError, "image must be finite", {"image": np.full((4, 5), np.nan)}),
        (ValueError, "foreground must have at least one", {"foreground_seeds": np.zeros((4, 5))}),
        (ValueError, "background_seeds must have shape", {"background_seeds": np.zeros((4, 4))}),
        (ValueError, "no pixel in common", {"background_seeds": np.ones((4, 5))}),
        (ValueError, "region must be", {"region": "mean"}),
        (ValueError, "out must have shape", {"out": np.zeros((3, 3), bool)}),
    ],
)
def test_bad_input(error, message, change):
    image = np.arange(20.0).reshape(4, 5)
    given = {"image": image, "foreground_seeds": image > 17, "background_seeds": image < 2}
    with pytest.raises(error, match=f"graph_cut: .*{message}"):
        ms.graph_cut(**{**given, "slab": 2, **change})


_SETUP = """
    rng = np.random.default_rng(0)
    shape = {shape}
    image = rng.integers(0, 60, shape, np.uint8)
    image[:, shape[1] // 4 :, : shape[2] // 2] += 40
    foreground, background = np.zeros((2, *shape), bool)
    foreground[:, -3:, :3] = background[:, :3] = True
"""
_WARM = "ms.graph_cut(image[:5], foreground[:5], background[:5], slab=2)"


def test_peak_memory():
    got = peak_bytes_per_pixel(
        "ms.graph_cut(image, foreground, background, slab=8)",
        setup=_SETUP.format(shape=(96, 80, 100)),
        warm=_WARM,
    )
    assert got < 14


@pytest.mark.slow
@pytest.mark.parametrize("slab", [None, 32])
def test_a_large_volume_in_4_gigabytes(slab):
    got = peak_bytes_per_pixel(
        f"ms.graph_cut(image, foreground, background, slab={slab})",
        setup=_SETUP.format(shape=(256, 512, 512)),
        warm=_WARM,
        threads=2,
        timeout_s=600,
    )
    assert got < (2**32 / 2**26 if slab is None else 16)
