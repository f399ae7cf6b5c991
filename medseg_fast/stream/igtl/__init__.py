"""OpenIGTLink: images, transforms, contours and status between devices in the operating room.

>>> import numpy as np
>>> from medseg_fast.stream.igtl import Client, Image, Server
>>> with Server(0) as server, Client(port=server.port) as client:
...     _ = server.wait_clients(1, 5)
...     _ = server.send(Image(np.zeros((1, 480, 640), np.uint8), device="Probe"))
...     client.receive(5).pixels.shape
(1, 480, 640)

Written for this library from the protocol's public documents. Header versions 1 to 3 with metadata;
IMAGE, TRANSFORM, STATUS and POLYDATA are decoded, GET_, STT_, STP_ and RTS_ recognised, everything
else passed on as it is. Every field is checked and every size bounded before memory is reserved for
it; whatever is wrong is a `ProtocolError`.
"""

from medseg_fast.stream.igtl._endpoint import State
from medseg_fast.stream.igtl._link import Limits
from medseg_fast.stream.igtl._wire import MAX_BODY, Header, ProtocolError, crc64, parse_header
from medseg_fast.stream.igtl.client import Client
from medseg_fast.stream.igtl.geometry import (
    image_from_volume,
    polydata_from_contours,
    volume_from_image,
)
from medseg_fast.stream.igtl.messages import (
    Image,
    Message,
    Query,
    Raw,
    Status,
    Transform,
    decode,
    decode_bytes,
    encode,
)
from medseg_fast.stream.igtl.polydata import Attribute, PolyData, join_cells, split_cells
from medseg_fast.stream.igtl.server import Server

__all__ = [
    "MAX_BODY",
    "Attribute",
    "Client",
    "Header",
    "Image",
    "Limits",
    "Message",
    "PolyData",
    "ProtocolError",
    "Query",
    "Raw",
    "Server",
    "State",
    "Status",
    "Transform",
    "crc64",
    "decode",
    "decode_bytes",
    "encode",
    "image_from_volume",
    "join_cells",
    "parse_header",
    "polydata_from_contours",
    "split_cells",
    "volume_from_image",
]
