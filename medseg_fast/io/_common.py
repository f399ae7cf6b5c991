"""What every format shares: errors, limits, guarded reading of samples, whole-file writing."""

from __future__ import annotations

import math
import os
import secrets
import warnings
import zlib as _zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg_fast.io.volume import Volume

zlib: Any
try:  # Intel's igzip: same format, 2.4 times faster to read, 8 times to write; else Python's own.
    from isal import isal_zlib as zlib

    LEVEL = 2
except ImportError:
    zlib = _zlib
    LEVEL = 1

GZIP_MAGIC = b"\x1f\x8b"
GZIP, ZLIB = 31, 15  # zlib's wbits
# Deflate's largest ratio: 258 bytes per two bits of input (zlib technical details), header apart.
_MAX_RATIO = 1032
_INPUT_BLOCK = 1 << 17
_OUTPUT_BLOCK = 1 << 20


class ImageFileError(ValueError):
    """A file is damaged, of an unknown kind, or asks for more than it may."""


def need(module: str) -> Any:
    """Import a library of the `io` extra, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f'medseg_fast.io: {module.partition(".")[0]} is missing: pip install "medseg_fast[io]"'
        ) from error


class Inflate:
    """Reads a deflated stream (gzip members or zlib) piece by piece, never beyond what is asked."""

    def __init__(self, file: BinaryIO, wbits: int) -> None:
        self._file, self._wbits = file, wbits
        self._engine = zlib.decompressobj(wbits=wbits)
        self._input = b""

    def _piece(self, limit: int) -> bytes:
        """Up to `limit` bytes, empty only at the end of the stream."""
        while True:
            if self._engine.eof:  # the next member of a gzip file, if there is one
                rest = self._engine.unused_data or self._file.read(_INPUT_BLOCK)
                if self._wbits != GZIP or rest[:2] != GZIP_MAGIC:
                    return b""
                self._engine, self._input = zlib.decompressobj(wbits=GZIP), rest
            if not self._input:
                self._input = self._file.read(_INPUT_BLOCK)
                if not self._input:
                    return b""
            try:
                data: bytes = self._engine.decompress(self._input, limit)
            except (_zlib.error, zlib.error) as error:
                raise ImageFileError(f"the compressed data are damaged ({error})") from None
            self._input = self._engine.unconsumed_tail
            if data:
                return data

    def readinto(self, buffer: memoryview) -> int:
        done = 0
        while done < len(buffer):
            data = self._piece(min(len(buffer) - done, _OUTPUT_BLOCK))
            if not data:
                break
            buffer[done : done + len(data)] = data
            done += len(data)
        return done

    def read(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(memoryview(buffer))])

    def finish(self) -> None:
        """Read the few bytes up to the end, where the checksum is compared; leave a longer rest."""
        skip(self, 1 << 16)
        if not self._engine.eof and not self._input and not self._file.read(1):
            raise ImageFileError("the compressed data end too early")


def skip(source: Any, size: int) -> None:
    """Pass over bytes of a stream that cannot seek, without keeping them."""
    while size > 0:
        data = source.read(min(size, _OUTPUT_BLOCK))
        if not data:
            return
        size -= len(data)


def beside(header: Path, name: str) -> Path:
    """The data file that a header names: a plain name of a file in the header's own folder."""
    if name != Path(name).name or "\\" in name or name in ("", ".", "..") or "%" in name:
        raise ImageFileError(
            f"the header names {name!r} as its data: only one file in its own folder is read"
        )
    path = header.with_name(name)
    if not path.is_file():
        raise ImageFileError(f"the data file {name!r} is missing")
    return path


def check_size(
    shape: Sequence[int],
    itemsize: int,
    max_bytes: int,
    available: int | None = None,
    *,
    compressed: bool = False,
    empty: bool = False,
) -> int:
    """Bytes of an image, refused before anything is allocated if the file cannot hold them.

    `available`: bytes of the file left for the samples, where that bounds them.
    """
    if not all(n > 0 or (empty and n == 0) for n in shape):
        raise ImageFileError(f"the header gives the shape {tuple(shape)}")
    wanted = math.prod(shape) * itemsize
    if wanted > max_bytes:
        raise ImageFileError(
            f"the header asks for {wanted:,} bytes (shape {tuple(shape)}), more than "
            f"max_bytes={max_bytes:,}"
        )
    if available is not None and wanted > max(available, 0) * (_MAX_RATIO if compressed else 1):
        raise ImageFileError(
            f"the header asks for {wanted:,} bytes (shape {tuple(shape)}), the file holds "
            f"{max(available, 0):,}{' compressed' if compressed else ''}"
        )
    return wanted


def samples(source: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read an array that `check_size` has passed; native byte order in the result.

    `source`: an open file or an `Inflate`, anything with ``readinto``.
    """
    array = np.empty(tuple(shape), dtype)
    view = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        got = source.readinto(view[done:])
        if not got:
            raise ImageFileError(f"the data end after {done:,} of {len(view):,} bytes")
        done += got
    return native(array)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The same values in native byte order, swapped in place."""
    if array.dtype.isnative:
        return array
    return array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))


def rescale(array: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """``array * slope + intercept``, computed in float64.

    float32 where the stored type has at most 16 bits or is float32, else float64.
    """
    narrow = array.dtype.itemsize <= 2 or array.dtype == np.float32
    result = np.empty(array.shape, np.float32 if narrow else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        for stored, scaled in zip(array, result, strict=True):  # a plane at a time: little memory
            scaled[...] = np.multiply(stored, slope, dtype=np.float64) + intercept
    return result


def storable(array: NDArray[Any], op: str = "write") -> NDArray[Any]:
    """The array as files hold it: C-contiguous, little-endian, bool as uint8, float16 widened."""
    dtype = array.dtype.newbyteorder("=")
    if dtype == np.bool_:
        dtype = np.dtype(np.uint8)
    elif dtype == np.float16:
        dtype = np.dtype(np.float32)
    elif dtype.kind not in "uif" or dtype.itemsize > 8:
        raise TypeError(
            f"{op}: array must be bool, integer or float of at most 64 bits, got {array.dtype}"
        )
    return np.ascontiguousarray(array, dtype.newbyteorder("<")).reshape(array.shape)


class GeometryWarning(UserWarning):
    """Spacing, origin and direction do not fit into a format, or are not what they seem."""


def warn_geometry(path: Path, volume: Volume) -> None:
    if volume.has_geometry:
        warnings.warn(
            f"{path.name}: {path.suffix} files hold no spacing, origin or direction",
            GeometryWarning,
            stacklevel=4,
        )


@contextmanager
def replacing(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`, which takes its place once it is whole and on disk."""
    if not overwrite and path.exists():
        raise FileExistsError(f"write: {path} exists; pass overwrite=True to replace it")
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(temporary, path)
        else:
            _rename_new(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _rename_new(temporary: Path, path: Path) -> None:
    """Rename, but fail if another process has made `path` meanwhile."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise FileExistsError(f"write: {path} exists; pass overwrite=True to replace it") from None
    except OSError:  # a file system without hard links
        os.rename(temporary, path)


def write_samples(
    file: BinaryIO, array: NDArray[Any], wbits: int | None, head: bytes = b""
) -> None:
    """Write `head` and a `storable` array, deflated if `wbits` is given."""
    view = array.reshape(-1).view(np.uint8).data
    if wbits is None:
        file.write(head)
        file.write(view)
        return
    engine = zlib.compressobj(LEVEL, _zlib.DEFLATED, wbits)
    file.write(engine.compress(head))
    for start in range(0, len(view), _OUTPUT_BLOCK):
        file.write(engine.compress(view[start : start + _OUTPUT_BLOCK]))
    file.write(engine.flush())
