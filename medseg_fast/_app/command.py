"""What click lacks for our commands: one-line errors, options by method, voxel indices, a bar."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from medseg_fast._methods import METHODS, Method, Option


class Main(click.Group):
    """Turns every error into one line and an exit code."""

    debug = False

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, **extra: Any
    ) -> NoReturn:
        extra["standalone_mode"] = False
        Main.debug = False
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn  # type: ignore[assignment]
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


def _warn(message: Warning | str, *place: Any) -> None:
    click.echo(f"medseg-fast: warning: {_one_line(str(message))}", err=True)


def _one_line(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        error = f"{error.filename}: {error.strerror}"  # as our own, without a number
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."


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


class Marker(Index):
    """A label and a voxel: "label:z,y,x"."""

    name = "label:z,y,x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        label, colon, index = value.partition(":")
        if not colon or not label.isdigit():
            self.fail(f"{value!r} is not label:z,y,x (whole numbers).", param, ctx)
        return int(label), super().convert(index, param, ctx)


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """One number for all axes, or one for each."""

    name = "N or z,y,x"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | tuple[int, ...]:
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]  # the default
        try:
            numbers = tuple(int(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not N or z,y,x (whole numbers).", param, ctx)
        return numbers if len(numbers) > 1 else numbers[0]


_KINDS: dict[Any, Any] = {
    "int": click.INT,
    "float": click.FLOAT,
    "text": click.STRING,
    "index": Index(),
    "marker": Marker(),
    "size": Size(),
}


def _click_option(option: Option) -> click.Option:
    flag = "--" + option.name.replace("_", "-")
    if option.kind == "flag":
        return click.Option([flag, option.name], is_flag=True, default=False, help=option.help)
    kind = click.Choice(option.kind) if isinstance(option.kind, tuple) else _KINDS[option.kind]
    # For click 8.3 None is a default as any other, and satisfies `required`.
    default = {} if option.default is None else {"default": option.default, "show_default": True}
    return click.Option(
        [flag, option.name],
        type=kind,
        **default,
        required=option.required,
        multiple=option.several,
        help=option.help + ("; may be repeated" if option.several else ""),
    )


class MethodCommand(click.Command):
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
def progress(label: str, length: int, quiet: bool) -> Iterator[Any]:
    """A bar on stderr, called with the name of each step; silent where nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield lambda name: None
        return
    bar: Any = click.progressbar(
        length=length,
        label=label,
        item_show_func=lambda name: str(name or ""),
        show_eta=False,
        file=sys.stderr,
    )
    with bar:
        bar.render_progress()
        yield lambda name: bar.update(1, name)
