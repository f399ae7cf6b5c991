"""Where masks go: pictures, video, memory that another process reads."""

from __future__ import annotations

import glob
import os
import struct
import sys
import time
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from medseg_fast import _checks, io
from medseg_fast._tuples import tuple_of
from medseg_fast.stream._frame import Result

__all__ = ["FolderSink", "Latest", "SharedRing", "SharedRingReader", "VideoSink"]


class FolderSink:
    """Writes each mask as a picture or volume file, ``mask000017.png`` for frame 17.

    Parameters
    ----------
    folder : str or path-like
        Is made where it does not exist.
    ending : str, optional
        A format of `medseg_fast.io.write`: ``.png``, ``.nii.gz``, ``.npy``, ...

    Raises
    ------
    FileExistsError
        If the folder has such masks already.
    OSError, ValueError
        If nothing can be written there, or not in this format.

    Notes
    -----
    A mask that the watch-dog sends again is not written. Writing takes milliseconds of the working
    thread: for files, not for a tight deadline.
    """

    def __init__(self, folder: str | os.PathLike[str], ending: str = ".png") -> None:
        self._folder, self._ending = Path(folder), ending
        self._folder.mkdir(parents=True, exist_ok=True)
        if any(self._folder.glob(f"mask[0-9]*{glob.escape(ending)}")):
            raise FileExistsError(f"{self._folder}: has masks already")
        trial = self._folder / f".{os.getpid()}{ending}"
        io.write(trial, np.zeros((1, 1), np.uint8))
        trial.unlink()

    def __call__(self, result: Result) -> None:
        """Write one mask."""
        if result.frame is None:
            return
        mask = np.asarray(result.mask)
        labels = mask.astype(np.uint8) if mask.dtype == bool else mask
        geometry = result.frame.geometry
        volume = io.Volume(labels) if geometry is None else geometry.like(labels)
        io.write(self._folder / f"mask{result.record.id:06d}{self._ending}", volume)


class VideoSink:
    """Writes a video of the frames with the outlines of their masks, by OpenCV.

    Parameters
    ----------
    path : str or path-like
        ``.mp4`` or ``.avi``; takes its place when the stream ends.
    fps : float
        Of the video. All frames have the size of the first one.
    colour : (int, int, int), optional
        Of the outline: red, green, blue.

    Raises
    ------
    ImportError
        If OpenCV is missing.
    FileExistsError
        If the file exists.
    OSError
        If its folder does not, or cannot be written to.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float,
        *,
        colour: tuple[int, int, int] = (255, 176, 0),
    ) -> None:
        try:
            import cv2
        except ImportError:
            raise ImportError(
                'VideoSink: OpenCV is missing: pip install "medseg_fast[stream]"'
            ) from None
        self._cv2, self._colour = cv2, colour[::-1]
        self._path = Path(path)
        codecs = {".mp4": "mp4v", ".avi": "MJPG"}
        if self._path.suffix not in codecs:
            raise ValueError(f"VideoSink: path must end with .mp4 or .avi, got {self._path.name!r}")
        if self._path.exists():
            raise FileExistsError(f"{self._path}: exists")
        if not self._path.parent.is_dir():
            raise FileNotFoundError(f"{self._path.parent}: no such folder")
        if not os.access(self._path.parent, os.W_OK):
            raise PermissionError(f"{self._path.parent}: cannot be written to")
        self._codec = cv2.VideoWriter.fourcc(*codecs[self._path.suffix])
        self._fps = float(_checks.number("VideoSink", "fps", fps))
        if not 0 < self._fps < 1e6:
            raise ValueError(f"VideoSink: fps must be positive and below 1e6, got {fps!r}")
        self._temporary = self._path.with_name(f".{os.getpid()}.{self._path.name}")
        self._writer: Any = None
        self._size: tuple[int, int] = (0, 0)

    def __call__(self, result: Result) -> None:
        """Add one frame."""
        if result.frame is None:
            return
        cv2, image = self._cv2, result.frame.array
        if image.dtype != np.uint8:
            low, high = float(image.min()), float(image.max())
            image = ((image - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        code = cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR
        picture = cv2.cvtColor(image, code)
        mask = (np.asarray(result.mask) != 0).astype(np.uint8)
        outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, self._colour, 2)
        size = picture.shape[1::-1]
        if self._writer is None:
            writer = cv2.VideoWriter(str(self._temporary), self._codec, self._fps, size)
            if not writer.isOpened():
                raise OSError(f"{self._path}: OpenCV cannot write such a video")
            self._writer, self._size = writer, size
        if size != self._size:  # OpenCV would leave it out without a word
            raise ValueError(f"VideoSink: frames must be {self._size} pixels, got {size}")
        self._writer.write(picture)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
            os.replace(self._temporary, self._path)


# Of a ring: what it is, slots, axes, dtype, up to four sizes. Of a slot: count, id, time, stale.
_RING = struct.Struct("<8sIIc3x4Q")
_SLOT = struct.Struct("<QqqQ")
_MAGIC = b"msfring1"
_ALIGN = 64


class _Layout(NamedTuple):
    slots: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def stride(self) -> int:
        bytes_ = _SLOT.size + int(np.prod(self.shape)) * self.dtype.itemsize
        return -(-bytes_ // _ALIGN) * _ALIGN

    @property
    def begin(self) -> int:
        return -(-_RING.size // _ALIGN) * _ALIGN

    def array(self, memory: SharedMemory, slot: int) -> NDArray[Any]:
        offset = self.begin + slot * self.stride + _SLOT.size
        return np.ndarray(self.shape, self.dtype, memory.buf, offset)


_OWN: set[str] = set()  # rings that this process made


def _attached(name: str) -> SharedMemory:
    """Memory that another process owns: its end must not be this process's end."""
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    memory = SharedMemory(name)
    if name not in _OWN:
        resource_tracker.unregister(memory._name, "shared_memory")  # type: ignore[attr-defined]
    return memory


def _buffer(memory: SharedMemory) -> memoryview:
    assert memory.buf is not None, "closed"
    return memory.buf


class SharedRing:
    """Puts masks into memory that other processes read while the stream runs.

    Parameters
    ----------
    name : str
        Under which `SharedRingReader` finds it on this machine.
    shape : tuple of int
        Of every mask; at most four axes.
    dtype : dtype, optional
        Of every mask: bool or an integer.
    slots : int, optional
        Masks kept: a reader has until so many later ones to copy one.

    Notes
    -----
    A slot's count is odd while it is written; a reader that finds it changed tries again. Neither
    side ever waits for the other. The order of writes is that of x86 processors.
    """

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: DTypeLike = bool, *, slots: int = 4
    ) -> None:
        kind = np.dtype(dtype)
        shape = tuple_of(_checks.integer("SharedRing", "shape", n, 1) for n in shape)
        if kind.kind not in "bui" or not 1 <= len(shape) <= 4:
            raise ValueError(
                f"SharedRing: masks must be bool or integer of 1 to 4 axes, got {kind}, {shape}"
            )
        self._layout = _Layout(_checks.integer("SharedRing", "slots", slots, 2, 1000), shape, kind)
        size = self._layout.begin + self._layout.slots * self._layout.stride
        self._memory = SharedMemory(name, create=True, size=size)
        _OWN.add(self._memory.name)
        sizes = (*shape, *(0,) * (4 - len(shape)))
        letter = kind.char.encode()
        _RING.pack_into(_buffer(self._memory), 0, _MAGIC, slots, len(shape), letter, *sizes)
        self._buffer = _buffer(self._memory)
        self._arrays = [self._layout.array(self._memory, i) for i in range(slots)]
        self._count = 0

    def __call__(self, result: Result) -> None:
        """Put one mask into the next slot."""
        mask = np.asarray(result.mask)
        if mask.shape != self._layout.shape:
            raise ValueError(
                f"SharedRing: masks must have shape {self._layout.shape}, got {mask.shape}"
            )
        if not np.can_cast(mask.dtype, self._layout.dtype, "same_kind"):
            raise TypeError(f"SharedRing: masks must be {self._layout.dtype}, got {mask.dtype}")
        slot = self._count % self._layout.slots
        place = self._layout.begin + slot * self._layout.stride
        stale = int(result.frame is None)
        facts = (result.record.id, time.time_ns(), stale)
        _SLOT.pack_into(self._buffer, place, 2 * self._count + 1, *facts)
        np.copyto(self._arrays[slot], mask, casting="same_kind")
        _SLOT.pack_into(self._buffer, place, 2 * self._count + 2, *facts)
        self._count += 1

    def close(self) -> None:
        """Remove it; readers that are attached keep what they see."""
        self._arrays.clear()
        self._buffer.release()
        self._memory.close()
        self._memory.unlink()
        _OWN.discard(self._memory.name)


class Latest(NamedTuple):
    """What `SharedRingReader.latest` finds.

    Attributes
    ----------
    mask : ndarray
        A copy of the newest mask.
    id : int
        Of its frame.
    time_ns : int
        Unix time at which it was put there.
    stale : bool
        It was made of an earlier frame, and sent again for want of a new one.
    """

    mask: NDArray[Any]
    id: int
    time_ns: int
    stale: bool


class SharedRingReader:
    """Reads the newest mask of a `SharedRing` of another process.

    Parameters
    ----------
    name : str
        The ring's.

    Raises
    ------
    FileNotFoundError
        If there is no such memory.
    ValueError
        If it is no ring.
    """

    def __init__(self, name: str) -> None:
        self._memory = _attached(name)
        magic, slots, axes, letter, *sizes = _RING.unpack_from(_buffer(self._memory), 0)
        if magic != _MAGIC or not 1 <= axes <= 4:
            self._memory.close()
            raise ValueError(f"SharedRingReader: {name!r} is no ring of masks")
        self._layout = _Layout(slots, tuple(sizes[:axes]), np.dtype(letter.decode()))

    def latest(self) -> Latest | None:
        """The newest mask; None before the first one."""
        layout, buffer = self._layout, _buffer(self._memory)
        for _ in range(1000):
            heads = [
                _SLOT.unpack_from(buffer, layout.begin + slot * layout.stride)
                for slot in range(layout.slots)
            ]
            whole = [
                (head[0], slot) for slot, head in enumerate(heads) if head[0] and not head[0] % 2
            ]
            if not whole:
                return None
            count, slot = max(whole)
            mask = layout.array(self._memory, slot).copy()
            if _SLOT.unpack_from(buffer, layout.begin + slot * layout.stride)[0] == count:
                _, number, when, stale = heads[slot]
                return Latest(mask, number, when, bool(stale))
        raise RuntimeError("SharedRingReader: the writer is faster than copying: more slots help")

    def close(self) -> None:
        """Detach."""
        self._memory.close()
