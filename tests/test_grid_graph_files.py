from __future__ import annotations

import numpy as np
import pytest
from _grids import FLOATS, INTEGERS, assert_minimum, graph_of, random_grid

import medseg_fast as ms


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_saved_graphs_go_on_alike(rng, dtype, tmp_path):
    source, sink, pairs = random_grid(rng, (5, 6, 4), 2, dtype)
    for solved in (False, True):
        graph = graph_of(source, sink, pairs, 2)
        if solved:
            graph.maxflow()
        graph.save(tmp_path / "graph.npz")  # the second time over the first
        other = ms.GridGraph.load(tmp_path / "graph.npz")
        assert repr(other) == repr(graph)
        assert [p.name for p in tmp_path.iterdir()] == ["graph.npz"]
        other.add_terminal(5, 0)
        assert_minimum(other, source + dtype(5), sink, pairs)


def test_files_that_are_no_graph(tmp_path):
    with pytest.raises(FileNotFoundError):
        ms.GridGraph.load(tmp_path / "none.npz")
    with pytest.raises(FileNotFoundError):
        ms.GridGraph((2, 2)).save(tmp_path / "no folder" / "graph.npz")
    path = tmp_path / "graph.npz"
    for content in (b"", b"PK\x03\x04", b"text"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="must be a file written by save"):
            ms.GridGraph.load(path)
    ms.GridGraph((2, 3)).save(path)
    with np.load(path) as file:
        arrays = dict(file)
    for name, value in (
        ("format", np.array("other")),
        ("connectivity", np.array(7)),
        ("left_1", np.zeros((3, 3), np.int32)),
        ("left_1", np.full((2, 3), -1, np.int32)),
        ("left_0", np.zeros((2, 3), "U1")),
        ("edge_bounds", np.zeros(1)),
    ):
        np.savez(path, **{**arrays, name: value})
        with pytest.raises(ValueError, match="must be a file written by save"):
            ms.GridGraph.load(path)
    np.savez(path, a=np.zeros(3))
    with pytest.raises(ValueError, match="must be a file written by save"):
        ms.GridGraph.load(path)
