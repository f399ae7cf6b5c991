"""`medseg-fast train`: from a configuration to a model file and its figures."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast._app import files
from medseg_fast.nn._training import build
from medseg_fast.nn._training import config as configs
from medseg_fast.nn._training.config import Config
from medseg_fast.nn._training.dataset import Case, Split

Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What `medseg-fast train` was asked to do."""

    config: Path
    output: Path | None = None
    data: Path | None = None
    fold: str | None = None
    steps: int | None = None
    seed: int | None = None
    device: str | None = None
    restart: bool = False
    progress: bool = False


def run(job: Job, say: Say | None = None) -> list[dict[str, Any]]:
    """Train once, or once per fold; a report for each, none in processes but the first."""
    from medseg_fast.nn._training.checkpoint import OtherRun

    path = configs.find(job.config)
    config = configs.read(path, job.data)
    training = dict(config["training"])
    if job.steps is not None:
        training.update(steps=job.steps, epochs=None)
    if job.seed is not None:
        training["seed"] = job.seed
    config = replace(config, tables={**config.tables, "training": training})
    recipe = path != job.config  # it lies in the package, where nothing is to be written
    output = job.output or (Path(path.stem) if recipe else path.with_suffix(""))
    folds = _folds(config, job.fold)
    device = _device(job.device)
    with _processes() as first:
        talk: Say = say if say is not None and first else lambda line: None
        reports = []
        for fold in folds:
            folder = output if fold is None else output / f"fold_{fold}"
            try:
                reports.append(_train(job, config, folder, fold, talk, first, device))
            except OtherRun as error:
                raise ValueError(
                    f"{error.what}: give another folder, or --restart to begin anew"
                ) from None
    return reports if first else []


def _folds(config: Config, asked: str | None) -> list[int | None]:
    count = config["data"]["folds"]
    if asked is None:
        return [None]
    if count is None:
        raise ValueError(f"{config.path.name}: data.folds is missing, which --fold needs")
    if asked == "all":
        return list(range(count))
    if not asked.isdigit() or int(asked) >= count:
        raise ValueError(f"--fold must be from 0 to {count - 1}, or all, got {asked!r}")
    return [int(asked)]


@contextmanager
def _processes() -> Iterator[bool]:
    """Join the other processes where torchrun has started several; whether this is the first."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield True
        return
    import torch
    from torch import distributed

    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield distributed.get_rank() == 0
    finally:
        distributed.destroy_process_group()


@dataclass(frozen=True)
class _Run:
    """A training, once its cases are read and its network is made."""

    job: Job
    config: Config
    folder: Path
    fold: int | None
    parts: Split
    channels: int
    train: Sequence[Case]
    held: Sequence[Case]
    network: Any
    device: Any

    @property
    def training(self) -> Mapping[str, Any]:
        return self.config["training"]

    @property
    def common(self) -> dict[str, Any]:
        """What `fit` and `pretrain` are both told."""
        return {
            "seed": self.training["seed"],
            "device": self.device,
            "resume": not self.job.restart,
        }


def _train(
    job: Job, config: Config, folder: Path, fold: int | None, say: Say, first: bool, device: Any
) -> dict[str, Any]:
    started = time.perf_counter()
    this = _prepare(job, config, folder, fold, say, device)
    sampler = build.make_sampler(config, this.train)
    if first:
        _begin(config, this.parts, fold, folder, job.restart)
    if this.training["pretrain_steps"]:
        say(f"pre-training on hidden blocks, {this.training['pretrain_steps']} steps")
        _pretrain(this)
    before = time.perf_counter() - started
    result = _fit(this, sampler, say)
    trained = time.perf_counter()
    test = _save(this) if first else None
    # Of all sessions, where the training was interrupted.
    seconds = before + result.history[-1]["seconds"] + time.perf_counter() - trained
    report = _report(this, result, test, seconds)
    if first:
        with files.replacing(folder / "report.json") as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n")
    return report


def _prepare(
    job: Job, config: Config, folder: Path, fold: int | None, say: Say, device: Any
) -> _Run:
    training = config["training"]
    parts = build.read_split(config, fold)
    say(
        f"{len(parts.train)} cases to learn from, {len(parts.validation)} to validate, "
        f"{len(parts.test)} to test"
    )
    if training["patience"] is not None and not parts.validation:
        raise ValueError(f"{config.path.name}: training.patience needs data.validation")
    channels = build.channels_of(parts)
    train, held = (
        build.read_cases(config, some, channels) for some in (parts.train, parts.validation)
    )
    build.check_axes(config, train[0].label.ndim)
    classes = build.count_classes(config, (*train, *held))
    network = build.make_network(config, train[0], channels, classes)
    return _Run(job, config, folder, fold, parts, channels, train, held, network, device)


def _pretrain(this: _Run) -> None:
    from medseg_fast import nn

    nn.pretrain(
        this.network,
        [case.pixels for case in this.train],
        steps=this.training["pretrain_steps"],
        folder=this.folder / "pretrain",
        progress=this.job.progress,
        **{name: this.training[name] for name in ("batch", "patch", "rate")},
        **this.common,
    )


def _fit(this: _Run, sampler: Any, say: Say) -> Any:
    from medseg_fast import nn

    bar = this.job.progress and sys.stderr.isatty()
    return nn.fit(
        this.network,
        sampler,
        loss=build.make_loss(this.config),
        validation=[(case.pixels, case.label) for case in this.held] or None,
        rates=this.config["rates"] or None,
        folder=this.folder,
        progress=bar,
        # A bar on a terminal says the same.
        callbacks=[] if bar else [lambda network, row: say(_line(row))],
        **{name: this.training[name] for name in _FIT},
        **this.common,
    )


def _save(this: _Run) -> dict[str, Any] | None:
    """Write the model; its figures on the cases to test, if there are any."""
    from medseg_fast import nn

    data, network = this.config["data"], this.network
    facts = {"normalise": data["normalise"]}
    if this.config["network"]["name"] not in _WITHOUT_WINDOW:
        facts["window"] = this.training["patch"] or list(this.train[0].label.shape)
    if data["spacing"]:
        facts |= {"spacing": data["spacing"], "unit": data["unit"]}
    network.metadata |= {**facts, "target": data["target"]}
    nn.save_model(network, this.folder / _MODEL)
    if not this.parts.test:
        return None
    cases = build.read_cases(this.config, this.parts.test, this.channels)
    return build.figures(this.config, network, cases)


def _report(
    this: _Run, result: Any, test: Mapping[str, Any] | None, seconds: float
) -> dict[str, Any]:
    return {
        "config": str(this.config.path),
        "folder": str(this.folder),
        "fold": this.fold,
        "seed": this.training["seed"],
        "steps": result.steps,
        "stopped": result.stopped,
        "validation": result.best,
        "classes": 1 if this.network.metadata.get("structured") else this.network.classes,
        "cases": {name: [f.name for f in some] for name, some in this.parts._asdict().items()},
        **({} if test is None else {"test": test}),
        "model": str(this.folder / _MODEL),
        "seconds": round(seconds, 1),
    }


def _begin(config: Config, parts: Split, fold: int | None, folder: Path, restart: bool) -> None:
    """Write down what is learnt from what; refuse to go on where it was something else."""
    from medseg_fast.nn._training import checkpoint

    tables = {name: table for name, table in config.tables.items() if name != "predict"}
    cases = {name: [pair.name for pair in some] for name, some in parts._asdict().items()}
    facts = json.dumps({**tables, "fold": fold, "cases": cases}, indent=2, default=str)
    path = folder / "run.json"
    states = [place / checkpoint.NAME for place in (folder, folder / "pretrain")]
    if restart:
        for state in states:
            state.unlink(missing_ok=True)
    for state in states:
        if state.exists():
            if not path.exists():
                raise checkpoint.OtherRun(f"{state} is of a run of unknown configuration")
            checkpoint.same_run(state, json.loads(path.read_text()), json.loads(facts))
    folder.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
        temporary.write_text(facts + "\n")


# What these learn from says nothing of how much they may be shown at a time.
_WITHOUT_WINDOW = ("lenet5", "mask_rcnn")
_FIT = (
    "steps epochs optimiser rate weight_decay schedule warmup clip average precision every "
    "patience checkpoint_every freeze patch"
).split()
_MODEL = "model.safetensors"


def _device(asked: str | None) -> Any:
    import torch

    if asked is not None:
        try:
            device = torch.device(asked)
        except RuntimeError:
            device = torch.device("meta")
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f"--device must be cpu, cuda or cuda:N, got {asked!r}")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"--device: {asked} is not there: PyTorch finds {torch.cuda.device_count()} GPUs"
            )
        return device
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _line(row: Mapping[str, float]) -> str:
    figures = [f"step {int(row['step'])}", f"loss {row['loss']:.4f}"]
    figures += [
        f"{name} {value:.4f}"
        for name, value in row.items()
        if name not in ("step", "loss", "rate", "seconds")
    ]
    return ", ".join([*figures, f"{row['seconds']:.0f} s"])


def summary(reports: Sequence[Mapping[str, Any]]) -> str:
    """The reports for a person."""
    lines = []
    for report in reports:
        fold = "" if report["fold"] is None else f"fold {report['fold']}: "
        best = "" if report["validation"] is None else f", validation {report['validation']:.4f}"
        lines.append(f"{fold}{report['steps']} steps{best}, {report['seconds']:.0f} s")
        if "test" in report:
            means = ", ".join(f"{k} {v:.4f}" for k, v in report["test"]["mean"].items())
            lines.append(f"  test: {means}")
        lines.append(f"  wrote {report['model']}")
    figures = [r["validation"] for r in reports if r["validation"] is not None]
    if len(figures) > 1:
        mean, spread = np.mean(figures), np.std(figures, ddof=1)
        lines.append(f"validation over folds: {mean:.4f} +- {spread:.4f}")
    return "\n".join(lines)
