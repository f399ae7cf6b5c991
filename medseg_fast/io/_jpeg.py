"""Size of JPEG and JPEG 2000 frames, read before a decoder allocates by them."""

from __future__ import annotations

from typing import Any

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError

_J2K = b"\xff\x4f\xff\x51"  # start of codestream, size
_JP2 = b"\x00\x00\x00\x0cjP  "
_NO_LENGTH = {0x01, *range(0xD0, 0xD8)}
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # start of frame, also of JPEG-LS


def check_frames(data: bytes, count: int, shape: tuple[int, ...]) -> None:
    """Refuse encapsulated pixel data unless each frame itself says that it has the right size."""
    encaps: Any = _common.need("pydicom.encaps")
    seen = 0
    for frame in encaps.generate_frames(data, number_of_frames=count):
        size = frame_size(frame)
        if size != shape[:2]:
            raise ImageFileError(f"a compressed frame has the size {size}, not {shape[:2]}")
        seen += 1
    if seen != count:
        raise ImageFileError(f"the file holds {seen} of {count} frames")


def frame_size(frame: bytes) -> tuple[int, int]:
    """(rows, columns) of a JPEG, JPEG-LS or JPEG 2000 image; (0, 0) if it is none."""
    if frame.startswith(_JP2):
        frame = _codestream(frame)
    if frame.startswith(_J2K):
        x, y, x0, y0 = (int.from_bytes(frame[k : k + 4], "big") for k in (8, 12, 16, 20))
        return y - y0, x - x0
    return _jpeg_size(frame) if frame.startswith(b"\xff\xd8") else (0, 0)


def _codestream(frame: bytes) -> bytes:
    """What the box jp2c of a JP2 file holds."""
    place = 0
    while place + 16 <= len(frame):
        length = int.from_bytes(frame[place : place + 4], "big")
        head = 8
        if length == 1:
            length, head = int.from_bytes(frame[place + 8 : place + 16], "big"), 16
        if frame[place + 4 : place + 8] == b"jp2c":
            return frame[place + head :]
        if length < head:
            break
        place += length
    return b""


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    """Rows and columns of the first start-of-frame segment."""
    place = 2
    while place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return 0, 0
        marker = frame[place + 1]
        if marker == 0xFF:  # fill
            place += 1
        elif marker in _NO_LENGTH:
            place += 2
        elif marker in _SOF:
            rows = int.from_bytes(frame[place + 5 : place + 7], "big")
            return rows, int.from_bytes(frame[place + 7 : place + 9], "big")
        else:
            place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return 0, 0
