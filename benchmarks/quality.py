"""How well the networks learn and the classical methods segment, on real images with ground truth:
``python benchmarks/quality.py [--only ROW ...] [--seeds N]`` rewrites quality.md.

Networks are trained by the recipes of `medseg_fast/nn/recipes`, one command each, and measured on
the cases that the recipe keeps apart; several seeds give a mean and Student's 95 % interval. The
classical methods get three clicks: two corners of a box and a pixel inside (_clicks.py). Every
result goes into quality.json at once, and a run that was stopped goes on from its checkpoint, so
this may be stopped and started at will; what is there is not done again (--again does).

The images are those of MEDSEG_FAST_DATA (see tests/conftest.py).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import _clicks  # noqa: E402
import _clicks_peers  # noqa: E402
import _scribbles  # noqa: E402
from _machine import describe  # noqa: E402

import medseg_fast as ms  # noqa: E402
from medseg_fast import io  # noqa: E402
from medseg_fast._app.train import Job  # noqa: E402
from medseg_fast._app.train import run as train  # noqa: E402
from medseg_fast.nn._threads import torch_threads  # noqa: E402
from medseg_fast.nn._training import config  # noqa: E402

STORE, PAGE = HERE / "quality.json", HERE / "quality.md"
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}  # 97.5 %, by seeds - 1


@dataclass(frozen=True)
class Row:
    """A figure to reach: on which set, by what, and how much."""

    name: str
    task: str
    reference: str
    bars: dict[str, float]  # figure: at least, NaN where it is only told
    recipe: str = ""  # of a network, else it is a classical row
    data: str = ""  # folder
    changes: dict[str, Any] = field(default_factory=dict)  # of the recipe: "table.key"
    scribbles: bool = False  # to learn from, instead of the labels


def _network(name: str, recipe: str, task: str, reference: str, **bars: float) -> Row:
    data = config.read(config.recipes()[recipe]).path.stem
    folder = next(f for f in _FOLDERS if data.startswith(f))
    return Row(name, task, reference, bars, recipe, folder)


_LESS = "all labels: within 0.04"
_FOLDERS = (
    "nuclei_dsb2018 retina_chase_db1 mr_hippocampus endoscopy_larynx dermoscopy_isic2017 "
    "us_breast_busi us_muscle_aponeurosis sem_axon_myelin"
).split()
ROWS = [
    _network(
        "nuclei", "nuclei_dsb2018", "U-Net and watershed", "Otsu: Dice 0.84", dice=0.92, ap50=0.80
    ),
    _network(
        "nuclei_mask_rcnn",
        "nuclei_dsb2018_mask_rcnn",
        "Mask R-CNN",
        "Otsu: Dice 0.84",
        ap50=0.80,
        dice=math.nan,
    ),
    Row(
        "nuclei_tenth",
        "U-Net from a tenth of the images",
        _LESS,
        {},
        "nuclei_dsb2018",
        "nuclei_dsb2018",
        {"data.keep": 0.1},
    ),
    Row(
        "nuclei_scribbles",
        "U-Net from a stroke in each nucleus and between them",
        _LESS,
        {},
        "nuclei_dsb2018",
        "nuclei_dsb2018",
        {"data.target": "mask"},
        scribbles=True,
    ),
    _network(
        "retina", "retina_chase_db1", "U-Net", "second observer 0.777, U-Net 0.807", dice=0.79
    ),
    _network("hippocampus_unet", "mr_hippocampus", "3D U-Net", "U-Net 0.896", dice=0.86),
    _network("hippocampus_vnet", "mr_hippocampus_vnet", "V-Net", "U-Net 0.896", dice=0.86),
    _network("larynx_pspnet", "endoscopy_larynx_pspnet", "PSPNet", "IoU 0.847", iou=0.75),
    _network("larynx_segnet", "endoscopy_larynx_segnet", "SegNet", "IoU 0.847", iou=0.75),
    _network(
        "dermoscopy", "dermoscopy_isic2017", "U-Net", "Otsu: Dice 0.49; winner 0.765", jaccard=0.68
    ),
    _network("axon_fcn", "sem_axon_myelin_fcn", "FCN-8s", "", dice=math.nan),
    _network("axon_lenet", "sem_axon_myelin_lenet", "LeNet-5, every pixel", "", dice=math.nan),
    _network("breast", "us_breast_busi", "U-Net", "Otsu: Dice 0.19", dice=0.60),
    _network("muscle", "us_muscle_aponeurosis", "U-Net", "Otsu: Dice 0.23", dice=0.65),
    *(
        Row(name, "three clicks", "", {"dice": bar}, data=name)
        for name, bar in (
            ("mr_brain_tumour", 0.85),
            ("ct_lung_tumour", 0.85),
            ("mr_spinal_cord", 0.85),
            ("us_carotid", 0.80),
        )
    ),
]


def learnt(
    row: Row, data: Path, work: Path, seed: int, steps: int | None, restart: bool
) -> tuple[dict[str, float], float]:
    """Train by the recipe; the figures of the test, and how long it took."""
    path = config.recipes()[row.recipe]
    if row.changes:
        tables = config.checked(row.name, _tables(path, row.changes))
        if row.scribbles:
            labels = work / row.name
            if not labels.exists():
                _scribbles.write_labels(data / row.data, labels, tables["data"]["test"])
            tables["data"]["labels"] = str(labels.absolute())
        path = work / f"{row.name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(config.text(tables, {}), encoding="utf-8")
    folder = work / f"{row.name}_{seed}"
    job = Job(path, folder, data / row.data, restart=restart, steps=steps, seed=seed)
    (report,) = train(job, say=lambda line: print(f"  {line}", flush=True))
    figures = dict(report["test"]["mean"])
    if report["validation"] is not None:
        figures["validation"] = report["validation"]
    return figures, report["seconds"]


def _tables(path: Path, changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    read = config.read(path)
    tables = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in read.tables.items()
    }
    for name, value in changes.items():
        table, _, key = name.partition(".")
        tables[table][key] = value
    return tables


def clicked(row: Row, data: Path) -> dict[str, float]:
    """Dice of every classical method, the mean over the set's images."""
    folder = data / row.data
    if row.data == "us_carotid":
        pairs = [(p, folder / "masks" / p.name) for p in sorted((folder / "images").iterdir())]
    else:
        endings = ("_cord", "_tumour")
        masks = [p for p in sorted(folder.iterdir()) if any(e in p.name for e in endings)]
        pairs = [(_image_of(mask), mask) for mask in masks]
    every: dict[str, list[float]] = {}
    for image, mask in pairs:
        scan, truth = io.read(image), io.read(mask).array
        array = scan.array if "c" not in scan.axes else scan.array[..., :3].mean(-1)
        truth = truth if truth.ndim == array.ndim else truth[..., 0]
        spacing = scan.spacing if scan.has_geometry else (1.0,) * array.ndim
        methods = {**_clicks.METHODS, **_clicks_peers.PEERS}
        for name, dice in _clicks.scores(array, truth, tuple(spacing), methods).items():
            every.setdefault(name, []).append(dice)
    means = {name: float(np.mean(values)) for name, values in every.items()}
    ours = max(means[name] for name in _clicks.METHODS if not name.startswith("("))
    peers = max(means[name] for name in _clicks_peers.PEERS)
    return {"dice": ours, "peer": peers, **{f"by {n}": value for n, value in means.items()}}


def _image_of(mask: Path) -> Path:
    for old, new in (("_cord", ""), ("_tumour", "_image")):
        if old in mask.name:
            return mask.with_name(mask.name.replace(old, new))
    raise ValueError(f"{mask}: no image for it")


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of Student's 95 % interval (0 of a single value)."""
    if len(values) < 2:
        return values[0], 0.0
    t = STUDENT.get(len(values) - 1, 2.0)
    return float(np.mean(values)), t * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def render(results: dict[str, Any]) -> str:
    """The page."""
    lines = ["# Quality on real images", "", __doc__.split("\n\n")[1].replace("\n", " "), ""]
    lines += ["| row | task | figure | reached | at least | reference | seeds | minutes |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    notes = []
    usual = _usual_machine(results["rows"])
    for row in ROWS:
        runs = list(results["rows"].get(row.name, {}).values())
        if not runs:
            continue
        timed = [r["seconds"] for r in runs if r["machine"] == usual]
        minutes = f"{np.mean(timed) / 60:.1f}" if timed else ""
        figures = row.bars or {"dice": _tenth(results)}
        for number, (figure, bar) in enumerate(figures.items()):
            mean, half = interval([r["figures"][figure] for r in runs])
            reached = f"{mean:.3f}" + (f" ± {half:.3f}" if len(runs) > 1 else "")
            mark = "" if math.isnan(bar) else f"{bar:.3f}" + ("" if mean >= bar else " (missed)")
            cells = [row.name, row.task] if number == 0 else ["", ""]
            reference = row.reference
            if not row.recipe:
                reference = f"best peer {runs[0]['figures']['peer']:.3f}"
            cells += [figure, reached, mark, reference, str(len(runs)), minutes]
            lines.append("| " + " | ".join(cells) + " |")
        if not row.recipe:
            methods = {n[3:]: v for n, v in runs[0]["figures"].items() if n.startswith("by ")}
            listed = sorted(methods.items(), key=lambda item: -item[1])
            notes.append(f"- {row.name}: " + ", ".join(f"{n} {v:.3f}" for n, v in listed))
        else:
            others = [f for f in runs[0]["figures"] if f not in figures]
            means = (f"{f} {interval([r['figures'][f] for r in runs])[0]:.3f}" for f in others)
            notes.append(f"- {row.name}: " + ", ".join(means))
    lines += ["", "Each method by three clicks, and further figures of the networks:", "", *notes]
    return "\n".join([*lines, "", "Measured on:", "", *_machines(results["rows"], usual), ""])


def _usual_machine(rows: dict[str, Any]) -> str:
    runs = Counter(run["machine"] for seeds in rows.values() for run in seeds.values())
    return runs.most_common(1)[0][0]


def _machines(rows: dict[str, Any], usual: str) -> list[str]:
    others: dict[str, list[str]] = {}
    for row, seeds in rows.items():
        for seed, run in seeds.items():
            if run["machine"] != usual:
                others.setdefault(run["machine"], []).append(f"{row} (seed {seed})")
    told = [f"- {usual}: all minutes, and all figures but those below"]
    return told + [f"- {machine}: {', '.join(listed)}" for machine, listed in others.items()]


def _tenth(results: dict[str, Any]) -> float:
    whole = results["rows"].get("nuclei", {}).values()
    return interval([r["figures"]["dice"] for r in whole])[0] - 0.04 if whole else math.nan


def stored() -> dict[str, Any]:
    """What has been measured."""
    found: dict[str, Any] = json.loads(STORE.read_text()) if STORE.exists() else {"rows": {}}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=[r.name for r in ROWS], metavar="ROW")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--work", type=Path, default=HERE / ".quality", help="checkpoints")
    parser.add_argument("--threads", type=int, default=ms.get_num_threads())
    parser.add_argument("--again", action="store_true", help="what is there, from its first step")
    parser.add_argument("--steps", type=int, help="a short run to try; nothing is recorded")
    asked = parser.parse_args()
    if asked.seeds < 1:
        parser.error(f"--seeds must be how many there are, at least 1, got {asked.seeds}")
    data = Path(os.environ.get("MEDSEG_FAST_DATA", HERE.parents[1] / "shared" / "data"))
    if not data.is_dir():
        sys.exit(f"no real images at {data} (set MEDSEG_FAST_DATA)")
    results = stored()
    work = asked.work / f"steps{asked.steps}" if asked.steps else asked.work
    with ms.num_threads(asked.threads), torch_threads(asked.threads):
        for row in ROWS:
            if asked.only and row.name not in asked.only:
                continue
            for seed in range(asked.seeds if row.recipe else 1):
                there = results["rows"].setdefault(row.name, {})
                if str(seed) in there and not asked.again and not asked.steps:
                    continue
                print(f"{row.name}, seed {seed}", flush=True)
                if row.recipe:
                    figures, seconds = learnt(row, data, work, seed, asked.steps, asked.again)
                else:
                    start = time.perf_counter()
                    figures, seconds = clicked(row, data), round(time.perf_counter() - start, 1)
                print("  " + ", ".join(f"{n} {v:.4f}" for n, v in figures.items()), flush=True)
                if asked.steps:
                    continue
                results = stored()  # another process may have added to it
                there = results["rows"].setdefault(row.name, {})
                there[str(seed)] = {"figures": figures, "seconds": seconds, "machine": describe()}
                STORE.write_text(json.dumps(results, indent=1) + "\n")
                PAGE.write_text(render(results))
    if not asked.steps and STORE.exists():
        PAGE.write_text(render(stored()))


if __name__ == "__main__":
    main()
