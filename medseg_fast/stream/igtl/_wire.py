"""What all messages share on the wire: header, extended header, metadata, checksum.

After https://github.com/openigtlink/OpenIGTLink, Documents/Protocol. Protocol versions 1 and 2 have
header version 1: 58 bytes and the content. Protocol version 3 has header version 2: an extended
header before the content and metadata after it. No header version 3 has been published; it is read
as version 2, whose extended header says how long it is.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core

Bytes = NDArray[np.uint8]

MAX_BODY = 1 << 30
"""Bytes of the largest body that is accepted unless a limit is given: 1 GiB, a volume of 512 x 512
x 2048 int16 pixels."""

HEADER = struct.Struct(">H12s20sIIQQ")
EXTENDED = struct.Struct(">HHII")
VERSIONS = (1, 2, 3)
_ENTRY = struct.Struct(">HHI")

# IANA's numbers of character sets. What calls itself ASCII is often UTF-8, which contains it.
_ASCII, _UTF8 = 3, 106
_CHARACTER_SETS = {
    _ASCII: "utf-8",
    4: "latin-1",
    17: "shift_jis",
    18: "euc_jp",
    _UTF8: "utf-8",
    1013: "utf-16-be",
    1014: "utf-16-le",
    1015: "utf-16",
    2025: "gb2312",
    2026: "big5",
    2252: "cp1252",
}


class ProtocolError(ValueError):
    """What a peer sent is not OpenIGTLink, or exceeds a limit; the message says why."""


class Header(NamedTuple):
    """The 58 bytes before every body, checked."""

    version: int
    type: str
    device: str
    timestamp_ns: int
    body_size: int
    crc: int


def crc64(data: Any, crc: int = 0) -> int:
    """CRC-64 (ECMA-182) of a contiguous buffer; `crc` is that of what came before it.

    Examples
    --------
    >>> from medseg_fast.stream.igtl import crc64
    >>> hex(crc64(b"123456789"))
    '0x6c40df5f0b497347'
    """
    value: int = core.crc64(as_bytes(data), crc, False)
    return value


def as_bytes(data: Any) -> Bytes:
    """A buffer's bytes as an array, without a copy."""
    if isinstance(data, np.ndarray):
        return data.reshape(-1).view(np.uint8)
    return np.frombuffer(data, np.uint8)


def to_fraction(nanoseconds: int) -> tuple[int, int]:
    """Seconds and their fraction in units of 2^-32 s."""
    seconds, rest = divmod(nanoseconds, 10**9)
    # Rounded up, so that rounding down gives the same nanoseconds back.
    return seconds, -(-(rest << 32) // 10**9)


def parse_header(data: Any, max_body: int = MAX_BODY) -> Header:
    """Check and decode the 58 bytes of a header.

    Raises
    ------
    ProtocolError
        If they are no header, or the body would have more than `max_body` bytes.
    """
    try:
        version, kind, device, seconds, fraction, size, crc = HEADER.unpack(data)
    except struct.error:
        raise ProtocolError(f"header: must have {HEADER.size} bytes, got {len(data)}") from None
    if version not in VERSIONS:
        raise ProtocolError(f"header: version must be 1, 2 or 3, got {version}")
    name = kind.partition(b"\0")[0].rstrip(b" ")
    if not name or not all(33 <= c <= 126 for c in name):
        raise ProtocolError(f"header: type must be a printable ASCII word, got {kind!r}")
    if size > max_body:
        raise ProtocolError(f"header: body must have at most {max_body} bytes, got {size}")
    if version > 1 and size < EXTENDED.size:
        raise ProtocolError(f"header: body must hold an extended header, got {size} bytes")
    nanoseconds = seconds * 10**9 + (fraction * 10**9 >> 32)
    return Header(version, name.decode(), _device(device), nanoseconds, size, crc)


def _device(field: bytes) -> str:
    try:
        name = field.partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        name = "\0"
    if not (name.isprintable() or not name):
        raise ProtocolError(f"header: device must be printable ASCII or UTF-8, got {field!r}")
    return name


def build_header(
    version: int, kind: str, device: str, timestamp_ns: int, body_size: int, crc: int
) -> bytes:
    """The 58 bytes of a header."""
    return HEADER.pack(
        version, kind.encode(), device.encode(), *to_fraction(timestamp_ns), body_size, crc
    )


class Body(NamedTuple):
    """A body's parts; the content is a view."""

    content: Bytes
    message_id: int
    metadata: dict[str, str]


def split_body(version: int, body: Bytes) -> Body:
    """Take the extended header and the metadata off a body."""
    if version == 1:
        return Body(body, 0, {})
    if body.size < EXTENDED.size:
        raise ProtocolError(f"body: must hold an extended header, got {body.size} bytes")
    start, head, size, message_id = EXTENDED.unpack(body[: EXTENDED.size].tobytes())
    if start < EXTENDED.size:
        raise ProtocolError(f"extended header: size must be at least {EXTENDED.size}, got {start}")
    stop = body.size - head - size
    if stop < start:
        raise ProtocolError(
            f"extended header: its {start} bytes and {head} + {size} of metadata "
            f"exceed the body's {body.size}"
        )
    metadata = _metadata(body[stop : stop + head], body[stop + head :])
    return Body(body[start:stop], message_id, metadata)


def _metadata(head: Bytes, text: Bytes) -> dict[str, str]:
    if head.size == 0 and text.size == 0:
        return {}
    count = int.from_bytes(head[:2].tobytes(), "big")
    if head.size != 2 + count * _ENTRY.size:
        raise ProtocolError(f"metadata: {count} entries do not fit a header of {head.size} bytes")
    entries = list(_ENTRY.iter_unpack(head[2:].tobytes()))
    if sum(key + value for key, _, value in entries) != text.size:
        raise ProtocolError(f"metadata: sizes of the entries do not add up to {text.size}")
    metadata, raw, at = {}, text.tobytes(), 0
    for key_size, encoding, value_size in entries:
        if encoding not in _CHARACTER_SETS:
            raise ProtocolError(f"metadata: unknown character set {encoding}")
        try:
            key = raw[at : at + key_size].decode()
            at += key_size
            metadata[key] = raw[at : at + value_size].decode(_CHARACTER_SETS[encoding])
        except UnicodeDecodeError as error:
            raise ProtocolError(f"metadata: {error}") from None
        at += value_size
    return metadata


def build_metadata(metadata: dict[str, str]) -> tuple[bytes, bytes]:
    """Header and text of the metadata: ASCII where that will do, else UTF-8."""
    heads, texts = [len(metadata).to_bytes(2, "big")], []
    for key, value in metadata.items():
        k, v = key.encode(), value.encode()
        heads.append(_ENTRY.pack(len(k), _ASCII if v.isascii() else _UTF8, len(v)))
        texts += [k, v]
    return b"".join(heads), b"".join(texts)
