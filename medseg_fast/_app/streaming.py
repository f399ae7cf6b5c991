"""The commands of streams: arguments only, what they start is in stream.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from medseg_fast._app import options
from medseg_fast._app import stream as _stream
from medseg_fast._app.command import Index

_of_methods = [
    click.option("--lower", type=float, help="Lowest intensity inside."),
    click.option("--upper", type=float, help="Highest intensity inside."),
    click.option("--seed", type=Index(), metavar="ROW,COLUMN", help="A pixel of the region."),
    click.option(
        "--sigma", type=float, default=1.0, show_default=True, help="Of Canny's smoothing."
    ),
    click.option("--smooth", type=float, metavar="SIGMA", help="Smooth frames first."),
    click.option("--largest", is_flag=True, help="Keep only the largest part of the mask."),
    click.option(
        "--model", type=click.Path(path_type=Path), metavar="FILE", help="Of the network."
    ),
]


def _method_options(command: Any) -> Any:
    """Adds what the methods of streams are told."""
    for option in reversed(_of_methods):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.option(
    "--source",
    metavar="SOURCE",
    help="A video or image file, a folder of pictures, a camera's number, a URL, or "
    "igtl://HOST:PORT/DEVICE (OpenIGTLink; without HOST: listen).",
)
@click.option(
    "--method",
    type=click.Choice(_stream.METHODS),
    help="What to do with each frame.",
)
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="SINK",
    help="A folder for masks, a .mp4 or .avi file, shm:NAME, or igtl://HOST:PORT/DEVICE (without "
    "HOST: listen; contour:igtl://... sends outlines, transform:igtl://... where the mask is); may "
    "be repeated.",
)
@click.option("--fps", type=options.Range(0, min_open=True), help="Give frames at this rate.")
@click.option("--repeat", is_flag=True, help="Start again when the source ends.")
@click.option(
    "--policy",
    type=click.Choice(("latest", "block", "all")),
    help="When frames come too fast: drop the older one, let the source wait, or work on all."
    "  [default: latest for cameras and with --fps, else all]",
)
@click.option("--deadline", type=float, metavar="MS", help="When a mask should be sent.")
@click.option(
    "--late",
    type=click.Choice(("send", "drop")),
    default="send",
    show_default=True,
    help="What to do with a mask that is ready after the deadline.",
)
@click.option("--max-age", type=float, metavar="MS", help="Drop frames that waited longer.")
@click.option("--watchdog", type=float, metavar="MS", help="Send the last mask again, as stale.")
@click.option(
    "--seconds",
    type=options.Range(0, min_open=True),
    help="Stop after so long, or when no frame came for so long at the start.",
)
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--log", type=click.Path(path_type=Path), metavar="FILE", help="Write a log.")
@click.option("--cpu", "cpus", type=int, multiple=True, help="Work on this CPU; may be repeated.")
@click.option("--priority", type=click.IntRange(1, 99), help="Real-time priority of the threads.")
@_method_options
@options.threads
@options.json_output
@options.debug
@click.pass_context
def stream(ctx: click.Context, /, as_json: bool, **given: Any) -> None:
    """Segment frames in real time and account for every deadline.

    `medseg-fast stream report LOG` shows what a log says.
    """
    if ctx.invoked_subcommand is not None:
        return
    for name in ("source", "method"):
        if given[name] is None:
            raise click.UsageError(f"Missing option '--{name}'.")

    def show(summary: Any) -> None:
        total = summary.percentiles("total")
        click.echo(
            f"\r{summary.received} frames, {summary.fps:.1f} per second, "
            f"p99 {total.get('p99', 0.0):.2f} ms, {summary.misses} missed, "
            f"{summary.counts['dropped']} dropped",
            nl=False,
            err=True,
        )

    live = not as_json and sys.stderr.isatty()
    if live:
        click.echo(f"Waiting for frames of {given['source']}: Ctrl-C ends", err=True)
    summary = _stream.run(_stream.Job(**given), show if live else None)
    click.echo(json.dumps(summary.as_dict(), indent=2) if as_json else str(summary))
    if not summary.counts["ok"] + summary.counts["late"]:
        raise ValueError("no mask was sent")


@stream.command()
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write a page, too."
)
@options.force
@options.json_output
@options.debug
def report(log: Path, output: Path | None, force: bool, as_json: bool) -> None:
    """Show the figures of a stream's LOG."""
    summary = _stream.report(log, output, force=force)
    click.echo(json.dumps(summary.as_dict(), indent=2) if as_json else str(summary))


@stream.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("medseg_fast_stream"),
    show_default=True,
    metavar="FOLDER",
    help="Where video, log and page go.",
)
@click.option("--fps", type=options.Range(0, 1000, min_open=True), default=20.0, show_default=True)
@click.option(
    "--seconds", type=options.Range(0, 3600, min_open=True), default=10.0, show_default=True
)
@options.threads
@options.force
@options.json_output
@options.debug
def demo(
    output: Path, fps: float, seconds: float, threads: int | None, force: bool, as_json: bool
) -> None:
    """Follow a bone through an ultrasound sequence that comes over OpenIGTLink.

    Another process plays the scanner and the viewer: it sends frames and gets masks. Writes a video
    with the outlines, the log, and a page about it.
    """
    from medseg_fast._app import stream_demo

    found, written = stream_demo.run(output, fps, seconds, threads=threads, force=force)
    if as_json:
        click.echo(json.dumps({**found, "files": [str(path) for path in written]}, indent=2))
        return
    click.echo(stream_demo.table(found))
    for path in written:
        click.echo(f"Wrote {path}")


@click.command("stream-bench")
@click.option(
    "--source",
    required=True,
    metavar="SOURCE",
    help="What to replay: a video or image file, or a folder of pictures.",
)
@click.option(
    "--method",
    type=click.Choice(_stream.METHODS),
    help="What to do with each frame.  [default: nothing]",
)
@click.option("--fps", type=options.Range(0, 10_000, min_open=True), default=30.0)
@click.option("--seconds", type=options.Range(0, 86_400, min_open=True), default=10.0)
@click.option(
    "--policy", type=click.Choice(("latest", "block", "all")), default="latest", show_default=True
)
@click.option("--deadline", type=float, metavar="MS", help="[default: the time of a frame]")
@click.option("--busy", is_flag=True, help="Let another process use a CPU fully meanwhile.")
@click.option("--priority", type=click.IntRange(1, 99), help="Real-time priority of the threads.")
@_method_options
@options.threads
@options.json_output
@options.debug
def stream_bench(
    source: str,
    method: str | None,
    fps: float,
    seconds: float,
    policy: str,
    deadline: float | None,
    busy: bool,
    priority: int | None,
    threads: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Replay frames over OpenIGTLink at a rate, and show latency end to end.

    Another process sends them and gets the masks. A pipeline that does nothing runs first: its
    figures are the machine's own.
    """
    from medseg_fast._app import stream_bench as bench

    job = _stream.Job(source, method or "", fps=fps, threads=threads, **given)
    frames = _stream.frames(job)
    load = bench.Load(frames, fps, seconds)
    how: dict[str, Any] = {
        "policy": policy,
        "deadline_ms": deadline or 1000 / fps,
        "busy": busy,
        "priority": priority,
    }
    found = {"nothing": bench.replay(load, [lambda image: image], **how)}
    if method:
        steps = _stream.steps(job, frames[0])
        found[method] = bench.replay(load, steps, threads=threads, **how)
    click.echo(json.dumps(found, indent=2) if as_json else bench.table(found))
