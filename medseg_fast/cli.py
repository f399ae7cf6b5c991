"""The command line: arguments only. What they start is in _app, the methods in _methods.

click, because it has no dependencies of its own and builds commands from data: every method of
`_methods.METHODS` gets its options and its help without a line here.

Exit codes: 0 done, 1 the data or the system said no, 2 wrong usage, 130 interrupted. Errors are one
line on stderr; ``--debug`` shows the traceback. With ``--json`` stdout is JSON and nothing else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._methods import METHODS, Method, Option


class Main(click.Group):
    """Turns every error into one line and an exit code."""

    debug = False

    def main(  # type: ignore[override]  # every way out is an exit code
        self, args: Sequence[str] | None = None, **extra: Any
    ) -> NoReturn:
        extra["standalone_mode"] = False
        Main.debug = False
        try:
            code = super().main(args, **extra)
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "medseg-fast"
            message = _one_line(error.format_message())
            self._fail(2, error, f"{command}: {message} (see {command} --help)")
        except (click.Abort, KeyboardInterrupt) as error:
            self._fail(130, error, "medseg-fast: interrupted")
        except BrokenPipeError:  # the reader of our output has gone: `medseg-fast info | head -1`
            sys.stderr.close()
            sys.exit(1)
        except (OSError, ValueError, TypeError, MemoryError, ImportError) as error:
            self._fail(1, error, f"medseg-fast: {_one_line(error)}")
        except Exception as error:
            kind = type(error).__name__
            self._fail(1, error, f"medseg-fast: {kind}: {_one_line(error)} (--debug shows where)")
        sys.exit(code if isinstance(code, int) else 0)

    def _fail(self, code: int, error: BaseException, message: str) -> NoReturn:
        if self.debug:
            import traceback

            traceback.print_exception(error)
        click.echo(message, err=True)
        sys.exit(code)


def _one_line(error: BaseException | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


def _turn_on_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    Main.debug = Main.debug or value


_debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_turn_on_debug,
    help="Show the traceback of an error.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
_threads = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads to use.  [default: all CPUs]"
)


class Index(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """One voxel: "z,y,x" (or "y,x" in 2D)."""

    name = "z,y,x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            index = tuple(int(part) for part in value.split(","))
        except ValueError:
            index = ()
        if len(index) not in (2, 3):
            self.fail(f"{value!r} is not z,y,x or y,x (whole numbers).", param, ctx)
        return index


_KINDS: dict[str, Any] = {
    "int": click.INT,
    "float": click.FLOAT,
    "text": click.STRING,
    "index": Index(),
}


def _click_option(option: Option) -> click.Option:
    flag = "--" + option.name.replace("_", "-")
    if option.kind == "flag":
        return click.Option([flag, option.name], is_flag=True, default=False, help=option.help)
    kind = click.Choice(option.kind) if isinstance(option.kind, tuple) else _KINDS[option.kind]
    return click.Option(
        [flag, option.name],
        type=kind,
        default=option.default,
        show_default=option.default is not None,
        required=option.required,
        multiple=option.several,
        help=option.help + ("; may be repeated" if option.several else ""),
    )


class Segment(click.Command):
    """A command whose options depend on ``--method``, also in its help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["method"] = METHODS.get(_value_of(args, "--method", "-m") or "")
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *self._of_method(ctx)]

    def _of_method(self, ctx: click.Context) -> list[click.Option]:
        method: Method | None = ctx.meta.get("method")
        if "options" not in ctx.meta:
            ctx.meta["options"] = [_click_option(o) for o in method.options] if method else []
        options: list[click.Option] = ctx.meta["options"]
        return options

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        method: Method | None = ctx.meta.get("method")
        own = [
            option.get_help_record(ctx)
            for option in super().get_params(ctx)
            if isinstance(option, click.Option)
        ]
        with formatter.section("Options"):
            formatter.write_dl([record for record in own if record])
        if method is None:
            for family in dict.fromkeys(m.family for m in METHODS.values()):
                with formatter.section(f"Methods: {family}"):
                    formatter.write_dl(
                        [(m.name, m.summary) for m in METHODS.values() if m.family == family]
                    )
            return
        with formatter.section(f"Method {method.name}"):
            formatter.write_text(method.summary)
            records = [option.get_help_record(ctx) for option in self._of_method(ctx)]
            if records:
                formatter.write_dl([record for record in records if record])


def _value_of(args: Sequence[str], long: str, short: str) -> str | None:
    """The last value given to an option, before anything is parsed."""
    value = None
    for this, following in zip(args, [*args[1:], ""], strict=False):
        if this in (long, short):
            value = following
        elif this.startswith(long + "="):
            value = this[len(long) + 1 :]
        elif this.startswith(short) and not this.startswith("--"):
            value = this[len(short) :].lstrip("=")
    return value


@contextmanager
def _progress(label: str, length: int, quiet: bool) -> Iterator[Any]:
    """A bar on stderr, called with the name of each step; silent where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: None
        return
    show: dict[str, Any] = {
        "item_show_func": lambda name: name or "",
        "show_eta": False,
        "file": sys.stderr,
    }
    with click.progressbar(length=length, label=label, **show) as bar:
        bar.render_progress()

        def step(name: str) -> None:
            bar.update(1, name)  # type: ignore[arg-type, unused-ignore]

        yield step


@click.group(
    "medseg-fast",
    cls=Main,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(ms.__version__, package_name="medseg_fast")
@_debug
def cli() -> None:
    """Segment 2D and 3D medical images, fast."""


@cli.command(cls=Segment, options_metavar="-o OUTPUT -m METHOD [OPTIONS]")
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
    "--overlay/--no-overlay",
    default=True,
    help="Write a picture: FILE with the ending .overlay.png.  [default: yes]",
)
@click.option(
    "--measurements/--no-measurements",
    default=True,
    help="Write volumes and sizes: FILE with the ending .json.  [default: yes]",
)
@click.option(
    "--window",
    type=float,
    nargs=2,
    metavar="LOW HIGH",
    help="Intensities drawn black and white in the picture.",
)
@click.option("--frame", type=int, metavar="N", help="Which frame of a sequence, from 0.")
@click.option(
    "--channel",
    type=int,
    metavar="N",
    help="Which channel, from 0.  [default: the luminance of a colour image]",
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@_threads
@_json
@_debug
@click.pass_context
def segment(
    ctx: click.Context,
    /,
    image: Path,
    output: Path,
    method: str,
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
        overlay=overlay,
        measurements=measurements,
        window=window,
        force=force,
        frame=frame,
        channel=channel,
    )
    with _progress(method, STEPS, as_json) as step, ms.num_threads(threads or ms.get_num_threads()):
        report = run(job, step)
    click.echo(json.dumps(report, indent=2) if as_json else summary(report))


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
    "name",
    type=click.Choice(io.examples()),
    default=io.examples()[0],
    show_default=True,
    help="Which of the scans that come with the package.",
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
    type=click.FloatRange(0, 60),
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
    name: str,
    methods: tuple[str, ...],
    seconds: float,
    peers: bool,
    as_json: bool,
) -> None:
    """Segment a real scan with every method and write a page with pictures.

    Needs no network: scans come with the package.
    """
    from medseg_fast._app import demo

    demo.check_output(output, force=force)
    scan = demo.load(name)
    chosen = demo.chosen(scan, methods)
    with _progress("demo", len(chosen), as_json) as step:
        rows = demo.rows(scan, chosen, seconds=seconds, peers=peers, step=step)
    demo.write_page(output, scan, rows)
    if as_json:
        click.echo(json.dumps(demo.report(output, scan, rows), indent=2))
    else:
        click.echo(demo.summary(output, scan, rows))


@cli.command()
@_scan
@_method
@_seconds
@_peers
@_json
@_debug
def bench(name: str, methods: tuple[str, ...], seconds: float, peers: bool, as_json: bool) -> None:
    """Time every method beside the libraries people use today.

    On the scan that comes with the package, in one process, taking turns.
    """
    from medseg_fast._app import demo

    scan = demo.load(name)
    chosen = demo.chosen(scan, methods)
    threads = tuple(sorted({1, ms.get_num_threads()}))
    with _progress("bench", len(chosen), as_json) as step:
        rows = demo.rows(scan, chosen, threads=threads, seconds=seconds, peers=peers, step=step)
    text = json.dumps(demo.report(None, scan, rows), indent=2) if as_json else None
    click.echo(text or demo.summary(None, scan, rows))
