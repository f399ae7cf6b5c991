"""The command line: arguments only. What they start is in _app, the methods in _methods.

click, because it has no dependencies of its own and builds commands from data: every method of
`_methods.METHODS` gets its options and its help without a line here.

Exit codes: 0 done, 1 the data or the system said no, 2 wrong usage, 130 interrupted. Errors are one
line on stderr; ``--debug`` shows the traceback. With ``--json`` stdout is JSON and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app.command import Index, Main, MethodCommand, Size, progress
from medseg_fast._app.options import Range
from medseg_fast._app.options import debug as _debug
from medseg_fast._app.options import force as _force
from medseg_fast._app.options import json_output as _json
from medseg_fast._app.options import threads as _threads
from medseg_fast._app.streaming import stream, stream_bench
from medseg_fast._app.tables import evaluate, measure
from medseg_fast._app.training import plan, train
from medseg_fast._methods import METHODS
from medseg_fast.edge_detection import EDGE_METHODS


def _rising(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    if value and not value[0] < value[1]:
        raise click.BadParameter(f"LOW must be below HIGH, got {value[0]} and {value[1]}.")
    return value


def _greys(flag: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option that says how a picture draws intensities."""
    return click.option(
        flag,
        type=float,
        nargs=2,
        metavar="LOW HIGH",
        callback=_rising,
        help="Intensities drawn black and white in the picture.",
    )


_window = _greys("--window")
_frame = click.option("--frame", type=int, metavar="N", help="Which frame of a sequence, from 0.")
_channel = click.option(
    "--channel",
    type=int,
    metavar="N",
    help="Which channel, from 0.  [default: the luminance of a colour image]",
)


@click.group(
    "medseg-fast",
    cls=Main,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(ms.__version__, package_name="medseg_fast")
@_debug
def cli() -> None:
    """Segment 2D and 3D medical images, fast."""


@cli.command(cls=MethodCommand, options_metavar="-o OUTPUT -m METHOD [OPTIONS]")
@click.argument("image", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File for the mask or labels; its ending says the format.",
)
@click.option(
    "-m",
    "--method",
    required=True,
    metavar="METHOD",
    type=click.Choice(list(METHODS)),
    help="How to segment; `segment -m METHOD --help` shows its options.",
)
@click.option(
    "--open-radius",
    type=Range(0, math.inf, max_open=True),
    default=0,
    metavar="MM",
    help="Remove what a ball of this radius does not fit in from the mask.",
)
@click.option(
    "--close-radius",
    type=Range(0, math.inf, max_open=True),
    default=0,
    metavar="MM",
    help="Fill what a ball of this radius does not fit in outside the mask.",
)
@click.option(
    "--min-voxels",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Remove parts of fewer voxels from the mask.",
)
@click.option("--largest", is_flag=True, help="Keep only the largest part of the mask.")
@click.option("--fill-holes", is_flag=True, help="Fill holes in the mask.")
@click.option(
    "--overlay/--no-overlay",
    default=True,
    help="Write a picture: FILE with the ending .overlay.png.  [default: yes]",
)
@click.option(
    "--measurements/--no-measurements",
    default=True,
    help="Write volumes and sizes: FILE with the ending .json.  [default: yes]",
)
@_window
@_frame
@_channel
@_force
@_threads
@_json
@_debug
def segment(
    image: Path,
    output: Path,
    method: str,
    open_radius: float,
    close_radius: float,
    min_voxels: int,
    largest: bool,
    fill_holes: bool,
    overlay: bool,
    measurements: bool,
    window: tuple[float, float] | None,
    frame: int | None,
    channel: int | None,
    force: bool,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Segment the image in INPUT, a file or a folder with one DICOM series.

    Writes the mask with INPUT's geometry, and beside it a picture and measurements.
    """
    from medseg_fast._app.segment import STEPS, Job, run, summary

    given = {name: value for name, value in options.items() if value not in (None, ())}
    job = Job(
        image,
        output,
        METHODS[method],
        given,
        open_radius=open_radius,
        close_radius=close_radius,
        min_voxels=min_voxels,
        largest=largest,
        fill_holes=fill_holes,
        overlay=overlay,
        measurements=measurements,
        window=window,
        force=force,
        frame=frame,
        channel=channel,
    )
    with progress(method, STEPS, as_json) as step, ms.num_threads(threads or ms.get_num_threads()):
        report = run(job, step)
    click.echo(json.dumps(report, indent=2) if as_json else summary(report))


@cli.command()
@click.argument("image", metavar="INPUT", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE.png",
    type=click.Path(path_type=Path),
    help="Picture of all methods on one section; beside it a JSON file.",
)
@click.option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(list(EDGE_METHODS)),
    metavar="METHOD",
    help="Only this method; may be repeated.  [default: all]",
)
@click.option(
    "--sigma",
    type=Range(0, min_open=True),
    metavar="MM",
    help="Smooth by this much, where a method smooths.  [default: each method's own]",
)
@click.option(
    "--point",
    "points",
    multiple=True,
    type=Index(),
    help="A pixel of the section on the edge that live_wire follows, in order along it; three or"
    " more make a closed curve.",
)
@click.option(
    "--plane",
    type=Index(),
    help="A voxel of the section; of those through it the largest.  [default: the middle]",
)
@click.option(
    "--images/--no-images",
    default=False,
    help="Write each method's strength (TIFF) and edges (PNG), too.  [default: no]",
)
@_window
@_frame
@_channel
@_force
@_threads
@_json
@_debug
def edges(image: Path, output: Path, threads: int | None, as_json: bool, **options: Any) -> None:
    """Find edges in one section of INPUT by every method of every family."""
    from medseg_fast._app.edges import Job, methods, run, summary

    job = Job(image, output, **options)
    count = len(methods(job.methods, job.options))
    with progress("edges", count, as_json) as step, ms.num_threads(threads or ms.get_num_threads()):
        report = run(job, step)
    click.echo(json.dumps(report, indent=2) if as_json else summary(report))


@cli.command()
@click.argument(
    "images", metavar="INPUT...", type=click.Path(path_type=Path), nargs=-1, required=True
)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File for the labels; its ending says the format.",
)
@click.option(
    "--model",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Network with its weights: a .safetensors file of nn.save_model, or a known checkpoint.",
)
@click.option(
    "--plan",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Instead: a network compiled by nn.optimize, which runs without PyTorch.",
)
@click.option(
    "--window",
    type=Size(),
    help="Pixels that the network sees at a time.  [default: the model's; 512 in 2D, 96 in 3D]",
)
@click.option(
    "--overlap",
    type=Range(0, 1, max_open=True),
    default=0.5,
    show_default=True,
    help="Part of a window that the next one shares.",
)
@click.option(
    "--mirror", is_flag=True, help="Average over mirror images, too: 4 times the work, 8 in 3D."
)
@click.option(
    "--spacing",
    type=Range(0, min_open=True),
    multiple=True,
    metavar="MM",
    help="Pixel distance at which the network works; once per axis.  [default: the model's]",
)
@click.option(
    "--zscore",
    is_flag=True,
    help="Scale intensities to mean 0, deviation 1.  [default: the model's]",
)
@click.option(
    "--clip",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Clip intensities, and scale them to 0 to 1.  [default: the model's]",
)
@click.option(
    "--score",
    type=Range(0, 1),
    help="Leave out objects with lower scores (Mask R-CNN).  [default: 0.5]",
)
@click.option(
    "--probabilities",
    is_flag=True,
    help="Write the classes' probabilities, too: FILE.probabilities.",
)
@click.option(
    "--overlay/--no-overlay",
    default=True,
    help="Write a picture: FILE with the ending .overlay.png.  [default: yes]",
)
@click.option(
    "--measurements/--no-measurements",
    default=True,
    help="Write volumes and sizes: FILE with the ending .json.  [default: yes]",
)
@_greys("--contrast")
@_frame
@_channel
@_force
@_threads
@_json
@_debug
def predict(
    images: tuple[Path, ...],
    spacing: tuple[float, ...],
    zscore: bool,
    clip: tuple[float, float] | None,
    threads: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Label the image in INPUT by a network; several INPUTs are its channels.

    Writes labels with INPUT's geometry, and beside them a picture and measurements.
    """
    from medseg_fast._app.predict import STEPS, Job, run, summary
    from medseg_fast.nn._threads import torch_threads

    if zscore and clip:
        raise click.UsageError("--zscore and --clip exclude each other.")
    if (options["model"] is None) == (options["plan"] is None):
        raise click.UsageError("One of --model and --plan must be given.")
    how = "zscore" if zscore else clip
    job = Job(images, spacing=spacing or None, normalise=how, **options)
    count = threads or ms.get_num_threads()
    torch = nullcontext() if job.plan else torch_threads(count)
    with progress("predict", STEPS, as_json) as step, ms.num_threads(count), torch:
        report = run(job, step)
    click.echo(_text(report if as_json else summary(report)))


cli.add_command(evaluate)
cli.add_command(measure)
cli.add_command(plan)
cli.add_command(train)
cli.add_command(stream)
cli.add_command(stream_bench)


@cli.command()
@click.option("--probe", is_flag=True, help="Import torch and CuPy to ask which GPUs they can use.")
@_json
@_debug
def info(probe: bool, as_json: bool) -> None:
    """Show version, build, threads, GPU and optional packages."""
    if as_json:
        click.echo(json.dumps(ms.show_config("dict", probe=probe), indent=2))
    else:
        ms.show_config(probe=probe)


_scan = click.option(
    "--scan",
    "scans",
    type=click.Choice(io.examples()),
    multiple=True,
    help="Only this scan of those that come with the package; may be repeated.  [default: all]",
)
_method = click.option(
    "-m",
    "--method",
    "methods",
    multiple=True,
    type=click.Choice(list(METHODS)),
    metavar="METHOD",
    help="Only this method; may be repeated.  [default: all]",
)
_seconds = click.option(
    "--seconds",
    type=Range(0, 60),
    default=0.2,
    show_default=True,
    help="Time to spend on measuring each call, about.",
)
_peers = click.option(
    "--peers/--no-peers",
    default=True,
    help="Run the libraries people use today, where installed.  [default: yes]",
)


@cli.command()
@click.option(
    "-o",
    "--output",
    default="medseg-fast-demo.html",
    show_default=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The page to write.",
)
@click.option("--force", is_flag=True, help="Replace a file that is not a page of this command.")
@_scan
@_method
@_seconds
@_peers
@_json
@_debug
def demo(
    output: Path,
    force: bool,
    scans: tuple[str, ...],
    methods: tuple[str, ...],
    seconds: float,
    peers: bool,
    as_json: bool,
) -> None:
    """Segment real scans with every method and write a page with pictures.

    Needs no network: the scans come with the package.
    """
    from medseg_fast._app import demo

    demo.check_output(output, force=force)
    names, scans = demo.chosen(methods), scans or io.examples()
    with progress("demo", len(names) * len(scans), as_json) as step:
        results = demo.results(scans, names, seconds=seconds, peers=peers, step=step)
    demo.write_page(output, results)
    report = demo.report if as_json else demo.summary
    click.echo(_text(report(output, results)))


@cli.command()
@_scan
@_method
@_seconds
@_peers
@_json
@_debug
def bench(
    scans: tuple[str, ...], methods: tuple[str, ...], seconds: float, peers: bool, as_json: bool
) -> None:
    """Time every method beside the libraries people use today.

    On the scans that come with the package, in one process, taking turns.
    """
    from medseg_fast._app import demo

    names, scans = demo.chosen(methods), scans or io.examples()
    threads = tuple(sorted({1, ms.get_num_threads()}))
    with progress("bench", len(names) * len(scans), as_json) as step:
        results = demo.results(
            scans, names, threads=threads, seconds=seconds, peers=peers, step=step
        )
    report = demo.report if as_json else demo.summary
    click.echo(_text(report(None, results)))


def _text(report: dict[str, Any] | str) -> str:
    return report if isinstance(report, str) else json.dumps(report, indent=2)
