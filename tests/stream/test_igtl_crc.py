"""The checksum of OpenIGTLink against its definition and against known answers."""

import numpy as np
import pytest

from medseg_fast import reference
from medseg_fast._cpu import core
from medseg_fast.stream.igtl import crc64

LENGTHS = [0, 1, 8, 9, 15, 16, 17, 31, 63, 64, 65, 79, 80, 95, 127, 128, 129, 191, 192, 200, 1000]


def test_catalogue_of_crcs():
    """CRC-64/ECMA-182 of the digits, in every catalogue of checksums."""
    assert crc64(b"123456789") == 0x6C40DF5F0B497347
    assert reference.crc64.crc64(b"123456789") == 0x6C40DF5F0B497347


@pytest.mark.parametrize("portable", [False, True], ids=["products", "tables"])
@pytest.mark.parametrize("start", [0, 1, 2**63, 2**64 - 1, 0x0123456789ABCDEF])
def test_equals_reference(rng, portable, start):
    for n in LENGTHS:
        data = rng.integers(0, 256, n, np.uint8)
        wanted = reference.crc64.crc64(data.tobytes(), start)
        assert core.crc64(data, start, portable) == wanted, n


@pytest.mark.parametrize("portable", [False, True], ids=["products", "tables"])
def test_parts_make_the_whole(rng, portable):
    data = rng.integers(0, 256, 5000, np.uint8)
    whole = core.crc64(data, 0, portable)
    for cut in (0, 1, 63, 64, 65, 2500, 4999, 5000):
        assert core.crc64(data[cut:], core.crc64(data[:cut], 0, portable), portable) == whole


def test_several_pieces(rng):
    """A buffer beyond the 8 MiB between looks for Ctrl-C."""
    data = rng.integers(0, 256, (8 << 20) + 77, np.uint8)
    assert core.crc64(data, 5, False) == core.crc64(data, 5, True)
    cut = 4 << 20
    assert core.crc64(data, 5, False) == core.crc64(
        data[cut:], core.crc64(data[:cut], 5, True), False
    )


def test_unaligned(rng):
    data = rng.integers(0, 256, 300, np.uint8)
    for start in range(17):
        view = data[start : start + 200]
        assert crc64(view) == reference.crc64.crc64(view.tobytes())


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: np.frombuffer(b, "<u2")])
def test_any_buffer(make):
    assert crc64(make(b"12345678")) == reference.crc64.crc64(b"12345678")
