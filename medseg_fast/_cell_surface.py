"""The surface between voxels: area and volume of a mesh from counts of its 2 x 2 x 2 cells alone.

A cell is the cube between eight neighbouring voxel centres (in 2D the square between four); its
code has bit ``4 z + 2 y + x`` for the voxel at that corner. The surface passes through the middles
of the cell's edges that join an inside to an outside voxel [1]_. On each face the middles are
joined to segments, the segments to loops, and the loops cut into triangles; triangles and the
volume they leave inside depend on the code only, so no mesh is ever built. Where several ways to
cut a loop exist, `_CHOICE` has that of the widely used table of marching cubes, as its areas tell.

References
----------
.. [1] W. E. Lorensen, H. E. Cline, "Marching cubes: a high resolution 3D surface construction
   algorithm", SIGGRAPH 1987, 163-169.
"""

from __future__ import annotations

import base64
import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Edge = tuple[int, int]  # two corners, the lower one first
Loop = list[Edge]
Triangle = tuple[int, int, int]  # places in a loop

_CHOICE = """
AAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAgAAAAgAAAACAAAAAAAAAAAAAQIHAAABAAACAQcAAAAIACoqAgAAAAAAAwAC
AAAAAAAAAggAAgAAAAAABQACACoCByoCAAAAAgADACoAAAAOAA4qDgAAAgcCCCoCAA4qDioOAQEAAAAAAAAAAAAAAgIDAgAF
AAAAAAAAAA4AAAIqAyoODgAAAwAAAAMqAQEABgIqCAICAgAFAioODgAqBwIqAQ4BAAAAAAICAioDAwAqAAUGAgMAAyoABQ4O
AioqAQgCDgECAgIqACoqAQAOBQ4FDgIBAAYFAgYCDgEFDgIBAgEBAQ==
""".split()

_CORNERS = np.array(list(itertools.product((0, 1), repeat=3)), np.float64)
# Corners of the six faces, counterclockwise as seen from outside.
_FACES = ((0, 2, 3, 1), (4, 5, 7, 6), (0, 1, 5, 4), (2, 6, 7, 3), (0, 4, 6, 2), (1, 3, 7, 5))


def _loops(code: int, joined: bool) -> list[Loop]:
    """The surface's boundary, face by face.

    On a face with inside voxels at two opposite corners only, `joined` connects these.
    """
    following: dict[Edge, Edge] = {}
    for face in _FACES:
        inside = [bool(code >> corner & 1) for corner in face]
        edges = [(min(a, b), max(a, b)) for a, b in zip(face, face[1:] + face[:1], strict=True)]
        exits = [i for i in range(4) if inside[i] and not inside[(i + 1) % 4]]
        for i in exits:
            if len(exits) == 1:
                entry = next(j for j in range(4) if not inside[j] and inside[(j + 1) % 4])
            else:
                entry = (i + (1 if joined else -1)) % 4
            following[edges[i]] = edges[entry]
    loops = []
    while following:
        first = min(following)
        loop, edge = [first], following.pop(first)
        while edge != first:
            loop.append(edge)
            edge = following.pop(edge)
        loops.append(loop)
    return loops


def _triangulations(first: int, last: int) -> Iterator[list[Triangle]]:
    """All ways to cut the polygon of the places from `first` to `last`."""
    if last - first < 2:
        yield []
        return
    for middle in range(first + 1, last):
        for left in _triangulations(first, middle):
            for right in _triangulations(middle, last):
                yield [*left, *right, (first, middle, last)]


def _surface(code: int, choice: int) -> tuple[bool, list[tuple[Loop, list[Triangle]]]]:
    """Whether opposite corners of a face are joined, and the loops with their triangles.

    `choice` counts all surfaces of the code, the last loop's triangulations fastest, those with
    separate corners first.
    """
    for joined in (False, True):
        loops = _loops(code, joined)
        ways = [math.comb(2 * n - 4, n - 2) // (n - 1) for n in map(len, loops)]  # Catalan numbers
        if choice >= math.prod(ways):
            choice -= math.prod(ways)
            continue
        surface = []
        for loop, count in zip(reversed(loops), reversed(ways), strict=True):
            choice, way = divmod(choice, count)
            triangles = _triangulations(0, len(loop) - 1)
            surface.append((loop, next(itertools.islice(triangles, way, None))))
        return joined, surface
    raise IndexError(choice)


def _vectors(surface: list[tuple[Loop, list[Triangle]]]) -> tuple[Vector, Vector]:
    """A corner of each triangle and its area vector, out of the inside; cells have edges of 1."""
    corners = np.array(
        [
            [_CORNERS[list(loop[place])].mean(0) for place in triangle]
            for loop, triangles in surface
            for triangle in triangles
        ]
    ).reshape(-1, 3, 3)
    at = corners[:, 0]
    return at, np.cross(corners[:, 1] - at, corners[:, 2] - at) / 2


@functools.cache
def _cells() -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Code of each triangle of all cells, its area vector, and the volume inside by code."""
    codes, vectors, volumes = [], [], np.zeros(256)
    for code, choice in enumerate(base64.b64decode("".join(_CHOICE))):
        joined, surface = _surface(code, choice)
        at, area = _vectors(surface)
        codes += [code] * len(area)
        vectors.append(area)
        # By the divergence theorem: the mean of (corner . area vector) / 3 over what encloses it,
        # the triangles and the inside of the three faces that do not touch the corner (0, 0, 0).
        volumes[code] = np.vdot(at, area)
        for face in _FACES[1::2]:
            inside = [code >> corner & 1 for corner in face]
            covered = (0, 1 / 8, 1 / 2, 7 / 8, 1)[sum(inside)]
            if sum(inside) == 2 and inside[0] == inside[2]:
                covered = 3 / 4 if joined else 1 / 4
            volumes[code] += covered
    return np.array(codes), np.concatenate(vectors), volumes / 3


def areas(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Surface in a cell by its code: mm2 of 256 codes in 3D, mm of 16 codes in 2D."""
    if len(spacing) == 2:
        row, column = spacing
        diagonal = math.hypot(row, column) / 2
        result = np.full(16, diagonal)
        result[[0b0000, 0b1111]] = 0
        result[[0b0011, 0b1100]] = column
        result[[0b0101, 0b1010]] = row
        result[[0b0110, 0b1001]] = 2 * diagonal
        return result
    plane, row, column = spacing
    codes, vectors, _ = _cells()
    sizes = np.linalg.norm(vectors * [row * column, plane * column, plane * row], axis=1)
    return np.asarray(np.bincount(codes, sizes, 256), np.float64)


def volumes() -> NDArray[np.float64]:
    """Part of a 3D cell that is inside the surface, by its code."""
    return _cells()[2]


@functools.cache
def euler(ndim: int) -> NDArray[np.float64]:
    """Part of the Euler number in a cell by its code, all neighbours connected.

    A cell is a corner of its closed voxels: it has that corner, halves of edges, quarters of faces
    and, in 3D, eighths of the voxels.
    """
    corners = np.array(list(itertools.product((0, 1), repeat=ndim)))
    table = np.zeros(2 ** len(corners))
    for code in range(1, len(table)):
        inside = corners[[bool(code >> c & 1) for c in range(len(corners))]]
        for fixed in itertools.product((None, 0, 1), repeat=ndim):
            # A part that touches the voxels on these sides; None: on both.
            sides = [i for i, side in enumerate(fixed) if side is not None]
            wanted = [side for side in fixed if side is not None]
            if (inside[:, sides] == wanted).all(1).any():
                table[code] += (-1 / 2) ** len(sides)
    return table


@functools.cache
def crofton() -> NDArray[np.float64]:
    """Part of the perimeter in a 2D cell by its code, by Crofton's formula in four directions.

    Each border between an inside and an outside voxel of a cell counts for its direction: along a
    row or column (seen by two cells), and along the two diagonals.
    """
    table = np.zeros(16)
    for code in range(16):
        a, b, c, d = (code >> bit & 1 for bit in range(4))  # (0, 0), (0, 1), (1, 0), (1, 1)
        straight = (c != d) + (b != d)  # of the voxel at (1, 1), so that each is seen once
        oblique = (a != d) + (b != c)
        table[code] = math.pi / 8 * (straight + oblique / math.sqrt(2))
    return table
