"""Options that several commands have."""

from __future__ import annotations

import click

from medseg_fast._app.command import Main


def _turn_on_debug(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    Main.debug = Main.debug or value


debug = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_turn_on_debug,
    help="Show the traceback of an error.",
)
json_output = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
threads = click.option(
    "--threads", type=click.IntRange(1, 1024), help="Threads to use.  [default: all CPUs]"
)
force = click.option("--force", is_flag=True, help="Replace files that exist.")
