"""Slow twin of the checksum of medseg_fast.stream.igtl: bit by bit, as ECMA-182 defines it."""

from __future__ import annotations

POLYNOMIAL = 0x42F0E1EBA9EA3693  # without x^64


def crc64(data: bytes, crc: int = 0) -> int:
    """Remainder of the bytes, most significant bit first, after those whose remainder is `crc`."""
    for byte in data:
        crc ^= byte << 56
        for _ in range(8):
            crc = (crc << 1) ^ (POLYNOMIAL | 1 << 64 if crc >> 63 else 0)
    return crc
