"""Minimum cuts of grids, by shortest augmenting paths on a graph of dictionaries."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

OFFSETS: dict[tuple[int, int], list[tuple[int, ...]]] = {
    (1, 1): [(1,)],
    (2, 1): [(1, 0), (0, 1)],
    (2, 2): [(1, 0), (0, 1), (1, 1), (1, -1)],
    (3, 1): [(1, 0, 0), (0, 1, 0), (0, 0, 1)],
}
OFFSETS[3, 2] = OFFSETS[3, 1] + [
    (1, 1, 0), (1, 0, 1), (1, 0, -1), (1, -1, 0), (0, 1, 1), (0, 1, -1)
]  # fmt: skip
OFFSETS[3, 3] = OFFSETS[3, 2] + [(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1)]

Graph = dict[Any, dict[Any, Any]]


def maxflow_grid(
    source: NDArray[Any], sink: NDArray[Any], arcs: list[tuple[tuple[int, ...], NDArray[Any]]]
) -> tuple[Any, NDArray[np.bool_]]:
    """`arcs`: offset and capacity at each pixel of the arc from it to pixel + offset."""
    graph: Graph = {"source": {}, "sink": {}}
    for pixel in np.ndindex(source.shape):
        graph[pixel] = {}
    for pixel in np.ndindex(source.shape):
        _add(graph, "source", pixel, source[pixel].item())
        _add(graph, pixel, "sink", sink[pixel].item())
        for offset, capacity in arcs:
            neighbour = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            if neighbour in graph:
                _add(graph, pixel, neighbour, capacity[pixel].item())
    flow = maxflow(graph)
    to_sink = _reached(graph, "sink", backwards=True)
    segments = np.zeros(source.shape, np.bool_)
    for pixel in np.ndindex(source.shape):
        segments[pixel] = pixel in to_sink
    return flow, segments


def maxflow_graph(
    source: NDArray[Any],
    sink: NDArray[Any],
    i: NDArray[Any],
    j: NDArray[Any],
    capacity: NDArray[Any],
    reverse: NDArray[Any],
) -> tuple[Any, NDArray[np.bool_]]:
    """Edges from `i` to `j` and back between nodes numbered from 0."""
    graph: Graph = {"source": {}, "sink": {}, **{v: {} for v in range(len(source))}}
    for v in range(len(source)):
        _add(graph, "source", v, source[v].item())
        _add(graph, v, "sink", sink[v].item())
    for edge in range(len(i)):
        _add(graph, int(i[edge]), int(j[edge]), capacity[edge].item())
        _add(graph, int(j[edge]), int(i[edge]), reverse[edge].item())
    flow = maxflow(graph)
    to_sink = _reached(graph, "sink", backwards=True)
    return flow, np.array([v in to_sink for v in range(len(source))], np.bool_)


def graph_cut_capacity(
    source: NDArray[Any],
    sink: NDArray[Any],
    i: NDArray[Any],
    j: NDArray[Any],
    capacity: NDArray[Any],
    reverse: NDArray[Any],
    segments: NDArray[np.bool_],
) -> Any:
    total = source[segments].sum() + sink[~segments].sum()
    total += capacity[~segments[i] & segments[j]].sum()
    return (total + reverse[segments[i] & ~segments[j]].sum()).item()


def maxflow(graph: Graph) -> Any:
    """Edmonds and Karp (1972); leaves in `graph` what is left of the capacities."""
    flow = 0
    while "sink" in (parents := _reached(graph, "source")):
        path = ["sink"]
        while path[-1] != "source":
            path.append(parents[path[-1]])
        steps = [(v, u) for u, v in itertools.pairwise(path)]
        amount = min(graph[v][u] for v, u in steps)
        for v, u in steps:
            graph[v][u] -= amount
            graph[u][v] += amount
        flow += amount
    return flow


def cut_capacity(
    source: NDArray[Any],
    sink: NDArray[Any],
    arcs: list[tuple[tuple[int, ...], NDArray[Any]]],
    segments: NDArray[np.bool_],
) -> Any:
    total = 0
    for pixel in np.ndindex(source.shape):
        total += source[pixel].item() if segments[pixel] else sink[pixel].item()
        for offset, capacity in arcs:
            neighbour = tuple(p + o for p, o in zip(pixel, offset, strict=True))
            inside = all(0 <= p < n for p, n in zip(neighbour, source.shape, strict=True))
            if inside and not segments[pixel] and segments[neighbour]:
                total += capacity[pixel].item()
    return total


def _add(graph: Graph, v: Any, u: Any, capacity: Any) -> None:
    graph[v][u] = graph[v].get(u, 0) + capacity
    graph[u].setdefault(v, 0)


def _reached(graph: Graph, start: Any, *, backwards: bool = False) -> dict[Any, Any]:
    """Every node that capacity leads to (or from), with the node before it."""
    parents, queue = {start: None}, deque([start])
    while queue:
        v = queue.popleft()
        for u in graph[v]:
            if u not in parents and (graph[u][v] if backwards else graph[v][u]) > 0:
                parents[u] = v
                queue.append(u)
    return parents


def contrast_weights(
    image: NDArray[Any], offset: tuple[int, ...], strength: float, sigma: float
) -> NDArray[np.float64]:
    """From each pixel to pixel + offset, 0 where that is outside; channels of `image` last."""
    shape: tuple[int, ...] = image.shape[:-1]
    weights = np.zeros(shape)
    for pixel in np.ndindex(shape):
        other = tuple(p + o for p, o in zip(pixel, offset, strict=True))
        if all(0 <= p < n for p, n in zip(other, shape, strict=True)):
            d = image[pixel].astype(float) - image[other].astype(float)
            weights[pixel] = strength * np.exp(-(d @ d) / (2 * sigma**2))
    return weights


def seeded_cut(
    foreground_cost: NDArray[Any],
    background_cost: NDArray[Any],
    foreground: NDArray[np.bool_],
    background: NDArray[np.bool_],
    weights: dict[tuple[int, ...], NDArray[Any]],
) -> tuple[NDArray[np.bool_], float]:
    """The mask of least energy that holds the seeds, and that energy."""
    never = 1e4
    source = np.where(foreground, 0, foreground_cost) + never * background
    sink = np.where(background, 0, background_cost) + never * foreground
    arcs = []
    for offset, w in weights.items():
        back = np.zeros_like(w)
        for pixel in np.argwhere(w > 0):
            back[tuple(pixel + offset)] = w[tuple(pixel)]
        arcs += [(offset, w), (tuple(-o for o in offset), back)]
    mask = maxflow_grid(source, sink, arcs)[1]
    return mask, cut_capacity(source, sink, arcs, mask)


def seeded_energy(
    foreground_cost: NDArray[Any],
    background_cost: NDArray[Any],
    foreground: NDArray[np.bool_],
    background: NDArray[np.bool_],
    weights: dict[tuple[int, ...], NDArray[Any]],
    mask: NDArray[np.bool_],
) -> float:
    """Infinite where the mask does not hold the seeds."""
    if (foreground & ~mask).any() or (background & mask).any():
        return float("inf")
    known = foreground | background
    energy = np.where(known, 0, np.where(mask, foreground_cost, background_cost)).sum()
    for offset, w in weights.items():
        for pixel in np.argwhere(w > 0):
            if mask[tuple(pixel)] != mask[tuple(pixel + offset)]:
                energy += w[tuple(pixel)]
    return float(energy)
