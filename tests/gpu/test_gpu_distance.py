"""Euclidean distances on a GPU: the CPU's to the last bit where pixels are of size 1."""

from __future__ import annotations

import numpy as np
import pytest
from _shim import needs_compiler, on_shim
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import reference

pytestmark = needs_compiler

SHAPES = [(0,), (1,), (67,), (0, 5), (1, 1), (9, 33), (1, 130), (40, 40), (5, 7, 19), (2, 3, 4, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_distances(rng, shape):
    for density in (0.5, 0.97):
        mask = rng.random(shape) < density
        got = on_shim("distance_transform_edt", mask, schedules=2)
        assert got.dtype == np.float64
        assert_array_equal(got, ms.distance_transform_edt(mask))
        sampling = (1.5, 0.7, 2, 1)[: len(shape)]
        got = on_shim("distance_transform_edt", mask, sampling, schedules=1)
        assert_allclose(got, ms.distance_transform_edt(mask, sampling), rtol=1e-15)
        if 0 < mask.size < 100 and not mask.all():
            twin, _ = reference.distance.distance_transform_edt(mask)
            assert_allclose(on_shim("distance_transform_edt", mask), twin, rtol=1e-15)


@pytest.mark.parametrize("shape", [(3, 2500), (1400,), (300, 37), (90, 3, 40)], ids=str)
def test_background_far_away(rng, shape):
    """A few pixels of it: beyond a warp's piece of a row, and beyond many bands of rows."""
    for count in (1, 2, 9):
        mask = np.ones(shape, bool)
        mask.reshape(-1)[rng.integers(0, mask.size, count)] = False
        got = on_shim("distance_transform_edt", mask, schedules=1)
        assert_array_equal(got, ms.distance_transform_edt(mask))
        sampling = (1.5, 0.7, 2)[: len(shape)]
        got = on_shim("distance_transform_edt", mask, sampling, schedules=1)
        assert_allclose(got, ms.distance_transform_edt(mask, sampling), rtol=1e-15)


def test_dtypes_outputs_and_limits(rng):
    image = rng.integers(0, 3, (9, 20)).astype(np.float32)
    image[3, 3] = np.nan
    got = on_shim("distance_transform_edt", image, dtype=np.float32)
    assert_array_equal(got, ms.distance_transform_edt(image, dtype=np.float32))
    out = np.zeros((9, 40))[:, ::2]
    assert on_shim("distance_transform_edt", image, distances=out, schedules=1) is None
    assert_array_equal(out, ms.distance_transform_edt(image))
    assert np.isinf(on_shim("distance_transform_edt", np.ones((4, 5)))).all()
    assert np.isinf(on_shim("distance_transform_edt", np.ones((4, 5)), 0.5)).all()
    with pytest.raises(NotImplementedError, match="no GPU kernel for indices"):
        on_shim("distance_transform_edt", image, return_indices=True)
