"""The messages of OpenIGTLink: what they hold, and how they travel.

Decoding an image makes a view of the received bytes; encoding gives a list of buffers to send one
after the other, of which the pixels' is the array itself.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast.stream.igtl._wire import (
    EXTENDED,
    HEADER,
    MAX_BODY,
    VERSIONS,
    Bytes,
    Header,
    ProtocolError,
    as_bytes,
    build_header,
    build_metadata,
    crc64,
    parse_header,
    split_body,
)

_SCALARS = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
_SCALAR_CODES = {name: code for code, name in _SCALARS.items()}
_COORDINATES = {1: "RAS", 2: "LPS"}
_IMAGE = struct.Struct(">HBBBB3H12f3H3H")
_STATUS = struct.Struct(">Hq20s")
_MATRIX = struct.Struct(">12f")

IMAGE_HEADER_SIZE = _IMAGE.size


@dataclass(eq=False, kw_only=True, slots=True)
class Message:
    """What every message has.

    Parameters
    ----------
    device : str
        Name of the sending device: at most 20 bytes of ASCII or UTF-8.
    timestamp_ns : int
        When the data were captured, in nanoseconds since 1970 (UTC); 0 if unknown.
    version : int
        Header version. 1, which every peer understands, has no metadata; 2 has.
    message_id : int
        Number of the message, of 32 bits. Needs version 2.
    metadata : dict of str to str
        Needs version 2.

    Attributes
    ----------
    received_ns : int
        ``time.monotonic_ns()`` when the last byte had arrived; 0 if not received.
    sender : str
        Address of the peer; "" if not received.
    """

    device: str = ""
    timestamp_ns: int = 0
    version: int = 1
    message_id: int = 0
    metadata: dict[str, str] = field(default_factory=dict)
    received_ns: int = 0
    sender: str = ""

    type: ClassVar[str] = ""

    def type_name(self) -> str:
        """Type in the header, at most 12 characters."""
        return self.type

    def content(self) -> list[Any]:
        """Buffers to send, without the headers."""
        return []

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Message:
        """Decode; `common` are the keyword arguments that every message has."""
        raise NotImplementedError


def _numbers(message: str, name: str, values: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = np.asarray(values, np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{message}: {name} must be {shape} finite numbers, got {values!r}")
    return array


def _finite(message: str, values: Sequence[float]) -> None:
    # NaN and infinity times 0 are NaN.
    if sum(v * 0.0 for v in values) != 0:
        raise ProtocolError(f"{message}: matrix must be finite, got {values}")


@dataclass(eq=False, slots=True)
class Image(Message):
    """IMAGE: pixels and where they lie.

    Parameters
    ----------
    pixels : ndarray
        Shape (planes, rows, columns), or with components last, (planes, rows, columns, n). bool
        travels as uint8; else (u)int8, 16, 32 or float32, 64 of any byte order. When sent, an array
        that is not C-contiguous is copied.
    matrix : array_like, optional
        Shape (3, 4), mm; travels as float32. Columns 0 to 2 are the steps from pixel to pixel along
        column index, row index and plane index, column 3 is the position of the whole image's
        centre. Default: 1 mm steps, centre at 0.
    coordinates : {"LPS", "RAS"}
        Frame of `matrix`.
    size : tuple of int, optional
        (planes, rows, columns) of the whole image, if `pixels` are only a part.
    offset : tuple of int
        (plane, row, column) of the first pixel in the whole image.
    """

    pixels: NDArray[Any]
    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(3, 4))
    coordinates: str = "LPS"
    size: tuple[int, int, int] | None = None
    offset: tuple[int, int, int] = (0, 0, 0)

    type: ClassVar[str] = "IMAGE"

    def __post_init__(self) -> None:
        self.pixels = np.asarray(self.pixels)
        if self.pixels.dtype == np.bool_:
            self.pixels = self.pixels.view(np.uint8)
        if self.pixels.dtype.str[1:] not in _SCALAR_CODES:
            raise TypeError(
                "Image: pixels must be bool, an integer of at most 32 bits, float32 or float64, "
                f"got {self.pixels.dtype}"
            )
        shape = self.pixels.shape
        if len(shape) not in (3, 4) or not all(0 < n < 65536 for n in shape[:3]):
            raise ValueError(
                "Image: pixels must have shape (planes, rows, columns[, components]), each from 1 "
                f"to 65535, got {shape}"
            )
        if len(shape) == 4 and not 0 < shape[3] < 256:
            raise ValueError(f"Image: pixels must have 1 to 255 components, got {shape[3]}")
        self.matrix = _numbers("Image", "matrix", self.matrix, (3, 4))
        if self.coordinates not in _COORDINATES.values():
            raise ValueError(f"Image: coordinates must be LPS or RAS, got {self.coordinates!r}")
        if self.size is None:
            self.size = shape[:3]
        a, b, c = self.size
        fits = all(
            0 <= o and o + n <= whole < 65536
            for o, n, whole in zip(self.offset, shape, (a, b, c), strict=False)
        )
        if not fits or len(self.offset) != 3:
            raise ValueError(
                f"Image: pixels {shape[:3]} at offset {self.offset} must lie within size "
                f"{self.size}"
            )

    def content(self) -> list[Any]:
        pixels = np.ascontiguousarray(self.pixels)
        k, j, i, *components = pixels.shape
        assert self.size is not None
        head = _IMAGE.pack(
            1,
            components[0] if components else 1,
            _SCALAR_CODES[pixels.dtype.str[1:]],
            1 if pixels.dtype.str[0] == ">" else 2,
            1 if self.coordinates == "RAS" else 2,
            *self.size[::-1],
            *self.matrix.T.ravel().tolist(),
            *self.offset[::-1],
            i,
            j,
            k,
        )
        return [head, as_bytes(pixels)]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Image:
        if content.size < _IMAGE.size:
            raise ProtocolError(f"IMAGE: must have {_IMAGE.size} bytes or more, got {content.size}")
        version, components, scalar, endian, frame, *rest = _IMAGE.unpack(
            content[: _IMAGE.size].tobytes()
        )
        size, matrix, offset, part = rest[2::-1], rest[3:15], rest[17:14:-1], rest[:17:-1]
        if version != 1:
            raise ProtocolError(f"IMAGE: version must be 1, got {version}")
        if scalar not in _SCALARS:
            raise ProtocolError(f"IMAGE: unknown scalar type {scalar}")
        if endian not in (1, 2):
            raise ProtocolError(f"IMAGE: byte order must be 1 (big) or 2 (little), got {endian}")
        if frame not in _COORDINATES:
            raise ProtocolError(f"IMAGE: coordinates must be 1 (RAS) or 2 (LPS), got {frame}")
        if components == 0 or 0 in part:
            raise ProtocolError(f"IMAGE: empty, {part} pixels of {components} components")
        if any(o + n > whole for o, n, whole in zip(offset, part, size, strict=True)):
            raise ProtocolError(f"IMAGE: part {part} at {offset} exceeds the image's {size} pixels")
        _finite("IMAGE", matrix)
        dtype = np.dtype(("<" if endian == 2 else ">") + _SCALARS[scalar])
        wanted = part[0] * part[1] * part[2] * components * dtype.itemsize
        if content.size - _IMAGE.size != wanted:
            raise ProtocolError(
                f"IMAGE: {part} pixels of {components} {dtype} take {wanted} bytes, "
                f"got {content.size - _IMAGE.size}"
            )
        shape = part if components == 1 else [*part, components]
        return cls(
            content[_IMAGE.size :].view(dtype).reshape(shape),
            np.array(matrix).reshape(4, 3).T,
            _COORDINATES[frame],
            (size[0], size[1], size[2]),
            (offset[0], offset[1], offset[2]),
            **common,
        )


@dataclass(eq=False, slots=True)
class Transform(Message):
    """TRANSFORM: a position and orientation.

    Parameters
    ----------
    matrix : array_like
        Shape (4, 4), the last row 0, 0, 0, 1; mm. Travels as float32. The protocol does not state
        the frame: peers agree on it, 3D Slicer takes RAS.
    """

    matrix: NDArray[np.float64] = field(default_factory=lambda: np.eye(4))

    type: ClassVar[str] = "TRANSFORM"

    def __post_init__(self) -> None:
        self.matrix = _numbers("Transform", "matrix", self.matrix, (4, 4))
        if self.matrix[3].tolist() != [0, 0, 0, 1]:
            raise ValueError(f"Transform: matrix must end in 0 0 0 1, got {self.matrix[3]}")

    def content(self) -> list[Any]:
        return [_MATRIX.pack(*self.matrix[:3].T.ravel().tolist())]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Transform:
        if content.size != _MATRIX.size:
            raise ProtocolError(f"TRANSFORM: must have {_MATRIX.size} bytes, got {content.size}")
        values = _MATRIX.unpack(content.tobytes())
        _finite("TRANSFORM", values)
        matrix = np.eye(4)
        matrix[:3] = np.array(values).reshape(4, 3).T
        return cls(matrix, **common)


@dataclass(eq=False, slots=True)
class Status(Message):
    """STATUS: how the sender is.

    Parameters
    ----------
    code : int
        1 OK, 2 unknown error, 3 panic, 4 not found, 5 denied, 6 busy, 7 timeout, 8 overflow,
        9 checksum, 10 configuration, 11 resources, 12 unknown instruction, 13 not ready,
        14 manual mode, 15 disabled, 16 not present, 17 unknown version, 18 hardware failure,
        19 shutting down.
    subcode : int
        The device's own, of 64 bits.
    error_name : str
        At most 20 bytes.
    text : str
    """

    code: int = 1
    subcode: int = 0
    error_name: str = ""
    text: str = ""

    type: ClassVar[str] = "STATUS"

    def __post_init__(self) -> None:
        if not 0 <= self.code < 1 << 16 or not -(1 << 63) <= self.subcode < 1 << 63:
            raise ValueError(
                f"Status: code must have 16 bits and subcode 64, got {self.code} and {self.subcode}"
            )
        if len(self.error_name.encode()) > 20 or "\0" in self.error_name + self.text:
            raise ValueError(
                "Status: error_name must have at most 20 bytes, and no text a null character, "
                f"got {self.error_name!r} and {self.text!r}"
            )

    def content(self) -> list[Any]:
        head = _STATUS.pack(self.code, self.subcode, self.error_name.encode())
        return [head + self.text.encode() + b"\0"]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Status:
        if content.size < _STATUS.size:
            raise ProtocolError(
                f"STATUS: must have {_STATUS.size} bytes or more, got {content.size}"
            )
        code, subcode, name = _STATUS.unpack(content[: _STATUS.size].tobytes())
        texts = [
            part.partition(b"\0")[0].decode(errors="replace")
            for part in (name, content[_STATUS.size :].tobytes())
        ]
        if len(texts[0].encode()) > 20:  # the replaced bytes
            texts[0] = texts[0].encode("ascii", "replace").decode()
        return cls(code, subcode, *texts, **common)


@dataclass(eq=False, slots=True)
class Query(Message):
    """GET_, STT_, STP_ and RTS_ messages: ask for one message, start or stop a stream, answer.

    Parameters
    ----------
    action : {"GET", "STT", "STP", "RTS"}
    target : str
        The type asked for, such as "IMAGE".
    payload : bytes
        What else the query holds: STT_TDATA has an interval, RTS_ a byte that is 0 for success.
    """

    action: str
    target: str
    payload: bytes = b""

    ACTIONS: ClassVar[tuple[str, ...]] = ("GET", "STT", "STP", "RTS")

    def __post_init__(self) -> None:
        if self.action not in self.ACTIONS:
            raise ValueError(f"Query: action must be GET, STT, STP or RTS, got {self.action!r}")

    def type_name(self) -> str:
        # The protocol has 12 characters for a type.
        target = "TRANS" if self.target == "TRANSFORM" else self.target
        return f"{self.action}_{target}"

    def content(self) -> list[Any]:
        return [bytes(self.payload)]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Query:
        action, _, target = header.type.partition("_")
        if target in ("TRANS", "TRANSFOR"):
            target = "TRANSFORM"
        return cls(action, target, content.tobytes(), **common)


@dataclass(eq=False, slots=True)
class Raw(Message):
    """A message of any other type, not interpreted."""

    name: str
    body: Bytes

    def type_name(self) -> str:
        return self.name

    def content(self) -> list[Any]:
        return [as_bytes(self.body)]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> Raw:
        return cls(header.type, content, **common)


KINDS: dict[str, type[Message]] = {kind.type: kind for kind in (Image, Transform, Status)}
"""Class by type in the header; polydata.py adds its own."""


def kind_of(name: str) -> type[Message]:
    """The class that holds messages of a type."""
    if name in KINDS:
        return KINDS[name]
    return Query if name[3:4] == "_" and name[:3] in Query.ACTIONS and name[4:] else Raw


def encode(message: Message) -> list[Any]:
    """Buffers that make up the message; the pixels are not copied.

    Raises
    ------
    ValueError
        If a name is too long, or the header's version lacks what the message has.
    """
    kind, version = message.type_name(), message.version
    if version not in VERSIONS:
        raise ValueError(f"encode: version must be 1, 2 or 3, got {version}")
    if not kind.isascii() or not kind.isprintable() or not 0 < len(kind) <= 12 or " " in kind:
        raise ValueError(f"encode: type must have 1 to 12 ASCII characters, got {kind!r}")
    if len(message.device.encode()) > 20 or not (message.device.isprintable()):
        raise ValueError(
            f"encode: device must have at most 20 printable bytes, got {message.device!r}"
        )
    if not 0 <= message.timestamp_ns < 10**9 << 32:
        raise ValueError(
            f"encode: timestamp_ns must be from 1970 to 2106, got {message.timestamp_ns}"
        )
    parts = message.content()
    if version > 1:
        try:
            head, text = build_metadata(message.metadata)
            extended = EXTENDED.pack(EXTENDED.size, len(head), len(text), message.message_id)
        except struct.error as error:
            raise ValueError(f"encode: metadata or message_id is too large: {error}") from None
        parts = [extended, *parts, head, text]
    elif message.metadata or message.message_id:
        raise ValueError("encode: metadata and message_id need version 2, got version 1")
    crc = size = 0
    for part in parts:
        crc, size = crc64(part, crc), size + len(part)
    head = build_header(version, kind, message.device, message.timestamp_ns, size, crc)
    if isinstance(parts[0], bytes):
        return [head + parts[0], *parts[1:]]
    return [head, *parts]


def decode(header: Header, body: Any, *, crc: int | None = None) -> Message:
    """The message with this header and body, a view of `body` where it has an array.

    `crc` is that of the body, where it is known.

    Raises
    ------
    ProtocolError
        If anything about it is wrong.
    """
    data = as_bytes(body)
    if data.size != header.body_size:
        raise ProtocolError(f"body: must have {header.body_size} bytes, got {data.size}")
    crc = crc64(data) if crc is None else crc
    if crc != header.crc:
        raise ProtocolError(f"body: CRC must be {header.crc:#018x}, got {crc:#018x}")
    content, message_id, metadata = split_body(header.version, data)
    common = {
        "device": header.device,
        "timestamp_ns": header.timestamp_ns,
        "version": header.version,
        "message_id": message_id,
        "metadata": metadata,
    }
    return kind_of(header.type).from_content(header, content, common)


def decode_bytes(data: Any, *, max_body: int = MAX_BODY) -> Message:
    """The one message that these bytes hold."""
    data = as_bytes(data)
    return decode(parse_header(data[: HEADER.size].tobytes(), max_body), data[HEADER.size :])
