"""Exact cuts of grids beside PyMaxflow, bkgco and numpymaxflow.

The rivals are of licences we must not depend on (GPL; research only), so they are in no extra.
They are run where they can be imported:

    pip install --target rivals PyMaxflow bkgco
    PYTHONPATH=rivals python benchmarks/report.py maxflow

numpymaxflow needs NumPy 1 and makes its own capacities from the image: run this file in such an
environment to time it, ``python benchmarks/bench_maxflow.py numpymaxflow``.

Instances: squared distances to the mean of two classes as terminals, contrast weights between
neighbours. Building the graph counts for all; index arrays that a rival wants are made before.
"""

from __future__ import annotations

import functools
import importlib
import sys

import numpy as np

NEIGHBOURS = {4: (2, 1), 8: (2, 2), 6: (3, 1), 26: (3, 3)}


def _offsets(neighbours):
    from medseg_fast.grid_graph import grid_offsets

    return grid_offsets(*NEIGHBOURS[neighbours])


def _slices(shape, offset):
    steps = list(zip(offset, shape, strict=True))
    here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in steps)
    there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in steps)
    return here, there


@functools.cache
def _image(name):
    from _data import mni152, photograph

    if name == "photograph 512^2":
        return photograph("512x512", np.float32)
    if name == "photograph 2 M":
        return photograph("1080x1920", np.float32)
    if name == "retina 2 M":
        from skimage import data

        return data.retina()[..., 1].astype(np.float32)
    head = mni152(np.float32)
    return np.ascontiguousarray(head[::2, ::2, ::2]) if name == "MNI152 1.1 M" else head


# Means of the two classes, and where contrast counts as an edge, in grey values.
MODELS = {"photograph": (60, 170, 15), "retina": (40, 90, 8), "MNI152": (60, 140, 15)}


def instance(name, neighbours, smoothness, dtype):
    """Terminals and one array of weights for each offset, in thousandths if integers."""
    image = _image(name)
    dark, bright, sigma = MODELS[name.split()[0]]
    unit = (bright - dark) ** 2 / 4
    capacities = [((image - c) ** 2 / unit).clip(0, 20) for c in (dark, bright)]
    for offset in _offsets(neighbours):
        here, there = _slices(image.shape, offset)
        weights = np.zeros_like(image)
        contrast = (image[here] - image[there]) ** 2 / (2 * sigma**2)
        weights[here] = smoothness * np.exp(-contrast) / np.linalg.norm(offset)
        capacities.append(weights)
    scale = 1000 if np.dtype(dtype).kind == "i" else 1
    source, sink, *weights = [(c * scale).astype(dtype) for c in capacities]
    return source, sink, weights


def _installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _pymaxflow(maxflow, source, sink, weights, neighbours):
    offsets = _offsets(neighbours)
    structures = []
    for offset in offsets:
        structure = np.zeros((3,) * source.ndim, int)
        structure[tuple(1 + o for o in offset)] = 1
        structures.append(structure)
    kind = int if source.dtype.kind == "i" else float

    def solve():
        graph = maxflow.Graph[kind](source.size, len(offsets) * source.size)
        nodes = graph.add_grid_nodes(source.shape)
        for structure, w in zip(structures, weights, strict=True):
            graph.add_grid_edges(nodes, w, structure, symmetric=True)
        graph.add_grid_tedges(nodes, source, sink)
        return graph.maxflow(), graph.get_grid_segments(nodes)

    return solve


def _bkgco(bkgco, source, sink, weights, neighbours):
    number = np.arange(source.size, dtype=np.int32).reshape(source.shape)
    edges, capacities = [], []
    for offset, w in zip(_offsets(neighbours), weights, strict=True):
        here, there = _slices(source.shape, offset)
        edges.append(np.stack([number[here].ravel(), number[there].ravel()], 1))
        capacities.append(np.repeat(w[here].reshape(-1, 1), 2, 1))
    edges, capacities = np.concatenate(edges), np.concatenate(capacities)
    terminals = np.stack([source.ravel(), sink.ravel()], 1)
    if source.dtype.kind == "f":  # it has float64 alone
        capacities, terminals = capacities.astype(np.float64), terminals.astype(np.float64)

    def solve():
        graph = bkgco.BKGraph(edge_capacity=len(edges))
        graph.add_tweights(terminals)
        graph.add_edges(edges, capacities)
        return graph.maxflow(), graph.get_segments().reshape(source.shape)

    return solve


def _same(ours, theirs):
    """Equal flows; equal cuts, but for pixels that rounding of floats decides."""
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6 if isinstance(ours[0], float) else 0)
    differing = np.count_nonzero(ours[1] != (np.asarray(theirs[1]) != 0))
    assert differing <= (1e-4 * ours[1].size if isinstance(ours[0], float) else 0)


def _fresh(name, neighbours, smoothness, dtype):
    def build():
        import medseg_fast as ms

        source, sink, weights = instance(name, neighbours, smoothness, dtype)
        calls = {"medseg_fast": lambda: ms.maxflow_grid(source, sink, weights)}
        if maxflow := _installed("maxflow"):
            calls["PyMaxflow"] = _pymaxflow(maxflow, source, sink, weights, neighbours)
        if (bkgco := _installed("bkgco")) and source.size < 3e6:
            calls["bkgco"] = _bkgco(bkgco, source, sink, weights, neighbours)
        return source, calls

    return build


def _again(name, neighbours, smoothness, dtype):
    """After 1 % of the terminals changed, a square or cube of them as a brush does."""

    def build():
        import medseg_fast as ms

        source, sink, weights = instance(name, neighbours, smoothness, dtype)
        graph = ms.GridGraph(source.shape, NEIGHBOURS[neighbours][1], dtype)
        graph.add_terminal(source, sink)
        for offset, w in zip(graph.offsets, weights, strict=True):
            graph.add_edges(offset, w)
        graph.maxflow()
        side = round((0.01 * source.size) ** (1 / source.ndim))
        where = np.zeros(source.shape, bool)
        where[tuple(slice(n // 2, n // 2 + side) for n in source.shape)] = True
        at = np.nonzero(where)
        change = np.full(len(at[0]), 2000 if source.dtype.kind == "i" else 2).astype(dtype)
        sign = iter(range(10**9))

        def again():  # there and back
            graph.change_terminal(change * dtype(1 - 2 * (next(sign) % 2)), 0, at=at)
            return graph.maxflow()

        def fresh():
            changed = source + np.where(where, change[0], dtype(0))
            return ms.maxflow_grid(changed, sink, weights)[0]

        return source, {"medseg_fast": again, "medseg_fast, fresh": fresh}

    return build


def _cases():
    from _cases import Case

    def case(name, neighbours, dtype, smoothness, target):
        title = f"{name}, {neighbours}-connected, smoothness {smoothness}, {np.dtype(dtype)}"
        build = _fresh(name, neighbours, smoothness, dtype)
        return Case("maxflow_grid", title, build, same=_same, target=target)

    def again(name, neighbours, smoothness):
        build = _again(name, neighbours, smoothness, np.int32)
        title = f"{name}, {neighbours}-connected, 1 % of terminals changed"
        differs = {"medseg_fast, fresh": "after every second change only"}
        return Case("GridGraph.maxflow again", title, build, differs=differs, target=10)

    return [
        case("photograph 512^2", 4, np.int32, 1, 2.5),
        case("photograph 512^2", 4, np.float32, 1, 2.5),
        case("photograph 512^2", 8, np.int32, 1, 2.5),
        case("photograph 512^2", 4, np.int32, 20, 2.5),
        case("photograph 512^2", 8, np.int32, 20, 2.5),
        case("photograph 2 M", 4, np.int32, 1, 3),
        case("photograph 2 M", 8, np.int32, 1, 3),
        case("retina 2 M", 4, np.int32, 10, 3),
        case("retina 2 M", 8, np.int32, 10, 3),
        case("MNI152 1.1 M", 6, np.int32, 1, 2.5),
        case("MNI152 1.1 M", 6, np.float32, 1, 2.5),
        case("MNI152 1.1 M", 6, np.int32, 10, 2.5),
        case("MNI152 1.1 M", 26, np.int32, 1, 2.5),
        case("MNI152 8.7 M", 6, np.int32, 1, 2.5),
        again("photograph 2 M", 4, 10),
        again("MNI152 1.1 M", 6, 10),
    ]


def _time_numpymaxflow():
    """Its own capacities: terminals -log of class probabilities, weights from all channels."""
    import time

    import numpymaxflow

    for name in ("photograph 512^2", "MNI152 1.1 M"):
        image = _image(name)
        dark, bright, sigma = MODELS[name.split()[0]]
        near = np.exp(-np.abs(np.stack([image - dark, image - bright])) / (bright - dark))
        probability = (near / near.sum(0)).astype(np.float32)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            numpymaxflow.maxflow(image[None], probability, 1.0, float(sigma), 2 * image.ndim)
            times.append(time.perf_counter() - start)
        print(f"numpymaxflow, {name}: {1e3 * sorted(times)[3]:.1f} ms")


if __name__ == "__main__":
    if sys.argv[1:] == ["numpymaxflow"]:
        _time_numpymaxflow()
else:
    import pytest

    CASES = _cases()

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_maxflow(benchmark, case):
        _, calls = case.build()
        case.check(calls)
        benchmark(calls["medseg_fast"])
