"""A pipeline's ends at OpenIGTLink: frames that a scanner sends, masks that a viewer shows."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from medseg_fast.io.volume import LPS_TO_RAS, Volume
from medseg_fast.stream._frame import Frame, Result
from medseg_fast.stream.igtl import (
    Client,
    Image,
    Server,
    Status,
    Transform,
    image_from_volume,
    polydata_from_contours,
    volume_from_image,
)

__all__ = ["IgtlSink", "IgtlSource", "igtl_endpoint"]

_logger = logging.getLogger("medseg_fast.stream")
_LOOK = 0.1  # s, after which a source that waits looks whether it was closed
_NOT_READY, _NOT_PRESENT = 13, 16  # of STATUS


def igtl_endpoint(address: str, **options: Any) -> tuple[Client | Server, str]:
    """Connect, or listen, by an address in words.

    Parameters
    ----------
    address : str
        ``igtl://HOST:PORT/DEVICE`` connects to a peer, ``igtl://:PORT/DEVICE`` listens on this
        machine. Without a port: 18944. Without a device: all of them.
    **options
        Of `Client` or `Server`.

    Returns
    -------
    endpoint : Client or Server
    device : str
    """
    parts = urlsplit(address)
    try:
        port = 18944 if parts.port is None else parts.port
    except ValueError:
        port = -1
    if parts.scheme != "igtl" or port < 0 or parts.query or parts.fragment:
        raise ValueError(f"igtl_endpoint: must be igtl://[HOST]:PORT[/DEVICE], got {address!r}")
    device = parts.path.lstrip("/")
    host = parts.hostname or ""
    return (Client(host, port, **options) if host else Server(port, **options)), device


class IgtlSource:
    """The images that come in over OpenIGTLink.

    Parameters
    ----------
    endpoint : Client or Server
        It has ``policy="block"`` from now on, so that only the pipeline decides what is dropped.
    device : str, optional
        Images of other devices are passed over; by default all count.

    Notes
    -----
    A frame's array is a view of the buffer it was received into, (H, W), (H, W, C) or, for several
    planes, (D, H, W), or a copy where its byte order is not this machine's; its time of capture and
    its geometry are the sender's. An image that lies nowhere, as a step of its matrix is 0, is
    logged and passed over; `rejected` counts those. The source goes on when a client comes back.
    `close`, and the end of an iteration, close the endpoint, too.
    """

    def __init__(self, endpoint: Client | Server, device: str = "") -> None:
        self.endpoint, self.device = endpoint, device
        self.rejected = 0
        endpoint.keep_all()
        self._closed = Event()
        self._place: tuple[Any, ...] = ()
        self._geometry: Volume | None = None

    def close(self) -> None:
        """End the wait for the next image, and the endpoint."""
        self._closed.set()
        self.endpoint.close()

    def __iter__(self) -> Iterator[Frame]:
        try:
            while not self._closed.is_set():
                message = self.endpoint.receive(_LOOK)
                if not isinstance(message, Image) or self.device not in ("", message.device):
                    continue
                try:
                    geometry = self._volume(message)
                except ValueError as error:
                    self.rejected += 1
                    _logger.warning("%s: image rejected: %s", message.sender, error)
                    continue
                captured = message.timestamp_ns / 1e9 if message.timestamp_ns else None
                yield Frame(geometry.array, captured, geometry)
                del message, geometry  # the buffer is free when the pipeline lets go of the frame
        finally:
            self.close()

    def _volume(self, image: Image) -> Volume:
        """What `volume_from_image` gives; most images lie where the one before did."""
        native = image.pixels.dtype.newbyteorder("=")
        pixels = image.pixels = image.pixels.astype(native, copy=False)
        place = (image.matrix.tobytes(), image.coordinates, image.size, image.offset, pixels.shape)
        if self._geometry is None or place != self._place:
            geometry = volume_from_image(image)
            geometry.direction.setflags(write=False)  # the next ones share it
            self._place, self._geometry = place, _without_pixels(geometry)
            return geometry
        geometry = copy.copy(self._geometry)
        geometry.array = pixels[0] if geometry.array.ndim < pixels.ndim else pixels
        geometry.metadata = {}
        return geometry


def _without_pixels(volume: Volume) -> Volume:
    """Its place and shape, which keep no buffer from being used again."""
    alone = copy.copy(volume)
    alone.array = np.broadcast_to(np.zeros((), volume.array.dtype), volume.array.shape)
    return alone


class _Last(NamedTuple):
    """The mask sent last: where, of which shape, whether of one plane, the matrix of its IMAGE."""

    geometry: Volume | None
    shape: tuple[int, ...]
    flat: bool
    matrix: Any

    def same_place(self, other: Volume | None) -> bool:
        """Whether it certainly lies there: `IgtlSource` keeps what does not change."""
        mine = self.geometry
        if mine is None or other is None:
            return mine is other
        return (
            mine.direction is other.direction
            and mine.origin == other.origin
            and mine.spacing == other.spacing
            and mine.axes == other.axes
        )


class IgtlSink:
    """Sends each mask over OpenIGTLink, where its frame lies in the patient.

    Parameters
    ----------
    endpoint : Client or Server
    device : str, optional
        Name under which it is sent.
    what : {"image", "contour", "transform"}, optional
        "image": an IMAGE of labels. "contour": a POLYDATA with the outlines, which needs
        scikit-image. "transform": a TRANSFORM to the centre of the mask, the mean of its pixels,
        turned as the image is; RAS, as 3D Slicer takes both. Where the mask is empty a STATUS says
        that nothing is present.
    version : {1, 2, 3}, optional
        Of the header. From 2 on metadata tell the frame and its status: FrameId, Status.

    Notes
    -----
    The timestamp is the frame's time of capture where the source knows it. A mask that the
    watch-dog sends again goes out with a STATUS before it, which says that no new one came. A lost
    or slow peer is no error and delays nothing: the stream goes on, and masks go out again when it
    is back; `skipped` counts those that nobody got. What a slow peer was too late for is
    ``send_dropped`` in the endpoint's `stats`, and of a `Client` in `skipped`, too.
    """

    def __init__(
        self,
        endpoint: Client | Server,
        device: str = "Mask",
        *,
        what: Literal["image", "contour", "transform"] = "image",
        version: int = 1,
    ) -> None:
        if what not in ("image", "contour", "transform"):
            raise ValueError(f"IgtlSink: what must be image, contour or transform, got {what!r}")
        if version not in (1, 2, 3):
            raise ValueError(f"IgtlSink: version must be 1, 2 or 3, got {version!r}")
        self.endpoint, self.device = endpoint, device
        self._unsent = 0
        self._what, self._version = what, version
        self._geometry: Volume | None = None
        self._last: _Last | None = None

    def __call__(self, result: Result) -> None:
        """Send one mask."""
        record, frame = result.record, result.frame
        if frame is not None:
            self._geometry = frame.geometry
        mask = np.asarray(result.mask)
        common: dict[str, Any] = {"device": self.device, "version": self._version}
        if record.captured is not None:
            common["timestamp_ns"] = int(record.captured * 1e9)
        if self._version > 1:
            common["metadata"] = {"FrameId": str(record.id), "Status": record.status}
        labels = mask.view(np.uint8) if mask.dtype == bool else mask
        message: Any
        if self._what == "image":
            message = self._image(labels, common)
        elif self._what == "contour":
            volume = self._volume(labels)
            message = polydata_from_contours(_outlines(mask), volume, closed=True, **common)
        elif mask.any():
            message = Transform(_centre(self._volume(labels)), **common)
        else:
            message = Status(_NOT_PRESENT, 0, "Empty", "the mask is empty", **common)
        messages = [message]
        if record.status == "stale":
            status = Status(_NOT_READY, 0, "Stale", record.reason, device=self.device)
            messages.insert(0, status)
        if not self._post(*messages):
            self._unsent += 1

    def _post(self, *messages: Any) -> bool:
        """Whether anybody gets them, without waiting for it."""
        if isinstance(self.endpoint, Client):
            return self.endpoint.post(*messages)
        return all(self.endpoint.send(message) for message in messages)

    @property
    def skipped(self) -> int:
        """Masks that nobody got."""
        late = self.endpoint.stats["send_dropped"] if isinstance(self.endpoint, Client) else 0
        return self._unsent + late

    def _volume(self, labels: Any) -> Volume:
        return Volume(labels) if self._geometry is None else self._geometry.like(labels)

    def _image(self, labels: Any, common: dict[str, Any]) -> Image:
        """What `image_from_volume` gives; most masks lie where the one before did."""
        last = self._last
        if last is not None and last.shape == labels.shape and last.same_place(self._geometry):
            return Image(labels[None] if last.flat else labels, last.matrix, **common)
        volume = self._volume(labels)
        image = image_from_volume(volume, **common)
        place = None if self._geometry is None else _without_pixels(self._geometry)
        self._last = _Last(place, labels.shape, "z" not in volume.axes, image.matrix)
        return image

    def close(self) -> None:
        """End the connection."""
        self.endpoint.close()


def _centre(mask: Volume) -> Any:
    """Matrix (4, 4) from the mask's centre, with the axes of the image, to RAS."""
    inside = mask.array != 0
    centre = []
    for axis in range(inside.ndim):
        others = tuple(a for a in range(inside.ndim) if a != axis)
        counts = np.count_nonzero(inside, axis=others)
        centre.append(counts @ np.arange(counts.size) / counts.sum())
    matrix = np.eye(4)
    columns = mask.direction[:, ::-1]  # column, row, plane
    if columns.shape[1] == 2:
        columns = np.column_stack([columns, np.cross(columns[:, 0], columns[:, 1])])
    matrix[:3, :3] = LPS_TO_RAS[:, None] * columns
    matrix[:3, 3] = (mask.affine_ras @ [*centre, 1])[:3]
    return matrix


def _outlines(mask: Any) -> Sequence[Any]:
    try:
        from skimage.measure import find_contours
    except ImportError:
        raise ImportError("IgtlSink: contours need scikit-image") from None
    found: Sequence[Any] = find_contours(  # type: ignore[no-untyped-call]
        np.pad(mask != 0, 1).astype(np.uint8), 0.5
    )
    return [outline - 1 for outline in found]
