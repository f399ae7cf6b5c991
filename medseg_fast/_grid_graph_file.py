"""A `GridGraph` in a file of NumPy's: capacities that are left, and the flow."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast._grid_arguments import grid_offsets

_FORMAT = "medseg_fast.GridGraph 1"


def write(path: Path, state: Mapping[str, Any]) -> None:
    """What `GridGraph.__getstate__` gives; an existing file is replaced once all is written."""
    from medseg_fast.io._common import replacing

    arrays = {f"left_{k}": array for k, array in enumerate(state["left"])}
    with replacing(path, overwrite=True) as file:
        np.savez(
            file,
            format=np.array(_FORMAT),
            connectivity=np.array(state["connectivity"]),
            flow_integer=np.array(state["flow"][0]),
            flow_float=np.array(state["flow"][1]),
            terminal_bound=np.array(state["_terminal_bound"]),
            edge_bounds=np.array(state["_edge_bounds"]),
            **arrays,
        )


def read(path: Path) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Shape, connectivity and dtype of the graph, and what its state has that a new one has not.

    Raises
    ------
    ValueError
        If the file holds no graph.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            if file["format"].item() != _FORMAT:
                raise ValueError(f"format {file['format']}")
            first, connectivity = file["left_0"], file["connectivity"].item()
            count = len(grid_offsets(first.ndim, connectivity))
            left = [first, *(file[f"left_{k + 1}"] for k in range(2 * count))]
            if any(a.shape != first.shape or a.dtype != first.dtype for a in left):
                raise ValueError("arrays that do not fit")
            if any(not (a >= 0).all() for a in left[1:]) or not np.isfinite(first).all():
                raise ValueError("capacities that are negative or not finite")
            state = {
                "left": left,
                "flow": (file["flow_integer"].item(), file["flow_float"].item()),
                "_terminal_bound": file["terminal_bound"].item(),
                "_edge_bounds": file["edge_bounds"].tolist(),
            }
            if len(state["_edge_bounds"]) != count:
                raise ValueError("arrays that do not fit")
    except (ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"GridGraph.load: {path} must be a file written by save, got {error}"
        ) from error
    return (first.shape, connectivity, first.dtype), state
