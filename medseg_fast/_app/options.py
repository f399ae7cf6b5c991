"""Options that several commands have."""

from __future__ import annotations

import math
from typing import Any

import click

from medseg_fast._app.command import Main


class Range(click.FloatRange):
    """click's range, without NaN: that is neither below nor above a limit, so click takes it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail("must be a number, got NaN", param, ctx)
        return number


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
