"""POLYDATA: points, and the vertices, lines, polygons and strips that connect them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast.stream.igtl._wire import Bytes, Header, ProtocolError
from medseg_fast.stream.igtl.messages import KINDS, Message

_HEAD = struct.Struct(">10I")
_ATTRIBUTE = struct.Struct(">BBI")
_CELLS = ("vertices", "lines", "polygons", "strips")
# Components that each kind must have; any number of scalars.
_KINDS = {"scalars": None, "vectors": 3, "normals": 3, "tensors": 9, "rgba": 4}
_KIND_CODES = list(_KINDS)
MAX_UNEQUAL_CELLS = 1 << 20
"""Cells of different sizes are counted one by one: more are refused. Any number of equal ones."""


@dataclass(eq=False, slots=True)
class Attribute:
    """Values at the points or cells.

    Parameters
    ----------
    name : str
        At most 255 bytes.
    values : array_like
        Shape (n, components) or (n,), float32.
    kind : {"scalars", "vectors", "normals", "tensors", "rgba"}
    of : {"points", "cells"}
        libopenigtlink 1.11 (its class PolyDataAttribute) takes RGBA and all values of cells for 9
        components: for such a peer, keep to scalars, vectors and normals of points.
    """

    name: str
    values: NDArray[np.float32]
    kind: str = "scalars"
    of: str = "points"

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        values = values[:, None] if values.ndim == 1 else values
        self.values = values if values.dtype.str[1:] == "f4" else values.astype(np.float32)
        if self.kind not in _KINDS or self.of not in ("points", "cells"):
            raise ValueError(
                f"Attribute: kind must be one of {', '.join(_KINDS)} of points or cells, "
                f"got {self.kind!r} of {self.of!r}"
            )
        wanted = _KINDS[self.kind]
        if (
            values.ndim != 2
            or not 0 < values.shape[1] < 256
            or values.shape[1] != (wanted or values.shape[1])
        ):
            raise ValueError(
                f"Attribute: values must have shape (n, {wanted or 'components'}), "
                f"got {values.shape}"
            )
        if len(self.name.encode()) > 255 or "\0" in self.name:
            raise ValueError(f"Attribute: name must have at most 255 bytes, got {self.name!r}")


def join_cells(cells: Iterable[Sequence[int]]) -> NDArray[np.uint32]:
    """Lists of point indices as VTK keeps them: each preceded by its length, in one array."""
    parts = [[len(cell), *cell] for cell in cells]
    return np.array([index for part in parts for index in part], np.uint32)


def split_cells(cells: NDArray[Any]) -> list[NDArray[Any]]:
    """The reverse of `join_cells`; the arrays are views."""
    result, at = [], 0
    while at < len(cells):
        n = int(cells[at])
        result.append(cells[at + 1 : at + 1 + n])
        at += 1 + n
    return result


def _count(name: str, cells: NDArray[Any], points: int) -> int:
    """Number of cells, each of which must be complete and have points that exist."""
    if cells.size == 0:
        return 0
    width = int(cells[0]) + 1
    rows = cells.reshape(-1, width) if cells.size % width == 0 else None
    if rows is not None and width > 1 and (rows[:, 0] == width - 1).all():
        if (rows[:, 1:] >= points).any():
            raise ProtocolError(f"POLYDATA: {name} refer to points beyond the {points} there are")
        return len(rows)
    starts: list[int] = []
    at, end = 0, cells.size
    while at < end:
        if len(starts) == MAX_UNEQUAL_CELLS:
            raise ProtocolError(f"POLYDATA: more than {MAX_UNEQUAL_CELLS} unequal {name}")
        starts.append(at)
        at += int(cells[at]) + 1
    if at != end:
        raise ProtocolError(f"POLYDATA: the last of the {name} is incomplete")
    inside = np.ones(end, bool)
    inside[starts] = False
    if (cells[inside] >= points).any():
        raise ProtocolError(f"POLYDATA: {name} refer to points beyond the {points} there are")
    return len(starts)


@dataclass(eq=False, slots=True)
class PolyData(Message):
    """POLYDATA: contours, surfaces, labels of points.

    Parameters
    ----------
    points : array_like
        Shape (n, 3): x, y, z in mm, float32. The protocol does not state the frame; 3D Slicer takes
        RAS.
    vertices, lines, polygons, strips : array_like or list of lists of int
        Point indices of each cell; an array is taken as `join_cells` gives it.
    attributes : list of Attribute
    """

    points: NDArray[np.float32]
    vertices: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    lines: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    polygons: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    strips: NDArray[np.uint32] = field(default_factory=lambda: np.empty(0, np.uint32))
    attributes: list[Attribute] = field(default_factory=list)

    type: ClassVar[str] = "POLYDATA"

    def __post_init__(self) -> None:
        points = np.asarray(self.points)
        points = points if points.dtype.str[1:] == "f4" else points.astype(np.float32)
        if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
            raise ValueError(f"PolyData: points must be finite, of shape (n, 3), got {points!r}")
        self.points = points
        for name in _CELLS:
            given: ArrayLike = getattr(self, name)
            if not isinstance(given, np.ndarray):
                given = join_cells(given)  # type: ignore[arg-type]
            if given.ndim != 1 or given.dtype.kind not in "ui":
                raise ValueError(f"PolyData: {name} must be 1D integers, got {given!r}")
            _count(name, given, len(points))
            setattr(self, name, given)

    def content(self) -> list[Any]:
        head, arrays = [len(self.points)], [self.points.astype(">f4")]
        for name in _CELLS:
            cells: NDArray[Any] = getattr(self, name)
            head += [_count(name, cells, len(self.points)), 4 * cells.size]
            arrays.append(cells.astype(">u4"))
        names = b"".join(a.name.encode() + b"\0" for a in self.attributes)
        table = b"".join(
            _ATTRIBUTE.pack(
                _KIND_CODES.index(a.kind) + (16 if a.of == "cells" else 0),
                a.values.shape[1],
                len(a.values),
            )
            for a in self.attributes
        )
        parts = [_HEAD.pack(*head, len(self.attributes))]
        parts += [array.tobytes() for array in arrays]
        parts += [table, names + b"\0" * (len(names) % 2)]
        parts += [a.values.astype(">f4").tobytes() for a in self.attributes]
        return [b"".join(parts)]

    @classmethod
    def from_content(cls, header: Header, content: Bytes, common: dict[str, Any]) -> PolyData:
        reader = _Reader(content)
        points, *counts, attributes = _HEAD.unpack(reader.take("header", _HEAD.size).tobytes())
        coordinates = reader.take("points", 12 * points).view(">f4").reshape(-1, 3)
        if not np.isfinite(coordinates).all():
            raise ProtocolError("POLYDATA: points must be finite")
        cells = []
        for name, stated, size in zip(_CELLS, counts[::2], counts[1::2], strict=True):
            if size % 4:
                raise ProtocolError(f"POLYDATA: size of {name} must be whole numbers, got {size}")
            array = reader.take(name, size).view(">u4")
            if (count := _count(name, array, points)) != stated:
                raise ProtocolError(f"POLYDATA: stated {stated} {name}, got {count}")
            cells.append(array)
        found = _attributes(reader, attributes)
        if reader.left:
            raise ProtocolError(f"POLYDATA: {reader.left} bytes too many")
        vertices, lines, polygons, strips = cells
        return cls(coordinates, vertices, lines, polygons, strips, found, **common)


class _Reader:
    """Takes piece by piece off the content."""

    def __init__(self, content: Bytes) -> None:
        self.content, self.at = content, 0

    @property
    def left(self) -> int:
        return self.content.size - self.at

    def take(self, name: str, size: int) -> Bytes:
        if size > self.left:
            raise ProtocolError(f"POLYDATA: {name} take {size} bytes, {self.left} are left")
        self.at += size
        return self.content[self.at - size : self.at]


def _attributes(reader: _Reader, count: int) -> list[Attribute]:
    table = reader.take("attributes", count * _ATTRIBUTE.size).tobytes()
    # Each name has at most 255 bytes and a null one.
    text = reader.content[reader.at : reader.at + 256 * count].tobytes()
    ends = [-1]
    for _ in range(count):
        end = text.find(b"\0", ends[-1] + 1)
        if not 0 <= end - ends[-1] - 1 <= 255:
            raise ProtocolError("POLYDATA: the name of an attribute has more than 255 bytes")
        ends.append(end)
    size = ends[-1] + 1
    reader.take("names", size + size % 2)
    attributes = []
    for (code, components, n), (before, end) in zip(
        _ATTRIBUTE.iter_unpack(table), pairwise(ends), strict=True
    ):
        if code & 15 >= len(_KINDS) or code >> 4 > 1:
            raise ProtocolError(f"POLYDATA: unknown attribute type {code:#x}")
        kind = _KIND_CODES[code & 15]
        wanted = _KINDS[kind] or components
        # libopenigtlink 1.11 states 9 for RGBA and all of cells, of which the first count.
        if components == 0 or components not in (wanted, 9):
            raise ProtocolError(f"POLYDATA: {kind} of {components} components")
        values = reader.take("values", 4 * n * components).view(">f4").reshape(-1, components)
        name = text[before + 1 : end].decode(errors="replace")
        if len(name.encode()) > 255:  # the replaced bytes
            name = name.encode("ascii", "replace").decode()
        attributes.append(
            Attribute(name, values[:, :wanted], kind, "cells" if code >> 4 else "points")
        )
    return attributes


KINDS[PolyData.type] = PolyData
