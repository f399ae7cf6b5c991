"""`plan_training`: look at a data set, and propose how to train on it.

Rules after nnU-Net (F. Isensee et al., Nature Methods 18 (2021) 203-211): spacing and patch from
medians, intensities by modality, depth from the patch. Unlike it, what the machine can do in the
time that there is decides on width and steps. Needs no PyTorch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast.nn._training import config, dataset, survey
from medseg_fast.nn._training.budget import Choice, choose

_OP = "plan"
_IMAGES = ("images", "imagesTr", "image", "imgs", "img", "scans")
_LABELS = ("labels", "labelsTr", "masks", "label", "mask", "segmentations", "annotations")
_RARE, _TINY = 0.01, 0.001  # part of the pixels


@dataclass(frozen=True)
class TrainingPlan:
    """A configuration and why it is so; ``plan.text()`` is the file."""

    tables: Mapping[str, Mapping[str, Any]]
    notes: Mapping[str, str]
    head: str

    def text(self) -> str:
        """As TOML, the reasons as comments."""
        return config.text(self.tables, self.notes, self.head)


def plan_training(
    folder: str | os.PathLike[str],
    *,
    images: str | None = None,
    labels: str | None = None,
    modality: str | None = None,
    patch: int | Sequence[int] | None = None,
    memory_gb: float | None = None,
    minutes: float = 15.0,
    cores: int | None = None,
    beside: str | os.PathLike[str] | None = None,
) -> TrainingPlan:
    """Propose how to train a U-Net on a folder of images and labels.

    Parameters
    ----------
    folder : path-like
        Holds a folder of images and one of labels, whose files have the same names without endings.
    images, labels : str, optional
        Names of these. Default: the usual ones (``images`` or ``imagesTr``; ``labels``,
        ``masks``, ...).
    modality : {"ct", "other"}, optional
        CT is clipped to the range of the foreground, all else scaled to mean 0 and deviation 1,
        image by image. Default: CT where integers reach down to the value of air.
    patch : int or sequence of int, optional
        Pixels that the network sees. Default: the median size of the images, as far as it fits.
    memory_gb : float, optional
        What training may take. Default: half of the memory that is free.
    minutes : float, optional
        How long training may take, about.
    cores : int, optional
        Default: ``medseg_fast.get_num_threads()``.
    beside : path-like, optional
        Folder in which the file will lie: paths in it are relative to that. Default: `folder`.

    Returns
    -------
    plan : TrainingPlan
        ``plan.text()`` is a file that ``medseg-fast train`` takes.

    Raises
    ------
    ValueError
        If the folders are not found, or hold nothing that fits.

    Notes
    -----
    Looks at 40 cases at most, evenly spread. Memory and time are estimates for float32: activations
    of all layers, and 25 billion operations per second and core.
    """
    root = Path(folder)
    image_folder = _find(root, images, _IMAGES, "images")
    label_folder = _find(root, labels, _LABELS, "labels")
    facts = survey.look(dataset.pairs([image_folder], label_folder))
    if facts.ndim not in (2, 3):
        raise ValueError(f"{root}: images must have 2 or 3 axes, got {facts.ndim}")
    memory = (memory_gb * 1e9) if memory_gb is not None else _free_memory() / 2
    cores = cores or ms.get_num_threads()
    notes: dict[str, str] = {}

    spacing = _spacing(facts, notes)
    size = np.median(facts.shapes, axis=0)
    if spacing is not None and facts.spacings is not None:
        size = np.median(facts.shapes * facts.spacings / spacing, axis=0)
    network = choose(
        size,
        patch,
        channels=facts.channels,
        classes=len(facts.classes) + 1,
        memory=memory,
        cores=cores,
        seconds=60 * minutes,
    )
    place = Path(beside) if beside is not None else root
    tables = {
        "data": {
            "images": os.path.relpath(image_folder, place),
            "labels": os.path.relpath(label_folder, place),
            "target": _target(facts, notes),
            "normalise": _normalise(facts, modality, notes),
            "spacing": spacing,
            **_splits(facts, notes),
        },
        "network": _layers(facts, network, notes),
        "training": _steps(facts, network, notes),
        "loss": _loss(facts, notes),
        "augment": {"standard": True},
    }
    if patch is not None:
        notes["training.patch"] = "as asked"
    elif network.whole:
        notes["training.patch"] = "the median image"
    else:
        sizes = ", ".join(str(round(n)) for n in size)
        notes["training.patch"] = f"a part of the median image, {sizes}"
    config.checked(_OP, _without_none(tables))
    return TrainingPlan(tables, notes, _head(root, facts, memory, cores, minutes, network))


def _target(facts: survey.Facts, notes: dict[str, str]) -> str:
    """What the labels mean."""
    if facts.target == "instances":
        notes["data.target"] = "more labels than classes: objects, told apart by their seams"
    elif facts.target == "mask":
        notes["data.target"] = "inside and outside"
    return facts.target


def _splits(facts: survey.Facts, notes: dict[str, str]) -> dict[str, Any]:
    """Which cases are not learnt from."""
    alone = facts.cases == 1
    if alone:
        notes["data.validation"] = "there is one case only"
    return {
        "validation": 0 if alone else 0.2,
        "folds": 5 if facts.cases >= 10 else None if alone else facts.cases,
    }


def _layers(facts: survey.Facts, network: Choice, notes: dict[str, str]) -> dict[str, Any]:
    notes["network.widths"] = f"{len(network.widths) - 1} halvings: the patch is then 4 to 8 across"
    return {
        "name": "unet",
        "widths": list(network.widths),
        "padding": "same",
        "norm": "instance" if facts.ndim == 3 else "batch",
        "design": "2015",
    }


def _steps(facts: survey.Facts, network: Choice, notes: dict[str, str]) -> dict[str, Any]:
    rarest = _rarest(facts)
    notes["training.steps"] = f"about {network.seconds:.2g} s each"
    notes["training.batch"] = f"about {network.bytes / 1e9:.2g} GB"
    notes["training.foreground"] = f"the rarest class has {rarest:.3%} of the pixels"
    notes["training.average"] = "few cases: the mean of the last weights is steadier"
    return {
        "steps": network.steps,
        "batch": network.batch,
        "patch": list(network.patch),
        "foreground": 0.67 if rarest < _RARE else 0.5,
        "optimiser": "adamw",
        "rate": 1e-3,
        "schedule": "cosine",
        "warmup": max(1, network.steps // 50),
        "clip": 1.0,
        "average": 0.99 if facts.cases < 50 else None,
        "every": max(1, network.steps // 20),
        "seed": 0,
    }


def _loss(facts: survey.Facts, notes: dict[str, str]) -> dict[str, float]:
    if not 0 < _rarest(facts) < _TINY:
        return {"cross_entropy": 1.0, "dice": 1.0}
    notes["loss.tversky"] = "tiny targets: what is missed costs more than what is invented"
    return {"focal": 1.0, "tversky": 1.0}


def _rarest(facts: survey.Facts) -> float:
    """Of all pixels the share of the rarest class."""
    return min(facts.classes.values(), default=0.0)


def _without_none(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """As a file has them."""
    return {n: {k: v for k, v in t.items() if v is not None} for n, t in tables.items()}


def _find(root: Path, asked: str | None, usual: Sequence[str], what: str) -> Path:
    if asked is not None:
        if not (root / asked).is_dir():
            raise FileNotFoundError(f"{root / asked}: no such folder")
        return root / asked
    found = next((root / name for name in usual if (root / name).is_dir()), None)
    if found is None:
        there = sorted(path.name for path in root.iterdir() if path.is_dir()) or ["no folder"]
        raise ValueError(
            f"{root}: no folder of {what} ({', '.join(usual)}); there is {', '.join(there)}: give "
            f"--{what}"
        )
    return found


def _spacing(facts: survey.Facts, notes: dict[str, str]) -> list[float] | None:
    """The median; along an axis three times coarser than the others the finest tenth."""
    if facts.spacings is None or facts.ndim == 2:
        return None
    median = np.median(facts.spacings, axis=0)
    coarse = int(np.argmax(median))
    if median[coarse] > 3 * np.delete(median, coarse).max():
        median[coarse] = np.percentile(facts.spacings[:, coarse], 10)
        notes["data.spacing"] = "mm; planes lie far apart: the finest tenth of the cases"
    else:
        notes["data.spacing"] = "mm; the median"
    return [round(float(mm), 4) for mm in median]


def _normalise(
    facts: survey.Facts, modality: str | None, notes: dict[str, str]
) -> str | list[float]:
    is_ct = facts.integer and facts.low <= -500 if modality is None else modality == "ct"
    if not is_ct:
        notes["data.normalise"] = "mean 0, deviation 1, image by image"
        return "zscore"
    low, high = (float(round(value)) for value in facts.inside)
    notes["data.normalise"] = "CT: 0.5 to 99.5 per cent of the foreground"
    return [low, max(high, low + 1)]


def _free_memory() -> float:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return 8e9


def _head(
    root: Path, facts: survey.Facts, memory: float, cores: int, minutes: float, choice: Choice
) -> str:
    kinds = ", ".join(f"{value}: {part:.2%}" for value, part in list(facts.classes.items())[:12])
    shape = " x ".join(str(round(n)) for n in np.median(facts.shapes, axis=0))
    least, most = facts.shapes.min(0), facts.shapes.max(0)
    span = ", ".join(f"{a} to {b}" for a, b in zip(least, most, strict=True))
    lines = [
        f"Plan for {root.absolute().name}: {facts.cases} cases, {facts.ndim}D, "
        f"{facts.channels} channel{'s' if facts.channels > 1 else ''}, median {shape} pixels "
        f"({span}).",
        f"Classes and their part of the pixels: {kinds or 'none'}.",
    ]
    if facts.spacings is not None:
        mm = " x ".join(f"{n:g}" for n in np.round(np.median(facts.spacings, axis=0), 3))
        lines.append(f"Median spacing: {mm} mm.")
    lines.append(
        f"For {cores} core{'s' if cores > 1 else ''}, {memory / 1e9:.1f} GB and {minutes:g} minutes"
        f" (about {choice.steps * choice.seconds / 60:.0f} needed)."
    )
    return "\n".join(lines)
