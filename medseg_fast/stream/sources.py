"""Where frames come from: sequences at their own rate, files, video and cameras."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np

from medseg_fast import _checks, io
from medseg_fast.stream._frame import Frame

__all__ = ["Paced", "VideoSource", "frames_of"]


class Paced:
    """Gives the items of an iterable at a fixed rate, whether or not anybody keeps up.

    Parameters
    ----------
    frames : iterable
        What to give; a sequence is repeated with `repeat`.
    fps : float
        Items per second.
    repeat : bool, optional
        Start again at the end.

    Notes
    -----
    Item i is due i / fps seconds after the first one: a late one is given at once, and the rate
    is kept. Each `Frame` says when it was due, as its time of capture.
    """

    def __init__(self, frames: Iterable[Any], fps: float, *, repeat: bool = False) -> None:
        self._fps = float(_checks.number("Paced", "fps", fps))
        if not 0 < self._fps < 1e6:
            raise ValueError(f"Paced: fps must be positive, got {fps!r}")
        self._frames, self._repeat = frames, repeat
        self._closed = Event()

    def close(self) -> None:
        """End before the next item."""
        self._closed.set()

    def __iter__(self) -> Iterator[Frame]:
        begin, unix, number = time.perf_counter(), time.time(), 0
        while not self._closed.is_set():
            before = number
            for given in self._frames:
                due = number / self._fps
                while (left := begin + due - time.perf_counter()) > 0:
                    if self._closed.is_set():
                        return
                    # The last half millisecond is waited for awake: sleeping may overshoot by it.
                    time.sleep(min(left - 5e-4, 0.05) if left > 1e-3 else 0)
                if self._closed.is_set():
                    return
                frame = Frame.of(given)
                frame.captured = unix + due
                yield frame
                number += 1
            if not self._repeat or number == before:
                return


def frames_of(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """The frames of a file or a folder of pictures.

    Parameters
    ----------
    path : str or path-like
        A file that `medseg_fast.io.read` knows (its time axis, or else its planes, are the frames:
        multi-frame DICOM, MetaImage, NIfTI, TIFF), or a folder of pictures, in the natural order of
        their names.

    Yields
    ------
    frame : Frame

    Raises
    ------
    FileNotFoundError, ValueError
        If there is nothing to read.
    """
    place = Path(path)
    if place.is_dir():
        names = [each for each in place.iterdir() if each.suffix.lower() in _PICTURES]
        if not names:
            raise ValueError(f"{os.fspath(path)}: holds no pictures ({', '.join(_PICTURES)})")
        for name in sorted(names, key=_natural):
            yield Frame.of(io.read(name))
        return
    volume = io.read(place)
    array = volume.array
    if volume.axes[0] not in "tz":
        raise ValueError(f"{os.fspath(path)}: is one image, with no frames (axes {volume.axes})")
    for plane in array:
        yield Frame(np.ascontiguousarray(plane))


_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm")


def _natural(path: Path) -> list[tuple[int, str]]:
    """Numbers in names by their value: frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


class VideoSource:
    """A video file, a network stream or a camera, by OpenCV.

    Parameters
    ----------
    source : str, path-like or int
        A file or URL, or a camera's number.
    grey : bool, optional
        Give (H, W) instead of (H, W, 3) in the order red, green, blue.

    Raises
    ------
    ImportError
        If OpenCV is missing.
    ValueError
        If there is no such video.

    Notes
    -----
    `fps` is what the file says, 0 where it does not. Decoding 1080p takes tens of milliseconds of a
    CPU: it happens in the receiving thread.
    """

    def __init__(self, source: str | os.PathLike[str] | int, *, grey: bool = True) -> None:
        try:
            import cv2
        except ImportError:
            raise ImportError(
                'VideoSource: OpenCV is missing: pip install "medseg_fast[stream]"'
            ) from None
        self._cv2 = cv2
        given = source if isinstance(source, int) else os.fspath(source)
        if isinstance(given, str) and "://" not in given and not Path(given).is_file():
            raise FileNotFoundError(f"{given}: no such file")
        self._capture = cv2.VideoCapture(given)
        if not self._capture.isOpened():
            raise ValueError(f"{given}: OpenCV cannot open it as a video")
        self._code = cv2.COLOR_BGR2GRAY if grey else cv2.COLOR_BGR2RGB
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS) or 0)
        self._closed = False

    def close(self) -> None:
        """End before the next frame."""
        self._closed = True

    def __iter__(self) -> Iterator[Frame]:
        try:
            while not self._closed:
                there, image = self._capture.read()
                if not there:
                    return
                yield Frame(self._cv2.cvtColor(image, self._code))
        finally:
            self._capture.release()
