"""A run on disk: one file that holds all of it, whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from medseg_fast.io._common import replacing
from medseg_fast.nn._training.identity import difference

NAME = "checkpoint.pt"
_VERSION = 2


class OtherRun(ValueError):
    """A folder's checkpoint is not of this run; `what` says why, without what may be done."""

    def __init__(self, what: str) -> None:
        super().__init__(f"fit: {what}: give another folder, or resume=False to begin anew")
        self.what = what


def same_run(path: Path, began: Any, now: Any) -> None:
    """Refuse to go on with settings that are not those with which the run of a file began."""
    if (found := difference(began, now)) is not None:
        name, was, given = found
        raise OtherRun(f"{path} is of a run with {name}={was!r}, this one has {given!r}")


def write(folder: Path, state: Mapping[str, Any]) -> None:
    """Tensors, numbers and texts; the old checkpoint is there until the new one is on disk."""
    with replacing(folder / NAME, overwrite=True) as file:
        torch.save({"version": _VERSION, **state}, file)


def read(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of a folder, None where there is none yet.

    Raises
    ------
    OtherRun
        If it is damaged, or of a run with other settings, which could not end the same.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OtherRun(f"{path}: not a checkpoint of a run: {first}") from None
    if not isinstance(state, dict) or state.get("version") != _VERSION:
        raise OtherRun(f"{path}: not a checkpoint of a run of this version")
    same_run(path, state["settings"], settings)
    return state
