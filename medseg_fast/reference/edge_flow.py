"""Edge flow step by step, and Gabor magnitudes, as their definitions say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Corner = tuple[int, int]
Piece = frozenset[Corner]  # a piece of boundary, by its two corners


def magnitude(image: Array, kernel: NDArray[np.complex128]) -> NDArray[np.float64]:
    """Magnitude of a complex filter's response; beyond the border the image is mirrored."""
    rows, columns = (n // 2 for n in kernel.shape)
    around = np.pad(image.astype(float), [(rows, rows), (columns, columns)], mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(around, kernel.shape)
    return np.asarray(abs((windows * kernel).sum(axis=(2, 3))))


def flow_vectors(
    maps: Array,
    attributes: Sequence[Sequence[tuple[int, float]]],
    weights: Sequence[float],
    offsets: Sequence[tuple[int, int]],
    directions: Sequence[tuple[float, float]],
    spacing: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The flow (2, rows, columns), and by how much its half circle beats those of other flow.

    `attributes` lists the maps of each attribute with their weights; `offsets` and `directions`
    are those of half a circle.
    """
    _, rows, columns = maps.shape
    half = len(offsets)
    flow, lead = np.zeros((2, rows, columns)), np.zeros((rows, columns))
    circle = [*directions, *((-y, -x) for y, x in directions)]
    steps = [*offsets, *((-y, -x) for y, x in offsets)]

    def at(map: int, r: int, c: int) -> float:
        return float(maps[map, min(max(r, 0), rows - 1), min(max(c, 0), columns - 1)])

    for r in range(rows):
        for c in range(columns):
            energy, probability = np.zeros(2 * half), np.zeros(2 * half)
            for share, parts in zip(weights, attributes, strict=True):
                error = np.zeros(2 * half)
                for k in range(2 * half):
                    for map, weight in parts:
                        down = (at(map, r + 1, c) - at(map, r - 1, c)) / (2 * spacing[0])
                        right = (at(map, r, c + 1) - at(map, r, c - 1)) / (2 * spacing[1])
                        slope = abs(down * circle[k][0] + right * circle[k][1])
                        energy[k] += share * weight * slope
                        ahead = at(map, r + steps[k][0], c + steps[k][1])
                        error[k] += weight * abs(ahead - at(map, r, c))
                for k in range(2 * half):
                    both = error[k] + error[k - half]
                    probability[k] += share * (error[k] / both if both else 0.5)
            scores, flows = [], []
            for start in range(2 * half):
                ways = [(start + i) % (2 * half) for i in range(half)]
                vector = sum(energy[k] * np.array(circle[k]) for k in ways)
                total = energy.sum() / 2
                length = (vector**2).sum() / total**2 if total else 0.0
                scores.append(probability[ways].sum() + 1e-3 * length)
                flows.append(vector * 2 / half)
            best = int(np.argmax(scores))
            flow[:, r, c] = flows[best]
            same = [np.allclose(f, flows[best], rtol=1e-3, atol=1e-6) for f in flows]
            others = [s for s, alike in zip(scores, same, strict=True) if not alike]
            lead[r, c] = scores[best] - max(others, default=-math.inf)
    return flow, lead


def meet(
    flow: NDArray[np.float32], spacing: Sequence[float], most: int
) -> tuple[NDArray[np.float32], int]:
    """Energy of the boundaries to the right and below (2, rows, columns), and steps made."""
    _, rows, columns = flow.shape
    diagonal = np.float32(0.41421356)
    scale = [np.float32(1 / s) for s in spacing]

    def target(r: int, c: int) -> Corner:
        down, right = flow[:, r, c]
        y, x = down * scale[0], right * scale[1]
        step = [0, 0]
        if abs(y) > diagonal * abs(x):
            step[0] = -1 if y < 0 else 1
        if abs(x) > diagonal * abs(y):
            step[1] = -1 if x < 0 else 1
        to = (r + step[0], c + step[1])
        if to == (r, c) or not (0 <= to[0] < rows and 0 <= to[1] < columns):
            return r, c
        there = flow[:, to[0], to[1]]
        return to if down * there[0] + right * there[1] > 0 else (r, c)

    steps = 0
    while steps < most:
        targets = {(r, c): target(r, c) for r in range(rows) for c in range(columns)}
        following = np.zeros_like(flow)
        for r in range(rows):
            for c in range(columns):
                # In a fixed order: what stays, then what comes from below right to above left.
                around = [(r, c), *((r - i, c - j) for i in (-1, 0, 1) for j in (-1, 0, 1))]
                for k, origin in enumerate(around):
                    if (k == 0 or origin != (r, c)) and targets.get(origin) == (r, c):
                        following[:, r, c] += flow[:, origin[0], origin[1]]
        if (following == flow).all():
            break
        flow = following
        steps += 1
    energy = np.zeros_like(flow)
    for r in range(rows):
        for c in range(columns):
            if c + 1 < columns and flow[1, r, c] > 0 > flow[1, r, c + 1]:
                energy[0, r, c] = (flow[1, r, c] - flow[1, r, c + 1]) * np.float32(spacing[1])
            if r + 1 < rows and flow[0, r, c] > 0 > flow[0, r + 1, c]:
                energy[1, r, c] = (flow[0, r, c] - flow[0, r + 1, c]) * np.float32(spacing[0])
    return energy, steps


def piece(plane: int, row: int, column: int) -> Piece:
    """The boundary to the right of a pixel (plane 0) or below it (1)."""
    end = (row + 1, column + 1)
    return frozenset({end, (row, column + 1) if plane == 0 else (row + 1, column)})


def link(
    energy: Array, low: float, high: float, reach: float, rounds: int
) -> tuple[set[Piece], set[Piece]]:
    """Pieces of boundary that are found, and those that close gaps."""
    strength = {piece(*index): float(energy[index]) for index in np.ndindex(energy.shape)}
    found = {p for p, e in strength.items() if e > high}
    grown = True
    while grown:
        corners = set().union(*found)
        more = {p for p, e in strength.items() if e > low and p & corners} - found
        found |= more
        grown = bool(more)
    rows, columns = energy.shape[1:]
    closing: set[Piece] = set()

    def on_border(corner: Corner) -> bool:
        return corner[0] in (0, rows) or corner[1] in (0, columns)

    for _ in range(rounds):
        boundary = found | closing
        at: dict[Corner, list[Piece]] = {}
        for p in boundary:
            for corner in p:
                at.setdefault(corner, []).append(p)
        new: set[Piece] = set()
        for end, pieces in at.items():
            if len(pieces) != 1 or on_border(end):
                continue
            # Back along the boundary, as far as it is a single line.
            longest = math.ceil(reach) + 1
            line, here, came = [end], end, frozenset[Corner]()
            while len(line) - 1 < longest and (here == end or len(at[here]) == 2):
                came = next(p for p in at[here] if p != came)
                (here,) = came - {here}
                if here in line:
                    break
                line.append(here)
            behind = line[min(len(line) - 1, (longest + 1) // 2)]
            radius = min(reach, len(line) - 1)
            ahead = (end[0] - behind[0], end[1] - behind[1])
            choices = []
            for r in range(rows + 1):
                for c in range(columns + 1):
                    step = (r - end[0], c - end[1])
                    forward = step[0] * ahead[0] + step[1] * ahead[1]
                    near = step[0] ** 2 + step[1] ** 2 <= radius**2
                    if near and forward > 0 and (r, c) not in line:
                        if on_border((r, c)) or (r, c) in at:
                            choices.append((step[0] ** 2 + step[1] ** 2, -forward, r, c))
            if choices:
                *_, r, c = min(choices)
                new |= _line(end, (r, c), rows, columns)
        if not new:
            break
        closing |= new - found
    return found, closing


def _line(start: Corner, end: Corner, rows: int, columns: int) -> set[Piece]:
    """Pieces from corner to corner, along the nearest line of the grid."""
    start, end = min(start, end), max(start, end)
    down, across = end[0] - start[0], abs(end[1] - start[1])
    way = 1 if end[1] > start[1] else -1
    pieces, r, c = set(), 0, 0
    while (r, c) != (down, across):
        here = (start[0] + r, start[1] + way * c)
        if (1 + 2 * c) * down < (1 + 2 * r) * across:
            c += 1
        else:
            r += 1
        there = (start[0] + r, start[1] + way * c)
        inside = (
            0 < here[1] < columns if here[1] == there[1] else 0 < here[0] < rows
        )  # not along the image's border
        if inside:
            pieces.add(frozenset({here, there}))
    return pieces


def enclosed(boundary: set[Piece], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Regions numbered in raster order."""
    labels, count = np.zeros(shape, np.int32), 0
    for first in np.ndindex(shape):
        if labels[first]:
            continue
        count += 1
        labels[first], todo = count, [first]
        while todo:
            r, c = todo.pop()
            for wall, to in (
                (piece(0, r, c), (r, c + 1)),
                (piece(0, r, c - 1), (r, c - 1)),
                (piece(1, r, c), (r + 1, c)),
                (piece(1, r - 1, c), (r - 1, c)),
            ):
                inside = 0 <= to[0] < shape[0] and 0 <= to[1] < shape[1]
                if inside and wall not in boundary and not labels[to]:
                    labels[to] = count
                    todo.append(to)
    return labels


def merge(
    maps: Array,
    weights: Sequence[float],
    min_size: int,
    n_regions: int,
    found: set[Piece],
    labels: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Regions merged, numbered in raster order."""
    labels = labels.copy()
    rows, columns = labels.shape

    def borders() -> dict[tuple[int, int], list[bool]]:
        """Of each pair of neighbours: whether each piece between them was found."""
        between: dict[tuple[int, int], list[bool]] = {}
        for r, c in np.ndindex(rows, columns):
            for plane, to in ((0, (r, c + 1)), (1, (r + 1, c))):
                if to[0] < rows and to[1] < columns and labels[r, c] != labels[to]:
                    one, other = sorted((int(labels[r, c]), int(labels[to])))
                    between.setdefault((one, other), []).append(piece(plane, r, c) in found)
        return between

    def cost(pair: tuple[int, int], pieces: list[bool]) -> float:
        n, m = (int((labels == label).sum()) for label in pair)
        difference = 0.0
        for map, weight in zip(maps, weights, strict=True):
            values = [map[(labels == label) & np.isfinite(map)].astype(float) for label in pair]
            if all(v.size for v in values):
                difference += (weight * (values[0].mean() - values[1].mean())) ** 2
        return n * m / (n + m) * difference * (sum(pieces) / len(pieces) + 0.125)

    while True:
        between = borders()
        sizes = [(int((labels == k).sum()), int(k)) for k in np.unique(labels)]
        small = [(n, k) for n, k in sizes if n < min_size and any(k in pair for pair in between)]
        if small:
            _, region = min(small)
            around = [pair for pair in between if region in pair]
            a, b = min(around, key=lambda p: (cost(p, between[p]), p[0] + p[1] - region))
        elif 0 < n_regions < len(sizes) and between:
            a, b = min(between, key=lambda p: (cost(p, between[p]), p))
        else:
            break
        labels[labels == b] = a
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    numbers = np.argsort(np.argsort(first)) + 1
    return numbers[inverse].reshape(labels.shape).astype(np.int32)
