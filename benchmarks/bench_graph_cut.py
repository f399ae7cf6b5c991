"""Segmentation by cuts: seeds, brush strokes, GrabCut, many labels, graphs that are no grids.

Rivals as in bench_maxflow.py: run where they can be imported. OpenCV's is in the extra.
"""

from __future__ import annotations

import importlib

import numpy as np
from _cases import Case
from _data import mni152, photograph


def _installed(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _same_energy(unary, pairwise):
    """Both labellings are local minima; a thousandth apart at most."""
    import medseg_fast as ms

    def same(ours, theirs):
        energies = [ms.labelling_energy(unary, pairwise, labels) for labels in (ours, theirs)]
        assert energies[0] <= 1.001 * energies[1], energies

    return same


def _same_cut(ours, theirs):
    assert ours[0] == theirs[0]
    np.testing.assert_array_equal(ours[1], theirs[1])


def _labels_case(name, pairwise, dtype):
    import medseg_fast as ms

    image = photograph("512x512", np.float64)
    unary = ((image[..., None] - np.linspace(20, 235, 8)) / 20) ** 2
    costs = {"Potts": ms.potts(8, 2), "truncated linear": ms.truncated_linear(8, 1, 4)}[pairwise]
    if dtype == np.int64:
        unary, costs = unary * 100, costs * 100
    unary, costs = unary.astype(dtype), costs.astype(dtype)

    def build():
        calls = {"medseg_fast": lambda: getattr(ms, name)(unary, costs)}
        if maxflow := _installed("maxflow"):
            rival = {"alpha_expansion": "aexpansion_grid", "alpha_beta_swap": "abswap_grid"}[name]
            calls["PyMaxflow"] = lambda: getattr(maxflow.fastmin, rival)(unary, costs)
        if unary.dtype.kind == "i" and (bkgco := _installed("bkgco")):  # floats: it does not end

            def theirs():
                graph = bkgco.GCO.grid(image.shape, 8, dtype=unary.dtype)
                graph.set_data_cost(unary)
                graph.set_smooth_cost(costs)
                graph.set_labeling(unary.argmin(-1).astype(np.int32).ravel())
                graph.expansion() if name == "alpha_expansion" else graph.swap()
                return graph.get_labeling().reshape(image.shape)

            calls["bkgco"] = theirs
        return image, calls

    title = f"photograph 512^2, 8 labels, {pairwise}, {np.dtype(dtype)}"
    return Case(name, title, build, same=_same_energy(unary, costs), target=2)


def _head_seeds():
    image = np.ascontiguousarray(mni152(np.float32)[::2, ::2, ::2])
    foreground, background = np.zeros((2, *image.shape), bool)
    foreground[40:50, 50:60, 40:50] = True
    background[:3] = background[:, :3] = True
    return image, foreground, background


def _seeded():
    def build():
        import medseg_fast as ms

        image, foreground, background = _head_seeds()
        return image, {"medseg_fast": lambda: ms.graph_cut(image, foreground, background)}

    return Case("graph_cut", "MNI152 1.1 M, 6-connected", build)


def _slabs():
    """The whole head by 32 planes, a quarter of its memory, beside all at once."""

    def build():
        import medseg_fast as ms

        image = mni152(np.float32)
        foreground, background = np.zeros((2, *image.shape), bool)
        foreground[80:100, 100:120, 80:100] = True
        background[:6] = background[:, :6] = True
        return image, {
            "medseg_fast": lambda: ms.graph_cut(image, foreground, background, slab=32),
            "medseg_fast, at once": lambda: ms.graph_cut(image, foreground, background),
        }

    return Case("graph_cut", "MNI152 8.7 M, 6-connected, slabs of 32", build)


def _strokes():
    """1 % of the voxels, there and back; the rival is the same from scratch."""

    def build():
        import medseg_fast as ms

        image, foreground, background = _head_seeds()
        stroke = np.zeros(image.shape, bool)
        stroke[30:52, 70:92, 20:43] = True
        session = ms.GraphCutSession(image)
        session.add_seeds(foreground, background)
        session.mask()
        turns = iter(range(10**9))

        def again():
            if next(turns) % 2:
                session.remove_seeds(stroke)
            else:
                session.add_seeds(stroke)
            return session.mask()

        def fresh():
            return ms.graph_cut(image, foreground | stroke, background)

        return image, {"medseg_fast": again, "medseg_fast, fresh": fresh}

    differs = {"medseg_fast, fresh": "after every second stroke only"}
    title = "MNI152 1.1 M, stroke of 1 %"
    return Case("GraphCutSession.mask", title, build, differs=differs, target=10)


def _regions():
    """Seeds alone, the hard case; basins are made before, as for a preview."""

    def build():
        import medseg_fast as ms

        image, foreground, background = _head_seeds()
        basins = ms.watershed(ms.morphological_gradient(image, 3))
        seeds = {"foreground_seeds": foreground, "background_seeds": background, "region": None}
        return image, {
            "medseg_fast": lambda: ms.graph_cut_regions(image, regions=basins, band=2, **seeds),
            "medseg_fast, all voxels": lambda: ms.graph_cut(image, **seeds),
        }

    differs = {"medseg_fast, all voxels": "the exact cut"}
    title = "MNI152 1.1 M, seeds alone, band of 2"
    return Case("graph_cut_regions", title, build, differs=differs)


def _port():
    """A program written for PyMaxflow, with either import."""

    def build():
        from medseg_fast import pymaxflow

        image = photograph("512x512", np.float64)
        source, sink = (((image - c) ** 2 / 3).astype(np.int64) for c in (60, 170))
        weights = (200 / (1 + np.abs(np.gradient(image)[0]))).astype(np.int64)

        def program(maxflow):
            graph = maxflow.Graph[int](image.size, 2 * image.size)
            nodes = graph.add_grid_nodes(image.shape)
            graph.add_grid_edges(nodes, weights, symmetric=True)
            graph.add_grid_tedges(nodes, source, sink)
            return graph.maxflow(), graph.get_grid_segments(nodes)

        calls = {"medseg_fast": lambda: program(pymaxflow)}
        if maxflow := _installed("maxflow"):
            calls["PyMaxflow"] = lambda: program(maxflow)
        return image, calls

    return Case("pymaxflow", "photograph 512^2, 4-connected", build, same=_same_cut, target=2.5)


def _grab_cut():
    def build():
        import cv2
        from skimage import data

        import medseg_fast as ms

        image = np.ascontiguousarray(data.astronaut())
        box, rect = ((10, 490), (50, 350)), (50, 10, 300, 480)

        def theirs():
            mask, models = np.zeros(image.shape[:2], np.uint8), np.zeros((2, 1, 65))
            cv2.grabCut(image, mask, rect, *models, 5, cv2.GC_INIT_WITH_RECT)
            return mask % 2 == 1

        return image, {
            "medseg_fast": lambda: ms.grab_cut(image, box, channel_axis=-1),
            "OpenCV": theirs,
        }

    def same(ours, theirs):
        assert 2 * np.count_nonzero(ours & theirs) > 0.98 * (ours.sum() + theirs.sum())

    return Case("grab_cut", "astronaut 512^2, 5 iterations", build, same=same, target=5)


def _sparse():
    """The photograph's grid as a graph of edges; index arrays are made before."""

    def build():
        import medseg_fast as ms

        image = photograph("512x512", np.float64)
        number = np.arange(image.size).reshape(image.shape)
        pairs = [(number[1:], number[:-1]), (number[:, 1:], number[:, :-1])]
        i, j = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
        contrast = (image.flat[i] - image.flat[j]) ** 2
        capacity = (1000 * np.exp(-contrast / 450)).astype(np.int64)
        source, sink = (((image - c) ** 2 / 3).astype(np.int64).ravel() for c in (60, 170))

        def ours():
            graph = ms.Graph(image.size)
            graph.add_edge(i, j, capacity)
            graph.add_terminal(source, sink)
            return graph.maxflow(), graph.segments()

        calls = {"medseg_fast": ours}
        if maxflow := _installed("maxflow"):

            def theirs():
                graph = maxflow.Graph[int](image.size, 2 * len(i))
                nodes = graph.add_nodes(image.size)
                graph.add_edges(i, j, capacity, capacity)
                graph.add_grid_tedges(nodes, source, sink)
                return graph.maxflow(), graph.get_grid_segments(nodes)

            calls["PyMaxflow"] = theirs
        return image, calls

    return Case("Graph", "photograph 512^2 as edges", build, same=_same_cut, target=1)


CASES = [
    _labels_case("alpha_expansion", "Potts", np.float64),
    _labels_case("alpha_expansion", "Potts", np.int64),
    _labels_case("alpha_expansion", "truncated linear", np.float64),
    _seeded(),
    _slabs(),
    _strokes(),
    _grab_cut(),
    _sparse(),
    _port(),
    _regions(),
]


def test_graph_cut(benchmark):
    _, calls = CASES[0].build()
    CASES[0].check(calls)
    benchmark(calls["medseg_fast"])
