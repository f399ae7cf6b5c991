"""The commands `train` and `plan`: arguments only, what they start is beside this file."""

from __future__ import annotations

import json
from pathlib import Path

import click

import medseg_fast as ms
from medseg_fast._app import options
from medseg_fast._app.command import Size


@click.command()
@click.argument("config", metavar="CONFIG", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder for checkpoint, log, curves and model.  [default: beside CONFIG, named after it]",
)
@click.option(
    "--fold",
    metavar="N",
    help="Cross-validation: this fold of data.folds, from 0, or all.  [default: none]",
)
@click.option(
    "--data",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where paths in CONFIG begin.  [default: CONFIG's folder]",
)
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Instead of the file's.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Instead of the file's.")
@click.option(
    "--device",
    metavar="NAME",
    help="cpu, cuda or cuda:N.  [default: a GPU if there is one]",
)
@click.option("--restart", is_flag=True, help="Begin anew instead of going on from a checkpoint.")
@options.threads
@options.json_output
@options.debug
def train(
    config: Path,
    output: Path | None,
    data: Path | None,
    fold: str | None,
    steps: int | None,
    seed: int | None,
    device: str | None,
    restart: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train the network that CONFIG describes: a TOML file, or a recipe of the package by name.

    Called again it goes on where it was stopped, to the same result; not with another
    configuration, but for [predict]. `medseg-fast plan` writes such a file for a folder of images.
    Under torchrun all processes train together.
    """
    from medseg_fast._app.train import Job, run, summary
    from medseg_fast.nn._threads import torch_threads

    job = Job(config, output, data, fold, steps, seed, device, restart, progress=not as_json)
    count = threads or ms.get_num_threads()
    with ms.num_threads(count), torch_threads(count):
        reports = run(job, say=None if as_json else lambda line: click.echo(line, err=True))
    if reports:  # of several processes the first reports
        click.echo(json.dumps(reports, indent=2) if as_json else summary(reports))


@click.command()
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE.toml",
    type=click.Path(path_type=Path),
    help="Where to write the plan.  [default: FOLDER/plan.toml]",
)
@click.option("--images", metavar="NAME", help="Folder of the images in FOLDER.  [default: found]")
@click.option("--labels", metavar="NAME", help="Folder of the labels in FOLDER.  [default: found]")
@click.option(
    "--modality",
    type=click.Choice(["ct", "other"]),
    help="How intensities are prepared: CT has a scale of its own.  [default: found]",
)
@click.option("--patch", type=Size(), help="Pixels that the network sees.  [default: found]")
@click.option(
    "--memory",
    type=options.Range(0, min_open=True),
    metavar="GB",
    help="What training may take.  [default: half of what is free]",
)
@click.option(
    "--minutes",
    type=options.Range(0, min_open=True),
    default=15,
    show_default=True,
    help="How long training may take on this machine, about.",
)
@options.force
@options.json_output
@options.debug
def plan(
    folder: Path,
    output: Path | None,
    images: str | None,
    labels: str | None,
    modality: str | None,
    patch: int | tuple[int, ...] | None,
    memory: float | None,
    minutes: float,
    force: bool,
    as_json: bool,
) -> None:
    """Look at the images and labels in FOLDER and propose how to train on them.

    Writes a TOML file, with the reasons in it, that `medseg-fast train` takes.
    """
    from medseg_fast._app import files
    from medseg_fast.nn._planner import plan_training

    target = output or folder / "plan.toml"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if target.suffix != ".toml":
        raise ValueError(f"{target}: must end in .toml")
    files.check_writable([target], force=force)
    found = plan_training(
        folder,
        images=images,
        labels=labels,
        modality=modality,
        patch=patch,
        memory_gb=memory,
        minutes=minutes,
        beside=target.parent,
    )
    with files.replacing(target) as temporary:
        temporary.write_text(found.text(), encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"output": str(target), **found.tables}, indent=2))
    else:
        click.echo(f"{found.text()}\nwrote {target}: medseg-fast train {target}")
