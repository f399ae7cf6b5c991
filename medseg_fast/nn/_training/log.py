"""What a run says: a CSV file always, and where they are installed TensorBoard and a picture."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from medseg_fast.io._common import replacing

Row = dict[str, float]


class Log:
    """The rows of a run in a folder; rows after the checkpoint it resumes from are gone.

    ``log.csv`` grows row by row. ``curves.png`` needs matplotlib, event files for TensorBoard (in
    ``tensorboard/``) the package tensorboard; without them there is neither.
    """

    def __init__(self, folder: Path | None, rows: Sequence[Row]) -> None:
        self._folder = folder
        self._names: list[str] = []
        self._board: Any = None
        if folder is None:
            return
        self._rewrite(rows)
        with suppress(ImportError):
            from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined, unused-ignore]

            after = int(rows[-1]["step"]) + 1 if rows else 0
            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=after)

    def add(self, rows: Sequence[Row]) -> None:
        """Write the last of the rows."""
        if self._folder is None:
            return
        row = rows[-1]
        if any(name not in self._names for name in row):
            self._rewrite(rows)
        else:
            with open(self._folder / "log.csv", "a", newline="") as file:
                file.write(_lines(self._names, [row]))
                file.flush()
                os.fsync(file.fileno())
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, int(row["step"]))
            self._board.flush()

    def close(self, rows: Sequence[Row]) -> None:
        """Draw the curves."""
        if self._board is not None:
            self._board.close()
        if self._folder is not None and rows:
            with suppress(ImportError):
                _draw(self._folder / "curves.png", rows)

    def _rewrite(self, rows: Sequence[Row]) -> None:
        assert self._folder is not None
        self._names = list(dict.fromkeys(name for row in rows for name in row))
        head = ",".join(self._names) + "\n" if rows else ""
        with replacing(self._folder / "log.csv", overwrite=True) as file:
            file.write((head + _lines(self._names, rows)).encode())


def _lines(names: Sequence[str], rows: Sequence[Mapping[str, float]]) -> str:
    stream = StringIO()
    csv.DictWriter(stream, names, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _draw(path: Path, rows: Sequence[Row]) -> None:
    """Loss and rate on top, what was validated below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    top, below = figure.subplots(2, 1, sharex=True)
    names = dict.fromkeys(name for row in rows for name in row)
    for name in names:
        if name in ("step", "seconds", "rate"):
            continue
        axes = top if name == "loss" else below
        points = [(row["step"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    rate = top.twinx()
    rate.plot([row["step"] for row in rows], [row["rate"] for row in rows], ":", color="gray")
    rate.set_ylabel("learning rate (dotted)")
    top.set_ylabel("loss")
    below.set_xlabel("step")
    below.set_ylabel("validation")
    if below.lines:
        below.legend()
    with replacing(path, overwrite=True) as file:
        figure.savefig(file, format="png", dpi=120)


class Bar:
    """Steps done, loss and the time that is left, on a terminal.

    click's bar, which the command line has anyway; without click there is none.
    """

    def __init__(self, wanted: bool, steps: int, done: int) -> None:
        self._bar: Any = None
        if not wanted or not sys.stderr.isatty():
            return
        with suppress(ImportError):
            import click

            self._bar = click.progressbar(
                length=steps,
                label="fit",
                show_pos=True,
                file=sys.stderr,
                item_show_func=lambda text: str(text or ""),
            )
            self._bar.__enter__()
            self._bar.update(done)

    def step(self, text: str) -> None:
        """One more."""
        if self._bar is not None:
            self._bar.update(1, text)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None
