"""A run on disk: one file that holds all of it, whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medseg_fast.io._common import replacing

NAME = "checkpoint.pt"
_VERSION = 1


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Tensors, numbers and texts; the old checkpoint is there until the new one is on disk."""
    with replacing(folder / NAME, overwrite=True) as file:
        torch.save({"version": _VERSION, **state}, file)


def read(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of a folder, None where there is none yet.

    Raises
    ------
    ValueError
        If it is damaged, or of a run with other settings, which could not end the same.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"fit: {path}: not a checkpoint of a run: {first}") from None
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise ValueError(f"fit: {path}: not a checkpoint of a run of this version")
    for name, value in settings.items():
        if state["settings"].get(name) != value:
            raise ValueError(
                f"fit: {path} is of a run with {name}={state['settings'].get(name)!r}, this one "
                f"has {value!r}: give another folder, or resume=False to begin anew"
            )
    return state
