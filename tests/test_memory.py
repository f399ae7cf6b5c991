"""Peak memory, as the docstrings state it."""

from __future__ import annotations

import pytest
from _memory import peak_bytes_per_pixel

IMAGE = """
rng = np.random.default_rng(0)
image = rng.integers(0, 200, (150, 200, 220)).astype(np.{dtype})
small = image[:8].copy()
"""
SLACK = 0.15  # pages, tables of a few hundred kB


@pytest.mark.parametrize(
    ("call", "dtype", "most"),
    [
        ("ms.threshold({image}, 100)", "uint8", 1),
        ("ms.threshold({image}, 100)", "float32", 1),
        ("ms.threshold({image}.astype('>f4'), 100)", "float32", 9),  # swapped here, and once inside
        ("ms.threshold({image}, 100, out=mask)", "uint8", 0),
    ],
)
def test_peak_memory(call, dtype, most):
    setup = IMAGE.format(dtype=dtype) + "mask = np.zeros(image.shape, bool); mask[...] = True"
    warm = call.format(image="small").replace("out=mask", "out=mask[:8]")
    got = peak_bytes_per_pixel(call.format(image="image"), setup=setup, warm=warm, threads=2)
    assert most - SLACK <= got <= most + SLACK


def test_the_measure_sees_memory_that_was_freed():
    setup = "image = np.zeros((3000, 3000), np.uint8); image[...] = 1"
    got = peak_bytes_per_pixel("np.sin(image.astype(np.float64)).sum()", setup=setup)
    assert got == pytest.approx(16, abs=SLACK)
