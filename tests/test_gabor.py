from __future__ import annotations

import numpy as np
import pytest
from conftest import DTYPES
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import gabor, reference

twin = reference.edge_flow


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 1.0)])
@pytest.mark.parametrize(("scales", "orientations"), [(1, 1), (1, 2), (2, 3), (3, 6)])
def test_bank_equals_reference(rng, isa, scales, orientations, spacing):
    low, high = (0.1 if scales > 1 else 0.2), 0.4 / max(spacing)
    for shape in [(1, 1), (1, 40), (13, 21), (70, 9)]:
        image = rng.normal(10, 3, shape).astype(np.float32)
        bank = ms.gabor_bank(
            image, scales, orientations, low=min(low, high), high=high, spacing=spacing
        )
        assert bank.shape == (scales, orientations, *shape)
        for scale, turn in np.ndindex(scales, orientations):
            kernel = gabor.kernel(scale, turn, scales, orientations, low, high, spacing)
            expected = twin.magnitude(image, kernel)
            # Separable parts leave out 3/1000 of the filter's norm; white noise sees just that.
            norm = np.sqrt((abs(kernel) ** 2).sum())
            off = abs(bank[scale, turn] - expected)
            assert off.max(initial=0) < 3e-3 * norm * 3 * 6 + 1e-4


def test_parts_add_up_to_the_filter():
    for scale, turn in np.ndindex(4, 6):
        kernel = gabor.kernel(scale, turn, 4, 6, 0.05, 0.45, (1, 1))
        rows, columns = (n // 2 for n in kernel.shape)
        y, x = np.arange(-rows, rows + 1), np.arange(-columns, columns + 1)
        total = np.zeros(kernel.shape, complex)
        signs = [(1, 1), (np.sign(y), np.sign(x)), (1, np.sign(x)), (np.sign(y), 1)]
        for k, (parts, sign) in enumerate(zip(gabor.separable_parts(kernel), signs, strict=True)):
            assert len(parts) <= 5
            assert k or abs(sum(gabor._total(d) * gabor._total(r) for d, r in parts)) < 1e-12
            for down, right in parts:
                column = np.array(down)[abs(y)] * sign[0]
                total += np.multiply.outer(column, np.array(right)[abs(x)] * sign[1]) * 1j ** (
                    k // 2
                )
        assert np.linalg.norm(total - kernel) < 3e-3 * np.linalg.norm(kernel)


def test_a_wave_excites_its_filter_by_half_its_amplitude():
    y, x = np.indices((160, 160))
    for scale in range(3):
        frequency = 0.3 / 2**scale
        for turn in range(6):
            angle = np.pi * turn / 6
            wave = 7 * np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)))
            bank = ms.gabor_bank(wave + 100, 3, 6, low=0.075, high=0.3)[:, :, 80, 80]
            assert np.unravel_index(bank.argmax(), bank.shape) == (scale, turn)
            assert_allclose(bank.max(), 3.5, rtol=0.02)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_layouts_and_constant_images(rng, layout, dtype):
    image = rng.integers(0, 2 if dtype.kind == "b" else 100, (33, 41)).astype(dtype)
    expected = ms.gabor_bank(image.astype(np.float32), 2, 4)
    got = ms.gabor_bank(layout(image), 2, 4)
    assert got.dtype == np.float32
    assert_array_equal(got, expected)
    out = np.empty((41, 33, 4, 2), np.float32).T
    assert ms.gabor_bank(image, 2, 4, out=out) is out
    assert_array_equal(out, expected)
    assert abs(ms.gabor_bank(np.full((20, 30), 1).astype(dtype))).max() < 1e-6
    assert ms.gabor_bank(np.zeros((0, 4), dtype)).shape == (4, 6, 0, 4)


def test_nan_stays_within_reach():
    image = np.zeros((101, 101))
    image[50, 50] = np.nan
    bank = ms.gabor_bank(image, 1, 6, high=0.3)
    rows, columns = np.isnan(bank).any(axis=(0, 1)).nonzero()
    assert 3 < abs(rows - 50).max() < 20
    assert 3 < abs(columns - 50).max() < 20


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "image must have 2 dim", lambda i: ms.gabor_bank(i[None])),
        (ValueError, "scales must be at least 1", lambda i: ms.gabor_bank(i, 0)),
        (TypeError, "orientations must be an integer", lambda i: ms.gabor_bank(i, 2, 2.5)),
        (ValueError, "low and high must be rising", lambda i: ms.gabor_bank(i, low=0.5)),
        (ValueError, "low and high must be rising", lambda i: ms.gabor_bank(i, low=0)),
        (ValueError, "low must not need", lambda i: ms.gabor_bank(i, low=1e-6)),
        (ValueError, "mode must not be constant", lambda i: ms.gabor_bank(i, mode="constant")),
        (ValueError, "mode must be one of", lambda i: ms.gabor_bank(i, mode="none")),
        (ValueError, "spacing must be 2", lambda i: ms.gabor_bank(i, spacing=(1, 1, 1))),
        (ValueError, "out must have shape", lambda i: ms.gabor_bank(i, out=np.ones((2, 2)))),
    ],
)
def test_bad_input(error, message, call):
    with pytest.raises(error, match=message):
        call(np.ones((6, 7)))
