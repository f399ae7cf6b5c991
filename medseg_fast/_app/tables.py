"""The commands whose result is a table: arguments only, what they start is beside this file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import medseg_fast as ms
from medseg_fast._app import options
from medseg_fast._app.command import progress

_report_files = [
    options.json_output,
    click.option("--csv", "as_csv", is_flag=True, help="Print CSV on stdout."),
    click.option(
        "-o",
        "--output",
        metavar="FILE",
        type=click.Path(path_type=Path),
        help="Write to this .json or .csv file, too.",
    ),
]


def _reporting(command: Any) -> Any:
    """Adds the options of commands whose result is a table."""
    for option in reversed([*_report_files, options.force, options.threads, options.debug]):
        command = option(command)
    return command


@click.command()
@click.argument("pred", metavar="PRED", type=click.Path(path_type=Path))
@click.argument("truth", metavar="TRUTH", type=click.Path(path_type=Path))
@click.option(
    "--label",
    "--labels",
    "labels",
    type=int,
    multiple=True,
    metavar="N",
    help="Only this label; may be repeated.  [default: all but 0]",
)
@click.option(
    "--tolerance",
    type=options.Range(0),
    default=1.0,
    show_default=True,
    metavar="MM",
    help="Distance up to which surfaces agree, for nsd.",
)
@click.option(
    "--surfaces/--no-surfaces",
    default=True,
    help="Measure distances between surfaces.  [default: yes]",
)
@_reporting
def evaluate(
    pred: Path,
    truth: Path,
    labels: tuple[int, ...],
    tolerance: float,
    surfaces: bool,
    as_json: bool,
    as_csv: bool,
    output: Path | None,
    force: bool,
    threads: int | None,
) -> None:
    """Compare the segmentation in PRED with the TRUTH: two files, or two folders.

    Files of folders are matched by name. Sizes, voxel sizes and places in space must agree.
    """
    from medseg_fast._app import evaluate, files

    _one_format(as_json, as_csv)
    files.check_report(output, force=force, inputs=(pred, truth))
    count = len(evaluate.pairs(pred, truth))
    with (
        progress("evaluate", count, as_json or as_csv) as step,
        ms.num_threads(threads or ms.get_num_threads()),
    ):
        report = evaluate.run(
            pred,
            truth,
            labels=labels or None,
            tolerance_mm=tolerance,
            surfaces=surfaces,
            step=step,
        )
    as_text, table = evaluate.as_json(report), evaluate.as_csv(report)
    files.write_report(output, as_text, table)
    text = as_text if as_json else table if as_csv else evaluate.summary(report)
    click.echo(text.rstrip("\n"))


@click.command()
@click.argument("labels", metavar="LABELS", type=click.Path(path_type=Path))
@click.option(
    "--image",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The segmented image, for intensities.",
)
@click.option(
    "--bin-width",
    type=options.Range(0, min_open=True),
    metavar="X",
    help="Width of the grey levels of histogram and texture.  [default: 1, or what gives at most"
    " 4096 levels (texture: 256); of floats a 32nd]",
)
@click.option(
    "--bins",
    type=click.IntRange(1, 4096),
    metavar="N",
    help="Number of grey levels instead of their width.",
)
@click.option("--texture", is_flag=True, help="Measure the texture, too (needs --image).")
@_reporting
def measure(
    labels: Path,
    image: Path | None,
    bin_width: float | None,
    bins: int | None,
    texture: bool,
    as_json: bool,
    as_csv: bool,
    output: Path | None,
    force: bool,
    threads: int | None,
) -> None:
    """Measure every label in LABELS: volume, surface, diameters, shape, intensities, texture."""
    from medseg_fast._app import files, measurements

    _one_format(as_json, as_csv)
    if bin_width is not None and bins is not None:
        raise click.UsageError("--bin-width and --bins exclude each other.")
    if image is None and (texture or bin_width is not None or bins is not None):
        raise click.UsageError("--texture, --bin-width and --bins need --image.")
    inputs = (labels, image) if image else (labels,)
    files.check_report(output, force=force, inputs=inputs)
    with ms.num_threads(threads or ms.get_num_threads()):
        table = measurements.run(labels, image, bin_width=bin_width, bins=bins, texture=texture)
    as_text, rows = table.to_json(), table.to_csv()
    files.write_report(output, as_text, rows)
    text = as_text if as_json else rows if as_csv else measurements.summary(table)
    click.echo(text.rstrip("\n"))


def _one_format(as_json: bool, as_csv: bool) -> None:
    if as_json and as_csv:
        raise click.UsageError("--json and --csv exclude each other.")
